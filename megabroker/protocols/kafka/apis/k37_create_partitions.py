"""CreatePartitions (37): grow topics.

**Behaviour.** ``count`` is the number of partitions the topic shall have, more than it has; assignments by
hand must be as many as the new partitions and say what would happen anyway. A topic named more than once
is INVALID_REQUEST. ``validate_only`` tells what would be refused. Only the controller grows topics, other
nodes answer NOT_CONTROLLER; ``timeout_ms`` is not needed. New partitions count for the client's
``controller_mutation_rate``.

**Version notes.** 2 is flexible. From 3 on what exceeds the quota is refused (THROTTLING_QUOTA_EXCEEDED);
before, it is done, and the client waits.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import create_partitions
from megabroker.protocols.kafka.topics import check_assignment, first_seen, is_controller, settle

__all__ = ["handle"]

_Wanted = create_partitions.Request.Topic
_Row = create_partitions.Response.Topic


async def handle(context: Context, request: create_partitions.Request) -> create_partitions.Response:
    """Answer when all partitions serve or are refused."""
    broker = context.broker
    distinct, again = first_seen(topic.name for topic in request.topics)
    rows = {name: _Row(name=name) for name in distinct}
    wanted = []
    for topic in request.topics:
        row = rows[topic.name]
        if topic.name in again:
            _fail(row, KafkaError.INVALID_REQUEST, "the topic is named more than once")
        elif not is_controller(broker):
            _fail(row, KafkaError.NOT_CONTROLLER, "another node takes topic changes")
        else:
            try:
                context.charge(_check(broker, topic))
                wanted.append(topic)
            except BrokerError as error:
                _fail(row, kafka_error(error), error.message)
    if not request.validate_only:
        outcomes = await settle([broker.topics.create_partitions(one.name, one.count) for one in wanted])
        for topic, outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, BrokerError):
                _fail(rows[topic.name], kafka_error(outcome), outcome.message)
    return create_partitions.Response(results=list(rows.values()))


def _check(broker: IBroker, wanted: _Wanted) -> int:
    """Return how many partitions are to be added. Raises BrokerError."""
    more = broker.topics.check_growth(wanted.name, wanted.count)
    if wanted.assignments is None:
        return more
    if len(wanted.assignments) != more:
        raise RequestError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"{more} more partitions, but {len(wanted.assignments)} assignments",
        )
    for index, assignment in enumerate(wanted.assignments, wanted.count - more):
        check_assignment(broker, wanted.name, index, assignment.broker_ids)
    return more


def _fail(row: _Row, code: int, message: str) -> None:
    row.error_code = int(code)
    row.error_message = message
