"""GetTelemetrySubscriptions (71): which metrics a client shall push (KIP-714).

**Behaviour.** None: nobody here receives them, whatever administrators have subscribed to, so the
subscription is empty, and the client asks again after the interval. A client without an id is given one.

**Version notes.** There is one version.
"""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import get_telemetry_subscriptions

__all__ = ["COMPRESSION_TYPES", "MAX_BYTES", "SUBSCRIPTION_ID", "handle"]

SUBSCRIPTION_ID: Final = 0
"""The one subscription there is, the empty one."""

COMPRESSION_TYPES: Final = (4, 3, 1, 2)
"""Zstandard, LZ4, gzip, Snappy: as Kafka prefers them."""

MAX_BYTES: Final = 1 << 20
"""Most that a client may push at once."""

_INTERVAL_MS: Final = 300_000
_NO_ID: Final = bytes(16)


def handle(
    context: Context,
    request: get_telemetry_subscriptions.Request,
) -> get_telemetry_subscriptions.Response:
    """Answer at once."""
    client = bytes(request.client_instance_id)
    return get_telemetry_subscriptions.Response(
        client_instance_id=uuid4().bytes if client == _NO_ID else client,
        subscription_id=SUBSCRIPTION_ID,
        accepted_compression_types=list(COMPRESSION_TYPES),
        push_interval_ms=_INTERVAL_MS,
        telemetry_max_bytes=MAX_BYTES,
        delta_temporality=True,
    )
