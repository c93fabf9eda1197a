"""What administrators want to know of clients: subscriptions to their metrics (KIP-714).

Owns the table of names and the metadata table ``client_metrics``: key is the subscription, value an object of
values by Kafka's names. They are kept and told, and change nothing: nobody here receives metrics, so clients
are asked for none.

Invariant: what is set is valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.core.name_pattern import NamePattern
from megabroker.core.topic_configs import ConfigType
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IClientMetrics, IMetadataStore
from megabroker.model import Change

__all__ = ["CLIENT_METRICS", "CLIENT_METRICS_TABLE", "ClientMetrics", "ClientMetricsConfig"]

CLIENT_METRICS_TABLE = "client_metrics"

_INTERVAL, _MATCH, _METRICS = "interval.ms", "match", "metrics"
_SHORTEST_MS: Final = 100
_LONGEST_MS: Final = 3_600_000
_MAX_SUBSCRIPTIONS: Final = 1000
_MAX_VALUE_CHARS: Final = 32_767
_PROPERTIES: Final = frozenset(
    {
        "client_id",
        "client_instance_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    }
)

_log = Logger()


@attrs.frozen
class ClientMetricsConfig:
    """One configuration of a subscription."""

    name: str
    type: ConfigType
    default: str
    doc: str


CLIENT_METRICS: Final[Mapping[str, ClientMetricsConfig]] = MappingProxyType(
    {
        one.name: one
        for one in (
            ClientMetricsConfig(
                _INTERVAL, ConfigType.INT, "300000", "How often clients are to push metrics, in milliseconds."
            ),
            ClientMetricsConfig(
                _MATCH, ConfigType.LIST, "", "Which clients: regular expressions by property; none means all."
            ),
            ClientMetricsConfig(_METRICS, ConfigType.LIST, "", "Which metrics: prefixes of names, or *."),
        )
    }
)
"""By name."""


@implementer(IClientMetrics)
class ClientMetrics:
    """The subscriptions."""

    def __init__(self, metadata: IMetadataStore) -> None:
        self._metadata = metadata
        self._set: dict[str, dict[str, str]] = {}

    def load(self) -> None:
        """Read what is stored. Blocking; call first. What is not valid is logged and left alone."""
        found: dict[str, dict[str, str]] = {}
        for name, row in self._metadata.rows(CLIENT_METRICS_TABLE).items():
            try:
                configs = {str(key): str(value) for key, value in row.items()}
                self.validate(configs)
            except (BrokerError, AttributeError) as error:
                _log.error("unreadable metrics subscription {name!r}: {error}", name=name, error=str(error))
                continue
            found[name] = configs
        self._set = found

    def names(self) -> Sequence[str]:
        """See ``IClientMetrics.names``."""
        return sorted(self._set)

    def of(self, name: str) -> Mapping[str, str]:
        """See ``IClientMetrics.of``."""
        return self._set.get(name, {})

    def validate(self, configs: Mapping[str, str]) -> None:
        """See ``IClientMetrics.validate``."""
        for name, value in configs.items():
            if name not in CLIENT_METRICS:
                raise RequestError(
                    ErrorCode.INVALID_REQUEST, f"not a client metrics configuration: {name[:100]!r}"
                )
            if len(value) > _MAX_VALUE_CHARS:
                raise _invalid(name, value, f"at most {_MAX_VALUE_CHARS} characters")
        if _INTERVAL in configs:
            _check_interval(configs[_INTERVAL])
        for pair in filter(None, configs.get(_MATCH, "").split(",")):
            _check_match(pair)

    def set(self, name: str, configs: Mapping[str, str]) -> Deferred[None]:
        """See ``IClientMetrics.set``."""
        return Deferred.fromCoroutine(self._store(name, dict(configs)))

    async def _store(self, name: str, configs: dict[str, str]) -> None:
        self.validate(configs)
        if configs and name not in self._set and len(self._set) >= _MAX_SUBSCRIPTIONS:
            raise StateError(ErrorCode.TOPIC_LIMIT, f"there are {_MAX_SUBSCRIPTIONS} subscriptions already")
        await self._metadata.write([Change(CLIENT_METRICS_TABLE, name, configs or None)])
        if configs:
            self._set[name] = configs
        else:
            self._set.pop(name, None)


def _check_interval(value: str) -> None:
    number = value.strip()
    if not (number.isascii() and number.isdigit() and len(number) <= 10):
        raise _invalid(_INTERVAL, value, "a whole number")
    if not _SHORTEST_MS <= int(number) <= _LONGEST_MS:
        sentence = f"{_INTERVAL}: {value!r}: expected {_SHORTEST_MS} to {_LONGEST_MS}"
        raise RequestError(ErrorCode.INVALID_REQUEST, sentence)


def _check_match(pair: str) -> None:
    name, equals, pattern = pair.partition("=")
    if not equals or name.strip() not in _PROPERTIES:
        raise _invalid(_MATCH, pair, f"NAME=EXPRESSION, with NAME one of {', '.join(sorted(_PROPERTIES))}")
    try:
        NamePattern(pattern.strip())
    except BrokerError as error:
        raise _invalid(_MATCH, pair, "a regular expression in RE2's syntax") from error


def _invalid(name: str, value: str, expected: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_CONFIG, f"{name}: {value[:100]!r}: expected {expected}")
