"""How the broker does, now and in the last minutes."""

from __future__ import annotations

import json
from typing import Any, Final

from megabroker.http.api.configuration import warnings_of
from megabroker.http.console.history import rates
from megabroker.http.console.measuring import COUNTS, broker_sample, latency_quantile
from megabroker.http.console.page import Page
from megabroker.http.console.view import View
from megabroker.http.routes import Answer

__all__ = ["PAGES"]

_BROKER: Final = "GET /v1/broker"
_CONFIGURATION: Final = "GET /v1/configuration"


async def _series(view: View) -> list[dict[str, Any]]:
    """Return rates of the last minutes, oldest first."""
    samples = await view.console.throughput.look(lambda: broker_sample(view.caller))
    return [
        {
            "at": round(row["at"], 1),
            "received_bytes": round(row["received_bytes"]),
            "sent_bytes": round(row["sent_bytes"]),
            "messages": round(row["messages"], 1),
            "requests": round(row["requests"], 1),
            "connections": row["connections"],
            "median_ms": latency_quantile(row, 0.5),
            "slow_ms": latency_quantile(row, 0.99),
        }
        for row in rates(samples, COUNTS)
    ]


async def show_overview(view: View) -> Answer:
    """The first page."""
    broker = await view.part(_BROKER)
    series = [] if broker is None else await _series(view)
    return await view.page(
        "overview.html",
        "overview",
        broker=broker,
        now=series[-1] if series else None,
        protocols=_protocols(view) if broker is not None else (),
        warnings=warnings_of(view.caller) if view.may(_CONFIGURATION) else [],
    )


def _protocols(view: View) -> list[dict[str, Any]]:
    """Return what each protocol has done in this process."""
    rows: dict[str, dict[str, Any]] = {}
    for factory in view.caller.inside.factories():
        counts = getattr(factory, "counts", None)
        row = rows.setdefault(
            factory.listener.protocol,
            {
                "connections": 0,
                "opened": 0,
                "refused": 0,
                "received_bytes": 0,
                "sent_bytes": 0,
                "requests": 0,
            },
        )
        row["connections"] += len(getattr(factory, "connections", ()))
        if counts is not None:
            for name in ("opened", "refused", "received_bytes", "sent_bytes"):
                row[name] += getattr(counts, name)
            row["requests"] += sum(one.count for one in counts.latencies.values())
    return [{"protocol": name, **row} for name, row in sorted(rows.items())]


async def get_series(view: View) -> Answer:
    """Numbers for the plots."""
    # Whoever may describe the broker may see how much it does.
    await view.ask(_BROKER)
    return Answer(body=json.dumps({"series": await _series(view)}, allow_nan=False).encode())


PAGES: Final = (
    Page("GET", "/console", show_overview, "How the broker does."),
    Page("GET", "/console/series", get_series, "How it did in the last minutes."),
)
