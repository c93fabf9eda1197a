"""The core of one process put together: its parts made, joined, loaded, and kept to the configuration.

Owns which part knows which. Knows no wire, listens nowhere, opens no store.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from megabroker.config.overlay import overlaid
from megabroker.config.schema import Config
from megabroker.core.acls import ACLS_TABLE, Acls, GroupPermissions
from megabroker.core.audit import Audit
from megabroker.core.broker import Broker
from megabroker.core.broker_configs import BROKER_CONFIGS_TABLE, BrokerConfigs
from megabroker.core.client_metrics import CLIENT_METRICS_TABLE, ClientMetrics
from megabroker.core.credentials import SCRAM_TABLE, Credentials
from megabroker.core.dedup import DeduplicationService
from megabroker.core.following import Following
from megabroker.core.groups.configs import GROUP_CONFIGS_TABLE, GroupConfigs
from megabroker.core.groups.service import GroupService
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.quotas.service import QUOTAS_TABLE, Quotas
from megabroker.core.shares import ShareService
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TOPICS_TABLE, TopicService
from megabroker.core.transactions import TransactionService
from megabroker.interfaces import IAuthentication, IPartitions, IPeers, IPlacement, IPublishers
from megabroker.model import NAMED_PRODUCERS, TopicPartition
from megabroker.net.admission import Admission
from megabroker.net.turns import Turns
from megabroker.net.unread import Unread
from megabroker.ops.logs import LogThreshold
from megabroker.service_settings import (
    acl_settings,
    dedup_settings,
    group_settings,
    partition_settings,
    share_settings,
    token_rules,
    topic_limits,
    transaction_settings,
)
from megabroker.stores import Stores, cleaner_settings, new_cluster_id

if TYPE_CHECKING:
    from megabroker.core.authentication.tokens import Tokens
    from megabroker.core.transactions.elsewhere import RemoteTransactions
    from megabroker.peering import Peering

__all__ = ["Core"]

_log = Logger()


class Core:
    """See the module.

    Args:
        config: checked configuration.
        stores: what all is kept in, open.
        peering: the other processes of this broker; None if there are none.
        threshold: the log's threshold.
        run: calls a function in a thread and fires with its result.
        applied: called whenever another configuration has been put in force.

    Attributes:
        config: what the configuration file says.
        broker: all of it, as protocols hold it.
    """

    def __init__(
        self,
        config: Config,
        stores: Stores,
        placement: IPlacement,
        peering: Peering | None,
        turns: Turns,
        reactor: Any,
        now_ms: Callable[[], int],
        threshold: LogThreshold,
        run: Callable[..., Any],
        applied: Callable[[], None],
    ) -> None:
        self.config = config
        self._store, self._metadata, journal = stores
        self._placement = placement
        self._peering = peering
        self._reactor = reactor
        self._now_ms = now_ms
        self._run = run
        self._applied = applied
        metadata = self._metadata
        self._client_metrics = ClientMetrics(metadata)
        self._credentials = Credentials(metadata)
        self._quotas = Quotas(metadata, lambda: int(reactor.seconds() * 1000))
        self._audit = Audit(reactor.seconds)
        self._acls = Acls(metadata, acl_settings(config), self._audit, self._quotas.renew)
        self._configs = BrokerConfigs(metadata, config.node.id, config, threshold)
        self.topics = TopicService(
            store=self._store,
            metadata=metadata,
            placement=placement,
            configs=TopicConfigs(config.topics.topic_configs()),
            limits=topic_limits(config),
            partition_settings=partition_settings(config),
            reactor=reactor,
            now_ms=now_ms,
            run=run,
        )
        self.dedup = DeduplicationService(dedup_settings(config), journal, self._topic_id, reactor, now_ms)
        self.group_configs = GroupConfigs(metadata, config.group_configs())
        self._producer_ids = ProducerIds(metadata, config.producers.id_block_size)
        self._make_groups()
        self.transactions = self._make_transactions()
        self.broker = self._make_broker(turns)

    # --- making -------------------------------------------------------------------------------------

    def _make_groups(self) -> None:
        topics, peering = self.topics, self._peering
        self.groups = groups = GroupService(
            self._reactor,
            self._metadata,
            group_settings(self.config),
            self._partition_exists,
            topics=topics.all,
            create_topic=topics.create,
        )
        topics.on_deleted(groups.topic_deleted)
        self.shares = ShareService(
            self._reactor,
            self._metadata,
            share_settings(self.config),
            topics,
            self.group_configs,
            groups.__contains__,
            None if peering is None else peering.shares(topics, self._placement),
            coordinates=peering is None or peering.coordinates,
        )
        groups.is_share = self.shares.__contains__
        groups.configure(self.group_configs)
        if self._acls.enabled:
            permits = GroupPermissions(self._acls)
            groups.restrict(permits.sees, permits.may_not_create, lambda: self._quotas.generation)
        topics.on_deleted(self.shares.topic_deleted)

    def _make_transactions(self) -> TransactionService | RemoteTransactions:
        peering, ids = self._peering, self._producer_ids
        if peering is not None and not peering.coordinates:
            return peering.led_here(self._metadata, self.topics, ids, self._placement)
        return TransactionService(
            self._reactor,
            self._metadata,
            transaction_settings(self.config),
            self.topics,
            self.groups.transactional,
            ids,
            None if peering is None else peering.transactions(self._placement),
        )

    def _make_broker(self, turns: Turns) -> Broker:
        config = self.config
        peers: IPeers | None = None
        partitions: IPartitions = self.topics
        publishers: IPublishers | None = None
        if self._peering is not None:
            self._peering.share_topics(self.topics)
            peers = self._peering.peers
            partitions = self._peering.partitions(self.topics, self._placement)
            publishers = self._peering.publishers(self._placement, dedup_settings(config))
        return Broker(
            cluster_id=self._cluster_id(),
            topics=self.topics,
            groups=self.groups,
            shares=self.shares,
            transactions=self.transactions,
            dedup=self.dedup,
            placement=self._placement,
            configs=self._configs,
            client_metrics=self._client_metrics,
            credentials=self._credentials,
            authentication=self._authentication(),
            authorizer=self._acls,
            audit=self._audit,
            quotas=self._quotas,
            partitions=partitions,
            publishers=publishers,
            peers=peers,
            following=self._following(),
            producer_ids=self._producer_ids,
            settings=config,
            reactor=self._reactor,
            turns=turns,
            admission=Admission(
                config.limits.max_connections,
                config.limits.max_connections_per_address,
                config.limits.in_flight_bytes,
                Unread(config.limits.unread_answer_bytes, self._reactor.seconds),
            ),
            now_ms=self._now_ms,
        )

    def _authentication(self) -> IAuthentication | None:
        """Return who clients are, if some listener asks for it."""
        config = self.config
        if not config.authenticates:
            return None
        from megabroker.core.authentication import Authentication

        return Authentication(
            self._credentials,
            lambda: int(self.config.security.refusal_delay_ms),
            self._reactor,
            self._run,
            self._tokens() if config.takes_tokens else None,
        )

    def _tokens(self) -> Tokens:
        from megabroker.core.authentication.tokens import KeySet, Tokens, read_keys

        wanted = self.config.security.tokens
        assert wanted.keys is not None
        keys = KeySet(
            partial(read_keys, wanted.keys), wanted.refresh_ms / 1000, self._run, self._reactor.seconds
        )
        return Tokens(keys, lambda: token_rules(self.config), self._now_ms)

    def _following(self) -> Following:
        """Return what this process does when another has changed rows."""

        def anew(load: Callable[[], None], applied: Callable[[], None] | None = None) -> Any:
            def follow(keys: Any) -> None:
                load()
                if applied is not None:
                    applied()

            return follow

        return Following(
            {
                BROKER_CONFIGS_TABLE: anew(self._configs.load, self.apply),
                TOPICS_TABLE: self.topics.catch_up,
                QUOTAS_TABLE: anew(self._quotas.load),
                SCRAM_TABLE: anew(self._credentials.load),
                ACLS_TABLE: anew(self._acls.load),
                CLIENT_METRICS_TABLE: anew(self._client_metrics.load),
                GROUP_CONFIGS_TABLE: anew(self.group_configs.load),
            }
        )

    def _cluster_id(self) -> str:
        """Return what the data directory says, or for a broker in memory something new."""
        known: str | None = getattr(self._store, "cluster_id", None)
        return known or new_cluster_id()

    def _topic_id(self, name: str) -> Any:
        topic = self.topics.get(name)
        return None if topic is None else topic.id

    def _partition_exists(self, partition: TopicPartition) -> bool:
        topic = self.topics.get(partition.topic)
        return topic is not None and 0 <= partition.partition < topic.partitions

    # --- loading and following ----------------------------------------------------------------------

    def load(self, opening: Callable[[int, int], None] | None = None) -> None:
        """Read all that is kept, and open the logs. Blocking.

        Args:
            opening: told how many logs are open, and of how many.

        Raises:
            StorageError: something cannot be read.
        """
        self._client_metrics.load()
        self._credentials.load()
        self._acls.load()
        self._quotas.load()
        self._configs.load()
        self._configs.changed = self.apply
        self.apply()
        coordinates = self._peering is None or self._peering.coordinates
        if not self._acls.has_administrator and coordinates:
            _log.warn("nobody can make access rules: {warning}", warning=self.config.security.warning)
        self._producer_ids.load()
        self.topics.load(opening)
        self.dedup.load(self._decides())
        self.group_configs.load()
        if coordinates:
            self.groups.load()
        self.shares.load()
        self.transactions.load()
        if not getattr(self._store, "was_clean", True):
            epochs = self.topics.producer_epochs()
            self._producer_ids.heed(max((one for one in epochs if one < NAMED_PRODUCERS), default=-1))
            if isinstance(self.transactions, TransactionService):
                self.transactions.heed(epochs)

    def _decides(self) -> Callable[[int, int], bool] | None:
        """Return what tells whether this process decides about a message's id; None where it always does."""
        publishers = self.broker.publishers
        if publishers is None:
            return None
        names = self.dedup.scope_names(topic.name for topic in self.topics.all())

        def is_mine(scope: int, message_id: int) -> bool:
            name = names.get(scope)
            return name is not None and publishers.elsewhere(name) is None

        return is_mine

    def follow(self, fresh: Config) -> None:
        """Put another configuration file in force, of which nothing needs a restart."""
        self.config = self._configs.file = fresh
        self.apply()

    def apply(self) -> None:
        """Put in force what the file says and, stronger, what administrators have set."""
        defaults = self._configs.topic_defaults()
        config = overlaid(self.config, defaults, self._configs.keys())
        self.broker.settings = config
        self._acls.configure(acl_settings(config))
        self.topics.follow(
            TopicConfigs({**config.topics.topic_configs(), **defaults}), partition_settings(config)
        )
        self.topics.limits = topic_limits(config)
        self._store.cleaner.settings = cleaner_settings(config)
        admission = self.broker.admission
        admission.max_connections = config.limits.max_connections
        admission.max_connections_per_address = config.limits.max_connections_per_address
        self._applied()
