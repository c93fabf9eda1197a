"""The broker as protocols see it: the core's services held together, without behaviour of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from megabroker.core.audit import Audit
from megabroker.core.following import Following
from megabroker.core.producer_ids import ProducerIds
from megabroker.interfaces import (
    IAuthentication,
    IAuthorizer,
    IBroker,
    IBrokerConfigs,
    IClientMetrics,
    ICredentials,
    IDedup,
    IErrands,
    IGroupService,
    IPartitions,
    IPeers,
    IPlacement,
    IPublishers,
    IQuotas,
    IShareService,
    ITopicService,
    ITransactionService,
)

__all__ = ["Broker"]


@implementer(IBroker)
class Broker:
    """What every protocol is handed; see ``IBroker`` for the attributes.

    Args:
        now_ms: the time in epoch milliseconds.
        partitions: all partitions, if ``topics`` does not lead them all.
        publishers: who decides about message ids, if not ``dedup`` about all.
        authentication: who clients are; None where nobody asks.
    """

    def __init__(
        self,
        *,
        cluster_id: str,
        topics: ITopicService,
        groups: IGroupService,
        shares: IShareService,
        transactions: ITransactionService,
        dedup: IDedup,
        placement: IPlacement,
        configs: IBrokerConfigs,
        client_metrics: IClientMetrics,
        credentials: ICredentials,
        authorizer: IAuthorizer,
        audit: Audit,
        quotas: IQuotas,
        peers: IPeers | None = None,
        following: Following | None = None,
        producer_ids: ProducerIds,
        settings: Any,
        reactor: Any,
        turns: Any,
        admission: Any,
        now_ms: Callable[[], int],
        partitions: IPartitions | None = None,
        publishers: IPublishers | None = None,
        authentication: IAuthentication | None = None,
    ) -> None:
        self.partitions = topics if partitions is None else partitions
        self.publishers = publishers
        self.cluster_id = cluster_id
        self.topics = topics
        self.groups = groups
        self.shares = shares
        self.transactions = transactions
        self.dedup = dedup
        self.placement = placement
        self.configs = configs
        self.client_metrics = client_metrics
        self.credentials = credentials
        self.authentication = authentication
        self.authorizer = authorizer
        self.audit = audit
        self.quotas = quotas
        self.peers = peers
        self.errands: dict[str, IErrands] = {}
        self.following = following
        self.settings = settings
        self.reactor = reactor
        self.turns = turns
        self.admission = admission
        self._producer_ids = producer_ids
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the time in epoch milliseconds."""
        return self._now_ms()

    def allocate_producer_id(self) -> Deferred[int]:
        """Fire with a producer id never given out before; fail with StorageError."""
        return self._producer_ids.allocate()
