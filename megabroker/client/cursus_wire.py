"""The cursus wire as a client sees it, without I/O: frames, their compression, which reply is whose.

Owns the frames; what is in them is each request's own business, so that another dialect is other requests
and nothing here. Replies come in the order of the requests. Memory is one frame: at most
``max_frame_bytes``, held as it comes.

    request   u32 N | body       body: u16 0 | text of a command; compressed as a whole if wanted
    response  u32 N | text       never compressed

A stream is any number of response frames. What ends it is the close of the connection, or, where the broker
keeps it open (``consume_keep_open``), the reply to a command that does not exist and that nobody else knows,
sent behind it.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from struct import Struct
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from megabroker.client.compressing import COMPRESSIONS, compress
from megabroker.client.conversation import Address, Answer, Request
from megabroker.client.errors import BadResponse, ConnectionLost, Refused

__all__ = ["Command", "CursusConversation", "CursusWire", "StreamCommand"]

T = TypeVar("T", covariant=True)

_U32 = Struct(">I")
_NO_TOPIC: Final = bytes(2)


class Command(Request[T], Generic[T]):
    """A request of cursus, answered with one frame."""

    __slots__ = ()

    def text(self) -> bytes:
        """Return the command. Raises ValueError: it cannot be said."""
        raise NotImplementedError

    def read(self, frame: bytes) -> T | Refused:
        """Return what a reply says. Raises BadResponse: it is none to this command."""
        raise NotImplementedError


class StreamCommand(Command[T], Generic[T]):
    """A request of cursus that is answered with frames until the stream ends."""

    __slots__ = ()
    streams: ClassVar[bool] = True
    ends: ClassVar[bool] = True
    """Whether it ends of itself; else it is lost when the connection ends."""

    def refusal(self, frame: bytes, is_first: bool) -> Refused | None:
        """Return the refusal that a frame is if the stream ends with it, or None: it is a message."""
        raise NotImplementedError

    def opening(self, frame: bytes) -> bool:
        """Say whether the first frame is a reply rather than a message. Raises BadResponse."""
        return False


class _Stream(NamedTuple):
    """A stream under way, and how its end is known; no ending for one that ends with a close."""

    command: StreamCommand[Any]
    ending: bytes | None


class CursusConversation:
    """One connection; see ``Conversation``."""

    def __init__(self, address: Address, wire: CursusWire, greeting: Sequence[Request[Any]] = ()) -> None:
        self.greeting = greeting
        self._address = address
        self._wire = wire
        self._asked: deque[tuple[int, Command[Any] | _Stream]] = deque()
        self._asked_count = 0
        self._buffer = bytearray()
        self._was_answered = False
        self._frames = 0  # of the stream under way
        self._held: bytes | None = None  # its latest frame, if the stream may end with it and be refused

    def ask(self, request: Request[Any]) -> tuple[int, bytes]:
        """Number and encode a request."""
        if not isinstance(request, Command):
            raise TypeError(f"expected a request of cursus, not {request!r:.60}")
        data = self._wire.frame(request.text())
        self._asked_count += 1
        entry: Command[Any] | _Stream = request
        if isinstance(request, StreamCommand):
            ending = None
            if self._wire.keeps_open and request.ends:
                word = f"END-{secrets.token_hex(16)}"
                ending = f"ERROR: unknown command: {word}".encode()
                data += self._wire.frame(word.encode())
            entry = _Stream(request, ending)
        self._asked.append((self._asked_count, entry))
        return self._asked_count, data

    def receive(self, data: bytes) -> Sequence[Answer]:
        """Take what came; return what that completed."""
        buffer = self._buffer
        buffer += data
        answers: list[Answer] = []
        at = 0
        while len(buffer) - at >= _U32.size:
            (size,) = _U32.unpack_from(buffer, at)
            if size > self._wire.max_frame_bytes:
                raise self._too_long(size)
            end = at + _U32.size + size
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                frame = bytes(view[at + _U32.size : end])
            at = end
            self._take(frame, answers)
        del buffer[:at]
        return answers

    def peer_closed(self) -> Sequence[Answer]:
        """The end of a stream, if that is all there is left."""
        if not self._asked:
            return ()
        number, entry = self._asked[0]
        if (
            not isinstance(entry, _Stream)
            or entry.ending is not None
            or not entry.command.ends
            or self._buffer
            or len(self._asked) > 1
        ):
            raise ConnectionLost(
                f"the broker closed the connection before its answer was complete{self.doubt()}"
            )
        self._asked.clear()
        return (Answer(number, self._refusal(entry.command)),)

    def doubt(self) -> str:
        """Ask, while nothing was ever answered, whether this is the right port."""
        return "" if self._was_answered else self._address.doubt("cursus")

    def _too_long(self, size: int) -> BadResponse:
        if not self._was_answered:
            self._address.check_plain(self._buffer)
        return BadResponse(
            f"frame of {size} bytes: expected {self._wire.max_frame_bytes} at most{self.doubt()}"
        )

    def _take(self, frame: bytes, answers: list[Answer]) -> None:
        if not self._asked:
            raise BadResponse(f"a frame that nobody asked for: {frame[:60]!r}{self.doubt()}")
        number, entry = self._asked[0]
        if isinstance(entry, _Stream):
            self._take_streamed(number, entry, frame, answers)
        else:
            answers.append(Answer(number, entry.read(frame)))
            self._asked.popleft()
        self._was_answered = True

    def _take_streamed(self, number: int, stream: _Stream, frame: bytes, answers: list[Answer]) -> None:
        command = stream.command
        if frame == stream.ending:
            self._end(Answer(number, self._refusal(command)), answers)
            return
        if self._held is not None:  # another frame has come behind it, so it was a message
            answers.append(Answer(number, command.read(self._held), False))
            self._held = None
        is_first = self._frames == 0
        self._frames += 1
        refusal = command.refusal(frame, is_first)
        if is_first and command.opening(frame):
            if refusal is not None:
                self._end(Answer(number, refusal), answers)
            else:
                answers.append(Answer(number, None, False))
        elif refusal is not None:
            self._held = frame
        else:
            answers.append(Answer(number, command.read(frame), False))

    def _refusal(self, command: StreamCommand[Any]) -> Refused | None:
        return None if self._held is None else command.refusal(self._held, self._frames == 1)

    def _end(self, answer: Answer, answers: list[Answer]) -> None:
        answers.append(answer)
        self._asked.popleft()
        self._frames = 0
        self._held = None


class CursusWire:
    """cursus, with its settings.

    Args:
        compression: how the broker wants requests: ``none``, ``gzip``, ``snappy`` or ``lz4``.
        max_frame_bytes: the largest frame that is taken from a broker.
        keeps_open: whether the broker keeps connections open after a CONSUME.
        greeting: what is asked first on each connection.
    """

    def __init__(
        self,
        *,
        compression: str,
        max_frame_bytes: int,
        keeps_open: bool,
        greeting: Sequence[Command[Any]],
    ) -> None:
        if compression not in COMPRESSIONS:
            raise ValueError(f"compression: expected {', '.join(COMPRESSIONS)}, not {compression!r:.60}")
        if not 64 <= max_frame_bytes < 1 << 32:
            raise ValueError(f"max_frame_bytes: expected 64 to 4294967295, not {max_frame_bytes}")
        self.max_frame_bytes = max_frame_bytes
        self.keeps_open = keeps_open
        self._compression = compression
        self._greeting = tuple(greeting)

    def converse(self, address: Address) -> CursusConversation:
        """Return the automaton for a new connection."""
        return CursusConversation(address, self, self._greeting)

    def frame(self, text: bytes) -> bytes:
        """Return a command as it is sent."""
        body = compress(self._compression, _NO_TOPIC + text)
        if len(body) >= 1 << 32:
            raise ValueError(f"a command of {len(body)} bytes: expected less than 4 GiB")
        return _U32.pack(len(body)) + body
