"""TxnOffsetCommit (28): a group's offsets, to be committed with a producer's transaction.

**Behaviour.** Kept apart until the transaction is committed. What is wrong with the transaction or with the
member (KIP-447) is told at every partition.

**Version notes.** 3 names the group's member and generation and knows PRODUCER_FENCED, 4 knows
TRANSACTION_ABORTABLE, 5 makes the group part of the transaction by itself (KIP-890).
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import CommittedOffset, ProducerIdentity, TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import code_of
from megabroker.protocols.kafka.groups import check_group
from megabroker.protocols.kafka.schema import txn_offset_commit
from megabroker.protocols.kafka.transactions import by_topic, check_transactional_id, transaction_error

__all__ = ["handle"]

_KNOWS_FENCED = 3
_KNOWS_ABORTABLE = 4
_IMPLICIT = 5

_Topic = txn_offset_commit.Response.Topic
_Partition = txn_offset_commit.Response.Topic.Partition


async def handle(context: Context, request: txn_offset_commit.Request) -> txn_offset_commit.Response:
    """Answer when the offsets are stored."""
    offsets = {
        TopicPartition(topic.name, one.partition_index): CommittedOffset(
            one.committed_offset, one.committed_leader_epoch, one.committed_metadata or ""
        )
        for topic in request.topics
        for one in topic.partitions
    }
    try:
        check_transactional_id(context, request.transactional_id)
        if not request.group_id:
            raise RequestError(ErrorCode.INVALID_GROUP)
        check_group(context, request.group_id)
        outcomes = await context.broker.transactions.commit_offsets(
            request.transactional_id,
            ProducerIdentity(request.producer_id, request.producer_epoch),
            request.group_id,
            request.generation_id,
            request.member_id,
            request.group_instance_id,
            offsets,
            implicit=context.version >= _IMPLICIT,
        )
    except BrokerError as error:
        code = transaction_error(
            error,
            fenced=context.version >= _KNOWS_FENCED,
            abortable=context.version >= _KNOWS_ABORTABLE,
        )
        codes = dict.fromkeys(offsets, code)
    else:
        codes = {where: code_of(outcome) for where, outcome in outcomes.items()}
    return txn_offset_commit.Response(
        topics=[
            _Topic(
                name=name,
                partitions=[_Partition(partition_index=index, error_code=code) for index, code in rows],
            )
            for name, rows in by_topic(codes).items()
        ]
    )
