"""DescribeShareGroupOffsets (90): how far share groups are (KIP-932).

**Behaviour.** Of each group the start offset of each partition asked for, as it is stored; null topics ask
for all that the group consumes or has consumed. Where nothing is known the start offset is -1, which is no
error, nor is a topic nobody knows. A group nobody knows has no partitions when all are asked for.

**Version notes.** 1 adds the lag: records that are not done with yet.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import describe_share_group_offsets

__all__ = ["handle"]

_Wanted = describe_share_group_offsets.Request.Group
_Group = describe_share_group_offsets.Response.Group
_Topic = _Group.Topic
_Row = _Topic.Partition


def handle(
    context: Context, request: describe_share_group_offsets.Request
) -> describe_share_group_offsets.Response:
    """Answer at once."""
    groups = []
    for wanted in request.groups:
        group = _Group(group_id=wanted.group_id)
        groups.append(group)
        try:
            check_group(context, wanted.group_id)
        except BrokerError as error:
            group.error_code = group_error(error)
            group.error_message = error.message
            continue
        group.topics = [
            _topic(context, wanted.group_id, name, indexes) for name, indexes in _places(context, wanted)
        ]
    return describe_share_group_offsets.Response(groups=groups)


def _places(context: Context, wanted: _Wanted) -> list[tuple[str, list[int]]]:
    if wanted.topics is not None:
        return [(topic.topic_name, list(topic.partitions)) for topic in wanted.topics]
    found: dict[str, list[int]] = {}
    for topic_id, index in context.broker.shares.partitions.places(wanted.group_id):
        topic = context.broker.topics.get_by_id(topic_id)
        if topic is not None:
            found.setdefault(topic.name, []).append(index)
    return [(name, sorted(indexes)) for name, indexes in sorted(found.items())]


def _topic(context: Context, group_id: str, name: str, indexes: list[int]) -> _Topic:
    topic = context.broker.topics.get(name)
    if topic is None:
        return _Topic(
            topic_name=name, partitions=[_Row(partition_index=index, start_offset=-1) for index in indexes]
        )
    rows = []
    for index in indexes:
        found = context.broker.shares.partitions.offset(group_id, (topic.id, index))
        rows.append(
            _Row(
                partition_index=index,
                start_offset=found.start_offset,
                leader_epoch=found.leader_epoch,
                lag=found.lag,
            )
        )
    return _Topic(topic_name=name, topic_id=topic.id.bytes, partitions=rows)
