"""WriteTxnMarkers (27): end producers' transactions in the partitions led here.

**Behaviour.** For brokers, and for administrators who end a transaction that its coordinator has forgotten.
Answered when every marker is on the disk. Markers are written one after the other, each to all of its
partitions at once; a partition named twice for one marker gets it once. There is one coordinator, and nobody
can claim to be a later one and keep its markers out.

**Version notes.** 2 tells the kind of transaction, which the log does not need to know.
"""

from __future__ import annotations

from megabroker.model import TopicPartition, TransactionMarker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import write_txn_markers
from megabroker.protocols.kafka.transactions import by_topic, write_marker

__all__ = ["handle"]

_Marker = write_txn_markers.Response.Marker
_Topic = write_txn_markers.Response.Marker.Topic
_Partition = write_txn_markers.Response.Marker.Topic.Partition


async def handle(context: Context, request: write_txn_markers.Request) -> write_txn_markers.Response:
    """Answer when all is written."""
    response = write_txn_markers.Response()
    for wanted in request.markers:
        marker = TransactionMarker(
            wanted.producer_id,
            wanted.producer_epoch,
            wanted.transaction_result,
            min(wanted.coordinator_epoch, context.broker.transactions.coordinator_epoch),
        )
        places = dict.fromkeys(
            TopicPartition(topic.name, index) for topic in wanted.topics for index in topic.partition_indexes
        )
        waiting = {where: write_marker(context.broker, where, marker) for where in places}
        outcomes = {where: await written for where, written in waiting.items()}
        codes = {where: 0 if error is None else kafka_error(error) for where, error in outcomes.items()}
        response.markers.append(
            _Marker(
                producer_id=wanted.producer_id,
                topics=[
                    _Topic(
                        name=name,
                        partitions=[
                            _Partition(partition_index=index, error_code=code) for index, code in rows
                        ],
                    )
                    for name, rows in by_topic(codes).items()
                ],
            )
        )
    return response
