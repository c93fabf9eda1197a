"""The broker's own configuration: every key, its default, bounds and meaning.

Owns the names in ``broker.yaml`` outside ``protocols:``. Knows no protocol: their sections are classes that
plugins bring (see ``load``). An attribute has the name of its key and units are in the names;
``etc/broker.yaml`` documents the same keys, and a test compares the two.
"""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from megabroker.config import fields
from megabroker.config.http import HttpSettings
from megabroker.config.kinds import Path
from megabroker.config.protocol import ListenerSettings, ProtocolSettings
from megabroker.config.security import TOKENS, Authorizer, SecuritySettings, token_faults
from megabroker.errors import Fault
from megabroker.model import Durability, TimestampType

__all__ = [
    "Authorizer",
    "CleanerSettings",
    "Config",
    "DedupScope",
    "DedupSettings",
    "GroupSettings",
    "HttpSettings",
    "LimitSettings",
    "ListenerSettings",
    "LoggingSettings",
    "NodeSettings",
    "ProducerSettings",
    "ProtocolSettings",
    "SecuritySettings",
    "ShareSettings",
    "Storage",
    "TopicSettings",
    "TransactionSettings",
]

_SECOND: Final = 1000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_MAX_I32: Final = (1 << 31) - 1
_LONGEST_MS: Final = 100_000 * _DAY
_LARGEST_BYTES: Final = 1 << 50


class Storage(enum.Enum):
    """Where messages are kept."""

    FILE = "file"
    MEMORY = "memory"


class DedupScope(enum.Enum):
    """How far a message id counts as seen."""

    TOPIC = "topic"
    GLOBAL = "global"
    OFF = "off"


@attrs.frozen(kw_only=True)
class NodeSettings:
    """Who this process is."""

    id: int = fields.integer(
        1, minimum=0, maximum=_MAX_I32, doc="Number of this broker, unique in its cluster; Kafka's broker.id."
    )
    rack: str | None = fields.optional_text(
        doc="Where it stands, as told to Kafka clients; null for nowhere."
    )
    cluster_id: str = fields.text(
        "auto",
        pattern=r"auto|[A-Za-z0-9_-]{22}",
        what="auto, or 22 characters of URL-safe base64",
        doc="Identity of the cluster; auto makes one at first start and keeps it in the data directory.",
    )


@attrs.frozen(kw_only=True)
class DedupSettings:
    """Repeats of a message that are not stored again."""

    scope: DedupScope = fields.choice(
        DedupScope.TOPIC,
        DedupScope,
        doc="What a message is compared with: its own topic, all topics, or nothing (off).",
    )
    window_ms: int = fields.duration_ms(
        30 * _MINUTE, minimum=_SECOND, maximum=30 * _DAY, doc="How long a message is remembered."
    )
    max_entries: int = fields.integer(
        1_000_000,
        minimum=1,
        maximum=1_000_000_000,
        unit="messages",
        doc="Messages remembered at most, the oldest forgotten first; about 100 bytes of memory each.",
    )


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
        True, reloadable=True, doc="Whether a topic asked for by a Kafka client that allows it is created."
    )
    max_topics: int = fields.integer(
        10_000,
        minimum=1,
        maximum=1_000_000,
        unit="topics",
        reloadable=True,
        doc="Topics at most; creating more is refused.",
    )
    max_partitions: int = fields.integer(
        20_000,
        minimum=1,
        maximum=1_000_000,
        unit="partitions",
        reloadable=True,
        doc="Partitions at most, all topics together; creating more is refused.",
    )
    segment_bytes: int = fields.size_bytes(
        _GIB,
        minimum=_KIB,
        maximum=_MAX_I32,
        reloadable=True,
        doc="Size at which a new segment file is begun; Kafka's segment.bytes.",
    )
    segment_ms: int = fields.duration_ms(
        7 * _DAY,
        minimum=1,
        maximum=_LONGEST_MS,
        reloadable=True,
        doc="Age at which a new segment file is begun; Kafka's segment.ms.",
    )
    index_interval_bytes: int = fields.size_bytes(
        4 * _KIB,
        minimum=1,
        maximum=_MAX_I32,
        reloadable=True,
        doc="Bytes of log per index entry; Kafka's index.interval.bytes.",
    )
    retention_ms: int = fields.duration_ms(
        7 * _DAY,
        maximum=_LONGEST_MS,
        unlimited=True,
        reloadable=True,
        doc="Age at which segments are deleted; Kafka's retention.ms.",
    )
    retention_bytes: int = fields.size_bytes(
        fields.UNLIMITED,
        maximum=_LARGEST_BYTES,
        unlimited=True,
        reloadable=True,
        doc="Size of a partition beyond which its oldest segments are deleted; Kafka's retention.bytes.",
    )
    max_message_bytes: int = fields.size_bytes(
        1_048_588,
        minimum=61,
        maximum=_MAX_I32,
        reloadable=True,
        doc="Largest record batch taken, compressed as it arrives; Kafka's max.message.bytes.",
    )
    message_timestamp_type: TimestampType = fields.choice(
        TimestampType.CREATE_TIME,
        TimestampType,
        reloadable=True,
        doc="Whose clock stamps records, the producer's or the broker's; Kafka's message.timestamp.type.",
    )
    cleanup_policy: str = fields.choice(
        "delete",
        ("delete", "compact", "compact,delete"),
        reloadable=True,
        doc="Whether old segments are deleted, compacted by key, or both; Kafka's cleanup.policy.",
    )
    delete_retention_ms: int = fields.duration_ms(
        _DAY,
        maximum=_LONGEST_MS,
        reloadable=True,
        doc="How long compaction keeps tombstones; Kafka's delete.retention.ms.",
    )
    min_compaction_lag_ms: int = fields.duration_ms(
        0,
        maximum=_LONGEST_MS,
        reloadable=True,
        doc="How long a record stays uncompacted at least; Kafka's min.compaction.lag.ms.",
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

    enabled: bool = fields.flag(True, doc="Whether logs are compacted at all; Kafka's log.cleaner.enable.")
    interval_ms: int = fields.duration_ms(
        15 * _SECOND,
        minimum=10,
        maximum=_DAY,
        reloadable=True,
        doc="How long to wait when no log is dirty enough; Kafka's log.cleaner.backoff.ms.",
    )
    max_bytes_per_second: int = fields.size_bytes(
        fields.UNLIMITED,
        minimum=64 * _KIB,
        maximum=_LARGEST_BYTES,
        unlimited=True,
        reloadable=True,
        doc="Bytes read and written together at most; Kafka's log.cleaner.io.max.bytes.per.second.",
    )
    dedupe_buffer_bytes: int = fields.size_bytes(
        128 * _MIB,
        minimum=_MIB,
        maximum=_LARGEST_BYTES,
        reloadable=True,
        doc="Memory for the keys of one compaction; Kafka's log.cleaner.dedupe.buffer.size.",
    )


@attrs.frozen(kw_only=True)
class GroupSettings:
    """Consumer groups."""

    min_session_timeout_ms: int = fields.duration_ms(
        100, minimum=1, maximum=_DAY, doc="Shortest session timeout a member may ask for."
    )
    max_session_timeout_ms: int = fields.duration_ms(
        30 * _MINUTE, minimum=1, maximum=_DAY, doc="Longest session timeout a member may ask for."
    )
    initial_rebalance_delay_ms: int = fields.duration_ms(
        0, maximum=_HOUR, doc="How long an empty group waits for more members before its first rebalance."
    )
    max_members: int = fields.integer(
        10_000, minimum=1, maximum=1_000_000, unit="members", doc="Members of one group at most."
    )
    max_groups: int = fields.integer(
        50_000,
        minimum=1,
        maximum=10_000_000,
        unit="groups",
        doc="Groups at most, and as many share groups; a member or commit of one more is refused.",
    )
    max_member_bytes: int = fields.size_bytes(
        256 * _MIB,
        minimum=_MIB,
        maximum=_LARGEST_BYTES,
        doc="What the members of all groups say of themselves: subscriptions, assignments, topologies.",
    )
    max_offsets: int = fields.integer(
        1_000_000,
        minimum=1,
        maximum=1_000_000_000,
        unit="offsets",
        doc="Committed offsets of all groups at most; the first commit for one more partition is refused.",
    )
    migration_policy: str = fields.choice(
        "bidirectional",
        ("bidirectional", "upgrade", "downgrade", "disabled"),
        doc="Whether a group with members may change its protocol: to the consumer protocol (upgrade), back "
        "(downgrade), both or neither; Kafka's group.consumer.migration.policy.",
    )
    offsets_retention_ms: int = fields.duration_ms(
        7 * _DAY,
        minimum=_SECOND,
        maximum=_LONGEST_MS,
        doc="How long the committed offsets of an empty group are kept.",
    )
    consumer_heartbeat_interval_ms: int = fields.duration_ms(
        5 * _SECOND,
        minimum=10,
        maximum=_HOUR,
        doc="How often members of the consumer protocol (KIP-848) are told to send heartbeats.",
    )
    consumer_session_timeout_ms: int = fields.duration_ms(
        45 * _SECOND,
        minimum=100,
        maximum=_DAY,
        doc="How long such a member may be silent before it is removed.",
    )
    streams_heartbeat_interval_ms: int = fields.duration_ms(
        5 * _SECOND,
        minimum=10,
        maximum=_HOUR,
        doc="How often members of streams groups (KIP-1071) are told to send heartbeats.",
    )
    streams_session_timeout_ms: int = fields.duration_ms(
        45 * _SECOND,
        minimum=100,
        maximum=_DAY,
        doc="How long a member of a streams group may be silent before it is removed.",
    )
    streams_standby_replicas: int = fields.integer(
        0,
        minimum=0,
        maximum=100,
        unit="copies",
        doc="Copies of the state of each task that members of a streams group keep beside the active one.",
    )
    offset_metadata_max_bytes: int = fields.size_bytes(
        4 * _KIB, maximum=_MIB, doc="Longest note a member may store with an offset."
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
        5 * _SECOND,
        minimum=10,
        maximum=_HOUR,
        doc="How often members are told to send heartbeats; Kafka's group.share.heartbeat.interval.ms.",
    )
    session_timeout_ms: int = fields.duration_ms(
        45 * _SECOND,
        minimum=100,
        maximum=_DAY,
        doc="How long a member may be silent before it is removed; Kafka's group.share.session.timeout.ms.",
    )
    record_lock_duration_ms: int = fields.duration_ms(
        30 * _SECOND,
        minimum=_SECOND,
        maximum=_HOUR,
        doc="How long a member may keep a record; Kafka's group.share.record.lock.duration.ms.",
    )
    delivery_count_limit: int = fields.integer(
        5,
        minimum=2,
        maximum=25,
        unit="deliveries",
        doc="How often a record is delivered at most; Kafka's group.share.delivery.count.limit.",
    )
    max_record_locks: int = fields.integer(
        2000,
        minimum=100,
        maximum=10_000,
        unit="records",
        doc="Records of one partition a group has in flight at most; group.share.partition.max.record.locks.",
    )
    max_members: int = fields.integer(
        200, minimum=1, maximum=10_000, unit="members", doc="Members of one group; group.share.max.size."
    )
    max_sessions: int = fields.integer(
        2000,
        minimum=1,
        maximum=100_000,
        unit="sessions",
        doc="Members that fetch at the same time, all groups together; group.share.max.share.sessions.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.heartbeat_interval_ms >= self.session_timeout_ms:
            expected = "less than shares.session_timeout_ms"
            yield Fault("heartbeat_interval_ms", self.heartbeat_interval_ms, expected)


@attrs.frozen(kw_only=True)
class ProducerSettings:
    """Idempotent producers."""

    id_expiration_ms: int = fields.duration_ms(
        _DAY,
        minimum=_SECOND,
        maximum=_LONGEST_MS,
        reloadable=True,
        doc="How long a partition remembers an idempotent producer that is silent.",
    )
    id_block_size: int = fields.integer(
        1000,
        minimum=1,
        maximum=1_000_000,
        unit="ids",
        doc="Producer ids reserved on disk at a time; the rest of a block is skipped at a restart.",
    )
    max_per_partition: int = fields.integer(
        10_000,
        minimum=1,
        maximum=1_000_000,
        unit="producers",
        doc="Idempotent producers a partition remembers at most, the longest silent forgotten first.",
    )


@attrs.frozen(kw_only=True)
class TransactionSettings:
    """Kafka transactions."""

    max_timeout_ms: int = fields.duration_ms(
        15 * _MINUTE,
        minimum=_SECOND,
        maximum=_DAY,
        doc="Longest time a producer may ask for before its open transaction is aborted.",
    )
    max_transactional_ids: int = fields.integer(
        100_000,
        minimum=1,
        maximum=10_000_000,
        unit="ids",
        doc="Transactional ids remembered at most; a producer with one more is refused.",
    )
    max_offsets: int = fields.integer(
        20_000,
        minimum=1,
        maximum=1_000_000,
        unit="offsets",
        doc="Consumer offsets in one transaction at most.",
    )
    id_expiration_ms: int = fields.duration_ms(
        7 * _DAY,
        minimum=_SECOND,
        maximum=_LONGEST_MS,
        doc="How long a transactional id that is not used is remembered.",
    )


@attrs.frozen(kw_only=True)
class LimitSettings:
    """What clients may take of the broker."""

    max_connections: int = fields.integer(
        10_000,
        minimum=1,
        maximum=1_000_000,
        unit="connections",
        reloadable=True,
        doc="Connections at most, all listeners together; further ones are closed at once.",
    )
    max_connections_per_address: int = fields.integer(
        5000,
        minimum=1,
        maximum=1_000_000,
        unit="connections",
        reloadable=True,
        doc="Connections at most from one peer address.",
    )
    max_request_bytes: int = fields.size_bytes(
        100 * _MIB, minimum=_KIB, maximum=_MAX_I32, doc="Largest request; a larger one closes its connection."
    )
    in_flight_bytes: int = fields.size_bytes(
        256 * _MIB,
        minimum=_MIB,
        maximum=_LARGEST_BYTES,
        doc="Bytes of requests received and not yet answered, all connections; above it reading pauses.",
    )
    unwritten_bytes: int = fields.size_bytes(
        256 * _MIB,
        minimum=_MIB,
        maximum=_LARGEST_BYTES,
        doc="Bytes of records accepted and not yet in their files, all partitions; above it producers wait.",
    )
    partial_frame_seconds: int = fields.integer(
        30,
        minimum=1,
        maximum=86_400,
        unit="seconds",
        doc="How long a peer may take over one request before its connection is closed.",
    )
    idle_seconds: int = fields.integer(
        600,
        minimum=1,
        maximum=31_536_000,
        unit="seconds",
        doc="How long a connection may be silent before it is closed.",
    )
    unauthenticated_seconds: int = fields.integer(
        10,
        minimum=1,
        maximum=3600,
        unit="seconds",
        reloadable=True,
        doc="How long a client may take to say who it is, where it must, before its connection is closed.",
    )
    unauthenticated_bytes: int = fields.size_bytes(
        64 * _KIB,
        minimum=_KIB,
        maximum=_GIB,
        reloadable=True,
        doc="What a client may send until then; Kafka's sasl.server.max.receive.size is of one message.",
    )
    output_buffer_bytes: int = fields.size_bytes(
        4 * _MIB,
        minimum=_KIB,
        maximum=_GIB,
        doc="Answers waiting for one slow peer; above it no more of its requests are read.",
    )
    unread_answer_bytes: int = fields.size_bytes(
        256 * _MIB,
        minimum=_MIB,
        maximum=_LARGEST_BYTES,
        doc="Answers waiting in memory for all peers; above it those who read nothing for 3 s are closed.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.in_flight_bytes < self.max_request_bytes:
            expected = "no less than limits.max_request_bytes"
            yield Fault("in_flight_bytes", self.in_flight_bytes, expected)


@attrs.frozen(kw_only=True)
class MetricsSettings:
    """Metrics for Prometheus, which are read at ``/metrics`` of the HTTP port."""

    max_series: int = fields.integer(
        10_000,
        minimum=0,
        maximum=1_000_000,
        unit="series",
        reloadable=True,
        doc="Topics, partitions, groups and committed offsets that have metrics of their own, at most so "
        "many of each; those beyond are counted together. 0 is for none.",
    )


@attrs.frozen(kw_only=True)
class LoggingSettings:
    """The log of events, not of messages."""

    level: str = fields.choice(
        "info",
        ("debug", "info", "warn", "error", "critical"),
        reloadable=True,
        doc="Least important events that are written.",
    )
    format: str = fields.choice(
        "human",
        ("human", "json"),
        doc="How lines look: for people, or JSON with the names of the Elastic Common Schema.",
    )
    requests: int = fields.integer(
        0,
        minimum=0,
        maximum=1_000_000_000,
        unit="requests",
        reloadable=True,
        doc="One request in so many is logged, at most 50 a second; 0 is for none.",
    )
    slow_request_ms: int | None = fields.optional_integer(
        None,
        minimum=1,
        maximum=86_400_000,
        unit="milliseconds",
        reloadable=True,
        doc="Requests that take so long, what they wait for data left out, are logged; null is for none.",
    )


@attrs.frozen(kw_only=True)
class Config:
    """The whole file."""

    node: NodeSettings = fields.section(NodeSettings, doc="Who this process is.")
    workers: int = fields.integer(
        1,
        minimum=1,
        maximum=64,
        unit="processes",
        doc="Processes that share the work, each a node of its own; Kafka listeners take as many ports.",
    )
    data_dir: pathlib.Path = fields.path(
        "./data",
        doc="Where everything is kept; a relative path counts from the working directory of the process.",
    )
    more_data_dirs: tuple[pathlib.Path, ...] = fields.listing(
        of=Path(),
        maximum=100,
        doc="Further directories for partitions, as Kafka's log.dirs; new ones go where the fewest are.",
    )
    storage: Storage = fields.choice(
        Storage.FILE, Storage, doc="Keep messages in files, or in memory only and lose them at the end."
    )
    durability: Durability = fields.choice(
        Durability.FSYNC,
        Durability,
        doc="What acks=all waits for: the disk (fsync), or the operating system's cache (os).",
    )
    partition_channel_buffer_size: int = fields.integer(
        10_000,
        minimum=1,
        maximum=100_000_000,
        unit="messages",
        doc="Messages one partition accepts before they are written; a full queue pauses its producers.",
    )
    partition_channel_buffer_bytes: int = fields.size_bytes(
        64 * _MIB,
        minimum=_KIB,
        maximum=_LARGEST_BYTES,
        doc="The same bound in bytes; whichever is reached first counts.",
    )
    consumer_channel_buffer_size: int = fields.integer(
        1000,
        minimum=1,
        maximum=10_000_000,
        unit="messages",
        doc="Messages pushed to one cursus subscriber and not yet sent, before pushing pauses.",
    )
    enable_gzip: bool = fields.flag(False, doc="Whether the body of every cursus request is a gzip stream.")
    dedup: DedupSettings = fields.section(DedupSettings, doc="Repeats that are not stored again.")
    topics: TopicSettings = fields.section(TopicSettings, doc="Bounds and defaults of topics.")
    cleaner: CleanerSettings = fields.section(CleanerSettings, doc="Compaction of topics with keys.")
    groups: GroupSettings = fields.section(GroupSettings, doc="Consumer groups.")
    shares: ShareSettings = fields.section(ShareSettings, doc="Share groups.")
    producers: ProducerSettings = fields.section(ProducerSettings, doc="Idempotent producers.")
    transactions: TransactionSettings = fields.section(TransactionSettings, doc="Kafka transactions.")
    limits: LimitSettings = fields.section(LimitSettings, doc="What clients may take of the broker.")
    security: SecuritySettings = fields.section(
        SecuritySettings, doc="Who clients are, and what they may do."
    )
    retention_check_interval_ms: int = fields.duration_ms(
        5 * _MINUTE,
        minimum=100,
        maximum=_DAY,
        doc="How often over-age segments are rolled and those beyond retention deleted.",
    )
    logging: LoggingSettings = fields.section(LoggingSettings, doc="The log of events.")
    http: HttpSettings = fields.section(HttpSettings, doc="Administration over HTTP.")
    metrics: MetricsSettings = fields.section(MetricsSettings, doc="Metrics for Prometheus.")
    protocols: Mapping[str, Any] = fields.mapping(
        of=ProtocolSettings, doc="Which protocols are served, by the name of their plugin."
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.workers > 1 and self.storage is Storage.MEMORY:
            yield Fault("workers", self.workers, "1, as storage is memory, which processes cannot share")
        if self.node.id + self.workers - 1 > _MAX_I32:
            expected = f"at most {_MAX_I32 - self.workers + 1}: each of {self.workers} workers takes the next"
            yield Fault("node.id", self.node.id, expected)
        if self.takes_tokens:
            yield from token_faults(self.security.tokens, self._takes_tokens())

    @property
    def authenticates(self) -> bool:
        """Whether some listener has clients say who they are."""
        return (self.http.enabled and self.http_authenticates) or self._listeners_ask

    @property
    def http_authenticates(self) -> bool:
        """Whether clients over HTTP must say who they are."""
        asked = self.http.authentication
        return asked == "required" or (asked == "auto" and (self._listeners_ask or self._certificates_needed))

    @property
    def _certificates_needed(self) -> bool:
        return any(
            listener.tls is not None and listener.tls.client_auth == "required"
            for settings in self.protocols.values()
            if settings.enabled
            for listener in settings.listeners
        )

    @property
    def _listeners_ask(self) -> bool:
        return any(
            listener.sasl or listener.auth != "none"
            for settings in self.protocols.values()
            if settings.enabled
            for listener in settings.listeners
        )

    @property
    def takes_tokens(self) -> bool:
        """Whether clients may come with tokens of an identity provider."""
        return any(self._takes_tokens())

    def _takes_tokens(self) -> Iterator[str]:
        """Yield the paths of the keys that have listeners take tokens."""
        for name, settings in self.protocols.items():
            for index, listener in enumerate(settings.listeners if settings.enabled else ()):
                if TOKENS in listener.sasl:
                    yield f"protocols.{name}.listeners[{index}].sasl"
        if self.http.enabled and self.http_authenticates and self.security.tokens.keys is not None:
            yield "security.tokens.keys"

    def group_configs(self) -> dict[str, str]:
        """Return what this file says of every group, by Kafka's names of group configurations."""
        groups, shares = self.groups, self.shares
        return {
            "consumer.heartbeat.interval.ms": str(groups.consumer_heartbeat_interval_ms),
            "consumer.session.timeout.ms": str(groups.consumer_session_timeout_ms),
            "streams.heartbeat.interval.ms": str(groups.streams_heartbeat_interval_ms),
            "streams.session.timeout.ms": str(groups.streams_session_timeout_ms),
            "streams.num.standby.replicas": str(groups.streams_standby_replicas),
            "share.heartbeat.interval.ms": str(shares.heartbeat_interval_ms),
            "share.session.timeout.ms": str(shares.session_timeout_ms),
            "share.record.lock.duration.ms": str(shares.record_lock_duration_ms),
            "share.delivery.count.limit": str(shares.delivery_count_limit),
            "share.partition.max.record.locks": str(shares.max_record_locks),
        }
