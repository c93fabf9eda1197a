"""Logging in and out."""

from __future__ import annotations

from typing import Final

from megabroker.errors import AuthenticationError, ErrorCode
from megabroker.http.console.page import Page
from megabroker.http.console.rendering import HEADERS
from megabroker.http.console.view import LOGIN, View, local_path
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer

__all__ = ["PAGES"]


async def show_login(view: View) -> Answer:
    """The form to log in."""
    following = local_path(view.form("next") or view.query("next"))
    return await view.page("login.html", "login", next=following, user=view.form("user"))


async def log_in(view: View) -> Answer:
    """Check a password, and have the browser keep a session."""
    console, broker = view.console, view.caller.broker
    if broker.authentication is None:
        raise Problem(409, ErrorCode.UNSUPPORTED, "no authentication is required here")
    try:
        principal = await broker.authentication.password(view.form("user"), view.form("password"))
    except AuthenticationError as error:
        broker.audit.refused("http", view.caller.host, error.message)
        raise Problem(
            401, ErrorCode.NOT_AUTHENTICATED, "authentication failed: wrong name or password"
        ) from None
    settings = console.factory.settings
    if view.session is not None:
        console.sessions.end(view.session.token)
    session = console.sessions.begin(principal, settings.session_seconds, settings.max_sessions)
    headers = view.call.headers
    return Answer(
        303,
        headers={
            **HEADERS,
            "Location": local_path(view.form("next")),
            "Set-Cookie": console.cookie(headers, session.token),
        },
    )


async def log_out(view: View) -> Answer:
    """End a session."""
    if view.session is not None:
        view.console.sessions.end(view.session.token)
    return Answer(
        303,
        headers={
            **HEADERS,
            "Location": f"{LOGIN}?said=logged-out",
            "Set-Cookie": view.console.cookie(view.call.headers, ""),
        },
    )


PAGES: Final = (
    Page("GET", LOGIN, show_login, "The form to log in.", query=("next",), is_open=True),
    Page("POST", LOGIN, log_in, "Log in.", query=("next",), shows=show_login, is_open=True),
    Page("POST", "/console/logout", log_out, "Log out."),
)
