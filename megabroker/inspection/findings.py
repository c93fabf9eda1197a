"""What a check has to say, as values.

Owns the kinds there are and what they mean for whoever asked. Knows no file format.
"""

from __future__ import annotations

import enum
from typing import Any

import attrs

__all__ = ["Finding", "Kind", "offsets"]


class Kind(enum.Enum):
    """How bad it is, and what a repair makes of it."""

    LOST = "lost"
    """Something that was acknowledged, or may have been, cannot be read. Repair keeps it aside."""

    TORN = "torn"
    """The end of a write that was never acknowledged. Repair cuts it off."""

    WRONG = "wrong"
    """A file that follows from others does not say what they say. Repair makes it anew."""

    REFUSED = "refused"
    """A start would refuse it, and a repair does."""

    NOTE = "note"
    """Nothing is wrong: what the next start does by itself, or what was found and kept aside before."""

    @property
    def is_fault(self) -> bool:
        """Whether anything is wrong."""
        return self is not Kind.NOTE


def offsets(start: int, stop: int) -> str:
    """Say which offsets are concerned; ``stop`` is the one after the last."""
    return f"offsets {start} to {stop - 1}" if stop > start + 1 else f"offset {start}"


@attrs.frozen
class Finding:
    """One thing about one file.

    Attributes:
        what: what it is like.
        right: what would be right, or what becomes of it.
        position: where in the file, or -1.
        length_bytes: how much of it; 0 if that does not matter.
        from_offset: first offset concerned, or -1.
        to_offset: the offset after the last one, or -1.
        remove: files that a repair has to take away, so that they are made anew.
    """

    kind: Kind
    path: str
    what: str
    right: str
    position: int = -1
    length_bytes: int = 0
    from_offset: int = -1
    to_offset: int = -1
    remove: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return it as JSON-like values."""
        found: dict[str, Any] = {
            "kind": self.kind.value,
            "path": self.path,
            "what": self.what,
            "right": self.right,
        }
        places = {
            "position": self.position,
            "length_bytes": self.length_bytes or -1,
            "from_offset": self.from_offset,
            "to_offset": self.to_offset,
        }
        return {**found, **{name: value for name, value in places.items() if value >= 0}}

    def line(self) -> str:
        """Return it as a line for people."""
        at = f" at byte {self.position}" if self.position >= 0 else ""
        return f"{self.kind.value + ':':9}{self.path}{at}: {self.what}; {self.right}"
