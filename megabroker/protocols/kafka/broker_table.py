"""The broker configurations that hold here, under Kafka's names, and what each of them is.

Owns the table only. Must never have a row whose value is not in force. Source: Kafka documentation, "Broker
Configs".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from megabroker.config.schema import Config
from megabroker.core.topic_configs import ConfigType
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.settings import KafkaSettings

__all__ = ["BROKER_CONFIGS", "NO_EQUIVALENT", "BrokerConfig", "Facts"]


class Facts(NamedTuple):
    """What a value is read from."""

    context: Context
    settings: Config
    kafka: KafkaSettings


class BrokerConfig(NamedTuple):
    """A broker configuration: Kafka's name and how to find what it is here, None when it is not set.

    Attributes:
        has_default: whether it has a value where the file says nothing; where clients connect is always
            set, as it is in Kafka.
    """

    name: str
    type: ConfigType
    read: Callable[[Facts], Any]
    doc: str
    has_default: bool = True


def _advertised(facts: Facts) -> str:
    listeners = facts.context.broker.placement.me.listeners
    return ",".join(
        f"{one.name.upper()}://{one.address.host}:{one.address.port}"
        for one in listeners
        if one.protocol == "kafka"
    )


def _directories(facts: Facts) -> str:
    return ",".join(str(path) for path in (facts.settings.data_dir, *facts.settings.more_data_dirs))


def _bytes_per_second(limit: int) -> str:
    return "1.7976931348623157E308" if limit < 0 else str(float(limit))


_BOOLEAN, _STRING, _INT, _LONG, _LIST = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.LONG,
    ConfigType.LIST,
)

BROKER_CONFIGS: Final = (
    BrokerConfig(
        "advertised.listeners", _LIST, _advertised, "Where clients are told to connect.", has_default=False
    ),
    BrokerConfig("authorizer.class.name", _STRING, lambda facts: "", "Who decides what is allowed: nobody."),
    BrokerConfig(
        "auto.create.topics.enable",
        _BOOLEAN,
        lambda facts: facts.settings.topics.auto_create,
        "Whether a topic asked for by a client that allows it is created.",
    ),
    BrokerConfig("broker.id", _INT, lambda facts: facts.settings.node.id, "Number of this broker."),
    BrokerConfig("broker.rack", _STRING, lambda facts: facts.settings.node.rack, "Where it stands."),
    BrokerConfig(
        "connections.max.idle.ms",
        _LONG,
        lambda facts: facts.settings.limits.idle_seconds * 1000,
        "How long a connection may be silent before it is closed.",
    ),
    BrokerConfig(
        "default.replication.factor", _INT, lambda facts: 1, "Replicas of a topic that does not say how many."
    ),
    BrokerConfig("delete.topic.enable", _BOOLEAN, lambda facts: True, "Whether topics can be deleted."),
    BrokerConfig(
        "fetch.max.bytes",
        _INT,
        lambda facts: facts.kafka.max_fetch_bytes,
        "Most bytes of records in one fetch answer.",
    ),
    BrokerConfig(
        "group.consumer.assignors",
        _LIST,
        lambda facts: "uniform,range",
        "How partitions are assigned to members of the consumer protocol, the default first.",
    ),
    BrokerConfig(
        "group.consumer.heartbeat.interval.ms",
        _INT,
        lambda facts: facts.settings.groups.consumer_heartbeat_interval_ms,
        "How often members of the consumer protocol are told to send heartbeats.",
    ),
    BrokerConfig(
        "group.consumer.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.groups.consumer_session_timeout_ms,
        "How long a member of the consumer protocol may be silent before it is removed.",
    ),
    BrokerConfig(
        "group.consumer.max.size",
        _INT,
        lambda facts: facts.settings.groups.max_members,
        "Members of one group of the consumer protocol at most.",
    ),
    BrokerConfig(
        "group.consumer.migration.policy",
        _STRING,
        lambda facts: facts.settings.groups.migration_policy,
        "Whether groups with members may change between the classic and the consumer protocol.",
    ),
    BrokerConfig(
        "group.coordinator.rebalance.protocols",
        _LIST,
        lambda facts: "classic,consumer,streams",
        "Which kinds of groups are coordinated.",
    ),
    BrokerConfig(
        "group.initial.rebalance.delay.ms",
        _INT,
        lambda facts: facts.settings.groups.initial_rebalance_delay_ms,
        "How long an empty group waits for more members before its first rebalance.",
    ),
    BrokerConfig(
        "group.max.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.groups.max_session_timeout_ms,
        "Longest session timeout a member may ask for.",
    ),
    BrokerConfig(
        "group.max.size",
        _INT,
        lambda facts: facts.settings.groups.max_members,
        "Members of one group at most.",
    ),
    BrokerConfig(
        "group.min.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.groups.min_session_timeout_ms,
        "Shortest session timeout a member may ask for.",
    ),
    BrokerConfig(
        "group.share.delivery.count.limit",
        _INT,
        lambda facts: facts.settings.shares.delivery_count_limit,
        "How often a record is delivered to a share group at most.",
    ),
    BrokerConfig(
        "group.share.heartbeat.interval.ms",
        _INT,
        lambda facts: facts.settings.shares.heartbeat_interval_ms,
        "How often members of share groups are told to send heartbeats.",
    ),
    BrokerConfig(
        "group.share.max.share.sessions",
        _INT,
        lambda facts: facts.settings.shares.max_sessions,
        "Members of share groups that fetch at the same time.",
    ),
    BrokerConfig(
        "group.share.max.size",
        _INT,
        lambda facts: facts.settings.shares.max_members,
        "Members of one share group at most.",
    ),
    BrokerConfig(
        "group.share.partition.max.record.locks",
        _INT,
        lambda facts: facts.settings.shares.max_record_locks,
        "Records of one partition that a share group has in flight at most.",
    ),
    BrokerConfig(
        "group.share.record.lock.duration.ms",
        _INT,
        lambda facts: facts.settings.shares.record_lock_duration_ms,
        "How long a member of a share group may keep a record.",
    ),
    BrokerConfig(
        "group.share.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.shares.session_timeout_ms,
        "How long a member of a share group may be silent before it is removed.",
    ),
    BrokerConfig(
        "group.streams.heartbeat.interval.ms",
        _INT,
        lambda facts: facts.settings.groups.streams_heartbeat_interval_ms,
        "How often members of Kafka Streams' protocol are told to send heartbeats.",
    ),
    BrokerConfig(
        "group.streams.max.size",
        _INT,
        lambda facts: facts.settings.groups.max_members,
        "Members of one group of Kafka Streams' protocol at most.",
    ),
    BrokerConfig(
        "group.streams.num.standby.replicas",
        _INT,
        lambda facts: facts.settings.groups.streams_standby_replicas,
        "Standby replicas of each task of a Kafka Streams application.",
    ),
    BrokerConfig(
        "group.streams.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.groups.streams_session_timeout_ms,
        "How long a member of Kafka Streams' protocol may be silent before it is removed.",
    ),
    BrokerConfig(
        "inter.broker.protocol.version",
        _STRING,
        lambda facts: "4.0-IV3",
        "The release of Apache Kafka whose requests are answered; asked for by consoles.",
    ),
    BrokerConfig(
        "log.cleaner.backoff.ms",
        _LONG,
        lambda facts: facts.settings.cleaner.interval_ms,
        "How long the thread that compacts waits when no log is dirty enough.",
    ),
    BrokerConfig(
        "log.cleaner.dedupe.buffer.size",
        _LONG,
        lambda facts: facts.settings.cleaner.dedupe_buffer_bytes,
        "Memory for the keys of one compaction.",
    ),
    BrokerConfig(
        "log.cleaner.enable",
        _BOOLEAN,
        lambda facts: facts.settings.cleaner.enabled,
        "Whether logs are compacted at all.",
    ),
    BrokerConfig(
        "log.cleaner.io.max.bytes.per.second",
        ConfigType.DOUBLE,
        lambda facts: _bytes_per_second(facts.settings.cleaner.max_bytes_per_second),
        "Bytes that compaction reads and writes together at most.",
    ),
    BrokerConfig("log.cleaner.threads", _INT, lambda facts: 1, "Threads that compact."),
    BrokerConfig("log.dir", _LIST, lambda facts: facts.settings.data_dir, "Where everything is kept."),
    BrokerConfig("log.dirs", _LIST, _directories, "Where partitions are kept."),
    BrokerConfig(
        "log.retention.check.interval.ms",
        _LONG,
        lambda facts: facts.settings.retention_check_interval_ms,
        "How often segments beyond retention are looked for.",
    ),
    BrokerConfig(
        "max.connections",
        _INT,
        lambda facts: facts.settings.limits.max_connections,
        "Connections at most, all listeners together.",
    ),
    BrokerConfig(
        "max.connections.per.ip",
        _INT,
        lambda facts: facts.settings.limits.max_connections_per_address,
        "Connections at most from one peer address.",
    ),
    BrokerConfig(
        "max.incremental.fetch.session.cache.slots",
        _INT,
        lambda facts: facts.kafka.max_fetch_sessions,
        "Fetch sessions kept at the same time.",
    ),
    BrokerConfig("node.id", _INT, lambda facts: facts.settings.node.id, "Number of this broker."),
    BrokerConfig(
        "num.partitions",
        _INT,
        lambda facts: facts.settings.topics.default_partitions,
        "Partitions of a topic created without a number.",
    ),
    BrokerConfig(
        "offset.metadata.max.bytes",
        _INT,
        lambda facts: facts.settings.groups.offset_metadata_max_bytes,
        "Longest note a member may store with an offset.",
    ),
    BrokerConfig(
        "offsets.retention.minutes",
        _INT,
        lambda facts: facts.settings.groups.offsets_retention_ms // 60_000,
        "How long the committed offsets of an empty group are kept.",
    ),
    BrokerConfig(
        "producer.id.expiration.ms",
        _INT,
        lambda facts: facts.settings.producers.id_expiration_ms,
        "How long a partition remembers an idempotent producer that is silent.",
    ),
    BrokerConfig("process.roles", _LIST, lambda facts: "broker,controller", "What this process does."),
    BrokerConfig(
        "queued.max.request.bytes",
        _LONG,
        lambda facts: facts.settings.limits.in_flight_bytes,
        "Bytes of requests in memory before no more are read.",
    ),
    BrokerConfig(
        "remote.log.storage.system.enable", _BOOLEAN, lambda facts: False, "Whether logs can be tiered."
    ),
    BrokerConfig(
        "socket.request.max.bytes",
        _INT,
        lambda facts: facts.settings.limits.max_request_bytes,
        "Largest request.",
    ),
    BrokerConfig(
        "transaction.max.timeout.ms",
        _INT,
        lambda facts: facts.settings.transactions.max_timeout_ms,
        "Longest time a producer may ask for before its open transaction is aborted.",
    ),
    BrokerConfig(
        "transaction.two.phase.commit.enable",
        _BOOLEAN,
        lambda facts: False,
        "Whether producers may ask for two-phase commit (KIP-939).",
    ),
    BrokerConfig(
        "transactional.id.expiration.ms",
        _INT,
        lambda facts: facts.settings.transactions.id_expiration_ms,
        "How long a transactional id that is not used is remembered.",
    ),
)
"""By name, what this broker has something for and topics have no default of."""

NO_EQUIVALENT: Final = {
    "advertised.listeners": "listeners are bound once, at the start",
    "listeners": "listeners are bound once, at the start",
    "listener.security.protocol.map": "listeners are bound once, at the start",
    "metric.reporters": "there are no metrics reporters",
    "sasl.jaas.config": "no secrets are kept among configurations",
}
"""Names that Kafka can change while it runs and that are not even kept here, with the reason."""
