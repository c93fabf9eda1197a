"""How numbers went lately: samples that are taken when somebody looks, and kept for whoever looks next.

Owns the samples. There is no timer: a page that is open asks every few seconds, and its asking is what takes
a sample; while nobody looks nothing is done. Between two looks that are far apart there is one rate.
All of it is bounded: so many samples of each, and so many things that are looked at, of which those go that
nobody has looked at for longest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

__all__ = ["Histories", "History", "rates"]

_T = TypeVar("_T")

MOST_SAMPLES: Final = 300
_LEAST_SECONDS: Final = 1.5

Sample = Mapping[str, float]


class History:
    """Samples of one thing.

    Args:
        seconds: the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._samples: deque[tuple[float, Sample]] = deque(maxlen=MOST_SAMPLES)
        self._taking = False

    async def look(self, take: Callable[[], Awaitable[Sample]]) -> list[tuple[float, Sample]]:
        """Return the samples there are, oldest first and one at least, after taking one if it is time."""
        now = self._seconds()
        is_due = not self._samples or not 0 <= now - self._samples[-1][0] < _LEAST_SECONDS
        # Who finds none takes one too, rather than wait for somebody who may go away.
        if is_due and not (self._taking and self._samples):
            self._taking = True
            try:
                sample = await take()
            finally:
                self._taking = False
            # The time it was taken at: counting many partitions lets others go on in between.
            self._samples.append((self._seconds(), sample))
        return list(self._samples)


def rates(samples: list[tuple[float, Sample]], names: tuple[str, ...]) -> list[dict[str, float]]:
    """Return how much the counts among samples grew in a second, and everything else as it is.

    Args:
        names: which are counts; one that became less began anew.

    Returns:
        One fewer than the samples, each with its time as ``at``.
    """
    found = []
    for (before, former), (at, latter) in pairwise(samples):
        seconds = max(at - before, 0.001)
        row = {name: value for name, value in latter.items() if name not in names}
        row["at"] = at
        for name in names:
            row[name] = max(latter.get(name, 0) - former.get(name, 0), 0) / seconds
        found.append(row)
    return found


class Histories(Generic[_T]):
    """Things by key, at most so many; what was asked for longest ago goes.

    Args:
        make: returns a new one.
    """

    def __init__(self, make: Callable[[], _T], most: int) -> None:
        self._make = make
        self._most = most
        self._kept: dict[Hashable, _T] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, key: Any) -> _T:
        """Return that of a key."""
        found = self._kept.pop(key, None)
        if found is None:
            while len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            found = self._make()
        self._kept[key] = found
        return found
