"""AddPartitionsToTxn (24): make partitions part of a producer's transaction.

**Behaviour.** Begins a transaction if none is open. All partitions are added or none: if one does not exist,
the others are OPERATION_NOT_ATTEMPTED. An error of the whole transaction is told at every partition.

**Version notes.** 2 knows PRODUCER_FENCED. 4 and 5 are for brokers: several transactions at once, and asking
whether partitions are part of one without adding them (KIP-890). 5 knows TRANSACTION_ABORTABLE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, fail

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import ProducerIdentity, TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, code_of
from megabroker.protocols.kafka.schema import add_partitions_to_txn
from megabroker.protocols.kafka.schema.add_partitions_to_txn import PartitionResult, Topic, TopicResult
from megabroker.protocols.kafka.transactions import by_topic, check_transactional_id, transaction_error

__all__ = ["handle"]

_KNOWS_FENCED = 2
_SEVERAL = 4
_KNOWS_ABORTABLE = 5

_Wanted = add_partitions_to_txn.Request.Transaction
_Transaction = add_partitions_to_txn.Response.Transaction
_Outcomes = Mapping[TopicPartition, ErrorCode | None]


async def handle(context: Context, request: add_partitions_to_txn.Request) -> add_partitions_to_txn.Response:
    """Answer when the rows are stored."""
    if context.version < _SEVERAL:
        wanted = _Wanted(
            transactional_id=request.v3_and_below_transactional_id,
            producer_id=request.v3_and_below_producer_id,
            producer_epoch=request.v3_and_below_producer_epoch,
            topics=request.v3_and_below_topics,
        )
        results = await _outcome(context, wanted, _begin(context, wanted))
        return add_partitions_to_txn.Response(results_by_topic_v3_and_below=results)
    begun = [(wanted, _begin(context, wanted)) for wanted in request.transactions]
    return add_partitions_to_txn.Response(
        results_by_transaction=[
            _Transaction(
                transactional_id=wanted.transactional_id,
                topic_results=await _outcome(context, wanted, waiting),
            )
            for wanted, waiting in begun
        ]
    )


def _begin(context: Context, wanted: _Wanted) -> Deferred[_Outcomes]:
    try:
        check_transactional_id(context, wanted.transactional_id)
    except BrokerError as error:
        return fail(error)
    return context.broker.transactions.add_partitions(
        wanted.transactional_id,
        ProducerIdentity(wanted.producer_id, wanted.producer_epoch),
        _partitions(wanted.topics),
        verify_only=wanted.verify_only,
    )


async def _outcome(context: Context, wanted: _Wanted, waiting: Deferred[_Outcomes]) -> list[TopicResult]:
    abortable = context.version >= _KNOWS_ABORTABLE
    try:
        outcomes = await waiting
    except BrokerError as error:
        code = transaction_error(error, fenced=context.version >= _KNOWS_FENCED, abortable=abortable)
        codes = dict.fromkeys(_partitions(wanted.topics), code)
    else:
        codes = {where: code_of(outcome) for where, outcome in outcomes.items()}
        if not wanted.verify_only and any(codes.values()):
            codes = {where: code or int(KafkaError.OPERATION_NOT_ATTEMPTED) for where, code in codes.items()}
        if not abortable:
            for where, outcome in outcomes.items():
                if outcome is ErrorCode.TRANSACTION_ABORTABLE:
                    codes[where] = int(KafkaError.INVALID_TXN_STATE)
    return [
        TopicResult(
            name=name,
            results_by_partition=[
                PartitionResult(partition_index=index, partition_error_code=code) for index, code in rows
            ],
        )
        for name, rows in by_topic(codes).items()
    ]


def _partitions(topics: Sequence[Topic]) -> list[TopicPartition]:
    return [TopicPartition(topic.name, index) for topic in topics for index in topic.partitions]
