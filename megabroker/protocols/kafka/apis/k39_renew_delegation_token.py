"""RenewDelegationToken (39): a longer life for a token.

**Behaviour.** Tokens stand for users that have authenticated, and no listener authenticates:
DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.

**Version notes.** The versions have the same content.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import renew_delegation_token

__all__ = ["handle"]


def handle(context: Context, request: renew_delegation_token.Request) -> renew_delegation_token.Response:
    """Answer at once."""
    return renew_delegation_token.Response(
        error_code=int(KafkaError.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED), expiry_timestamp_ms=-1
    )
