"""Answers that refuse all of a request, or some of its rows.

Owns no decision. A row of an answer that refuses has the names of the row of the request, down to its
partitions, and the error wherever the answer has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from megabroker.access import ResourceType
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema.fields import Message, Struct
from megabroker.protocols.kafka.schema.registry import APIS

__all__ = ["CODES", "Refusal", "by_row", "item_class", "mirrored", "not_allowed", "plain"]

Refusal = Callable[[Context, Any, int], Message]
"""Makes the answer that refuses a whole request; is given the wire code."""

CODES: Final = {
    ResourceType.TOPIC: int(KafkaError.TOPIC_AUTHORIZATION_FAILED),
    ResourceType.GROUP: int(KafkaError.GROUP_AUTHORIZATION_FAILED),
    ResourceType.CLUSTER: int(KafkaError.CLUSTER_AUTHORIZATION_FAILED),
    ResourceType.TRANSACTIONAL_ID: int(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
}

_ERRORS: Final = {
    ResourceType.TOPIC: ErrorCode.TOPIC_NOT_ALLOWED,
    ResourceType.GROUP: ErrorCode.GROUP_NOT_ALLOWED,
    ResourceType.CLUSTER: ErrorCode.CLUSTER_NOT_ALLOWED,
    ResourceType.TRANSACTIONAL_ID: ErrorCode.TRANSACTIONAL_ID_NOT_ALLOWED,
}

_SENTENCES: Final = {
    CODES[ResourceType.TOPIC]: "Topic authorization failed.",
    CODES[ResourceType.GROUP]: "Group authorization failed.",
    CODES[ResourceType.CLUSTER]: "Cluster authorization failed.",
    CODES[ResourceType.TRANSACTIONAL_ID]: "Transactional Id authorization failed.",
}

_IDENTITY: Final = frozenset(
    {
        "entity_name",
        "entity_type",
        "group_id",
        "name",
        "partition",
        "partition_index",
        "producer_id",
        "resource_name",
        "resource_type",
        "topic",
        "topic_id",
        "topic_name",
    }
)
"""Fields that say what a row is about; they are called alike in request and answer."""

_CALLED: Final = {
    "partition_result": ("partitions",),
    "partitions": ("partition_indexes",),
    "results_by_partition": ("partitions",),
    "topic_name": ("name",),
}
"""Other names in requests of what answers call so."""

_WITHOUT_ANSWER: Final = {"low_watermark": -1, "start_offset": -1, "lag": -1}
"""Values of rows that say nothing, where they are not the defaults of the field."""


def not_allowed(resource_type: ResourceType) -> RequestError:
    """Return the error of something that needs a permission the client has not got."""
    return RequestError(_ERRORS[resource_type], _SENTENCES[CODES[resource_type]])


def plain(context: Context, request: Any, code: int) -> Message:
    """Return an answer that has the error, and says nothing else."""
    response: Any = APIS[context.key].response()
    if "error_code" in response.__slots__:
        response.error_code = code
    if "error_message" in response.__slots__:
        response.error_message = _SENTENCES.get(code)
    return response  # type: ignore[no-any-return]


def by_row(asked: str, answered: str) -> Refusal:
    """Return what refuses every row of a request.

    Args:
        asked: the field of the request that has the rows.
        answered: that of the answer.
    """

    def refuse(context: Context, request: Any, code: int) -> Message:
        response = plain(context, request, code)
        kind = item_class(type(response), answered)
        setattr(response, answered, [mirrored(kind, row, code) for row in getattr(request, asked) or ()])
        return response

    return refuse


def item_class(kind: type[Struct], field: str) -> type[Struct]:
    """Return the class of the elements of a field that is an array of structs."""
    found = next(one for one in kind.__schema__.fields if one.name == field)
    assert found.item is not None
    assert found.item.struct is not None
    return found.item.struct


def mirrored(kind: type[Struct], asked: Any, code: int) -> Any:
    """Return a row of class ``kind`` that refuses a row of a request, or what a bare value there names."""
    row: Any = kind()
    for field in kind.__schema__.fields:
        name = field.name
        if name in ("error_code", "partition_error_code"):
            setattr(row, name, code)
        elif name == "error_message":
            row.error_message = _SENTENCES.get(code)
        elif name in _WITHOUT_ANSWER:
            setattr(row, name, _WITHOUT_ANSWER[name])
        elif not isinstance(asked, Struct):
            if not name.endswith("_message") and asked is not None:
                setattr(row, name, asked)
                asked = None
        else:
            _copy(field, row, asked, code)
    return row


def _copy(field: Any, row: Any, asked: Struct, code: int) -> None:
    name = field.name
    source = next((one for one in (name, *_CALLED.get(name, ())) if one in asked.__slots__), None)
    if source is None:
        return
    if name in _IDENTITY:
        setattr(row, name, getattr(asked, source))
    elif field.item is not None and field.item.struct is not None:
        kind = field.item.struct
        setattr(row, name, [mirrored(kind, one, code) for one in getattr(asked, source) or ()])
