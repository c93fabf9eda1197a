"""How share groups are kept: limits and times.

Owns only numbers; the defaults are Apache Kafka's.
"""

from __future__ import annotations

import attrs

__all__ = ["ShareSettings"]


@attrs.frozen
class ShareSettings:
    """Settings of all share groups of one broker; the units are in the names.

    Attributes:
        max_groups: how many groups there may be.
        max_member_bytes: what all their members say of themselves.
        max_members: members of one group.
        max_sessions: share sessions of all groups together.
        topics_interval_ms: how often groups look whether topics have changed.
    """

    max_groups: int = 50_000
    max_member_bytes: int = 256 << 20
    max_members: int = 200
    max_sessions: int = 2_000
    topics_interval_ms: int = 1_000
