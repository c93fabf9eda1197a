"""What is done once for everything that came in one turn of the reactor.

A turn is whatever the reactor does in one go: reading all connections that are ready, or taking the reports
of the disk. Requests of many connections meet in it, and so do their writes and answers:

    read every connection that is ready -> *write* once -> *settle* each connection once

Both come right after the work of the turn, in the same event of the reactor. A delayed call for each would
cost a second round of the reactor, which is as much as several small requests.

A turn has a time that it should take, where whoever reads says so (``deadline``). What a connection has
brought beyond that waits and is taken up in turns of its own, between which others are read: a hundred
connections that ask for much at once do not keep one waiting that asks for little. What comes through a
transport that knows no turns (TLS) has one such time for all that the reactor reads in one go.

Invariants: what was asked for is called exactly once, soon, and never inside the call that asks; writes come
before connections settle, so that what is written in place is answered in the same turn.

Requests that came together and are answered in one turn are counted together at its end, by the one look at
the clock that tells how long the turn took: each of them costs an addition (``alike``). So what they took
includes the rest of their turn, in which their answers are sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.logger import Logger

from megabroker.latency import BOUNDS_SECONDS, Latency

__all__ = ["Turns"]

_log = Logger()

_ROUNDS = 4
"""How often ends of a turn may ask for another before others have theirs: settling may let requests in."""

_TURN_SECONDS = 0.005
"""How long what was left of one turn is taken up in another."""

_UNTIMED = float("inf")
_SHORT_SECONDS = BOUNDS_SECONDS[0]

_Call = Callable[[], None]


class Turns:
    """The turns of one reactor.

    Args:
        reactor: calls what was asked for outside any turn.

    Attributes:
        began: when this turn did, by the monotonic clock; 0 outside any.
        deadline: when this turn has taken its time; never, where nobody asks for it.
        lengths: how long turns took.
        kind: where those requests are counted that are answered in this turn.
        since: when they came, by the monotonic clock; 0 is never.
        alike: how many of them there are so far. Whoever answers another of this kind and time adds 1, else
            calls ``answered``.
        are_noted: whether somebody takes note of requests, so that the first of each turn calls ``answered``.
        most_seconds: how long reading in one go, or what was left of a turn, takes before others have theirs.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._writes: list[_Call] = []
        self._settlements: list[_Call] = []
        self._running = False
        self._planned = False
        self._later: deque[_Call] = deque()
        self._reading_ends: float | None = None
        self._reading_began = 0.0
        self.began = 0.0
        self.deadline = _UNTIMED
        self.lengths = Latency()
        self.kind: Latency | None = None
        self.since = 0.0
        self.alike = 0
        self.are_noted = False
        self.most_seconds = _TURN_SECONDS

    def timed(self, call: _Call) -> None:
        """Call within the time that all has which the reactor reads in one go; within a turn, in that."""
        if self.deadline != _UNTIMED:
            call()
            return
        if self._reading_ends is None:
            self._reading_began = monotonic()
            self._reading_ends = self._reading_began + self.most_seconds
            self._reactor.callLater(0, self._reading_ended)
        self.deadline = self._reading_ends
        self.began = self._reading_began
        try:
            call()
        finally:
            self.deadline = _UNTIMED
            self.began = 0.0

    def _reading_ended(self) -> None:
        self._reading_ends = None

    def take_up_later(self, call: _Call) -> None:
        """Call once in a later turn: this one has taken its time."""
        self._later.append(call)
        if len(self._later) == 1:
            self._reactor.callLater(0, self._take_up)

    def _take_up(self) -> None:
        self.run(self._take_up_some, self.most_seconds)

    def _take_up_some(self) -> None:
        later = self._later
        for _ in range(len(later)):
            # One that asks again comes behind the others; it is taken out last, so that it plans nothing.
            later[0]()
            later.popleft()
            if monotonic() > self.deadline:
                break
        if later:
            self._reactor.callLater(0, self._take_up)

    def write_at_end(self, call: _Call) -> None:
        """Call once at the end of this turn, before connections settle."""
        self._writes.append(call)
        if not (self._running or self._planned):
            self._plan()

    def settle_at_end(self, call: _Call) -> None:
        """Call once at the end of this turn, after what is written."""
        self._settlements.append(call)
        if not (self._running or self._planned):
            self._plan()

    def run(self, work: _Call, seconds: float = _UNTIMED) -> None:
        """Do the work of a turn, which has so much time, and what it asks for."""
        self._running = True
        self.began = self.since = began = monotonic()
        self.deadline = began + seconds
        try:
            work()
        finally:
            self.deadline = _UNTIMED
            self._end()
            ended = monotonic()
            took = ended - began
            lengths = self.lengths
            lengths.seconds += took
            bucket = 0 if took <= _SHORT_SECONDS else bisect_left(BOUNDS_SECONDS, took)
            lengths.counts[bucket] += 1
            alike, kind = self.alike, self.kind
            if alike and kind is not None and self.since == began and not self.are_noted:
                kind.seconds += took * alike  # as ``_count``, of which a call would be seen
                kind.counts[bucket] += alike
                self.alike = 0
            elif alike:
                self._count(ended)
            self.began = self.since = 0.0

    def answered(self, kind: Latency, since: float, count: int = 1) -> None:
        """Count requests of another kind or time than those before them."""
        if self.alike:
            self._count(monotonic())
        self.kind, self.since, self.alike = kind, since, count
        if not (self._running or self._planned):
            self._plan()

    def _count(self, now: float) -> None:
        kind, alike = self.kind, self.alike
        assert kind is not None
        took = now - self.since
        kind.seconds += took * alike
        kind.counts[0 if took <= _SHORT_SECONDS else bisect_left(BOUNDS_SECONDS, took)] += alike
        self.alike = 0
        if self.are_noted:
            self.kind = None

    def _plan(self) -> None:
        self._planned = True
        self._reactor.callLater(0, self._end_planned)

    def _end_planned(self) -> None:
        self._planned = False
        self._end()
        if self.alike:
            self._count(monotonic())
        self.since = 0.0

    def _end(self) -> None:
        self._running = True
        for _ in range(_ROUNDS):
            calls = self._writes
            if calls:
                self._writes = []
            else:
                calls = self._settlements
                if not calls:
                    break
                self._settlements = []
            for call in calls:
                try:
                    call()
                except Exception:  # noqa: BLE001 - one that fails must not keep the others from their turn
                    _log.failure("turn-end-failed")
        self._running = False
        if (self._writes or self._settlements) and not self._planned:
            self._plan()
