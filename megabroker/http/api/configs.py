"""Configurations of topics, groups and the broker that are changed while it runs, by Kafka's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred

from megabroker.access import Operation, ResourceType
from megabroker.core.broker_configs import DYNAMIC_CONFIGS
from megabroker.core.config_turns import in_turn
from megabroker.core.groups.configs import GROUP_CONFIGS
from megabroker.errors import ErrorCode, RequestError
from megabroker.http.api.topics import known_topic
from megabroker.http.caller import Caller
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import FLAG, ListOf, MapOf, Nullable, Object, Text, optional, required

__all__ = ["ROUTES", "broker_configs", "group_configs", "topic_configs"]

_VALUE: Final = Text(0, 32_767)
_TYPES: Final = {1: "boolean", 2: "text", 3: "integer", 4: "integer", 5: "integer", 6: "number", 7: "list"}

_CONFIG: Final = Object(
    {
        "name": required(Text(), "Kafka's name of the configuration."),
        "value": required(Nullable(Text()), "Value in force; null if there is none."),
        "is_set": required(FLAG, "Whether the value is set on this resource and not a default."),
        "default": required(Nullable(Text()), "Default value."),
        "type": required(Text(), "Type of the value."),
        "doc": required(Text(), "Purpose of the configuration."),
    },
    "Config",
)

_CONFIGS: Final = Object({"configs": required(ListOf(_CONFIG), "Configurations, sorted by name.")}, "Configs")

_CHANGES: Final = Object(
    {
        "configs": required(
            MapOf(Nullable(_VALUE)),
            "Values by name; null removes a value, so that the default applies again.",
        ),
        "validate_only": optional(FLAG, "Only check whether the request would be refused.", False),
    },
    "ConfigChanges",
)

_BROKER_CHANGES: Final = Object(
    {
        **_CHANGES.fields,
        "for_all": optional(FLAG, "Whether the change is for all nodes or for the node that answers.", True),
    },
    "BrokerConfigChanges",
)


def _row(name: str, value: str | None, default: str | None, kind: int, doc: str, *, is_set: bool) -> Any:
    return {
        "name": name,
        "value": value,
        "is_set": is_set,
        "default": default,
        "type": _TYPES.get(kind, "text"),
        "doc": doc,
    }


def topic_configs(caller: Caller, name: str) -> dict[str, Any]:
    """Return all configurations of a topic. Raises RequestError (UNKNOWN_TOPIC)."""
    topic, topics = known_topic(caller, name), caller.broker.topics
    return {
        "configs": [
            _row(
                row.name,
                topics.config(name, row.name),
                topics.configs.default(row.name),
                row.type,
                row.doc,
                is_set=row.name in topic.configs,
            )
            for row in topics.configs.rows()
        ]
    }


def group_configs(caller: Caller, name: str) -> dict[str, Any]:
    """Return all configurations of a group, which need not exist."""
    configs = caller.broker.shares.configs
    return {
        "configs": [
            _row(
                row.name,
                configs.value(name, row.name),
                configs.default(row.name),
                row.type,
                row.doc,
                is_set=row.name in configs.of(name),
            )
            for _, row in sorted(GROUP_CONFIGS.items())
        ]
    }


def broker_configs(caller: Caller) -> dict[str, Any]:
    """Return the configurations of the broker that can be changed while it runs, where something is set.

    What is not set is as its configuration file has it.
    """
    configs = caller.broker.configs
    for_all, here = configs.dynamic(for_all=True), configs.dynamic(for_all=False)
    rows = []
    for name, row in sorted(DYNAMIC_CONFIGS.items()):
        doc = (
            f"Corresponds to the key {row.key}."
            if row.key
            else f"Default of the topic configuration {row.topic}."
            if row.topic
            else ""
        )
        value = here.get(name, for_all.get(name))
        default = for_all.get(name) if name in here else None
        if value is None and row.topic:
            default = value = caller.broker.topics.configs.default(row.topic)
        rows.append(
            _row(
                name,
                value,
                default,
                row.type,
                doc or "Kept, and not followed.",
                is_set=name in {*for_all, *here},
            )
        )
    return {"configs": rows}


def _changed(former: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return what is set after a change."""
    fresh = dict(former)
    for name, value in changes.items():
        if value is None:
            fresh.pop(name, None)
        else:
            fresh[name] = value
    return fresh


async def _change(
    call: Call,
    of: str,
    former: Callable[[], Mapping[str, str]],
    validate: Callable[[dict[str, str]], None],
    store: Callable[[dict[str, str]], Deferred[Any]],
) -> None:
    """Change what is set, after those who asked before."""

    async def change() -> None:
        was = former()
        fresh = _changed(was, call.body["configs"])
        validate(fresh)
        if not call.body["validate_only"] and fresh != was:
            await store(fresh)
            call.caller.changed("AlterConfigs", of)

    await in_turn(call.caller.broker.topics, lambda: Deferred.fromCoroutine(change()))


def get_topic_configs(call: Call) -> Any:
    """Return the configurations of a topic."""
    return topic_configs(call.caller, call.path["topic"])


async def patch_topic_configs(call: Call) -> Any:
    """Change configurations of a topic."""
    caller, name = call.caller, call.path["topic"]
    topics = caller.broker.topics
    await _change(
        call,
        f"topic {name}",
        lambda: known_topic(caller, name).configs,
        topics.configs.validate,
        lambda fresh: topics.set_configs(name, fresh),
    )
    return topic_configs(caller, name)


def get_group_configs(call: Call) -> Any:
    """Return the configurations of a group."""
    return group_configs(call.caller, call.path["group"])


async def patch_group_configs(call: Call) -> Any:
    """Change configurations of a group."""
    caller, name = call.caller, call.path["group"]
    configs = caller.broker.shares.configs
    await _change(
        call,
        f"group {name}",
        lambda: configs.of(name),
        configs.validate,
        lambda fresh: configs.set(name, fresh),
    )
    return group_configs(caller, name)


def get_broker_configs(call: Call) -> Any:
    """Return the configurations of the broker."""
    return broker_configs(call.caller)


async def patch_broker_configs(call: Call) -> Any:
    """Change configurations of the broker."""
    configs, for_all = call.caller.broker.configs, call.body["for_all"]
    unknown = [name for name in call.body["configs"] if name not in DYNAMIC_CONFIGS]
    if unknown:
        raise RequestError(
            ErrorCode.INVALID_CONFIG, f"{unknown[0][:100]!r} cannot be changed while the broker runs"
        )
    await _change(
        call,
        "all nodes" if for_all else f"node {call.caller.broker.placement.me.id}",
        lambda: configs.dynamic(for_all=for_all),
        lambda fresh: configs.validate(fresh, for_all=for_all),
        lambda fresh: configs.set(fresh, for_all=for_all),
    )
    return broker_configs(call.caller)


def _pair(
    path: str, get: Any, patch: Any, what: str, of: ResourceType, parameter: str
) -> tuple[Route, Route]:
    return (
        Route(
            "GET",
            path,
            get,
            f"Configurations of {what}.",
            _CONFIGS,
            needs=(Need(Operation.DESCRIBE_CONFIGS, of, parameter),),
        ),
        Route(
            "PATCH",
            path,
            patch,
            f"Change configurations of {what}; others keep their values.",
            _CONFIGS,
            body=_CHANGES if parameter else _BROKER_CHANGES,
            needs=(Need(Operation.ALTER_CONFIGS, of, parameter),),
        ),
    )


ROUTES: Final = (
    *_pair(
        "/v1/topics/{topic}/configs",
        get_topic_configs,
        patch_topic_configs,
        "a topic",
        ResourceType.TOPIC,
        "topic",
    ),
    *_pair(
        "/v1/groups/{group}/configs",
        get_group_configs,
        patch_group_configs,
        "a group",
        ResourceType.GROUP,
        "group",
    ),
    *_pair(
        "/v1/broker/configs",
        get_broker_configs,
        patch_broker_configs,
        "the broker",
        ResourceType.CLUSTER,
        "",
    ),
)
