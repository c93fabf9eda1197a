"""The transaction coordinator over a store and partitions that do as they are told."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.transactions.transaction import OFFSETS_TABLE, TRANSACTIONS_TABLE
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import ITransactionService
from megabroker.model import ProducerIdentity
from tests.unit.transactions_harness import Harness, Outcome, disk_error, offset, tp


class Case(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.h = Harness(**self.settings)

    def refused(self, outcome: Outcome, code: ErrorCode) -> None:
        self.assertIs(outcome.error.code, code)

    def admit(self, identity: ProducerIdentity, index: int = 0, *, implicit: bool = False) -> Any:
        return self.h.service.admit("x", identity, tp(index), implicit=implicit)

    def not_admitted(self, code: ErrorCode, *args: Any, **kwargs: Any) -> None:
        self.assertIs(self.assertRaises(BrokerError, self.admit, *args, **kwargs).code, code)


class IdentityTests(Case):
    def test_provides_the_interface(self) -> None:
        verifyObject(ITransactionService, self.h.service)

    def test_without_a_transactional_id(self) -> None:
        got = [Outcome(self.h.service.init_producer(None, 0, None)).value for _ in range(3)]
        self.assertEqual({epoch for _, epoch in got}, {0})
        self.assertEqual(len({producer_id for producer_id, _ in got}), 3)

    def test_answered_when_stored(self) -> None:
        self.h.store.hold = True
        outcome = self.h.init()
        self.h.store.release()
        self.assertTrue(outcome.waits)
        self.h.store.release()
        self.assertEqual(outcome.value.producer_epoch, 0)

    def test_two_at_once_get_two_epochs(self) -> None:
        self.h.store.hold = True
        first, second = self.h.init(), self.h.init()
        while self.h.store.held:
            self.h.store.release()
        self.assertEqual([first.value.producer_epoch, second.value.producer_epoch], [0, 1])

    def test_thousands_who_wait_for_one_id_are_answered_one_after_the_other(self) -> None:
        identity = self.h.init().value
        self.h.store.hold = True
        outcomes = [Outcome(self.h.service.add_partitions("x", identity, [tp(0)])) for _ in range(3000)]
        self.h.store.hold = False
        while self.h.store.held:
            self.h.store.release()
        self.assertEqual([outcome.value for outcome in outcomes], [{tp(0): None}] * 3000)

    def test_bounds_of_the_timeout(self) -> None:
        for timeout_ms in (0, -1, 15 * 60_000 + 1):
            self.refused(self.h.init(timeout_ms=timeout_ms), ErrorCode.INVALID_TXN_TIMEOUT)
        self.refused(self.h.init(name=""), ErrorCode.INVALID_REQUEST)
        self.assertEqual(list(self.h.service.all()), [])

    def test_a_refused_row_leaves_nothing(self) -> None:
        self.h.store.hold = True
        outcome = self.h.init()
        self.h.store.release()
        self.h.store.release(error=disk_error())
        self.refused(outcome, ErrorCode.STORAGE)
        self.assertEqual(list(self.h.service.all()), [])

    def test_the_one_before_is_aborted_first(self) -> None:
        old = self.h.producer()
        self.h.add(old)
        self.h.partition().append(old)
        self.h.partition().holding = True
        self.refused(self.h.init(), ErrorCode.CONCURRENT_TRANSACTIONS)
        self.refused(self.h.init(), ErrorCode.CONCURRENT_TRANSACTIONS)
        self.assertEqual(self.h.state(), "PrepareAbort")
        self.h.partition().release()
        new = self.h.init().value
        self.assertEqual((new.producer_id, new.producer_epoch), (old.producer_id, old.producer_epoch + 2))
        self.assertEqual(self.h.partition().log[-1], ("abort", old.producer_id, old.producer_epoch + 1))
        self.refused(self.h.add(old), ErrorCode.PRODUCER_FENCED)
        self.refused(self.h.end(old), ErrorCode.PRODUCER_FENCED)
        self.not_admitted(ErrorCode.INVALID_PRODUCER_EPOCH, old)


class LimitTests(Case):
    settings = {"max_transactional_ids": 2, "max_offsets": 3}

    def test_transactional_ids(self) -> None:
        for name in "ab":
            self.h.producer(name)
        self.refused(self.h.init(name="c"), ErrorCode.OVERLOADED)
        self.h.producer("a")

    def test_offsets(self) -> None:
        me = self.h.producer()
        stored = self.h.offsets(me, {tp(i): offset(1) for i in range(3)}, implicit=True)
        self.assertEqual(set(stored.value.values()), {None})
        self.refused(self.h.offsets(me, {tp(3): offset(1)}), ErrorCode.OVERLOADED)
        self.assertEqual(self.h.groups.unstable("g"), {tp(0), tp(1), tp(2)})


class TransactionTests(Case):
    def test_commit_and_abort_over_partitions(self) -> None:
        me = self.h.producer()
        for commit, word in ((True, "commit"), (False, "abort")):
            self.assertEqual(self.h.add(me, tp(0), tp(1)).value, {tp(0): None, tp(1): None})
            for index in (0, 1):
                self.assertIs(self.admit(me, index), None)
                self.h.partition(index).append(me)
            self.assertEqual(self.h.end(me, commit).value, me)
            for index in (0, 1):
                self.assertEqual(self.h.partition(index).log[-1], (word, *me))
            self.assertEqual(self.h.state(), f"Complete{word.title()}")

    def test_the_answer_comes_with_the_decision_and_not_before(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.store.hold = True
        outcome = self.h.end(me)
        self.assertTrue(outcome.waits)
        self.assertEqual((self.h.state(), self.h.partition().log), ("Ongoing", []))
        self.h.partition().holding = True
        self.h.store.release()
        self.assertEqual(outcome.value, me)
        self.assertEqual(self.h.state(), "PrepareCommit")
        self.refused(self.h.add(me), ErrorCode.CONCURRENT_TRANSACTIONS)
        self.h.partition().release()
        self.assertEqual(self.h.state(), "CompleteCommit")

    def test_a_refused_decision_can_be_made_again(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.store.hold = True
        outcome = self.h.end(me)
        self.h.store.release(error=disk_error())
        self.refused(outcome, ErrorCode.STORAGE)
        self.h.store.hold = False
        self.assertEqual((self.h.state(), self.h.partition().log), ("Ongoing", []))
        self.assertEqual(self.h.end(me, False).value, me)
        self.assertEqual(self.h.state(), "CompleteAbort")

    def test_raised_epochs(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.partition().append(me)
        after = self.h.end(me, bump=True).value
        self.assertEqual(after, (me.producer_id, me.producer_epoch + 1))
        self.assertEqual(self.h.end(me, bump=True).value, after)
        self.assertEqual(self.h.partition().log[-1], ("commit", *after))
        self.assertEqual(len(self.h.partition().log), 2)

    def test_partitions_that_do_not_exist(self) -> None:
        me = self.h.producer()
        outcomes = self.h.add(me, tp(0), tp(9), tp(0, "gone")).value
        self.assertEqual(
            outcomes,
            {tp(0): None, tp(9): ErrorCode.UNKNOWN_PARTITION, tp(0, "gone"): ErrorCode.UNKNOWN_PARTITION},
        )
        self.assertEqual(self.h.state(), "Empty")

    def test_unknown_ids(self) -> None:
        nobody = ProducerIdentity(1, 1)
        for outcome in (self.h.add(nobody), self.h.end(nobody), self.h.offsets(nobody, {tp(): offset(1)})):
            self.refused(outcome, ErrorCode.INVALID_PRODUCER_ID)
        self.not_admitted(ErrorCode.INVALID_PRODUCER_ID, nobody)
        self.assertIs(self.h.service.describe("x"), None)

    def test_verifying(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        verified = Outcome(self.h.service.add_partitions("x", me, [tp(0), tp(1)], verify_only=True))
        self.assertEqual(verified.value, {tp(0): None, tp(1): ErrorCode.TRANSACTION_ABORTABLE})
        self.not_admitted(ErrorCode.TRANSACTION_ABORTABLE, me, 1)
        self.assertIs(self.admit(me), None)
        stranger = Outcome(
            self.h.service.add_partitions("x", ProducerIdentity(0, 9), [tp()], verify_only=True)
        )
        self.refused(stranger, ErrorCode.PRODUCER_FENCED)

    def test_described(self) -> None:
        me = self.h.producer()
        self.h.add(me, tp(1), tp(0))
        [described] = self.h.service.all()
        self.assertEqual(described, self.h.service.describe("x"))
        self.assertEqual(
            (described.state, described.start_time_ms, list(described.partitions), described.timeout_ms),
            ("Ongoing", self.h.now_ms(), [tp(0), tp(1)], 60_000),
        )


class ImplicitTests(Case):
    def test_added_by_one_write_for_a_whole_turn(self) -> None:
        me = self.h.producer()
        self.h.store.hold = True
        heard: list[int] = []
        for index in (0, 1, 0):
            self.admit(me, index, implicit=True).when_room(lambda: heard.append(1))
        self.h.clock.advance(0)
        self.assertEqual((len(self.h.store.held), heard), (1, []))
        self.h.store.release()
        self.assertEqual(len(heard), 3)
        self.assertIs(self.admit(me, 0, implicit=True), None)
        self.assertIs(self.admit(me, 1, implicit=True), None)

    def test_a_store_that_fails_is_told(self) -> None:
        me = self.h.producer()
        heard: list[int] = []
        self.h.store.hold = True
        self.admit(me, implicit=True).when_room(lambda: heard.append(1))
        self.h.clock.advance(0)
        self.h.store.release(error=disk_error())
        self.assertEqual(heard, [1])
        self.not_admitted(ErrorCode.STORAGE, me, implicit=True)
        self.admit(me, implicit=True)

    def test_only_who_asked_is_told_why_a_partition_was_not_added(self) -> None:
        me = self.h.producer()
        self.h.store.hold = True
        for index in (0, 1):
            self.admit(me, index, implicit=True)
        self.h.clock.advance(0)
        self.h.store.release(error=disk_error())
        self.h.store.hold = False
        self.admit(me, 2, implicit=True)  # another partition has not been refused
        self.not_admitted(ErrorCode.STORAGE, me, 0, implicit=True)
        self.not_admitted(ErrorCode.STORAGE, me, 1, implicit=True)
        self.admit(me, 0, implicit=True)

    def test_why_a_partition_was_not_added_is_not_told_to_a_later_producer(self) -> None:
        me = self.h.producer()
        self.h.store.hold = True
        self.admit(me, implicit=True)
        self.h.clock.advance(0)
        self.h.store.release(error=disk_error())
        self.h.store.hold = False
        later = self.h.producer()
        self.admit(later, implicit=True)
        self.h.clock.advance(0)
        self.assertIs(self.admit(later, implicit=True), None)

    def test_waits_for_the_markers_of_the_one_before(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.partition().holding = True
        me = self.h.end(me, bump=True).value
        heard: list[int] = []
        self.admit(me, 1, implicit=True).when_room(lambda: heard.append(1))
        self.assertEqual(heard, [])
        self.h.partition().release()
        self.assertEqual(heard, [1])
        self.admit(me, 1, implicit=True)
        self.h.clock.advance(0)
        self.assertIs(self.admit(me, 1, implicit=True), None)

    def test_does_not_wait_for_markers_that_cannot_be_written(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.partition().error = disk_error()
        me = self.h.end(me, bump=True).value
        self.not_admitted(ErrorCode.CONCURRENT_TRANSACTIONS, me, implicit=True)

    def test_who_waits_for_markers_hears_when_they_begin_to_fail(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.partition().holding = True
        me = self.h.end(me, bump=True).value
        heard: list[int] = []
        self.admit(me, 1, implicit=True).when_room(lambda: heard.append(1))
        self.h.partition().release(error=disk_error())
        self.h.advance(0.05, step=0.01)
        self.assertEqual(heard, [1])
        self.not_admitted(ErrorCode.CONCURRENT_TRANSACTIONS, me, 1, implicit=True)
        self.h.partition().release()
        self.h.partition().holding = False
        self.h.advance(1)
        self.admit(me, 1, implicit=True)

    def test_waiters_hear_of_a_stop(self) -> None:
        me = self.h.producer()
        heard: list[int] = []
        self.admit(me, implicit=True).when_room(lambda: heard.append(1))
        self.h.service.stop()
        self.assertEqual(heard, [1])
        self.not_admitted(ErrorCode.SHUTTING_DOWN, me, implicit=True)
        self.assertEqual(self.h.clock.getDelayedCalls(), [])


class OffsetTests(Case):
    def test_visible_with_the_commit(self) -> None:
        me = self.h.producer()
        Outcome(self.h.service.add_offsets("x", me, "g"))
        self.assertEqual(self.h.offsets(me, {tp(): offset(5)}).value, {tp(): None})
        self.assertEqual((self.h.committed(), self.h.groups.unstable("g")), ({}, {tp()}))
        self.h.offsets(me, {tp(): offset(6), tp(1): offset(7)})
        self.h.store.hold = True
        self.h.end(me)
        self.assertEqual(self.h.committed(), {})
        self.h.store.release()
        self.assertEqual(self.h.committed(), {tp(): 6, tp(1): 7})
        self.assertEqual(self.h.groups.unstable("g"), set())
        self.assertEqual(self.h.store.rows(OFFSETS_TABLE), {})

    def test_never_with_an_abort(self) -> None:
        me = self.h.producer()
        self.h.offsets(me, {tp(): offset(5)}, implicit=True)
        self.h.end(me, False)
        self.assertEqual((self.h.committed(), self.h.groups.unstable("g")), ({}, set()))
        self.assertEqual(self.h.store.rows(OFFSETS_TABLE), {})

    def test_a_refused_commit_is_not_held(self) -> None:
        me = self.h.producer()
        self.h.store.hold = True
        outcome = self.h.offsets(me, {tp(): offset(5)}, implicit=True)
        self.assertEqual(self.h.groups.unstable("g"), {tp()})
        self.h.store.release(error=disk_error())
        self.refused(outcome, ErrorCode.STORAGE)
        self.assertEqual((self.h.groups.unstable("g"), self.h.state()), (set(), "Empty"))

    def test_only_what_is_part_of_the_transaction(self) -> None:
        me = self.h.producer()
        self.refused(self.h.offsets(me, {tp(): offset(5)}), ErrorCode.TRANSACTION_ABORTABLE)
        outcome = self.h.offsets(me, {tp(9): offset(5)}, implicit=True)
        self.assertEqual(outcome.value, {tp(9): ErrorCode.UNKNOWN_PARTITION})
        self.assertEqual(self.h.state(), "Empty")

    def test_members_are_checked(self) -> None:
        me = self.h.producer()
        wrong = self.h.offsets(me, {tp(): offset(5)}, implicit=True, generation=3, member="m")
        self.refused(wrong, ErrorCode.ILLEGAL_GENERATION)
        self.refused(self.h.offsets(me, {tp(): offset(1)}, implicit=True, group=""), ErrorCode.INVALID_GROUP)

    def test_offsets_of_a_topic_that_went(self) -> None:
        me = self.h.producer()
        self.h.offsets(me, {tp(): offset(5), tp(0, "u"): offset(6)}, implicit=True)
        self.h.topics.names.remove("u")
        self.h.end(me)
        self.assertEqual((self.h.committed(), self.h.groups.unstable("g")), ({tp(): 5}, set()))


class TimeTests(Case):
    settings = {"id_expiration_ms": 100_000}

    def test_a_transaction_whose_time_is_up(self) -> None:
        me = self.h.producer(timeout_ms=5000)
        self.h.add(me)
        self.h.partition().append(me)
        self.h.advance(4)
        self.h.add(me, tp(1))
        self.assertEqual(self.h.state(), "Ongoing")
        self.h.advance(1.02)
        self.assertEqual(self.h.state(), "CompleteAbort")
        self.assertEqual(self.h.partition().log[-1], ("abort", me.producer_id, me.producer_epoch + 1))
        self.refused(self.h.end(me), ErrorCode.PRODUCER_FENCED)

    def test_one_that_was_ended_is_left_alone(self) -> None:
        me = self.h.producer(timeout_ms=5000)
        self.h.add(me)
        self.h.end(me)
        self.h.advance(6)
        self.assertEqual(self.h.add(me).value, {tp(): None})
        self.h.advance(4)
        self.assertEqual(self.h.state(), "Ongoing")

    def test_a_store_that_fails_is_asked_again(self) -> None:
        me = self.h.producer(timeout_ms=5000)
        self.h.add(me)
        self.h.store.hold = True
        self.h.advance(5.02)
        self.h.store.release(error=disk_error())
        self.flushLoggedErrors()
        self.assertEqual(self.h.state(), "Ongoing")
        self.h.store.hold = False
        self.h.advance(1.5)
        self.assertEqual(self.h.state(), "CompleteAbort")

    def test_idle_ids_are_forgotten(self) -> None:
        me = self.h.producer()
        self.h.producer("y")
        self.h.add(me)
        self.h.advance(60)
        self.assertEqual(Outcome(self.h.service.expire(self.h.now_ms() + 100_000 - 1)).value, 1)
        self.assertEqual([one.transactional_id for one in self.h.service.all()], ["x"])
        self.assertEqual(list(self.h.store.rows(TRANSACTIONS_TABLE)), ["x"])

    def test_who_asks_while_it_is_being_forgotten_begins_anew(self) -> None:
        self.h.producer()
        self.h.store.hold = True
        self.h.service.expire(self.h.now_ms() + 200_000)
        outcome = self.h.init()
        self.assertTrue(outcome.waits)
        while self.h.store.held:
            self.h.store.release()
        self.assertEqual(outcome.value.producer_epoch, 0)


class MarkerTests(Case):
    def test_a_partition_that_fails_is_asked_again(self) -> None:
        me = self.h.producer()
        self.h.add(me, tp(0), tp(1))
        self.h.partition(1).error = disk_error()
        self.assertEqual(self.h.end(me).value, me)
        self.assertEqual(self.h.state(), "PrepareCommit")
        self.refused(self.h.init(), ErrorCode.CONCURRENT_TRANSACTIONS)
        self.h.advance(2)
        self.h.partition(1).error = None
        self.h.advance(10)
        self.assertEqual(self.h.state(), "CompleteCommit")
        self.assertEqual([len(self.h.partition(index).log) for index in (0, 1)], [1, 1])

    def test_one_that_loses_its_marker_gets_another(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.partition().holding = True
        self.h.end(me)
        self.h.partition().release(disk_error())
        self.h.advance(0.2)
        self.h.partition().release()
        self.assertEqual(self.h.state(), "CompleteCommit")

    def test_one_that_is_gone_needs_none(self) -> None:
        me = self.h.producer()
        self.h.add(me, tp(0), tp(0, "u"))
        self.h.topics.names.remove("u")
        self.h.end(me)
        self.assertEqual(self.h.state(), "CompleteCommit")


class RestartTests(Case):
    def test_a_decision_is_carried_out(self) -> None:
        for commit, word in ((True, "commit"), (False, "abort")):
            me = self.h.producer()
            self.h.add(me)
            self.h.partition().append(me)
            self.h.offsets(me, {tp(2): offset(5)}, implicit=True)
            self.h.partition().holding = True
            self.h.end(me, commit)
            self.h.restart()
            self.assertEqual(self.h.partition().log[-1], (word, *me))
            self.assertEqual(self.h.state(), f"Complete{word.title()}")
            self.assertEqual(self.h.committed(), {tp(2): 5})

    def test_what_is_open_goes_on_until_its_time_is_up(self) -> None:
        me = self.h.producer(timeout_ms=5000)
        self.h.add(me)
        self.h.offsets(me, {tp(2): offset(5)}, implicit=True)
        self.h.advance(3)
        self.h.restart()
        self.assertEqual((self.h.state(), self.h.groups.unstable("g")), ("Ongoing", {tp(2)}))
        self.assertIs(self.admit(me), None)
        self.h.advance(2.1)
        self.assertEqual((self.h.state(), self.h.groups.unstable("g")), ("CompleteAbort", set()))

    def test_what_no_row_explains_is_aborted(self) -> None:
        stranger = ProducerIdentity(77, 3)
        self.h.partition(1).append(stranger)
        me = self.h.producer()
        self.h.add(me)
        self.h.partition(0).append(me)
        self.h.partition(1).append(me)
        self.h.restart()
        self.assertEqual(self.h.partition(1).log[2:], [("abort", *stranger), ("abort", *me)])
        self.assertEqual(self.h.partition(0).open, {me.producer_id: me.producer_epoch})

    def test_an_epoch_that_its_row_knows_nothing_of_is_aborted(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        later = ProducerIdentity(me.producer_id, me.producer_epoch + 1)
        self.h.partition(0).append(later)
        self.h.restart()
        self.assertEqual(self.h.partition(0).log[-1], ("abort", *later))
        self.assertEqual(self.h.partition(0).open, {})

    def test_a_clock_that_was_set_back_keeps_none_open(self) -> None:
        me = self.h.producer(timeout_ms=5000)
        self.h.add(me)
        ((key, row),) = self.h.store.rows(TRANSACTIONS_TABLE).items()
        later = {**row, "start_time_ms": row["start_time_ms"] + 3_600_000}
        self.h.store._apply([(TRANSACTIONS_TABLE, key, later)])
        self.h.restart()
        self.assertEqual(self.h.state(), "Ongoing")
        self.h.advance(5.1)
        self.assertEqual(self.h.state(), "CompleteAbort")

    def test_no_epoch_begins_again_that_a_log_knows(self) -> None:
        me = self.h.producer()
        self.h.restart()
        self.h.service.heed({me.producer_id: me.producer_epoch + 7, 99: 3})
        self.assertEqual(self.h.producer(), (me.producer_id, me.producer_epoch + 8))
        self.h.restart()
        self.h.service.heed({me.producer_id: 0})
        self.assertEqual(self.h.producer(), (me.producer_id, me.producer_epoch + 9))

    def test_epochs_go_on(self) -> None:
        me = self.h.producer()
        self.h.restart()
        self.assertEqual(self.h.producer(), (me.producer_id, me.producer_epoch + 1))

    def test_rows_that_are_none_are_left_alone(self) -> None:
        self.h.store._apply([(TRANSACTIONS_TABLE, "bad", {"state": "?"}), (OFFSETS_TABLE, "[", {})])
        self.h.store._apply([(OFFSETS_TABLE, '["gone","g","t",0]', {"offset": 1})])
        self.h.restart()
        self.assertEqual(list(self.h.service.all()), [])
        self.assertEqual(list(self.h.store.rows(OFFSETS_TABLE)), ["["])


class StopTests(Case):
    def test_nothing_new_and_nothing_left_behind(self) -> None:
        me = self.h.producer()
        self.h.add(me)
        self.h.store.hold = True
        ended = self.h.end(me)
        waiting = self.h.add(me, tp(1))
        self.h.service.stop()
        for outcome in (self.h.add(me), self.h.end(me), self.h.init(), self.h.offsets(me, {tp(): offset(1)})):
            self.refused(outcome, ErrorCode.NOT_COORDINATOR)
        self.h.store.release()
        self.assertEqual(ended.value, me)
        self.refused(waiting, ErrorCode.NOT_COORDINATOR)
        self.assertEqual((self.h.partition().log, self.h.store.held), ([], []))
        self.assertEqual(self.h.clock.getDelayedCalls(), [])
        self.assertRaises(BrokerError, self.h.service.all)
