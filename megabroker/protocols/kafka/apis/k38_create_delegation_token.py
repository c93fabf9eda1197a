"""CreateDelegationToken (38): a token that stands for a user.

**Behaviour.** Tokens stand for users that have authenticated, and no listener authenticates:
DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, as from a PLAINTEXT listener of Apache Kafka.

**Version notes.** 3 names the owner, if that is not the client.
"""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import create_delegation_token

__all__ = ["handle"]

_NONE: Final = -1


def handle(context: Context, request: create_delegation_token.Request) -> create_delegation_token.Response:
    """Answer at once."""
    owner_type, owner_name = request.owner_principal_type, request.owner_principal_name
    return create_delegation_token.Response(
        error_code=int(KafkaError.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED),
        principal_type=owner_type or context.principal.type,
        principal_name=owner_name or context.principal.name,
        token_requester_principal_type=context.principal.type,
        token_requester_principal_name=context.principal.name,
        issue_timestamp_ms=_NONE,
        expiry_timestamp_ms=_NONE,
        max_timestamp_ms=_NONE,
    )
