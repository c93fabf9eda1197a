"""DeduplicationService: claims, the window, its bound, and its journal."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.dedup import DeduplicationService, DedupScope, DedupSettings
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IDedup
from tests.unit.core_fakes import FakeWindow, disk_full

WINDOW_S = 30 * 60


class DedupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.journal = FakeWindow()
        self.ids = {"orders": UUID(int=1 << 100), "bills": UUID(int=2 << 100)}
        self.heard: list[object] = []
        self.dedup = self.restart()

    def restart(self, settings: DedupSettings | None = None) -> DeduplicationService:
        dedup = DeduplicationService(
            settings or DedupSettings(),
            self.journal,
            self.ids.get,
            self.clock,
            lambda: int(self.clock.seconds() * 1000),
        )
        dedup.load()
        return dedup

    def hear(self, name: str) -> Callable[[BrokerError | None], None]:
        return lambda error: self.heard.append(name if error is None else (name, error.code))

    def confirm(self, topic: str, *message_ids: int) -> None:
        self.dedup.confirm(topic, message_ids)
        self.clock.advance(0)

    def store(self, topic: str, message_id: int) -> bool:
        claimed = self.dedup.claim(topic, message_id, self.hear("repeat"))
        if claimed:
            self.confirm(topic, message_id)
        return claimed

    def test_stored_once(self) -> None:
        verifyObject(IDedup, self.dedup)
        self.assertFalse(self.dedup.seen("orders", 5))
        self.assertTrue(self.store("orders", 5))
        self.assertTrue(self.dedup.seen("orders", 5))
        self.assertEqual(self.heard, [])
        self.assertFalse(self.store("orders", 5))
        self.assertEqual(self.heard, ["repeat"])

    def test_journal_holds_the_id_before_anybody_is_told(self) -> None:
        self.dedup.claim("orders", 5, self.hear("first"))
        self.dedup.claim("orders", 5, lambda error: self.heard.append(len(self.journal.appends)))
        self.assertEqual((self.journal.appends, self.heard), ([], []))
        self.confirm("orders", 5)
        self.assertEqual(self.heard, [1])
        (((scope, message_id, time_ms),),) = self.journal.appends
        self.assertEqual((message_id, time_ms), (5, 1_000_000_000))
        self.assertEqual(scope, self.ids["orders"].int >> 65)

    def test_several_in_one_append(self) -> None:
        for message_id in (1, 2, 3):
            self.dedup.claim("orders", message_id, self.hear("claim"))
            self.dedup.claim("orders", message_id, self.hear(f"repeat {message_id}"))
        self.confirm("orders", 1, 2, 3, 3)
        self.assertEqual([[one[1] for one in batch] for batch in self.journal.appends], [[1, 2, 3]])
        self.assertEqual(self.heard, ["repeat 1", "repeat 2", "repeat 3"])

    def test_released_may_be_claimed_again(self) -> None:
        self.assertTrue(self.dedup.claim("orders", 5, self.hear("a")))
        self.assertFalse(self.dedup.claim("orders", 5, self.hear("b")))
        self.assertFalse(self.dedup.claim("orders", 5, self.hear("c")))
        self.dedup.release("orders", [5], disk_full())
        self.assertEqual(self.heard, [("b", ErrorCode.DISK_FULL), ("c", ErrorCode.DISK_FULL)])
        self.assertFalse(self.dedup.seen("orders", 5))
        self.assertTrue(self.dedup.claim("orders", 5, self.hear("d")))
        self.dedup.release("orders", [5], disk_full())
        self.dedup.release("orders", [5], disk_full())
        self.assertEqual(len(self.heard), 2)

    def test_one_bad_outcome_does_not_silence_the_next(self) -> None:
        def bad(error: BrokerError | None) -> None:
            raise ZeroDivisionError

        self.dedup.claim("orders", 5, bad)
        self.dedup.claim("orders", 5, bad)
        self.dedup.claim("orders", 5, self.hear("good"))
        self.confirm("orders", 5)
        self.assertEqual(self.heard, ["good"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_scopes(self) -> None:
        self.store("orders", 5)
        self.assertTrue(self.store("bills", 5))
        self.assertTrue(self.store("unknown topic", 5))
        self.assertTrue(self.dedup.seen("unknown topic", 5))
        self.dedup = self.restart(DedupSettings(DedupScope.GLOBAL))
        self.assertTrue(self.store("orders", 6))
        self.assertFalse(self.store("bills", 6))
        self.assertEqual(self.journal.appends[-1][0][0], 0)

    def test_off(self) -> None:
        self.journal.appends.append([(0, 5, 999_999_000)])
        self.dedup = self.restart(DedupSettings(DedupScope.OFF))
        for _ in range(2):
            self.assertTrue(self.store("orders", 5))
        self.dedup.release("orders", [5], disk_full())
        self.assertFalse(self.dedup.seen("orders", 5))
        self.assertEqual((len(self.dedup), len(self.journal.appends)), (0, 1))

    def test_topic_created_anew_begins_empty(self) -> None:
        self.store("orders", 5)
        self.dedup.claim("orders", 6, self.hear("claim"))
        self.ids["orders"] = UUID(int=3 << 100)
        self.assertFalse(self.dedup.seen("orders", 5))
        self.confirm("orders", 6)
        self.assertFalse(self.dedup.seen("orders", 6), "it was stored in the former topic")
        self.assertTrue(self.store("orders", 6))

    def test_window_ends(self) -> None:
        self.store("orders", 5)
        self.clock.advance(60)
        self.store("orders", 6)
        self.clock.advance(WINDOW_S - 60)
        self.assertTrue(self.dedup.seen("orders", 5))
        self.clock.advance(1)
        self.assertFalse(self.dedup.seen("orders", 5))
        self.assertTrue(self.dedup.seen("orders", 6))
        self.assertEqual(len(self.dedup), 1)
        self.assertTrue(self.store("orders", 5))
        self.clock.advance(WINDOW_S + 1)
        self.assertFalse(self.dedup.seen("orders", 5))
        self.assertEqual((len(self.dedup), self.dedup._scopes), (0, {}))

    def test_a_repeat_does_not_lengthen_the_window(self) -> None:
        self.store("orders", 5)
        self.clock.advance(WINDOW_S - 1)
        self.store("orders", 5)
        self.confirm("orders", 5)
        self.clock.advance(2)
        self.assertFalse(self.dedup.seen("orders", 5))
        self.assertEqual(len(self.journal.appends), 1)

    def test_oldest_goes_first_when_full(self) -> None:
        self.dedup = self.restart(DedupSettings(max_entries=3))
        for message_id in (1, 2, 3, 4):
            self.store("orders", message_id)
        self.clock.advance(1)
        self.store("bills", 5)
        self.assertEqual([self.dedup.seen("orders", one) for one in (1, 2, 3, 4)], [False, False, True, True])
        self.assertEqual((len(self.dedup), self.dedup.evicted), (3, 2))
        self.assertTrue(self.store("orders", 1))
        self.clock.advance(WINDOW_S + 1)
        self.dedup.seen("orders", 1)
        self.assertEqual(len(self.dedup), 0)

    def test_restart_keeps_the_window(self) -> None:
        self.store("orders", 5)
        self.clock.advance(60)
        self.store("bills", 6)
        self.clock.advance(WINDOW_S - 60)
        self.dedup = self.restart()
        self.assertTrue(self.dedup.seen("orders", 5))
        self.assertTrue(self.dedup.seen("bills", 6))
        self.clock.advance(1)
        self.assertFalse(self.dedup.seen("orders", 5))
        self.dedup = self.restart()
        self.assertEqual(len(self.dedup), 1)

    def test_one_of_several_processes_remembers_what_it_decides_about(self) -> None:
        for message_id in range(4):
            self.store("orders", message_id)
            self.store("bills", message_id)
        self.dedup = DeduplicationService(
            DedupSettings(),
            self.journal,
            self.ids.get,
            self.clock,
            lambda: int(self.clock.seconds() * 1000),
        )
        names = self.dedup.scope_names(self.ids)
        self.dedup.load(lambda scope, message_id: names[scope] == "orders" and message_id % 2 == 0)
        self.assertEqual([self.dedup.seen("orders", n) for n in range(4)], [True, False, True, False])
        self.assertEqual(len(self.dedup), 2)

    def test_restart_distrusts_the_future_and_keeps_the_bound(self) -> None:
        now_ms = int(self.clock.seconds() * 1000)
        self.journal.appends.append([(1, n, now_ms + 10**9) for n in range(5)])
        self.dedup = self.restart(DedupSettings(max_entries=4))
        self.assertEqual((len(self.dedup), self.dedup.evicted), (4, 1))
        self.clock.advance(WINDOW_S + 1)
        self.dedup.seen("orders", 1)
        self.assertEqual(len(self.dedup), 0)

    def test_clock_that_goes_back(self) -> None:
        self.store("orders", 5)
        self.clock.rightNow -= 100
        self.store("orders", 6)
        self.clock.advance(100 + WINDOW_S)
        self.assertTrue(self.dedup.seen("orders", 6))
        self.clock.advance(1)
        self.assertFalse(self.dedup.seen("orders", 6))

    def test_failing_journal_costs_only_the_restart(self) -> None:
        self.journal.error = disk_full()
        self.dedup.claim("orders", 5, self.hear("a"))
        self.dedup.claim("orders", 5, self.hear("b"))
        self.confirm("orders", 5)
        self.assertEqual((self.heard, self.dedup.journal_failures), (["b"], 1))
        self.assertTrue(self.dedup.seen("orders", 5))

    def test_idle_window_is_emptied_and_its_journal_expired(self) -> None:
        self.dedup.startService()
        self.store("orders", 5)
        self.clock.pump([60] * 31)
        self.assertEqual(len(self.dedup), 0)
        self.assertEqual(self.journal.expired[-1], (1_000_000 + 60) * 1000)
        self.journal.error = disk_full()
        self.clock.advance(60)
        self.dedup.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
