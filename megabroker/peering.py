"""What one of several processes of a broker has to do with the others: whom it asks, and who asks it.

Owns the wiring: the Unix sockets they meet at, who makes changes for all, and how these are followed. A
broker of one process needs none of it and does not import it.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, Final

from twisted.internet import unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IListeningPort

from megabroker.config.schema import Config
from megabroker.core.acls import ACLS_TABLE
from megabroker.core.broker_configs import BROKER_CONFIGS_TABLE
from megabroker.core.client_metrics import CLIENT_METRICS_TABLE
from megabroker.core.credentials import SCRAM_TABLE
from megabroker.core.dedup import DedupScope, DedupSettings
from megabroker.core.following import FollowedStore, Followers
from megabroker.core.groups.configs import GROUP_CONFIGS_TABLE
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.quotas.service import QUOTAS_TABLE
from megabroker.core.timers import TimerWheel
from megabroker.core.topics import TOPICS_TABLE, TopicService
from megabroker.core.transactions.elsewhere import RemoteTransactions
from megabroker.interfaces import IBroker, IMetadataStore, IPlacement
from megabroker.model import PEERS, HostPort, Listener, Worker
from megabroker.protocols.kafka.controlling import ask_controller, longest_bytes, tell_follower
from megabroker.protocols.kafka.peers import Peers
from megabroker.protocols.kafka.protocol import InternalFactory
from megabroker.protocols.kafka.publishers import Publishers
from megabroker.protocols.kafka.remote_partitions import AllPartitions
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.protocols.kafka.share_peers import SharePeers
from megabroker.protocols.kafka.transaction_peers import TransactionPeers

__all__ = ["FOLLOWED_TABLES", "Peering"]

_CONNECT_SECONDS: Final = 5
_BACKLOG: Final = 128

FOLLOWED_TABLES: Final = frozenset(
    {
        BROKER_CONFIGS_TABLE,
        TOPICS_TABLE,
        QUOTAS_TABLE,
        SCRAM_TABLE,
        ACLS_TABLE,
        CLIENT_METRICS_TABLE,
        GROUP_CONFIGS_TABLE,
    }
)
"""What the controller writes and every process goes by."""


class Peering:
    """See the module.

    Attributes:
        peers: asks the others.
        factory: has the connections of the others, once they are listened for.
    """

    factory: InternalFactory

    def __init__(self, worker: Worker, config: Config, reactor: Any) -> None:
        self._worker = worker
        self._reactor = reactor
        self._places = {node.id: path for node, path in zip(worker.nodes, worker.sockets, strict=True)}
        self.peers = Peers(reactor, self._endpoint, longest_bytes(config.limits.max_request_bytes))
        self._partitions: AllPartitions | None = None
        self._followers: Followers | None = None
        if worker.index == 0:
            others = [node.id for node in worker.nodes if node is not worker.me]
            self._followers = Followers(reactor, others, partial(tell_follower, self.peers))

    @property
    def coordinates(self) -> bool:
        """Whether this process coordinates groups and transactions, besides what all do."""
        return self._worker.index == 0

    def _endpoint(self, node_id: int) -> Any:
        return UNIXClientEndpoint(self._reactor, self._places[node_id], timeout=_CONNECT_SECONDS)  # type: ignore[no-untyped-call]

    def followed(self, metadata: IMetadataStore) -> IMetadataStore:
        """Return the store through which this process writes."""
        if self._followers is None:
            return metadata
        return FollowedStore(metadata, self._followers, FOLLOWED_TABLES)

    def share_topics(self, topics: TopicService) -> None:
        """Have the controller change topics, and all processes follow."""
        if self._followers is None:
            topics.controller = partial(ask_controller, self.peers, self._worker.nodes[0].id)
        else:
            topics.followed = self._followers.followed

    def transactions(self, placement: IPlacement) -> TransactionPeers:
        """Return how transactions reach the partitions and the coordinator of others."""
        return TransactionPeers(self._reactor, self.peers, placement)

    def led_here(
        self, metadata: IMetadataStore, topics: TopicService, ids: ProducerIds, placement: IPlacement
    ) -> RemoteTransactions:
        """Return transactions as who does not coordinate them has them."""
        peers = self.transactions(placement)
        found = RemoteTransactions(TimerWheel(self._reactor), metadata, topics, ids, peers)
        topics.on_deleted(found.topic_deleted)
        return found

    def shares(self, topics: TopicService, placement: IPlacement) -> SharePeers:
        """Return how share groups reach their coordinator and the leaders."""
        return SharePeers(self.peers, placement, topics)

    def partitions(self, topics: TopicService, placement: IPlacement) -> AllPartitions:
        """Return all partitions, wherever they are led."""
        found = self._partitions = AllPartitions(self._reactor, topics, placement, self.peers)
        topics.on_deleted(found.topic_deleted)
        return found

    def publishers(self, placement: IPlacement, dedup: DedupSettings) -> Publishers:
        """Return who decides about the ids of messages."""
        is_global = dedup.scope is DedupScope.GLOBAL
        return Publishers(self._reactor, placement, self.peers, is_global=is_global)

    def listen(self, broker: IBroker, config: Config) -> None:
        """Take the requests of the others."""
        path = self._places[self._worker.me.id]
        settings = config.protocols.get("kafka")
        if not isinstance(settings, KafkaSettings):
            settings = KafkaSettings()
        listener = Listener("kafka", "internal", HostPort(path, 0))
        self.factory = InternalFactory(broker, settings, listener)
        descriptor = self._worker.descriptors[PEERS]
        port = unix.Port._fromListeningDescriptor(self._reactor, descriptor, self.factory)  # type: ignore[no-untyped-call]
        os.close(descriptor)  # it was duplicated
        port.mode, port.backlog = 0o600, _BACKLOG
        port.startListening()
        self._port: IListeningPort = port
        if self._followers is not None:
            self._reactor.callWhenRunning(self._followers.start)

    async def _drain(self, seconds: float) -> None:
        await maybeDeferred(self._port.stopListening)
        await self.factory.drain(seconds)

    def drain(self, seconds: float) -> Deferred[None]:
        """Answer what the others have asked and take no more; fires when their connections are gone."""
        return Deferred.fromCoroutine(self._drain(seconds))

    def stop(self) -> None:
        """Ask nobody any more, and tell nobody."""
        if self._followers is not None:
            self._followers.stop()
        if self._partitions is not None:
            self._partitions.stop()
        self.peers.stop()
