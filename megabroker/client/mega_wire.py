"""The MEGA wire as a client sees it, without I/O.

Owns the byte layout, independent of the broker's own codec. Answers are told apart by correlation id, so any
number of requests may be under way. Memory is one answer: at most ``max_payload_bytes``, held as it comes.

    request   i32 correlation id | u8 type | i32 n | n bytes topic | i64 timestamp | ...
      1 PRODUCE        i32 m | m bytes payload
      2 CONSUME        i32 offset [ i32 0 ]
      3 CREATE_TOPIC              [ i32 0 ]
    success   i32 correlation id | 01 | i64 timestamp | ...
      PRODUCE          i32 offset
      CONSUME          i32 next offset | i32 m | m bytes payload
      CREATE_TOPIC     u16 n | n bytes topic
    error     i32 correlation id | 00 | u8 code

The bracketed zero word is sent in the original dialect, which the original broker and this one take, and left
out in the documented one. The answers are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, ClassVar, Final, NamedTuple

from megabroker.client.conversation import Address, Answer, Message, Request
from megabroker.client.errors import (
    BadResponse,
    BrokerFailed,
    ConnectionLost,
    InvalidOffset,
    InvalidRequest,
    MessageTooLarge,
    Overloaded,
    Refused,
    TopicExists,
    TopicNotFound,
)

__all__ = ["Consume", "CreateTopic", "Created", "MegaConversation", "MegaWire", "Produce", "Stored"]

DIALECTS: Final = ("original", "documented")

_ERRORS: Final[Mapping[int, tuple[str, type[Refused]]]] = {
    1: ("INVALID_REQUEST", InvalidRequest),
    2: ("INVALID_MESSAGE_TYPE", InvalidRequest),
    3: ("MESSAGE_TOO_LARGE", MessageTooLarge),
    4: ("TOPIC_NOT_FOUND", TopicNotFound),
    5: ("TOPIC_ALREADY_EXISTS", TopicExists),
    6: ("INVALID_OFFSET", InvalidOffset),
    7: ("INTERNAL_ERROR", BrokerFailed),
    8: ("NETWORK_ERROR", BrokerFailed),
    9: ("RESOURCE_EXHAUSTED", Overloaded),
}

_HEAD = Struct(">iBi")
_I32 = Struct(">i")
_I64 = Struct(">q")
_ANSWER_HEAD = Struct(">iB")
_PRODUCED = Struct(">qi")
_CONSUMED = Struct(">qii")
_CREATED = Struct(">qH")
_I32_MAX = 2**31 - 1


class Created(NamedTuple):
    """A topic was made; the time is the request's."""

    topic: str
    timestamp_ms: int


class Stored(NamedTuple):
    """A message was stored; the time is the request's."""

    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Produce(Request[Stored]):
    """A message to store; repeated, it is stored twice, for nothing on this wire tells a repeat.

    Args:
        correlation_id: one that no other request under way has; the next free one if None. 32 bits.
    """

    kind: ClassVar[int] = 1
    topic: str
    payload: bytes
    correlation_id: int | None = None


@dataclass(frozen=True, slots=True)
class Consume(Request[Message]):
    """The message at an offset wanted, or the next one where the broker holds none there."""

    kind: ClassVar[int] = 2
    repeatable: ClassVar[bool] = True
    topic: str
    offset: int
    correlation_id: int | None = None


@dataclass(frozen=True, slots=True)
class CreateTopic(Request[Created]):
    """A topic to make; repeated, it may be refused because of itself, and no harm is done."""

    kind: ClassVar[int] = 3
    repeatable: ClassVar[bool] = True
    topic: str
    correlation_id: int | None = None


_MegaRequest = Produce | Consume | CreateTopic


class MegaConversation:
    """One connection; see ``Conversation``."""

    greeting: Sequence[Request[Any]] = ()

    def __init__(self, address: Address, dialect: str, max_payload_bytes: int) -> None:
        self._address = address
        self._trailer = _I32.pack(0) if dialect == "original" else b""
        self._max_payload_bytes = max_payload_bytes
        self._asked: dict[int, _MegaRequest] = {}
        self._next_id = 1
        self._buffer = bytearray()
        self._needed = _ANSWER_HEAD.size  # bytes of the first answer without which looking at it is idle
        self._was_answered = False

    def ask(self, request: Request[Any]) -> tuple[int, bytes]:
        """Number and encode a request, stamped with the present time."""
        if not isinstance(request, _MegaRequest):
            raise TypeError(f"expected a request of MEGA, not {request!r:.60}")
        number = self._free_id() if request.correlation_id is None else request.correlation_id
        if number in self._asked:
            raise ValueError(f"correlation_id: {number} is under way")
        topic = request.topic.encode()
        parts = [
            _HEAD.pack(number, request.kind, len(topic)),
            topic,
            _I64.pack(time.time_ns() // 1_000_000),
        ]
        if isinstance(request, Produce):
            parts += (_I32.pack(len(request.payload)), request.payload)
        elif isinstance(request, Consume):
            parts += (_I32.pack(request.offset), self._trailer)
        else:
            parts.append(self._trailer)
        data = b"".join(parts)
        self._asked[number] = request
        return number, data

    def _free_id(self) -> int:
        while self._next_id in self._asked:
            self._next_id = self._next_id % _I32_MAX + 1
        number = self._next_id
        self._next_id = number % _I32_MAX + 1
        return number

    def receive(self, data: bytes) -> Sequence[Answer]:
        """Take what came; return the answers that are complete."""
        self._buffer += data
        answers: list[Answer] = []
        at = 0
        while len(self._buffer) - at >= self._needed:
            taken = self._parse(at, answers)
            if taken:
                at += taken
                self._needed = _ANSWER_HEAD.size
        del self._buffer[:at]
        return answers

    def peer_closed(self) -> Sequence[Answer]:
        """Nothing ends by a close here."""
        if self._asked:
            raise ConnectionLost(
                f"the broker closed the connection before its answer was complete{self.doubt()}"
            )
        return ()

    def doubt(self) -> str:
        """Ask, while nothing was ever answered, whether this is the right port."""
        return "" if self._was_answered else self._address.doubt("MEGA")

    def _parse(self, at: int, answers: list[Answer]) -> int:
        """Add the answer that begins at a position; return its size, 0 if more is needed."""
        buffer = self._buffer
        number, flag = _ANSWER_HEAD.unpack_from(buffer, at)
        request = self._check(at, number, flag)
        body = at + _ANSWER_HEAD.size
        if not flag:
            if not self._has(at, 6):
                return 0
            code = buffer[body]
            name, kind = _ERRORS.get(code, (f"UNKNOWN_ERROR_{code}", BrokerFailed))
            return self._add(answers, number, kind(name), 6)
        if isinstance(request, Produce):
            if not self._has(at, 17):
                return 0
            timestamp_ms, offset = _PRODUCED.unpack_from(buffer, body)
            return self._add(answers, number, Stored(offset, timestamp_ms), 17)
        if isinstance(request, CreateTopic):
            if not self._has(at, 15):
                return 0
            timestamp_ms, length = _CREATED.unpack_from(buffer, body)
            size = 15 + length
            if not self._has(at, size):
                return 0
            topic = bytes(buffer[at + 15 : at + size]).decode("utf-8", "replace")
            return self._add(answers, number, Created(topic, timestamp_ms), size)
        if not self._has(at, 21):
            return 0
        timestamp_ms, next_offset, length = _CONSUMED.unpack_from(buffer, body)
        self._check_consumed(request, next_offset, length)
        size = 21 + length
        if not self._has(at, size):
            return 0
        with memoryview(buffer) as view:
            payload = bytes(view[at + 21 : at + size])
        return self._add(answers, number, Message(next_offset - 1, payload, timestamp_ms), size)

    def _has(self, at: int, size: int) -> bool:
        self._needed = size
        return len(self._buffer) - at >= size

    def _add(self, answers: list[Answer], number: int, value: object, size: int) -> int:
        del self._asked[number]
        self._was_answered = True
        answers.append(Answer(number, value))
        return size

    def _check(self, at: int, number: int, flag: int) -> _MegaRequest:
        """Return what an answer answers. Raises BadResponse."""
        if not self._was_answered:
            self._address.check_plain(self._buffer)
        if flag not in (0, 1):
            raise BadResponse(f"success flag {flag}: expected 0 or 1{self.doubt()}")
        request = self._asked.get(number)
        if request is None:
            expected = next(iter(self._asked), "no answer")
            raise BadResponse(f"answer to request {number}: expected {expected}{self.doubt()}")
        return request

    def _check_consumed(self, request: Consume, next_offset: int, length: int) -> None:
        if length < 0:
            raise BadResponse(f"payload length {length}: expected 0 or more")
        if length > self._max_payload_bytes:
            raise BadResponse(
                f"payload length {length}: expected {self._max_payload_bytes} at most (max_payload_bytes)"
            )
        if next_offset <= request.offset:
            raise BadResponse(
                f"next offset {next_offset} after offset {request.offset}: expected a later one"
            )


class MegaWire:
    """MEGA, with its settings.

    Args:
        dialect: ``original`` or ``documented``.
        max_payload_bytes: the largest message that is taken from a broker.
    """

    def __init__(self, dialect: str, max_payload_bytes: int) -> None:
        if dialect not in DIALECTS:
            raise ValueError(f"dialect: expected {' or '.join(DIALECTS)}, not {dialect!r:.60}")
        if not 1 <= max_payload_bytes <= _I32_MAX:
            raise ValueError(f"max_payload_bytes: expected 1 to {_I32_MAX}, not {max_payload_bytes}")
        self._dialect = dialect
        self._max_payload_bytes = max_payload_bytes

    def converse(self, address: Address) -> MegaConversation:
        """Return the automaton for a new connection."""
        return MegaConversation(address, self._dialect, self._max_payload_bytes)
