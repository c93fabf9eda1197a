"""The sections ``groups`` and ``shares``: groups of consumers."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from megabroker.config import fields
from megabroker.config.units import DAY, HOUR, KIB, LARGEST_BYTES, LONGEST_MS, MIB, MINUTE, SECOND
from megabroker.errors import Fault

__all__ = ["GroupSettings", "ShareSettings"]


@attrs.frozen(kw_only=True)
class GroupSettings:
    """Consumer groups."""

    min_session_timeout_ms: int = fields.duration_ms(
        100, minimum=1, maximum=DAY, doc="Shortest session timeout a member may ask for."
    )
    max_session_timeout_ms: int = fields.duration_ms(
        30 * MINUTE, minimum=1, maximum=DAY, doc="Longest session timeout a member may ask for."
    )
    initial_rebalance_delay_ms: int = fields.duration_ms(
        0, maximum=HOUR, doc="How long an empty group waits for more members before its first rebalance."
    )
    max_members: int = fields.integer(
        10_000, minimum=1, maximum=1_000_000, unit="members", doc="Maximum number of members of a group."
    )
    max_groups: int = fields.integer(
        50_000,
        minimum=1,
        maximum=10_000_000,
        unit="groups",
        doc="Maximum number of groups, and of share groups; a join or commit that would create "
        "another one is refused.",
    )
    max_member_bytes: int = fields.size_bytes(
        256 * MIB,
        minimum=MIB,
        maximum=LARGEST_BYTES,
        doc="Memory for the data of all members: subscriptions, assignments, topologies.",
    )
    max_offsets: int = fields.integer(
        1_000_000,
        minimum=1,
        maximum=1_000_000_000,
        unit="offsets",
        doc="Maximum number of committed offsets of all groups; the first commit for another "
        "partition is refused.",
    )
    migration_policy: str = fields.choice(
        "bidirectional",
        ("bidirectional", "upgrade", "downgrade", "disabled"),
        doc="Whether a group with members may change its protocol: to the consumer protocol (upgrade), back "
        "(downgrade), both or neither; Kafka's group.consumer.migration.policy.",
    )
    offsets_retention_ms: int = fields.duration_ms(
        7 * DAY,
        minimum=SECOND,
        maximum=LONGEST_MS,
        doc="How long the committed offsets of an empty group are kept.",
    )
    consumer_heartbeat_interval_ms: int = fields.duration_ms(
        5 * SECOND,
        minimum=10,
        maximum=HOUR,
        doc="How often members of the consumer protocol (KIP-848) are told to send heartbeats.",
    )
    consumer_session_timeout_ms: int = fields.duration_ms(
        45 * SECOND,
        minimum=100,
        maximum=DAY,
        doc="How long such a member may be silent before it is removed.",
    )
    streams_heartbeat_interval_ms: int = fields.duration_ms(
        5 * SECOND,
        minimum=10,
        maximum=HOUR,
        doc="How often members of streams groups (KIP-1071) are told to send heartbeats.",
    )
    streams_session_timeout_ms: int = fields.duration_ms(
        45 * SECOND,
        minimum=100,
        maximum=DAY,
        doc="How long a member of a streams group may be silent before it is removed.",
    )
    streams_standby_replicas: int = fields.integer(
        0,
        minimum=0,
        maximum=100,
        unit="copies",
        doc="Number of standby copies of the state of each task of a streams group.",
    )
    offset_metadata_max_bytes: int = fields.size_bytes(
        4 * KIB, maximum=MIB, doc="Longest metadata that a member may store with an offset."
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.min_session_timeout_ms > self.max_session_timeout_ms:
            expected = "no more than groups.max_session_timeout_ms"
            yield Fault("min_session_timeout_ms", self.min_session_timeout_ms, expected)
        if self.consumer_heartbeat_interval_ms >= self.consumer_session_timeout_ms:
            expected = "less than groups.consumer_session_timeout_ms"
            yield Fault("consumer_heartbeat_interval_ms", self.consumer_heartbeat_interval_ms, expected)
        if self.streams_heartbeat_interval_ms >= self.streams_session_timeout_ms:
            expected = "less than groups.streams_session_timeout_ms"
            yield Fault("streams_heartbeat_interval_ms", self.streams_heartbeat_interval_ms, expected)


@attrs.frozen(kw_only=True)
class ShareSettings:
    """Share groups (KIP-932)."""

    heartbeat_interval_ms: int = fields.duration_ms(
        5 * SECOND,
        minimum=10,
        maximum=HOUR,
        doc="How often members are told to send heartbeats; Kafka's group.share.heartbeat.interval.ms.",
    )
    session_timeout_ms: int = fields.duration_ms(
        45 * SECOND,
        minimum=100,
        maximum=DAY,
        doc="How long a member may be silent before it is removed; Kafka's group.share.session.timeout.ms.",
    )
    record_lock_duration_ms: int = fields.duration_ms(
        30 * SECOND,
        minimum=SECOND,
        maximum=HOUR,
        doc="How long a member may keep a record; Kafka's group.share.record.lock.duration.ms.",
    )
    delivery_count_limit: int = fields.integer(
        5,
        minimum=2,
        maximum=25,
        unit="deliveries",
        doc="Maximum number of deliveries of a record; Kafka's group.share.delivery.count.limit.",
    )
    max_record_locks: int = fields.integer(
        2000,
        minimum=100,
        maximum=10_000,
        unit="records",
        doc="Maximum number of records in flight per partition and group; Kafka's "
        "group.share.partition.max.record.locks.",
    )
    max_members: int = fields.integer(
        200,
        minimum=1,
        maximum=10_000,
        unit="members",
        doc="Maximum number of members of a group; Kafka's group.share.max.size.",
    )
    max_sessions: int = fields.integer(
        2000,
        minimum=1,
        maximum=100_000,
        unit="sessions",
        doc="Maximum number of members of all groups that fetch at the same time; Kafka's "
        "group.share.max.share.sessions.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.heartbeat_interval_ms >= self.session_timeout_ms:
            expected = "less than shares.session_timeout_ms"
            yield Fault("heartbeat_interval_ms", self.heartbeat_interval_ms, expected)
