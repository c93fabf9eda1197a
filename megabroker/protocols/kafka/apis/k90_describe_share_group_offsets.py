"""DescribeShareGroupOffsets (90): how far share groups are (KIP-932).

**Behaviour.** Of each group the start offset of each partition asked for, as it is stored; null topics ask
for all that the group consumes or has consumed. Where nothing is known the start offset is -1, which is no
error, nor is a topic nobody knows. A group nobody knows has no partitions when all are asked for.

**Version notes.** 1 adds the lag: records that are not done with yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from megabroker.errors import BrokerError
from megabroker.model import SharePartitionOffset
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import describe_share_group_offsets

__all__ = ["handle"]

_Wanted = describe_share_group_offsets.Request.Group
_Group = describe_share_group_offsets.Response.Group
_Topic = _Group.Topic
_Row = _Topic.Partition
_Place = tuple[UUID, int]
_Found = Mapping[_Place, SharePartitionOffset]
_NOTHING = SharePartitionOffset()


async def handle(
    context: Context, request: describe_share_group_offsets.Request
) -> describe_share_group_offsets.Response:
    """Answer when all leaders have told."""
    groups = []
    for wanted in request.groups:
        group = _Group(group_id=wanted.group_id)
        groups.append(group)
        try:
            check_group(context, wanted.group_id)
            found = await context.broker.shares.offsets(wanted.group_id, _places(context, wanted))
        except BrokerError as error:
            group.error_code = group_error(error)
            group.error_message = error.message
            continue
        group.topics = [
            _topic(context, name, indexes, found) for name, indexes in _names(context, wanted, found)
        ]
    return describe_share_group_offsets.Response(groups=groups)


def _places(context: Context, wanted: _Wanted) -> list[_Place] | None:
    """Return the partitions asked for of topics there are; None for all."""
    if wanted.topics is None:
        return None
    return [
        (topic.id, index)
        for named in wanted.topics
        if (topic := context.broker.topics.get(named.topic_name)) is not None
        for index in named.partitions
    ]


def _names(context: Context, wanted: _Wanted, found: _Found) -> list[tuple[str, list[int]]]:
    if wanted.topics is not None:
        return [(topic.topic_name, list(topic.partitions)) for topic in wanted.topics]
    by_name: dict[str, list[int]] = {}
    for topic_id, index in found:
        topic = context.broker.topics.get_by_id(topic_id)
        if topic is not None:
            by_name.setdefault(topic.name, []).append(index)
    return [(name, sorted(indexes)) for name, indexes in sorted(by_name.items())]


def _topic(context: Context, name: str, indexes: list[int], found: _Found) -> _Topic:
    topic = context.broker.topics.get(name)
    if topic is None:
        return _Topic(
            topic_name=name, partitions=[_Row(partition_index=index, start_offset=-1) for index in indexes]
        )
    rows = []
    for index in indexes:
        offset = found.get((topic.id, index), _NOTHING)
        rows.append(
            _Row(
                partition_index=index,
                start_offset=offset.start_offset,
                leader_epoch=offset.leader_epoch,
                lag=offset.lag,
            )
        )
    return _Topic(topic_name=name, topic_id=topic.id.bytes, partitions=rows)
