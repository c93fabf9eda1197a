"""A headless Chromium for tests of the console, that takes note of all that goes wrong in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["CHROMIUM", "Watched", "chromium"]

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        yield started
        started.close()


class Watched:
    """A browser's window onto one broker.

    Attributes:
        page: playwright's.
        faults: errors of scripts, refusals by the content security policy, requests that went elsewhere.
    """

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.address = address
        self.context = browser.new_context(base_url=address, **options)
        self.context.set_default_timeout(30_000)
        self.faults: list[str] = []
        self.allowed: list[str] = []
        self.page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self._asked)
        self.page.on("dialog", lambda dialog: (self.faults.append("a dialog"), dialog.dismiss()))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(one in message.text for one in self.allowed):
            self.faults.append(f"{message.type}: {message.text} at {message.location}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self.address):
            self.faults.append(f"asked {request.url}")

    def go(self, path: str) -> Any:
        """Open a page."""
        return self.page.goto(path)

    def until(self, script: str) -> None:
        """Wait until something is so; playwright's own way would need ``eval`` in the page."""
        deadline = time.monotonic() + 30
        while not self.page.evaluate(script):
            assert time.monotonic() < deadline, script
            self.page.wait_for_timeout(50)

    def close(self) -> None:
        """Close the window; fails if anything went wrong."""
        self.context.close()
        assert not self.faults, self.faults
