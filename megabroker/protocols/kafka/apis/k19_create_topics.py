"""CreateTopics (19): make topics.

**Behaviour.** -1 partitions mean the broker's default, and so does replication factor -1; there is one
replica, any other number is INVALID_REPLICATION_FACTOR. Assignments by hand may only say what would happen
anyway: partitions 0, 1, 2, ... on the node that leads them; both numbers must then be -1. A topic named more
than once is INVALID_REQUEST, told once. ``validate_only`` tells what would be refused and creates nothing.
The answer comes when all topics serve; ``timeout_ms`` is not needed. Only the controller creates topics,
other nodes answer NOT_CONTROLLER. The partitions count for the client's ``controller_mutation_rate``.

**Version notes.** 1 adds error messages and ``validate_only``, 5 tells the resulting configuration, 7 the
topic id. From 6 on what exceeds the quota is refused (THROTTLING_QUOTA_EXCEEDED); before, it is done, and the
client waits. With ``validate_only`` there is no id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker
from megabroker.model import Topic
from megabroker.protocols.kafka.configs import topic_entries
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import create_topics
from megabroker.protocols.kafka.topics import check_assignment, first_seen, is_controller, settle

__all__ = ["handle"]

_DEFAULT = -1
_REPLICAS = 1

_Wanted = create_topics.Request.Topic
_Row = create_topics.Response.Topic


async def handle(context: Context, request: create_topics.Request) -> create_topics.Response:
    """Answer when all topics serve or are refused."""
    broker = context.broker
    distinct, again = first_seen(topic.name for topic in request.topics)
    rows = {name: _Row(name=name, error_message=None) for name in distinct}
    wanted: list[tuple[str, int, Mapping[str, str | None]]] = []
    for topic in request.topics:
        row = rows[topic.name]
        if topic.name in again:
            _fail(row, KafkaError.INVALID_REQUEST, "the topic is named more than once")
        elif not is_controller(broker):
            _fail(row, KafkaError.NOT_CONTROLLER, "another node takes topic changes")
        else:
            configs = {config.name: config.value for config in topic.configs}
            try:
                partitions = _partitions(broker, topic)
                broker.topics.validate(topic.name, partitions, configs)
                context.charge(partitions)
            except BrokerError as error:
                _fail(row, kafka_error(error), error.message)
            else:
                wanted.append((topic.name, partitions, configs))
    if request.validate_only:
        for name, partitions, checked in wanted:
            _fill(context, rows[name], partitions, checked, None)
    else:
        outcomes = await settle([broker.topics.create(*one) for one in wanted])
        for (name, partitions, _), outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, BrokerError):
                _fail(rows[name], kafka_error(outcome), outcome.message)
            else:
                _fill(context, rows[name], partitions, outcome.configs, outcome)
    return create_topics.Response(topics=list(rows.values()))


def _partitions(broker: IBroker, wanted: _Wanted) -> int:
    """Return how many partitions are meant. Raises RequestError."""
    if wanted.assignments:
        if wanted.num_partitions != _DEFAULT or wanted.replication_factor != _DEFAULT:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                "with assignments the numbers of partitions and of replicas must be -1",
            )
        _check_assignments(broker, wanted.name, wanted.assignments)
        return len(wanted.assignments)
    if wanted.replication_factor not in (_DEFAULT, _REPLICAS):
        raise RequestError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"replication factor {wanted.replication_factor}: expected 1, or -1 for the default",
        )
    if wanted.num_partitions == _DEFAULT:
        partitions: int = broker.settings.topics.default_partitions
        return partitions
    return wanted.num_partitions


def _check_assignments(broker: IBroker, name: str, assignments: Sequence[_Wanted.Assignment]) -> None:
    by_index = {one.partition_index: one.broker_ids for one in assignments}
    if len(by_index) != len(assignments) or not all(index in by_index for index in range(len(by_index))):
        raise RequestError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "expected partitions 0, 1, 2, ... with one assignment each"
        )
    for index, broker_ids in by_index.items():
        check_assignment(broker, name, index, broker_ids)


def _fill(
    context: Context, row: _Row, partitions: int, configs: Mapping[str, str | None], topic: Topic | None
) -> None:
    row.num_partitions = partitions
    row.replication_factor = _REPLICAS
    if topic is not None:
        row.topic_id = topic.id.bytes
    row.configs = [
        _Row.Config(
            name=entry.name,
            value=None if entry.sensitive else entry.value,
            read_only=entry.read_only,
            config_source=entry.source,
            is_sensitive=entry.sensitive,
        )
        for entry in topic_entries(context, configs)
    ]


def _fail(row: _Row, code: int, message: str) -> None:
    row.error_code = int(code)
    row.error_message = message
