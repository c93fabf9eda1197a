"""DeleteAcls (31): removes access rules.

**Behaviour.** Answered when all that the filters mean are removed, with what each meant; a filter that is
none is refused by itself. SECURITY_DISABLED for each, if nobody follows rules.

**Version notes.** 1 adds pattern types, 3 rules about users. In 0 every pattern is literal.
"""

from __future__ import annotations

from megabroker.access import Acl, AclFilter
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.acls import NO_AUTHORIZER, filter_of
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import delete_acls

__all__ = ["handle"]

_Row = delete_acls.Response.FilterResult


async def handle(context: Context, request: delete_acls.Request) -> delete_acls.Response:
    """Answer when the rules are removed."""
    broker = context.broker
    if not broker.authorizer.enabled:
        code = int(KafkaError.SECURITY_DISABLED)
        return delete_acls.Response(
            filter_results=[_Row(error_code=code, error_message=NO_AUTHORIZER) for _ in request.filters]
        )
    rows = [_Row(error_message=None) for _ in request.filters]
    wanted: list[tuple[_Row, AclFilter]] = []
    for row, one in zip(rows, request.filters, strict=True):
        try:
            wanted.append((row, filter_of(one, context.version)))
        except BrokerError as error:
            _fail(row, error)
    try:
        found = await broker.authorizer.delete([one for _, one in wanted])
    except BrokerError as error:
        for row, _ in wanted:
            _fail(row, error)
        return delete_acls.Response(filter_results=rows)
    for (row, _), acls in zip(wanted, found, strict=True):
        row.matching_acls = [_matching(acl) for acl in sorted(acls)]
    gone = sorted({str(acl) for acls in found for acl in acls})
    if gone:
        broker.audit.changed(context.principal, context.client_host, "DeleteAcls", gone)
    return delete_acls.Response(filter_results=rows)


def _fail(row: _Row, error: BrokerError) -> None:
    row.error_code = kafka_error(error)
    row.error_message = error.message


def _matching(acl: Acl) -> _Row.Acl:
    return _Row.Acl(
        error_message=None,
        resource_type=int(acl.resource_type),
        resource_name=acl.name,
        pattern_type=int(acl.pattern_type),
        principal=acl.principal,
        host=acl.host,
        operation=int(acl.operation),
        permission_type=int(acl.permission),
    )
