"""What goes on in the broker, connections and transactions, and how it is set up."""

from __future__ import annotations

from typing import Final

from megabroker.http.console.page import Page
from megabroker.http.console.view import View
from megabroker.http.routes import Answer

__all__ = ["PAGES"]

_CONNECTIONS: Final = "GET /v1/connections"
_CLOSE: Final = "DELETE /v1/connections/{connection}"
_TRANSACTIONS: Final = "GET /v1/transactions"
_ABORT: Final = "POST /v1/transactions/{transactional_id}/abort"
_CONFIGS: Final = "GET /v1/broker/configs"
_CHANGE: Final = "PATCH /v1/broker/configs"
_LOGGERS: Final = "GET /v1/loggers"
_SET_LEVEL: Final = "PUT /v1/loggers/{logger}"
_ROWS_A_PAGE: Final = 50
_LEVELS: Final = ("debug", "info", "warn", "error", "critical")


async def show_connections(view: View) -> Answer:
    """Connections of clients."""
    protocol = view.query("protocol") or None
    found, pager = await view.ask_page(_CONNECTIONS, _ROWS_A_PAGE, protocol=protocol)
    counts: dict[str, int] = {}
    for factory in view.caller.inside.factories():
        name = factory.listener.protocol
        counts[name] = counts.get(name, 0) + len(getattr(factory, "connections", ()))
    return await view.page(
        "connections.html",
        "connections",
        connections=found["connections"],
        node=found["node"],
        nodes=found["nodes"],
        **pager,
        protocol=protocol or "",
        counts=sorted(counts.items()),
        may_close=view.may(_CLOSE),
    )


async def close_connection(view: View) -> Answer:
    """Close a connection."""
    await view.ask(_CLOSE, {"connection": view.form("connection")})
    return view.to("/console/connections", said="closed")


async def show_transactions(view: View) -> Answer:
    """Transactional ids."""
    state = view.query("state") or None
    found, pager = await view.ask_page(_TRANSACTIONS, _ROWS_A_PAGE, state=state)
    return await view.page(
        "transactions.html",
        "transactions",
        transactions=[
            {**row, "may_abort": view.may(_ABORT, transactional_id=row["transactional_id"])}
            for row in found["transactions"]
        ],
        **pager,
        state=state or "",
        now_ms=view.caller.broker.now_ms(),
    )


async def abort(view: View) -> Answer:
    """Abort an open transaction."""
    await view.ask(_ABORT, {"transactional_id": view.form("transactional_id")})
    return view.to("/console/transactions", said="aborted")


async def show_plugins(view: View) -> Answer:
    """The installed protocols, and where they listen."""
    found = await view.ask("GET /v1/plugins")
    broker = await view.part("GET /v1/broker")
    return await view.page(
        "plugins.html",
        "plugins",
        plugins=found["plugins"],
        nodes=() if broker is None else broker["nodes"],
    )


async def show_configuration(view: View) -> Answer:
    """The configuration in force."""
    found = await view.ask("GET /v1/configuration")
    configs = (await view.part(_CONFIGS) or {"configs": []})["configs"]
    return await view.page(
        "configuration.html",
        "configuration",
        yaml=found["yaml"],
        warnings=found["warnings"],
        configs=sorted(configs, key=lambda row: (not row["is_set"], row["name"])),
        may_change=view.may(_CHANGE),
        changed=view.form("name"),
        entered=view.form("value"),
    )


async def change_configuration(view: View) -> Answer:
    """Change a configuration of the broker while it runs."""
    value = None if view.form("do") == "unset" else view.form("value").strip()
    await view.ask(_CHANGE, body={"configs": {view.form("name"): value}, "for_all": True})
    return view.to("/console/configuration", said="saved")


async def show_log(view: View) -> Answer:
    """Loggers and their levels."""
    found, pager = await view.ask_page(_LOGGERS, _ROWS_A_PAGE)
    return await view.page(
        "log.html",
        "log",
        loggers=found["loggers"],
        node=found["node"],
        nodes=found["nodes"],
        **pager,
        levels=_LEVELS,
        may_change=view.may(_SET_LEVEL),
    )


async def set_level(view: View) -> Answer:
    """Set the level of a logger."""
    level = view.form("level") or None
    await view.ask(_SET_LEVEL, {"logger": view.form("logger")}, body={"level": level})
    return view.to("/console/log", said="saved")


PAGES: Final = (
    Page("GET", "/console/connections", show_connections, "Connections.", query=("protocol", "page")),
    Page(
        "POST",
        "/console/connections",
        close_connection,
        "Close one.",
        query=("protocol", "page"),
        shows=show_connections,
    ),
    Page("GET", "/console/transactions", show_transactions, "Transactions.", query=("state", "page")),
    Page(
        "POST",
        "/console/transactions",
        abort,
        "Abort one.",
        query=("state", "page"),
        shows=show_transactions,
    ),
    Page("GET", "/console/plugins", show_plugins, "Plugins."),
    Page("GET", "/console/configuration", show_configuration, "The configuration in force."),
    Page(
        "POST", "/console/configuration", change_configuration, "Change some of it.", shows=show_configuration
    ),
    Page("GET", "/console/log", show_log, "Levels of the log.", query=("page",)),
    Page("POST", "/console/log", set_level, "Set one.", query=("page",), shows=show_log),
)
