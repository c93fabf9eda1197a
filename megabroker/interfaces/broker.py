"""The whole core, as protocols hold it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.interfaces.deduplication import IDedup, IPublishers
from megabroker.interfaces.groups import IGroupService
from megabroker.interfaces.nodes import IErrands, IPeers, IPlacement
from megabroker.interfaces.operations import IBrokerConfigs, IClientMetrics
from megabroker.interfaces.partitions import IPartitions
from megabroker.interfaces.quotas import IQuotas
from megabroker.interfaces.security import IAuthentication, IAuthorizer, ICredentials
from megabroker.interfaces.shares import IShareService
from megabroker.interfaces.topics import ITopicService
from megabroker.interfaces.transactions import ITransactionService

__all__ = ["IBroker"]


class IBroker(Interface):
    """What a protocol gets: the whole core, knowing no wire."""

    cluster_id: str = Attribute("Identity of the cluster, 22 characters of base64.")
    topics: ITopicService = Attribute("Topics, and the partitions that this process leads.")
    partitions: IPartitions = Attribute("All partitions; the topics, where this process leads them all.")
    publishers: IPublishers | None = Attribute("Who decides about message ids; None if this process does.")
    groups: IGroupService = Attribute("Consumer groups.")
    shares: IShareService = Attribute("Share groups.")
    transactions: ITransactionService = Attribute("Transactions and producer identities.")
    dedup: IDedup = Attribute("The deduplication window.")
    placement: IPlacement = Attribute("Nodes and who leads what.")
    configs: IBrokerConfigs = Attribute("Configurations that administrators change.")
    client_metrics: IClientMetrics = Attribute("What administrators want to know of clients.")
    credentials: ICredentials = Attribute("What checks the passwords of users.")
    authentication: IAuthentication | None = Attribute("Who clients are; None where nobody asks.")
    authorizer: IAuthorizer = Attribute("Who may do what.")
    audit: Any = Attribute("Where refusals and changes are logged, ``megabroker.core.audit.Audit``.")
    quotas: IQuotas = Attribute("How much clients may use.")
    peers: IPeers | None = Attribute("The other processes of this broker; None if there are none.")
    errands: dict[str, IErrands] = Attribute("What wires carry out for other processes, by the wire's name.")
    following: Any = Attribute("What follows rows that others write, ``megabroker.core.following``.")
    settings: Any = Attribute(
        "The broker's configuration as it is in force, ``megabroker.config.schema.Config``."
    )
    reactor: Any = Attribute("The reactor or clock: time and delayed calls.")
    turns: Any = Attribute(
        "What is done once at the end of a reactor's turn, ``megabroker.net.turns.Turns``."
    )
    admission: Any = Attribute("Shared connection and memory limits, ``megabroker.net.admission.Admission``.")

    def now_ms() -> int:
        """Return the time in epoch milliseconds, from the injected clock."""

    def allocate_producer_id() -> Deferred[int]:
        """Fire with a producer id never given out before."""
