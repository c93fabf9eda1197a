"""A broker on disk, driven turn by turn over sockets of its own, whose function calls are counted.

Everything is what a running broker has, down to the transport's ``recv`` and ``send``; only the reactor is a
clock, so that a number of requests always makes the same number of turns. Counted is what the broker does in
the reactor's thread, from when a socket can be read; not the clients, nor the broker's other threads, nor
Twisted's clock.
"""

from __future__ import annotations

import collections
import gc
import queue
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import attrs
from twisted.internet import base, task
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from megabroker.config.load import parse
from megabroker.model import HostPort, Listener
from megabroker.net import quick
from megabroker.net.polling import NestedEpoll
from megabroker.net.quick import CompiledEpoll
from megabroker.net.transport import DirectServer
from megabroker.plugin import discover
from megabroker.protocols.kafka.protocol import KafkaFactory
from megabroker.protocols.kafka.schema.registry import request_header_version, response_header_version
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.service import BrokerService
from megabroker.storage import disk

__all__ = ["COMPILED", "Calls", "Client", "CountingCase"]

COMPILED = quick.compiled() is not None
"""Whether there is a compiled part to test; ``./dev compile`` makes one."""

_CONFIG = """\
data_dir: {directory}
durability: os
http: {{enabled: false}}
protocols:
  kafka: {{enabled: false}}
  mega: {{enabled: false}}
  cursus: {{enabled: false}}
"""
_SECONDS = 10
_UNCOUNTED = {__file__, base.__file__, task.__file__}


class Turns(task.Clock):
    """A clock that is reactor enough for a broker with a disk.

    Attributes:
        counting: where to count what the broker calls, if at all.
        scratch: receives what comes.
        polling: reads the connections; turned only after something was sent to one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counting: Calls | None = None
        self.scratch = memoryview(bytearray(256 * 1024))
        self.polling: NestedEpoll
        self.readable = False
        self._from_threads: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        self._from_threads.put(lambda: function(*args))

    callWhenRunning = callFromThread

    def turn(self) -> None:
        """Do all there is to do now."""
        if self.readable:
            self.readable = False
            self.run(self.polling.doRead)
        while not self._from_threads.empty():
            self.run(self._from_threads.get())
        self.run(self.advance, 0)

    def run(self, function: Callable[..., object], *args: object) -> None:
        """Have the broker do something, counted if that is wanted."""
        if self.counting is None:
            function(*args)
            return
        self.counting.begin()
        try:
            function(*args)
        finally:
            self.counting.end()

    def until(self, reached: Callable[[], object]) -> None:
        """Go on until something is so; other threads may have to do their part."""
        deadline = time.monotonic() + _SECONDS
        while not reached():
            assert time.monotonic() < deadline, "the broker does not get there"
            self.turn()
            if not reached():
                time.sleep(0.0005)

    # What the thread pool of a reactor does, only at once.

    def getThreadPool(self) -> Turns:
        return self

    def callInThreadWithCallback(self, done: Any, function: Any, *args: Any, **kwargs: Any) -> None:
        done(True, function(*args, **kwargs))

    # What a transport asks of a reactor; the tests say when something can be read.

    def addReader(self, reader: object) -> None: ...

    removeReader = addWriter = removeWriter = addReader


@attrs.define
class Calls:
    """Function calls by name, between ``begin`` and ``end``."""

    python: collections.Counter[str] = attrs.Factory(collections.Counter)
    native: collections.Counter[str] = attrs.Factory(collections.Counter)

    @property
    def totals(self) -> tuple[int, int]:
        """How many of Python's functions, and of C's."""
        return self.python.total(), self.native.total()

    def begin(self) -> None:
        """Count from here on, in this thread."""
        sys.setprofile(self._note)

    def end(self) -> None:
        """Count no more."""
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if code.co_filename in _UNCOUNTED:
            return
        if event == "call":
            self.python[code.co_qualname] += 1
        elif event == "c_call":
            self.native[argument.__qualname__] += 1

    def __str__(self) -> str:
        return "\n".join(
            f"{kind} {total}: " + ", ".join(f"{name} {count}" for name, count in names.most_common(40))
            for kind, total, names in zip(
                ("python", "C"), self.totals, (self.python, self.native), strict=True
            )
        )


class Client:
    """One connection to the broker, both ends of it."""

    def __init__(self, factory: KafkaFactory, reactor: Turns) -> None:
        self._socket, theirs = socket.socketpair()
        self._reactor = reactor
        self._received = b""
        for end in (self._socket, theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        transport: Any = type(
            "DirectServer", (DirectServer,), {"scratch": reactor.scratch, "polling": reactor.polling}
        )
        self._server = transport(theirs, connection, ("127.0.0.1", 9), None, 1, reactor)
        connection.makeConnection(self._server)
        self.connection = connection

    def send(self, *frames: bytes) -> None:
        """Send requests in one piece; the next turn reads them."""
        data = b"".join(frames)
        assert self._socket.send(data) == len(data)
        self._reactor.readable = True

    def receive(self, count: int) -> list[bytes]:
        """Return so many answers, turning the reactor until they are there."""
        found: list[bytes] = []

        def complete() -> bool:
            try:
                while True:
                    received = self._socket.recv(1 << 20)
                    assert received, "the broker has closed the connection"
                    self._received += received
            except BlockingIOError:
                pass
            while len(self._received) >= 4:
                (size,) = struct.unpack_from(">i", self._received)
                if len(self._received) < 4 + size:
                    break
                found.append(self._received[4 : 4 + size])
                self._received = self._received[4 + size :]
            return len(found) >= count

        self._reactor.until(complete)
        assert len(found) == count
        return found

    def ask(self, request: Any, response: Any, version: int) -> Any:
        """Send one request and return its answer, decoded."""
        self.send(framed(request, version))
        return decoded(response, self.receive(1)[0], version)

    def close(self) -> None:
        """Close it on both sides."""
        self._socket.close()
        self._server.abortConnection()


class CountingCase(SynchronousTestCase):
    """A broker in a fresh directory, on a clock, with a Kafka factory.

    Attributes:
        compiled: whether the compiled part reads its connections.
        config: more of the broker's configuration.
    """

    compiled = False
    config = ""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="megabroker-test-")
        self.addCleanup(directory.cleanup)
        # A disk that is slow for a moment would have another thread write for a while.
        self.patch(disk, "_SLOW_SECONDS", 3600.0)
        self.patch(NestedEpoll, "turn_seconds", 3600.0)
        self.reactor = Turns()
        self.reactor.advance(1_700_000_000)
        plugins = discover()
        config = parse(_CONFIG.format(directory=directory.name) + self.config, "test", plugins)
        self.service = BrokerService(config, plugins, self.reactor)
        turns = self.service.turns
        if self.compiled:
            self.reactor.polling = CompiledEpoll(self.reactor, turns, quick.compiled(), self.reactor.scratch)
        else:
            self.reactor.polling = NestedEpoll(self.reactor, turns)
        self.service.startService()
        self.addCleanup(lambda: self.done(self.service.stopService()))
        self.factory = KafkaFactory(
            self.service.broker, KafkaSettings(), Listener("kafka", "default", HostPort("localhost", 1))
        )

    def done(self, deferred: Any) -> Any:
        """Turn the reactor until a Deferred has fired."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.reactor.until(lambda: results)
        deferred.addCallback(lambda _: results[0])
        return self.successResultOf(deferred)

    def connect(self) -> Client:
        """Return a new connection."""
        client = Client(self.factory, self.reactor)
        self.addCleanup(client.close)
        return client

    def counted(self, run: Callable[[], object]) -> Calls:
        """Run something once to warm up, then count it."""
        run()
        calls = self.reactor.counting = Calls()
        gc.disable()  # what it calls would be counted
        try:
            run()
        finally:
            self.reactor.counting = None
            gc.enable()
        return calls


def framed(request: Any, version: int, correlation_id: int = 1) -> bytes:
    """Return a request as it goes over the wire."""
    key = type(request).__schema__.key
    tags = b"\0" if request_header_version(key, version) >= 2 else b""
    body = struct.pack(">hhih", key, version, correlation_id, 2) + b"me" + tags + request.encode(version)
    return struct.pack(">i", len(body)) + body


def decoded(response: Any, data: bytes, version: int) -> Any:
    """Return an answer's body."""
    start = 5 if response_header_version(response.__schema__.key, version) >= 1 else 4
    return response.decode(data, version, start)[0]
