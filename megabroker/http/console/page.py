"""A row of the table of pages: what is asked for, what makes the answer, where a refusal is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from megabroker.http.console.view import View
from megabroker.http.routes import Answer

__all__ = ["Handle", "Page"]

Handle = Callable[[View], Awaitable[Answer]]


class Page(NamedTuple):
    """One thing that can be asked of the console.

    Attributes:
        handle: makes the answer.
        query: names of parameters, all of them text.
        shows: of a form, the page that shows why it was refused.
        is_open: whether it is there for whoever has not logged in.
        waits: whether it may wait for what never comes.
    """

    method: str
    path: str
    handle: Handle
    summary: str
    query: tuple[str, ...] = ()
    shows: Handle | None = None
    is_open: bool = False
    waits: bool = False
