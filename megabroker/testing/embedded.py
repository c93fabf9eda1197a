"""A broker inside the program that tests, in its reactor: started in milliseconds, kept in memory.

*One reactor.* Twisted has one reactor in a process. A program that runs it uses ``EmbeddedBroker`` there, by
``start`` and ``stop`` or by ``async with``. Any other program uses it by ``with``: the reactor then runs in a
thread of its own (``megabroker.testing.reactor_thread``), once for all such brokers. Where neither will do,
``megabroker.testing.BrokerServer`` is the same in a process of its own.

*Clean again.* ``reset`` starts a new broker at the same address. It knows nothing of what was before,
whatever that was: topics, groups, offsets, transactions, users, access rules, quotas and faults. Its sockets
listen all the while, so that nobody else gets their ports.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import LogEvent, globalLogPublisher

from megabroker.config.load import parse
from megabroker.interfaces import IProtocolPlugin
from megabroker.net.listening import bind_each
from megabroker.net.transport import DirectReactor
from megabroker.ops.logs import LogThreshold, format_line
from megabroker.plugin import discover
from megabroker.service import BrokerService, Surroundings
from megabroker.stores import make_stores
from megabroker.testing.faults import Fault, Faults
from megabroker.testing.faulty_kafka import FaultyKafka, kafka_faults
from megabroker.testing.settings import as_text, complete

if TYPE_CHECKING:
    from megabroker.config.schema import Config

__all__ = ["EmbeddedBroker"]

_LOG_LINES = 10_000


class _KeptPorts:
    """A reactor on which a broker listens again where it did before, without having let go.

    Args:
        reactor: a real one that can serve sockets which listen already.
        sockets: those, in the order of listening.
    """

    def __init__(self, reactor: Any, sockets: Sequence[socket.socket]) -> None:
        self._reactor = reactor
        self._sockets = list(sockets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """IReactorTCP: serve the socket that has this port, if there is one."""
        for kept in self._sockets:
            if port and kept.getsockname()[1] == port:
                return self._reactor.adoptStreamPort(kept.fileno(), kept.family, factory)
        return self._reactor.listenTCP(port, factory, backlog, interface)


class EmbeddedBroker:
    """One broker in this process; there may be several.

    Args:
        config: what differs from a broker for tests: in memory, every protocol at a free port of 127.0.0.1,
            no HTTP. As in ``broker.yaml``.
        protocols: those that are served if ``config`` does not say so.
        reactor: the reactor to run in; Twisted's by default.

    Attributes:
        faults: what happens to requests of Kafka clients; empty at first.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        protocols: Sequence[str] = ("kafka", "mega", "cursus"),
        reactor: Any = None,
    ) -> None:
        self.faults: Faults = kafka_faults()
        self._wanted = complete(config or {}, protocols)
        self._reactor = reactor
        self._plugins: dict[str, IProtocolPlugin] = {}
        self._service: BrokerService | None = None
        self._sockets: list[socket.socket] = []
        self._directory: str | None = None
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._threshold = LogThreshold()

    @property
    def ports(self) -> Mapping[str, int]:
        """The port of each protocol's first listener."""
        return {name: port for name, (_, port) in reversed(list(self._addresses()))}

    def _addresses(self) -> list[tuple[str, tuple[str, int]]]:
        if self._service is None:
            raise RuntimeError("the broker is not started")
        listeners = self._service.placement.me.listeners
        return [(one.protocol, (one.address.host, one.address.port)) for one in listeners]

    @property
    def bootstrap(self) -> str:
        """What Kafka clients take as bootstrap.servers."""
        return ",".join(f"{host}:{port}" for name, (host, port) in self._addresses() if name == "kafka")

    @property
    def log(self) -> str:
        """The last lines that brokers in this process have logged since this one was started or reset."""
        return "".join(self._lines)

    # --- in the reactor ---

    def start(self) -> Deferred[EmbeddedBroker]:
        """Start, in the reactor's thread; fires with this when it serves.

        Fails with BrokerError or ConfigError.
        """
        return ensureDeferred(self._start())

    def stop(self) -> Deferred[None]:
        """Stop in order; fires when nothing is left of it."""
        return ensureDeferred(self._stop())

    def reset(self) -> Deferred[EmbeddedBroker]:
        """Become a new broker at the same addresses; connections are closed."""
        return ensureDeferred(self._reset())

    async def _start(self) -> EmbeddedBroker:
        if self._service is not None:
            raise RuntimeError("the broker is started already")
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        found = discover()
        self._plugins = {**found, "kafka": FaultyKafka(found["kafka"], self.faults)}
        globalLogPublisher.addObserver(self._observe)  # type: ignore[arg-type]
        try:
            self._begin()
        except BaseException:
            await self._stop()
            raise
        return self

    def _begin(self) -> None:
        text = as_text(self._wanted, self._data_directory())
        config = parse(text, "the test's configuration", self._plugins)
        if not self._sockets:
            self._sockets = bind_each(_plain_endpoints(config))
            _settle_ports(self._wanted, self._sockets, config)
            config = parse(as_text(self._wanted, self._directory), "the test's", self._plugins)
        surroundings = Surroundings(make_stores, self._transports, _now_ms)
        service = BrokerService(
            config, self._plugins, self._reactor, threshold=self._threshold, surroundings=surroundings
        )
        service.startService()
        self._service = service

    def _transports(self, reactor: Any, turns: Any) -> Any:
        return _KeptPorts(DirectReactor(reactor, turns), self._sockets)

    def _data_directory(self) -> str | None:
        """Return where a broker with files has them, a new place each time; None for one without."""
        if self._wanted.get("storage") == "memory" or "data_dir" in self._wanted:
            return None
        self._directory = tempfile.mkdtemp(prefix="megabroker-test-")
        return self._directory

    async def _end(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            await service.stopService()
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    async def _stop(self) -> None:
        try:
            await self._end()
        finally:
            globalLogPublisher.removeObserver(self._observe)  # type: ignore[arg-type]
            sockets, self._sockets = self._sockets, []
            for one in sockets:
                one.close()

    async def _reset(self) -> EmbeddedBroker:
        self.faults.clear()
        await self._end()
        self._lines.clear()
        self._begin()
        return self

    def _observe(self, event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("megabroker") or "log_failure" in event:
            line = format_line(event)
            if line:
                self._lines.append(line)

    async def __aenter__(self) -> EmbeddedBroker:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def create_topic(self, name: str, partitions: int = 1) -> None:
        """Have a topic, in the reactor's thread. Raises BrokerError."""
        if self._service is None:
            raise RuntimeError("the broker is not started")
        await self._service.broker.topics.create(name, partitions)

    # --- from any other thread ---

    def __enter__(self) -> EmbeddedBroker:
        from megabroker.testing.reactor_thread import call

        call(self.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from megabroker.testing.reactor_thread import call

        call(self.stop)

    def clean(self) -> None:
        """Do what ``reset`` does, from a thread that is not the reactor's; return when it is done."""
        from megabroker.testing.reactor_thread import call

        call(self.reset)

    def inject(self, fault: Fault | None = None, *, seed: int = 0, **fields: Any) -> int:
        """Have a fault happen from now on: one, or one with these fields. Returns its number.

        Raises:
            ValueError, TypeError: there is no such fault.
        """
        return self.faults.add(Fault(**fields) if fault is None else fault, seed)

    def heal(self) -> None:
        """Have no fault happen any more."""
        self.faults.clear()

    def met(self) -> list[int]:
        """Return how many requests each fault has happened to, in the order of injecting."""
        return self.faults.met()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _plain_endpoints(config: Config) -> list[str]:
    """Return the endpoints that this binds itself, to keep them: those of TCP."""
    return [
        listener.endpoint
        for settings in config.protocols.values()
        if settings.enabled
        for listener in settings.listeners
        if listener.endpoint.startswith("tcp:")
    ]


def _settle_ports(wanted: dict[str, Any], sockets: Sequence[socket.socket], config: Config) -> None:
    """Write the ports that were bound into a configuration, in the place of 0."""
    waiting = iter(sockets)
    for name, settings in config.protocols.items():
        if not settings.enabled:
            continue
        section = wanted["protocols"][name]
        for number, listener in enumerate(settings.listeners):
            if listener.endpoint.startswith("tcp:"):
                port = next(waiting).getsockname()[1]
                _, _, rest = listener.endpoint.removeprefix("tcp:").partition(":")
                endpoint = f"tcp:{port}:{rest}" if rest else f"tcp:{port}"
                section["listeners"][number]["endpoint"] = endpoint
