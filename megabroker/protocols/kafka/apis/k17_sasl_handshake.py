"""SaslHandshake (17): chooses the way to authenticate.

**Behaviour.** The answer names the mechanisms of the listener; one that is not among them is
UNSUPPORTED_SASL_MECHANISM, and the connection closed. On a listener that has none there is nothing to choose:
ILLEGAL_SASL_STATE, as from a PLAINTEXT listener of Apache Kafka, and the connection stays open. The same is
said to a client that has authenticated and whose session has no end, or that has done so within the last
second.

**Version notes.** After version 0 the messages of the mechanism follow without a header, after 1 by
SaslAuthenticate.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import sasl_handshake

__all__ = ["handle"]


async def handle(context: Context, request: sasl_handshake.Request) -> sasl_handshake.Response:
    """Answer at once."""
    if context.sasl is None:
        return sasl_handshake.Response(error_code=int(KafkaError.ILLEGAL_SASL_STATE))
    error = context.sasl.choose(request.mechanism, bare=context.version == 0)
    return sasl_handshake.Response(error_code=int(error), mechanisms=list(context.sasl.factory.mechanisms))
