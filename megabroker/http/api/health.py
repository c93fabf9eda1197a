"""Whether the process lives, and whether it serves; for whoever starts it anew or sends clients to it."""

from __future__ import annotations

from typing import Any, Final

from megabroker.errors import ErrorCode
from megabroker.http.problems import Problem
from megabroker.http.routes import Call, Route
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


ROUTES: Final = (
    Route("GET", "/livez", get_livez, "Whether the process lives.", _HEALTH, is_open=True),
    Route("GET", "/readyz", get_readyz, "Whether it serves clients.", _HEALTH, is_open=True),
)
