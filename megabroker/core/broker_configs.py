"""Configurations of brokers that administrators change while they run, and what is in force of them.

Owns the metadata table ``broker_configs``: what is set for all brokers (key ``default``) and for one (key its
number), each an object of values by Kafka's names. What is set for the one is stronger, then what is set for
all, then the configuration file, then the default. Names are those Kafka calls dynamic; ``DYNAMIC_CONFIGS``
is the list. Those this broker has nothing for are kept and told, as Kafka's administration tools expect, and
not acted on. Applies nothing itself: whoever runs the broker is told and asks what is in force.

Most are the broker's defaults of topic configurations, under the strongest of their synonyms. As in clusters
that Kafka 4.1 or later formed (KIP-966), min.insync.replicas is set for all from the start and stays set.
Source: Kafka documentation, "Updating Broker Configs", KIP-226.

Invariant: what is told to be set is stored, and valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.core.topic_configs import TOPIC_CONFIGS, ConfigType, decimal, whole_number
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBrokerConfigs, ILoggers, IMetadataStore
from megabroker.model import Change

__all__ = [
    "ALL_BROKERS",
    "BROKER_CONFIGS_TABLE",
    "DYNAMIC_CONFIGS",
    "THROTTLES",
    "BrokerConfigs",
    "DynamicConfig",
]

BROKER_CONFIGS_TABLE = "broker_configs"

ALL_BROKERS = "default"
_FROM_THE_START: Final[Mapping[str, str]] = {"min.insync.replicas": "1"}
_MAX_VALUE_CHARS = 32_767

_log = Logger()


@attrs.frozen
class DynamicConfig:
    """A broker configuration that can be changed while the broker runs.

    Attributes:
        check: returns what would be right, as a phrase completing "expected ...", or None for a good value.
        topic: the topic configuration that it is the default of; empty for others.
        key: dotted path of the key in the broker's file that it stands for; empty where there is none.
        read: what a good value is as that key's.
        one_broker: whether it can only be set for one broker, not as the default of all.
    """

    name: str
    type: ConfigType
    check: Callable[[str], str | None]
    topic: str = ""
    key: str = ""
    read: Callable[[str], int] = int
    one_broker: bool = False

    @property
    def is_kept_only(self) -> bool:
        """Whether this broker has nothing that follows it."""
        return not self.topic and not self.key


def _of_topics() -> list[DynamicConfig]:
    return [
        DynamicConfig(row.synonyms[0], row.type, row.check, topic=row.name)
        for row in TOPIC_CONFIGS.values()
        if row.synonyms
    ]


_LEAST_BYTES: Final = 64 << 10
_UNLIMITED_BYTES: Final = float(1 << 50)


def _bytes_per_second(value: str) -> str | None:
    number = decimal(value)
    return None if number is not None and number >= _LEAST_BYTES else f"a number from {_LEAST_BYTES}"


def _fraction(value: str) -> str | None:
    number = decimal(value)
    return None if number is not None and number >= 0 else "a number of 0 or more"


def _anything(value: str) -> str | None:
    return None


def _true_or_false(value: str) -> str | None:
    return None if value.lower() in ("true", "false") else "true or false"


_COUNT = whole_number(1, 2**31 - 1)
_LONG = whole_number(0, 2**63 - 1)

THROTTLES: Final = (
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
)
"""What administrators set while replicas move; Kafka tells of them only while they are set."""

_KEPT: Final = (
    *(DynamicConfig(name, ConfigType.LONG, _LONG) for name in THROTTLES),
    DynamicConfig("background.threads", ConfigType.INT, _COUNT),
    DynamicConfig("log.cleaner.io.buffer.load.factor", ConfigType.DOUBLE, _fraction),
    DynamicConfig("log.cleaner.io.buffer.size", ConfigType.INT, _COUNT),
    DynamicConfig("log.cleaner.threads", ConfigType.INT, _COUNT),
    DynamicConfig("max.connection.creation.rate", ConfigType.INT, _COUNT),
    DynamicConfig("max.connections.per.ip.overrides", ConfigType.STRING, _anything),
    DynamicConfig("num.io.threads", ConfigType.INT, _COUNT),
    DynamicConfig("num.network.threads", ConfigType.INT, _COUNT),
    DynamicConfig("num.recovery.threads.per.data.dir", ConfigType.INT, _COUNT),
    DynamicConfig("num.replica.fetchers", ConfigType.INT, _COUNT),
    DynamicConfig("transaction.partition.verification.enable", ConfigType.BOOLEAN, _true_or_false),
    *(
        DynamicConfig(name, kind, check, one_broker=True)
        for name, kind, check in (
            ("sasl.enabled.mechanisms", ConfigType.LIST, _anything),
            ("sasl.kerberos.kinit.cmd", ConfigType.STRING, _anything),
            ("sasl.kerberos.min.time.before.relogin", ConfigType.LONG, _LONG),
            ("sasl.kerberos.principal.to.local.rules", ConfigType.LIST, _anything),
            ("sasl.kerberos.service.name", ConfigType.STRING, _anything),
            ("sasl.kerberos.ticket.renew.jitter", ConfigType.DOUBLE, _fraction),
            ("sasl.kerberos.ticket.renew.window.factor", ConfigType.DOUBLE, _fraction),
            ("sasl.login.refresh.buffer.seconds", ConfigType.SHORT, whole_number(0, 3600)),
            ("sasl.login.refresh.min.period.seconds", ConfigType.SHORT, whole_number(0, 900)),
            ("sasl.login.refresh.window.factor", ConfigType.DOUBLE, _fraction),
            ("sasl.login.refresh.window.jitter", ConfigType.DOUBLE, _fraction),
        )
    ),
)
"""What this broker has nothing for."""

DYNAMIC_CONFIGS: Final[Mapping[str, DynamicConfig]] = {
    one.name: one
    for one in (
        *_of_topics(),
        DynamicConfig(
            "log.cleaner.backoff.ms", ConfigType.LONG, whole_number(10, 86_400_000), key="cleaner.interval_ms"
        ),
        DynamicConfig(
            "log.cleaner.dedupe.buffer.size",
            ConfigType.LONG,
            whole_number(1 << 20, 1 << 50),
            key="cleaner.dedupe_buffer_bytes",
        ),
        DynamicConfig(
            "log.cleaner.io.max.bytes.per.second",
            ConfigType.DOUBLE,
            _bytes_per_second,
            key="cleaner.max_bytes_per_second",
            read=lambda value: int(float(value)) if float(value) < _UNLIMITED_BYTES else -1,
        ),
        DynamicConfig(
            "max.connections", ConfigType.INT, whole_number(1, 1_000_000), key="limits.max_connections"
        ),
        DynamicConfig(
            "max.connections.per.ip",
            ConfigType.INT,
            whole_number(1, 1_000_000),
            key="limits.max_connections_per_address",
        ),
        DynamicConfig(
            "producer.id.expiration.ms",
            ConfigType.INT,
            whole_number(1, 2**31 - 1),
            key="producers.id_expiration_ms",
        ),
        *_KEPT,
    )
}
"""By Kafka's names."""


@implementer(IBrokerConfigs)
class BrokerConfigs:
    """What is set on brokers.

    Args:
        node_id: number of this broker.
        file: what the configuration file says, ``megabroker.config.schema.Config``.
        loggers: the levels of the log, which are not stored.

    Attributes:
        changed: called when something else is in force than before; may be assigned later.
    """

    def __init__(self, metadata: IMetadataStore, node_id: int, file: Any, loggers: ILoggers) -> None:
        self.file = file
        self.loggers = loggers
        self.changed: Callable[[], None] = _nobody
        self._metadata = metadata
        self._key = str(node_id)
        self._set: dict[str, dict[str, str]] = {}

    def load(self) -> None:
        """Read what is stored. Blocking; call first. What is not valid is logged and left alone."""
        found: dict[str, dict[str, str]] = {}
        for key, row in self._metadata.rows(BROKER_CONFIGS_TABLE).items():
            if key not in (ALL_BROKERS, self._key):
                continue
            try:
                configs = {str(name): str(value) for name, value in row.items()}
            except AttributeError:
                _log.error("unreadable broker configurations {key!r}", key=key)
                continue
            for name, value in list(configs.items()):
                try:
                    _check(name, value)
                except BrokerError as error:
                    _log.error("a broker configuration is not followed: {error}", error=str(error))
                    del configs[name]
            found[key] = configs
        self._set = found

    # --- asking -----------------------------------------------------------------------------------

    def dynamic(self, *, for_all: bool) -> Mapping[str, str]:
        """See ``IBrokerConfigs.dynamic``."""
        if for_all:
            return {**_FROM_THE_START, **self._set.get(ALL_BROKERS, {})}
        return self._set.get(self._key, {})

    def _in_force(self) -> dict[str, str]:
        return {**self.dynamic(for_all=True), **self.dynamic(for_all=False)}

    def topic_defaults(self) -> dict[str, str]:
        """Return the topic configurations whose default is set, with their values."""
        values = self._in_force()
        return {_row(name).topic: value.strip() for name, value in values.items() if _row(name).topic}

    def keys(self) -> dict[str, int]:
        """Return the values that stand in the place of keys of the file, by dotted path."""
        values = self._in_force()
        return {_row(name).key: _row(name).read(value) for name, value in values.items() if _row(name).key}

    # --- changing ---------------------------------------------------------------------------------

    def validate(self, configs: Mapping[str, str], *, for_all: bool) -> None:
        """See ``IBrokerConfigs.validate``."""
        for name, value in configs.items():
            _check(name, value)
            if for_all and _row(name).one_broker:
                raise RequestError(ErrorCode.INVALID_REQUEST, f"{name}: can only be set for one broker")
        lags = [configs.get(f"log.cleaner.{which}.compaction.lag.ms") for which in ("min", "max")]
        if lags[0] is not None and lags[1] is not None and int(lags[0]) > int(lags[1]):
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                "log.cleaner.min.compaction.lag.ms: expected at most log.cleaner.max.compaction.lag.ms",
            )

    def set(self, configs: Mapping[str, str], *, for_all: bool) -> Deferred[None]:
        """See ``IBrokerConfigs.set``."""
        return Deferred.fromCoroutine(self._store(dict(configs), for_all))

    async def _store(self, configs: dict[str, str], for_all: bool) -> None:
        self.validate(configs, for_all=for_all)
        key = ALL_BROKERS if for_all else self._key
        await self._metadata.write([Change(BROKER_CONFIGS_TABLE, key, configs or None)])
        self._set[key] = configs
        _log.info("broker-configs-changed", broker=key, configs=configs)
        self.changed()


def _row(name: str) -> DynamicConfig:
    return DYNAMIC_CONFIGS[name]


def _check(name: str, value: str) -> None:
    row = DYNAMIC_CONFIGS.get(name)
    if row is None:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"{name[:100]!r} cannot be changed dynamically")
    too_long = f"at most {_MAX_VALUE_CHARS} characters"
    expected = row.check(value.strip()) if len(value) <= _MAX_VALUE_CHARS else too_long
    if expected is not None:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"{name}: {value[:100]!r}: expected {expected}")


def _nobody() -> None:
    """Nobody follows yet."""
