"""SaslAuthenticate (36): says who the client is, and proves it.

**Behaviour.** Takes one message of the mechanism that SaslHandshake chose, and answers with the broker's.
What proves nothing is SASL_AUTHENTICATION_FAILED, in no hurry and in the same words whatever was wrong, and
the connection is closed; the log says what was wrong. Where no mechanism was chosen: ILLEGAL_SASL_STATE.

**Version notes.** 1 adds the lifetime of a session, within which the client authenticates anew (KIP-368).
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import sasl_authenticate

__all__ = ["handle"]


async def handle(context: Context, request: sasl_authenticate.Request) -> sasl_authenticate.Response:
    """Answer when the message is looked at."""
    if context.sasl is None:
        return sasl_authenticate.Response(
            error_code=int(KafkaError.ILLEGAL_SASL_STATE),
            error_message="this listener does not authenticate: expected security.protocol PLAINTEXT or SSL",
        )
    proof = await context.sasl.prove(bytes(request.auth_bytes))
    return sasl_authenticate.Response(
        error_code=int(proof.error),
        error_message=proof.text,
        auth_bytes=proof.message,
        session_lifetime_ms=proof.lifetime_ms,
    )
