"""What one of several processes of a broker has to do with the others: whom it asks, and who asks it.

Owns the wiring: the Unix sockets they meet at, who makes changes for all, and how these are followed. A
broker of one process needs none of it and does not import it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from twisted.internet import unix
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IListeningPort

from megabroker.config.schema import Config
from megabroker.core.broker_configs import BROKER_CONFIGS_TABLE
from megabroker.core.client_metrics import CLIENT_METRICS_TABLE
from megabroker.core.credentials import SCRAM_TABLE
from megabroker.core.following import FollowedStore, Followers
from megabroker.core.groups.configs import GROUP_CONFIGS_TABLE
from megabroker.core.quotas.service import QUOTAS_TABLE
from megabroker.core.topics import TOPICS_TABLE, TopicService
from megabroker.interfaces import IBroker, IMetadataStore
from megabroker.model import PEERS, HostPort, Listener, Worker
from megabroker.protocols.kafka.controlling import ask_controller, tell_follower
from megabroker.protocols.kafka.peers import Peers
from megabroker.protocols.kafka.protocol import InternalFactory
from megabroker.protocols.kafka.settings import KafkaSettings

__all__ = ["FOLLOWED_TABLES", "Peering"]

_CONNECT_SECONDS: Final = 5
_BACKLOG: Final = 128

FOLLOWED_TABLES: Final = frozenset(
    {
        BROKER_CONFIGS_TABLE,
        TOPICS_TABLE,
        QUOTAS_TABLE,
        SCRAM_TABLE,
        CLIENT_METRICS_TABLE,
        GROUP_CONFIGS_TABLE,
    }
)
"""What the controller writes and every process goes by."""


class Peering:
    """See the module.

    Attributes:
        peers: asks the others.
    """

    def __init__(self, worker: Worker, config: Config, reactor: Any) -> None:
        self._worker = worker
        self._reactor = reactor
        self._places = {node.id: path for node, path in zip(worker.nodes, worker.sockets, strict=True)}
        self.peers = Peers(reactor, self._endpoint, config.limits.max_request_bytes)
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

    def listen(self, broker: IBroker, config: Config) -> tuple[IListeningPort, Any]:
        """Take the requests of the others; return the port and its factory."""
        path = self._places[self._worker.me.id]
        settings = config.protocols.get("kafka")
        if not isinstance(settings, KafkaSettings):
            settings = KafkaSettings()
        factory = InternalFactory(broker, settings, Listener("kafka", "internal", HostPort(path, 0)))
        port = unix.Port._fromListeningDescriptor(  # type: ignore[no-untyped-call]
            self._reactor, self._worker.descriptors[PEERS], factory
        )
        port.mode, port.backlog = 0o600, _BACKLOG
        port.startListening()
        if self._followers is not None:
            self._reactor.callWhenRunning(self._followers.start)
        return port, factory

    def stop(self) -> None:
        """Ask nobody any more, and tell nobody."""
        if self._followers is not None:
            self._followers.stop()
        self.peers.stop()
