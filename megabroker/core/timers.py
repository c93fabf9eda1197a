"""Many deadlines on one delayed call.

Owns every timer of the core that exists in numbers: session timeouts of group members, waits of fetches.
A reactor's own ``callLater`` keeps a heap entry per call and leaves cancelled ones in it; here deadlines are
rounded up to a tick, ticks are buckets, and only the earliest bucket is known to the reactor. Adding and
cancelling cost a dictionary entry, plus a heap entry for the first deadline of a tick.

Never calls back early, never from within ``call_at``, ``call_later`` or ``cancel``, and late by at most one
tick plus whatever the reactor is late. A callback that raises is logged and harms no other.
Invariant: outside ``_fire``, a delayed call is pending while a live deadline exists, for its tick or one
before it. It stays when what it was for is cancelled, and then wakes for nothing, once: fetches that wait and
are answered soon, one after the other, would else cost the reactor a call planned and one cancelled each.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["TimerHandle", "TimerWheel"]

_log = Logger()

_COMPACT_FLOOR = 256
"""Buckets below which emptied ones are not worth clearing away early."""


class TimerHandle:
    """One deadline; holding it is only needed for cancelling."""

    __slots__ = ("_bucket", "_callback", "_wheel")

    def __init__(
        self, wheel: TimerWheel, bucket: dict[TimerHandle, None] | None, callback: Callable[[], object]
    ) -> None:
        self._wheel = wheel
        self._bucket = bucket
        self._callback = callback

    @property
    def active(self) -> bool:
        """Whether the callback is still to come."""
        return self._bucket is not None

    def cancel(self) -> None:
        """Forget the deadline; no effect when it has fired or was cancelled before."""
        bucket = self._bucket
        if bucket is not None:
            self._bucket = None
            bucket.pop(self, None)
            self._wheel._cancelled()


class TimerWheel:
    """Deadlines over one clock.

    Args:
        clock: source of time; its seconds are the epoch's on a real reactor.
        granularity_ms: width of a tick.
    """

    def __init__(self, clock: IReactorTime, granularity_ms: int = 10) -> None:
        self._clock = clock
        self._granularity_ms = granularity_ms
        self._buckets: dict[int, dict[TimerHandle, None]] = {}
        self._ticks: list[int] = []
        self._live = 0
        self._fired_tick = -1
        self._firing = False
        self._stopped = False
        self._call: IDelayedCall | None = None
        self._call_tick = -1

    def __len__(self) -> int:
        """Number of live deadlines."""
        return self._live

    def now_ms(self) -> int:
        """Return the clock's time in milliseconds."""
        return int(self._clock.seconds() * 1000)

    def call_later(self, delay_ms: float, callback: Callable[[], object]) -> TimerHandle:
        """Call back in ``delay_ms``; zero or less means the next tick, never at once."""
        return self.call_at(self._clock.seconds() * 1000 + delay_ms, callback)

    def call_at(self, deadline_ms: float, callback: Callable[[], object]) -> TimerHandle:
        """Call back when the clock shows ``deadline_ms`` or more.

        After ``stop`` the handle returned is as good as cancelled.
        """
        if self._stopped:
            return TimerHandle(self, None, callback)
        tick = max(math.ceil(deadline_ms / self._granularity_ms), self._fired_tick + 1)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._ticks, tick)
        handle = TimerHandle(self, bucket, callback)
        bucket[handle] = None
        self._live += 1
        if not self._firing and (self._call is None or tick < self._call_tick):
            self._arm()
        return handle

    def stop(self) -> None:
        """Forget every deadline and leave the clock alone from now on."""
        self._stopped = True
        for bucket in self._buckets.values():
            for handle in bucket:
                handle._bucket = None
        self._live -= sum(map(len, self._buckets.values()))
        self._buckets = {}
        self._ticks = []
        self._disarm()

    def _cancelled(self) -> None:
        self._live -= 1
        if not self._live and not self._firing:
            self._buckets = {}
            self._ticks = []
        elif len(self._ticks) > _COMPACT_FLOOR and len(self._ticks) > 2 * self._live and not self._firing:
            self._buckets = {tick: bucket for tick, bucket in self._buckets.items() if bucket}
            self._ticks = sorted(self._buckets)

    def _disarm(self) -> None:
        if self._call is not None:
            if self._call.active():
                self._call.cancel()
            self._call = None

    def _arm(self) -> None:
        """Have the reactor wake us for the earliest bucket that still holds a deadline."""
        ticks = self._ticks
        while ticks and not self._buckets[ticks[0]]:
            del self._buckets[heapq.heappop(ticks)]
        if not ticks or self._stopped:
            self._disarm()
            return
        tick = ticks[0]
        delay = max(0.0, tick * self._granularity_ms / 1000 - self._clock.seconds())
        if self._call is not None and self._call.active():
            self._call.reset(delay)
        else:
            self._call = self._clock.callLater(delay, self._fire)
        self._call_tick = tick

    def _fire(self) -> None:
        self._call = None
        # The seconds of a float clock come out a fraction of a microsecond short of the tick slept for.
        now_tick = math.floor((self._clock.seconds() * 1000 + 0.001) / self._granularity_ms)
        self._firing = True
        self._fired_tick = max(self._fired_tick, now_tick)
        try:
            while self._ticks and self._ticks[0] <= now_tick:
                self._fire_bucket(self._buckets.pop(heapq.heappop(self._ticks)))
        finally:
            self._firing = False
            self._arm()

    def _fire_bucket(self, bucket: dict[TimerHandle, None]) -> None:
        while bucket:
            handle = next(iter(bucket))
            if self._stopped:
                handle.cancel()
                continue
            del bucket[handle]
            handle._bucket = None
            self._live -= 1
            try:
                handle._callback()
            except Exception:  # noqa: BLE001 - a timer loop logs and goes on
                _log.failure("timer callback failed")
