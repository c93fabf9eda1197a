"""DeleteTopics (20): delete topics and their data.

**Behaviour.** Each topic is named once, by name or by id, never both; breaking that is INVALID_REQUEST for
the topic and it is not deleted. The answer comes when all deletions are committed; ``timeout_ms`` is
not needed. Only the controller deletes, other nodes answer NOT_CONTROLLER. The partitions count for the
client's ``controller_mutation_rate``.

**Version notes.** 5 adds error messages, and from it on what exceeds the quota is refused
(THROTTLING_QUOTA_EXCEEDED); before, it is done, and the client waits. From 6 topics may be named by id;
before, ``topic_names`` is a list of names.
"""

from __future__ import annotations

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import BrokerError, RequestError
from megabroker.protocols.kafka.access.refusals import not_allowed
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import delete_topics
from megabroker.protocols.kafka.schema.fields import ZERO_UUID
from megabroker.protocols.kafka.topics import by_id, first_seen, is_controller, settle

__all__ = ["handle"]

_WITH_IDS = 6

_Row = delete_topics.Response.Topic


async def handle(context: Context, request: delete_topics.Request) -> delete_topics.Response:
    """Answer when all deletions are committed or refused."""
    broker = context.broker
    if context.version >= _WITH_IDS:
        asked = [(topic.name, bytes(topic.topic_id)) for topic in request.topics]
    else:
        asked = [(name, ZERO_UUID) for name in request.topic_names]
    distinct, again = first_seen(asked)
    rows = [_row(context, name, topic_id, (name, topic_id) in again) for name, topic_id in distinct]
    _refuse_named_twice(rows)
    wanted = [(row, row.name) for row in rows if row.error_code == 0 and row.name is not None]
    if not is_controller(broker):
        for row, _ in wanted:
            _fail(row, KafkaError.NOT_CONTROLLER, "another node takes topic changes")
    else:
        wanted = _charged(context, wanted)
        outcomes = await settle([broker.topics.delete(name) for _, name in wanted])
        for (row, _), outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, BrokerError):
                _fail(row, kafka_error(outcome), outcome.message)
    return delete_topics.Response(responses=rows)


def _charged(context: Context, wanted: list[tuple[_Row, str]]) -> list[tuple[_Row, str]]:
    """Count the partitions that go; return what may go now, the others are refused."""
    may_go = []
    for row, name in wanted:
        topic = context.broker.topics.get(name)
        try:
            context.charge(0 if topic is None else topic.partitions)
            may_go.append((row, name))
        except BrokerError as error:
            _fail(row, kafka_error(error), error.message)
    return may_go


def _row(context: Context, name: str | None, topic_id: bytes, again: bool) -> _Row:
    """Return the row for one topic, with its name and id where it exists, else with the error."""
    topics = context.broker.topics
    row = _Row(name=name, topic_id=topic_id)
    if name is None and topic_id == ZERO_UUID:
        _fail(row, KafkaError.INVALID_REQUEST, "neither topic name nor topic id")
    elif name is not None and topic_id != ZERO_UUID:
        _fail(row, KafkaError.INVALID_REQUEST, "both topic name and topic id")
    elif again:
        _fail(row, KafkaError.INVALID_REQUEST, "the topic is named more than once")
    elif name is None:
        topic = by_id(context.broker, topic_id)
        if topic is None:
            _fail(row, KafkaError.UNKNOWN_TOPIC_ID, "no topic has this id")
        else:
            refused = _refusal(context, topic.name)
            if refused is None or _may(context, Operation.DESCRIBE, topic.name, quiet=True):
                row.name = topic.name
            if refused is not None:
                _fail(row, kafka_error(refused), refused.message)
    else:
        topic = topics.get(name)
        refused = _refusal(context, name, exists=topic is not None)
        if refused is not None:
            _fail(row, kafka_error(refused), refused.message)
        elif topic is None:
            _fail(row, KafkaError.UNKNOWN_TOPIC_OR_PARTITION, "no topic has this name")
        else:
            row.topic_id = topic.id.bytes
    return row


def _may(context: Context, operation: Operation, name: str, *, quiet: bool = False) -> bool:
    return context.may(operation, ResourceType.TOPIC, name, quiet=quiet)


def _refusal(context: Context, name: str, *, exists: bool = True) -> RequestError | None:
    """Say why a topic may not be deleted; who may not even see it is not told whether there is one."""
    if context.may(Operation.DELETE, ResourceType.CLUSTER, CLUSTER_NAME, quiet=True):
        return None
    needed = Operation.DELETE if exists else Operation.DESCRIBE
    return None if _may(context, needed, name) else not_allowed(ResourceType.TOPIC)


def _refuse_named_twice(rows: list[_Row]) -> None:
    """Refuse what was named by name and by id as well."""
    _, again = first_seen(row.name for row in rows if row.error_code == 0)
    for row in rows:
        if row.error_code == 0 and row.name in again:
            _fail(row, KafkaError.INVALID_REQUEST, "the topic is named by name and by id")


def _fail(row: _Row, code: int, message: str) -> None:
    row.error_code = int(code)
    row.error_message = message
