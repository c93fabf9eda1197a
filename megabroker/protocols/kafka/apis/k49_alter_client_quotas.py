"""AlterClientQuotas (49): set and remove limits on users, clients and addresses.

**Behaviour.** All of an entity's changes are made or none; those of all entities are stored together, and
are in force when the answer comes. Removing what is not set succeeds. INVALID_REQUEST are: an entity or a
quota that Apache Kafka does not have, a value that cannot be, a quota named twice for an entity, and an
entity named twice, for which nothing is changed then. Addresses are IP addresses: names of hosts are not
looked up. ``validate_only`` tells what would be refused and changes nothing.

**Version notes.** The versions have the same content.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import QuotaChange, QuotaEntity
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import alter_client_quotas
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_Asked = alter_client_quotas.Request.Entry
_Row = alter_client_quotas.Response.Entry


async def handle(context: Context, request: alter_client_quotas.Request) -> alter_client_quotas.Response:
    """Answer when all that is not refused is stored and in force."""
    quotas = context.broker.quotas
    by_entity = {_entity(one): one for one in request.entries}
    distinct, again = first_seen(_entity(one) for one in request.entries)
    rows = {entity: _row(entity) for entity in distinct}
    changes: list[QuotaChange] = []
    for entity in distinct:
        try:
            if entity in again:
                raise RequestError(ErrorCode.INVALID_REQUEST, "the entity is named more than once")
            change = _change(entity, by_entity[entity])
            quotas.check(change)
            changes.append(change)
        except BrokerError as error:
            _fail(rows[entity], error)
    if changes and not request.validate_only:
        try:
            await quotas.change(changes)
        except BrokerError as error:
            for change in changes:
                _fail(rows[change.entity], error)
    return alter_client_quotas.Response(entries=list(rows.values()))


def _entity(asked: _Asked) -> QuotaEntity:
    # Sorted by kind, as Apache Kafka's answers are.
    pairs = ((one.entity_type, one.entity_name) for one in asked.entity)
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def _change(entity: QuotaEntity, asked: _Asked) -> QuotaChange:
    """Return what is to be changed. Raises RequestError(INVALID_REQUEST)."""
    values: dict[str, float | None] = {}
    for op in asked.ops:
        if op.key in values:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"{op.key[:100]} is named more than once")
        values[op.key] = None if op.remove else op.value
    return QuotaChange(entity, values)


def _row(entity: QuotaEntity) -> _Row:
    return _Row(
        error_message=None,
        entity=[_Row.Entity(entity_type=kind, entity_name=name) for kind, name in entity],
    )


def _fail(row: _Row, error: BrokerError) -> None:
    row.error_code = kafka_error(error)
    row.error_message = error.message
