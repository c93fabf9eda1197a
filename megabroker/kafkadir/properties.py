"""Java's property files: ``meta.properties`` and ``server.properties``.

Owns the syntax, as ``java.util.Properties`` documents it: one ``key=value`` a line, ``:`` or white space in
place of ``=``, comments with ``#`` or ``!``, a backslash that joins lines or escapes a character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["parse_properties"]

_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_KEY: Final = re.compile(r"((?:\\.|[^\\=:\s])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_LETTERS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str) -> dict[str, str]:
    """Return every property; of one that is given twice the last value, as Java does."""
    found = {}
    for line in _logical_lines(text):
        match = _KEY.fullmatch(line)
        if match is not None:
            found[_unescape(match[1])] = _unescape(match[2])
    return found


def _logical_lines(text: str) -> Iterator[str]:
    joined = ""
    for line in re.split(r"\r\n|\n|\r", text):
        line = line.lstrip(" \t\f")
        if not joined and (not line or line[0] in "#!"):
            continue
        joined += line
        if (len(joined) - len(joined.rstrip("\\"))) % 2:
            joined = joined[:-1]
            continue
        yield joined
        joined = ""
    if joined:
        yield joined


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        found = match[1]
        if len(found) > 1:
            return chr(int(found[1:], 16))
        return _LETTERS.get(found, found)

    return _ESCAPE.sub(character, text)
