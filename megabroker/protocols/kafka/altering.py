"""Changes of configurations that Kafka clients ask for: what AlterConfigs and its successor have alike.

Owns the order in which they happen: one request at a time reads what is set on its resources, works out what
shall be set and has it stored, so that no change is lost between two of them. Must never say that something
was changed which was not: what a broker cannot change while it runs is refused by name, with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from twisted.internet.defer import Deferred, succeed

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.core.broker_configs import DYNAMIC_CONFIGS
from megabroker.core.config_turns import in_turn
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.protocols.kafka.access.refusals import not_allowed
from megabroker.protocols.kafka.broker_names import NOTHING_HERE, WITHOUT_VALUE
from megabroker.protocols.kafka.broker_table import NO_EQUIVALENT
from megabroker.protocols.kafka.configs import ROOT, broker_entries, logger_entries
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.group_configs import GROUP, check_group_configs
from megabroker.protocols.kafka.metrics_configs import METRICS, check_metrics_name
from megabroker.protocols.kafka.topics import absence, first_seen, is_controller, settle

__all__ = ["BROKER", "LOGGER", "TOPIC", "Entry", "Outcome", "Resource", "alter", "check_config"]

TOPIC: Final = 2
BROKER: Final = 4
LOGGER: Final = 8

_NAMES_TOLD: Final = 10

_CHECKED_AS: Final = {TOPIC: ResourceType.TOPIC, GROUP: ResourceType.GROUP}
"""What stands for configurations among resources; all others are the cluster's."""


class Entry(Protocol):
    """One configuration in a request."""

    name: str
    value: str | None


class Resource(NamedTuple):
    """What a request wants of one resource.

    Attributes:
        entries: in the request's order.
        sets: the names of those that shall have a value afterwards.
        change: what makes the new configurations of those that are set; raises RequestError.
    """

    kind: int
    name: str
    entries: Sequence[Entry]
    sets: Sequence[str]
    change: Callable[[Mapping[str, str]], dict[str, str]]


class Outcome(NamedTuple):
    """What became of one resource; the code is 0 when it is as wanted."""

    error_code: int
    message: str | None


def check_config(context: Context, operation: Operation, kind: int, name: str) -> None:
    """Raise RequestError unless the client may do something with the configurations of a resource."""
    resource_type = _CHECKED_AS.get(kind, ResourceType.CLUSTER)
    if resource_type is ResourceType.CLUSTER:
        name = CLUSTER_NAME
    if not context.may(operation, resource_type, name):
        raise not_allowed(resource_type)


def alter(context: Context, resources: Sequence[Resource], validate_only: bool) -> Awaitable[list[Outcome]]:
    """Change resources, or only say what would be refused; one outcome each, in their order."""
    return in_turn(
        context.broker.topics, lambda: Deferred.fromCoroutine(_alter(context, resources, validate_only))
    )


async def _alter(context: Context, resources: Sequence[Resource], validate_only: bool) -> list[Outcome]:
    outcomes = [Outcome(0, None)] * len(resources)
    _, again = first_seen((one.kind, one.name) for one in resources)
    places, changes = [], []
    for place, resource in enumerate(resources):
        try:
            if (resource.kind, resource.name) in again:
                raise RequestError(ErrorCode.INVALID_REQUEST, "the resource is named more than once")
            check_config(context, Operation.ALTER_CONFIGS, resource.kind, resource.name)
            _check_entries(resource)
            plan = _PLANS.get(resource.kind)
            if plan is None:
                raise RequestError(
                    ErrorCode.INVALID_REQUEST,
                    f"resources of type {resource.kind} have no configuration here",
                )
            change = plan(context, resource)
        except BrokerError as error:
            outcomes[place] = _refused(error)
            continue
        if isinstance(change, Outcome):
            outcomes[place] = change
        elif change is not None and not validate_only:
            places.append(place)
            changes.append(change())
    stored = await settle(changes)
    for place, outcome in zip(places, stored, strict=True):
        if isinstance(outcome, BrokerError):
            outcomes[place] = _refused(outcome)
    return outcomes


def _check_entries(resource: Resource) -> None:
    _, again = first_seen(entry.name for entry in resource.entries)
    if again:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"named more than once: {_some(again)}")
    valued = set(resource.sets)
    empty = [one.name for one in resource.entries if one.value is None and one.name in valued]
    if empty:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"a value is needed for: {_some(empty)}")


def _plan_topic(context: Context, resource: Resource) -> Plan:
    topic = context.broker.topics.get(resource.name)
    if topic is None:
        return _no_topic(context, resource.name)
    if not is_controller(context.broker):
        return Outcome(KafkaError.NOT_CONTROLLER, "another node takes topic changes")
    configs = resource.change(topic.configs)
    context.broker.topics.configs.validate(configs)
    if configs == topic.configs:
        return None
    return partial(context.broker.topics.set_configs, topic.name, configs)


def _plan_broker(context: Context, resource: Resource) -> Plan:
    """Refuse what cannot be changed; what is not set dynamically may be asked to be so no longer."""
    me = context.broker.placement.me.id
    if resource.name not in ("", str(me)):
        raise RequestError(ErrorCode.INVALID_REQUEST, f"expected broker {me} or an empty name")
    fixed = [name for name in resource.sets if name not in DYNAMIC_CONFIGS]
    if fixed:
        _refuse_fixed(context, fixed)
    configs, for_all = context.broker.configs, not resource.name
    former = configs.dynamic(for_all=for_all)
    wanted = resource.change(former)
    configs.validate(wanted, for_all=for_all)
    return None if wanted == former else partial(configs.set, wanted, for_all=for_all)


def _refuse_fixed(context: Context, names: Sequence[str]) -> NoReturn:
    without = [name for name in names if name in NO_EQUIVALENT or name in WITHOUT_VALUE]
    if without:
        reasons = "; ".join(
            f"{name}: {NO_EQUIVALENT.get(name, NOTHING_HERE)}" for name in sorted(without)[:_NAMES_TOLD]
        )
        raise RequestError(ErrorCode.INVALID_REQUEST, f"cannot be changed here: {reasons}")
    known = {entry.name for entry in broker_entries(context)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RequestError(ErrorCode.INVALID_CONFIG, f"no broker configuration: {_some(unknown)}")
    raise RequestError(
        ErrorCode.INVALID_REQUEST,
        "not to be changed while the broker runs, since its configuration file says what they are: "
        + _some(names),
    )


def _plan_group(context: Context, resource: Resource) -> Plan:
    configs = context.broker.shares.configs
    former = configs.of(resource.name)
    wanted = resource.change(former)
    check_group_configs(context, resource.name, wanted)
    return None if wanted == former else partial(configs.set, resource.name, wanted)


def _plan_loggers(context: Context, resource: Resource) -> Plan:
    """Levels of loggers; only the request that changes single entries knows them."""
    me = context.broker.placement.me.id
    if resource.name != str(me):
        raise RequestError(ErrorCode.INVALID_REQUEST, f"expected broker {me}")
    loggers = context.broker.configs.loggers
    former = {entry.name: entry.value or "" for entry in logger_entries(context)}
    unknown = [one.name for one in resource.entries if one.name not in former]
    if unknown:
        raise RequestError(ErrorCode.INVALID_CONFIG, f"no logger: {_some(unknown)}")
    wanted = resource.change({})
    wrong = [f"{name}={level[:20]}" for name, level in wanted.items() if level not in _LEVELS]
    if wrong:
        raise RequestError(
            ErrorCode.INVALID_CONFIG, f"no level: {_some(wrong)}; expected one of {', '.join(_LEVELS)}"
        )
    if ROOT not in wanted and any(one.name == ROOT for one in resource.entries):
        raise RequestError(ErrorCode.INVALID_REQUEST, "the level of the root logger cannot be taken away")

    def change() -> Deferred[None]:
        for one in resource.entries:
            level = wanted.get(one.name)
            loggers.set(None if level is None else _LEVELS[level], "" if one.name == ROOT else one.name)
        return succeed(None)

    return change


def _plan_metrics(context: Context, resource: Resource) -> Plan:
    check_metrics_name(resource.name)
    subscriptions = context.broker.client_metrics
    former = subscriptions.of(resource.name)
    wanted = resource.change(former)
    subscriptions.validate(wanted)
    return None if wanted == former else partial(subscriptions.set, resource.name, wanted)


Plan = Outcome | Callable[[], Deferred[Any]] | None
"""What a resource comes to: an outcome already, a change to be made, or nothing to change."""

_PLANS: Final[Mapping[int, Callable[[Context, Resource], Plan]]] = {
    TOPIC: _plan_topic,
    BROKER: _plan_broker,
    LOGGER: _plan_loggers,
    METRICS: _plan_metrics,
    GROUP: _plan_group,
}

_LEVELS: Final = {
    "TRACE": "debug",
    "DEBUG": "debug",
    "INFO": "info",
    "WARN": "warn",
    "ERROR": "error",
    "FATAL": "critical",
}
"""Kafka's words for levels, and ours."""


def _no_topic(context: Context, name: str) -> Outcome:
    if not name:
        return Outcome(KafkaError.INVALID_REQUEST, "the name of a topic must not be empty")
    code = absence(context.broker, name)
    possible = code != KafkaError.INVALID_TOPIC_EXCEPTION
    return Outcome(code, "no topic has this name" if possible else "no topic can have this name")


def _refused(error: BrokerError) -> Outcome:
    return Outcome(kafka_error(error), error.message)


def _some(names: Sequence[str] | set[str]) -> str:
    told = ", ".join(name[:100] for name in sorted(names)[:_NAMES_TOLD])
    return told if len(names) <= _NAMES_TOLD else f"{told} and {len(names) - _NAMES_TOLD} more"
