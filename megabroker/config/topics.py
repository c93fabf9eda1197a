"""The sections ``topics`` and ``cleaner``: what topics are like when they do not say otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from megabroker.config import fields
from megabroker.config.units import DAY, GIB, KIB, LARGEST_BYTES, LONGEST_MS, MAX_I32, MIB, SECOND
from megabroker.errors import Fault
from megabroker.model import TimestampType

__all__ = ["CleanerSettings", "TopicSettings"]


@attrs.frozen(kw_only=True)
class TopicSettings:
    """Bounds on topics, and what a topic is like when it does not say otherwise."""

    default_partitions: int = fields.integer(
        4,
        minimum=1,
        maximum=100_000,
        unit="partitions",
        reloadable=True,
        doc="Partitions of a topic created without a number.",
    )
    auto_create: bool = fields.flag(
        True,
        reloadable=True,
        doc="Whether a missing topic is created when a Kafka client requests its metadata and allows it.",
    )
    max_topics: int = fields.integer(
        10_000,
        minimum=1,
        maximum=1_000_000,
        unit="topics",
        reloadable=True,
        doc="Maximum number of topics; creating more is refused.",
    )
    max_partitions: int = fields.integer(
        20_000,
        minimum=1,
        maximum=1_000_000,
        unit="partitions",
        reloadable=True,
        doc="Maximum number of partitions of all topics; creating more is refused.",
    )
    segment_bytes: int = fields.size_bytes(
        GIB,
        minimum=KIB,
        maximum=MAX_I32,
        reloadable=True,
        doc="Size at which a new segment file starts; Kafka's segment.bytes.",
    )
    segment_ms: int = fields.duration_ms(
        7 * DAY,
        minimum=1,
        maximum=LONGEST_MS,
        reloadable=True,
        doc="Age at which a new segment file starts; Kafka's segment.ms.",
    )
    index_interval_bytes: int = fields.size_bytes(
        4 * KIB,
        minimum=1,
        maximum=MAX_I32,
        reloadable=True,
        doc="Bytes of log per index entry; Kafka's index.interval.bytes.",
    )
    retention_ms: int = fields.duration_ms(
        7 * DAY,
        maximum=LONGEST_MS,
        unlimited=True,
        reloadable=True,
        doc="Age at which segments are deleted; Kafka's retention.ms.",
    )
    retention_bytes: int = fields.size_bytes(
        fields.UNLIMITED,
        maximum=LARGEST_BYTES,
        unlimited=True,
        reloadable=True,
        doc="Size of a partition above which its oldest segments are deleted; Kafka's retention.bytes.",
    )
    max_message_bytes: int = fields.size_bytes(
        1_048_588,
        minimum=61,
        maximum=MAX_I32,
        reloadable=True,
        doc="Largest record batch that is accepted, in its compressed form; Kafka's max.message.bytes.",
    )
    message_timestamp_type: TimestampType = fields.choice(
        TimestampType.CREATE_TIME,
        TimestampType,
        reloadable=True,
        doc="Whether the timestamp of a record is the producer's or the broker's; Kafka's "
        "message.timestamp.type.",
    )
    cleanup_policy: str = fields.choice(
        "delete",
        ("delete", "compact", "compact,delete"),
        reloadable=True,
        doc="Whether old segments are deleted, compacted by key, or both; Kafka's cleanup.policy.",
    )
    delete_retention_ms: int = fields.duration_ms(
        DAY,
        maximum=LONGEST_MS,
        reloadable=True,
        doc="How long compaction keeps tombstones; Kafka's delete.retention.ms.",
    )
    min_compaction_lag_ms: int = fields.duration_ms(
        0,
        maximum=LONGEST_MS,
        reloadable=True,
        doc="Minimum time before a record is compacted; Kafka's min.compaction.lag.ms.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.default_partitions > self.max_partitions:
            yield Fault("default_partitions", self.default_partitions, "no more than topics.max_partitions")
        if self.max_message_bytes > self.segment_bytes:
            expected = f"no less than topics.max_message_bytes, which is {self.max_message_bytes}"
            yield Fault("segment_bytes", self.segment_bytes, expected)

    def with_configs(self, configs: Mapping[str, str]) -> TopicSettings:
        """Return the section with those of ``topic_configs`` replaced that ``configs`` names."""
        known: dict[str, Any] = {}
        for name in configs.keys() & self.topic_configs().keys():
            key = name.replace(".", "_")
            known[key] = type(getattr(self, key))(configs[name])
        return attrs.evolve(self, **known)

    def topic_configs(self) -> dict[str, str]:
        """Return what this section says of every topic, by Kafka's names of topic configurations."""
        return {
            "segment.bytes": str(self.segment_bytes),
            "segment.ms": str(self.segment_ms),
            "index.interval.bytes": str(self.index_interval_bytes),
            "retention.ms": str(self.retention_ms),
            "retention.bytes": str(self.retention_bytes),
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": self.message_timestamp_type.value,
            "cleanup.policy": self.cleanup_policy,
            "delete.retention.ms": str(self.delete_retention_ms),
            "min.compaction.lag.ms": str(self.min_compaction_lag_ms),
        }


@attrs.frozen(kw_only=True)
class CleanerSettings:
    """Compaction of topics whose cleanup.policy has compact in it."""

    enabled: bool = fields.flag(True, doc="Whether logs are compacted; Kafka's log.cleaner.enable.")
    interval_ms: int = fields.duration_ms(
        15 * SECOND,
        minimum=10,
        maximum=DAY,
        reloadable=True,
        doc="How long to wait when no log is dirty enough; Kafka's log.cleaner.backoff.ms.",
    )
    max_bytes_per_second: int = fields.size_bytes(
        fields.UNLIMITED,
        minimum=64 * KIB,
        maximum=LARGEST_BYTES,
        unlimited=True,
        reloadable=True,
        doc="Maximum number of bytes read and written per second, together; Kafka's "
        "log.cleaner.io.max.bytes.per.second.",
    )
    dedupe_buffer_bytes: int = fields.size_bytes(
        128 * MIB,
        minimum=MIB,
        maximum=LARGEST_BYTES,
        reloadable=True,
        doc="Memory for the keys of one compaction; Kafka's log.cleaner.dedupe.buffer.size.",
    )
