"""How long things took, as a histogram of plain integers: how many took at most so long.

Written by one thread and read by any, without a lock: whoever reads while it is written to may see one that
is counted and not yet added up.
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
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
        began: when the group that is being counted began, by the monotonic clock.
        turn: the turn that answers it.
        bucket: where it is counted.
        each: the seconds that each of it took.
    """

    __slots__ = ("began", "bucket", "counts", "each", "seconds", "turn")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0
        self.began = self.turn = -1.0
        self.bucket = 0
        self.each = 0.0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count what took so long."""
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += count
        self.seconds += seconds * count

    def group(self, began: float, turn: float) -> None:
        """Count the first of a group, which has just been answered.

        Whoever has another that began at ``began`` and is answered in the same ``turn`` adds 1 to
        ``counts[bucket]`` and ``each`` to ``seconds``.
        """
        self.began, self.turn = began, turn
        self.each = seconds = monotonic() - began
        self.bucket = bucket = bisect_left(BOUNDS_SECONDS, seconds)
        self.counts[bucket] += 1
        self.seconds += seconds
