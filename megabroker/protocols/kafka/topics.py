"""Topics and nodes as Kafka clients are told of them: what several requests need alike.

Owns no state. Never changes a topic; requests that do so await the topic service themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker
from megabroker.model import NO_LEADER_EPOCH, HostPort, Node, Topic, TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError

__all__ = [
    "INTERNAL_TOPICS",
    "Place",
    "absence",
    "by_id",
    "check_assignment",
    "cluster_operations",
    "first_seen",
    "is_controller",
    "place",
    "reachable_nodes",
    "settle",
]


INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
"""Names under which Kafka keeps its own state; this broker keeps it elsewhere and never makes them."""

_NO_LEADER: Final = -1

T = TypeVar("T")


class Place(NamedTuple):
    """Who serves one partition.

    Attributes:
        error_code: LEADER_NOT_AVAILABLE when nobody does, and then ``leader`` is -1.
        offline: the replicas that do not serve.
    """

    error_code: int
    leader: int
    leader_epoch: int
    replicas: list[int]
    isr: list[int]
    offline: list[int]


def reachable_nodes(context: Context) -> dict[int, tuple[Node, HostPort]]:
    """Return by id the nodes that have an address on the client's listener."""
    found = {}
    for node in context.broker.placement.nodes():
        host, port = context.address(node)
        if port >= 0:
            found[node.id] = node, HostPort(host, port)
    return found


def place(broker: IBroker, nodes: Mapping[int, Any], topic: str, index: int) -> Place:
    """Say who serves a partition, to a client that can reach ``nodes``."""
    leader = broker.placement.leader(TopicPartition(topic, index)).id
    known = broker.topics.get(topic)
    epoch = NO_LEADER_EPOCH if known is None else known.leader_epoch
    serves = leader in nodes
    if leader == broker.placement.me.id:
        try:
            epoch = broker.topics.partition(topic, index).leader_epoch
        except BrokerError:
            serves, epoch = False, NO_LEADER_EPOCH
    replicas = [leader]
    if not serves:
        return Place(int(KafkaError.LEADER_NOT_AVAILABLE), _NO_LEADER, epoch, replicas, [], replicas)
    return Place(0, leader, epoch, replicas, replicas, [])


def by_id(broker: IBroker, topic_id: bytes) -> Topic | None:
    """Return a topic by its id as it is on the wire."""
    return broker.topics.get_by_id(UUID(bytes=bytes(topic_id)))


def absence(broker: IBroker, name: str) -> int:
    """Return the wire code for a name that no topic has: impossible, or merely unknown."""
    try:
        broker.topics.validate(name, 1, {})
    except BrokerError as error:
        if error.code is ErrorCode.INVALID_TOPIC:
            return int(KafkaError.INVALID_TOPIC_EXCEPTION)
    return int(KafkaError.UNKNOWN_TOPIC_OR_PARTITION)


def cluster_operations(context: Context) -> int:
    """Return what the client may do with the cluster, as bits; nothing if it may not even see it."""
    if not context.may(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME):
        return 0
    return context.operations(ResourceType.CLUSTER, CLUSTER_NAME)


def is_controller(broker: IBroker) -> bool:
    """Whether this node takes topic changes."""
    return broker.placement.controller().id == broker.placement.me.id


def check_assignment(broker: IBroker, name: str, index: int, broker_ids: Sequence[int]) -> None:
    """Accept a partition placed by hand only where it would be placed anyway.

    Raises:
        RequestError: INVALID_REPLICA_ASSIGNMENT.
    """
    leader = broker.placement.leader(TopicPartition(name, index)).id
    if list(broker_ids) != [leader]:
        raise RequestError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"partition {index}: expected the one replica [{leader}], not {str(list(broker_ids[:10]))[:100]}",
        )


def first_seen(values: Iterable[T]) -> tuple[list[T], set[T]]:
    """Return the distinct values in the order of their first appearance, and those that came again."""
    distinct: dict[T, None] = {}
    again = set()
    for value in values:
        if value in distinct:
            again.add(value)
        distinct[value] = None
    return list(distinct), again


async def settle(changes: Sequence[Deferred[T]]) -> list[T | BrokerError]:
    """Wait for all of ``changes``; return what each came to, a BrokerError for those refused."""
    outcomes: list[T | BrokerError] = []
    for good, result in await DeferredList(changes, consumeErrors=True):
        if good:
            outcomes.append(result)
        elif isinstance(result.value, BrokerError):  # type: ignore[attr-defined]
            outcomes.append(result.value)  # type: ignore[attr-defined]
        else:
            result.raiseException()  # type: ignore[attr-defined]
    return outcomes
