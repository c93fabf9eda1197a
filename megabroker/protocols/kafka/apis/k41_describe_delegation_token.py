"""DescribeDelegationToken (41): the tokens there are.

**Behaviour.** Tokens stand for users that have authenticated, and no listener authenticates:
DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.

**Version notes.** 3 adds who asked for a token.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import describe_delegation_token

__all__ = ["handle"]


def handle(
    context: Context, request: describe_delegation_token.Request
) -> describe_delegation_token.Response:
    """Answer at once."""
    return describe_delegation_token.Response(error_code=int(KafkaError.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED))
