"""Groups: the list, one with its members and how far it is, and its going on elsewhere."""

from __future__ import annotations

import json
from typing import Any, Final

from megabroker.errors import ErrorCode
from megabroker.http.console.history import History, rates
from megabroker.http.console.measuring import group_sample
from megabroker.http.console.page import Page
from megabroker.http.console.text import parse_moment
from megabroker.http.console.view import View
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer

__all__ = ["PAGES"]

_LIST: Final = "GET /v1/groups"
_ONE: Final = "GET /v1/groups/{group}"
_OFFSETS: Final = "GET /v1/groups/{group}/offsets"
_RESET: Final = "POST /v1/groups/{group}/offsets/reset"
_DELETE: Final = "DELETE /v1/groups/{group}"
_GROUPS_A_PAGE: Final = 50
_LAGS_SECONDS: Final = 0.5
"""How long the lags of a page of groups are looked for."""

_OFFSETS_A_PAGE: Final = 50
_MOST_MEMBERS: Final = 50
_MOST_MOVES: Final = 500
_TARGETS: Final = ("earliest", "latest", "offset", "timestamp", "shift")


async def show_groups(view: View) -> Answer:
    """Groups, by name."""
    kind, state = view.query("type") or None, view.query("state") or None
    found, pager = await view.ask_page(_LIST, _GROUPS_A_PAGE, type=kind, state=state)
    until = view.caller.broker.reactor.seconds() + _LAGS_SECONDS
    return await view.page(
        "groups.html",
        "groups",
        groups=[{**row, "lag": await _lag(view, row["group"], until)} for row in found["groups"]],
        **pager,
        kind=kind or "",
        state=state or "",
    )


async def _lag(view: View, name: str, until: float) -> float | None:
    """Return how far a group is behind; None where that would take too long."""
    caller = view.caller
    if caller.broker.reactor.seconds() > until:
        return None
    samples = await _history(view, name).look(lambda: group_sample(caller, name))
    return samples[-1][1]["lag"] if samples else None


def _history(view: View, name: str) -> History:
    """Return the samples of a group; what somebody sees of it depends on the topics that it may see."""
    return view.console.lags.of((str(view.caller.principal), view.caller.host, name))


def _name(view: View) -> str:
    """Return the group a page is about: in the query, since ``..`` could not stand in the path."""
    name = view.query("group") or view.form("group")
    if not name:
        raise Problem(400, ErrorCode.INVALID_REQUEST, "no group: expected a name")
    return name


async def show_group(view: View) -> Answer:
    """A group, its members, and how far it is."""
    name = _name(view)
    group = await view.ask(
        _ONE, {"group": name}, {"limit": _MOST_MEMBERS, "page_token": view.query("members") or None}
    )
    offsets, pager = await view.ask_page(_OFFSETS, _OFFSETS_A_PAGE, {"group": name})
    return await view.page(
        "group.html",
        "groups",
        group=group,
        are_first_members=not view.query("members"),
        offsets=offsets["offsets"],
        **pager,
        may_reset=view.may(_RESET, group=name),
        may_delete=view.may(_DELETE, group=name),
        is_empty=group["state"] in ("Empty", "Dead"),
        targets=_TARGETS,
        entered={one: view.form(one) for one in ("to", "topic", "partitions", "value")},
    )


async def get_lag(view: View) -> Answer:
    """How far the group was in the last minutes."""
    name = _name(view)
    await view.ask(_OFFSETS, {"group": name}, {"limit": 1})
    caller = view.caller
    samples = await _history(view, name).look(lambda: group_sample(caller, name))
    growth = rates(samples, ("position",))
    series = [
        {"at": round(at, 1), **{key: value for key, value in sample.items() if key != "position"}}
        for at, sample in samples
    ]
    for row, grown in zip(series[1:], growth, strict=True):
        row["consumed"] = round(grown["position"], 1)
    return Answer(body=json.dumps({"series": series}, allow_nan=False).encode())


# --- going on elsewhere -------------------------------------------------------------------------------------


def _wanted(view: View) -> dict[str, Any]:
    """Return a reset as the API takes it. Raises Problem."""
    to, value = view.form("to"), view.form("value").strip()
    wanted: dict[str, Any] = {"to": to}
    if to == "timestamp":
        time_ms = parse_moment(value)
        if time_ms is None:
            raise Problem(
                400,
                ErrorCode.INVALID_REQUEST,
                f"the time {value[:50]!r} cannot be read: expected one such as 2026-01-31T12:00, in UTC",
            )
        wanted["timestamp_ms"] = time_ms
    elif to in ("offset", "shift"):
        wanted["offset" if to == "offset" else "by"] = view.number("value", "the number", value)
    topic = view.form("topic").strip()
    if topic:
        numbers = [one for one in view.form("partitions").replace(",", " ").split() if one]
        partitions = [view.number("partitions", "a partition", one) for one in numbers]
        wanted["topics"] = [{"topic": topic, "partitions": partitions or None}]
    return wanted


async def preview_reset(view: View) -> Answer:
    """Say where a group would go on; nothing is changed."""
    return await _show_reset(view, dry_run=True)


async def reset(view: View) -> Answer:
    """Have a group go on elsewhere."""
    await view.ask(_RESET, {"group": _name(view)}, body={**_wanted(view), "dry_run": False})
    return view.to("/console/group", group=_name(view), said="group-reset")


async def _show_reset(view: View, *, dry_run: bool) -> Answer:
    name = _name(view)
    moves: list[Any] = []
    if dry_run and view.error is None:
        moves = (await view.ask(_RESET, {"group": name}, body={**_wanted(view), "dry_run": True}))["offsets"]
    return await view.page(
        "group_reset.html",
        "groups",
        name=name,
        moves=moves[:_MOST_MOVES],
        more_moves=max(len(moves) - _MOST_MOVES, 0),
        entered={one: view.form(one) for one in ("to", "topic", "partitions", "value")},
    )


async def delete(view: View) -> Answer:
    """Delete a group without members."""
    name = _name(view)
    if view.form("confirm").strip() != name:
        raise Problem(400, ErrorCode.INVALID_REQUEST, f"nothing was deleted: expected its name, {name[:200]}")
    await view.ask(_DELETE, {"group": name})
    return view.to("/console/groups", said="group-deleted")


_GROUP: Final = "/console/group"
_QUERY: Final = ("group", "page", "members")

PAGES: Final = (
    Page("GET", "/console/groups", show_groups, "Groups.", query=("page", "type", "state")),
    Page("GET", _GROUP, show_group, "A group.", query=_QUERY),
    Page("GET", f"{_GROUP}/lag", get_lag, "How far it was in the last minutes.", query=("group",)),
    Page(
        "POST",
        f"{_GROUP}/preview",
        preview_reset,
        "Where it would go on.",
        query=_QUERY,
        shows=show_group,
    ),
    Page("POST", f"{_GROUP}/reset", reset, "Go on there.", query=_QUERY, shows=show_group),
    Page("POST", f"{_GROUP}/delete", delete, "Delete it.", query=_QUERY, shows=show_group),
)
