"""What one client may use and has used, as the connection asks while it serves the client's requests.

Owns no state of its own: the counts are shared with everyone whom the same quota limits together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from zope.interface import implementer

from megabroker.core.quotas.rates import SAMPLE_MS, SAMPLES, Rate, TokenBucket
from megabroker.errors import ErrorCode, StateError
from megabroker.interfaces import IMeter, IMutations

__all__ = ["Balance", "Limited", "Meter"]

_UNLIMITED: Final = 2**63 - 1


class Limited(NamedTuple):
    """A rate and its limit a second."""

    limit: float
    rate: Rate


class Balance(NamedTuple):
    """A token bucket and what fills it in a second."""

    limit: float
    bucket: TokenBucket


@implementer(IMeter)
class Meter:
    """The quotas that hold for one client; None where nothing limits it.

    Args:
        now_ms: the time in milliseconds.
    """

    __slots__ = ("_consumed", "_mutations", "_now_ms", "_produced", "_work")

    def __init__(
        self,
        now_ms: Callable[[], int],
        produced: Limited | None,
        consumed: Limited | None,
        work: Limited | None,
        mutations: Balance | None,
    ) -> None:
        self._now_ms = now_ms
        self._produced = produced
        self._consumed = consumed
        self._work = work
        self._mutations = mutations

    @property
    def limits_produce(self) -> bool:
        """See ``IMeter.limits_produce``."""
        return self._produced is not None or self._work is not None

    @property
    def fetch_bytes(self) -> int:
        """See ``IMeter.fetch_bytes``."""
        if self._consumed is None:
            return _UNLIMITED
        return int(min(self._consumed.limit * (SAMPLES - 1) * SAMPLE_MS / 1000, _UNLIMITED))

    def produced(self, size_bytes: int) -> int:
        """See ``IMeter.produced``."""
        return self._record(self._produced, size_bytes)

    def consumed(self, size_bytes: int) -> int:
        """See ``IMeter.consumed``."""
        return self._record(self._consumed, size_bytes)

    def may_consume(self, size_bytes: int) -> int:
        """See ``IMeter.may_consume``."""
        limited = self._consumed
        if limited is None:
            return 0
        now_ms = self._now_ms()
        was_idle = limited.rate.is_idle(now_ms)
        limited.rate.record(size_bytes, now_ms)
        throttle_ms = limited.rate.throttle_ms(limited.limit, now_ms)
        if not throttle_ms or was_idle:
            # A batch larger than ten seconds' worth has to pass at some time, or its consumer never goes on.
            return 0
        limited.rate.record(-size_bytes, now_ms)
        return throttle_ms

    def worked(self, seconds: float) -> int:
        """See ``IMeter.worked``."""
        return min(self._record(self._work, seconds * 100), SAMPLE_MS)

    def mutations(self, *, strict: bool) -> IMutations | None:
        """See ``IMeter.mutations``."""
        return None if self._mutations is None else _Mutations(self._mutations, self._now_ms, strict)

    def _record(self, limited: Limited | None, amount: float) -> int:
        if limited is None:
            return 0
        now_ms = self._now_ms()
        limited.rate.record(amount, now_ms)
        return limited.rate.throttle_ms(limited.limit, now_ms)


@implementer(IMutations)
class _Mutations:
    """The changes that one request makes."""

    __slots__ = ("_balance", "_now_ms", "_strict", "_until_ms")

    def __init__(self, balance: Balance, now_ms: Callable[[], int], strict: bool) -> None:
        self._balance = balance
        self._now_ms = now_ms
        self._strict = strict
        self._until_ms = 0

    def record(self, partitions: int) -> None:
        """See ``IMutations.record``."""
        limit, bucket = self._balance
        now_ms = self._now_ms()
        if self._strict:
            throttle_ms = bucket.throttle_ms(limit, now_ms)
            if throttle_ms:
                self._until_ms = now_ms + throttle_ms
                raise StateError(
                    ErrorCode.OVERLOADED, f"the controller_mutation_rate of {limit:g} is exceeded"
                )
            bucket.record(partitions, limit, now_ms)
        else:
            bucket.record(partitions, limit, now_ms)
            self._until_ms = now_ms + bucket.throttle_ms(limit, now_ms)

    @property
    def throttle_ms(self) -> int:
        """See ``IMutations.throttle_ms``."""
        return max(self._until_ms - self._now_ms(), 0) if self._until_ms else 0
