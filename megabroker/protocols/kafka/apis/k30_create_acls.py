"""CreateAcls (30): adds access rules.

**Behaviour.** Nobody would follow them: SECURITY_DISABLED for each.

**Version notes.** 1 adds pattern types, 3 rules about users.
"""

from __future__ import annotations

from megabroker.protocols.kafka.apis.k29_describe_acls import NO_AUTHORIZER
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import create_acls

__all__ = ["handle"]

_Row = create_acls.Response.Result


def handle(context: Context, request: create_acls.Request) -> create_acls.Response:
    """Answer at once."""
    return create_acls.Response(
        results=[
            _Row(error_code=int(KafkaError.SECURITY_DISABLED), error_message=NO_AUTHORIZER)
            for _ in request.creations
        ]
    )
