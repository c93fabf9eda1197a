"""What a connection sends: bytes and file ranges, in order, without copying what lies in a file.

An *output* takes ``send(parts)`` and has ``pending_bytes``, of which ``held_bytes`` are in memory, and
``moved_bytes``, what has gone of all that had to wait; whoever owns it is called back on ``drained`` when it
falls empty after having held something back. Two kinds:

- ``megabroker.net.transport.DirectServer`` is a transport and an output in one: it sends at once when
  nothing is queued, and file ranges by sendfile.
- ``StockOutput`` here works on any Twisted transport (TLS, Unix sockets, a test's string transport): a
  push producer that hands on in slices while the transport has room, so that memory per connection stays
  at one slice above the transport's own buffer, of which 64 KiB are full when it asks for a pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IPushProducer, ITransport
from zope.interface import implementer

from megabroker.model import Buffer, FileRange

__all__ = ["Part", "StockOutput", "part_length", "total_length"]

Part = Buffer | FileRange

_SLICE_BYTES = 256 * 1024
_PAUSED_BYTES = 64 * 1024 + _SLICE_BYTES


def part_length(part: Part) -> int:
    """Return the number of bytes a part stands for."""
    return part.length if isinstance(part, FileRange) else len(part)


def total_length(parts: Iterable[Part]) -> int:
    """Return the number of bytes parts stand for together."""
    total = 0
    for part in parts:
        total += part.length if isinstance(part, FileRange) else len(part)
    return total


@implementer(IPushProducer)
class StockOutput:
    """An output over any Twisted transport.

    Args:
        transport: where to write; this registers itself as its streaming producer.
        drained: called when everything given to ``send`` has been handed to the transport again.
        failed: called with the reason when a file range cannot be read; the stream is then of no use.
    """

    def __init__(
        self, transport: ITransport, drained: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        self._transport = transport
        self._drained = drained
        self._failed = failed
        self._parts: deque[Part] = deque()
        self._paused = False
        self._closing = False
        self._closed = False
        self._is_cold = False  # what is to be sent next is being read
        self.pending_bytes = 0
        self.moved_bytes = 0
        self._memory_bytes = 0
        transport.registerProducer(self, True)  # type: ignore[attr-defined]

    @property
    def held_bytes(self) -> int:
        """What waits in memory, here and, at most, in the transport."""
        return self._memory_bytes + (_PAUSED_BYTES if self._paused else 0)

    def send(self, parts: Iterable[Part]) -> None:
        """Queue parts and hand on as much as the transport takes."""
        for part in parts:
            length = part_length(part)
            self._parts.append(part)
            self.pending_bytes += length
            if not isinstance(part, FileRange):
                self._memory_bytes += length
        self._push()

    def close(self) -> None:
        """Close the connection once everything queued is sent; again has no effect.

        What the peer sends from then on may still reach the protocol, which has to do without.
        """
        self._closing = True
        self._push()

    def _push(self) -> None:
        parts = self._parts
        while parts and not (self._paused or self._is_cold):
            part = parts.popleft()
            if isinstance(part, FileRange):
                count = min(part.length, _SLICE_BYTES)
                cold = part.file.cold(part.position, count)
                if cold is not None:
                    parts.appendleft(part)
                    self._is_cold = True
                    cold.when_room(self._warmed)
                    return
                try:
                    data = part.file.read(part.position, count)
                except OSError as error:
                    self._failed(f"cannot read the log: {error}")
                    return
                if not data:
                    self._failed("the log file is shorter than its index says")
                    return
                if len(data) < part.length:
                    parts.appendleft(FileRange(part.file, part.position + len(data), part.length - len(data)))
            else:
                data = bytes(part[:_SLICE_BYTES])
                if len(data) < len(part):
                    parts.appendleft(memoryview(part)[len(data) :])
                self._memory_bytes -= len(data)
            self.pending_bytes -= len(data)
            self.moved_bytes += len(data)
            self._transport.write(data)
        if self._closing and not (parts or self._closed):
            self._closed = True
            self._transport.unregisterProducer()  # type: ignore[attr-defined]
            # TLS ends when the peer has said that it does too, and that has to be read.
            self._transport.resumeProducing()  # type: ignore[attr-defined]
            self._transport.loseConnection()

    def _warmed(self) -> None:
        self._is_cold = False
        had = bool(self._parts)
        self._push()
        if had and not (self._parts or self._paused or self._closing):
            self._drained()

    def pauseProducing(self) -> None:
        """IPushProducer: the transport's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """IPushProducer: the transport's buffer is empty again."""
        self._paused = False
        self._push()
        if not self._parts and not self._closing:
            self._drained()

    def stopProducing(self) -> None:
        """IPushProducer: the connection is gone."""
        self._parts.clear()
        self.pending_bytes = self._memory_bytes = 0
        self._paused = True
