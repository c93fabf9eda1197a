"""Tests for megabroker.core.timers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from megabroker.core.timers import TimerWheel


class TimerWheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000.123)
        self.wheel = TimerWheel(self.clock)
        self.fired: list[str] = []

    def note(self, name: str):
        return lambda: self.fired.append(name)

    def test_never_early_and_at_most_one_tick_late(self) -> None:
        self.wheel.call_later(25, self.note("a"))
        self.clock.advance(0.0249)
        self.assertEqual(self.fired, [])
        self.clock.advance(0.0102)
        self.assertEqual(self.fired, ["a"])

    def test_one_delayed_call_for_many_deadlines(self) -> None:
        for delay in range(0, 60_000, 7):
            self.wheel.call_later(delay, self.note(str(delay)))
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.wheel), 8572)

    def test_order_by_tick_then_by_insertion(self) -> None:
        now = self.wheel.now_ms()
        self.wheel.call_at(now + 500, self.note("late"))
        self.wheel.call_at(now + 100, self.note("first"))
        self.wheel.call_at(now + 100, self.note("second"))
        self.clock.advance(1)
        self.assertEqual(self.fired, ["first", "second", "late"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_earlier_deadline_moves_the_call(self) -> None:
        self.wheel.call_later(10_000, self.note("far"))
        self.wheel.call_later(100, self.note("near"))
        self.clock.advance(0.2)
        self.assertEqual(self.fired, ["near"])
        self.clock.advance(10)
        self.assertEqual(self.fired, ["near", "far"])

    def test_cancelled_does_not_fire(self) -> None:
        handle = self.wheel.call_later(100, self.note("x"))
        self.assertTrue(handle.active)
        handle.cancel()
        handle.cancel()
        self.assertFalse(handle.active)
        self.assertEqual(len(self.wheel), 0)
        self.clock.advance(1)
        self.assertEqual(self.fired, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits_that_end_one_after_the_other_have_one_delayed_call(self) -> None:
        calls = []
        for _ in range(10):
            self.wheel.call_later(100, self.note("x")).cancel()
            calls += self.clock.getDelayedCalls()
            self.clock.advance(0.001)
        self.assertEqual(len(set(calls)), 1)
        self.wheel.call_later(50, self.note("sooner"))
        self.clock.advance(0.06)
        self.assertEqual(self.fired, ["sooner"])

    def test_a_callback_may_cancel_its_neighbour(self) -> None:
        self.wheel.call_later(100, lambda: other.cancel())
        other = self.wheel.call_later(100, self.note("neighbour"))
        self.wheel.call_later(100, self.note("third"))
        self.clock.advance(1)
        self.assertEqual(self.fired, ["third"])

    def test_adding_from_a_callback_never_fires_in_the_same_pass(self) -> None:
        def again() -> None:
            self.fired.append("again")
            self.wheel.call_later(0, again)

        self.wheel.call_later(0, again)
        self.clock.advance(5)
        self.assertEqual(self.fired, ["again"])
        self.clock.advance(0.01)
        self.assertEqual(self.fired, ["again", "again"])

    def test_not_called_from_within_call_later(self) -> None:
        self.wheel.call_later(-5, self.note("past"))
        self.assertEqual(self.fired, [])
        self.clock.advance(0.01)
        self.assertEqual(self.fired, ["past"])

    def test_a_raising_callback_is_logged_and_harms_no_other(self) -> None:
        self.wheel.call_later(10, lambda: 1 / 0)
        self.wheel.call_later(10, self.note("other"))
        self.clock.advance(1)
        self.assertEqual(self.fired, ["other"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancelling_gives_the_memory_back(self) -> None:
        keep = self.wheel.call_later(3_600_000, self.note("keep"))
        for step in range(20_000):
            self.wheel.call_later(step * 37, self.note("x")).cancel()
        self.assertLess(len(self.wheel._ticks), 600)
        self.assertEqual(sorted(self.wheel._ticks), sorted(self.wheel._buckets))
        self.assertTrue(keep.active)

    def test_stop_forgets_everything(self) -> None:
        handle = self.wheel.call_later(10, self.note("x"))
        self.wheel.stop()
        self.assertFalse(handle.active)
        self.assertFalse(self.wheel.call_later(10, self.note("y")).active)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1)
        self.assertEqual(self.fired, [])

    def test_stop_from_a_callback(self) -> None:
        self.wheel.call_later(10, self.wheel.stop)
        same = self.wheel.call_later(10, self.note("same tick"))
        self.wheel.call_later(900, self.note("later"))
        self.clock.advance(5)
        self.assertEqual(self.fired, [])
        self.assertFalse(same.active)
        self.assertEqual(len(self.wheel), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RealClockTests(TestCase):
    def test_on_the_reactor(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        wheel = TimerWheel(reactor)  # type: ignore[arg-type]
        began = wheel.now_ms()

        def fired() -> None:
            self.assertGreaterEqual(wheel.now_ms(), began + 30)
            done.callback(None)

        wheel.call_later(30, fired)
        return done


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-50, 500), st.booleans(), st.floats(0, 0.08)),
        max_size=40,
    )
)
def test_every_uncancelled_deadline_fires_once_within_a_tick(steps) -> None:
    clock = Clock()
    clock.advance(1_790_000_000.0)
    wheel = TimerWheel(clock)
    due: dict[int, float] = {}
    fired: dict[int, float] = {}
    for number, (delay_ms, cancel, advance) in enumerate(steps):

        def note(number: int = number) -> None:
            assert number not in fired
            fired[number] = clock.seconds() * 1000

        deadline = clock.seconds() * 1000 + delay_ms
        handle = wheel.call_at(deadline, note)
        if cancel:
            handle.cancel()
        else:
            due[number] = max(deadline, clock.seconds() * 1000)
        clock.pump([advance / 80] * 80)
    clock.pump([0.001] * 700)
    assert fired.keys() == due.keys()
    for number, deadline in due.items():
        assert -0.01 <= fired[number] - deadline <= 21.1
    assert len(wheel) == 0
    assert clock.getDelayedCalls() == []
