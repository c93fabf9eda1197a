"""Who waits until a log is on the disk up to an offset."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from megabroker.errors import StorageError

__all__ = ["Flushes"]


class Flushes:
    """See the module; may be asked for more from within whoever is told.

    Attributes:
        waiting: up to where each waits, and what tells it.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Deferred[None]]] = []

    def add(self, end_offset: int) -> Deferred[None]:
        """Return what fires when all below ``end_offset`` is on the disk, and fails as it cannot be."""
        done: Deferred[None] = Deferred()
        self.waiting.append((end_offset, done))
        return done

    def reached(self, offset: int) -> None:
        """All below ``offset`` is on the disk."""
        for done in self._take(lambda target: target <= offset):
            done.callback(None)

    def fail(self, error: StorageError, from_offset: int = -1) -> None:
        """Nothing from ``from_offset`` on will be there; all that is waited for, if it is not given."""
        for done in self._take(lambda target: target > from_offset):
            done.errback(error)

    def _take(self, whether: Callable[[int], bool]) -> list[Deferred[None]]:
        """Return those that wait for offsets of which that is true, and let go of them."""
        waiting = self.waiting
        self.waiting = [one for one in waiting if not whether(one[0])]
        return [done for target, done in waiting if whether(target)]
