"""CreateAcls (30): adds access rules.

**Behaviour.** Answered when they are stored and in force, those that were there already too. Each that can be
no rule is refused by itself. SECURITY_DISABLED for each, if nobody follows them.

**Version notes.** 1 adds pattern types, 3 rules about users.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.acls import NO_AUTHORIZER, acl_of
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import create_acls

__all__ = ["handle"]

_Row = create_acls.Response.Result


async def handle(context: Context, request: create_acls.Request) -> create_acls.Response:
    """Answer when all rules are in force or refused."""
    broker = context.broker
    wanted = [acl_of(one) for one in request.creations]
    outcomes: list[BrokerError | None]
    if not broker.authorizer.enabled:
        code = int(KafkaError.SECURITY_DISABLED)
        return create_acls.Response(
            results=[_Row(error_code=code, error_message=NO_AUTHORIZER) for _ in wanted]
        )
    try:
        outcomes = list(await broker.authorizer.create(wanted))
    except BrokerError as error:
        outcomes = [error] * len(wanted)
    made = [str(acl) for acl, outcome in zip(wanted, outcomes, strict=True) if outcome is None]
    if made:
        broker.audit.changed(context.principal, context.client_host, "CreateAcls", made)
    return create_acls.Response(
        results=[
            _Row(error_code=0, error_message=None)
            if outcome is None
            else _Row(error_code=kafka_error(outcome), error_message=outcome.message)
            for outcome in outcomes
        ]
    )
