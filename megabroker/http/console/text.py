"""Bytes, numbers and times of the broker as people read them. Pure.

Owns what is made visible of text that others wrote: characters that would act on the page's text instead of
standing in it (control characters, those that turn its direction round, those of no width) are shown as
signs. Escaping for HTML is the templates' business and comes after.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

__all__ = [
    "READINGS",
    "Shown",
    "duration",
    "grouped",
    "moment",
    "parse_moment",
    "shown",
    "size",
    "visible",
]

READINGS: Final = ("auto", "text", "json", "hex")
"""How bytes can be shown; ``auto`` takes the first of JSON, text and hex that does."""

PREVIEW_BYTES: Final = 400
PAGE_BYTES: Final = 64 << 10
"""What a page shows of one value; hex, which takes five times the room, shows a quarter of it."""

_JSON_BYTES: Final = 16 << 10
"""Longer JSON is shown as it is: writing it anew takes milliseconds."""

_HEX_COLUMNS: Final = 16
_LAST_MS: Final = 253_402_300_799_999


def _signs() -> dict[int, str]:
    """Return signs for what cannot be seen."""
    signs = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    signs[0x7F] = "\u2421"
    hidden = [
        *range(0x80, 0xA0),
        0xAD,
        0x61C,
        0x180E,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2070),
        0xFEFF,
        *range(0xFFF0, 0xFFFC),
        *range(0xE0000, 0xE0080),
    ]
    return signs | {code: f"\u27e8U+{code:04X}\u27e9" for code in hidden}


_SIGNS: Final = _signs()


def visible(text: object) -> str:
    """Return text in which all there is can be seen."""
    return str(text).encode(errors="replace").decode().translate(_SIGNS)


class Shown(NamedTuple):
    """Bytes as a page shows them.

    Attributes:
        text: what is shown.
        reading: text, json or hex; null where there are no bytes at all.
        size_bytes: how many there are.
        is_cut: whether there are more than are shown.
    """

    text: str
    reading: str
    size_bytes: int
    is_cut: bool


def shown(data: bytes | None, reading: str = "auto", most_bytes: int = PAGE_BYTES) -> Shown:
    """Return bytes as text.

    Args:
        reading: one of ``READINGS``; what is not JSON is shown as text, and what is no text as hex.
        most_bytes: how many are looked at.
    """
    if data is None:
        return Shown("", "null", 0, False)
    part = data[:most_bytes]
    if reading != "hex":
        text = _as_text(part, is_cut=len(data) > len(part))
        if text is not None:
            pretty = None
            if reading != "text" and len(data) <= min(_JSON_BYTES, most_bytes):
                pretty = _as_json(text, only_structures=reading == "auto")
            if pretty is not None:
                return Shown(visible(pretty), "json", len(data), False)
            return Shown(visible(text), "text", len(data), len(data) > len(part))
    part = data[: max(_HEX_COLUMNS, most_bytes // 4)]
    return Shown(_as_hex(part), "hex", len(data), len(data) > len(part))


def _as_text(part: bytes, *, is_cut: bool) -> str | None:
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        # What was cut within a character is text nevertheless.
        if is_cut and error.start >= len(part) - 3 and error.start > 0:
            return part[: error.start].decode()
        return None


def _as_json(text: str, *, only_structures: bool) -> str | None:
    try:
        value = json.loads(text)
        if only_structures and not isinstance(value, dict | list):
            return None
        return json.dumps(value, ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return None


def _as_hex(part: bytes) -> str:
    lines = []
    for at in range(0, len(part), _HEX_COLUMNS):
        row = part[at : at + _HEX_COLUMNS]
        letters = "".join(chr(one) if 0x20 <= one < 0x7F else "\u00b7" for one in row)
        lines.append(f"{at:08x}  {row.hex(' '):<{_HEX_COLUMNS * 3}} {letters}")
    return "\n".join(lines)


# --- numbers and times ------------------------------------------------------------------------------------


def size(count: float | None) -> str:
    """Return bytes as people say it; a dash for what is not known."""
    if count is None:
        return "\u2013"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def grouped(count: float | None) -> str:
    """Return a number with its thousands apart; a dash for what is not known."""
    if count is None:
        return "\u2013"
    if isinstance(count, float) and not count.is_integer():
        return f"{count:,.1f}".replace(",", "\u202f")
    return f"{int(count):,}".replace(",", "\u202f")


def moment(time_ms: int | None) -> str:
    """Return a time since the epoch, in UTC; a dash for what is none."""
    if time_ms is None or not 0 <= time_ms <= _LAST_MS:
        return "\u2013"
    found = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{found:%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03}"


def parse_moment(text: str) -> int | None:
    """Return milliseconds since the epoch of a time that somebody wrote; None if it is none.

    Args:
        text: as ISO 8601 has it, in UTC unless it says otherwise, or milliseconds since the epoch.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) > 8:
        return int(text) if len(text) <= 15 else None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    time_ms = round(found.timestamp() * 1000)
    return time_ms if 0 <= time_ms <= _LAST_MS else None


def duration(milliseconds: Any) -> str:
    """Return a length of time."""
    seconds = int(milliseconds) // 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
