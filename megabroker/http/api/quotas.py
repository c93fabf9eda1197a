"""Quotas: what users, clients and addresses may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from megabroker.access import Operation
from megabroker.core.quotas.table import CLIENT_ID, CONNECTIONS, CONSUMED, IP, MUTATIONS, PRODUCED, USER, WORK
from megabroker.http.caller import Caller
from megabroker.http.paging import PAGES, page, paged
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import FLAG, ListOf, Nullable, Number, Object, Text, optional, required
from megabroker.model import QuotaChange, QuotaEntity

__all__ = ["ROUTES", "all_quotas", "change_quotas"]

_ENTITY: Final = ListOf(
    Object(
        {
            "type": required(Text(choices=(CLIENT_ID, IP, USER)), "Type of the entity."),
            "name": required(
                Nullable(Text(1, 1000)),
                "Name of the entity; null for the default of all entities without their own quota.",
            ),
        },
        "QuotaEntityPart",
    ),
    1,
    2,
)


def _values(kind: Any) -> Object:
    return Object(
        {
            PRODUCED: optional(kind, "Bytes produced per second."),
            CONSUMED: optional(kind, "Bytes consumed per second."),
            WORK: optional(kind, "Request time, in percent of one thread."),
            MUTATIONS: optional(kind, "Partitions created or deleted per second."),
            CONNECTIONS: optional(kind, "New connections per second from an address."),
        }
    )


_QUOTA: Final = Object(
    {
        "entity": required(_ENTITY, "The entity: a user, a client id, both, or an address."),
        "quotas": required(_values(Nullable(Number())), "Quotas of the entity; null if not set."),
    },
    "Quota",
)


def show_quota(entity: QuotaEntity, values: Mapping[str, float]) -> dict[str, Any]:
    """Return what is set for somebody."""
    names = (PRODUCED, CONSUMED, WORK, MUTATIONS, CONNECTIONS)
    return {
        "entity": [{"type": kind, "name": name} for kind, name in entity],
        "quotas": {name: values.get(name) for name in names},
    }


def all_quotas(caller: Caller) -> list[tuple[QuotaEntity, Mapping[str, float]]]:
    """Return what is set, in an order that stays."""
    return sorted(caller.broker.quotas.all().items(), key=lambda one: _key(one[0]))


def _key(entity: QuotaEntity) -> str:
    return "\0".join(f"{kind}\0{'' if name is None else f'={name}'}" for kind, name in entity)


async def change_quotas(
    caller: Caller, entity: QuotaEntity, values: Mapping[str, float | None], *, validate_only: bool = False
) -> None:
    """Set quotas for somebody, or remove those that are None. Raises RequestError (INVALID_REQUEST)."""
    change = QuotaChange(tuple(sorted(entity, key=lambda part: part[0])), values)
    quotas = caller.broker.quotas
    quotas.check(change)
    if not validate_only:
        await quotas.change([change])
        caller.changed(
            "AlterClientQuotas", " and ".join(f"{kind} {name or 'default'}" for kind, name in change.entity)
        )


def list_quotas(call: Call) -> Any:
    """Return a page of what is set."""
    rows = all_quotas(call.caller)
    return page(call, "quotas", rows, lambda row: _key(row[0]), lambda row: show_quota(*row))


async def put_quotas(call: Call) -> Any:
    """Set quotas for somebody."""
    body = call.body
    entity = tuple(sorted(((one["type"], one["name"]) for one in body["entity"]), key=lambda part: part[0]))
    # What concerns others than this entity has is not set, and need not be removed.
    own = {CONNECTIONS} if entity[0][0] == IP else {PRODUCED, CONSUMED, WORK, MUTATIONS}
    values = {name: value for name, value in body["quotas"].items() if value is not None or name in own}
    await change_quotas(call.caller, entity, values, validate_only=body["validate_only"])
    return show_quota(entity, call.caller.broker.quotas.all().get(entity, {}))


ROUTES: Final = (
    Route(
        "GET",
        "/v1/quotas",
        list_quotas,
        "The quotas that are set.",
        paged("quotas", _QUOTA, "Quotas"),
        query=PAGES,
        needs=(Need(Operation.DESCRIBE_CONFIGS),),
    ),
    Route(
        "PUT",
        "/v1/quotas",
        put_quotas,
        "Set the quotas of a user, a client id, both, or an address; null removes a quota.",
        _QUOTA,
        body=Object(
            {
                **_QUOTA.fields,
                "validate_only": optional(FLAG, "Only check whether the request would be refused.", False),
            },
            "NewQuota",
        ),
        needs=(Need(Operation.ALTER_CONFIGS),),
    ),
)
