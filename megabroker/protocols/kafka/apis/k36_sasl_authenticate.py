"""SaslAuthenticate (36): says who the client is.

**Behaviour.** No listener authenticates, so nothing has begun that this could go on with:
ILLEGAL_SASL_STATE, and what the client says of itself is not looked at.

**Version notes.** 1 adds the lifetime of a session.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import sasl_authenticate

__all__ = ["handle"]


def handle(context: Context, request: sasl_authenticate.Request) -> sasl_authenticate.Response:
    """Answer at once."""
    return sasl_authenticate.Response(
        error_code=int(KafkaError.ILLEGAL_SASL_STATE),
        error_message="this listener does not authenticate: expected security.protocol PLAINTEXT or SSL",
    )
