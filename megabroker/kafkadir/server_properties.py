"""A Kafka broker's ``server.properties`` as a configuration of ours.

Owns the table of properties that are followed, those that cannot be and why, and the reading of listeners.
Every property in the file ends up followed, passed over with a reason, or as a fault: what would be served
less safely than with Kafka (SASL, an authorizer, tiered storage) is a fault. Where a property is absent
Kafka's default counts, not ours.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import yaml

from megabroker.config.load import PluginDescription, parse
from megabroker.config.schema import Config
from megabroker.config.units import HOUR, MINUTE
from megabroker.core.broker_configs import DYNAMIC_CONFIGS
from megabroker.errors import ConfigError, Fault
from megabroker.kafkadir.listeners import read_listeners, used_by
from megabroker.kafkadir.properties import parse_properties

__all__ = ["ServerProperties", "read_given", "read_server_properties"]

_NO_BOUND: Final = float(1 << 50)


@attrs.frozen
class ServerProperties:
    """What the file comes to.

    Attributes:
        directories: every directory that holds something of the broker's, the main one first.
        followed: property -> our key.
        passed_over: property -> why it has no effect.
    """

    config: Config
    directories: tuple[pathlib.Path, ...]
    followed: Mapping[str, str]
    passed_over: Mapping[str, str]


@attrs.frozen
class _Followed:
    """One property that is followed.

    Attributes:
        key: ours, dotted.
        default: Kafka's, where ours is another.
        factor: what one of its units is in ours.
    """

    key: str
    default: int | str | None = None
    factor: int = 1
    convert: Callable[[str], object] = str


def _number(value: str) -> object:
    return int(value) if re.fullmatch(r"-?[0-9]{1,19}", value) else value


_STANDARD_AUTHORIZER: Final = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"


def _flag(value: str) -> object:
    return {"true": True, "false": False}.get(value.lower(), value)


def _policy(value: str) -> object:
    """Both policies are one value here, in whichever order."""
    return ",".join(sorted(one.strip() for one in value.split(",")))


def _authorizer(value: str) -> object:
    """Kafka's own authorizer decides by rules; any other is a fault by itself."""
    return "acls" if value == _STANDARD_AUTHORIZER else "none"


def _principals(value: str) -> object:
    return [one.strip() for one in value.split(";") if one.strip()]


def _rate(value: str) -> object:
    """A number of bytes a second, in Kafka a double, without bound by default."""
    try:
        rate = float(value)
    except ValueError:
        return value
    return int(rate) if rate < _NO_BOUND else -1


def _ms(key: str, default: int | None = None) -> _Followed:
    return _Followed(key, default, 1, _number)


def _count(key: str, default: int | None = None, factor: int = 1) -> _Followed:
    return _Followed(key, default, factor, _number)


_FOLLOWED: Final[Mapping[str, _Followed]] = {
    "broker.id": _count("node.id"),
    "node.id": _count("node.id"),
    "broker.rack": _Followed("node.rack"),
    "num.partitions": _count("topics.default_partitions", 1),
    "auto.create.topics.enable": _Followed("topics.auto_create", convert=_flag),
    "log.segment.bytes": _count("topics.segment_bytes"),
    "log.roll.hours": _count("topics.segment_ms", factor=HOUR),
    "log.roll.ms": _ms("topics.segment_ms"),
    "log.index.interval.bytes": _count("topics.index_interval_bytes"),
    "log.retention.hours": _count("topics.retention_ms", factor=HOUR),
    "log.retention.minutes": _count("topics.retention_ms", factor=MINUTE),
    "log.retention.ms": _ms("topics.retention_ms"),
    "log.retention.bytes": _count("topics.retention_bytes"),
    "log.retention.check.interval.ms": _ms("retention_check_interval_ms"),
    "log.cleanup.policy": _Followed("topics.cleanup_policy", convert=_policy),
    "log.cleaner.delete.retention.ms": _ms("topics.delete_retention_ms"),
    "log.cleaner.min.compaction.lag.ms": _ms("topics.min_compaction_lag_ms"),
    "log.cleaner.enable": _Followed("cleaner.enabled", convert=_flag),
    "log.cleaner.backoff.ms": _ms("cleaner.interval_ms"),
    "log.cleaner.dedupe.buffer.size": _count("cleaner.dedupe_buffer_bytes"),
    "log.cleaner.io.max.bytes.per.second": _Followed("cleaner.max_bytes_per_second", convert=_rate),
    "message.max.bytes": _count("topics.max_message_bytes"),
    "log.message.timestamp.type": _Followed("topics.message_timestamp_type"),
    "group.min.session.timeout.ms": _ms("groups.min_session_timeout_ms", 6000),
    "group.max.session.timeout.ms": _ms("groups.max_session_timeout_ms"),
    "group.initial.rebalance.delay.ms": _ms("groups.initial_rebalance_delay_ms", 3000),
    "group.max.size": _count("groups.max_members"),
    "group.consumer.heartbeat.interval.ms": _ms("groups.consumer_heartbeat_interval_ms"),
    "group.consumer.session.timeout.ms": _ms("groups.consumer_session_timeout_ms"),
    "group.consumer.migration.policy": _Followed("groups.migration_policy"),
    "offsets.retention.minutes": _count("groups.offsets_retention_ms", factor=MINUTE),
    "offset.metadata.max.bytes": _count("groups.offset_metadata_max_bytes"),
    "producer.id.expiration.ms": _ms("producers.id_expiration_ms"),
    "transaction.max.timeout.ms": _ms("transactions.max_timeout_ms"),
    "transactional.id.expiration.ms": _ms("transactions.id_expiration_ms"),
    "authorizer.class.name": _Followed("security.authorizer", convert=_authorizer),
    "super.users": _Followed("security.super_users", convert=_principals),
    "allow.everyone.if.no.acl.found": _Followed("security.allow_everyone_if_no_acl_found", convert=_flag),
    "max.connections": _count("limits.max_connections"),
    "max.connections.per.ip": _count("limits.max_connections_per_address"),
    "socket.request.max.bytes": _count("limits.max_request_bytes"),
    "fetch.max.bytes": _count("protocols.kafka.max_fetch_bytes"),
    "max.incremental.fetch.session.cache.slots": _count("protocols.kafka.max_fetch_sessions"),
}
"""Where several say one thing, the stronger one comes later, as in Kafka."""

_READ_APART: Final = {
    "process.roles": "(the controller is not served)",
    "log.dir": "data_dir",
    "log.dirs": "data_dir, more_data_dirs",
    "metadata.log.dir": "(read at the first start)",
    "listeners": "protocols.kafka.listeners",
    "advertised.listeners": "protocols.kafka.listeners",
    "listener.security.protocol.map": "protocols.kafka.listeners",
    "controller.listener.names": "protocols.kafka.listeners",
    "connections.max.idle.ms": "limits.idle_seconds",
}

_PASSED_OVER: Final[Mapping[str, str]] = {
    "there is no controller: one node decides alone": r"""
        controller\..* broker\.(heartbeat|session)\..* metadata\..* initial\.broker.* early\.start.*
        server\.max\.startup.* unstable\..*
    """,
    "one node has one replica of everything": r"""
        replica\..* num\.replica.* leader\..* unclean\..* auto\.leader.* min\.insync.* inter\.broker\..*
        default\.replication.* .*\.replication\.factor .*\.min\.isr controlled\..* reserved\..*
        broker\.id\.generation.* .*\.replication\.throttled\..*
    """,
    "there are no internal topics": r"""
        offsets\..* transaction\.state\..* share\.coordinator\..* group\.coordinator\..*
        transaction\.(abort|remove|partition|two).*
    """,
    "threads, queues and buffers are of another kind here": r"""
        num\.(network|io|recovery)\..* background\.threads queued\..* socket\..* request\.timeout.*
        max\.connection.* connection.* .*\.purgatory\..*
    """,
    "durability says when data is on the disk": r"log\.flush\..*",
    "cleaning has a pace of its own": r"log\.cleaner\..*",
    "no listener that is served uses it": r"(ssl|sasl|security|principal|password|listener\.name)\..*",
    "there are no metrics": r".*metric.* auto\.include\.jmx.* telemetry.*",
    "the windows of quotas are those of Kafka's defaults": r".*quota.*",
    "groups of this kind have settings of their own": r"group\..*",
    "it has no counterpart": r"(log|compression|message|remote|delete)\..* .*\.policy\.class\.name",
}
"""Reason -> patterns, tried in order."""


def read_server_properties(
    path: str, plugins: Mapping[str, PluginDescription], working_directory: str
) -> ServerProperties:
    """Read and check the file. Blocking.

    Args:
        working_directory: where relative directories count from.

    Raises:
        ConfigError: with every fault found, by the names of the properties.
    """
    properties = _read(path)
    faults: list[Fault] = []
    _check_kind(properties, faults)
    directories = _directories(properties, working_directory, faults)
    document: dict[str, Any] = {}
    sources: dict[str, str] = {}
    followed = {name: key for name, key in _READ_APART.items() if name in properties}
    for name, row in _FOLLOWED.items():
        value = properties.get(name, row.default)
        if value is None:
            continue
        given = row.convert(value) if isinstance(value, str) else value
        if isinstance(given, int) and not isinstance(given, bool) and given > 0:
            given *= row.factor
        _put(document, row.key, _unlimited(name, given))
        sources[row.key] = name
        if name in properties:
            followed[name] = row.key
    _put(document, "http.enabled", False)  # nothing there asks for it, or could say where
    _put(document, "data_dir", str(directories[0]))
    _put(document, "more_data_dirs", [str(one) for one in directories[1:]])
    before = len(faults)
    listeners = read_listeners(properties, faults)
    followed |= {name: "protocols.kafka.listeners" for name in properties if used_by(name, listeners)}
    if listeners or len(faults) == before:
        _put(document, "protocols.kafka.listeners", listeners)
    _put_idle(properties, document)
    config = _parse(document, path, plugins, sources, faults)
    metadata = properties.get("metadata.log.dir")
    everything = directories
    if metadata is not None:
        everything = (*directories, pathlib.Path(working_directory, metadata))
    rest = sorted(properties.keys() - followed.keys())
    return ServerProperties(
        config, tuple(dict.fromkeys(everything)), followed, {name: _reason(name) for name in rest}
    )


def read_given(properties: Mapping[str, str], faults: list[Fault]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the sections of a configuration for properties that are given, and why others have no effect.

    Unlike ``read_server_properties`` this is of no broker whose directories are taken over: where nothing is
    given our own defaults count, not Kafka's.
    """
    document: dict[str, Any] = {}
    used = set()
    for name, row in _FOLLOWED.items():
        if name in properties:
            given = row.convert(properties[name])
            if isinstance(given, int) and not isinstance(given, bool) and given > 0:
                given *= row.factor
            _put(document, row.key, _unlimited(name, given))
            used.add(name)
    places = [one.strip() for one in (properties.get("log.dirs") or properties.get("log.dir", "")).split(",")]
    if places[0]:
        _put(document, "storage", "file")
        _put(document, "data_dir", places[0])
        _put(document, "more_data_dirs", places[1:])
    if "listeners" in properties:
        listeners = read_listeners(properties, faults)
        _put(document, "protocols.kafka.listeners", listeners)
        used |= {name for name in properties if used_by(name, listeners)}
    used |= {"log.dirs", "log.dir", "listeners", "advertised.listeners"}
    return document, {name: _reason(name) for name in sorted(properties.keys() - used)}


def _read(path: str) -> dict[str, str]:
    try:
        data = pathlib.Path(path).read_bytes()
        return {key: value.strip() for key, value in parse_properties(data.decode("utf-8")).items()}
    except OSError as error:
        raise ConfigError([Fault("(file)", path, f"a readable file ({error.strerror})")], path) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Fault("(file)", path, f"UTF-8 text ({error})")], path) from None


def _check_kind(properties: Mapping[str, str], faults: list[Fault]) -> None:
    """Note what makes this no broker that can be taken over."""
    roles = {role.strip() for role in properties.get("process.roles", "").split(",")}
    if "broker" not in roles:
        value = properties.get("process.roles")
        faults.append(Fault("process.roles", value, "broker, of a KRaft broker without ZooKeeper"))
    if properties.get("authorizer.class.name", "") not in ("", _STANDARD_AUTHORIZER):
        value = properties["authorizer.class.name"]
        expected = f"{_STANDARD_AUTHORIZER}: what another one forbids might be allowed here"
        faults.append(Fault("authorizer.class.name", value, expected))
    tiered = "remote.log.storage.system.enable"
    if properties.get(tiered, "").lower() == "true":
        faults.append(Fault(tiered, "true", "false: older segments are not in the directories"))


def _directories(
    properties: Mapping[str, str], working_directory: str, faults: list[Fault]
) -> tuple[pathlib.Path, ...]:
    text = properties.get("log.dirs") or properties.get("log.dir") or "/tmp/kafka-logs"
    found = tuple(pathlib.Path(working_directory, one.strip()) for one in text.split(",") if one.strip())
    if not found or len(set(found)) != len(found):
        faults.append(Fault("log.dirs", text, "directories, each once"))
    return found or (pathlib.Path("/tmp/kafka-logs"),)


def _unlimited(name: str, value: object) -> object:
    """Kafka's -1 and greatest integers are our -1, or our greatest, where they mean no bound."""
    if name.startswith("max.connections") and value == 2**31 - 1:
        return 1_000_000
    if name == "group.max.size" and value == 2**31 - 1:
        return 100_000
    return value


def _put_idle(properties: Mapping[str, str], document: dict[str, Any]) -> None:
    value = _number(properties.get("connections.max.idle.ms", "600000"))
    if isinstance(value, int):
        value = 31_536_000 if value < 0 else max(1, value // 1000)
    _put(document, "limits.idle_seconds", value)


def _put(document: dict[str, Any], key: str, value: object) -> None:
    *outer, last = key.split(".")
    for name in outer:
        document = document.setdefault(name, {})
    document[last] = value


def _parse(
    document: Mapping[str, Any],
    path: str,
    plugins: Mapping[str, PluginDescription],
    sources: Mapping[str, str],
    faults: list[Fault],
) -> Config:
    """Check the document as any configuration, naming faults by the property they come from."""
    try:
        config = parse(yaml.safe_dump(document), path, plugins)
    except ConfigError as error:
        for fault in error.faults:
            source = sources.get(fault.path) or _listener_source(fault.path)
            faults.append(Fault(source, fault.value, f"{fault.expected} ({fault.path})"))
    if faults:
        raise ConfigError(faults, path)
    return config


def _listener_source(key: str) -> str:
    if key.startswith("protocols.kafka.listeners"):
        return "listeners"
    return "connections.max.idle.ms" if key == "limits.idle_seconds" else key


def _reason(name: str) -> str:
    dynamic = DYNAMIC_CONFIGS.get(name)
    if dynamic is not None and not dynamic.is_kept_only:
        return "only kafka-configs --entity-type brokers sets it here"
    for reason, patterns in _PASSED_OVER.items():
        if any(re.fullmatch(pattern, name) for pattern in patterns.split()):
            return reason
    return "it is not known here"
