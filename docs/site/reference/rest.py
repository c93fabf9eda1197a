"""Pieces of reStructuredText."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

__all__ = ["described", "heading", "plain"]


def plain(text: str) -> str:
    """Return text of which nothing is taken for markup, but what is between double backticks."""
    parts = re.split(r"(``[^`]+``)", text)
    return "".join(
        part if at % 2 else re.sub(r"([\\*`|_<>]|:(?=\S))", r"\\\1", part) for at, part in enumerate(parts)
    )


def heading(title: str, underline: str) -> str:
    """Return a title with its line below."""
    return f"\n{title}\n{underline * len(title)}\n\n"


def described(directive: str, name: str, body: Iterable[str], options: Iterable[tuple[str, str]] = ()) -> str:
    """Return a directive that describes something."""
    head = [f".. {directive}:: {name}", *(f"   :{key}: {value}" for key, value in options), ""]
    return "\n".join(head) + "\n" + "".join(f"{textwrap.indent(part, '   ')}\n\n" for part in body)
