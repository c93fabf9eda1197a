"""The configurations of single groups, by Kafka's names (resource type GROUP).

Owns the table of names with what they mean and allow, and the table ``group_configs`` with what is set. What
a group does not set is as the broker's configuration says. Configurations may be set before their group
exists, and stay when it is gone, as Kafka has it.

Table ``group_configs``: key is the group, value ``{"<name>": "<value>"}``.

Invariant: what is set is valid, alone and together with what it falls back to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.topic_configs import ConfigType
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change

__all__ = ["GROUP_CONFIGS", "GROUP_CONFIGS_TABLE", "GroupConfig", "GroupConfigs", "duration_ms"]

GROUP_CONFIGS_TABLE = "group_configs"

_log = Logger()

_MAX_GROUPS: Final = 10_000
"""Groups that have configurations at most."""

_MAX_MS: Final = (1 << 31) - 1
_DURATION: Final = re.compile(
    r"P(?=.)(?:(\d{1,7})D)?(?:T(?=.)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,12})(?:\.(\d{1,9}))?S)?)?",
    re.ASCII,
)
_BY_DURATION: Final = "by_duration:"
_RESET: Final = "share.auto.offset.reset"


@attrs.frozen
class GroupConfig:
    """One configuration.

    Attributes:
        default: Kafka's; the broker's own configuration may differ.
        synonym: the broker configuration it falls back to; empty when there is none.
        lowest: of a number, with ``highest``.
        words: the values of what is no number; empty when they are not to be listed.
    """

    name: str
    type: ConfigType
    default: str
    doc: str
    synonym: str = ""
    lowest: int = 0
    highest: int = _MAX_MS
    words: tuple[str, ...] = ()

    def check(self, value: str) -> None:
        """Accept a value. Raises RequestError(INVALID_CONFIG)."""
        expected = self._fault(value)
        if expected:
            raise RequestError(ErrorCode.INVALID_CONFIG, f"{self.name}: {value[:100]!r}: expected {expected}")

    def _fault(self, value: str) -> str:
        if self.type is ConfigType.INT:
            number = value.strip()
            if (
                re.fullmatch(r"[+-]?\d{1,10}", number, re.ASCII)
                and self.lowest <= int(number) <= self.highest
            ):
                return ""
            return f"a number from {self.lowest} to {self.highest}"
        if self.words and _plain(self, value) not in self.words:
            return " or ".join(self.words)
        if self.name == _RESET and value not in ("latest", "earliest") and duration_ms(value) is None:
            return "earliest, latest or by_duration: with an ISO 8601 duration such as PT1H"
        return ""


def duration_ms(value: str) -> int | None:
    """Return the milliseconds of ``by_duration:<ISO 8601>``, None when it is none."""
    found = _DURATION.fullmatch(value.removeprefix(_BY_DURATION).upper())
    if found is None or not (value.startswith(_BY_DURATION) and value.isascii()):
        return None
    days, hours, minutes, seconds, fraction = found.groups()
    whole = (int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes or 0)
    return (whole * 60 + int(seconds or 0)) * 1000 + int(((fraction or "") + "000")[:3])


def _plain(config: GroupConfig, value: str) -> str:
    """Return a value as it is compared: Kafka takes "TRUE" and " true" too."""
    return value.strip().lower() if config.type is ConfigType.BOOLEAN else value


_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_INT, _STRING, _BOOLEAN = ConfigType.INT, ConfigType.STRING, ConfigType.BOOLEAN

_LONGEST_ASSIGNMENT_INTERVAL_MS: Final = 15_000
_ASSIGNED_AT_ONCE: Final = "Kept as it was set; assignments are made at once."


def _assignment_interval(kind: str) -> GroupConfig:
    name = f"{kind}.assignment.interval.ms"
    return GroupConfig(name, _INT, "0", _ASSIGNED_AT_ONCE, "", 0, _LONGEST_ASSIGNMENT_INTERVAL_MS)


_ALL: Final = (
    *(_assignment_interval(kind) for kind in ("consumer", "share", "streams")),
    GroupConfig(
        "consumer.heartbeat.interval.ms",
        _INT,
        "5000",
        "How often members of the consumer protocol are told to send heartbeats.",
        "group.consumer.heartbeat.interval.ms",
        10,
        _HOUR,
    ),
    GroupConfig(
        "consumer.session.timeout.ms",
        _INT,
        "45000",
        "How long a member of the consumer protocol may be silent before it is removed.",
        "group.consumer.session.timeout.ms",
        100,
        24 * _HOUR,
    ),
    GroupConfig(
        _RESET,
        _STRING,
        "latest",
        "Where a share group begins in a partition that it has not consumed yet.",
    ),
    GroupConfig(
        "share.delivery.count.limit",
        _INT,
        "5",
        "How often a record is delivered to a share group at most.",
        "group.share.delivery.count.limit",
        2,
        25,
    ),
    GroupConfig(
        "share.heartbeat.interval.ms",
        _INT,
        "5000",
        "How often members of a share group are told to send heartbeats.",
        "group.share.heartbeat.interval.ms",
        10,
        _HOUR,
    ),
    GroupConfig(
        "share.isolation.level",
        _STRING,
        "read_uncommitted",
        "Whether records of open and aborted transactions are delivered.",
        words=("read_committed", "read_uncommitted"),
    ),
    GroupConfig(
        "share.partition.max.record.locks",
        _INT,
        "2000",
        "Records of one partition that a share group has in flight at most.",
        "group.share.partition.max.record.locks",
        100,
        10_000,
    ),
    GroupConfig(
        "share.record.lock.duration.ms",
        _INT,
        "30000",
        "How long a member may keep a record that it has acquired.",
        "group.share.record.lock.duration.ms",
        1_000,
        _HOUR,
    ),
    GroupConfig(
        "share.renew.acknowledge.enable",
        _BOOLEAN,
        "true",
        "Whether members may keep a record for longer by renewing its lock.",
        words=("true", "false"),
    ),
    GroupConfig(
        "share.session.timeout.ms",
        _INT,
        "45000",
        "How long a member of a share group may be silent before it is removed.",
        "group.share.session.timeout.ms",
        100,
        24 * _HOUR,
    ),
    GroupConfig(
        "streams.heartbeat.interval.ms",
        _INT,
        "5000",
        "How often members of Kafka Streams' protocol are told to send heartbeats.",
        "group.streams.heartbeat.interval.ms",
        10,
        _HOUR,
    ),
    GroupConfig("streams.initial.rebalance.delay.ms", _INT, "0", _ASSIGNED_AT_ONCE),
    GroupConfig(
        "streams.num.standby.replicas",
        _INT,
        "0",
        "Standby replicas of each task.",
        "group.streams.num.standby.replicas",
        0,
        100,
    ),
    GroupConfig(
        "streams.session.timeout.ms",
        _INT,
        "45000",
        "How long a member of Kafka Streams' protocol may be silent before it is removed.",
        "group.streams.session.timeout.ms",
        100,
        24 * _HOUR,
    ),
)

GROUP_CONFIGS: Final[Mapping[str, GroupConfig]] = MappingProxyType({one.name: one for one in _ALL})
"""Every configuration of a group, by name."""


class GroupConfigs:
    """What is set on groups, and what is in force.

    Args:
        defaults: what the broker's configuration says, by name; the rest is as Kafka has it.
    """

    def __init__(self, metadata: IMetadataStore, defaults: Mapping[str, str] | None = None) -> None:
        self.defaults = dict(defaults or {})
        self._metadata = metadata
        self._writes = OrderedWrites(metadata)
        self._set: dict[str, dict[str, str]] = {}
        self._listeners: list[Callable[[str], None]] = []

    def load(self) -> None:
        """Read what the store holds. Blocking; call before the services that ask."""
        found: dict[str, dict[str, str]] = {}
        for group_id, row in self._metadata.rows(GROUP_CONFIGS_TABLE).items():
            try:
                configs = {str(name): str(value) for name, value in row.items()}
                for name, value in configs.items():
                    GROUP_CONFIGS[name].check(value)
            except (BrokerError, AttributeError, KeyError) as error:
                _log.error("unreadable group configuration {group!r}: {error}", group=group_id, error=error)
                continue
            found[group_id] = configs
        former, self._set = self._set, found
        for group_id in former.keys() | found.keys():
            if former.get(group_id) != found.get(group_id):
                for listener in self._listeners:
                    listener(group_id)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the id of every group whose configuration has changed."""
        self._listeners.append(listener)

    def groups(self) -> Sequence[str]:
        """Return the groups that have configurations of their own."""
        return sorted(self._set)

    def of(self, group_id: str) -> Mapping[str, str]:
        """Return what is set on a group."""
        return self._set.get(group_id, {})

    def value(self, group_id: str, name: str) -> str:
        """Return what is in force."""
        found = self.of(group_id).get(name)
        return self.default(name) if found is None else _plain(GROUP_CONFIGS[name], found)

    def number(self, group_id: str, name: str) -> int:
        """Return a number that is in force."""
        return int(self.value(group_id, name))

    def default(self, name: str) -> str:
        """Return what holds for groups that do not say otherwise."""
        return self.defaults.get(name, GROUP_CONFIGS[name].default)

    def validate(self, configs: Mapping[str, str]) -> None:
        """Accept the configurations of one group. Raises RequestError(INVALID_CONFIG)."""
        for name, value in configs.items():
            config = GROUP_CONFIGS.get(name)
            if config is None:
                raise RequestError(ErrorCode.INVALID_CONFIG, f"not a group configuration: {name[:100]}")
            config.check(value)
        for kind in ("consumer", "share", "streams"):
            session, heartbeat = f"{kind}.session.timeout.ms", f"{kind}.heartbeat.interval.ms"
            if {session, heartbeat}.isdisjoint(configs):
                continue
            longest = int(configs.get(session, self.default(session)))
            if longest <= int(configs.get(heartbeat, self.default(heartbeat))):
                raise RequestError(ErrorCode.INVALID_CONFIG, f"{session}: expected more than {heartbeat}")

    def set(self, group_id: str, configs: Mapping[str, str]) -> Deferred[None]:
        """Replace what is set on a group; fires when that is stored and in force.

        Fails with RequestError (INVALID_CONFIG, INVALID_GROUP), StateError or StorageError.
        """
        try:
            if not group_id:
                raise RequestError(ErrorCode.INVALID_GROUP, "the group id must not be empty")
            self.validate(configs)
            if group_id not in self._set and len(self._set) >= _MAX_GROUPS:
                raise StateError(ErrorCode.TOPIC_LIMIT, f"{_MAX_GROUPS} groups have configurations already")
        except BrokerError as error:
            return fail(error)
        fresh = dict(configs)

        def apply() -> None:
            if fresh:
                self._set[group_id] = fresh
            else:
                self._set.pop(group_id, None)
            for listener in self._listeners:
                listener(group_id)

        return self._writes.write([Change(GROUP_CONFIGS_TABLE, group_id, fresh or None)], apply)
