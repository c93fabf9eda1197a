"""How consumer groups are kept: limits and times.

Owns only numbers; the defaults are Apache Kafka's where it has one that bounds anything.
"""

from __future__ import annotations

import attrs

from megabroker.core.groups.streams.settings import StreamsSettings

__all__ = ["GroupSettings"]

MINUTES_MS = 60 * 1000
DAYS_MS = 24 * 60 * MINUTES_MS


@attrs.frozen
class GroupSettings:
    """Settings of all groups of one broker; the units are in the names.

    Attributes:
        initial_rebalance_delay_ms: how long the first member of an empty group waits for others.
        max_groups: groups of all kinds but share groups, which have as many of their own.
        max_member_bytes: what all their members say of themselves, likewise.
        max_offsets: committed offsets of all groups.
        group_max_size: members of one group, and as many ids given out and not yet used.
        new_member_join_timeout_ms: how long a new member's unanswered join keeps its place.
        consumer_heartbeat_interval_ms: how often members of the consumer protocol are to say that they live.
        consumer_session_timeout_ms: how long they may say nothing.
        consumer_topics_interval_ms: how often such groups look whether topics have changed.
        may_upgrade: whether a classic group with members becomes one of the consumer protocol when a member
            of that protocol comes.
        may_downgrade: whether such a group becomes a classic one when the last member of that protocol goes.
        offset_metadata_max_chars: longest text kept beside a committed offset.
        offsets_retention_ms: how long offsets outlive the last member, or the last commit of a group
            that never had members.
        streams: of streams groups.
        offsets_check_interval_ms: how often expired offsets are looked for; 0 is never.
    """

    initial_rebalance_delay_ms: int = 0
    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 30 * MINUTES_MS
    max_groups: int = 50_000
    max_member_bytes: int = 256 << 20
    max_offsets: int = 1_000_000
    group_max_size: int = 10_000
    new_member_join_timeout_ms: int = 5 * MINUTES_MS
    consumer_heartbeat_interval_ms: int = 5_000
    consumer_session_timeout_ms: int = 45_000
    consumer_topics_interval_ms: int = 1_000
    may_upgrade: bool = True
    may_downgrade: bool = True
    offset_metadata_max_chars: int = 4096
    offsets_retention_ms: int = 7 * DAYS_MS
    offsets_check_interval_ms: int = 10 * MINUTES_MS
    streams: StreamsSettings = attrs.field(factory=StreamsSettings)
