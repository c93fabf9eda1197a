"""A network in memory, and a reactor whose time the test moves.

Owns what lies between a client and a protocol: chunks in the sizes they were sent, a socket that is read
only while the protocol wants, answers that wait while the client does not read. The broker's end behaves as
Twisted's TCP transport does, with its buffer of 64 KiB and its producers, so that what runs on it is what
runs on a real one. Nothing happens but in ``settle`` and ``advance``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["MemoryReactor", "MemoryTransport", "Peer"]

EPOCH_SECONDS: Final = 1_700_000_000.0
_CHUNK_BYTES: Final = 64 * 1024
_HIGH_WATER_BYTES: Final = 64 * 1024
_MOST_CALLS: Final = 1_000_000
_HOST: Final = "127.0.0.1"


class _Pool:
    """A thread pool whose threads are the reactor's own turns."""

    def __init__(self, reactor: MemoryReactor) -> None:
        self._reactor = reactor

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any, **kwargs: Any) -> None:
        """IThreadPool: call later, then tell ``done`` how that went."""
        self._reactor.callLater(0, self._run, done, call, args, kwargs)

    def _run(self, done: Any, call: Any, args: Any, kwargs: Any) -> None:
        try:
            result = call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for who asked
            done(False, Failure(error))  # type: ignore[no-untyped-call]
        else:
            done(True, result)


class MemoryReactor(Clock):
    """Reactor enough for a whole broker; its time stands still but in ``advance``.

    Attributes:
        ports: who listens, by port number.
    """

    running = True

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = EPOCH_SECONDS
        self.ports: dict[int, _Port] = {}
        self._pool = _Pool(self)
        self._next_port = 20000
        self._next_peer = 40000

    def callFromThread(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """IReactorFromThreads: there are no other threads."""
        self.callLater(0, call, *args, **kwargs)

    callWhenRunning = callFromThread

    def getThreadPool(self) -> _Pool:
        """IReactorThreads: what stands for threads."""
        return self._pool

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> IListeningPort:
        """IReactorTCP: take the connections of ``connect``."""
        if not port:
            port = self._next_port
            self._next_port += 1
        listening = self.ports[port] = _Port(self, port, factory)
        listening.startListening()
        return listening

    def connect(self, port: int) -> Peer:
        """Return a new client of a port, connected once the reactor has settled. Raises ConnectionError."""
        if port not in self.ports:
            raise ConnectionRefusedError(f"nobody listens at port {port}")
        self._next_peer += 1
        peer = Peer(self, IPv4Address("TCP", _HOST, self._next_peer), self.ports[port])
        self.settle()
        return peer

    def settle(self) -> None:
        """Do all that is to be done by now, and what follows of it at once."""
        for _ in range(_MOST_CALLS):
            if not self._run_next(self.rightNow):
                return
        raise AssertionError("the reactor does not come to rest: something calls itself again and again")

    def advance(self, amount: float) -> None:
        """Let so many seconds pass, and all that is due in them happen in its order."""
        end = self.rightNow + amount
        for _ in range(_MOST_CALLS):
            if not self._run_next(end):
                break
        self.rightNow = end

    def _run_next(self, until: float) -> bool:
        if not self.calls:
            return False
        call = min(self.calls, key=lambda call: call.getTime())  # the first of those at the same time
        if call.getTime() > until:
            return False
        self.calls.remove(call)
        self.rightNow = max(self.rightNow, call.getTime())
        call.called = 1
        call.func(*call.args, **call.kw)
        return True


@implementer(IListeningPort)
class _Port:
    def __init__(self, reactor: MemoryReactor, number: int, factory: Any) -> None:
        self.factory = factory
        self._reactor = reactor
        self._number = number

    def startListening(self) -> None:
        """IListeningPort: begin."""
        self.factory.doStart()

    def stopListening(self) -> None:
        """IListeningPort: accept nobody any more."""
        if self._reactor.ports.pop(self._number, None) is not None:
            self.factory.doStop()

    def getHost(self) -> IPv4Address:
        """IListeningPort: where."""
        return IPv4Address("TCP", _HOST, self._number)


class Peer:
    """The client's end of a connection.

    Attributes:
        received: all bytes that have come and were not taken.
        is_closed: whether the broker has ended the connection.
        transport: the broker's end.
    """

    def __init__(self, reactor: MemoryReactor, address: IPv4Address, port: _Port) -> None:
        self.received = bytearray()
        self.is_closed = False
        self.is_reading = True
        self._reactor = reactor
        self.transport = MemoryTransport(self, reactor, address, port.getHost())
        reactor.callLater(0, self.transport.accept, port.factory)

    def send(self, *chunks: bytes) -> None:
        """Send chunks; each comes to the protocol by itself, when that reads."""
        for chunk in chunks:
            self.transport.arrive(chunk)
        self._reactor.settle()

    def take(self) -> bytes:
        """Return what has come since the last call."""
        self._reactor.settle()
        data = bytes(self.received)
        self.received.clear()
        return data

    @property
    def unsent_bytes(self) -> int:
        """How much of what was sent the protocol has not read."""
        return self.transport.waiting_bytes

    def pause(self) -> None:
        """Read nothing from now on."""
        self.is_reading = False

    def resume(self) -> None:
        """Read again."""
        self.is_reading = True
        self.transport.push_soon()
        self._reactor.settle()

    def close(self) -> None:
        """Close the connection in order: the protocol learns of it when it has read all that was sent."""
        self.transport.arrive(None)
        self._reactor.settle()

    def reset(self) -> None:
        """Drop the connection: the protocol learns of it at once."""
        self.transport.end(ConnectionLost())
        self._reactor.settle()


@implementer(ITCPTransport)
class MemoryTransport:
    """The broker's end of a connection.

    Attributes:
        protocol: what was made for this connection; None once it is gone.
        is_reading: whether that wants more bytes now.
        written: bytes that the peer has not read.
    """

    def __init__(self, peer: Peer, reactor: MemoryReactor, address: IPv4Address, host: IPv4Address) -> None:
        self.protocol: Any = None
        self.is_reading = True
        self.disconnecting = False
        self.connected = True
        self.written = bytearray()
        self._peer = peer
        self._reactor = reactor
        self._addresses = address, host
        self._arrived: deque[bytes | None] = deque()
        self._planned: set[str] = set()
        self._producer: Any = None
        self._is_streaming = True
        self._is_held = False

    # --- for the peer ---

    def accept(self, factory: Any) -> None:
        """Begin, or be refused."""
        self.protocol = factory.buildProtocol(self._addresses[0])
        if self.protocol is None:
            self.end(ConnectionDone())
        else:
            self.protocol.makeConnection(self)
            self._plan("read", self._read)

    def arrive(self, chunk: bytes | None) -> None:
        """Take a chunk, or None for the end of all chunks, as the kernel does."""
        if self.connected and chunk != b"":
            self._arrived.append(chunk)
            self._plan("read", self._read)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that have arrived and were not read."""
        return sum(len(chunk) for chunk in self._arrived if chunk)

    def push_soon(self) -> None:
        """Hand on what is written, in the next turn."""
        self._plan("write", self._push)

    def end(self, reason: Exception) -> None:
        """The connection is gone, whatever was under way."""
        if not self.connected:
            return
        self.connected = False
        self._arrived.clear()
        self.written.clear()
        self._peer.is_closed = True
        protocol, self.protocol = self.protocol, None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if protocol is not None:
            protocol.connectionLost(Failure(reason))  # type: ignore[no-untyped-call]

    # --- turns ---

    def _plan(self, what: str, call: Callable[[], None]) -> None:
        if what not in self._planned:
            self._planned.add(what)
            self._reactor.callLater(0, self._run, what, call)

    def _run(self, what: str, call: Callable[[], None]) -> None:
        self._planned.discard(what)
        if self.connected and self.protocol is not None:
            call()

    def _read(self) -> None:
        if not (self.is_reading and self._arrived):
            return
        chunk = self._arrived.popleft()
        if chunk is None:
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.readConnectionLost()
            else:
                self.end(ConnectionDone())
            return
        if len(chunk) > _CHUNK_BYTES:
            self._arrived.appendleft(chunk[_CHUNK_BYTES:])
        if self._arrived:
            self._plan("read", self._read)
        self.protocol.dataReceived(chunk[:_CHUNK_BYTES])

    def _push(self) -> None:
        if not self._peer.is_reading:
            return
        self._peer.received += self.written
        self.written.clear()
        if self._producer is not None and (self._is_held or not self._is_streaming):
            self._is_held = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self.end(ConnectionDone())

    # --- ITransport, IConsumer, IPushProducer ---

    def write(self, data: bytes) -> None:
        """ITransport: send."""
        if not isinstance(data, bytes):
            raise TypeError(f"Twisted's transports write bytes, not {type(data).__name__}")
        if not self.connected or self.disconnecting:
            return
        self.written += data
        if len(self.written) > _HIGH_WATER_BYTES and self._producer is not None and not self._is_held:
            self._is_held = True
            self._producer.pauseProducing()
        self.push_soon()

    def writeSequence(self, data: Any) -> None:
        """ITransport: send."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """ITransport: close when everything is sent."""
        self.disconnecting = True
        self.push_soon()

    def abortConnection(self) -> None:
        """ITCPTransport: close at once."""
        self.disconnecting = True
        self._reactor.callLater(0, self.end, ConnectionAborted())

    def loseWriteConnection(self) -> None:
        """ITCPTransport: nothing of the broker closes halves of connections; it closes them whole."""
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """IConsumer: hold this one up while much is under way."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer} is registered already")
        self._producer = producer
        self._is_streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """IConsumer: hold nobody up."""
        self._producer = None
        self._is_held = False
        if self.connected and self.disconnecting:
            self.push_soon()

    def pauseProducing(self) -> None:
        """IPushProducer: read nothing."""
        self.is_reading = False

    def resumeProducing(self) -> None:
        """IPushProducer: read on."""
        if self.connected and not self.disconnecting:
            self.is_reading = True
            self._plan("read", self._read)

    def stopProducing(self) -> None:
        """IPushProducer: the end."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """ITransport: the client's address."""
        return self._addresses[0]

    def getHost(self) -> IPv4Address:
        """ITransport: the broker's address."""
        return self._addresses[1]

    def getTcpNoDelay(self) -> bool:
        """ITCPTransport: nothing is delayed here."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """ITCPTransport: nothing is delayed here."""

    def getTcpKeepAlive(self) -> bool:
        """ITCPTransport: nobody goes away unheard here."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """ITCPTransport: nobody goes away unheard here."""
