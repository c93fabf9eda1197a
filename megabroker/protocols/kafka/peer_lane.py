"""Requests to one peer that must not overtake each other.

Owns their order and the bound on how much of them is under way. A connection that is lost fails what was sent
over it; what is asked afterwards, or waited for a connection, goes on over the next one.

Invariant: whoever sent a request is told its outcome once, within its time, in the order of sending and
never from within ``send``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall

from megabroker.errors import ErrorCode, PeerError, ProtocolError
from megabroker.model import Buffer
from megabroker.net.output import part_length
from megabroker.protocols.kafka.peer_link import Answered, Asking, Connecting, PeerLink, stopped

__all__ = ["Lane"]

_LANE_BYTES: Final = 16 << 20
_LANE_REQUESTS: Final = 1024


class Lane:
    """One connection to a peer for requests that must not overtake each other; many may be under way.

    Satisfies ``megabroker.net.connection.Room``.
    """

    def __init__(self, peers: Asking, node_id: int) -> None:
        self._peers = peers
        self._node_id = node_id
        self._link: PeerLink | None = None
        self._queue: deque[tuple[Sequence[Buffer], Answered]] = deque()
        self._times: deque[tuple[float, int]] = deque()  # when each must be answered, and its bytes
        self._bytes = 0
        self._rooms: deque[Callable[[], None]] = deque()
        self._waking = False
        self._timer: IDelayedCall | None = None
        self._connecting = Connecting(peers, node_id, lambda: bool(self._queue), self._made, self._gone)

    @property
    def has_room(self) -> bool:
        """Whether another request may be sent now."""
        return not (self._rooms and not self._waking) and self._is_low

    @property
    def _is_low(self) -> bool:
        return self._bytes < _LANE_BYTES and len(self._times) < _LANE_REQUESTS

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when there is room; whoever was called and asks again keeps the head of the line."""
        if self._waking:
            self._rooms.appendleft(callback)
        else:
            self._rooms.append(callback)

    def send(self, parts: Sequence[Buffer], timeout_seconds: float, answered: Answered) -> None:
        """Send a request after all those before it; ``answered`` is called once, in their order."""
        size = sum(map(part_length, parts))
        self._bytes += size
        self._times.append((self._peers.clock.seconds() + timeout_seconds, size))
        told = partial(self._answered, answered)
        if self._peers.stopped:
            self._peers.clock.callLater(0, told, None, stopped())
        elif self._link is not None and not self._link.closed and not self._queue:
            self._link.send(parts, told)
        else:
            self._queue.append((parts, told))
            self._connecting.begin()
        if self._timer is None:
            self._timer = self._peers.clock.callLater(timeout_seconds, self._look)

    def stop(self) -> None:
        """End everything; whoever waits is told."""
        self._connecting.stop()
        if self._link is not None:
            self._link.abort(stopped())
        self._fail_queue(stopped())

    def _answered(
        self, answered: Answered, frame: memoryview | None, error: PeerError | ProtocolError | None
    ) -> None:
        self._bytes -= self._times.popleft()[1]
        if not self._times and self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        try:
            answered(frame, error)
        finally:
            self._wake()

    def _wake(self) -> None:
        if self._waking:
            return
        self._waking = True
        try:
            while self._rooms and self._is_low:
                count = len(self._rooms)
                self._rooms.popleft()()
                if len(self._rooms) >= count:
                    break
        finally:
            self._waking = False

    def _made(self, link: PeerLink) -> None:
        self._link = link
        while self._queue:
            link.send(*self._queue.popleft())

    def _gone(self, link: PeerLink) -> None:
        if self._link is link:
            self._link = None

    def _look(self) -> None:
        """Whoever is first must be answered first: if its time is up, nothing behind it is answered."""
        self._timer = None
        if not self._times:
            return
        left = self._times[0][0] - self._peers.clock.seconds()
        if left > 0:
            self._timer = self._peers.clock.callLater(left, self._look)
            return
        where = f"worker {self._node_id} did not answer in time"
        if self._link is not None and not self._link.closed:
            self._link.abort(PeerError(ErrorCode.TIMED_OUT, where, sent=True))
        self._fail_queue(PeerError(ErrorCode.UNREACHABLE, where, sent=False))

    def _fail_queue(self, error: PeerError) -> None:
        queue, self._queue = self._queue, deque()
        for _, told in queue:
            self._peers.clock.callLater(0, told, None, error)
