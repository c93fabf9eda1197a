"""A broker in the test's own reactor: real files, real core, real sockets on port 0, two wires."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from megabroker.codec.batch import build, read_header, validate_produce
from megabroker.config.schema import Config, LimitSettings
from megabroker.core.acls import Acls, AclSettings
from megabroker.core.audit import Audit
from megabroker.core.broker import Broker
from megabroker.core.dedup import DeduplicationService
from megabroker.core.dedup import DedupSettings as CoreDedupSettings
from megabroker.core.partitions import PartitionSettings
from megabroker.core.placement import SinglePlacement
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.quotas.service import Quotas
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TopicLimits, TopicService
from megabroker.model import Acks, HostPort, Listener, Node
from megabroker.net.admission import Admission
from megabroker.net.transport import DirectReactor
from megabroker.net.turns import Turns
from megabroker.net.unread import Unread
from megabroker.protocols.cursus.factory import CursusFactory
from megabroker.protocols.cursus.settings import CursusSettings
from megabroker.protocols.mega.factory import MegaFactory
from megabroker.protocols.mega.settings import MegaSettings
from megabroker.storage.metadata.memory import MemoryMetadataStore
from megabroker.storage.store import LocalLogStore
from megabroker.storage.window import MemoryWindowStore

reactor: Any = global_reactor


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class BrokerCase(TestCase):
    """Starts a broker; blocking clients run in threads through ``aside``."""

    mega_settings = MegaSettings()
    cursus_settings = CursusSettings()
    config = Config()
    partition_settings = PartitionSettings()
    direct = True
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.directory = tempfile.TemporaryDirectory()
        turns = Turns(reactor)
        self.direct_reactor = DirectReactor(reactor, turns)
        self.store = LocalLogStore(self.directory.name, reactor, reactor.callFromThread)
        self.store.open()
        metadata = MemoryMetadataStore(reactor)
        metadata.open()
        placement = SinglePlacement(Node(1))
        self.topics = TopicService(
            store=self.store,
            metadata=metadata,
            placement=placement,
            configs=TopicConfigs(),
            limits=TopicLimits(),
            partition_settings=self.partition_settings,
            reactor=reactor,
            now_ms=now_ms,
        )
        self.topics.load()
        self.topics.startService()

        def topic_id(name: str) -> Any:
            topic = self.topics.get(name)
            return None if topic is None else topic.id

        self.dedup = DeduplicationService(CoreDedupSettings(), MemoryWindowStore(), topic_id, reactor, now_ms)
        limits = self.config.limits
        self.quotas = Quotas(metadata, now_ms)
        self.audit = Audit(reactor.seconds)
        self.acls = Acls(metadata, AclSettings(), self.audit, self.quotas.renew)
        self.broker = Broker(
            cluster_id="A" * 22,
            topics=self.topics,
            groups=None,  # type: ignore[arg-type]
            shares=None,  # type: ignore[arg-type]
            transactions=None,  # type: ignore[arg-type]
            dedup=self.dedup,
            placement=placement,
            configs=None,  # type: ignore[arg-type]
            client_metrics=None,  # type: ignore[arg-type]
            credentials=None,  # type: ignore[arg-type]
            authorizer=self.acls,
            audit=self.audit,
            quotas=self.quotas,
            producer_ids=ProducerIds(metadata),
            settings=self.config,
            reactor=reactor,
            turns=turns,
            admission=Admission(
                limits.max_connections,
                limits.max_connections_per_address,
                limits.in_flight_bytes,
                Unread(limits.unread_answer_bytes, reactor.seconds),
            ),
            now_ms=now_ms,
        )
        self.factories: list[Any] = []
        self.ports: list[Any] = []
        self.mega_port = await self.listen(MegaFactory, self.mega_settings, "mega")
        self.cursus_port = await self.listen(CursusFactory, self.cursus_settings, "cursus")

    async def listen(self, factory: Any, settings: Any, name: str) -> int:
        made = factory(self.broker, settings, Listener(name, "default", HostPort("localhost", 0)))
        endpoint = serverFromString(
            self.direct_reactor if self.direct else reactor, "tcp:0:interface=127.0.0.1"
        )
        port = await endpoint.listen(made)
        self.factories.append(made)
        self.ports.append(port)
        return int(port.getHost().port)

    async def tearDown(self) -> None:  # type: ignore[override]
        for port in self.ports:
            await port.stopListening()
        for factory in self.factories:
            await factory.drain(5)
        await self.topics.stopService()
        await self.store.close()
        self.directory.cleanup()

    def aside(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Run a blocking client beside the broker."""
        return deferToThread(function, *args)

    async def write_batch(
        self, topic: str, values: list[bytes | None], *, partition: int = 0, **options: Any
    ) -> int:
        """Write one batch as a Kafka client would; return its base offset once it is stored."""
        data = build([(b"key", value, [("h", b"v")], 1000 + i) for i, value in enumerate(values)], **options)
        stored: Deferred[Any] = Deferred()
        if options.get("attributes", 0) & 32:
            where = self.topics.partition(topic, partition)
            base = where.log.append(read_header(data, 0, len(data)), data, 0, None)
            await where.log.flush()
            return base
        base = self.topics.partition(topic, partition).append(
            validate_produce(data), data, Acks.DURABLE, stored.callback
        )
        self.assertIsNone(await stored)
        return base


def with_limits(**limits: Any) -> Config:
    """Return a configuration with some limits changed."""
    return attrs.evolve(Config(), limits=attrs.evolve(LimitSettings(), **limits))
