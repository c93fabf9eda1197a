r"""Rules by which the name in a client's certificate becomes the name of a user; Apache Kafka's syntax.

    RULE:^CN=(.*?),.*$/$1/L,DEFAULT

Rules are separated by commas and tried in order. ``RULE:pattern/replacement/[LU]`` holds if the pattern
matches the whole name, ``$1`` stands for a group of it, L and U make it lower or upper case; DEFAULT takes
the name as it is. In pattern and replacement a backslash quotes a slash. Patterns are Python's, which those
of Java that anybody uses are too.

Source: ``ssl.principal.mapping.rules`` (KIP-371).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["PrincipalRules"]

_PART = r"((?:\\.|[^\\/])*)"
_rule = re.compile(rf"\s*(?:(DEFAULT)|RULE:{_PART}/{_PART}/([LU]?)|)\s*(?:,\s*|$)").match
_back_reference = re.compile(r"\\(.)|\$([0-9]+)", re.DOTALL)
_CASES: Final[Mapping[str, Callable[[str], str]]] = {"L": str.lower, "U": str.upper, "": str}


class PrincipalRules:
    """The rules of a listener.

    Args:
        text: as configured.

    Raises:
        ValueError: it is no list of rules; the message says what was expected.
    """

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], str, str] | None] = []
        at = 0
        while at < len(text):
            match = _rule(text, at)
            if match is None or match.end() == at:
                raise ValueError(f"RULE:pattern/replacement/[LU] or DEFAULT at {text[at : at + 40]!r}")
            at = match.end()
            default, pattern, replacement, case = match.groups()
            if default:
                self._rules.append(None)
            elif pattern is not None:
                self._rules.append((_compiled(pattern), replacement, case))

    def apply(self, name: str) -> str | None:
        """Return the name of the user, or None if no rule holds for a certificate's name."""
        for rule in self._rules:
            if rule is None:
                return name
            pattern, replacement, case = rule
            match = pattern.fullmatch(name)
            if match is not None:
                return _CASES[case](_expanded(replacement, match))
        return None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a regular expression, not {pattern!r} ({error})") from None


def _expanded(replacement: str, match: re.Match[str]) -> str:
    """Put groups in; a number that no group has loses digits until one has it, and else stands for itself."""

    def put(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1]
        digits = found[2]
        for end in range(len(digits), 0, -1):
            if int(digits[:end]) <= match.re.groups:
                return (match[int(digits[:end])] or "") + digits[end:]
        return found[0]

    return _back_reference.sub(put, replacement)
