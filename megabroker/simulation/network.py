"""A network: connections whose bytes take time, come in pieces, stall, or are lost with the connection.

Owns the bytes under way. Each direction of a connection keeps its order; nothing is promised between
connections. A *link* that is reset loses what is under way in it, wherever a frame is cut by that. The
broker's end is a Twisted transport, so that what runs on it is what runs on a real one.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IListeningPort, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.simulation.clock import Reactor, Timeline

__all__ = ["Link", "Network", "Peer"]

_HIGH_WATER_BYTES: Final = 64 * 1024
_DONE: Final = Failure(ConnectionDone())  # type: ignore[no-untyped-call]
_LOST: Final = Failure(ConnectionLost())  # type: ignore[no-untyped-call]


class Peer(Protocol):
    """The client's end of a link."""

    def received(self, data: bytes) -> None:
        """Bytes have come."""

    def lost(self) -> None:
        """The connection is gone."""


class Pace:
    """How a direction carries bytes.

    Attributes:
        seconds: the least time under way; as much again at most is left to chance.
        piece_bytes: how many bytes come at once at most.
        ragged: how often, of all times, the bytes are cut anywhere.
    """

    __slots__ = ("piece_bytes", "ragged", "seconds")

    def __init__(self, seconds: float, piece_bytes: int, ragged: float) -> None:
        self.seconds = seconds
        self.piece_bytes = piece_bytes
        self.ragged = ragged


class Pipe:
    """One direction of a link.

    Attributes:
        stalled_until: nothing comes before that time.
        paused: whether the receiver reads nothing.
    """

    def __init__(self, network: Network, pace: Pace, deliver: Callable[[bytes], None]) -> None:
        self.pace = pace
        self.paused = False
        self.stalled_until = 0.0
        self.closed = False
        self.drained: Callable[[], None] = lambda: None
        self._network = network
        self._deliver = deliver
        self._buffer = bytearray()
        self._planned = False

    @property
    def waiting_bytes(self) -> int:
        """Bytes under way."""
        return len(self._buffer)

    def send(self, data: bytes) -> None:
        """Have bytes carried."""
        if not self.closed:
            self._buffer += data
            self.plan()

    def plan(self) -> None:
        """Have the next bytes come in their time."""
        if self._planned or self.paused or self.closed or not self._buffer:
            return
        self._planned = True
        network = self._network
        delay = self.pace.seconds * (1 + network.dice.random())
        delay = max(delay, self.stalled_until - network.timeline.now)
        network.timeline.later(delay, self._come)

    def _come(self) -> None:
        self._planned = False
        if self.closed or self.paused:
            return
        if self.stalled_until > self._network.timeline.now:
            self.plan()
            return
        dice = self._network.dice
        count = min(len(self._buffer), self.pace.piece_bytes)
        if count > 1 and dice.random() < self.pace.ragged:
            count = 1 if dice.random() < 0.3 else dice.randrange(1, count)
            self._network.injected["ragged delivery"] += 1
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._network.digest = zlib.crc32(data, self._network.digest)
        self.plan()
        self._deliver(data)
        if not self._buffer:
            self.drained()

    def close(self) -> None:
        """Carry nothing any more."""
        self.closed = True
        self._buffer.clear()


@implementer(ITransport)
class _Transport:
    """The broker's end."""

    disconnecting = False

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self._number = number
        self._producer: Any = None
        self._held = False

    def write(self, data: bytes) -> None:
        """ITransport: send."""
        pipe = self._link.to_client
        pipe.send(bytes(data))
        if pipe.waiting_bytes > _HIGH_WATER_BYTES and self._producer is not None and not self._held:
            self._held = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        """ITransport: send."""
        self.write(b"".join(iovec))

    def drained(self) -> None:
        """Everything has come to the client."""
        if self.disconnecting:
            self._link.end(_DONE)
        elif self._held:
            self._held = False
            if self._producer is not None:
                self._link.into_broker(self._producer.resumeProducing)

    def loseConnection(self) -> None:
        """ITransport: close when everything is sent."""
        self.disconnecting = True
        if not self._link.to_client.waiting_bytes:
            self._link.network.timeline.later(0, self._link.end, _DONE)

    def abortConnection(self) -> None:
        """ITCPTransport: close at once."""
        self._link.network.timeline.later(0, self._link.end, _LOST)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """IConsumer: hold this one up when much is under way."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """IConsumer: hold nobody up."""
        self._producer = None

    def pauseProducing(self) -> None:
        """IPushProducer: read nothing."""
        self._link.to_broker.paused = True

    def resumeProducing(self) -> None:
        """IPushProducer: read on."""
        self._link.to_broker.paused = False
        self._link.to_broker.plan()

    def stopProducing(self) -> None:
        """IPushProducer: the end."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """ITransport: the client's address."""
        return IPv4Address("TCP", "10.0.0.1", 10000 + self._number)

    def getHost(self) -> IPv4Address:
        """ITransport: the broker's address."""
        return IPv4Address("TCP", "10.0.0.2", 9092)


class Link:
    """A connection between a client and the broker's process."""

    def __init__(self, network: Network, reactor: Reactor, peer: Peer, number: int, pace: Pace) -> None:
        self.network = network
        self.to_broker = Pipe(network, pace, self._broker_received)
        self.to_client = Pipe(network, pace, peer.received)
        self.transport = _Transport(self, number)
        self.to_client.drained = self.transport.drained
        self.ended = False
        self._reactor = reactor
        self._peer = peer
        self._protocol: Any = None

    def open(self, factory: Any) -> None:
        """The broker accepts the connection, or not."""
        if self.ended:
            return
        self._protocol = self.into_broker(factory.buildProtocol, self.transport.getPeer())
        if self._protocol is None:
            self.end(_DONE)
        else:
            self.into_broker(self._protocol.makeConnection, self.transport)

    def into_broker(self, call: Any, *args: Any) -> Any:
        """Call into the broker's process, as its reactor does."""
        result = self._reactor.guarded(call, *args)
        self._reactor.end_turn()
        return result

    def _broker_received(self, data: bytes) -> None:
        if self._protocol is not None:
            self.into_broker(self._protocol.dataReceived, data)

    def send(self, data: bytes) -> None:
        """The client sends."""
        self.to_broker.send(data)

    def stall(self, seconds: float) -> None:
        """Have nothing come through for a while."""
        until = self.network.timeline.now + seconds
        self.to_broker.stalled_until = self.to_client.stalled_until = until

    def end(self, reason: Failure = _LOST) -> None:
        """End it, whatever is under way; both sides learn of it, each in its time."""
        if self.ended:
            return
        self.ended = True
        self.to_broker.close()
        self.to_client.close()
        self.network.links.pop(self, None)
        timeline, dice = self.network.timeline, self.network.dice
        timeline.later(dice.random() * 0.01, self._peer.lost)
        if self._protocol is not None:
            timeline.later(dice.random() * 0.01, self.into_broker, self._protocol.connectionLost, reason)


@implementer(IListeningPort)
class _Port:
    def __init__(self, network: Network, reactor: Reactor, number: int, factory: Any) -> None:
        self.reactor = reactor
        self.factory = factory
        self.number = number
        self._network = network
        factory.doStart()

    def startListening(self) -> None:
        """IListeningPort: it does."""

    def stopListening(self) -> None:
        """IListeningPort: accept nobody any more."""
        self._network.ports.pop(self.number, None)
        self.factory.doStop()

    def getHost(self) -> IPv4Address:
        """IListeningPort: where."""
        return IPv4Address("TCP", "10.0.0.2", self.number)


class Network:
    """All links, and who listens.

    Attributes:
        links: those that are open, in the order they were made.
        injected: faults by kind.
        digest: of everything that ever came anywhere.
    """

    def __init__(self, timeline: Timeline, dice: Random) -> None:
        self.timeline = timeline
        self.dice = dice
        self.ports: dict[int, _Port] = {}
        self.links: dict[Link, None] = {}
        self.injected: Counter[str] = Counter()
        self.digest = 0
        self._made = 0

    def listen(self, reactor: Reactor, number: int, factory: Any) -> _Port:
        """Serve a port by a process."""
        self.ports[number] = port = _Port(self, reactor, number, factory)
        return port

    def connect(self, number: int, peer: Peer, pace: Pace) -> Link | None:
        """Connect to a port; None when nobody listens."""
        port = self.ports.get(number)
        if port is None:
            return None
        self._made += 1
        link = Link(self, port.reactor, peer, self._made, pace)
        self.links[link] = None
        self.timeline.later(pace.seconds, link.open, port.factory)
        return link

    def process_ended(self, reactor: Reactor) -> None:
        """A process is gone, and with it its ports and links."""
        self.ports = {number: port for number, port in self.ports.items() if port.reactor is not reactor}
        for link in list(self.links):
            link.end()
