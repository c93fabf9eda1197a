"""IncrementalAlterConfigs (44): change single entries of what is set on topics, groups, brokers and loggers.

**Behaviour.** An entry is set, deleted (back to its default), or, if it is a list, appended to or subtracted
from; both begin with the value in force, and appending adds nothing twice. Deleting what is not set succeeds.
All changes of a resource happen or none. ``validate_only`` tells what would be refused. What can only be
changed in a broker's file is INVALID_REQUEST, a name that is none INVALID_CONFIG; deleting either succeeds,
as it is not set. Levels of loggers hold until the broker stops. A resource or a name that comes twice, an
unknown operation, a null value other than in a deletion, and other resources are INVALID_REQUEST.

**Version notes.** Both versions say the same; 1 is flexible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from megabroker.core.broker_configs import DYNAMIC_CONFIGS
from megabroker.core.topic_configs import TOPIC_CONFIGS, ConfigType
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.altering import BROKER, LOGGER, TOPIC, Resource, alter
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.group_configs import GROUP
from megabroker.protocols.kafka.metrics_configs import METRICS
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
    wanted = [_resource(context, one) for one in request.resources]
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


def _resource(context: Context, wanted: _Wanted) -> Resource:
    kind = wanted.resource_type

    def change(former: Mapping[str, str]) -> dict[str, str]:
        configs = dict(former)
        for one in wanted.configs:
            if one.config_operation == _DELETE:
                configs.pop(one.name, None)
            elif one.config_operation == _SET:
                configs[one.name] = one.value or ""
            elif one.config_operation not in (_APPEND, _SUBTRACT):
                raise RequestError(ErrorCode.INVALID_REQUEST, f"there is no operation {one.config_operation}")
            else:
                configs[one.name] = _changed_list(one, _list_in_force(context, kind, former, one.name))
        return configs

    names = [one.name for one in wanted.configs if one.config_operation != _DELETE]
    return Resource(kind, wanted.resource_name, wanted.configs, names, change)


def _changed_list(one: _Wanted.Config, items: list[str]) -> str:
    given = _items(one.value or "")
    if one.config_operation == _APPEND:
        return ",".join(dict.fromkeys((*items, *given)))
    gone = set(given)
    return ",".join(item for item in items if item not in gone)


def _list_in_force(context: Context, kind: int, former: Mapping[str, str], name: str) -> list[str]:
    """Return a list's items to begin with. Raises RequestError when it is no list."""
    if kind == LOGGER:
        raise RequestError(ErrorCode.INVALID_REQUEST, "a level is no list: it can be set or deleted")
    if kind == GROUP:
        raise RequestError(ErrorCode.INVALID_CONFIG, "no configuration of a group is a list")
    if kind == METRICS:
        raise RequestError(ErrorCode.INVALID_CONFIG, "what is set of client metrics is set as a whole")
    topic_name = name if kind == TOPIC else DYNAMIC_CONFIGS[name].topic
    configs = context.broker.topics.configs
    value = former.get(name) if kind == BROKER else configs.effective(former, name)
    if topic_name not in TOPIC_CONFIGS or TOPIC_CONFIGS[topic_name].type != ConfigType.LIST:
        raise RequestError(ErrorCode.INVALID_CONFIG, f"{name} is not a list: expected SET or DELETE")
    return _items(configs.default(topic_name) if value is None else value)


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")] if value else []
