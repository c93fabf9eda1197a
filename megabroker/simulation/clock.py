"""Simulated time, and a reactor that runs in it.

Owns the order of all that happens. ``Timeline`` is true time: whatever is to happen is in one heap, by time
and then by when it was asked for. ``Reactor`` is what one process takes for its reactor: it tells the time
by a clock that goes on steadily from what the system's said at the beginning, as the daemon's does; the
system's may be wrong, and may jump.

A process that has ended runs nothing any more. What it was in the middle of goes on to where it next
touches the world, and there meets ``ProcessEnded``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["EPOCH_SECONDS", "ProcessEnded", "Reactor", "Timeline"]

_log = Logger()

EPOCH_SECONDS: Final = 1_700_000_000.0
_TURN_SECONDS: Final = 0.00005


class ProcessEnded(BaseException):
    """This process is no more; nothing it does has an effect."""


class Planned:
    """Something that is to happen, until it has or is cancelled."""

    __slots__ = ("args", "call")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        """Have it not happen."""
        self.call = None


class Timeline:
    """True time.

    Attributes:
        now: seconds since the epoch.
        count: how many things have happened.
    """

    def __init__(self) -> None:
        self.now = EPOCH_SECONDS
        self.count = 0
        self._asked = 0
        self._heap: list[tuple[float, int, Planned]] = []

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> Planned:
        """Have something happen in so many seconds."""
        planned = Planned(call, args)
        self._asked += 1
        heapq.heappush(self._heap, (self.now + max(0.0, seconds), self._asked, planned))
        return planned

    def run_until(self, time: float, done: Callable[[], bool] | None = None) -> None:
        """Let happen what is to happen before ``time``, or until ``done`` says so."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            if done is not None and done():
                return
            at, _, planned = heapq.heappop(heap)
            call = planned.call
            if call is not None:
                planned.call = None
                self.now = max(self.now, at)
                self.count += 1
                call(*planned.args)
        if done is None or not done():
            self.now = max(self.now, time)


class _ThreadPool:
    """Runs what is given to threads, after a while."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any, **kwargs: Any) -> None:
        """IThreadPool: call, then tell ``done`` how that went."""
        self._reactor.from_outside(self._reactor.dice.random() * 0.005, self._run, done, call, args, kwargs)

    def _run(self, done: Any, call: Any, args: Any, kwargs: Any) -> None:
        try:
            result = call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for who asked
            done(False, Failure(error))  # type: ignore[no-untyped-call]
        else:
            done(True, result)


@implementer(IReactorTime)
class Reactor:
    """A process's reactor.

    Args:
        listen: told of (port, factory) when something is to be served.

    Attributes:
        jumped: by how many seconds the system's clock is ahead of the true time.
        turn_ended: called after each turn.
        running: as Twisted's.
    """

    running = True

    def __init__(
        self,
        timeline: Timeline,
        dice: Random,
        listen: Callable[[int, Any], Any],
        jumped: float = 0.0,
    ) -> None:
        self.timeline = timeline
        self.dice = dice
        self.jumped = self._ahead = jumped
        self.dead = False
        self.turn_ended: Callable[[], None] = lambda: None
        self._listen = listen
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._asked = 0
        self._armed: tuple[float, Planned] | None = None
        self._pool = _ThreadPool(self)

    # --- time ---

    def seconds(self) -> float:
        """IReactorTime: seconds since the epoch by the steady clock that the daemon gives its reactor."""
        return self.timeline.now + self._ahead

    def now_ms(self) -> int:
        """Return the time by the system's clock, in milliseconds since the epoch."""
        return int((self.timeline.now + self.jumped) * 1000)

    def jump(self, seconds: float) -> None:
        """Have somebody set the system's clock."""
        self.jumped += seconds

    def callLater(  # type: ignore[override]
        self, delay: float, call: Any, *args: Any, **kwargs: Any
    ) -> DelayedCall:
        """IReactorTime: call in so many seconds."""
        planned = DelayedCall(
            self.seconds() + delay, call, args, kwargs, self._cancelled, self._moved, self.seconds
        )
        self._push(planned)
        return planned

    def getDelayedCalls(self) -> list[DelayedCall]:
        """IReactorTime: what is planned."""
        return [call for _, _, call in sorted(self._heap) if call.active()]

    def _push(self, planned: DelayedCall) -> None:
        self._asked += 1
        heapq.heappush(self._heap, (planned.getTime(), self._asked, planned))
        self._arm()

    def _cancelled(self, planned: DelayedCall) -> None:
        pass  # it stays in the heap until its time and is then passed over

    def _moved(self, planned: DelayedCall) -> None:
        self._push(planned)

    def _arm(self) -> None:
        """Plan the next turn."""
        if self.dead or not self._heap:
            return
        at = max(self._heap[0][0] - self._ahead, self.timeline.now + _TURN_SECONDS)
        if self._armed is not None:
            if self._armed[0] == at:
                return
            self._armed[1].cancel()
        self._armed = (at, self.timeline.later(at - self.timeline.now, self._turn))

    def _turn(self) -> None:
        """One turn: everything that is due by now and was asked for before it."""
        self._armed = None
        now = self.seconds()
        due: list[DelayedCall] = []
        while self._heap and self._heap[0][0] <= now + 1e-9:
            planned = heapq.heappop(self._heap)[2]
            if not planned.active():
                continue
            if planned.delayed_time > 0:  # it was put off since
                planned.activate_delay()
                self._push(planned)
            else:
                due.append(planned)
        for planned in due:
            if planned.active() and not self.dead:
                planned.called = 1
                self.guarded(planned.func, *planned.args, **planned.kw)
        self.end_turn()
        self._arm()

    def guarded(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Call into the process as its reactor does: what goes wrong is logged."""
        if self.dead:
            return None
        try:
            return call(*args, **kwargs)
        except ProcessEnded:
            return None
        except Exception:  # noqa: BLE001 - as the reactor does it
            _log.failure("unexpected-in-reactor")
            return None

    def end_turn(self) -> None:
        """Say that a turn is over."""
        if not self.dead:
            self.turn_ended()

    # --- other threads ---

    def from_outside(self, seconds: float, call: Any, *args: Any) -> None:
        """Have something called by another thread in so many seconds of true time."""
        self.timeline.later(seconds, self._outside, call, args)

    def _outside(self, call: Any, args: Any) -> None:
        self.guarded(call, *args)
        self.end_turn()

    def callFromThread(self, call: Any, *args: Any, **kwargs: Any) -> None:
        """IReactorFromThreads: call soon."""
        self.from_outside(_TURN_SECONDS, lambda: call(*args, **kwargs))

    def callWhenRunning(self, call: Any, *args: Any, **kwargs: Any) -> None:
        """IReactorCore: call once it runs, which it does."""
        self.callLater(0, call, *args, **kwargs)

    def getThreadPool(self) -> Any:
        """IReactorThreads: where work is deferred to."""
        return self._pool

    def iterate(self, seconds: float) -> None:
        """IReactorCore: nothing; time passes outside."""

    # --- network ---

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """IReactorTCP: serve."""
        return self._listen(port, factory)

    def stop(self) -> None:
        """Run nothing any more."""
        self.dead = True
        self._heap.clear()
