"""What a group member subscribes to, read from the bytes it joined with.

Owns the answer for the protocol type "consumer" only: other types (Connect, Schema Registry) put things of
their own there. Must never raise on hostile bytes.
"""

from __future__ import annotations

from collections.abc import Set

from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema.consumer_protocol import read_subscription

__all__ = ["CONSUMER", "subscribed_topics"]

CONSUMER = "consumer"


def subscribed_topics(protocol_type: str, metadata: bytes) -> Set[str] | None:
    """Return the topics a member subscribes to, None when that cannot be told."""
    if protocol_type != CONSUMER:
        return None
    try:
        return frozenset(read_subscription(metadata).topics)
    except ProtocolError:
        return None
