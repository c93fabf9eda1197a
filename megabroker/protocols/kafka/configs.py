"""Configurations as Kafka administrators see them: where each value comes from and what stands behind it.

Owns the sources and synonyms of topic and broker configurations. Must never show a value that is not in
force: a broker configuration that nothing here corresponds to has none.

A value comes from the topic, from what is set on this broker or on all of them, from the broker's file where
that differs from the default, or is the default; the strongest is first. Source: Kafka protocol guide and
documentation, "DescribeConfigs", "Broker Configs", KIP-226.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import attrs

from megabroker.config.schema import Config
from megabroker.core.broker_configs import DYNAMIC_CONFIGS, THROTTLES
from megabroker.core.topic_configs import TOPIC_CONFIGS, ConfigType, TopicConfig
from megabroker.model import Topic
from megabroker.protocols.kafka.broker_names import NOTHING_HERE, WITHOUT_VALUE
from megabroker.protocols.kafka.broker_table import BROKER_CONFIGS, Facts
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.settings import KafkaSettings

__all__ = [
    "ROOT",
    "ConfigEntry",
    "Source",
    "Synonym",
    "all_brokers_entries",
    "broker_entries",
    "listed",
    "logger_entries",
    "topic_entries",
]

ROOT: Final = "root"
"""Kafka's name of the logger that stands for all."""


_KEPT_ONLY: Final = "Kept as it was set; nothing of this broker follows it."
_WITHOUT_VALUE: Final = f"Has no value: {NOTHING_HERE}."
_IN_LARGER_UNITS: Final = (".hours", ".minutes")
_HOURS: Final = ".hours"
_HOUR_MS: Final = 3_600_000
_LEVELS: Final = {"debug": "DEBUG", "info": "INFO", "warn": "WARN", "error": "ERROR", "critical": "FATAL"}


class Source:
    """Where a value comes from, numbered as on the wire."""

    TOPIC: Final = 1
    BROKER: Final = 2
    ALL_BROKERS: Final = 3
    BROKER_FILE: Final = 4
    DEFAULT: Final = 5
    LOGGER: Final = 6


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
    entries = []
    for row in listed():
        behind = _topic_chain(context, row)
        if behind and behind[0].name != row.synonyms[0]:
            behind = ()  # as Apache Kafka has it: a default in hours does not stand alone
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


def _topic_chain(context: Context, row: TopicConfig) -> tuple[Synonym, ...]:
    """Return what stands behind a topic configuration at the broker, strongest first."""
    if not row.synonyms:
        return ()
    name = row.synonyms[0]
    chain = _dynamic(context, name)
    in_file = context.broker.configs.file.topics.topic_configs().get(row.name, row.default)
    if in_file != row.default:
        chain.append(Synonym(name, in_file, Source.BROKER_FILE))
    chain.append(_default(row))
    return tuple(chain)


def _dynamic(context: Context, name: str) -> list[Synonym]:
    """Return what is set of a broker configuration, on this broker and on all."""
    configs = context.broker.configs
    places = (
        (Source.BROKER, configs.dynamic(for_all=False).get(name)),
        (Source.ALL_BROKERS, configs.dynamic(for_all=True).get(name)),
    )
    return [Synonym(name, value, source) for source, value in places if value is not None]


def _default(row: TopicConfig) -> Synonym:
    """Return the default, under the synonym that has one in Kafka, the weakest: for some it counts hours."""
    name = row.synonyms[-1]
    if name.endswith(_HOURS):
        return Synonym(name, str(int(row.default) // _HOUR_MS), Source.DEFAULT)
    return Synonym(name, row.default, Source.DEFAULT)


# --- brokers -------------------------------------------------------------------------------------


def broker_entries(context: Context) -> list[ConfigEntry]:
    """Return the configurations of this broker, by name."""
    entries: dict[str, ConfigEntry] = {}
    for row in listed():
        chain = _topic_chain(context, row)
        for name in row.synonyms:
            own = tuple(one for one in chain if one.name == name)
            kind = ConfigType.INT if name.endswith(_IN_LARGER_UNITS) else row.type
            entries[name] = _broker_entry(name, kind, row.doc, own, chain)
    configs = context.broker.configs
    facts = Facts(context, configs.file, context.settings)
    unset = Facts(context, Config(), KafkaSettings())
    for config in BROKER_CONFIGS:
        in_file = _text(config.read(facts))
        default = _text(config.read(unset)) if config.has_default else None
        own = tuple(_dynamic(context, config.name))
        if in_file is not None and in_file != default:
            own = (*own, Synonym(config.name, in_file, Source.BROKER_FILE))
        if default is not None:
            own = (*own, Synonym(config.name, default, Source.DEFAULT))
        entries[config.name] = _broker_entry(config.name, config.type, config.doc, own, own)
    for name, kind in WITHOUT_VALUE.items():
        own = tuple(_dynamic(context, name))
        doc = _KEPT_ONLY if name in DYNAMIC_CONFIGS else _WITHOUT_VALUE
        entries[name] = _broker_entry(name, kind, doc, own, own)
    for name in THROTTLES:
        own = tuple(_dynamic(context, name))
        if own:
            entries[name] = _broker_entry(name, DYNAMIC_CONFIGS[name].type, _KEPT_ONLY, own, own)
    return [entries[name] for name in sorted(entries)]


def all_brokers_entries(context: Context) -> list[ConfigEntry]:
    """Return what is set on all brokers, by name, and nothing else."""
    entries = []
    for entry in broker_entries(context):
        own = tuple(one for one in entry.synonyms if one.source == Source.ALL_BROKERS)
        if own:
            entries.append(attrs.evolve(entry, value=own[0].value, source=own[0].source, synonyms=own))
    return entries


def logger_entries(context: Context) -> list[ConfigEntry]:
    """Return the level of every logger, by Kafka's words; that of all others is ``root``'s."""
    levels = context.broker.configs.loggers.levels()
    return [
        ConfigEntry(
            name or ROOT,
            _LEVELS.get(level, level.upper()),
            Source.LOGGER,
            int(ConfigType.STRING),
            "Least important events that are written.",
            read_only=False,
        )
        for name, level in levels.items()
    ]


def _broker_entry(
    name: str, kind: ConfigType, doc: str, own: tuple[Synonym, ...], chain: tuple[Synonym, ...]
) -> ConfigEntry:
    """Return one entry.

    Args:
        own: where this very name is set.
        chain: where it or a synonym is; told unless the name is not among them.
    """
    return ConfigEntry(
        name,
        own[0].value if own else None,
        own[0].source if own else Source.DEFAULT,
        int(kind),
        doc,
        read_only=name not in DYNAMIC_CONFIGS,
        sensitive=kind is ConfigType.PASSWORD,
        synonyms=tuple(chain[chain.index(own[0]) :]) if own else (),
    )


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
