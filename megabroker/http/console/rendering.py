"""Pages from templates, and the files they load; with the headers that keep a browser to them.

Owns Jinja2, which is imported in another thread when the first page is asked for, and with it all templates,
so that no turn of the reactor is spent on that. Everything that is put into a template is escaped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

import attrs
from twisted.internet.threads import deferToThreadPool

from megabroker import __version__
from megabroker.http.console import text
from megabroker.http.routes import Answer

__all__ = ["HEADERS", "Rendering", "StaticFile", "static_files"]

_HERE: Final = Path(__file__).parent

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "X-Frame-Options": "DENY",
        # Not no-referrer: browsers would then say of every form that it comes from nowhere (Origin: null).
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
)
"""Of every page: nothing but the broker's own files is loaded, sent to or shown around it."""

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@attrs.frozen
class StaticFile:
    """A file that pages load; ``version`` is another when its bytes are."""

    body: bytes
    media: str
    version: str


def static_files() -> dict[str, StaticFile]:
    """Return the files that pages load, by name."""
    found = {}
    for path in sorted((_HERE / "static").iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            found[path.name] = StaticFile(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:12])
    return found


class Rendering:
    """Makes pages.

    Args:
        reactor: in whose threads templates are read.
        static: the files that pages load.
    """

    def __init__(self, reactor: Any, static: Mapping[str, StaticFile]) -> None:
        self._reactor = reactor
        self._static = static
        self._environment: Any = None

    async def ready(self) -> None:
        """Fire when pages can be made."""
        if self._environment is None:
            # Those who come meanwhile have it read as well, rather than wait for one who may go away.
            pool = self._reactor.getThreadPool()
            environment = await deferToThreadPool(self._reactor, pool, self._load)
            self._environment = self._environment or environment

    def _load(self) -> Any:
        jinja2: Any = import_module("jinja2")
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            {
                "visible": text.visible,
                "size": text.size,
                "grouped": text.grouped,
                "moment": text.moment,
                "duration": text.duration,
                "shown": text.shown,
            }
        )
        environment.globals.update({"static": self._address, "address": address, "version": __version__})
        for name in environment.list_templates():
            environment.get_template(name)
        return environment

    def _address(self, name: str) -> str:
        return f"/console/static/{name}?v={self._static[name].version}"

    def fragment(self, template: str, **values: Any) -> str:
        """Return what a template makes of values."""
        return str(self._environment.get_template(template).render(values))

    def page(self, template: str, status: int = 200, **values: Any) -> Answer:
        """Return a page."""
        body = self.fragment(template, **values).encode()
        return Answer(status, body, "text/html; charset=utf-8", HEADERS)


def address(path: str, **query: Any) -> str:
    """Return an address with those parameters that are there."""
    pairs = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(pairs)}" if pairs else path
