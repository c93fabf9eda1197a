"""IncrementalAlterConfigs (44): change single entries of what is set on topics.

**Behaviour.** An entry is set, deleted (back to its default), or, if it is a list, appended to or subtracted
from; both begin with the value in force, and appending adds nothing twice. Deleting what is not set succeeds.
All of a topic's changes happen or none. ``validate_only`` tells what would be refused. A broker's
configuration comes from its file: changing any of it is INVALID_REQUEST, or INVALID_CONFIG for a name that
is none; deleting succeeds, as nothing is set dynamically. A resource or a name that comes twice, an unknown
operation, a null value other than in a deletion, and resources that are neither topics nor brokers are
INVALID_REQUEST.

**Version notes.** Both versions say the same; 1 is flexible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from megabroker.core.topic_configs import TOPIC_CONFIGS, ConfigType, TopicConfigs
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.altering import Resource, alter
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import incremental_alter_configs

__all__ = ["handle"]

_SET: Final = 0
_DELETE: Final = 1
_APPEND: Final = 2
_SUBTRACT: Final = 3

_Wanted = incremental_alter_configs.Request.Resource
_Row = incremental_alter_configs.Response.Resource


async def handle(
    context: Context, request: incremental_alter_configs.Request
) -> incremental_alter_configs.Response:
    """Answer when all changes are stored or refused."""
    defaults = TopicConfigs(context.broker.settings.topics.topic_configs())
    wanted = [_resource(one, defaults) for one in request.resources]
    outcomes = await alter(context, wanted, request.validate_only)
    return incremental_alter_configs.Response(
        responses=[
            _Row(
                resource_type=one.resource_type,
                resource_name=one.resource_name,
                error_code=outcome.error_code,
                error_message=outcome.message,
            )
            for one, outcome in zip(request.resources, outcomes, strict=True)
        ]
    )


def _resource(wanted: _Wanted, defaults: TopicConfigs) -> Resource:
    def change(former: Mapping[str, str]) -> dict[str, str]:
        configs = dict(former)
        for one in wanted.configs:
            if one.config_operation == _DELETE:
                configs.pop(one.name, None)
            else:
                configs[one.name] = _value(one, former, defaults)
        return configs

    names = [one.name for one in wanted.configs if one.config_operation != _DELETE]
    return Resource(wanted.resource_type, wanted.resource_name, wanted.configs, names, change)


def _value(one: _Wanted.Config, former: Mapping[str, str], defaults: TopicConfigs) -> str:
    value = one.value or ""
    if one.config_operation == _SET:
        return value
    if one.config_operation not in (_APPEND, _SUBTRACT):
        raise RequestError(ErrorCode.INVALID_REQUEST, f"there is no operation {one.config_operation}")
    items = _items(defaults.effective(former, one.name))
    if TOPIC_CONFIGS[one.name].type != ConfigType.LIST:
        raise RequestError(
            ErrorCode.INVALID_CONFIG, f"{one.name} is no list: nothing can be appended or subtracted"
        )
    given = _items(value)
    if one.config_operation == _APPEND:
        return ",".join(dict.fromkeys((*items, *given)))
    gone = set(given)
    return ",".join(item for item in items if item not in gone)


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")] if value else []
