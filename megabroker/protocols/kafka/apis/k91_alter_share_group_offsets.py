"""AlterShareGroupOffsets (91): have a share group go on elsewhere (KIP-932).

**Behaviour.** The group must have no members, else it is NON_EMPTY_GROUP; a group that is not there is made.
What was in flight in the partitions named is forgotten, and they begin at the offsets given. A negative
offset is INVALID_REQUEST, a topic or partition nobody knows UNKNOWN_TOPIC_OR_PARTITION; the others are
changed all the same, all at once. The answer comes when that is stored.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import alter_share_group_offsets

__all__ = ["handle"]

_Topic = alter_share_group_offsets.Response.Topic
_Row = _Topic.Partition


async def handle(
    context: Context, request: alter_share_group_offsets.Request
) -> alter_share_group_offsets.Response:
    """Answer when the new offsets are stored or refused."""
    offsets: dict[TopicPartition, int] = {}
    topics = []
    for wanted in request.topics:
        topic = context.broker.topics.get(wanted.topic_name)
        answer = _Topic(topic_name=wanted.topic_name)
        topics.append(answer)
        if topic is not None:
            answer.topic_id = topic.id.bytes
        for partition in wanted.partitions:
            row = _Row(partition_index=partition.partition_index)
            answer.partitions.append(row)
            if topic is None or not 0 <= partition.partition_index < topic.partitions:
                row.error_code = int(KafkaError.UNKNOWN_TOPIC_OR_PARTITION)
                row.error_message = "there is no such topic or partition"
            elif partition.start_offset < 0:
                row.error_code = int(KafkaError.INVALID_REQUEST)
                row.error_message = "expected an offset of 0 or more"
            else:
                place = TopicPartition(topic.name, partition.partition_index)
                offsets[place] = partition.start_offset
    try:
        check_group(context, request.group_id)
        if not request.group_id:
            raise RequestError(ErrorCode.INVALID_GROUP, "the group id must not be empty")
        await context.broker.shares.set_offsets(request.group_id, offsets)
    except BrokerError as error:
        return alter_share_group_offsets.Response(error_code=group_error(error), error_message=error.message)
    return alter_share_group_offsets.Response(responses=topics)
