"""DescribeConfigs (32): how topics, groups and this broker are configured.

**Behaviour.** Topics show every topic configuration of Kafka, brokers those that hold here; what the
broker's file changes is told as static broker configuration, and what can only be changed there as
read-only. The empty broker name asks for what is set on all brokers. Loggers are those of this broker.
Groups show their own configurations, whether they exist or not, and so do subscriptions to client metrics.
Other resources, another broker's number and an empty group name are INVALID_REQUEST. Each resource is
answered once; null or no keys mean all.

**Version notes.** 0 tells whether a value is the default, 1 its source and synonyms instead, 3 adds type
and documentation.
"""

from __future__ import annotations

from collections.abc import Iterable

from megabroker.access import Operation
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.protocols.kafka.altering import BROKER, LOGGER, TOPIC, check_config
from megabroker.protocols.kafka.configs import (
    ConfigEntry,
    Source,
    all_brokers_entries,
    broker_entries,
    logger_entries,
    topic_entries,
)
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.group_configs import GROUP, group_entries
from megabroker.protocols.kafka.metrics_configs import METRICS, metrics_entries
from megabroker.protocols.kafka.schema import describe_configs
from megabroker.protocols.kafka.topics import absence, first_seen

__all__ = ["handle"]

_Result = describe_configs.Response.Resource
_Config = describe_configs.Response.Resource.Config


def handle(context: Context, request: describe_configs.Request) -> describe_configs.Response:
    """Answer at once."""
    keys: dict[tuple[int, str], list[str] | None] = {}
    for resource in request.resources:
        keys.setdefault((resource.resource_type, resource.resource_name), resource.configuration_keys)
    results = []
    for (kind, name), wanted in keys.items():
        result = _Result(resource_type=kind, resource_name=name, error_message=None)
        results.append(result)
        try:
            entries = _entries(context, kind, name, result)
        except BrokerError as error:
            result.error_code = kafka_error(error)
            result.error_message = error.message
            continue
        if wanted:
            chosen = set(first_seen(wanted)[0])
            entries = [entry for entry in entries if entry.name in chosen]
        result.configs = [_config(entry, request) for entry in entries]
    return describe_configs.Response(results=results)


def _entries(context: Context, kind: int, name: str, result: _Result) -> Iterable[ConfigEntry]:
    broker = context.broker
    check_config(context, Operation.DESCRIBE_CONFIGS, kind, name)
    if kind == TOPIC:
        topic = broker.topics.get(name)
        if topic is not None:
            return topic_entries(context, topic.configs, topic)
        result.error_code = absence(broker, name)
        if result.error_code == KafkaError.INVALID_TOPIC_EXCEPTION:
            result.error_message = "no topic can have this name"
        return []
    if kind == GROUP:
        return group_entries(context, name)
    if kind == METRICS:
        return metrics_entries(context, name)
    if kind not in (BROKER, LOGGER):
        raise RequestError(ErrorCode.INVALID_REQUEST, f"resources of type {kind} have no configuration here")
    if kind == BROKER and not name:
        return all_brokers_entries(context)
    me = broker.placement.me.id
    if name != str(me):
        or_empty = " or an empty name" if kind == BROKER else ""
        raise RequestError(ErrorCode.INVALID_REQUEST, f"expected broker {me}{or_empty}")
    return broker_entries(context) if kind == BROKER else logger_entries(context)


def _config(entry: ConfigEntry, request: describe_configs.Request) -> _Config:
    synonyms = entry.synonyms if request.include_synonyms else ()
    return _Config(
        name=entry.name,
        value=None if entry.sensitive else entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_default=entry.source == Source.DEFAULT,
        is_sensitive=entry.sensitive,
        synonyms=[
            _Config.Synonym(name=one.name, value=None if entry.sensitive else one.value, source=one.source)
            for one in synonyms
        ],
        config_type=entry.type,
        documentation=entry.doc if request.include_documentation else None,
    )
