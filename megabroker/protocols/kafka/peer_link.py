"""One connection to another process of this broker: requests out, their answers back, in order.

Owns the matching of answers to requests, what becomes of them when the connection ends, and the making of
connections, ever more slowly while a peer cannot be reached. Knows nothing of who asks (``peers``).

Invariant: for every request sent, ``answered`` is called exactly once, never from within ``send``: with the
answer, or with the error that says it may have been carried out all the same.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.codec.framing import FrameReader
from megabroker.errors import ErrorCode, PeerError, ProtocolError
from megabroker.model import Buffer
from megabroker.net.output import part_length

__all__ = ["Answered", "Asking", "Connect", "Connecting", "PeerLink", "stopped"]

_log = Logger()

_SIZE = struct.Struct(">i")
_CORRELATION = struct.Struct(">i")
_CORRELATION_PLACE: Final = 4
_HEAD_BYTES: Final = 8
_FIRST_RETRY_SECONDS: Final = 0.02
_LAST_RETRY_SECONDS: Final = 0.5

Connect = Callable[[int], IStreamClientEndpoint]
"""Where a peer is, by its node id."""

Answered = Callable[[memoryview | None, PeerError | ProtocolError | None], None]
"""Takes the whole answer, its size left out and valid for ever, or why there is none."""


class Asking(Shape):
    """What the connections of one process share."""

    clock: IReactorTime
    connect: Connect
    max_answer_bytes: int
    stopped: bool


def stopped() -> PeerError:
    """Return what those who wait are told when this process stops."""
    return PeerError(ErrorCode.UNREACHABLE, "this process is stopping", sent=False)


class PeerLink(Protocol):
    """A connection that asks.

    Args:
        name: whom it leads to, for messages.
        max_bytes: longest answer accepted.
        ended: called once when the connection is gone, after all who waited.
    """

    def __init__(self, name: str, max_bytes: int, ended: Callable[[PeerLink], None]) -> None:
        self._name = name
        self._reader = FrameReader(max_bytes, min_bytes=_CORRELATION.size)
        self._ended = ended
        self._asked: deque[tuple[int, Answered]] = deque()
        self._correlation_id = 0
        self._why: PeerError | ProtocolError | None = None
        self.closed = False

    def send(self, parts: Sequence[Buffer], answered: Answered) -> None:
        """Send a request, its size left out: header and body; the first part holds at least eight bytes.

        Its correlation id is replaced by one of this connection.
        """
        assert self.transport is not None
        head = parts[0]
        number = self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        self._asked.append((number, answered))
        self.transport.writeSequence(
            [
                _SIZE.pack(sum(map(part_length, parts))),
                bytes(head[:_CORRELATION_PLACE]),
                _CORRELATION.pack(number),
                bytes(head[_HEAD_BYTES:]),
                *map(bytes, parts[1:]),
            ]
        )

    def abort(self, error: PeerError) -> None:
        """Give the connection up; whoever waits is told ``error``."""
        if not self.closed:
            self._why = self._why or error
            assert self.transport is not None
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        """IProtocol: hand on the answers that are whole."""
        self._reader.feed(data)
        try:
            while (frame := self._reader.next()) is not None:
                self._take(frame if self._reader.owned else memoryview(bytearray(frame)))
        except ProtocolError as error:
            self._why = error
            assert self.transport is not None
            self.transport.abortConnection()  # type: ignore[attr-defined]
            return
        self._reader.release()

    def _take(self, frame: memoryview) -> None:
        (number,) = _CORRELATION.unpack_from(frame)
        if not self._asked or self._asked[0][0] != number:
            raise ProtocolError(f"{self._name} answered {number}, which was not asked")
        self._tell(self._asked.popleft()[1], frame, None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """IProtocol: tell everybody who waits."""
        self.closed = True
        error = self._why or PeerError(
            ErrorCode.UNREACHABLE, f"{self._name} ended the connection before it answered", sent=True
        )
        while self._asked:
            self._tell(self._asked.popleft()[1], None, error)
        self._ended(self)

    def _tell(
        self, answered: Answered, frame: memoryview | None, error: PeerError | ProtocolError | None
    ) -> None:
        try:
            answered(frame, error)
        except Exception:  # noqa: BLE001 - one asker's fault must not starve the others
            _log.failure("answer-failed", peer=self._name)


class Connecting:
    """Makes connections to one peer, ever more slowly while it cannot be reached.

    Args:
        wanted: whether a connection is still needed after one could not be made.
        made: called with every connection.
        gone: called with every connection that has ended.
    """

    def __init__(
        self,
        peers: Asking,
        node_id: int,
        wanted: Callable[[], bool],
        made: Callable[[PeerLink], None],
        gone: Callable[[PeerLink], None],
    ) -> None:
        self._peers = peers
        self._node_id = node_id
        self._wanted = wanted
        self._made = made
        self._gone = gone
        self._delay_seconds = _FIRST_RETRY_SECONDS
        self._retry: IDelayedCall | None = None
        self._attempt: Deferred[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a connection is being made, or will be after a pause."""
        return self._attempt is not None or self._retry is not None

    def begin(self) -> None:
        """Make a connection, unless one is being made."""
        if self.busy or self._peers.stopped:
            return
        peers = self._peers
        factory = Factory.forProtocol(
            partial(PeerLink, f"worker {self._node_id}", peers.max_answer_bytes, self._gone)
        )
        factory.noisy = False
        self._attempt = attempt = peers.connect(self._node_id).connect(factory)
        attempt.addCallbacks(self._connected, self._failed)

    def stop(self) -> None:
        """Make none any more."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._attempt is not None:
            self._attempt.cancel()

    def _connected(self, link: PeerLink) -> None:
        self._attempt = None
        self._delay_seconds = _FIRST_RETRY_SECONDS
        if self._peers.stopped:
            link.abort(stopped())
        else:
            self._made(link)

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self._peers.stopped or not self._wanted():
            return
        if self._delay_seconds == _FIRST_RETRY_SECONDS:
            _log.warn(
                "worker {node_id} cannot be reached: {error}",
                node_id=self._node_id,
                error=failure.getErrorMessage(),
            )
        self._retry = self._peers.clock.callLater(self._delay_seconds, self._again)
        self._delay_seconds = min(2 * self._delay_seconds, _LAST_RETRY_SECONDS)

    def _again(self) -> None:
        self._retry = None
        if self._wanted():
            self.begin()
