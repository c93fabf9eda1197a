"""A whole broker without sockets, files or time of its own: the real composition on a network in memory.

Owns nothing that a broker does. Its logs are those of ``storage: memory``; what is told of their writes goes
through ``Disk``, which a test may hold up to fill a partition's queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import yaml
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from megabroker.codec.batch import build, build_single, read_header
from megabroker.config.load import parse
from megabroker.interfaces import IBroker, IPartition, IProtocolPlugin
from megabroker.model import Acks, Record
from megabroker.protocols.reading import ReadCache, RecordReader
from megabroker.service import BrokerService, Surroundings
from megabroker.storage.memory import MemoryLogStore
from megabroker.storage.metadata.memory import MemoryMetadataStore
from megabroker.stores import Stores
from megabroker.testing.memory_network import MemoryReactor, Peer

__all__ = ["Disk", "MemoryBroker"]

_ENDPOINT = "tcp:0:interface=127.0.0.1"
_CLUSTER_ID = "testing-in-memory-only"
_CACHE_BYTES = 1 << 20
_STOP_SECONDS = 60


class Disk:
    """What tells the broker that something is written, unless it is held up."""

    def __init__(self) -> None:
        self.call_later: Callable[[Callable[[], None]], object] = lambda call: None
        self._held: list[Callable[[], None]] | None = None

    def written(self, report: Callable[[], None]) -> None:
        """Have a report made, at the end of the turn or when the disk is not held up any more."""
        if self._held is None:
            self.call_later(report)
        else:
            self._held.append(report)

    def hold(self) -> None:
        """Have nothing be written until ``release``."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Have everything be written that waits."""
        held, self._held = self._held or [], None
        for report in held:
            self.call_later(report)


class MemoryBroker:
    """A broker with some protocols, for one test; a context manager.

    Args:
        plugins: the protocols it serves.
        settings: of each protocol by its name; its listener is in memory whatever they say.
        config: other sections of the configuration.

    Attributes:
        reactor: its time; ``settle`` and ``advance`` are this broker's too.
        disk: what its logs are written by.
        failures: what was logged with a traceback, which is never in order.
    """

    def __init__(
        self,
        plugins: Sequence[IProtocolPlugin],
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.reactor = MemoryReactor()
        self.disk = Disk()
        self.failures: list[LogEvent] = []
        named = {plugin.name: plugin for plugin in plugins}
        listeners = {"listeners": [{"endpoint": _ENDPOINT}]}
        text = yaml.safe_dump(
            {
                "node": {"cluster_id": _CLUSTER_ID},
                "http": {"enabled": False},
                **(config or {}),
                "storage": "memory",
                "protocols": {name: {**(settings or {}).get(name, {}), **listeners} for name in named},
            }
        )
        surroundings = Surroundings(
            self._stores, lambda reactor, _: reactor, lambda: int(self.reactor.seconds() * 1000)
        )
        self.service = BrokerService(
            parse(text, "this test", named), named, self.reactor, surroundings=surroundings
        )

    @property
    def broker(self) -> IBroker:
        """The core, as protocols see it."""
        found: IBroker = self.service.broker
        return found

    def _stores(self, config: Any, reactor: Any, turns: Any, worker: Any) -> Stores:
        self.disk.call_later = turns.write_at_end
        return Stores(MemoryLogStore(self.disk.written, reactor.seconds), MemoryMetadataStore(reactor), None)

    def start(self) -> MemoryBroker:
        """Start. Raises BrokerError."""
        globalLogPublisher.addObserver(self._observe)  # type: ignore[arg-type]
        self.service.startService()
        self.settle()
        return self

    def stop(self) -> None:
        """Stop in order, as if it had all the time it takes."""
        self.disk.release()
        try:
            if self.service.running:
                self.done(self.begin_stop())
        finally:
            globalLogPublisher.removeObserver(self._observe)  # type: ignore[arg-type]

    def begin_stop(self) -> Deferred[None]:
        """Begin to stop; fires when that is done."""
        return self.service.stopService()

    def __enter__(self) -> MemoryBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            self.failures.append(event)

    def settle(self) -> None:
        """Do all that is to be done by now."""
        self.reactor.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.reactor.advance(seconds)

    def done(self, deferred: Deferred[Any]) -> Any:
        """Return what a Deferred fires with, or raise that, letting time pass if it has to."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.settle()
        for _ in range(_STOP_SECONDS):
            if results:
                break
            self.advance(1)
        if not results:
            raise AssertionError(f"{deferred} has not fired within {_STOP_SECONDS} s")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def connect(self, protocol: str) -> Peer:
        """Return a client of a protocol. Raises ConnectionRefusedError."""
        listener = next(one for one in self.service.placement.me.listeners if one.protocol == protocol)
        return self.reactor.connect(listener.address.port)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Have a topic. Raises BrokerError."""
        self.done(self.broker.topics.create(name, partitions))

    def append(self, topic: str, values: Sequence[bytes], partition: int = 0) -> int:
        """Store messages without keys in one batch; return the first one's offset."""
        where = self.broker.topics.partition(topic, partition)
        now = self.broker.now_ms()
        if len(values) == 1:
            data = build_single(None, values[0], now)
        else:
            data = build([(None, value, (), now) for value in values])
        offset = where.append(read_header(data, 0, len(data)), data, Acks.DURABLE, lambda _: None)
        self.settle()
        return offset

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        """Return what is stored in a partition and visible, decoded."""
        where: IPartition = self.broker.topics.partition(topic, partition)
        reader = RecordReader(where, where.start_offset, ReadCache(_CACHE_BYTES))
        return list(iter(reader.next, None))
