"""How many idempotent producers all partitions together remember, and who is forgotten beyond that.

Owns the count over all tables of ``producers``, and the bound on it. What is forgotten is what was silent
longest, wherever it is: a batch that such a producer repeats is taken for a new one. So nothing of it happens
without a word in the log, which says how long the last one had been silent.

Looking for the longest silent goes through all tables, so that some are forgotten at a time; and if too few
may go, as their transactions are open, nobody looks again before as many more have come.
"""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

if TYPE_CHECKING:
    from megabroker.core.producers import ProducerTable

__all__ = ["IN_ALL", "PER_PARTITION", "ProducerRoom"]

_log = Logger()

PER_PARTITION: Final = "producers.max_per_partition"
IN_ALL: Final = "producers.max_producers"

_AT_ONCE: Final = 1_000
_UNLIMITED: Final = 1 << 62


class ProducerRoom:
    """The count, and the bound.

    Args:
        limit: producers, one that sends to ten partitions counted ten times.

    Attributes:
        count: how many there are, as the tables have last said.
        forgotten: how many each limit has cost, by its key.
    """

    def __init__(self, limit: int = _UNLIMITED) -> None:
        self.limit = limit
        self.count = 0
        self.forgotten = dict.fromkeys((PER_PARTITION, IN_ALL), 0)
        self._tables: dict[ProducerTable, int] = {}
        self._at_once = min(_AT_ONCE, limit // 100)
        self._most = limit  # more than the limit after a look that was in vain

    def counted(self, table: ProducerTable, now_ms: int) -> None:
        """Take note of how many a table has, and have some forgotten if they are too many together."""
        self._note(table)
        if self.count > self._most:
            self._forget(now_ms)

    def left(self, table: ProducerTable) -> None:
        """A table is no more."""
        self.count -= self._tables.pop(table, 0)

    def forgot(self, key: str, count: int, silent_ms: int | None) -> None:
        """Count producers that a limit had forgotten, and log it, ever more rarely.

        Args:
            silent_ms: for how long the last of them was silent, if that is known.
        """
        before = self.forgotten[key]
        self.forgotten[key] = now = before + count
        if before.bit_length() != now.bit_length():
            _log.warn(
                "producers-forgotten: {key} has cost {count} so far; the last was silent {silent}, "
                "and what such a producer repeats is stored twice",
                key=key,
                count=now,
                silent="since the start" if silent_ms is None else f"for {silent_ms / 1000:.1f} s",
            )

    def _note(self, table: ProducerTable) -> None:
        count = len(table)
        self.count += count - self._tables.get(table, 0)
        if count:
            self._tables[table] = count
        else:
            self._tables.pop(table, None)

    def _forget(self, now_ms: int) -> None:
        """Have the longest silent forgotten; those with open transactions stay."""
        until = self.limit - self._at_once
        heap: list[tuple[int, int, ProducerTable]] = []
        for number, table in enumerate(list(self._tables)):
            self._note(table)
            if (seen_ms := table.longest_silent_ms()) is not None:
                heap.append((seen_ms, number, table))
        heapify(heap)
        last_ms, count = now_ms, 0
        while heap and self.count > until:
            last_ms, number, table = heap[0]
            table.forget_longest_silent()
            self._note(table)
            count += 1
            if (seen_ms := table.longest_silent_ms()) is None:
                heappop(heap)
            else:
                heapreplace(heap, (seen_ms, number, table))
        self._most = self.limit if self.count <= self.limit else self.count + self._at_once
        self.forgot(IN_ALL, count, now_ms - last_ms if last_ms >= 0 else None)
