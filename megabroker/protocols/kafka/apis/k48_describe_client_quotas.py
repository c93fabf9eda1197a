"""DescribeClientQuotas (48): the limits set on users, clients and addresses.

**Behaviour.** What is set for the entities that match all of the components: by name, the default, or any
of a kind; with ``strict`` those only that have no other kind beside. What is asked is checked as Apache
Kafka checks it: a kind of entity that there is not is UNSUPPORTED_VERSION, a filter that contradicts itself
INVALID_REQUEST, both for the whole answer, which then has null entries.

**Version notes.** The versions have the same content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import QuotaEntity
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import describe_client_quotas

__all__ = ["handle"]

_ENTITY_TYPES: Final = frozenset({"user", "client-id", "ip"})

_EXACT, _DEFAULT, _ANY = 0, 1, 2

_ORDER: Final = (
    "consumer_byte_rate",
    "controller_mutation_rate",
    "request_percentage",
    "producer_byte_rate",
    "connection_creation_rate",
)
"""The order in which Apache Kafka tells up to three quotas of an entity; tests of clients compare lists."""

_Component = describe_client_quotas.Request.Component
_Entry = describe_client_quotas.Response.Entry


def handle(context: Context, request: describe_client_quotas.Request) -> describe_client_quotas.Response:
    """Answer at once."""
    try:
        seen: set[str] = set()
        for one in request.components:
            _check(one, seen)
            seen.add(one.entity_type)
    except BrokerError as error:
        return describe_client_quotas.Response(
            error_code=kafka_error(error), error_message=error.message, entries=None
        )
    return describe_client_quotas.Response(
        error_message=None,
        entries=[
            _entry(entity, values)
            for entity, values in context.broker.quotas.all().items()
            if _matches(entity, request.components, request.strict)
        ],
    )


def _check(asked: _Component, seen: set[str]) -> None:
    """Raise RequestError: INVALID_REQUEST, UNSUPPORTED."""
    kind = asked.entity_type
    if asked.match_type not in (_EXACT, _DEFAULT, _ANY):
        raise _invalid(f"there is no match type {asked.match_type}")
    if (asked.match_type == _EXACT) != (asked.match is not None):
        raise _invalid("expected a name to match with match type 0, and with no other")
    if not kind:
        raise _invalid("a kind of entity is empty")
    if kind in seen:
        raise _invalid(f"{kind[:100]} is asked for twice")
    if kind not in _ENTITY_TYPES:
        raise RequestError(ErrorCode.UNSUPPORTED, f"there are no quotas for {kind[:100]!r}")
    if "ip" in (seen | {kind}) and len(seen | {kind}) > 1:
        raise _invalid("quotas of addresses cannot be asked for together with those of users and clients")


def _matches(entity: QuotaEntity, components: Sequence[_Component], strict: bool) -> bool:
    if strict and len(entity) != len(components):
        return False
    names = dict(entity)
    return all(
        one.entity_type in names and (one.match_type == _ANY or names[one.entity_type] == one.match)
        for one in components
    )


def _entry(entity: QuotaEntity, values: Mapping[str, float]) -> _Entry:
    return _Entry(
        entity=[_Entry.Entity(entity_type=kind, entity_name=name) for kind, name in entity],
        values=[_Entry.Value(key=quota, value=values[quota]) for quota in _ORDER if quota in values],
    )


def _invalid(what: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, what)
