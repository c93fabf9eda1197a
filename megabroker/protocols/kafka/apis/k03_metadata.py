"""Metadata (3): which nodes, topics and partitions there are.

**Behaviour.** Topics are asked for by name, by id, or all at once; each is answered once. One that does not
exist is created with the default number of partitions if the client allows that, the broker does
(``topics.auto_create``) and it is asked for by name; the answer waits for it and then shows it. A topic that
was deleted a moment ago is not created by asking: who looks whether it is gone hears that it is. Nodes
without an address on the client's listener are not shown, and partitions that nobody can serve have no leader
and LEADER_NOT_AVAILABLE. Replicas are the leader alone.

**Version notes.** 0 asks for all with an empty list, later versions with null, and an empty list gets nodes
only. Clients before 4 always allow creation. 7 adds leader epochs, 8 authorized operations, 10 topic ids
in the answer; asking by id begins with 12, before that it is INVALID_REQUEST. 13 adds an error for the
whole answer, which never happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import Topic
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import metadata
from megabroker.protocols.kafka.schema.fields import ZERO_UUID
from megabroker.protocols.kafka.topics import (
    INTERNAL_TOPICS,
    absence,
    by_id,
    cluster_operations,
    first_seen,
    place,
    reachable_nodes,
    settle,
)

__all__ = ["handle"]

_ASKING_BY_ID = 12
_HIDDEN = int(KafkaError.TOPIC_AUTHORIZATION_FAILED)

_Topic = metadata.Response.Topic
_Partition = metadata.Response.Topic.Partition


def handle(context: Context, request: metadata.Request) -> metadata.Response | Awaitable[metadata.Response]:
    """Answer now, or when the topics to be created are."""
    wanted = request.topics
    if wanted is None or (context.version == 0 and not wanted):
        nodes = reachable_nodes(context)
        return _answer(
            context,
            request,
            [
                _known(context, request, nodes, topic)
                for topic in context.broker.topics.all()
                if _sees(context, topic.name, quiet=True)
            ],
        )
    if context.version < _ASKING_BY_ID and any(
        one.name is None or bytes(one.topic_id) != ZERO_UUID for one in wanted
    ):
        code = int(KafkaError.INVALID_REQUEST)
        return metadata.Response(
            topics=[_Topic(error_code=code, name=one.name or "", topic_id=one.topic_id) for one in wanted]
        )
    keys, _ = first_seen((bytes(one.topic_id), one.name) for one in wanted)
    hidden = {name for _, name in keys if name is not None and not _sees(context, name)}
    failures = dict.fromkeys(hidden, _HIDDEN)
    missing = [name for name in _to_create(context, request, keys) if name not in hidden]
    may_not = set() if _may_create(context) else {name for name in missing if not _may_create(context, name)}
    failures.update(dict.fromkeys(may_not, _HIDDEN))
    missing = [name for name in missing if name not in may_not]
    if missing:
        return _create_and_answer(context, request, keys, missing, failures)
    return _answer(context, request, _rows(context, request, keys, failures))


def _sees(context: Context, name: str, *, quiet: bool = False) -> bool:
    return context.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=quiet)


def _may_create(context: Context, name: str | None = None) -> bool:
    """Whether the client may create a topic, or every one."""
    if name is None:
        return context.may(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, quiet=True)
    return context.may(Operation.CREATE, ResourceType.TOPIC, name)


def _to_create(
    context: Context, request: metadata.Request, keys: Sequence[tuple[bytes, str | None]]
) -> list[str]:
    broker = context.broker
    if not (request.allow_auto_topic_creation and broker.settings.topics.auto_create):
        return []
    return [
        name
        for topic_id, name in keys
        if name is not None
        and topic_id == ZERO_UUID
        and name not in INTERNAL_TOPICS
        and broker.topics.get(name) is None
        and not broker.topics.deleted_lately(name)
        and absence(broker, name) == KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    ]


async def _create_and_answer(
    context: Context,
    request: metadata.Request,
    keys: Sequence[tuple[bytes, str | None]],
    missing: Sequence[str],
    refused: Mapping[str, int],
) -> metadata.Response:
    topics = context.broker.topics
    partitions = context.broker.settings.topics.default_partitions
    outcomes = await settle([topics.create(name, partitions) for name in missing])
    failures = {
        name: kafka_error(outcome)
        for name, outcome in zip(missing, outcomes, strict=True)
        if isinstance(outcome, BrokerError) and outcome.code is not ErrorCode.TOPIC_EXISTS
    }
    failures.update(refused)
    return _answer(context, request, _rows(context, request, keys, failures))


def _rows(
    context: Context,
    request: metadata.Request,
    keys: Sequence[tuple[bytes, str | None]],
    failures: Mapping[str, int],
) -> list[_Topic]:
    broker = context.broker
    nodes = reachable_nodes(context)
    rows = []
    for topic_id, name in keys:
        if topic_id != ZERO_UUID:
            topic = by_id(broker, topic_id)
            code = int(KafkaError.UNKNOWN_TOPIC_ID)
            name = None
            if topic is not None and not _sees(context, topic.name):
                topic, code = None, _HIDDEN
        elif name is None:
            topic = None
            code = int(KafkaError.INVALID_REQUEST)
        else:
            topic = None if failures.get(name) == _HIDDEN else broker.topics.get(name)
            code = 0 if topic is not None else failures.get(name) or absence(broker, name)
        if topic is not None:
            rows.append(_known(context, request, nodes, topic))
        else:
            rows.append(
                _Topic(error_code=code, name=name, topic_id=topic_id, is_internal=name in INTERNAL_TOPICS)
            )
    return rows


def _known(context: Context, request: metadata.Request, nodes: dict[int, Any], topic: Topic) -> _Topic:
    broker = context.broker
    partitions = []
    me = broker.placement.me.id
    led = broker.topics.led(topic.name) if me in nodes else ()
    mine = [me]
    for index in range(topic.partitions):
        partition = led[index] if index < len(led) else None
        if partition is not None:
            partitions.append(
                _Partition(
                    partition_index=index,
                    leader_id=me,
                    leader_epoch=partition.leader_epoch,
                    replica_nodes=mine,
                    isr_nodes=mine,
                )
            )
            continue
        found = place(broker, nodes, topic.name, index)
        partitions.append(
            _Partition(
                error_code=found.error_code,
                partition_index=index,
                leader_id=found.leader,
                leader_epoch=found.leader_epoch,
                replica_nodes=found.replicas,
                isr_nodes=found.isr,
                offline_replicas=found.offline,
            )
        )
    row = _Topic(name=topic.name, topic_id=topic.id.bytes, is_internal=topic.internal, partitions=partitions)
    if request.include_topic_authorized_operations:
        row.topic_authorized_operations = context.operations(ResourceType.TOPIC, topic.name)
    return row


def _answer(context: Context, request: metadata.Request, topics: list[_Topic]) -> metadata.Response:
    broker = context.broker
    response = metadata.Response(
        brokers=[
            metadata.Response.Broker(node_id=node_id, host=address.host, port=address.port, rack=node.rack)
            for node_id, (node, address) in reachable_nodes(context).items()
        ],
        cluster_id=broker.cluster_id,
        controller_id=broker.placement.controller().id,
        topics=topics,
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = cluster_operations(context)
    return response
