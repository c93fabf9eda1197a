"""What requests of administrators have changed, for the audit log.

Owns where an answer says so: of which rows no error is told. Changes of access rules are logged where they
are made, since their answers do not name them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema.fields import Message

if TYPE_CHECKING:
    from megabroker.protocols.kafka.dispatch import Context

__all__ = ["AUDITED", "logged"]

_NOT_HERE: Final = (int(KafkaError.NOT_CONTROLLER), int(KafkaError.CLUSTER_AUTHORIZATION_FAILED))
"""Answers that tell of no attempt: another node is to be asked, or the refusal is logged as a denial."""


_Changes = tuple[list[str], int]
_Tell = Callable[[Any, Any], _Changes]


def _rows(field: str, name_of: Callable[[Any], str | None]) -> _Tell:
    """Return what tells changes of an answer with a row for each, by its field and how one is called."""

    def tell(request: Any, response: Any) -> _Changes:
        names = [name_of(row) for row in getattr(response, field) if not getattr(row, "error_code", 0)]
        return [name for name in names if name is not None], 0

    return tell


def _resource(row: Any) -> str:
    return f"{row.resource_type} {row.resource_name!r}"


def _entity(row: Any) -> str:
    return " ".join(f"{one.entity_type} {one.entity_name or '<default>'}" for one in row.entity)


def _name(row: Any) -> str | None:
    return row.name  # type: ignore[no-any-return]


def _topic_of_partitions(row: Any) -> str | None:
    return None if all(one.error_code for one in row.partitions) else row.name


def _places(rows: Iterable[Any], name_of: Callable[[Any], str]) -> list[str]:
    """Return the partitions that rows of topics and partitions tell no error of."""
    return [
        f"{name_of(row)}-{one.partition_index}"
        for row in rows
        for one in row.partitions
        if not one.error_code
    ]


def _markers(request: Any, response: Any) -> _Changes:
    names = []
    for asked, row in zip(request.markers, response.markers, strict=False):
        outcome = "commit" if asked.transaction_result else "abort"
        names += [f"{outcome} {asked.producer_id} in {place}" for place in _places(row.topics, _name_of)]
    return names, 0


def _name_of(row: Any) -> str:
    return str(row.name)


def _offsets_deleted(request: Any, response: Any) -> _Changes:
    return [f"group {request.group_id!r} {place}" for place in _places(response.topics, _name_of)], 0


def _share_offsets_set(request: Any, response: Any) -> _Changes:
    places = _places(response.responses, lambda row: str(row.topic_name))
    return [f"group {request.group_id!r} {place}" for place in places], 0


def _share_offsets_deleted(request: Any, response: Any) -> _Changes:
    return [
        f"group {request.group_id!r} {row.topic_name}" for row in response.responses if not row.error_code
    ], 0


def _features(request: Any, response: Any) -> _Changes:
    names = [f"{one.feature} level {one.max_version_level}" for one in request.feature_updates]
    return names, response.error_code


def _node(request: Any, response: Any) -> _Changes:
    return [f"node {request.broker_id}"], response.error_code


AUDITED: Final[Mapping[int, _Tell]] = MappingProxyType(
    {
        19: _rows("topics", _name),
        20: _rows("responses", _name),
        21: _rows("topics", _topic_of_partitions),
        27: _markers,
        33: _rows("responses", _resource),
        37: _rows("results", _name),
        42: _rows("results", lambda row: row.group_id),
        44: _rows("responses", _resource),
        47: _offsets_deleted,
        49: _rows("entries", _entity),
        51: _rows("results", lambda row: row.user),
        57: _features,
        64: _node,
        91: _share_offsets_set,
        92: _share_offsets_deleted,
    }
)
"""By API key: names what was changed, and tells the error of an answer that has but one."""


async def logged(context: Context, what: str, request: Any, answer: Message | Awaitable[Message]) -> Message:
    """Return an answer, once what it says was changed is logged; ``what`` is the name of the request."""
    response = answer if isinstance(answer, Message) else await answer
    if not getattr(request, "validate_only", False):
        told, code = AUDITED[context.key](request, response)
        if told and code not in _NOT_HERE:
            refusal = _error_name(code) if code else ""
            context.broker.audit.changed(context.principal, context.client_host, what, told, refusal)
    return response


def _error_name(code: int) -> str:
    try:
        return KafkaError(code).name
    except ValueError:
        return f"error {code}"
