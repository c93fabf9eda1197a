"""The routes of the console, made of the tables of pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from megabroker.errors import BrokerError, ErrorCode
from megabroker.http.console.page import Page
from megabroker.http.console.pages import PAGES
from megabroker.http.console.view import Console, View
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer, Call, Route
from megabroker.http.schema import MapOf, Text, optional

if TYPE_CHECKING:
    from megabroker.http.listening import HttpFactory

__all__ = ["console_routes"]

_PARAMETER: Final = Text(0, 8192)
_FORM: Final = MapOf(Text(), maximum=200)
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


def console_routes(factory: HttpFactory, api: Sequence[Route]) -> list[Route]:
    """Return the routes of the console.

    Args:
        api: those of the API.
    """
    console = Console(factory, api)
    return [
        Route("GET", "/", _to_console, "The console.", is_open=True, hidden=True),
        Route(
            "GET",
            "/console/static/{path...}",
            lambda call: _static(console, call),
            "A file that pages load.",
            query={"v": optional(_PARAMETER, "Its version.", "")},
            is_open=True,
            hidden=True,
        ),
        *(_route(console, page) for page in PAGES),
        Route(
            "GET",
            "/console/{path...}",
            _nothing_here,
            "What there is not.",
            hidden=True,
            is_open=True,
            manner=console,
        ),
    ]


def _route(console: Console, page: Page) -> Route:
    async def handle(call: Call) -> Answer:
        view = View(console, call)
        if page.method != "POST":
            return await page.handle(view)
        view.check_token()
        try:
            return await page.handle(view)
        except (Problem, BrokerError) as error:
            if page.shows is None:
                raise
            view.refused(error)
            return await page.shows(view)

    return Route(
        page.method,
        page.path,
        handle,
        page.summary,
        query={name: optional(_PARAMETER, "See the page.", "") for name in (*page.query, "said")},
        body=_FORM if page.method == "POST" else None,
        is_open=page.is_open,
        reads="form",
        hidden=True,
        waits=page.waits,
        media="text/html",
        manner=console,
    )


def _to_console(call: Call) -> Answer:
    return Answer(303, headers={"Location": "/console"})


def _static(console: Console, call: Call) -> Answer:
    found = console.static.get(call.path["path"])
    if found is None:
        raise Problem(404, ErrorCode.INVALID_REQUEST, "there is no such file")
    is_this = call.query["v"] == found.version
    return Answer(body=found.body, content_type=found.media, headers=_FOREVER if is_this else {})


def _nothing_here(call: Call) -> Answer:
    raise Problem(404, ErrorCode.INVALID_REQUEST, "no such page")
