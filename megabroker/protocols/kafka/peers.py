"""The other processes of this broker, asked over connections of their own; see ``IPeers``.

Owns when to connect and which connection a request takes. Answers on one connection come in the order of the
requests, and some are long in coming; so a connection has one request at a time, the next request takes
another one, and beyond ``_MAX_LINKS`` they wait; what clients want done does not hold up what processes
themselves need of each other. Whoever needs requests in order has a ``Lane``.

A peer that cannot be reached is asked again, at most every half second, as long as somebody waits for it; a
worker that is started anew is back in less than a second, and what was asked meanwhile is sent then.

Invariant: every request is told its outcome within its time, and whether it may have been carried out.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from megabroker.errors import ErrorCode, PeerError, ProtocolError, StateError
from megabroker.interfaces import IPeers
from megabroker.model import Buffer
from megabroker.protocols.kafka.peer_lane import Lane
from megabroker.protocols.kafka.peer_link import Connect, Connecting, PeerLink, stopped
from megabroker.protocols.kafka.schema import run_errand
from megabroker.protocols.kafka.schema.compiler import skip_tags
from megabroker.protocols.kafka.schema.registry import (
    APIS,
    INTERNAL_APIS,
    request_header_version,
    response_header_version,
)
from megabroker.protocols.kafka.schema.told_error import error_of

__all__ = ["Peers", "decode_answer", "encode_request"]

_CORRELATION_BYTES: Final = 4
_HEAD = struct.Struct(">hhih")
_NO_CLIENT_ID: Final = -1
_MAX_LINKS: Final = 32
_MAX_WAITING: Final = 4096
_MAX_REPEATS: Final = 5
_RUN_ERRAND: Final = 1018
_ERRAND_SECONDS: Final = 60.0


def encode_request(key: int, version: int, request: Any) -> list[Buffer]:
    """Return header and body of a request, without its size and with 0 for the correlation id."""
    header = _HEAD.pack(key, version, 0, _NO_CLIENT_ID)
    if request_header_version(key, version) == 2:
        header += b"\0"
    parts: list[Buffer] = request.encode_parts(version)
    parts[0] = header + bytes(parts[0])
    return parts


def decode_answer(key: int, version: int, frame: memoryview) -> Any:
    """Return the response message in a whole answer. Raises ProtocolError."""
    pos, end = _CORRELATION_BYTES, len(frame)
    if response_header_version(key, version):
        pos = skip_tags(frame, pos, end)
    api = APIS.get(key) or INTERNAL_APIS[key]
    return api.response.decoder(version)(frame, pos, end)[0]


class _Asked:
    """A request until its outcome is told.

    Attributes:
        link: where it was sent, None while it waits.
        done: fires with the whole answer.
        repeats: how often it may be sent again.
        was_sent: whether it has been.
    """

    __slots__ = ("done", "link", "parts", "repeats", "timer", "was_sent")

    def __init__(self, parts: Sequence[Buffer], done: Deferred[memoryview], *, repeat: bool) -> None:
        self.parts = parts
        self.done = done
        self.repeats = _MAX_REPEATS if repeat else 0
        self.was_sent = False
        self.link: PeerLink | None = None
        self.timer: IDelayedCall | None = None


class _Peer:
    """One peer: the connections to it and the requests that wait for one."""

    def __init__(self, peers: Peers, node_id: int) -> None:
        self._peers = peers
        self._node_id = node_id
        self._queue: deque[_Asked] = deque()
        self._idle: list[PeerLink] = []
        self._links: set[PeerLink] = set()
        self._connecting = Connecting(peers, node_id, lambda: bool(self._queue), self._made, self._gone)

    def ask(self, parts: Sequence[Buffer], timeout_seconds: float, *, repeat: bool) -> Deferred[memoryview]:
        """Have a request sent; see ``IPeers``."""
        if len(self._queue) >= _MAX_WAITING:
            raise StateError(
                ErrorCode.OVERLOADED,
                f"{_MAX_WAITING} requests wait for worker {self._node_id}",
                retriable=True,
            )
        asked: _Asked
        asked = _Asked(parts, Deferred(lambda _: self._give_up(asked)), repeat=repeat)
        asked.timer = self._peers.clock.callLater(timeout_seconds, self._time_is_up, asked)
        self._queue.append(asked)
        self._pump()
        return asked.done

    def stop(self) -> None:
        """End everything; whoever waits is told."""
        self._connecting.stop()
        queue, self._queue = self._queue, deque()
        for asked in queue:
            self._settle(asked, None, stopped())
        for link in list(self._links):
            link.abort(stopped())

    def _pump(self) -> None:
        while self._queue and self._idle:
            link = self._idle.pop()
            if not link.closed:
                self._send(link, self._queue.popleft())
        if self._queue and len(self._links) < _MAX_LINKS:
            self._connecting.begin()

    def _send(self, link: PeerLink, asked: _Asked) -> None:
        asked.link = link
        asked.was_sent = True
        link.send(asked.parts, partial(self._answered, link, asked))

    def _made(self, link: PeerLink) -> None:
        self._links.add(link)
        self._idle.append(link)
        self._pump()

    def _gone(self, link: PeerLink) -> None:
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)
        if not self._peers.stopped:
            self._pump()

    def _answered(
        self,
        link: PeerLink,
        asked: _Asked,
        frame: memoryview | None,
        error: PeerError | ProtocolError | None,
    ) -> None:
        asked.link = None
        if frame is not None:
            self._idle.append(link)
        elif asked.repeats and not self._peers.stopped and isinstance(error, PeerError) and _is_open(asked):
            asked.repeats -= 1
            self._queue.appendleft(asked)
            return
        self._settle(asked, frame, error)
        self._pump()

    def _settle(
        self, asked: _Asked, frame: memoryview | None, error: PeerError | ProtocolError | None
    ) -> None:
        if asked.timer is not None and asked.timer.active():
            asked.timer.cancel()
        if not asked.done.called:
            if error is None:
                assert frame is not None
                asked.done.callback(frame)
            else:
                asked.done.errback(error)

    def _time_is_up(self, asked: _Asked) -> None:
        where = f"worker {self._node_id} did not answer in time"
        if asked.link is not None:
            asked.link.abort(PeerError(ErrorCode.TIMED_OUT, where, sent=True))
        else:
            self._queue.remove(asked)
            self._settle(asked, None, PeerError(ErrorCode.UNREACHABLE, where, sent=asked.was_sent))

    def _give_up(self, asked: _Asked) -> None:
        if asked.timer is not None and asked.timer.active():
            asked.timer.cancel()
        if asked.link is not None:
            asked.repeats = 0
            asked.link.abort(PeerError(ErrorCode.UNREACHABLE, "nobody waits any more", sent=True))
        elif asked in self._queue:
            self._queue.remove(asked)


@implementer(IPeers)
class Peers:
    """All peers of this process.

    Args:
        clock: the reactor.
        connect: where a peer is, by its node id.
        max_answer_bytes: longest answer accepted.

    Attributes:
        stopped: whether nothing is asked any more.
    """

    def __init__(self, clock: IReactorTime, connect: Connect, max_answer_bytes: int) -> None:
        self.clock = clock
        self.connect = connect
        self.max_answer_bytes = max_answer_bytes
        self.stopped = False
        self._peers: dict[tuple[int, bool], _Peer] = {}  # by node id and whether for clients
        self._lanes: dict[int, Lane] = {}

    def ask(
        self,
        node_id: int,
        key: int,
        version: int,
        request: Any,
        *,
        timeout_seconds: float = 30.0,
        repeat: bool = False,
        for_client: bool = False,
    ) -> Deferred[Any]:
        """See ``IPeers.ask``."""
        parts = encode_request(key, version, request)
        asked = self._ask((node_id, for_client), parts, timeout_seconds, repeat=repeat)
        return asked.addCallback(partial(decode_answer, key, version))

    def errand(self, node_id: int, wire: str, errand: bytes) -> Deferred[bytes]:
        """See ``IPeers.errand``."""
        request = run_errand.Request(wire=wire, errand=errand)
        asked = self.ask(node_id, _RUN_ERRAND, 0, request, timeout_seconds=_ERRAND_SECONDS, for_client=True)
        return asked.addCallback(_outcome)

    def _ask(
        self, whom: tuple[int, bool], parts: Sequence[Buffer], timeout_seconds: float, *, repeat: bool
    ) -> Deferred[memoryview]:
        if self.stopped:
            return _failed(stopped())
        peer = self._peers.get(whom)
        if peer is None:
            peer = self._peers[whom] = _Peer(self, whom[0])
        try:
            return peer.ask(parts, timeout_seconds, repeat=repeat)
        except StateError as error:
            return _failed(error)

    def lane(self, node_id: int) -> Lane:
        """Return the connection to a peer for requests in order; always the same one."""
        lane = self._lanes.get(node_id)
        if lane is None:
            lane = self._lanes[node_id] = Lane(self, node_id)
        return lane

    def stop(self) -> None:
        """Ask nothing any more; whoever waits is told."""
        self.stopped = True
        for peer in self._peers.values():
            peer.stop()
        for lane in self._lanes.values():
            lane.stop()


def _is_open(asked: _Asked) -> bool:
    return not asked.done.called and asked.timer is not None and asked.timer.active()


def _failed(error: Exception) -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(error)
    return failed


def _outcome(response: run_errand.Response) -> bytes:
    error = error_of(response.error)
    if error is not None:
        raise error
    return bytes(response.outcome)
