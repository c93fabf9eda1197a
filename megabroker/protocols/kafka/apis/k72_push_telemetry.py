"""PushTelemetry (72): metrics of a client (KIP-714).

**Behaviour.** No metrics are asked for (see GetTelemetrySubscriptions); what a client pushes all the same is
checked and dropped, unread. Without a client id it is INVALID_REQUEST, for another subscription
UNKNOWN_SUBSCRIPTION_ID, in another compression UNSUPPORTED_COMPRESSION_TYPE, and beyond the limit
TELEMETRY_TOO_LARGE.

**Version notes.** There is one version.
"""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.apis.k71_get_telemetry_subscriptions import (
    COMPRESSION_TYPES,
    MAX_BYTES,
    SUBSCRIPTION_ID,
)
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import push_telemetry

__all__ = ["handle"]

_UNCOMPRESSED: Final = 0
_UNKNOWN_SUBSCRIPTION_ID: Final = 117
_TELEMETRY_TOO_LARGE: Final = 118
_NO_ID: Final = bytes(16)


def handle(
    context: Context,
    request: push_telemetry.Request,
) -> push_telemetry.Response:
    """Answer at once."""
    return push_telemetry.Response(error_code=_refusal(request))


def _refusal(request: push_telemetry.Request) -> int:
    if bytes(request.client_instance_id) == _NO_ID:
        return int(KafkaError.INVALID_REQUEST)
    if request.subscription_id != SUBSCRIPTION_ID:
        return _UNKNOWN_SUBSCRIPTION_ID
    if request.compression_type != _UNCOMPRESSED and request.compression_type not in COMPRESSION_TYPES:
        return int(KafkaError.UNSUPPORTED_COMPRESSION_TYPE)
    return _TELEMETRY_TOO_LARGE if len(request.metrics) > MAX_BYTES else 0
