"""When to try again: exponential backoff with jitter, as numbers; never sleeps, never knows of what."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["NO_RETRY", "Retry"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and after which pauses.

    Args:
        attempts: in all, the first one included.
        first_s: the pause after the first, in seconds; each further one is twice as long.
        longest_s: no pause is longer, in seconds.
        jitter: the part of a pause that is left to chance, 0 to 1, so that clients who lost the broker
            together do not come back together.

    Raises:
        ValueError: a number is out of its range.
    """

    attempts: int = 5
    first_s: float = 0.1
    longest_s: float = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts: expected 1 or more, not {self.attempts}")
        if not 0 <= self.first_s <= self.longest_s:
            raise ValueError(f"first_s: expected 0 to longest_s ({self.longest_s}), not {self.first_s}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter: expected 0 to 1, not {self.jitter}")

    def pauses(self, chance: random.Random | None = None) -> Iterator[float]:
        """Yield the pause before each further attempt, in seconds; it ends with the attempts."""
        draw = (chance or random).random
        pause_s = self.first_s
        for _ in range(self.attempts - 1):
            yield pause_s * (1 - self.jitter * draw())
            pause_s = min(2 * pause_s, self.longest_s)


NO_RETRY = Retry(attempts=1)
"""One attempt."""
