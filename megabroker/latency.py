"""How long things took, as a histogram of plain integers: how many took at most so long.

Written by one thread and read by any, without a lock: whoever reads while it is written to may see one that
is counted and not yet added up.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["BOUNDS_SECONDS", "Latency"]

BOUNDS_SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Upper bounds of a latency's buckets; the last bucket has none."""


class Latency:
    """A histogram of seconds.

    Attributes:
        counts: how many fell into each bucket, those of the buckets below not included.
        seconds: all of them added up.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count what took so long."""
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += count
        self.seconds += seconds * count
