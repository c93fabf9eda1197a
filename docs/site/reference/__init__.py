"""The part of the site that is made of the code: a directive, and a module for each page that uses it.

    .. generated:: configuration

stands for the reStructuredText that ``configuration.text()`` of this package returns.
"""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

__all__ = ["setup"]


class Generated(SphinxDirective):
    """See the module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(f"{__name__}.{self.arguments[0]}")
        parent = nodes.section()
        parent.document = self.state.document
        lines = module.text().splitlines()
        nested_parse_with_titles(self.state, StringList(lines, f"<{self.arguments[0]}>"), parent)
        return parent.children


def _drawings_as_they_are(
    app: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]
) -> None:
    """Mark what is indented in the docstring of a module as literal: byte layouts, and tables."""
    if what == "module":
        for at in range(len(lines) - 1, 1, -1):
            begins = lines[at].startswith("  ") and not lines[at - 1].strip()
            if begins and lines[at - 2].strip() and not lines[at - 2].startswith(" "):
                lines[at:at] = [] if lines[at - 2].endswith("::") else ["::", ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Take part in a build."""
    app.add_directive("generated", Generated)
    app.connect("autodoc-process-docstring", _drawings_as_they_are)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
