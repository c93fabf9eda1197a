"""The MEGA wire, without I/O: request bytes in, events out; response values in, bytes out.

Owns the byte layout, the two dialects and the telling of one from the other. Never knows a topic, never
raises on input, never holds more than one request: at most 64 KiB of header and ``max_payload_bytes`` of
payload. Every byte is looked at a bounded number of times whatever the split, so that a payload fed
byte by byte costs the same order of work as in one piece.

All integers are big-endian and signed; there is no outer length.

    request   i32 correlation id | u8 type | i32 n | n bytes topic | i64 timestamp | ...
      1 PRODUCE        i32 m | m bytes payload
      2 CONSUME        i32 offset   [ i32 0 ]
      3 CREATE_TOPIC                [ i32 0 ]
    success   i32 correlation id | 01 | i64 timestamp | ...
      PRODUCE          i32 offset
      CONSUME          i32 next offset | i32 m | m bytes payload
      CREATE_TOPIC     u16 n | n bytes topic
    error     i32 correlation id | 00 | u8 code

The bracketed zero word is what divides the dialects: the protocol document has none, the original broker
requires it. In ``Dialect.AUTO`` a request is an event as soon as its documented form is complete, and
what follows settles the matter once for the connection:

    not 00000000                          documented: it is the next correlation id
    00000000 | t | 000000 n, t 1-3, n > 0 documented: a request with correlation id 0
    00000000 | anything else              original: it was the trailing word

One clash is left in the middle line: an original client whose next correlation id is t * 2**24 looks like
a documented request for a topic of 1 to 3 bytes. There one byte more is looked at, which is zero in the
first case and a letter of the topic in the second; neither side stops before sending it.
"""

from __future__ import annotations

import enum
import re
from struct import Struct
from typing import Final, NamedTuple

from megabroker.codec.framing import stranger
from megabroker.model import Buffer

__all__ = [
    "MAX_OFFSET",
    "Consume",
    "CreateTopic",
    "Dialect",
    "Invalid",
    "MegaError",
    "MessageType",
    "Produce",
    "Request",
    "RequestParser",
    "encode_consumed",
    "encode_created",
    "encode_error",
    "encode_produced",
]

MAX_OFFSET: Final = 2**31 - 1
"""The last value an offset field can hold."""

_LONGEST_TOPIC = 0xFFFF  # a longer announcement is no request; up to here the stream stays in step

_HEAD = Struct(">iBi")
_I32 = Struct(">i")
_I64 = Struct(">q")
_TIME_AND_WORD = Struct(">qi")
_PRODUCED = Struct(">iBqi")
_CONSUMED = Struct(">iBqii")
_CREATED = Struct(">iBqH")
_ERROR = Struct(">iBB")

_legal_topic = re.compile(rb"[A-Za-z0-9._-]{1,255}").fullmatch


class MessageType(enum.IntEnum):
    """The request types."""

    PRODUCE = 1
    CONSUME = 2
    CREATE_TOPIC = 3


class MegaError(enum.IntEnum):
    """The error codes of the protocol document."""

    INVALID_REQUEST = 1
    INVALID_MESSAGE_TYPE = 2
    MESSAGE_TOO_LARGE = 3
    TOPIC_NOT_FOUND = 4
    TOPIC_ALREADY_EXISTS = 5
    INVALID_OFFSET = 6
    INTERNAL_ERROR = 7
    NETWORK_ERROR = 8
    RESOURCE_EXHAUSTED = 9


class Dialect(enum.Enum):
    """Whether CONSUME and CREATE_TOPIC end in a zero word."""

    AUTO = "auto"
    DOCUMENTED = "documented"
    ORIGINAL = "original"


class Produce(NamedTuple):
    """A message to store."""

    correlation_id: int
    topic: str
    timestamp_ms: int
    payload: bytes


class Consume(NamedTuple):
    """A message to fetch; ``offset`` may be negative, as the peer sent it."""

    correlation_id: int
    topic: str
    timestamp_ms: int
    offset: int


class CreateTopic(NamedTuple):
    """A topic to create."""

    correlation_id: int
    topic: str
    timestamp_ms: int


class Invalid(NamedTuple):
    """A request to refuse; after a ``fatal`` one the stream is out of step and nothing more is parsed."""

    correlation_id: int
    code: MegaError
    fatal: bool
    detail: str


Request = Produce | Consume | CreateTopic | Invalid


class RequestParser:
    """Turns the bytes of one connection into requests.

    Args:
        max_payload_bytes: a longer payload is discarded as it comes and refused when it has passed.
        dialect: what the peer speaks; ``AUTO`` finds out.

    Attributes:
        dialect: as given, until ``AUTO`` has been settled; then what the peer was found to speak.
        dead: a fatal request was met; all further bytes are ignored.
    """

    __slots__ = (
        "_awaits_trailer",
        "_held",
        "_max_payload_bytes",
        "_missing",
        "_needed",
        "_payload",
        "_pending",
        "_strict_original",
        "_topic",
        "_topic_bytes",
        "dead",
        "dialect",
    )

    def __init__(self, *, max_payload_bytes: int = 1 << 20, dialect: Dialect = Dialect.AUTO) -> None:
        self.dialect = dialect
        self.dead = False
        self._strict_original = dialect is Dialect.ORIGINAL
        self._max_payload_bytes = max_payload_bytes
        self._held = bytearray()  # a header cut off by the end of the last chunk
        self._needed = 0  # bytes from the start of ``_held`` without which there is no getting on
        self._awaits_trailer: int | None = None  # correlation id of the request that a zero word may follow
        self._missing = 0  # payload bytes still to come
        self._payload: bytearray | None = None  # payload so far; None while discarding
        self._pending: Produce | Invalid | None = None  # becomes an event when the payload is complete
        self._topic_bytes = b""
        self._topic = ""

    @property
    def held_bytes(self) -> int:
        """Bytes kept of a request's head that is not complete."""
        return len(self._held)

    @property
    def announced_bytes(self) -> int:
        """Length of the payload that has begun to come and is kept, or 0."""
        return 0 if self._payload is None else len(self._payload) + self._missing

    @property
    def mid_request(self) -> bool:
        """Whether the rest of a request is awaited; a trailing word that may be one is no request."""
        if self._missing:
            return True
        return len(self._held) > (0 if self._awaits_trailer is None else 4)

    def receive(self, data: Buffer) -> list[Request]:
        """Take the next bytes of the stream, split anywhere, and return the requests now complete."""
        events: list[Request] = []
        if self.dead:
            return events
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return events
            data = bytes(self._held)
            self._held.clear()
        elif not isinstance(data, bytes):
            data = bytes(data)
        position = 0
        end = len(data)
        while position < end:
            if self._missing:
                position = self._take_payload(data, position, end, events)
                continue
            start = position
            if self._awaits_trailer is not None:
                position = self._take_trailer(data, position, end, events)
                if position == start and self._awaits_trailer is not None:
                    break
                if self.dead or position == end:
                    break
                start = position
            position = self._take_request(data, position, end, events)
            if self.dead or position == start:
                break
        if not self.dead and position < end:
            self._held += data[position:]
        return events

    def _take_payload(self, data: bytes, position: int, end: int, events: list[Request]) -> int:
        taken = min(self._missing, end - position)
        self._missing -= taken
        payload = self._payload
        if payload is not None:
            payload += memoryview(data)[position : position + taken]
        if not self._missing and self._pending is not None:
            pending, self._pending, self._payload = self._pending, None, None
            if isinstance(pending, Produce) and payload is not None:
                pending = pending._replace(payload=bytes(payload))
            events.append(pending)
        return position + taken

    def _take_trailer(self, data: bytes, position: int, end: int, events: list[Request]) -> int:
        """Swallow the zero word, if it is one; leaves ``_awaits_trailer`` set while it cannot be told."""
        correlation_id = self._awaits_trailer
        assert correlation_id is not None
        available = end - position
        if available < 4:
            self._needed = 4
            return position
        is_zero = data.startswith(b"\0\0\0\0", position)
        if self.dialect is Dialect.AUTO:
            if is_zero:
                if available < 9:
                    self._needed = 9
                    return position
                length = data[position + 8]
                looks_documented = (
                    1 <= data[position + 4] <= 3 and length > 0 and data.startswith(b"\0\0\0", position + 5)
                )
                if looks_documented and length <= 3:
                    if available < 10:
                        self._needed = 10
                        return position
                    looks_documented = data[position + 9] != 0
                self.dialect = Dialect.DOCUMENTED if looks_documented else Dialect.ORIGINAL
            else:
                self.dialect = Dialect.DOCUMENTED
        self._awaits_trailer = None
        if self.dialect is Dialect.DOCUMENTED:
            return position
        if not is_zero:
            self._refuse_and_die(
                correlation_id, MegaError.INVALID_REQUEST, "trailing length not zero", events
            )
            return position
        return position + 4

    def _take_request(self, data: bytes, position: int, end: int, events: list[Request]) -> int:
        """Parse one request; returns ``position`` unchanged, with ``_needed`` set, when it is cut off."""
        available = end - position
        if available < 5:
            self._needed = 5
            return position
        kind = data[position + 4]
        if not 1 <= kind <= 3:
            (correlation_id,) = _I32.unpack_from(data, position)
            hint = stranger(bytes(data[position : position + 3]))
            if kind == 0 and data.startswith(b"\0\0", position):  # a length, then the high byte of an API key
                hint = " (this is how Kafka's requests begin)"
            self._refuse_and_die(
                correlation_id, MegaError.INVALID_MESSAGE_TYPE, f"message type {kind}{hint}", events
            )
            return position
        if available < 9:
            self._needed = 9
            return position
        correlation_id, kind, topic_length = _HEAD.unpack_from(data, position)
        if not 0 <= topic_length <= _LONGEST_TOPIC:
            self._refuse_and_die(
                correlation_id, MegaError.INVALID_REQUEST, f"topic length {topic_length}", events
            )
            return position
        trailer = 4 if self._strict_original and kind != MessageType.PRODUCE else 0
        rest: int = position + 9 + topic_length
        after = rest + (8 if kind == MessageType.CREATE_TOPIC else 12)
        if after + trailer > end:
            self._needed = after + trailer - position
            return position
        topic = self._topic_name(data[position + 9 : rest])
        if kind == MessageType.PRODUCE:
            timestamp_ms, length = _TIME_AND_WORD.unpack_from(data, rest)
            return self._take_produce(
                Produce(correlation_id, topic, timestamp_ms, b""), length, data, after, end, events
            )
        if trailer:
            if not data.startswith(b"\0\0\0\0", after):
                self._refuse_and_die(
                    correlation_id, MegaError.INVALID_REQUEST, "trailing length not zero", events
                )
                return position
        elif self.dialect is not Dialect.DOCUMENTED:
            self._awaits_trailer = correlation_id
        if not topic:
            events.append(_bad_topic(correlation_id))
        elif kind == MessageType.CONSUME:
            timestamp_ms, offset = _TIME_AND_WORD.unpack_from(data, rest)
            events.append(Consume(correlation_id, topic, timestamp_ms, offset))
        else:
            events.append(CreateTopic(correlation_id, topic, _I64.unpack_from(data, rest)[0]))
        return after + trailer

    def _take_produce(
        self, request: Produce, length: int, data: bytes, position: int, end: int, events: list[Request]
    ) -> int:
        if length < 0:
            # No payload can follow a negative length, so the next request begins here.
            events.append(
                Invalid(request.correlation_id, MegaError.INVALID_REQUEST, False, f"payload length {length}")
            )
            return position
        refused: Invalid | None = None
        if not request.topic:
            refused = _bad_topic(request.correlation_id)
        elif length > self._max_payload_bytes:
            refused = Invalid(
                request.correlation_id,
                MegaError.MESSAGE_TOO_LARGE,
                False,
                f"payload of {length} bytes, limit {self._max_payload_bytes}",
            )
        if position + length <= end:
            events.append(refused or request._replace(payload=data[position : position + length]))
            return position + length
        self._pending = refused or request
        self._missing = length - (end - position)
        self._payload = None if refused else bytearray(memoryview(data)[position:end])
        return end

    def _topic_name(self, raw: bytes) -> str:
        """Return the topic, or the empty string when it is not a legal name."""
        if raw == self._topic_bytes:
            return self._topic
        if _legal_topic(raw) is None:
            return ""
        self._topic_bytes = raw
        self._topic = raw.decode("ascii")
        return self._topic

    def _refuse_and_die(
        self, correlation_id: int, code: MegaError, detail: str, events: list[Request]
    ) -> None:
        self.dead = True
        self._held.clear()
        events.append(Invalid(correlation_id, code, True, detail))


def _bad_topic(correlation_id: int) -> Invalid:
    return Invalid(
        correlation_id, MegaError.INVALID_REQUEST, False, "topic is not 1-255 bytes of [A-Za-z0-9._-]"
    )


def encode_produced(correlation_id: int, timestamp_ms: int, offset: int) -> bytes:
    """Encode the answer to PRODUCE; ``offset`` is at most ``MAX_OFFSET``."""
    return _PRODUCED.pack(correlation_id, 1, timestamp_ms, offset)


def encode_consumed(correlation_id: int, timestamp_ms: int, next_offset: int, payload: Buffer) -> bytes:
    """Encode the answer to CONSUME; ``next_offset`` is at most ``MAX_OFFSET``."""
    head = _CONSUMED.pack(correlation_id, 1, timestamp_ms, next_offset, len(payload))
    return b"".join((head, payload))


def encode_created(correlation_id: int, timestamp_ms: int, topic: str) -> bytes:
    """Encode the answer to CREATE_TOPIC."""
    name = topic.encode()
    return _CREATED.pack(correlation_id, 1, timestamp_ms, len(name)) + name


def encode_error(correlation_id: int, code: MegaError) -> bytes:
    """Encode a refusal."""
    return _ERROR.pack(correlation_id, 0, code)
