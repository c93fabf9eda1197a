"""OffsetCommit (8): store where a group stands.

**Behaviour.** The answer comes when the offsets are on disk. Partitions that do not exist are refused one by
one; what is wrong with the member or the group refuses all. A commit with neither member nor generation
comes from outside the group protocol and is taken while the group has no members.

**Version notes.** 0 has no member; Kafka kept its offsets elsewhere, here they are the same. 1 brings the
time of the commit, 2 to 4 how long to keep the offset; other versions leave both to the broker. 6 adds the
leader epoch, 7 static members, 10 names topics by id. From 9 on members of the consumer protocol commit in
their member epoch; earlier ones do not know the errors that concern it, and are told UNSUPPORTED_VERSION. A
member of a group nobody knows is told GROUP_ID_NOT_FOUND from 9, ILLEGAL_GENERATION before.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import NO_TIMESTAMP, CommittedOffset, TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, code_of
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import offset_commit
from megabroker.protocols.kafka.topics import by_id

__all__ = ["handle"]

_MEMBER_EPOCHS = 9
_BY_ID = 10
_LATEST_MS = 2**63 - 1
_DEAD = "Dead"

_Topic = offset_commit.Response.Topic
_Partition = offset_commit.Response.Topic.Partition


async def handle(context: Context, request: offset_commit.Request) -> offset_commit.Response:
    """Answer when the offsets are stored or refused."""
    response = offset_commit.Response()
    offsets: dict[TopicPartition, CommittedOffset] = {}
    waiting: list[tuple[TopicPartition, _Partition]] = []
    expire_ms = _expire_ms(context, request)
    for topic in request.topics:
        row = _Topic(name=topic.name, topic_id=topic.topic_id)
        response.topics.append(row)
        name: str | None = topic.name
        if context.version >= _BY_ID:
            known = by_id(context.broker, topic.topic_id)
            name = None if known is None else known.name
        for wanted in topic.partitions:
            outcome = _Partition(partition_index=wanted.partition_index)
            row.partitions.append(outcome)
            if name is None:
                outcome.error_code = int(KafkaError.UNKNOWN_TOPIC_ID)
                continue
            where = TopicPartition(name, wanted.partition_index)
            waiting.append((where, outcome))
            offsets[where] = CommittedOffset(
                wanted.committed_offset,
                wanted.committed_leader_epoch,
                wanted.committed_metadata or "",
                max(wanted.commit_timestamp, NO_TIMESTAMP),
                expire_ms,
            )
    if not waiting:
        return response
    try:
        check_group(context, request.group_id)
        outcomes = await context.broker.groups.commit(
            request.group_id,
            request.generation_id_or_member_epoch,
            request.member_id,
            request.group_instance_id,
            offsets,
        )
    except BrokerError as error:
        code = _as_told(context, request, error)
        for _, outcome in waiting:
            outcome.error_code = code
    else:
        for where, outcome in waiting:
            outcome.error_code = code_of(outcomes[where])
    return response


def _as_told(context: Context, request: offset_commit.Request, error: BrokerError) -> int:
    knows_epochs = context.version >= _MEMBER_EPOCHS
    if error.code is ErrorCode.STALE_MEMBER_EPOCH and not knows_epochs:
        return int(KafkaError.UNSUPPORTED_VERSION)
    is_lost = error.code is ErrorCode.ILLEGAL_GENERATION and knows_epochs
    if is_lost and context.broker.groups.describe(request.group_id).state == _DEAD:
        return int(KafkaError.GROUP_ID_NOT_FOUND)
    return group_error(error)


def _expire_ms(context: Context, request: offset_commit.Request) -> int:
    if request.retention_time_ms < 0:
        return NO_TIMESTAMP
    return min(context.broker.now_ms() + request.retention_time_ms, _LATEST_MS)
