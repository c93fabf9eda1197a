"""ListConfigResources (74): which resources have configurations.

**Behaviour.** All topics, every node, once as a broker and once for its loggers, subscriptions to client
metrics, and the groups that have configurations of their own. No types ask for all; a type that does not
exist is UNSUPPORTED_VERSION.

**Version notes.** 0 lists client metrics only.
"""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import list_config_resources

__all__ = ["handle"]

_TOPIC: Final = 2
_BROKER: Final = 4
_BROKER_LOGGER: Final = 8
_CLIENT_METRICS: Final = 16
_GROUP: Final = 32
_TYPES: Final = frozenset((_TOPIC, _BROKER, _BROKER_LOGGER, _CLIENT_METRICS, _GROUP))
_FIRST_WITH_TYPES: Final = 1

_Row = list_config_resources.Response.ConfigResource


def handle(context: Context, request: list_config_resources.Request) -> list_config_resources.Response:
    """Answer at once."""
    if context.version < _FIRST_WITH_TYPES:
        return list_config_resources.Response(config_resources=_subscriptions(context))
    wanted = set(request.resource_types) or _TYPES
    if not wanted <= _TYPES:
        return list_config_resources.Response(error_code=int(KafkaError.UNSUPPORTED_VERSION))
    rows = []
    if _TOPIC in wanted:
        rows += [
            _Row(resource_name=topic.name, resource_type=_TOPIC) for topic in context.broker.topics.all()
        ]
    rows += [
        _Row(resource_name=str(node.id), resource_type=kind)
        for kind in (_BROKER, _BROKER_LOGGER)
        if kind in wanted
        for node in context.broker.placement.nodes()
    ]
    if _CLIENT_METRICS in wanted:
        rows += _subscriptions(context)
    if _GROUP in wanted:
        rows += [
            _Row(resource_name=group_id, resource_type=_GROUP)
            for group_id in context.broker.shares.configs.groups()
        ]
    return list_config_resources.Response(config_resources=rows)


def _subscriptions(context: Context) -> list[_Row]:
    names = context.broker.client_metrics.names()
    return [_Row(resource_name=name, resource_type=_CLIENT_METRICS) for name in names]
