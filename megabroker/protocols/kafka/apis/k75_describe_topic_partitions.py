"""DescribeTopicPartitions (75): partitions of topics, page by page (KIP-966).

**Behaviour.** Topics come sorted by name, each once; no names mean all topics. At most
``response_partition_limit`` partitions, and never more than 2,000, are in one answer; if there are more,
``next_cursor`` says where to go on. The cursor's topic must be among those asked for and its partition not
negative, else every topic is INVALID_REQUEST. Topics that do not exist count for nothing against the limit.

**Version notes.** There is one version. Authorized operations are always told for topics that exist and are
0 for others.
"""

from __future__ import annotations

from collections.abc import Mapping

from megabroker.access import Operation, ResourceType
from megabroker.model import Topic
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import describe_topic_partitions
from megabroker.protocols.kafka.topics import (
    INTERNAL_TOPICS,
    absence,
    place,
    reachable_nodes,
)

__all__ = ["handle"]

_MAX_PARTITIONS = 2000

_Request = describe_topic_partitions.Request
_Response = describe_topic_partitions.Response
_Topic = describe_topic_partitions.Response.Topic
_Partition = describe_topic_partitions.Response.Topic.Partition
_Cursor = describe_topic_partitions.Response.NextCursor


def handle(context: Context, request: _Request) -> _Response:
    """Answer one page."""
    topics = context.broker.topics
    asked = {topic.name for topic in request.topics}
    cursor = request.cursor
    first_name, first_index = ("", 0) if cursor is None else (cursor.topic_name, cursor.partition_index)
    if first_index < 0 or (asked and cursor is not None and first_name not in asked):
        return _refuse(asked)
    names = sorted(asked) if asked else [topic.name for topic in topics.all()]
    seen = {
        name for name in names if context.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=not asked)
    }
    if not asked:
        names = sorted(seen)
    nodes = reachable_nodes(context)
    room = max(1, min(request.response_partition_limit, _MAX_PARTITIONS))
    response = _Response()
    for name in names:
        if name < first_name:
            continue
        if room <= 0:
            response.next_cursor = _Cursor(topic_name=name, partition_index=0)
            break
        topic = topics.get(name)
        if name not in seen:
            response.topics.append(
                _Topic(
                    error_code=int(KafkaError.TOPIC_AUTHORIZATION_FAILED),
                    name=name,
                    topic_authorized_operations=0,
                )
            )
            continue
        if topic is None:
            response.topics.append(
                _Topic(
                    error_code=absence(context.broker, name),
                    name=name,
                    is_internal=name in INTERNAL_TOPICS,
                    topic_authorized_operations=0,
                )
            )
            continue
        begin = first_index if name == first_name else 0
        end = min(begin + room, topic.partitions)
        response.topics.append(_describe(context, nodes, topic, begin, end))
        if end < topic.partitions:
            response.next_cursor = _Cursor(topic_name=name, partition_index=end)
            break
        room -= max(0, end - begin)
    return response


def _describe(context: Context, nodes: Mapping[int, object], topic: Topic, begin: int, end: int) -> _Topic:
    partitions = []
    for index in range(begin, end):
        found = place(context.broker, nodes, topic.name, index)
        partitions.append(
            _Partition(
                error_code=found.error_code,
                partition_index=index,
                leader_id=found.leader,
                leader_epoch=found.leader_epoch,
                replica_nodes=found.replicas,
                isr_nodes=found.isr,
                eligible_leader_replicas=[],
                last_known_elr=[],
                offline_replicas=found.offline,
            )
        )
    return _Topic(
        name=topic.name,
        topic_id=topic.id.bytes,
        is_internal=topic.internal,
        partitions=partitions,
        topic_authorized_operations=context.operations(ResourceType.TOPIC, topic.name),
    )


def _refuse(asked: set[str]) -> _Response:
    code = int(KafkaError.INVALID_REQUEST)
    return _Response(
        topics=[_Topic(error_code=code, name=name, topic_authorized_operations=0) for name in sorted(asked)]
    )
