"""Processes asked whether they still do anything, and ended when they do not."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from megabroker.ops import watching
from megabroker.ops.channel import ASK, TELL_WHERE
from megabroker.ops.watching import Watch

_TURN = watching._ASK_SECONDS
_PATIENCE = watching._PATIENCE


class _Child:
    """What the watch sees of a process."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.signals: list[int] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def signal(self, number: int) -> None:
        self.signals.append(number)


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.one, self.other = _Child(), _Child()
        self.watched: dict[Any, int] = {self.one: 1, self.other: 2}
        self.watch = Watch(self.clock, lambda: self.watched)
        self.watch.start()
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def turn(self, count: int = 1, *answering: _Child) -> None:
        for _ in range(count):
            self.clock.advance(_TURN)
            for child in answering:
                self.watch.answered(child)  # type: ignore[arg-type]

    def test_who_answers_is_asked_again_and_left_alone(self) -> None:
        self.turn(50, self.one, self.other)
        self.assertEqual(self.one.sent, [ASK] * 50)
        self.assertEqual(self.one.signals + self.other.signals, [])

    def test_who_hangs_tells_where_and_is_killed_and_the_others_are_not(self) -> None:
        self.turn(_PATIENCE, self.one)
        self.assertEqual(self.other.signals, [])
        self.turn(1, self.one)
        self.assertEqual(self.other.signals, [TELL_WHERE])
        self.turn(1, self.one)
        self.assertEqual(self.other.signals, [TELL_WHERE, signal.SIGKILL])
        self.assertEqual(self.other.sent, [ASK])  # once: nobody reads it
        self.assertEqual(self.one.signals, [])
        [event] = [one for one in self.events if one.get("log_format") == "worker-hangs"]
        self.assertEqual((event["node"], event["seconds"]), (2, _PATIENCE * _TURN))

    def test_an_answer_begins_anew(self) -> None:
        self.turn(_PATIENCE + 1)
        self.watch.answered(self.one)  # type: ignore[arg-type]
        self.turn(_PATIENCE)
        self.assertEqual(self.one.signals, [TELL_WHERE])

    def test_time_that_nobody_saw_does_not_count(self) -> None:
        self.turn()
        self.clock.advance(100 * _TURN * _PATIENCE)
        self.turn(1)
        self.assertEqual(self.one.signals, [])

    def test_who_is_gone_or_does_not_serve_is_not_asked(self) -> None:
        self.turn(_PATIENCE)
        del self.watched[self.other]
        self.turn(1, self.one)
        self.watched[self.other] = 2
        self.turn(1, self.one)
        self.assertEqual(self.other.signals, [])
        self.assertEqual(self.other.sent, [ASK, ASK])

    def test_nobody_is_asked_after_the_end(self) -> None:
        self.watch.stop()
        self.watch.stop()
        self.turn(3)
        self.assertEqual(self.one.sent, [])
