"""Whether the process lives, whether it serves, and its numbers; for what watches over it."""

from __future__ import annotations

from typing import Any, Final

from megabroker.access import Operation
from megabroker.errors import ErrorCode
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer, Call, Need, Route
from megabroker.http.schema import ListOf, Nullable, Object, Text, optional, required

__all__ = ["ROUTES"]

_MOST_TROUBLES: Final = 3

_LIVES: Final = Object({"status": required(Text(choices=("ok",)), "Always ok.")}, "Life")
_READY: Final = Object(
    {
        "status": required(Text(choices=("ok", "degraded")), "degraded if there are troubles."),
        "troubles": optional(
            Nullable(ListOf(Text(), maximum=_MOST_TROUBLES)),
            "Sentences; absent if the status is ok.",
        ),
    },
    "Readiness",
)


def get_livez(call: Call) -> Any:
    """The reactor answers: nothing keeps it."""
    return {"status": "ok"}


async def get_readyz(call: Call) -> Any:
    """Clients are served from the first turn of the reactor until the broker is being stopped.

    As long as some partition can be used the process is ready, even if nothing can be written now: what
    is stored is still read, and there is no other process that would have it.
    """
    inside = call.caller.inside
    if inside.stopping():
        raise Problem(503, ErrorCode.SHUTTING_DOWN, "the broker is stopping", retriable=True)
    health = await inside.health.look()
    if not health.serves:
        raise Problem(503, ErrorCode.STORAGE, "; ".join(health.troubles), retriable=True)
    return {"status": "degraded", "troubles": list(health.troubles)} if health.troubles else {"status": "ok"}


async def get_metrics(call: Call) -> Answer:
    """The numbers of this process, as Prometheus reads them."""
    content_type, text = await call.caller.inside.metrics.render(call.headers("accept") or "")
    return Answer(body=text, content_type=content_type)


ROUTES: Final = (
    Route("GET", "/livez", get_livez, "Whether the process is alive.", _LIVES, is_open=True),
    Route("GET", "/readyz", get_readyz, "Whether the broker is ready for clients.", _READY, is_open=True),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        "Metrics in the Prometheus or OpenMetrics format.",
        needs=(Need(Operation.DESCRIBE),),
        media="text/plain; version=1.0.0",
    ),
)
