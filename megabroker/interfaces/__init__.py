"""Every zope Interface of the broker: the seams along which it can be extended.

Owns the contracts between floors. Protocols speak to ``IBroker``; the core speaks to ``ILogStore``,
``IMetadataStore``, ``IWindowStore`` and ``IPlacement``; third parties provide ``IProtocolPlugin``.
Unless a docstring says otherwise, everything here is called in, and calls back in, the reactor thread.

Each subject has a module; whoever uses an interface imports it from here.
"""

from __future__ import annotations

from megabroker.interfaces.broker import IBroker
from megabroker.interfaces.deduplication import IDedup, IPublisher, IPublishers
from megabroker.interfaces.groups import IConsumerMetadata, IGroupService
from megabroker.interfaces.nodes import IErrands, IPeers, IPlacement
from megabroker.interfaces.operations import IBrokerConfigs, IClientMetrics, ILoggers, IMetrics
from megabroker.interfaces.partitions import IPartition, IPartitions, IRemotePartition
from megabroker.interfaces.plugins import IManagedFactory, IProtocolPlugin
from megabroker.interfaces.quotas import IMeter, IMutations, IQuotas
from megabroker.interfaces.runs import IRun, ITakesRuns
from megabroker.interfaces.security import IAuthentication, IAuthorizer, ICredentials
from megabroker.interfaces.shares import IShareConsumer, ISharePeers, IShareService
from megabroker.interfaces.storage import (
    ILog,
    ILogListener,
    ILogStore,
    IMetadataStore,
    IProducerState,
    IWindowStore,
)
from megabroker.interfaces.topics import ITopicService
from megabroker.interfaces.transactions import ITransactionPeers, ITransactionService

__all__ = [
    "IAuthentication",
    "IAuthorizer",
    "IBroker",
    "IBrokerConfigs",
    "IClientMetrics",
    "IConsumerMetadata",
    "ICredentials",
    "IDedup",
    "IErrands",
    "IGroupService",
    "ILog",
    "ILogListener",
    "ILogStore",
    "ILoggers",
    "IManagedFactory",
    "IMetadataStore",
    "IMeter",
    "IMetrics",
    "IMutations",
    "IPartition",
    "IPartitions",
    "IPeers",
    "IPlacement",
    "IProducerState",
    "IProtocolPlugin",
    "IPublisher",
    "IPublishers",
    "IQuotas",
    "IRemotePartition",
    "IRun",
    "IShareConsumer",
    "ISharePeers",
    "IShareService",
    "ITakesRuns",
    "ITopicService",
    "ITransactionPeers",
    "ITransactionService",
    "IWindowStore",
]
