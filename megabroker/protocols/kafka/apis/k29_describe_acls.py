"""DescribeAcls (29): the access rules.

**Behaviour.** There is nobody who decides by rules, so there are none: SECURITY_DISABLED, as from Apache
Kafka without an authorizer.

**Version notes.** 1 adds pattern types, 3 rules about users.
"""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import describe_acls

__all__ = ["NO_AUTHORIZER", "handle"]

NO_AUTHORIZER: Final = "No Authorizer is configured: whoever can connect may do everything."


def handle(context: Context, request: describe_acls.Request) -> describe_acls.Response:
    """Answer at once."""
    return describe_acls.Response(error_code=int(KafkaError.SECURITY_DISABLED), error_message=NO_AUTHORIZER)
