"""The broker's own plain TCP transport under ordinary Twisted ports.

Four differences to ``tcp.Server``, each measured as a large part of a small request's or a large
batch's cost:

- *Receiving.* One scratch buffer per reactor instead of a new ``bytes`` per read; the protocol gets a
  view of it that is valid during the call only. While a frame is incomplete the bytes go straight into
  the frame's own buffer (``target`` of the protocol's reader).
- *Polling.* The connections are behind one descriptor of the reactor (``megabroker.net.polling``).
- *Sending.* ``send`` writes at once when nothing is queued, saving a turn of the reactor and two calls of
  epoll_ctl per answer; what the socket does not take is queued.
- *Files.* ``FileRange`` parts are sent by sendfile, once they are in the page cache: what lies on the disk is
  read by another thread first, while the connection waits and the reactor does not.

Only protocols with a ``reader`` (``megabroker.net.connection.BrokerConnection``) may run on it. TLS
and Unix sockets stay on Twisted's transports, with ``megabroker.net.output.StockOutput`` for the output.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from errno import EAGAIN, ENOBUFS
from typing import Any, Protocol

from twisted.internet import main, tcp
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from megabroker.model import FileRange
from megabroker.net.output import Part
from megabroker.net.polling import NestedEpoll
from megabroker.net.quick import CompiledEpoll, make_polling
from megabroker.net.turns import Turns

__all__ = ["DirectReactor", "DirectServer"]

# A storm of reconnecting clients overflows Twisted's default, and each refused one waits a second to retry.
_TWISTED_BACKLOG = 50
_BACKLOG = 1024
_SCRATCH_BYTES = 256 * 1024
_JOIN_BYTES = 256 * 1024
_MAX_IOVECS = 512
_WINDOW_BYTES = 1 << 20


class _Receiver(Protocol):
    """What ``DirectServer`` needs of a protocol."""

    @property
    def reader(self) -> Any:
        """Where the next bytes go, if not the scratch buffer; see ``megabroker.net.connection``."""

    def receive_filled(self, count: int) -> None:
        """Take note that ``count`` bytes were put into the reader's target."""

    def dataReceived(self, data: memoryview) -> None:
        """Take bytes that are valid during the call only."""

    def output_drained(self) -> None:
        """Take note that everything queued has been sent."""

    def output_failed(self, reason: str) -> None:
        """Take note that the output is broken; the connection is to be aborted."""


class DirectServer(tcp.Server):
    """A server-side TCP connection that is its own output."""

    protocol: Any
    scratch: memoryview
    polling: NestedEpoll | None
    quick: Any = None  # how a compiled turn knows it, once it expects something

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._parts: deque[Part] = deque()
        self._is_cold = False  # what is to be sent next is being read
        self.pending_bytes = 0
        self.held_bytes = 0  # the same without what is in files
        self.moved_bytes = 0  # sent of what had to wait
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass

    def startReading(self) -> None:
        """Read when there is something; the other connections' reads meet it."""
        if self.polling is None:
            super().startReading()  # type: ignore[no-untyped-call]
        else:
            self.polling.add(self)

    def stopReading(self) -> None:
        """Leave what comes to the kernel."""
        if self.polling is None:
            super().stopReading()  # type: ignore[no-untyped-call]
        else:
            self.polling.remove(self)

    def expect(self, *shape: Any) -> None:
        """Have the compiled turn take requests of a shape; where there is none it has no effect."""
        if isinstance(self.polling, CompiledEpoll) and self.connected:
            self.polling.expect(self, *shape)

    @property
    def expects(self) -> bool:
        """Whether ``expect`` has an effect."""
        return self.polling is not None and self.polling.expects

    def doRead(self) -> Any:
        """IReadDescriptor: receive once and hand the bytes on."""
        receiver: _Receiver = self.protocol
        target = receiver.reader.target() if receiver.reader.has_target else None
        try:
            count = self.socket.recv_into(self.scratch if target is None else target)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not count:
            return main.CONNECTION_DONE
        if target is None:
            receiver.dataReceived(self.scratch[:count])
        else:
            receiver.receive_filled(count)
        return None

    def send(self, parts: Sequence[Part]) -> None:
        """Send parts in order, at once as far as the socket takes them."""
        if not self.connected or self._writeDisconnected:
            return
        if not (self._parts or self.disconnecting):
            data = parts[0] if len(parts) == 1 else _joined(parts)
            if type(data) is bytes:
                try:
                    sent = self.socket.send(data)
                except OSError:
                    sent = 0  # full, or broken: who sends what is queued finds out
                if sent == len(data):
                    return
                parts = (memoryview(data)[sent:],)
        self._queue(parts)

    def _queue(self, parts: Iterable[Part]) -> None:
        was_empty = not self._parts
        for part in parts:
            if isinstance(part, FileRange):
                length = part.length
            else:
                length = len(part)
                self.held_bytes += length
            if length:
                self._parts.append(part)
                self.pending_bytes += length
        if was_empty and self._parts and not self.disconnecting and self._drain() and not self._is_cold:
            self.startWriting()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the connection once everything queued is sent."""
        self.loseConnection()  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        """ITransport: send bytes."""
        self.send((data,))

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """ITransport: send several bytes objects."""
        self.send(list(iovec))

    def doWrite(self) -> Any:
        """IWriteDescriptor: send more of what is queued."""
        if self._parts and (self._is_cold or self._drain()):
            if self._is_cold:
                self.stopWriting()  # type: ignore[no-untyped-call]
            return None
        self.stopWriting()  # type: ignore[no-untyped-call]
        if self.disconnecting:
            return self._postLoseConnection()  # type: ignore[no-untyped-call]
        if not self.disconnected:
            self.protocol.output_drained()
        return None

    def _drain(self) -> bool:
        """Send until the queue is empty or the socket full; return whether something is left."""
        parts = self._parts
        try:
            while parts:
                if isinstance(parts[0], FileRange):
                    if not self._send_file(parts[0]):
                        return True
                elif not self._send_bytes():
                    return True
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno in (EAGAIN, ENOBUFS):
                return True
            parts.clear()
            self.pending_bytes = self.held_bytes = 0
            self._lose_later()
            return False
        return False

    def _send_file(self, part: FileRange) -> bool:
        count = min(part.length, _WINDOW_BYTES)
        cold = part.file.cold(part.position, count)
        if cold is not None:
            self._is_cold = True
            cold.when_room(self._warmed)
            return False
        sent = os.sendfile(self.socket.fileno(), part.file.fileno(), part.position, count)
        if sent == 0:
            self.protocol.output_failed("the log file is shorter than its index says")
            return False
        self.pending_bytes -= sent
        self.moved_bytes += sent
        if sent == part.length:
            self._parts.popleft()
        else:
            self._parts[0] = FileRange(part.file, part.position + sent, part.length - sent)
        return sent == count

    def _warmed(self) -> None:
        self._is_cold = False
        if self.connected and self._parts:
            self.startWriting()  # type: ignore[no-untyped-call]

    def _send_bytes(self) -> bool:
        parts = self._parts
        if len(parts) == 1:
            chunk = parts[0]
            assert not isinstance(chunk, FileRange)
            expected = len(chunk)
            sent = self.socket.send(chunk)
        else:
            vectors: list[Any] = []
            expected = 0
            for part in parts:
                if isinstance(part, FileRange) or len(vectors) == _MAX_IOVECS:
                    break
                vectors.append(part)
                expected += len(part)
            if expected <= _JOIN_BYTES:
                sent = self.socket.send(b"".join(vectors))
            else:
                sent = self.socket.sendmsg(vectors)
        self.pending_bytes -= sent
        self.held_bytes -= sent
        self.moved_bytes += sent
        remaining = sent
        while remaining:
            chunk = parts[0]
            assert not isinstance(chunk, FileRange)
            length = len(chunk)
            if remaining < length:
                parts[0] = memoryview(chunk)[remaining:]
                break
            remaining -= length
            parts.popleft()
        return sent == expected

    def _lose_later(self) -> None:
        """Report a connection that broke while sending, from outside the sender's call stack."""
        self.reactor.callLater(0, self.abortConnection)  # type: ignore[attr-defined]

    def connectionLost(self, reason: Any) -> None:
        """Forget what is queued; files are closed with their last reference."""
        self._parts.clear()
        self.pending_bytes = self.held_bytes = 0
        self.quick = None
        super().connectionLost(reason)


def _joined(parts: Sequence[Any]) -> bytes | None:
    """Return a few bytes in one piece; None if they are many or in a file."""
    try:
        return b"".join(parts) if sum(map(len, parts)) <= _JOIN_BYTES else None
    except TypeError:
        return None  # a FileRange


class _DirectPort(tcp.Port):
    """A listening port whose connections are ``DirectServer``."""

    def __init__(self, *args: Any, scratch: memoryview, polling: NestedEpoll | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shared = {"scratch": scratch, "polling": polling}
        self.transport = type("DirectServer", (DirectServer,), shared)  # type: ignore[assignment]


class DirectReactor:
    """A reactor whose ``listenTCP`` (and ``adoptStreamPort``) makes ports with ``DirectServer`` connections.

    Give it to ``serverFromString`` in place of the reactor: ``tcp:`` endpoints then use the broker's own
    transport and every other kind of endpoint works as it always did.

    Args:
        turns: of that reactor.
    """

    def __init__(self, reactor: Any, turns: Turns) -> None:
        self._reactor = reactor
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._polling = make_polling(reactor, turns, self._scratch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """IReactorTCP: listen, with the broker's transport under each connection."""
        if backlog == _TWISTED_BACKLOG:
            backlog = _BACKLOG
        listening = self._port(port, factory, backlog, interface)
        listening.startListening()
        return listening

    def adoptStreamPort(
        self, descriptor: int, family: socket.AddressFamily, factory: IProtocolFactory
    ) -> IListeningPort:
        """IReactorSocket: serve a socket that listens already, duplicating its descriptor."""
        if family not in (socket.AF_INET, socket.AF_INET6):
            port: IListeningPort = self._reactor.adoptStreamPort(descriptor, family, factory)
            return port
        adopted = socket.fromfd(descriptor, family, socket.SOCK_STREAM)
        listening = self._port(None, factory, _BACKLOG, adopted.getsockname()[0])
        listening._preexistingSocket = adopted
        listening.startListening()
        return listening

    def _port(self, port: int | None, factory: IProtocolFactory, backlog: int, interface: str) -> _DirectPort:
        return _DirectPort(
            port,
            factory,
            backlog,
            interface,
            self._reactor,
            scratch=self._scratch,
            polling=self._polling,
        )
