"""Bytes of records that were accepted and are not yet in their files, of all partitions together.

Each partition's queue has bounds of its own, which add up to much when many partitions are written to and the
disk does not keep up. Owns the account of them all, ``limits.unwritten_bytes``, and those who wait for it:
while it is full, no queue grows beyond 64 KiB. A queue counts as it has grown by as much.

Invariant: who waits here is called once there is room, in the order of asking.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["FREE_BYTES", "Backlog"]

FREE_BYTES = 64 * 1024
"""What a partition may have queued without being counted."""

_UNLIMITED = 1 << 62


class Backlog:
    """The account.

    Args:
        limit_bytes: of all queues, 64 KiB of each aside.

    Attributes:
        queued_bytes: what is counted; whoever counts less calls ``wake`` if there is anybody in ``waiting``.
        waiting: who is to be called once there is room.
        waits: how often somebody found it full.
        closed_records, closed_bytes, closed_batches, closed_fetched_bytes: what queues that are no more had
            taken and given.
    """

    __slots__ = (
        "_waking",
        "closed_batches",
        "closed_bytes",
        "closed_fetched_bytes",
        "closed_records",
        "limit_bytes",
        "queued_bytes",
        "waiting",
        "waits",
    )

    def __init__(self, limit_bytes: int = _UNLIMITED) -> None:
        self.limit_bytes = limit_bytes
        self.queued_bytes = 0
        self.waiting: deque[Callable[[], None]] = deque()
        self.waits = 0
        self.closed_records = self.closed_bytes = self.closed_batches = self.closed_fetched_bytes = 0
        self._waking = False

    def closed(self, queue: Any) -> None:
        """A partition's queue is no more."""
        self.closed_records += queue.appended_records
        self.closed_bytes += queue.appended_bytes
        self.closed_batches += queue.appended_batches
        self.closed_fetched_bytes += queue.fetched_bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be queued."""
        return self.queued_bytes >= self.limit_bytes

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when it is not full any more. The callback does not raise."""
        self.waiting.append(callback)

    def wake(self) -> None:
        """Call those who wait as long as there is room."""
        if self._waking:
            return
        self._waking = True
        try:
            while self.waiting and not self.is_full:
                self.waiting.popleft()()
        finally:
            self._waking = False
