"""Links of the site: all that lead within it must lead somewhere, and what is no page is told by its path.

A link to a file of the source that is no page would be a download; to a folder it would lead nowhere. Both
are shown as the path that they name.
"""

from __future__ import annotations

import html.parser
import pathlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Take part in a build."""
    app.connect("doctree-read", _name_paths)
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _name_paths(app: Sphinx, document: nodes.document) -> None:
    here = (pathlib.Path(app.srcdir) / app.env.docname).parent
    for link in list(document.findall(addnodes.download_reference)):
        _replace(link, link["reftarget"])
    for link in list(document.findall(addnodes.pending_xref)):
        path = (here / urlsplit(link["reftarget"]).path).resolve()
        if link.get("refdomain") in (None, "doc") and path.is_dir():
            _replace(link, str(path.relative_to(app.srcdir)))


def _replace(link: nodes.Element, path: str) -> None:
    shown = link.astext()
    named = nodes.literal(path, path)
    link.replace_self(
        named if path.endswith(shown.strip("/")) else [nodes.Text(f"{shown} ("), named, nodes.Text(")")]
    )


class _Page(html.parser.HTMLParser):
    """What can be linked to in a page, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = {""}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        self.ids |= {known.get("id") or "", known.get("name") or ""}
        target = known.get("href") or known.get("src")
        if target:
            self.links.append(target)


def _check(app: Sphinx, failed: Exception | None) -> None:
    if failed is None and app.builder.format == "html":
        for page, target in broken(pathlib.Path(app.outdir)):
            _log.warning("a link leads nowhere: %s", target, location=page)


def broken(site: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yield (page, link) of all links within a built site that lead nowhere."""
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target in pages:
                lost = unquote(parts.fragment) not in pages[target].ids
            else:
                lost = not target.exists()
            if lost:
                yield str(path.relative_to(site.resolve())), link
