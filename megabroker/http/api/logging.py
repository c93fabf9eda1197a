"""Levels of the log, read and set while the broker runs."""

from __future__ import annotations

from typing import Any, Final

from megabroker.access import Operation
from megabroker.errors import ErrorCode
from megabroker.http.caller import Caller
from megabroker.http.paging import OF_NODE, PAGES, of_node, page, paged
from megabroker.http.problems import Problem
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import Nullable, Object, Text, required

__all__ = ["ROOT", "ROUTES", "set_level"]

ROOT: Final = "root"
_LEVEL: Final = Text(choices=("debug", "info", "warn", "error", "critical"))

_LOGGER: Final = Object(
    {
        "logger": required(Text(), "Name of the logger; root for all."),
        "level": required(_LEVEL, "Lowest level of the events that it writes."),
    },
    "Logger",
)


def _levels(caller: Caller) -> dict[str, str]:
    return {name or ROOT: level for name, level in caller.broker.configs.loggers.levels().items()}


def set_level(caller: Caller, name: str, level: str | None) -> None:
    """Have a logger write events of a level and above, or with None go by those around it.

    Raises:
        Problem: there is no such logger, or it is the root, which needs a level.
    """
    if name not in _levels(caller):
        raise Problem(404, ErrorCode.INVALID_REQUEST, f"there is no logger {name[:200]!r}")
    if level is None and name == ROOT:
        raise Problem(400, ErrorCode.INVALID_REQUEST, "root needs a level: expected one")
    caller.broker.configs.loggers.set(level, "" if name == ROOT else name)
    caller.changed("AlterConfigs", f"logger {name} to {level or 'the level around it'}")


def list_loggers(call: Call) -> Any:
    """Return a page of the loggers."""
    rows = sorted(_levels(call.caller).items())
    found = page(call, "loggers", rows, lambda row: row[0], lambda row: {"logger": row[0], "level": row[1]})
    return {**found, **of_node(call)}


def put_logger(call: Call) -> Any:
    """Set the level of a logger."""
    name = call.path["logger"]
    set_level(call.caller, name, call.body["level"])
    return {"logger": name, "level": _levels(call.caller)[name]}


ROUTES: Final = (
    Route(
        "GET",
        "/v1/loggers",
        list_loggers,
        "Loggers of the node that answers, and their levels.",
        paged("loggers", _LOGGER, "Loggers", OF_NODE),
        query=PAGES,
        needs=(Need(Operation.DESCRIBE_CONFIGS),),
    ),
    Route(
        "PUT",
        "/v1/loggers/{logger}",
        put_logger,
        "Set the level of a logger, until the broker stops.",
        _LOGGER,
        body=Object(
            {"level": required(Nullable(_LEVEL), "Level; null for the level of the parent logger.")}, "Level"
        ),
        needs=(Need(Operation.ALTER_CONFIGS),),
    ),
)
