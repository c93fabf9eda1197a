"""SaslHandshake (17): chooses the way to authenticate.

**Behaviour.** No listener authenticates, so there is nothing to choose: ILLEGAL_SASL_STATE and no
mechanisms, as from a PLAINTEXT listener of Apache Kafka. The connection stays open.

**Version notes.** The versions differ in what would follow.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import sasl_handshake

__all__ = ["handle"]


def handle(context: Context, request: sasl_handshake.Request) -> sasl_handshake.Response:
    """Answer at once."""
    return sasl_handshake.Response(error_code=int(KafkaError.ILLEGAL_SASL_STATE))
