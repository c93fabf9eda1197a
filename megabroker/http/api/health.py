"""Whether the process lives, whether it serves, and its numbers; for what watches over it."""

from __future__ import annotations

from typing import Any, Final

from megabroker.access import Operation
from megabroker.errors import ErrorCode
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer, Call, Need, Route
from megabroker.http.schema import Object, Text, required

__all__ = ["ROUTES"]

_HEALTH: Final = Object({"status": required(Text(choices=("ok",)), "Always ok.")}, "Health")


def get_livez(call: Call) -> Any:
    """The reactor answers: nothing keeps it."""
    return {"status": "ok"}


def get_readyz(call: Call) -> Any:
    """Clients are served from the first turn of the reactor until the broker is being stopped."""
    if call.caller.inside.stopping():
        raise Problem(503, ErrorCode.SHUTTING_DOWN, "the broker is stopping", retriable=True)
    return {"status": "ok"}


async def get_metrics(call: Call) -> Answer:
    """The numbers of this process, as Prometheus reads them."""
    content_type, text = await call.caller.inside.metrics.render(call.headers("accept") or "")
    return Answer(body=text, content_type=content_type)


ROUTES: Final = (
    Route("GET", "/livez", get_livez, "Whether the process is alive.", _HEALTH, is_open=True),
    Route("GET", "/readyz", get_readyz, "Whether the broker is ready for clients.", _HEALTH, is_open=True),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        "Metrics in the Prometheus or OpenMetrics format.",
        needs=(Need(Operation.DESCRIBE),),
        media="text/plain; version=1.0.0",
    ),
)
