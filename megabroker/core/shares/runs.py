"""The records in flight of a share partition, as runs of neighbours that are alike.

Owns the arithmetic of cutting and joining runs, and what is stored of them; knows no rules. A run costs the
same whether it is one record or a million, so a partition in order costs one.

Invariant: runs follow each other without a hole, in offset order, and no two neighbours are alike.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

__all__ = ["TERMINAL", "RecordState", "Run", "Runs"]


class RecordState(enum.IntEnum):
    """Where a record is; the numbers are KIP-932's and are stored."""

    AVAILABLE = 0
    ACQUIRED = 1
    ACKNOWLEDGED = 2
    ARCHIVED = 4


TERMINAL = frozenset((RecordState.ACKNOWLEDGED, RecordState.ARCHIVED))
"""The states that no record leaves."""


class Run(NamedTuple):
    """Neighbouring records that are alike.

    Attributes:
        last: offset of the last record, which belongs to the run.
        deliveries: how often each has been handed out, the present time included.
        member_id: who has acquired them; empty in other states.
        deadline_ms: until when; 0 in other states.
        together: how many records were first handed out together; 0 when that does not matter any more.
    """

    first: int
    last: int
    state: RecordState
    deliveries: int
    member_id: str = ""
    deadline_ms: int = 0
    together: int = 0

    @property
    def size(self) -> int:
        """How many offsets it has."""
        return self.last - self.first + 1


_last = attrgetter("last")


class Runs:
    """All runs of one share partition."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._runs: list[Run] = []
        for run in runs:
            self.append(run)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def end(self) -> int | None:
        """The offset after the last run, None without runs."""
        return self._runs[-1].last + 1 if self._runs else None

    def copy(self) -> Runs:
        """Return runs that change independently."""
        other = Runs()
        other._runs = self._runs.copy()
        return other

    def append(self, run: Run) -> None:
        """Add a run behind the others, without a hole."""
        if self._runs and _alike(self._runs[-1], run):
            self._runs[-1] = self._runs[-1]._replace(last=run.last)
        else:
            self._runs.append(run)

    def between(self, first: int, last: int) -> list[Run]:
        """Return what lies within two offsets, cut to them."""
        found = []
        for run in self._runs[bisect_left(self._runs, first, key=_last) :]:
            if run.first > last:
                break
            found.append(run._replace(first=max(run.first, first), last=min(run.last, last)))
        return found

    def change(self, first: int, last: int, how: Callable[[Run], Run]) -> None:
        """Put ``how(run)`` in the place of each run within two offsets, cut to them."""
        runs = self._runs
        low = high = bisect_left(runs, first, key=_last)
        fresh: list[Run] = []
        while high < len(runs) and runs[high].first <= last:
            run = runs[high]
            high += 1
            if run.first < first:
                fresh.append(run._replace(last=first - 1))
            inside = run._replace(first=max(run.first, first), last=min(run.last, last))
            _join(fresh, how(inside))
            if run.last > last:
                _join(fresh, run._replace(first=last + 1))
        if low and fresh:
            low -= 1
            fresh.insert(0, runs[low])
            if _alike(fresh[0], fresh[1]):
                fresh[0:2] = [fresh[0]._replace(last=fresh[1].last)]
        if fresh and high < len(runs) and _alike(fresh[-1], runs[high]):
            fresh[-1] = fresh[-1]._replace(last=runs[high].last)
            high += 1
        runs[low:high] = fresh

    def cut(self, offset: int) -> None:
        """Forget everything below an offset."""
        runs = self._runs
        del runs[: bisect_left(runs, offset, key=_last)]
        if runs and runs[0].first < offset:
            runs[0] = runs[0]._replace(first=offset)


def _alike(one: Run, next_one: Run) -> bool:
    return one[2:] == next_one[2:]


def _join(runs: list[Run], run: Run) -> None:
    if runs and _alike(runs[-1], run):
        runs[-1] = runs[-1]._replace(last=run.last)
    else:
        runs.append(run)
