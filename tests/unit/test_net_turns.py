"""The end of a turn: writes before settlements, each once, soon, and never inside the call that asks."""

from __future__ import annotations

import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.latency import Latency
from megabroker.net.turns import Turns


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.done: list[str] = []

    def ask(self, *names: str) -> None:
        for name in names:
            ask = self.turns.write_at_end if name.startswith("write") else self.turns.settle_at_end
            ask(lambda name=name: self.done.append(name))

    def test_what_a_turn_asks_for_is_done_at_its_end_writes_first(self) -> None:
        def work() -> None:
            self.ask("settle 1", "write 1", "settle 2", "write 2")
            self.assertEqual(self.done, [])

        self.turns.run(work)
        self.assertEqual(self.done, ["write 1", "write 2", "settle 1", "settle 2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_outside_any_turn_the_reactor_is_asked_once(self) -> None:
        self.ask("settle", "write")
        self.assertEqual(self.done, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.assertEqual(self.done, ["write", "settle"])

    def test_requests_are_counted_once_with_what_their_turn_took(self) -> None:
        kind, other = Latency(), Latency()

        def work() -> None:
            began = self.turns.began
            self.turns.answered(kind, began)
            self.turns.alike += 2  # as whoever answers requests does
            self.turns.answered(other, began - 20)
            time.sleep(0.002)
            self.turns.answered(kind, began, 4)

        self.turns.run(work)
        self.assertEqual((kind.count, other.count), (7, 1))
        self.assertGreaterEqual(kind.seconds, 4 * 0.002)
        self.assertEqual(other.counts[-1], 1)
        self.assertEqual((self.turns.began, self.turns.since, self.turns.alike), (0, 0, 0))

    def test_requests_answered_outside_any_turn_are_counted_soon(self) -> None:
        kind = Latency()
        self.turns.answered(kind, time.monotonic() - 20)
        self.clock.advance(0)
        self.assertEqual((kind.counts[-1], kind.count, self.turns.alike), (1, 1, 0))

    def test_who_takes_note_of_requests_hears_of_the_first_of_each_turn(self) -> None:
        kind = Latency()
        for noted in (False, True):
            self.turns.are_noted = noted
            self.turns.run(lambda: self.turns.answered(kind, self.turns.began))
            self.assertIs(self.turns.kind, None if noted else kind)

    def test_what_writing_lets_go_on_settles_in_the_same_turn(self) -> None:
        self.turns.run(lambda: self.turns.write_at_end(lambda: self.ask("settle")))
        self.assertEqual(self.done, ["settle"])

    def test_who_asks_again_and_again_leaves_the_reactor_to_others(self) -> None:
        def again() -> None:
            self.done.append("again")
            if len(self.done) < 20:
                self.turns.settle_at_end(again)

        self.turns.run(again)
        self.assertLess(len(self.done), 10)
        self.clock.advance(0)
        self.assertEqual(len(self.done), 20)

    def test_one_that_fails_does_not_keep_the_others_from_their_turn(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        def work() -> None:
            self.turns.write_at_end(fail)
            self.ask("write", "settle")

        self.turns.run(work)
        self.assertEqual(self.done, ["write", "settle"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_turn_whose_work_fails_ends_all_the_same(self) -> None:
        def work() -> None:
            self.ask("write")
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.turns.run, work)
        self.assertEqual(self.done, ["write"])
        self.ask("settle")
        self.clock.advance(0)
        self.assertEqual(self.done, ["write", "settle"])
