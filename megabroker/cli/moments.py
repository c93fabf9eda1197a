"""Points in time and places in a partition, as people write them: ``@2026-11-21T12:00``, ``@-1h``, ``-10``.

Pure: what a text means, now given.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import attrs

__all__ = ["END", "START", "Place", "read_moment_ms", "read_place"]

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_AGO: Final = re.compile(r"-(\d{1,12})(ms|s|m|h|d|w)", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_MOMENT: Final = "milliseconds since 1970, a time such as 2026-11-21T12:00, or an age such as -1h"


@attrs.frozen
class Place:
    """Where in a partition: exactly one of these, or ``after_start`` and ``before_end`` at 0 for its ends.

    Attributes:
        offset: this one.
        after_start: so many after the first there is.
        before_end: so many before the end.
        timestamp_ms: the first message of that time or later.
    """

    offset: int | None = None
    after_start: int | None = None
    before_end: int | None = None
    timestamp_ms: int | None = None


START: Final = Place(after_start=0)
END: Final = Place(before_end=0)
_WORDS: Final = {"start": START, "beginning": START, "earliest": START, "end": END, "latest": END}


def read_place(text: str, now_ms: int) -> Place:
    """Read a place. Raises ValueError, which says what was expected."""
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith("@"):
        return Place(timestamp_ms=read_moment_ms(text[1:], now_ms))
    if _NUMBER.fullmatch(text):
        number = int(text)
        if text[0] == "+":
            return Place(after_start=number)
        return Place(before_end=-number) if text[0] == "-" else Place(offset=number)
    raise ValueError(
        f"expected start, end, an offset, -N before the end, +N after the start, or @ and {_MOMENT}"
    )


def read_moment_ms(text: str, now_ms: int) -> int:
    """Read a point in time; one without a zone is this machine's. Raises ValueError."""
    if ago := _AGO.fullmatch(text):
        return max(0, now_ms - int(ago[1]) * _UNITS_MS[ago[2]])
    if text == "now":
        return now_ms
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    try:
        found = datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"expected {_MOMENT}") from None
    if found < 0:
        raise ValueError(f"expected {_MOMENT}")
    return round(found * 1000)
