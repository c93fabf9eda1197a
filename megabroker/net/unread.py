"""Answers that wait for their peers to read them, of all connections together.

Each connection stops taking requests above ``limits.output_buffer_bytes`` of its own, which bounds nothing
when thousands read nothing. Owns the account of what all of them hold in memory, and what is done above
``limits.unread_answer_bytes``:

- While more is held, a connection stops taking requests as soon as more than 64 KiB of its own wait
  (``is_over``), and whoever has read nothing for some seconds is closed, the longest first, until it fits.
- Above twice as much nobody is given these seconds.

Ranges of files are not counted: they are in nobody's memory until the socket takes them.

Invariant: who reads is not closed before anybody who does not.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Protocol

__all__ = ["Unread"]

_PATIENCE_SECONDS = 3.0
_LOOKED_AT = 8
"""Holders looked at for each that is noted while too much is held; a sweep looks at all."""


class _Holder(Protocol):
    """A connection whose answers wait."""

    def unread(self) -> tuple[int, int]:
        """Return how many bytes of answers it holds, and how many ever went after having had to wait."""

    def abort(self, why: str) -> None:
        """Drop the connection at once."""


class _Standing:
    """What was last seen of a holder.

    Attributes:
        moved: bytes that had gone by then.
        since: when it was first seen to have got so far, in seconds.
    """

    __slots__ = ("held_bytes", "moved", "since")

    def __init__(self, held_bytes: int, moved: int, since: float) -> None:
        self.held_bytes = held_bytes
        self.moved = moved
        self.since = since


class Unread:
    """The account.

    Args:
        limit_bytes: what all may hold.
        seconds: the time, in seconds.

    Attributes:
        held_bytes: what all of them hold, as last seen of each.
        closed: how many were closed.
    """

    def __init__(self, limit_bytes: int, seconds: Callable[[], float]) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.closed = 0
        self._seconds = seconds
        self._holders: dict[_Holder, _Standing] = {}  # who got on longest ago first

    @property
    def is_over(self) -> bool:
        """Whether more is held than may be."""
        return self.held_bytes > self.limit_bytes

    def note(self, holder: _Holder) -> bool:
        """Look at a holder again; return whether it still holds anything."""
        holds = self._see(holder)
        if self.held_bytes > self.limit_bytes:
            self.relieve(_LOOKED_AT)
        return holds

    def forget(self, holder: _Holder) -> None:
        """The connection is gone, or as good as gone."""
        standing = self._holders.pop(holder, None)
        if standing is not None:
            self.held_bytes -= standing.held_bytes

    def relieve(self, looked_at: int | None = None) -> None:
        """Close those who do not read until what is held fits; look at so many, or all."""
        for holder, standing in list(islice(self._holders.items(), looked_at)):
            if not self.is_over:
                return
            since = standing.since
            self._see(holder)
            if self._holders.get(holder) is not standing or standing.since != since:
                continue  # it has read something
            waited = self._seconds() - since
            if waited < _PATIENCE_SECONDS and self.held_bytes <= 2 * self.limit_bytes:
                return
            self.forget(holder)
            self.closed += 1
            holder.abort(
                f"the peer has read none of its answers for {waited:.0f} s, and all that wait are more than "
                f"limits.unread_answer_bytes, {self.limit_bytes}"
            )

    def _see(self, holder: _Holder) -> bool:
        held_bytes, moved = holder.unread()
        if not held_bytes:
            self.forget(holder)
            return False
        standing = self._holders.get(holder)
        if standing is None:
            self._holders[holder] = _Standing(held_bytes, moved, self._seconds())
            self.held_bytes += held_bytes
            return True
        self.held_bytes += held_bytes - standing.held_bytes
        standing.held_bytes = held_bytes
        if standing.moved != moved:
            standing.moved, standing.since = moved, self._seconds()
            self._holders[holder] = self._holders.pop(holder)
        return True
