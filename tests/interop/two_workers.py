"""Two workers in the test's own reactor: each with files, core and sockets of its own, asking each other.

As far as the parts between processes go they are as two processes; the topics are there when they start.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, serverFromString
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from megabroker.config.schema import Config, LimitSettings
from megabroker.core.acls import Acls, AclSettings
from megabroker.core.audit import Audit
from megabroker.core.broker import Broker
from megabroker.core.dedup import DeduplicationService
from megabroker.core.dedup import DedupSettings as CoreDedupSettings
from megabroker.core.partitions import PartitionSettings
from megabroker.core.placement import WorkerPlacement
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.quotas.service import Quotas
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TopicLimits, TopicService
from megabroker.model import HostPort, Listener, Node, TopicPartition
from megabroker.net.admission import Admission
from megabroker.net.transport import DirectReactor
from megabroker.net.turns import Turns
from megabroker.protocols.cursus.factory import CursusFactory
from megabroker.protocols.cursus.settings import CursusSettings
from megabroker.protocols.kafka.controlling import longest_bytes
from megabroker.protocols.kafka.peers import Peers
from megabroker.protocols.kafka.protocol import InternalFactory
from megabroker.protocols.kafka.publishers import Publishers
from megabroker.protocols.kafka.remote_partitions import AllPartitions
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.protocols.mega.factory import MegaFactory
from megabroker.protocols.mega.settings import MegaSettings
from megabroker.storage.metadata.memory import MemoryMetadataStore
from megabroker.storage.store import LocalLogStore
from megabroker.storage.window import FileWindowStore
from tests.interop.small_broker import now_ms, reactor

__all__ = ["TwoWorkersCase", "Worker"]

NODES = (Node(1), Node(2))


def leader(topic: str, partition: int = 0) -> int:
    """Return the place of the worker that leads a partition."""
    return WorkerPlacement(NODES, 0).leader(TopicPartition(topic, partition)).id - 1


class Worker:
    """One of the two; ``start`` and ``stop`` may be called again and again."""

    def __init__(
        self,
        place: pathlib.Path,
        index: int,
        metadata: Any,
        settings: Any,
        limits: LimitSettings,
    ) -> None:
        self.place = place
        self.index = index
        self.metadata = metadata
        self.settings = settings
        self.limits = limits
        self.mega_port = self.cursus_port = 0

    async def start(self) -> None:
        """Load everything and listen, at the ports of the first time."""
        turns = Turns(reactor)
        self.direct = DirectReactor(reactor, turns)
        self.store = LocalLogStore(str(self.place / str(self.index)), reactor, reactor.callFromThread)
        self.store.open()
        placement = WorkerPlacement(NODES, self.index)
        self.topics = TopicService(
            store=self.store,
            metadata=self.metadata,
            placement=placement,
            configs=TopicConfigs(),
            limits=TopicLimits(),
            partition_settings=PartitionSettings(),
            reactor=reactor,
            now_ms=now_ms,
        )
        self.topics.load()
        self.topics.startService()
        self.dedup = DeduplicationService(
            CoreDedupSettings(),
            FileWindowStore(self.place / f"dedup-{self.index}", 1_800_000),
            lambda name: getattr(self.topics.get(name), "id", None),
            reactor,
            now_ms,
        )
        self.dedup.load()
        self.peers = Peers(
            reactor,
            lambda node_id: UNIXClientEndpoint(reactor, str(self.place / f"{node_id}.sock")),
            longest_bytes(self.limits.max_request_bytes),
        )
        self.partitions = AllPartitions(reactor, self.topics, placement, self.peers)
        config = Config(limits=self.limits)
        self.quotas = Quotas(self.metadata, now_ms)
        self.audit = Audit(reactor.seconds)
        self.acls = Acls(self.metadata, AclSettings(), self.audit, self.quotas.renew)
        self.broker = Broker(
            cluster_id="A" * 22,
            topics=self.topics,
            groups=None,  # type: ignore[arg-type]
            shares=_NoShares(),  # type: ignore[arg-type]
            transactions=None,  # type: ignore[arg-type]
            dedup=self.dedup,
            placement=placement,
            configs=None,  # type: ignore[arg-type]
            client_metrics=None,  # type: ignore[arg-type]
            credentials=None,  # type: ignore[arg-type]
            authorizer=self.acls,
            audit=self.audit,
            quotas=self.quotas,
            producer_ids=ProducerIds(self.metadata),
            settings=config,
            reactor=reactor,
            turns=turns,
            admission=Admission(1000, 1000, self.limits.in_flight_bytes),
            now_ms=now_ms,
            partitions=self.partitions,
            publishers=Publishers(reactor, placement, self.peers, is_global=False),
        )
        self.ports: list[Any] = []
        self.factories: list[Any] = []
        await self._listen(
            InternalFactory, KafkaSettings(), f"unix:{self.place / f'{self.index + 1}.sock'}:lockfile=0"
        )
        mega, cursus = self.settings
        self.mega_port = await self._listen(MegaFactory, mega, _tcp(self.mega_port))
        self.cursus_port = await self._listen(CursusFactory, cursus, _tcp(self.cursus_port))

    async def _listen(self, factory: Any, settings: Any, endpoint: str) -> int:
        made = factory(self.broker, settings, Listener("x", "default", HostPort("localhost", 0)))
        over = self.direct if endpoint.startswith("tcp") else reactor
        port = await serverFromString(over, endpoint).listen(made)
        self.ports.append(port)
        self.factories.append(made)
        return int(getattr(port.getHost(), "port", 0))

    async def stop(self, seconds: float = 0.0) -> None:
        """End it, after so long at most for what it has taken; with none, its connections just end."""
        for port in self.ports:
            await port.stopListening()
        for factory in self.factories:
            await factory.drain(seconds)
        self.partitions.stop()
        self.peers.stop()
        await self.topics.stopService()
        self.dedup._journal_turn()
        await self.store.close()


class _NoShares:
    def connection_closed(self, owner: object) -> None:
        """There are none."""


def _tcp(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"


class TwoWorkersCase(TestCase):
    """Starts two; blocking clients run in threads through ``aside``."""

    topics: dict[str, int] = {}
    mega_settings = MegaSettings()
    cursus_settings = CursusSettings()
    limits = LimitSettings(in_flight_bytes=64 << 20)
    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        self.directory = tempfile.TemporaryDirectory()
        metadata = MemoryMetadataStore(reactor)
        metadata.open()
        place = pathlib.Path(self.directory.name)
        settings = (self.mega_settings, self.cursus_settings)
        self.workers = [Worker(place, index, metadata, settings, self.limits) for index in range(2)]
        await self.workers[0].start()
        for name, partitions in self.topics.items():
            await self.workers[0].topics.create(name, partitions)
        await self.workers[1].start()

    async def tearDown(self) -> None:  # type: ignore[override]
        for worker in self.workers:
            await worker.stop()
        self.directory.cleanup()

    def aside(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Run a blocking client beside the workers."""
        return deferToThread(function, *args)
