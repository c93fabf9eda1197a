"""OffsetDelete (47): forget committed offsets of a group.

**Behaviour.** Offsets of topics a member subscribes to are kept: GROUP_SUBSCRIBED_TO_TOPIC. A group with
members whose subscription cannot be read, as of other protocol types than "consumer", is NON_EMPTY_GROUP.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import code_of
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import offset_delete
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_Topic = offset_delete.Response.Topic


async def handle(context: Context, request: offset_delete.Request) -> offset_delete.Response:
    """Answer when the deletions are stored or refused."""
    asked = [
        TopicPartition(topic.name, one.partition_index)
        for topic in request.topics
        for one in topic.partitions
    ]
    try:
        check_group(context, request.group_id)
        if not request.group_id:
            raise RequestError(ErrorCode.INVALID_GROUP, "the group id must not be empty")
        outcomes = await context.broker.groups.delete_offsets(request.group_id, first_seen(asked)[0])
    except BrokerError as error:
        return offset_delete.Response(error_code=group_error(error))
    return offset_delete.Response(
        topics=[
            _Topic(
                name=topic.name,
                partitions=[
                    _Topic.Partition(
                        partition_index=one.partition_index,
                        error_code=code_of(outcomes[TopicPartition(topic.name, one.partition_index)]),
                    )
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
