"""What stands before handlers: carries out of a request what the client may, and refuses the rest.

A guard is given the request and the handler. It refuses the whole request, or takes rows out of it and adds
their refusals to the handler's answer, or lets it pass. Guards are put one before the other with ``chain``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.protocols.kafka.access.refusals import CODES, Refusal, item_class, mirrored, plain
from megabroker.protocols.kafka.dispatch import Context, Handler
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.protocols.kafka.schema.registry import APIS
from megabroker.protocols.kafka.topics import by_id

__all__ = ["Guard", "Need", "chain", "each", "named", "then", "topic_by_id", "whole"]

Guard = Callable[[Context, Any, Handler], "Message | Awaitable[Message]"]


class Need(NamedTuple):
    """A permission that all of a request needs.

    Attributes:
        field: the field of the request with the name of the resource; not asked for the cluster.
    """

    operation: Operation
    resource_type: ResourceType = ResourceType.CLUSTER
    field: str = ""


def whole(*needs: Need, refusal: Refusal = plain) -> Guard:
    """Return what refuses a request as a whole for the first permission that is lacking."""

    def guard(context: Context, request: Any, handle: Handler) -> Message | Awaitable[Message]:
        for need in needs:
            name = getattr(request, need.field) or "" if need.field else CLUSTER_NAME
            if not context.may(need.operation, need.resource_type, name):
                return refusal(context, request, CODES[need.resource_type])
        return handle(context, request)

    return guard


def named(field: str) -> Callable[[Context, Any], str | None]:
    """Return what reads the name of a row's resource from a field."""
    return lambda context, row: getattr(row, field)


def itself(context: Context, row: str) -> str | None:
    """Return the name of a resource where the row is nothing else."""
    return row


def topic_by_id(since: int, field: str = "name") -> Callable[[Context, Any], str | None]:
    """Return what finds the name of a row's topic, which versions from ``since`` on name by id."""

    def name_of(context: Context, row: Any) -> str | None:
        if context.version < since:
            return getattr(row, field)  # type: ignore[no-any-return]
        topic = by_id(context.broker, row.topic_id)
        return None if topic is None else topic.name

    return name_of


def each(
    operation: Operation,
    resource_type: ResourceType,
    asked: str,
    answered: str,
    name_of: Callable[[Context, Any], str | None] = itself,
    instead: Operation | None = None,
) -> Guard:
    """Return what takes the rows out of a request that the client has no permission for.

    Args:
        asked: the field of the request that has the rows.
        answered: the field of the answer that has theirs.
        name_of: says the name of a row's resource, None if there is none, which is the handler's business.
        instead: an operation on the cluster that stands for all of them.
    """

    def guard(context: Context, request: Any, handle: Handler) -> Message | Awaitable[Message]:
        if instead is not None and context.may(instead, ResourceType.CLUSTER, CLUSTER_NAME, quiet=True):
            return handle(context, request)
        known: dict[str, bool] = {}
        may: list[Any] = []
        may_not: list[Any] = []
        for row in getattr(request, asked) or ():
            name = name_of(context, row)
            if name is None:
                may.append(row)
                continue
            allowed = known.get(name)
            if allowed is None:
                allowed = known[name] = context.may(operation, resource_type, name)
            (may if allowed else may_not).append(row)
        if not may_not:
            return handle(context, request)
        response_class: Any = APIS[context.key].response
        kind = item_class(response_class, answered)
        refused = [mirrored(kind, row, CODES[resource_type]) for row in may_not]
        if not may:
            return response_class(**{answered: refused})  # type: ignore[no-any-return]
        setattr(request, asked, may)
        return then(handle(context, request), lambda answer: getattr(answer, answered).extend(refused))

    return guard


def chain(first: Guard, second: Guard) -> Guard:
    """Return what asks one guard and then the other."""

    def guard(context: Context, request: Any, handle: Handler) -> Message | Awaitable[Message]:
        return first(context, request, lambda context, request: second(context, request, handle))

    return guard


def then(answer: Message | Awaitable[Message], change: Callable[[Any], None]) -> Message | Awaitable[Message]:
    """Have something done to an answer when it is there."""
    if isinstance(answer, Message):
        change(answer)
        return answer
    return _later(answer, change)


async def _later(answer: Awaitable[Message], change: Callable[[Any], None]) -> Message:
    response = await answer
    change(response)
    return response
