"""The section ``limits``: what clients may take of the broker."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from megabroker.config import fields
from megabroker.config.units import GIB, KIB, LARGEST_BYTES, MAX_I32, MIB
from megabroker.errors import Fault

__all__ = ["LimitSettings"]


@attrs.frozen(kw_only=True)
class LimitSettings:
    """What clients may take of the broker."""

    max_connections: int = fields.integer(
        10_000,
        minimum=1,
        maximum=1_000_000,
        unit="connections",
        reloadable=True,
        doc="Maximum number of connections, all listeners together; further ones are closed at once.",
    )
    max_connections_per_address: int = fields.integer(
        5000,
        minimum=1,
        maximum=1_000_000,
        unit="connections",
        reloadable=True,
        doc="Maximum number of connections from one address.",
    )
    max_request_bytes: int = fields.size_bytes(
        100 * MIB, minimum=KIB, maximum=MAX_I32, doc="Largest request; a larger one closes its connection."
    )
    in_flight_bytes: int = fields.size_bytes(
        256 * MIB,
        minimum=MIB,
        maximum=LARGEST_BYTES,
        doc="Bytes of requests received and not yet answered, on all connections; above it the "
        "broker stops reading.",
    )
    unwritten_bytes: int = fields.size_bytes(
        256 * MIB,
        minimum=MIB,
        maximum=LARGEST_BYTES,
        doc="Bytes of records accepted and not yet written to files, in all partitions; above "
        "it producers wait.",
    )
    partial_frame_seconds: int = fields.integer(
        30,
        minimum=1,
        maximum=86_400,
        unit="seconds",
        doc="How long a client may take to send one request before its connection is closed.",
    )
    idle_seconds: int = fields.integer(
        600,
        minimum=1,
        maximum=31_536_000,
        unit="seconds",
        doc="How long a connection may be idle before it is closed.",
    )
    unauthenticated_seconds: int = fields.integer(
        10,
        minimum=1,
        maximum=3600,
        unit="seconds",
        reloadable=True,
        doc="How long a client may take to authenticate, if it must, before its connection is closed.",
    )
    unauthenticated_bytes: int = fields.size_bytes(
        64 * KIB,
        minimum=KIB,
        maximum=GIB,
        reloadable=True,
        doc="Bytes that a client may send before it has authenticated; Kafka's "
        "sasl.server.max.receive.size applies to one message.",
    )
    output_buffer_bytes: int = fields.size_bytes(
        4 * MIB,
        minimum=KIB,
        maximum=GIB,
        doc="Bytes of responses waiting for one slow client; above it no more of its requests are read.",
    )
    unread_answer_bytes: int = fields.size_bytes(
        256 * MIB,
        minimum=MIB,
        maximum=LARGEST_BYTES,
        doc="Bytes of responses in memory waiting for all clients; above it those that have "
        "read nothing for 3 s are closed.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.in_flight_bytes < self.max_request_bytes:
            expected = "no less than limits.max_request_bytes"
            yield Fault("in_flight_bytes", self.in_flight_bytes, expected)
