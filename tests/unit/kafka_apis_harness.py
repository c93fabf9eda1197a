"""What the tests of Kafka's request handlers share: a core on memory stores, asked through the codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header
from megabroker.codec.records import build
from megabroker.config.overlay import overlaid
from megabroker.config.schema import Config, TopicSettings
from megabroker.core.acls import Acls, AclSettings, GroupPermissions
from megabroker.core.audit import Audit
from megabroker.core.broker import Broker
from megabroker.core.broker_configs import BrokerConfigs
from megabroker.core.client_metrics import ClientMetrics
from megabroker.core.credentials import Credentials
from megabroker.core.groups import GroupService, GroupSettings
from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.partitions import PartitionSettings
from megabroker.core.placement import SinglePlacement
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.quotas.service import Quotas
from megabroker.core.shares import ShareService, ShareSettings
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TopicLimits, TopicService
from megabroker.core.transactions import TransactionService, TransactionSettings
from megabroker.model import ANONYMOUS, Acks, HostPort, Listener, Node, Topic, TopicPartition
from megabroker.ops.logs import LogThreshold
from megabroker.protocols.kafka.consumer_metadata import subscribed_topics
from megabroker.protocols.kafka.dispatch import SERVED, Context
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.storage.memory import MemoryLogStore
from megabroker.storage.metadata.memory import MemoryMetadataStore

NOW_MS = 1_700_000_000_000


def versions(key: int) -> Iterator[int]:
    """Yield every version served of an API."""
    row = SERVED[key]
    yield from range(row.first_version, row.last_version + 1)


class ApiCase(SynchronousTestCase):
    """A broker of one node in memory; requests and answers go through their encoding at every step."""

    topic_settings = TopicSettings()
    limits = TopicLimits()
    transaction_settings = TransactionSettings()
    share_settings = ShareSettings()
    acl_settings = AclSettings()
    principal = ANONYMOUS

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_MS / 1000)
        self.metadata = MemoryMetadataStore(self.clock)
        self.metadata.open()
        self.config = attrs.evolve(Config(), topics=self.topic_settings)
        listeners = (Listener("kafka", "PLAIN", HostPort("broker.test", 9092)),)
        self.placement = SinglePlacement(Node(1, "rack-a", listeners))
        self.topics = TopicService(
            store=MemoryLogStore(partial(self.clock.callLater, 0)),
            metadata=self.metadata,
            placement=self.placement,
            configs=TopicConfigs(self.topic_settings.topic_configs()),
            limits=self.limits,
            partition_settings=PartitionSettings(),
            reactor=self.clock,
            now_ms=self.now_ms,
        )
        self.topics.load()
        self.threshold = LogThreshold()
        self.broker_configs = BrokerConfigs(self.metadata, 1, self.config, self.threshold)
        self.broker_configs.load()
        self.broker_configs.changed = self.follow_configs
        self.groups = self.make_groups()
        self.groups.load()
        self.group_configs = GroupConfigs(self.metadata, self.config.group_configs())
        self.group_configs.load()
        self.shares = ShareService(
            self.clock,
            self.metadata,
            self.share_settings,
            self.topics,
            self.group_configs,
            self.groups.__contains__,
        )
        self.groups.is_share = self.shares.__contains__
        self.groups.configure(self.group_configs)
        self.topics.on_deleted(self.shares.topic_deleted)
        self.shares.load()
        producer_ids = ProducerIds(self.metadata)
        producer_ids.load()
        self.transactions = TransactionService(
            self.clock,
            self.metadata,
            self.transaction_settings,
            self.topics,
            self.groups.transactional,
            producer_ids,
        )
        self.transactions.load()
        self.quotas = Quotas(self.metadata, self.now_ms)
        self.audit = Audit(self.clock.seconds)
        self.acls = Acls(self.metadata, self.acl_settings, self.audit, self.quotas.renew)
        if self.acls.enabled:
            permits = GroupPermissions(self.acls)
            self.groups.restrict(permits.sees, permits.may_not_create, lambda: self.quotas.generation)
        self.broker = Broker(
            cluster_id="C" * 22,
            topics=self.topics,
            groups=self.groups,
            shares=self.shares,
            transactions=self.transactions,
            dedup=None,  # type: ignore[arg-type]
            placement=self.placement,
            configs=self.broker_configs,
            client_metrics=ClientMetrics(self.metadata),
            credentials=Credentials(self.metadata),
            authorizer=self.acls,
            audit=self.audit,
            quotas=self.quotas,
            producer_ids=producer_ids,
            settings=self.config,
            reactor=self.clock,
            turns=None,
            admission=None,
            now_ms=self.now_ms,
        )

    def follow_configs(self) -> None:
        """Put what was changed in force, as the running broker does."""
        defaults = self.broker_configs.topic_defaults()
        self.broker.settings = overlaid(self.config, defaults, self.broker_configs.keys())
        topic_configs = self.broker.settings.topics.topic_configs()
        self.topics.follow(TopicConfigs({**topic_configs, **defaults}), PartitionSettings())

    def make_groups(self) -> GroupService:
        """Make the groups anew over the same store."""
        return GroupService(
            self.clock,
            self.metadata,
            GroupSettings(),
            self.partition_exists,
            subscribed_topics=subscribed_topics,
            topics=self.topics.all,
            create_topic=self.topics.create,
        )

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def partition_exists(self, partition: TopicPartition) -> bool:
        topic = self.topics.get(partition.topic)
        return topic is not None and 0 <= partition.partition < topic.partitions

    def turn(self) -> None:
        """Let everything that is under way come to rest; a tick of the timers passes each time."""
        for _ in range(6):
            self.clock.advance(0.01)

    def begin(self, request: Message, version: int, client_id: str = "tester") -> Deferred[Any]:
        """Send a request; the Deferred fires with the answer as the client decodes it."""
        key = type(request).__schema__.key
        served = SERVED[key]
        data = request.encode(version)
        decoded, end = served.api.request.decode(data, version)
        assert end == len(data)
        context = Context(
            self.broker, KafkaSettings(), key, version, client_id, "127.0.0.1", "PLAIN", self.principal
        )
        answer: Any = served.carry_out(context, decoded)
        if isinstance(answer, Message):
            waiting: Deferred[Any] = Deferred()
            waiting.callback(answer)
        elif isinstance(answer, Deferred):
            waiting = answer
        else:
            waiting = ensureDeferred(answer)

        def over_the_wire(response: Message) -> Message:
            encoded = response.encode(version)
            back, position = type(response).decode(encoded, version)
            self.assertEqual(position, len(encoded))
            return back

        return waiting.addCallback(over_the_wire)

    def ask(self, request: Message, version: int, client_id: str = "tester") -> Any:
        """Send a request and return the answer, which must come without any wait."""
        waiting = self.begin(request, version, client_id)
        self.turn()
        return self.successResultOf(waiting)

    def at_every_version(self, key: int, check: Callable[[int], None]) -> None:
        for version in versions(key):
            with self.subTest(version=version):
                check(version)

    def create(self, name: str, partitions: int = 1, **configs: str) -> Topic:
        """Create a topic; configuration names have underscores for dots."""
        made = self.topics.create(
            name, partitions, {key.replace("_", "."): value for key, value in configs.items()}
        )
        self.turn()
        return self.successResultOf(made)

    def produce(self, topic: str, *timestamps: int, index: int = 0) -> None:
        """Store one batch with a record per timestamp."""
        data = build([(None, b"value", (), timestamp) for timestamp in timestamps])
        heard: list[Any] = []
        partition = self.topics.partition(topic, index)
        partition.append(read_header(data, 0, len(data)), data, Acks.DURABLE, heard.append)
        self.turn()
        self.assertEqual(heard, [None])
