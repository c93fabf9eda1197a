"""DeleteAcls (31): removes access rules.

**Behaviour.** There are none: SECURITY_DISABLED for each filter.

**Version notes.** 1 adds pattern types, 3 rules about users.
"""

from __future__ import annotations

from megabroker.protocols.kafka.apis.k29_describe_acls import NO_AUTHORIZER
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import delete_acls

__all__ = ["handle"]

_Row = delete_acls.Response.FilterResult


def handle(context: Context, request: delete_acls.Request) -> delete_acls.Response:
    """Answer at once."""
    return delete_acls.Response(
        filter_results=[
            _Row(error_code=int(KafkaError.SECURITY_DISABLED), error_message=NO_AUTHORIZER)
            for _ in request.filters
        ]
    )
