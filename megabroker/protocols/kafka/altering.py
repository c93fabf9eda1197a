"""Changes of configurations that Kafka clients ask for: what AlterConfigs and its successor have alike.

Owns the order in which they happen: one request at a time reads what is set on its topics, works out what
shall be set and has it stored, so that no change is lost between two of them. Must never say that something
was changed which was not: this broker's own configuration comes from its file, and every attempt to set a
part of it is refused by name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredLock

from megabroker.core.topic_configs import TopicConfigs
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import ITopicService
from megabroker.model import Topic
from megabroker.protocols.kafka.configs import broker_entries
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.topics import absence, first_seen, is_controller, settle

__all__ = ["Entry", "Outcome", "Resource", "alter"]

_TOPIC: Final = 2
_BROKER: Final = 4
_NAMES_TOLD: Final = 10

_turns: WeakKeyDictionary[ITopicService, DeferredLock] = WeakKeyDictionary()


class Entry(Protocol):
    """One configuration in a request."""

    name: str
    value: str | None


class Resource(NamedTuple):
    """What a request wants of one resource.

    Attributes:
        entries: in the request's order.
        sets: the names of those that shall have a value afterwards.
        change: what makes a topic's new configurations of those it has; raises RequestError.
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


def alter(context: Context, resources: Sequence[Resource], validate_only: bool) -> Awaitable[list[Outcome]]:
    """Change resources, or only say what would be refused; one outcome each, in their order."""
    topics = context.broker.topics
    turn = _turns.get(topics)
    if turn is None:
        turn = _turns[topics] = DeferredLock()
    return turn.run(lambda: Deferred.fromCoroutine(_alter(context, resources, validate_only)))


async def _alter(context: Context, resources: Sequence[Resource], validate_only: bool) -> list[Outcome]:
    outcomes = [Outcome(0, None)] * len(resources)
    _, again = first_seen((one.kind, one.name) for one in resources)
    places, changes = [], []
    for place, resource in enumerate(resources):
        try:
            if (resource.kind, resource.name) in again:
                raise RequestError(ErrorCode.INVALID_REQUEST, "the resource is named more than once")
            _check_entries(resource)
            if resource.kind == _BROKER:
                _check_broker(context, resource)
                continue
            if resource.kind != _TOPIC:
                raise RequestError(
                    ErrorCode.INVALID_REQUEST,
                    f"resources of type {resource.kind} have no configuration here",
                )
            topic = context.broker.topics.get(resource.name)
            if topic is None:
                outcomes[place] = _no_topic(context, resource.name)
                continue
            if not is_controller(context.broker):
                outcomes[place] = Outcome(KafkaError.NOT_CONTROLLER, "another node takes topic changes")
                continue
            configs = _new_configs(context, topic, resource)
        except BrokerError as error:
            outcomes[place] = _refused(error)
            continue
        if not validate_only and configs != topic.configs:
            places.append(place)
            changes.append(context.broker.topics.set_configs(topic.name, configs))
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


def _check_broker(context: Context, resource: Resource) -> None:
    """Refuse to set anything; what is not set dynamically may be asked to be so no longer."""
    me = context.broker.placement.me.id
    if resource.name not in ("", str(me)):
        raise RequestError(ErrorCode.INVALID_REQUEST, f"expected broker {me} or an empty name")
    if not resource.sets:
        return
    known = {entry.name for entry in broker_entries(context)}
    unknown = [name for name in resource.sets if name not in known]
    if unknown:
        raise RequestError(ErrorCode.INVALID_CONFIG, f"no broker configuration: {_some(unknown)}")
    raise RequestError(
        ErrorCode.INVALID_REQUEST,
        "not to be changed while the broker runs, since its configuration file says what they are: "
        + _some(resource.sets),
    )


def _new_configs(context: Context, topic: Topic, resource: Resource) -> dict[str, str]:
    configs = resource.change(topic.configs)
    TopicConfigs(context.broker.settings.topics.topic_configs()).validate(configs)
    return configs


def _no_topic(context: Context, name: str) -> Outcome:
    code = absence(context.broker, name)
    possible = code != KafkaError.INVALID_TOPIC_EXCEPTION
    return Outcome(code, "no topic has this name" if possible else "no topic can have this name")


def _refused(error: BrokerError) -> Outcome:
    return Outcome(kafka_error(error), error.message)


def _some(names: Sequence[str] | set[str]) -> str:
    told = ", ".join(name[:100] for name in sorted(names)[:_NAMES_TOLD])
    return told if len(names) <= _NAMES_TOLD else f"{told} and {len(names) - _NAMES_TOLD} more"
