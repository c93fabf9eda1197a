"""What can be configured of STOMP."""

from __future__ import annotations

from typing import ClassVar

import attrs

from megabroker.config import fields
from megabroker.config.protocol import ProtocolSettings

__all__ = ["StompSettings"]


@attrs.frozen(kw_only=True)
class StompSettings(ProtocolSettings):
    """The section ``protocols.stomp``."""

    ways_to_authenticate: ClassVar[frozenset[str]] = frozenset({"auth"})

    acks: str = fields.choice(
        "1",
        ("1", "all"),
        doc="When the receipt of a SEND or a COMMIT is sent: in the log file (1), on disk (all).",
    )
    group: str = fields.text(
        "stomp",
        pattern=r"[^\s].{0,248}",
        what="1 to 249 characters",
        doc="Share group of consumers of /queue/... without a header group.",
    )
    max_body_bytes: int = fields.size_bytes(
        1 << 20, minimum=64, maximum=1 << 30, doc="Longest body of a SEND; a longer one gets an ERROR."
    )
    max_headers: int = fields.integer(
        100, minimum=10, maximum=10_000, doc="Maximum number of headers of a frame."
    )
    max_header_bytes: int = fields.size_bytes(
        8192, minimum=256, maximum=1 << 20, doc="Longest header, name and value together."
    )
    max_subscriptions: int = fields.integer(
        100, minimum=1, maximum=10_000, doc="Maximum number of subscriptions of a connection."
    )
    max_unacknowledged: int = fields.integer(
        1000,
        minimum=1,
        maximum=100_000,
        doc="Maximum number of unacknowledged messages of a subscription; the header prefetch-"
        "count can lower it. All subscriptions of a connection together have ten times as many.",
    )
    max_transaction_bytes: int = fields.size_bytes(
        1 << 20,
        minimum=1024,
        maximum=1 << 30,
        doc="Maximum bytes that the transactions of a connection keep until COMMIT.",
    )
    heart_beat_ms: int = fields.integer(
        10_000,
        minimum=0,
        maximum=3_600_000,
        doc="Shortest interval of heart-beats in both directions; 0 turns them off.",
    )
