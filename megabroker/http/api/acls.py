"""Access rules, as every wire goes by them."""

from __future__ import annotations

import enum
from typing import Any, Final, TypeVar

from megabroker.access import (
    CLUSTER_NAME,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.http.caller import Caller
from megabroker.http.paging import PAGES, page, paged
from megabroker.http.problems import Problem
from megabroker.http.reading import refused
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import (
    FLAG,
    Field,
    Integer,
    ListOf,
    Nullable,
    Object,
    Text,
    ValueFault,
    optional,
    required,
)

__all__ = ["ROUTES", "show_acl"]

_E = TypeVar("_E", bound=enum.IntEnum)

_MOST_AT_ONCE: Final = 1000
_NAME: Final = Text(1, 1000)


def _words(kind: type[enum.IntEnum], *without: str) -> tuple[str, ...]:
    names = (name.lower() for name in kind.__members__)
    return tuple(name for name in names if name not in ("unknown", "any", *without))


_RESOURCES: Final = Text(choices=_words(ResourceType))
_OPERATIONS: Final = Text(choices=_words(Operation))
_PERMISSIONS: Final = Text(choices=_words(Permission))

_ACL: Final = Object(
    {
        "resource_type": required(_RESOURCES, "Type of the resource."),
        "resource": optional(
            _NAME, "Name of the resource; * for all, kafka-cluster for the cluster.", CLUSTER_NAME
        ),
        "pattern": optional(Text(choices=("literal", "prefixed")), "How the name is matched.", "literal"),
        "principal": required(
            Text(3, 1000, pattern=r"[^:]+:.+", what="a principal such as User:alice"),
            "The principal that the rule applies to.",
        ),
        "host": optional(_NAME, "The client address that the rule applies to; * for all.", "*"),
        "operation": required(_OPERATIONS, "The operation."),
        "permission": optional(_PERMISSIONS, "Whether the operation is allowed or denied.", "allow"),
    },
    "Acl",
)

_FILTER: Final[dict[str, Field]] = {
    "resource_type": optional(Nullable(_RESOURCES), "Only rules for this type of resource."),
    "resource": optional(Nullable(_NAME), "Only rules with this name."),
    "pattern": optional(
        Nullable(Text(choices=("literal", "prefixed", "match"))),
        "Only rules with this pattern type; match for all rules that apply to the resource of this name.",
    ),
    "principal": optional(Nullable(_NAME), "Only rules for this principal."),
    "host": optional(Nullable(_NAME), "Only rules for this client address."),
    "operation": optional(Nullable(_OPERATIONS), "Only rules for this operation."),
    "permission": optional(Nullable(_PERMISSIONS), "Only rules with this permission."),
}


def _check_enabled(caller: Caller) -> None:
    if not caller.broker.authorizer.enabled:
        raise Problem(
            409,
            ErrorCode.UNSUPPORTED,
            "access rules are off, so everybody who can connect may do everything: expected "
            "security.authorizer: acls in the configuration",
        )


def _member(kind: type[_E], word: str) -> _E:
    return kind[word.upper()]


def _filter(query: Any) -> AclFilter:
    def or_any(kind: type[_E], name: str) -> _E:
        return _member(kind, query[name] or "any")

    return AclFilter(
        or_any(ResourceType, "resource_type"),
        query["resource"],
        or_any(PatternType, "pattern"),
        query["principal"],
        query["host"],
        or_any(Operation, "operation"),
        or_any(Permission, "permission"),
    )


def show_acl(acl: Acl) -> dict[str, Any]:
    """Return a rule as JSON."""
    return {
        "resource_type": acl.resource_type.name.lower(),
        "resource": acl.name,
        "pattern": acl.pattern_type.name.lower(),
        "principal": acl.principal,
        "host": acl.host,
        "operation": acl.operation.name.lower(),
        "permission": acl.permission.name.lower(),
    }


def _acl(row: dict[str, Any]) -> Acl:
    return Acl(
        _member(ResourceType, row["resource_type"]),
        row["resource"],
        _member(PatternType, row["pattern"]),
        row["principal"],
        row["host"],
        _member(Operation, row["operation"]),
        _member(Permission, row["permission"]),
    )


def list_acls(call: Call) -> Any:
    """Return a page of the rules that are meant."""
    _check_enabled(call.caller)
    found = sorted(call.caller.broker.authorizer.describe(_filter(call.query)), key=_key)
    return page(call, "acls", found, _key, show_acl)


def _key(acl: Acl) -> str:
    """Return what sorts rules as their fields do."""
    numbers = (acl.resource_type, acl.pattern_type, acl.operation, acl.permission)
    kind, pattern, operation, permission = (f"{number:02}" for number in numbers)
    return "\0".join((kind, acl.name, pattern, acl.principal, acl.host, operation, permission))


async def post_acls(call: Call) -> Any:
    """Make rules, all of them or none that is wrong."""
    caller = call.caller
    _check_enabled(caller)
    acls = [_acl(row) for row in call.body["acls"]]
    outcomes = await caller.broker.authorizer.create(acls)
    made = [acl for acl, outcome in zip(acls, outcomes, strict=True) if outcome is None]
    if made:
        caller.changed("CreateAcls", *map(str, made))
    wrong = [(at, one) for at, one in enumerate(outcomes) if one is not None]
    if wrong:
        raise _not_made(wrong)
    return {"acls": [show_acl(acl) for acl in made]}


def _not_made(wrong: list[tuple[int, BrokerError]]) -> Exception:
    if not all(error.code is ErrorCode.INVALID_REQUEST for _, error in wrong):
        return next(error for _, error in wrong if error.code is not ErrorCode.INVALID_REQUEST)
    return refused([("body", ValueFault(f"/acls/{at}", "a rule", error.message)) for at, error in wrong])


async def delete_acls(call: Call) -> Any:
    """Remove the rules that are meant."""
    caller, query = call.caller, dict(call.query)
    _check_enabled(caller)
    if not query.pop("all") and not any(query.values()):
        raise StateError(
            ErrorCode.INVALID_REQUEST, "this would remove every rule: expected a filter, or all=true"
        )
    (found,) = await caller.broker.authorizer.delete([_filter(query)])
    if found:
        caller.changed("DeleteAcls", *map(str, found))
    return {"deleted": len(found)}


ROUTES: Final = (
    Route(
        "GET",
        "/v1/acls",
        list_acls,
        "Access rules.",
        paged("acls", _ACL, "Acls"),
        query={**_FILTER, **PAGES},
        needs=(Need(Operation.DESCRIBE),),
    ),
    Route(
        "POST",
        "/v1/acls",
        post_acls,
        "Create access rules.",
        Object({"acls": required(ListOf(_ACL), "The rules that exist now.")}, "CreatedAcls"),
        body=Object({"acls": required(ListOf(_ACL, 1, _MOST_AT_ONCE), "The rules.")}, "NewAcls"),
        needs=(Need(Operation.ALTER),),
        status=201,
    ),
    Route(
        "DELETE",
        "/v1/acls",
        delete_acls,
        "Remove access rules.",
        Object({"deleted": required(Integer(0), "Number of removed rules.")}, "DeletedAcls"),
        query={**_FILTER, "all": optional(FLAG, "Whether to remove all rules if there is no filter.", False)},
        needs=(Need(Operation.ALTER),),
    ),
)
