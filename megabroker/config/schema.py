"""The broker's own configuration: the whole file, and the keys that stand in no section.

Owns the names in ``broker.yaml`` outside ``protocols:``; sections are in modules of their own. Knows no
protocol: their sections are classes that plugins bring (see ``load``). An attribute has the name of its key
and units are in the names; ``etc/broker.yaml`` documents the same keys, and a test compares the two.
"""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from megabroker.config import fields
from megabroker.config.groups import GroupSettings, ShareSettings
from megabroker.config.http import HttpSettings
from megabroker.config.kinds import Path
from megabroker.config.limits import LimitSettings
from megabroker.config.observability import LoggingSettings, MetricsSettings
from megabroker.config.producers import DedupScope, DedupSettings, ProducerSettings, TransactionSettings
from megabroker.config.protocol import ListenerSettings, ProtocolSettings
from megabroker.config.security import TOKENS, Authorizer, SecuritySettings, token_faults
from megabroker.config.topics import CleanerSettings, TopicSettings
from megabroker.config.units import DAY, KIB, LARGEST_BYTES, MAX_I32, MIB, MINUTE
from megabroker.errors import Fault
from megabroker.model import Durability

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


class Storage(enum.Enum):
    """Where messages are kept."""

    FILE = "file"
    MEMORY = "memory"


@attrs.frozen(kw_only=True)
class NodeSettings:
    """Who this process is."""

    id: int = fields.integer(
        1, minimum=0, maximum=MAX_I32, doc="Id of this broker, unique in its cluster; Kafka's broker.id."
    )
    rack: str | None = fields.optional_text(doc="Rack that Kafka clients are told; null for none.")
    cluster_id: str = fields.text(
        "auto",
        pattern=r"auto|[A-Za-z0-9_-]{22}",
        what="auto, or 22 characters of URL-safe base64",
        doc="Id of the cluster; auto creates one at the first start and stores it in the data directory.",
    )


@attrs.frozen(kw_only=True)
class Config:
    """The whole file."""

    node: NodeSettings = fields.section(NodeSettings, doc="Identity of this broker.")
    workers: int = fields.integer(
        1,
        minimum=1,
        maximum=64,
        unit="processes",
        doc="Number of processes that share the work; each is a node of its own and needs its "
        "own port for Kafka.",
    )
    data_dir: pathlib.Path = fields.path(
        "./data",
        doc="Directory of all data; a relative path is relative to the working directory of the process.",
    )
    more_data_dirs: tuple[pathlib.Path, ...] = fields.listing(
        of=Path(),
        maximum=100,
        doc="Further directories for partitions, as Kafka's log.dirs; a new partition goes to "
        "the directory with the fewest.",
    )
    storage: Storage = fields.choice(
        Storage.FILE,
        Storage,
        doc="Whether messages are stored in files, or in memory only until the broker stops.",
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
        doc="Number of messages that a partition queues before they are written; a full queue "
        "pauses its producers.",
    )
    partition_channel_buffer_bytes: int = fields.size_bytes(
        64 * MIB,
        minimum=KIB,
        maximum=LARGEST_BYTES,
        doc="The same limit in bytes; whichever is reached first applies.",
    )
    consumer_channel_buffer_size: int = fields.integer(
        1000,
        minimum=1,
        maximum=10_000_000,
        unit="messages",
        doc="Number of messages queued for one cursus subscriber; if the queue is full, pushing pauses.",
    )
    enable_gzip: bool = fields.flag(False, doc="Whether the body of every cursus request is a gzip stream.")
    dedup: DedupSettings = fields.section(DedupSettings, doc="Recognition of repeated messages.")
    topics: TopicSettings = fields.section(TopicSettings, doc="Limits and defaults of topics.")
    cleaner: CleanerSettings = fields.section(CleanerSettings, doc="Log compaction.")
    groups: GroupSettings = fields.section(GroupSettings, doc="Consumer groups.")
    shares: ShareSettings = fields.section(ShareSettings, doc="Share groups.")
    producers: ProducerSettings = fields.section(ProducerSettings, doc="Idempotent producers.")
    transactions: TransactionSettings = fields.section(TransactionSettings, doc="Kafka transactions.")
    limits: LimitSettings = fields.section(LimitSettings, doc="Limits on what clients may use.")
    security: SecuritySettings = fields.section(SecuritySettings, doc="Authentication and access control.")
    retention_check_interval_ms: int = fields.duration_ms(
        5 * MINUTE,
        minimum=100,
        maximum=DAY,
        doc="How often old segments are closed, and segments beyond retention deleted.",
    )
    scrub_bytes_per_second: int = fields.size_bytes(
        0,
        maximum=16 * MIB,
        doc="Bytes of closed segments read again per second to find changed bits; each once an hour at most.",
    )
    logging: LoggingSettings = fields.section(LoggingSettings, doc="The log of events.")
    http: HttpSettings = fields.section(HttpSettings, doc="HTTP API and web console.")
    metrics: MetricsSettings = fields.section(MetricsSettings, doc="Metrics for Prometheus.")
    protocols: Mapping[str, Any] = fields.mapping(
        of=ProtocolSettings, doc="Which protocols are served, by the name of their plugin."
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.workers > 1 and self.storage is Storage.MEMORY:
            yield Fault("workers", self.workers, "1, as storage is memory, which processes cannot share")
        if self.node.id + self.workers - 1 > MAX_I32:
            expected = f"at most {MAX_I32 - self.workers + 1}: each of {self.workers} workers takes the next"
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
