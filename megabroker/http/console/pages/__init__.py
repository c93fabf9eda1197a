"""The pages of the console, a module for each part of the navigation."""

from __future__ import annotations

from typing import Final

from megabroker.http.console.page import Page
from megabroker.http.console.pages import (
    access,
    groups,
    login,
    messages,
    operation,
    overview,
    tail,
    topics,
)

__all__ = ["PAGES"]

PAGES: Final[tuple[Page, ...]] = (
    *overview.PAGES,
    *topics.PAGES,
    *messages.PAGES,
    *tail.PAGES,
    *groups.PAGES,
    *operation.PAGES,
    *access.PAGES,
    *login.PAGES,
)
