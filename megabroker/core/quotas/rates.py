"""How much there was of something lately, and how long to wait until it is no more than allowed.

Two ways of counting, with the numbers and the arithmetic of Apache Kafka's, so that a quota means the same
here: ``Rate`` keeps sums of eleven samples of a second each (``quota.window.num``,
``quota.window.size.seconds``), ``TokenBucket`` a balance that is filled at the rate allowed (KIP-599).
Pure: the time is an argument, in milliseconds of any clock. One that is set back forgives what was counted.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

__all__ = ["SAMPLES", "SAMPLE_MS", "Rate", "TokenBucket"]

SAMPLES: Final = 11
SAMPLE_MS: Final = 1000
_SPAN_MS: Final = SAMPLES * SAMPLE_MS
_LONGEST_MS: Final = 2**31 - 1  # what the wire can say


@attrs.define
class _Sample:
    start_ms: int
    last_ms: int
    amount: float


class Rate:
    """What was counted in the last eleven seconds, by second."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES + 1)

    def record(self, amount: float, now_ms: int) -> None:
        """Count something; a negative amount takes back what was counted at the same time."""
        self._forget(now_ms)
        samples = self._samples
        if not samples or now_ms - samples[-1].start_ms >= SAMPLE_MS:
            samples.append(_Sample(now_ms, now_ms, 0.0))
        samples[-1].amount += amount
        samples[-1].last_ms = now_ms

    def total(self, now_ms: int) -> float:
        """Return what was counted and not yet forgotten."""
        self._forget(now_ms)
        return sum(sample.amount for sample in self._samples)

    def throttle_ms(self, limit: float, now_ms: int) -> int:
        """Return how long nothing must be counted until there was no more than ``limit`` a second; 0 if so.

        The time is that which would make the window long enough for what is in it (KIP-13). At least ten
        seconds are looked at, so that a burst of ten times the limit is let through after silence.
        """
        total = self.total(now_ms)
        window_ms = self._window_ms(now_ms)
        rate = total * 1000 / window_ms
        if rate <= limit:
            return 0
        return int(min((rate - limit) / limit * window_ms + 0.5, _LONGEST_MS))

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing is left to be remembered."""
        return not self.total(now_ms)

    def _window_ms(self, now_ms: int) -> int:
        elapsed_ms = now_ms - self._samples[0].start_ms if self._samples else 0
        missing = max(SAMPLES - 1 - elapsed_ms // SAMPLE_MS, 0)
        return elapsed_ms + missing * SAMPLE_MS

    def _forget(self, now_ms: int) -> None:
        samples = self._samples
        if samples and now_ms < samples[-1].last_ms:
            samples.clear()
        while samples and now_ms - samples[0].last_ms >= _SPAN_MS:
            samples.popleft()


class TokenBucket:
    """A balance that grows with the time, up to eleven seconds' worth, and may be overdrawn once."""

    __slots__ = ("_limit", "_tokens", "_updated_ms")

    def __init__(self) -> None:
        self._limit = 0.0
        self._tokens: float | None = None
        self._updated_ms = 0

    def record(self, amount: float, limit: float, now_ms: int) -> None:
        """Take something off the balance, which is filled with ``limit`` a second."""
        self._tokens = self._filled(limit, now_ms) - amount

    def throttle_ms(self, limit: float, now_ms: int) -> int:
        """Return how long it takes until the balance is not overdrawn; 0 if it is not."""
        tokens = self._tokens = self._filled(limit, now_ms)
        return int(min(-tokens / limit * 1000 + 0.5, _LONGEST_MS)) if tokens < 0 else 0

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing is left to be remembered: the balance is full."""
        return self._tokens is None or self._filled(self._limit, now_ms) >= self._limit * SAMPLES

    def _filled(self, limit: float, now_ms: int) -> float:
        full = limit * SAMPLES * SAMPLE_MS / 1000
        grown = full
        if self._tokens is not None and now_ms >= self._updated_ms:
            grown = self._tokens + limit * (now_ms - self._updated_ms) / 1000
        self._limit = limit
        self._updated_ms = now_ms
        return min(full, grown)
