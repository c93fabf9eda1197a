"""Who may come in, do what, and how much of it: users, access rules, quotas."""

from __future__ import annotations

import math
from typing import Any, Final

from megabroker.access import Operation, Permission, ResourceType
from megabroker.core.quotas.table import CONNECTIONS, CONSUMED, IP, MUTATIONS, PRODUCED, WORK
from megabroker.core.topic_configs import decimal
from megabroker.errors import ErrorCode
from megabroker.http.console.page import Page
from megabroker.http.console.view import View
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer

__all__ = ["PAGES"]

_USERS: Final = "GET /v1/users"
_SET_USER: Final = "PUT /v1/users/{user}"
_DELETE_USER: Final = "DELETE /v1/users/{user}"
_RULES: Final = "GET /v1/acls"
_MAKE_RULE: Final = "POST /v1/acls"
_DELETE_RULES: Final = "DELETE /v1/acls"
_QUOTAS: Final = "GET /v1/quotas"
_SET_QUOTAS: Final = "PUT /v1/quotas"
_ROWS_A_PAGE: Final = 50

_RULE_FIELDS: Final = (
    "resource_type",
    "resource",
    "pattern",
    "principal",
    "host",
    "operation",
    "permission",
)
_LIMITS: Final = {
    PRODUCED: "Bytes produced, a second",
    CONSUMED: "Bytes consumed, a second",
    WORK: "Share of a thread, percent",
    MUTATIONS: "Partitions made or deleted, a second",
    CONNECTIONS: "Connections, a second (addresses only)",
}


def _words(kind: Any, *without: str) -> list[str]:
    names = (name.lower() for name in kind.__members__)
    return [name for name in names if name not in ("unknown", "any", *without)]


# --- users --------------------------------------------------------------------------------------------------


async def show_users(view: View) -> Answer:
    """Users who have a password."""
    found, pager = await view.ask_page(_USERS, _ROWS_A_PAGE)
    return await view.page(
        "users.html",
        "users",
        users=found["users"],
        **pager,
        may_change=view.may(_SET_USER),
        entered=view.form("user"),
        is_used=view.caller.broker.authentication is not None,
    )


async def change_user(view: View) -> Answer:
    """Give a user a password, or let it in no more."""
    user = view.form("user").strip()
    if view.form("do") == "delete":
        await view.ask(_DELETE_USER, {"user": user})
        return view.to("/console/users", said="user-deleted")
    if view.form("password") != view.form("again"):
        raise Problem(
            400, ErrorCode.INVALID_REQUEST, "the two passwords are not the same: expected one, twice"
        )
    await view.ask(_SET_USER, {"user": user}, body={"password": view.form("password")})
    return view.to("/console/users", said="user-saved")


# --- rules --------------------------------------------------------------------------------------------------


async def show_rules(view: View) -> Answer:
    """Access rules."""
    is_enabled = view.caller.broker.authorizer.enabled
    principal = view.query("principal") or None
    found: dict[str, Any] = {"acls": []}
    pager: dict[str, Any] = {"following": None, "is_first": True}
    if is_enabled:
        found, pager = await view.ask_page(_RULES, _ROWS_A_PAGE, principal=principal)
    else:
        view.console.api.permit(view.caller, _RULES)
    return await view.page(
        "rules.html",
        "rules",
        rules=found["acls"],
        **pager,
        is_enabled=is_enabled,
        principal=principal or "",
        may_change=is_enabled and view.may(_MAKE_RULE),
        resource_types=_words(ResourceType, "delegation_token"),
        operations=_words(Operation, "create_tokens", "describe_tokens"),
        permissions=_words(Permission),
        entered={name: view.form(name) for name in _RULE_FIELDS},
    )


async def change_rules(view: View) -> Answer:
    """Make a rule, or remove one."""
    rule = {name: view.form(name).strip() for name in _RULE_FIELDS if view.form(name).strip()}
    if view.form("do") == "delete":
        await view.ask(_DELETE_RULES, query={name: rule.get(name, "") for name in _RULE_FIELDS})
        return view.to("/console/rules", said="rule-deleted")
    await view.ask(_MAKE_RULE, body={"acls": [rule]})
    return view.to("/console/rules", said="rule-created")


# --- quotas -------------------------------------------------------------------------------------------------


async def show_quotas(view: View) -> Answer:
    """Quotas that are set."""
    found, pager = await view.ask_page(_QUOTAS, _ROWS_A_PAGE)
    return await view.page(
        "quotas.html",
        "quotas",
        quotas=found["quotas"],
        **pager,
        limits=_LIMITS,
        may_change=view.may(_SET_QUOTAS),
        entered={name: view.form(name) for name in ("user", "client_id", "ip", *_LIMITS)},
    )


async def change_quotas(view: View) -> Answer:
    """Set quotas for somebody; an empty field removes one."""
    entity = []
    for kind in ("user", "client-id", "ip"):
        name = view.form(kind.replace("-", "_")).strip()
        if name:
            entity.append({"type": kind, "name": None if name == "*" else name})
    if not entity:
        raise Problem(
            400, ErrorCode.INVALID_REQUEST, "no entity: expected a user, a client id, both, or an address"
        )
    is_address = any(part["type"] == IP for part in entity)
    names = (CONNECTIONS,) if is_address else tuple(name for name in _LIMITS if name != CONNECTIONS)
    values = {name: _limit(view.form(name)) for name in names}
    await view.ask(_SET_QUOTAS, body={"entity": entity, "quotas": values})
    return view.to("/console/quotas", said="saved")


def _limit(text: str) -> float | None:
    """Return a limit that was entered, None for nothing. Raises Problem: it is no number."""
    text = text.strip()
    if not text:
        return None
    found = decimal(text)
    if found is None or not math.isfinite(found):
        raise Problem(
            400, ErrorCode.INVALID_REQUEST, f"the limit {text[:50]!r} cannot be read: expected a number"
        )
    return found


PAGES: Final = (
    Page("GET", "/console/users", show_users, "Users.", query=("page",)),
    Page("POST", "/console/users", change_user, "Change one.", query=("page",), shows=show_users),
    Page("GET", "/console/rules", show_rules, "Access rules.", query=("page", "principal")),
    Page(
        "POST",
        "/console/rules",
        change_rules,
        "Make or remove one.",
        query=("page", "principal"),
        shows=show_rules,
    ),
    Page("GET", "/console/quotas", show_quotas, "Quotas.", query=("page",)),
    Page("POST", "/console/quotas", change_quotas, "Set some.", query=("page",), shows=show_quotas),
)
