"""EndTransactions (1012, between processes): the coordinator's markers for the partitions led here.

**Behaviour.** Answered when every marker is on the disk or refused. A request of an older generation than one
that was carried out is not: its sender has given it up and asked again, and it may end another transaction
of the same producer by now.
"""

from __future__ import annotations

from megabroker.model import TopicPartition, TransactionMarker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import end_transactions
from megabroker.protocols.kafka.schema.told_error import told
from megabroker.protocols.kafka.transactions import write_marker

__all__ = ["handle"]

_Outcome = end_transactions.Response.Outcome


async def handle(context: Context, request: end_transactions.Request) -> end_transactions.Response:
    """Answer when all is written."""
    broker = context.broker
    transactions = broker.transactions
    response = end_transactions.Response(generation=transactions.marker_generation)
    if request.generation < transactions.marker_generation:
        return response
    transactions.marker_generation = response.generation = request.generation
    waiting = [
        write_marker(
            broker,
            TopicPartition(one.topic, one.index),
            TransactionMarker(one.producer_id, one.producer_epoch, one.committed, one.coordinator_epoch),
        )
        for one in request.markers
    ]
    for written in waiting:
        response.outcomes.append(_Outcome(error=told(await written)))
    return response
