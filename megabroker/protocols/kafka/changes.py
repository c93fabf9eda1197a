"""What requests of administrators have changed, for the audit log.

Owns where an answer says so: of which rows no error is told. Changes of access rules are logged where they
are made, since their answers do not name them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from megabroker.protocols.kafka.schema.fields import Message

if TYPE_CHECKING:
    from megabroker.protocols.kafka.dispatch import Context

__all__ = ["AUDITED", "logged"]


class _Rows(NamedTuple):
    """Where an answer tells what was changed: the field with the rows, and what one is called."""

    field: str
    name_of: Callable[[Any], str | None]


def _resource(row: Any) -> str:
    return f"{row.resource_type} {row.resource_name!r}"


def _entity(row: Any) -> str:
    return " ".join(f"{one.entity_type} {one.entity_name or '<default>'}" for one in row.entity)


def _name(row: Any) -> str | None:
    return row.name  # type: ignore[no-any-return]


def _topic_of_partitions(row: Any) -> str | None:
    return None if all(one.error_code for one in row.partitions) else row.name


AUDITED: Final[Mapping[int, _Rows]] = MappingProxyType(
    {
        19: _Rows("topics", _name),
        20: _Rows("responses", _name),
        21: _Rows("topics", _topic_of_partitions),
        33: _Rows("responses", _resource),
        37: _Rows("results", _name),
        42: _Rows("results", lambda row: row.group_id),
        44: _Rows("responses", _resource),
        49: _Rows("entries", _entity),
        51: _Rows("results", lambda row: row.user),
    }
)
"""By API key."""


async def logged(context: Context, what: str, request: Any, answer: Message | Awaitable[Message]) -> Message:
    """Return an answer, once what it says was changed is logged; ``what`` is the name of the request."""
    response = answer if isinstance(answer, Message) else await answer
    if not getattr(request, "validate_only", False):
        field, name_of = AUDITED[context.key]
        rows = getattr(response, field)
        names = [name_of(row) for row in rows if not getattr(row, "error_code", 0)]
        told = [name for name in names if name is not None]
        if told:
            context.broker.audit.changed(context.principal, context.client_host, what, told)
    return response
