"""AlterPartitionReassignments (45): move replicas, or cancel moves.

**Behaviour.** A partition has one replica, where the broker's placement puts it. A request for it to be there
succeeds, as it is; any other is INVALID_REPLICA_ASSIGNMENT. Nothing ever is on the move, so null replicas,
which cancel, are NO_REASSIGNMENT_IN_PROGRESS. Only the controller moves replicas, other nodes answer
NOT_CONTROLLER. ``timeout_ms`` is not needed.

**Version notes.** 1 can refuse a change of the number of replicas, of which there is none.
"""

from __future__ import annotations

from typing import Final

from megabroker.errors import BrokerError
from megabroker.interfaces import IBroker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import alter_partition_reassignments
from megabroker.protocols.kafka.topics import check_assignment, is_controller

__all__ = ["handle"]

_NO_REASSIGNMENT_IN_PROGRESS: Final = 85

_Wanted = alter_partition_reassignments.Request.Topic.Partition
_Topic = alter_partition_reassignments.Response.Topic
_Row = alter_partition_reassignments.Response.Topic.Partition


def handle(
    context: Context, request: alter_partition_reassignments.Request
) -> alter_partition_reassignments.Response:
    """Answer at once."""
    response = alter_partition_reassignments.Response(
        allow_replication_factor_change=request.allow_replication_factor_change, error_message=None
    )
    if not is_controller(context.broker):
        response.error_code = int(KafkaError.NOT_CONTROLLER)
        response.error_message = "another node moves replicas"
        return response
    response.responses = [
        _Topic(
            name=topic.name, partitions=[_move(context.broker, topic.name, one) for one in topic.partitions]
        )
        for topic in request.topics
    ]
    return response


def _move(broker: IBroker, name: str, wanted: _Wanted) -> _Row:
    row = _Row(partition_index=wanted.partition_index, error_message=None)
    topic = broker.topics.get(name)
    if topic is None or not 0 <= wanted.partition_index < topic.partitions:
        row.error_code = int(KafkaError.UNKNOWN_TOPIC_OR_PARTITION)
        row.error_message = "there is no such partition"
    elif wanted.replicas is None:
        row.error_code = _NO_REASSIGNMENT_IN_PROGRESS
        row.error_message = "the partition is not on the move"
    else:
        try:
            check_assignment(broker, name, wanted.partition_index, wanted.replicas)
        except BrokerError as error:
            row.error_code = kafka_error(error)
            row.error_message = error.message
    return row
