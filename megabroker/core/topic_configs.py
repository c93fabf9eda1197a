"""Topic configurations: the table of every one Kafka 4 knows, and what they come to for one topic.

Owns names, types, defaults, checks and broker-level synonyms, and turns what is set on a topic into the
``TopicPolicy`` its partitions follow. Never stores anything. A name outside the table is refused, and so is a
value that this broker could only ignore; how each is followed is in docs/compatibility.md.

Source: Kafka documentation, "Topic-Level Configs"; the type numbers are those of DescribeConfigs.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from megabroker.errors import ErrorCode, RequestError
from megabroker.model import LogSettings, TimestampType

__all__ = [
    "TOPIC_CONFIGS",
    "ConfigType",
    "TopicConfig",
    "TopicConfigs",
    "TopicPolicy",
    "decimal",
    "whole_number",
]

_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1
_NUMBER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,3})?")
_REPLICA = re.compile(r"[0-9]{1,10}:[0-9]{1,10}", re.ASCII)
_MAX_VALUE_CHARS = 32_767


class ConfigType(enum.IntEnum):
    """Value types, numbered as DescribeConfigs does."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


@attrs.frozen
class TopicConfig:
    """One row of the table.

    Attributes:
        default: Kafka's default; the broker's configuration may replace it.
        check: returns what would be right, as a phrase completing "expected ...", or None for a good value.
        synonyms: Kafka's broker-level keys for the same thing, strongest first.
        doc: one sentence.
        sensitive: never shown; no topic configuration is.
        internal: may be set, for tests, but is not listed.
    """

    name: str
    type: ConfigType
    default: str
    check: Callable[[str], str | None]
    synonyms: tuple[str, ...]
    doc: str
    sensitive: bool = False
    internal: bool = False


@attrs.frozen
class TopicPolicy:
    """What a topic's configuration means for its partitions; units in the names.

    Attributes:
        max_message_bytes: largest batch accepted, as it arrives.
        timestamp_before_max_ms: how far a record may lie in the past; ``2**63 - 1`` is without limit.
        timestamp_after_max_ms: how far it may lie in the future.
        min_insync_replicas: with more than there are, that is one, nothing is stored that waits for all.
    """

    max_message_bytes: int = 1_048_588
    timestamp_type: TimestampType = TimestampType.CREATE_TIME
    timestamp_before_max_ms: int = _LONG_MAX
    timestamp_after_max_ms: int = 3_600_000
    min_insync_replicas: int = 1
    log: LogSettings = attrs.field(factory=LogSettings)


def decimal(text: str) -> float | None:
    """Return a number, whole or not, as Kafka reads it too; None for what is none.

    Python's ``float`` takes more: ``1_000``, digits of other scripts, ``nan``.
    """
    return float(text) if _DECIMAL.fullmatch(text) else None


def whole_number(low: int, high: int) -> Callable[[str], str | None]:
    """Return a check: whole numbers between two bounds."""
    expected = f"a whole number from {low} to {high}"

    def check(value: str) -> str | None:
        return None if _NUMBER.fullmatch(value) and low <= int(value) <= high else expected

    return check


def _one_of(*words: str) -> Callable[[str], str | None]:
    expected = "one of " + ", ".join(words)
    return lambda value: None if value in words else expected


def _each_of(*words: str) -> Callable[[str], str | None]:
    expected = "a comma-separated choice, each once, of " + ", ".join(words)

    def check(value: str) -> str | None:
        items = _items(value)
        return None if len(set(items)) == len(items) and set(items) <= set(words) else expected

    return check


def _boolean(value: str) -> str | None:
    return None if value.lower() in ("true", "false") else "true or false"


def _ratio(value: str) -> str | None:
    number = decimal(value)
    return None if number is not None and 0 <= number <= 1 else "a number from 0 to 1"


def _replicas(value: str) -> str | None:
    if value == "*" or all(_REPLICA.fullmatch(item) for item in _items(value)):
        return None
    return "* or a comma-separated list of partition:broker"


def _no_tiers(value: str) -> str | None:
    return None if value.lower() == "false" else "false: this broker has no remote log storage"


def _no_preallocation(value: str) -> str | None:
    return None if value.lower() == "false" else "false: segment files grow as they are written"


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")] if value else []


def _gzip_level(value: str) -> str | None:
    return None if value == "-1" else whole_number(1, 9)(value)


def _level(name: str, default: int, check: Callable[[str], str | None]) -> TopicConfig:
    doc = "Level used where the broker compresses."
    return TopicConfig(name, ConfigType.INT, str(default), check, (name,), doc)


def _bool(name: str, synonyms: str, doc: str) -> TopicConfig:
    return TopicConfig(name, ConfigType.BOOLEAN, "false", _boolean, tuple(synonyms.split()), doc)


def _int(name: str, default: int, low: int, synonyms: str, doc: str) -> TopicConfig:
    check = whole_number(low, _INT_MAX)
    return TopicConfig(name, ConfigType.INT, str(default), check, tuple(synonyms.split()), doc)


def _long(name: str, default: int, low: int, synonyms: str, doc: str) -> TopicConfig:
    check = whole_number(low, _LONG_MAX)
    return TopicConfig(name, ConfigType.LONG, str(default), check, tuple(synonyms.split()), doc)


_DAY_MS = 86_400_000
_CODECS = {"uncompressed": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

TOPIC_CONFIGS: Mapping[str, TopicConfig] = {
    config.name: config
    for config in (
        TopicConfig(
            "cleanup.policy",
            ConfigType.LIST,
            "delete",
            _each_of("compact", "delete"),
            ("log.cleanup.policy",),
            "Whether old segments are deleted, compacted by key, both, or neither.",
        ),
        _level("compression.gzip.level", -1, _gzip_level),
        _level("compression.lz4.level", 9, whole_number(1, 17)),
        _level("compression.zstd.level", 3, whole_number(-131_072, 22)),
        TopicConfig(
            "compression.type",
            ConfigType.STRING,
            "producer",
            _one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
            ("compression.type",),
            "Compression of stored batches; producer keeps what the client chose.",
        ),
        _long(
            "delete.retention.ms",
            _DAY_MS,
            0,
            "log.cleaner.delete.retention.ms",
            "How long compaction keeps tombstones.",
        ),
        _long(
            "file.delete.delay.ms",
            60_000,
            0,
            "log.segment.delete.delay.ms",
            "Delay before a dropped file is removed.",
        ),
        _long(
            "flush.messages", _LONG_MAX, 1, "log.flush.interval.messages", "Messages between forced flushes."
        ),
        _long(
            "flush.ms",
            _LONG_MAX,
            0,
            "log.flush.interval.ms log.flush.scheduler.interval.ms",
            "Time between forced flushes.",
        ),
        attrs.evolve(
            TopicConfig(
                "cursus.event.sourcing",
                ConfigType.BOOLEAN,
                "false",
                _boolean,
                (),
                "Whether cursus keeps streams of events in it, each with versions in a row.",
            ),
            internal=True,
        ),
        TopicConfig(
            "follower.replication.throttled.replicas",
            ConfigType.LIST,
            "",
            _replicas,
            (),
            "Replicas whose replication is throttled on the follower's side.",
        ),
        _int("index.interval.bytes", 4096, 0, "log.index.interval.bytes", "Bytes of log per index entry."),
        TopicConfig(
            "leader.replication.throttled.replicas",
            ConfigType.LIST,
            "",
            _replicas,
            (),
            "Replicas whose replication is throttled on the leader's side.",
        ),
        attrs.evolve(
            _int(
                "internal.segment.bytes",
                0,
                0,
                "",
                "Segment size below what segment.bytes allows; 0 is unset.",
            ),
            internal=True,
        ),
        _long(
            "local.retention.bytes",
            -2,
            -2,
            "log.local.retention.bytes",
            "Local share of a tiered log, in bytes.",
        ),
        _long(
            "local.retention.ms", -2, -2, "log.local.retention.ms", "Local share of a tiered log, in time."
        ),
        _long(
            "max.compaction.lag.ms",
            _LONG_MAX,
            1,
            "log.cleaner.max.compaction.lag.ms",
            "Longest time without compaction.",
        ),
        _int("max.message.bytes", 1_048_588, 0, "message.max.bytes", "Largest record batch accepted."),
        _long(
            "message.timestamp.after.max.ms",
            3_600_000,
            0,
            "log.message.timestamp.after.max.ms",
            "How far in the future a record's timestamp may lie.",
        ),
        _long(
            "message.timestamp.before.max.ms",
            _LONG_MAX,
            0,
            "log.message.timestamp.before.max.ms",
            "How far in the past a record's timestamp may lie.",
        ),
        TopicConfig(
            "message.timestamp.type",
            ConfigType.STRING,
            "CreateTime",
            _one_of("CreateTime", "LogAppendTime"),
            ("log.message.timestamp.type",),
            "Whether the producer's or the broker's clock stamps records.",
        ),
        TopicConfig(
            "min.cleanable.dirty.ratio",
            ConfigType.DOUBLE,
            "0.5",
            _ratio,
            ("log.cleaner.min.cleanable.ratio",),
            "Share of uncompacted log that starts a compaction.",
        ),
        _long(
            "min.compaction.lag.ms",
            0,
            0,
            "log.cleaner.min.compaction.lag.ms",
            "Time a record stays uncompacted.",
        ),
        _int(
            "min.insync.replicas",
            1,
            1,
            "min.insync.replicas",
            "Replicas that must confirm a write with acks=all.",
        ),
        attrs.evolve(
            _bool("preallocate", "log.preallocate", "Whether segment files are allocated at full size."),
            check=_no_preallocation,
        ),
        _bool("remote.log.copy.disable", "", "Whether a tiered topic stops copying to remote storage."),
        _bool(
            "remote.log.delete.on.disable", "", "Whether remote data is deleted when tiering is switched off."
        ),
        attrs.evolve(
            _bool("remote.storage.enable", "", "Whether the log is tiered to remote storage."),
            check=_no_tiers,
        ),
        _long(
            "retention.bytes",
            -1,
            -_LONG_MAX,
            "log.retention.bytes",
            "Bytes a partition keeps; below 0 all.",
        ),
        _long(
            "retention.ms",
            7 * _DAY_MS,
            -1,
            "log.retention.ms log.retention.minutes log.retention.hours",
            "How long records are kept; -1 for ever.",
        ),
        _int(
            "segment.bytes",
            1 << 30,
            1 << 20,
            "log.segment.bytes",
            "Size at which a segment file is closed.",
        ),
        _int(
            "segment.index.bytes", 10 << 20, 4, "log.index.size.max.bytes", "Largest size of an index file."
        ),
        _long(
            "segment.jitter.ms",
            0,
            0,
            "log.roll.jitter.ms log.roll.jitter.hours",
            "Spread of the segments' roll times.",
        ),
        _long(
            "segment.ms",
            7 * _DAY_MS,
            1,
            "log.roll.ms log.roll.hours",
            "Age at which a segment file is closed.",
        ),
        _bool(
            "unclean.leader.election.enable",
            "unclean.leader.election.enable",
            "Whether a stale replica may lead.",
        ),
    )
}


class TopicConfigs:
    """The table with the broker's own defaults laid over Kafka's.

    Args:
        defaults: values by topic configuration name, from the broker's configuration, which has its own
            bounds: a broker may default to smaller segments than a topic may ask for.

    Raises:
        RequestError: INVALID_CONFIG for a name outside the table.
    """

    def __init__(self, defaults: Mapping[str, str] | None = None) -> None:
        self.defaults: Mapping[str, str] = dict(defaults or {})
        for name in self.defaults:
            _row(name)

    def validate(self, configs: Mapping[str, str | None]) -> None:
        """Raise RequestError(INVALID_CONFIG), naming the key, unless every entry can be set on a topic."""
        for name, value in configs.items():
            row = _row(name)
            if not isinstance(value, str):
                raise RequestError(ErrorCode.INVALID_CONFIG, f"{name}: a value is needed")
            expected = (
                row.check(value.strip())
                if len(value) <= _MAX_VALUE_CHARS
                else f"at most {_MAX_VALUE_CHARS} characters"
            )
            if expected is not None:
                raise RequestError(ErrorCode.INVALID_CONFIG, f"{name}: {value[:100]!r}: expected {expected}")
        lags = [int(self._value(configs, f"{which}.compaction.lag.ms")) for which in ("min", "max")]
        if lags[0] > lags[1]:
            raise RequestError(
                ErrorCode.INVALID_CONFIG, "min.compaction.lag.ms: expected at most max.compaction.lag.ms"
            )

    def default(self, name: str) -> str:
        """Return what a topic gets that does not set ``name``. Raises RequestError(INVALID_CONFIG)."""
        row = _row(name)
        return self.defaults.get(name, row.default)

    def effective(self, configs: Mapping[str, str], name: str) -> str:
        """Return the value in force for a topic with ``configs``. Raises RequestError(INVALID_CONFIG)."""
        _row(name)
        return self._value(configs, name)

    def rows(self) -> Sequence[TopicConfig]:
        """Return the whole table, by name, as an administrator is shown it."""
        return [row for _, row in sorted(TOPIC_CONFIGS.items()) if not row.internal]

    def policy(self, configs: Mapping[str, str]) -> TopicPolicy:
        """Return what valid ``configs`` mean for a partition."""

        def number(name: str) -> int:
            return int(self._value(configs, name))

        policy = _items(self._value(configs, "cleanup.policy"))
        compacts, deletes = "compact" in policy, "delete" in policy
        segment_ms = number("segment.ms")
        if compacts:
            segment_ms = min(segment_ms, number("max.compaction.lag.ms"))
        codec, level = self._codec(configs)
        return TopicPolicy(
            max_message_bytes=number("max.message.bytes"),
            timestamp_type=TimestampType(self._value(configs, "message.timestamp.type")),
            timestamp_before_max_ms=number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms=number("message.timestamp.after.max.ms"),
            min_insync_replicas=number("min.insync.replicas"),
            log=LogSettings(
                segment_bytes=number("internal.segment.bytes") or number("segment.bytes"),
                segment_ms=segment_ms,
                index_interval_bytes=number("index.interval.bytes"),
                retention_ms=number("retention.ms") if deletes else -1,
                retention_bytes=max(-1, number("retention.bytes")) if deletes else -1,
                compact=compacts,
                delete_retention_ms=number("delete.retention.ms"),
                min_compaction_lag_ms=number("min.compaction.lag.ms"),
                max_compaction_lag_ms=number("max.compaction.lag.ms"),
                min_cleanable_dirty_ratio=float(self._value(configs, "min.cleanable.dirty.ratio")),
                file_delete_delay_ms=number("file.delete.delay.ms"),
                segment_jitter_ms=number("segment.jitter.ms"),
                segment_index_bytes=number("segment.index.bytes"),
                flush_messages=number("flush.messages"),
                flush_ms=number("flush.ms"),
                codec=codec,
                codec_level=level,
                max_batch_bytes=number("max.message.bytes"),
            ),
        )

    def _codec(self, configs: Mapping[str, str]) -> tuple[int | None, int | None]:
        """Return number and level of the codec that batches are stored in, None for the producer's."""
        name = self._value(configs, "compression.type")
        if name == "producer":
            return None, None
        row = TOPIC_CONFIGS.get(f"compression.{name}.level")
        if row is None or (level := self._value(configs, row.name)) == row.default:
            return _CODECS[name], None
        return _CODECS[name], int(level)

    def _value(self, configs: Mapping[str, str | None], name: str) -> str:
        value = configs.get(name)
        if value is None:
            value = self.defaults.get(name, TOPIC_CONFIGS[name].default)
        return value.strip()


def _row(name: str) -> TopicConfig:
    row = TOPIC_CONFIGS.get(name)
    if row is None:
        raise RequestError(ErrorCode.INVALID_CONFIG, f"{name[:100]!r} is not a topic configuration")
    return row
