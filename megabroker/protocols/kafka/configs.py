"""Configurations as Kafka administrators see them: where each value comes from and what stands behind it.

Owns the table of broker configurations that hold here, under Kafka's names, and the sources and synonyms of
topic configurations. Must never show a value that is not in force: a broker configuration without an
equivalent here is absent.

A value comes from the topic, from the broker's configuration file where that differs from the default, or
is the default. Source: Kafka protocol guide and documentation, "DescribeConfigs", "Broker Configs".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import attrs

from megabroker.config.schema import Config
from megabroker.core.topic_configs import TOPIC_CONFIGS, ConfigType, TopicConfig
from megabroker.model import Topic
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.settings import KafkaSettings

__all__ = [
    "ConfigEntry",
    "Source",
    "Synonym",
    "broker_entries",
    "listed",
    "topic_entries",
]


class Source:
    """Where a value comes from, numbered as on the wire."""

    TOPIC: Final = 1
    BROKER_FILE: Final = 4
    DEFAULT: Final = 5


class Synonym(NamedTuple):
    """One place where the value could have been set, and what is set there."""

    name: str
    value: str
    source: int


@attrs.frozen
class ConfigEntry:
    """One configuration value with all an administrator may ask about it.

    Attributes:
        type: the number of its type on the wire.
        synonyms: strongest first; the first is the one in force.
    """

    name: str
    value: str | None
    source: int
    type: int
    doc: str
    read_only: bool
    sensitive: bool = False
    synonyms: tuple[Synonym, ...] = ()


def listed() -> list[TopicConfig]:
    """Return the topic configurations an administrator is shown, by name."""
    return [row for _, row in sorted(TOPIC_CONFIGS.items()) if not row.internal]


def topic_entries(
    context: Context, configs: Mapping[str, str | None], topic: Topic | None = None
) -> list[ConfigEntry]:
    """Return all configurations of a topic on which ``configs`` are set, by name.

    Args:
        topic: the topic, if it exists: what is not set on it is then taken from what is in force.
    """
    defaults = context.broker.settings.topics.topic_configs()
    entries = []
    for row in listed():
        behind = _synonyms(row, defaults)
        value = configs.get(row.name)
        if value is not None:
            chain = (Synonym(row.name, value, Source.TOPIC), *behind)
        else:
            chain = behind
            value = behind[0].value if behind else row.default
            if topic is not None:
                value = context.broker.topics.config(topic.name, row.name)
        entries.append(
            ConfigEntry(
                name=row.name,
                value=value,
                source=chain[0].source if chain else Source.DEFAULT,
                type=int(row.type),
                doc=row.doc,
                read_only=False,
                sensitive=row.sensitive,
                synonyms=chain,
            )
        )
    return entries


def _synonyms(row: TopicConfig, defaults: Mapping[str, str]) -> tuple[Synonym, ...]:
    """Return what stands behind a topic configuration at the broker, strongest first."""
    if not row.synonyms:
        return ()
    name = row.synonyms[0]
    default = Synonym(name, row.default, Source.DEFAULT)
    value = defaults.get(row.name, row.default)
    return (default,) if value == row.default else (Synonym(name, value, Source.BROKER_FILE), default)


class _Facts(NamedTuple):
    context: Context
    settings: Config
    kafka: KafkaSettings


class _BrokerConfig(NamedTuple):
    """A broker configuration: Kafka's name and how to find what it is here, None when it is not set."""

    name: str
    type: ConfigType
    read: Callable[[_Facts], Any]
    doc: str


def _advertised(facts: _Facts) -> str:
    listeners = facts.context.broker.placement.me.listeners
    return ",".join(
        f"{one.name.upper()}://{one.address.host}:{one.address.port}"
        for one in listeners
        if one.protocol == "kafka"
    )


_BOOLEAN, _STRING, _INT, _LONG, _LIST = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.LONG,
    ConfigType.LIST,
)

_BROKER_CONFIGS: Final = (
    _BrokerConfig("advertised.listeners", _LIST, _advertised, "Where clients are told to connect."),
    _BrokerConfig(
        "auto.create.topics.enable",
        _BOOLEAN,
        lambda facts: facts.settings.topics.auto_create,
        "Whether a topic asked for by a client that allows it is created.",
    ),
    _BrokerConfig("broker.id", _INT, lambda facts: facts.settings.node.id, "Number of this broker."),
    _BrokerConfig("broker.rack", _STRING, lambda facts: facts.settings.node.rack, "Where it stands."),
    _BrokerConfig(
        "connections.max.idle.ms",
        _LONG,
        lambda facts: facts.settings.limits.idle_seconds * 1000,
        "How long a connection may be silent before it is closed.",
    ),
    _BrokerConfig(
        "default.replication.factor", _INT, lambda facts: 1, "Replicas of a topic that does not say how many."
    ),
    _BrokerConfig("delete.topic.enable", _BOOLEAN, lambda facts: True, "Whether topics can be deleted."),
    _BrokerConfig(
        "fetch.max.bytes",
        _INT,
        lambda facts: facts.kafka.max_fetch_bytes,
        "Most bytes of records in one fetch answer.",
    ),
    _BrokerConfig(
        "group.consumer.heartbeat.interval.ms",
        _INT,
        lambda facts: facts.settings.groups.consumer_heartbeat_interval_ms,
        "How often members of the consumer protocol are told to send heartbeats.",
    ),
    _BrokerConfig(
        "group.consumer.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.groups.consumer_session_timeout_ms,
        "How long a member of the consumer protocol may be silent before it is removed.",
    ),
    _BrokerConfig(
        "group.consumer.migration.policy",
        _STRING,
        lambda facts: facts.settings.groups.migration_policy,
        "Whether groups with members may change between the classic and the consumer protocol.",
    ),
    _BrokerConfig(
        "group.coordinator.rebalance.protocols",
        _LIST,
        lambda facts: "classic,consumer",
        "Which kinds of groups are coordinated.",
    ),
    _BrokerConfig(
        "group.initial.rebalance.delay.ms",
        _INT,
        lambda facts: facts.settings.groups.initial_rebalance_delay_ms,
        "How long an empty group waits for more members before its first rebalance.",
    ),
    _BrokerConfig(
        "group.max.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.groups.max_session_timeout_ms,
        "Longest session timeout a member may ask for.",
    ),
    _BrokerConfig(
        "group.max.size",
        _INT,
        lambda facts: facts.settings.groups.max_members,
        "Members of one group at most.",
    ),
    _BrokerConfig(
        "group.min.session.timeout.ms",
        _INT,
        lambda facts: facts.settings.groups.min_session_timeout_ms,
        "Shortest session timeout a member may ask for.",
    ),
    _BrokerConfig(
        "inter.broker.protocol.version",
        _STRING,
        lambda facts: "4.0-IV3",
        "The release of Apache Kafka whose requests are answered; asked for by consoles.",
    ),
    _BrokerConfig("log.dir", _STRING, lambda facts: facts.settings.data_dir, "Where everything is kept."),
    _BrokerConfig("log.dirs", _LIST, lambda facts: facts.settings.data_dir, "Where everything is kept."),
    _BrokerConfig(
        "log.retention.check.interval.ms",
        _LONG,
        lambda facts: facts.settings.retention_check_interval_ms,
        "How often segments beyond retention are looked for.",
    ),
    _BrokerConfig(
        "max.connections",
        _INT,
        lambda facts: facts.settings.limits.max_connections,
        "Connections at most, all listeners together.",
    ),
    _BrokerConfig(
        "max.connections.per.ip",
        _INT,
        lambda facts: facts.settings.limits.max_connections_per_address,
        "Connections at most from one peer address.",
    ),
    _BrokerConfig("node.id", _INT, lambda facts: facts.settings.node.id, "Number of this broker."),
    _BrokerConfig(
        "num.partitions",
        _INT,
        lambda facts: facts.settings.topics.default_partitions,
        "Partitions of a topic created without a number.",
    ),
    _BrokerConfig(
        "offset.metadata.max.bytes",
        _INT,
        lambda facts: facts.settings.groups.offset_metadata_max_bytes,
        "Longest note a member may store with an offset.",
    ),
    _BrokerConfig(
        "offsets.retention.minutes",
        _INT,
        lambda facts: facts.settings.groups.offsets_retention_ms // 60_000,
        "How long the committed offsets of an empty group are kept.",
    ),
    _BrokerConfig(
        "producer.id.expiration.ms",
        _INT,
        lambda facts: facts.settings.producers.id_expiration_ms,
        "How long a partition remembers an idempotent producer that is silent.",
    ),
    _BrokerConfig(
        "socket.request.max.bytes",
        _INT,
        lambda facts: facts.settings.limits.max_request_bytes,
        "Largest request.",
    ),
)


def broker_entries(context: Context) -> Iterable[ConfigEntry]:
    """Return the configurations of this broker, by name; the default is what the file says if empty."""
    entries: dict[str, ConfigEntry] = {}
    defaults = context.broker.settings.topics.topic_configs()
    for row in listed():
        chain = _synonyms(row, defaults)
        if chain:
            entries[chain[0].name] = _broker_entry(row.type, row.doc, chain)
    facts = _Facts(context, context.broker.settings, context.settings)
    unset = _Facts(context, Config(), KafkaSettings())
    for config in _BROKER_CONFIGS:
        value, default = _text(config.read(facts)), _text(config.read(unset))
        if value is None:
            entries[config.name] = ConfigEntry(
                config.name, None, Source.DEFAULT, int(config.type), config.doc, read_only=True
            )
            continue
        chain = () if default is None else (Synonym(config.name, default, Source.DEFAULT),)
        if value != default:
            chain = (Synonym(config.name, value, Source.BROKER_FILE), *chain)
        entries[config.name] = _broker_entry(config.type, config.doc, chain)
    return [entries[name] for name in sorted(entries)]


def _broker_entry(kind: ConfigType, doc: str, chain: tuple[Synonym, ...]) -> ConfigEntry:
    first = chain[0]
    return ConfigEntry(first.name, first.value, first.source, int(kind), doc, read_only=True, synonyms=chain)


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
