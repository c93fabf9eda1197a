"""The rules of transactions, transition by transition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.transactions import automaton
from megabroker.core.transactions.transaction import Transaction, TransactionState, from_row, to_row
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import ProducerIdentity, TopicPartition

State = TransactionState
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
ID = ProducerIdentity(7, 3)
NOBODY: frozenset[Any] = frozenset()


def at(state: State, **fields: Any) -> Transaction:
    """Return a transactional id of producer 7, epoch 3, with P0 in a transaction that is not over."""
    holds = state in (State.ONGOING, State.PREPARE_COMMIT, State.PREPARE_ABORT)
    base = Transaction(
        producer_id=7,
        producer_epoch=3,
        timeout_ms=1000,
        state=state,
        partitions=frozenset([P0]) if holds else NOBODY,
        start_time_ms=50 if holds else -1,
    )
    return attrs.evolve(base, **fields)


class Case(SynchronousTestCase):
    def refused(self, code: ErrorCode, call: Callable[..., Any], *args: Any) -> None:
        error = self.assertRaises(BrokerError, call, *args)
        self.assertIs(error.code, code)


class InitialiseTests(Case):
    def test_a_new_id(self) -> None:
        got = automaton.initialise(Transaction(), 1000, None, 9, 100)
        self.assertEqual(got, Transaction(9, 0, timeout_ms=1000, update_time_ms=100))
        known = automaton.initialise(Transaction(), 1000, ProducerIdentity(4, 4), 9, 100)
        self.assertEqual(known.identity, (9, 0))

    def test_every_call_raises_the_epoch_and_fences_the_one_before(self) -> None:
        for state in (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT):
            got = automaton.initialise(at(state, last_epoch=2), 500, None, -1, 100)
            self.assertEqual((got.identity, got.state, got.timeout_ms), ((7, 4), State.EMPTY, 500))
            self.refused(ErrorCode.PRODUCER_FENCED, automaton.initialise, got, 500, ID, -1, 100)

    def test_what_is_open_or_being_ended_is_not_passed_over(self) -> None:
        for state in (State.ONGOING, State.PREPARE_COMMIT, State.PREPARE_ABORT):
            self.refused(
                ErrorCode.CONCURRENT_TRANSACTIONS, automaton.initialise, at(state), 500, None, -1, 100
            )

    def test_a_producer_goes_on_and_repeats_itself(self) -> None:
        got = automaton.initialise(at(State.EMPTY), 500, ID, -1, 100)
        self.assertEqual((got.identity, got.last_epoch), ((7, 4), 3))
        again = automaton.initialise(got, 500, ID, -1, 100)
        self.assertEqual((again.identity, again.last_epoch), ((7, 4), 3))
        for stranger in (ProducerIdentity(7, 2), ProducerIdentity(7, 5), ProducerIdentity(6, 4)):
            self.refused(ErrorCode.PRODUCER_FENCED, automaton.initialise, got, 500, stranger, -1, 100)

    def test_epochs_that_are_used_up_give_a_new_producer_id(self) -> None:
        for epoch in (32_766, 32_767):
            got = automaton.initialise(at(State.EMPTY, producer_epoch=epoch), 500, None, 9, 100)
            self.assertEqual((got.identity, got.previous_producer_id), ((9, 0), 7))
        last = ProducerIdentity(7, 32_766)
        got = automaton.initialise(at(State.EMPTY, producer_epoch=32_766), 500, last, 9, 100)
        again = automaton.initialise(got, 500, last, -1, 100)
        self.assertEqual(again.identity, (9, 0))
        self.refused(
            ErrorCode.PRODUCER_FENCED, automaton.initialise, got, 500, ProducerIdentity(7, 32_765), -1, 100
        )


class FenceTests(Case):
    def test_aborts_under_an_epoch_nobody_has(self) -> None:
        got = automaton.fence(at(State.ONGOING), None, 100)
        self.assertEqual((got.state, got.producer_epoch), (State.PREPARE_ABORT, 4))
        self.assertEqual(got.partitions, {P0})
        for commit in (True, False):
            self.refused(ErrorCode.PRODUCER_FENCED, automaton.end, got, ID, commit, True, -1, 100)
            done = automaton.complete(got, 100)
            self.refused(ErrorCode.PRODUCER_FENCED, automaton.end, done, ID, commit, True, -1, 100)
        self.refused(ErrorCode.PRODUCER_FENCED, automaton.check_known, done, ID)

    def test_the_holder_itself_comes_back(self) -> None:
        done = automaton.complete(automaton.fence(at(State.ONGOING), ID, 100), 100)
        self.assertEqual(automaton.initialise(done, 500, ID, -1, 100).identity, (7, 4))

    def test_the_last_epoch_can_be_fenced(self) -> None:
        got = automaton.fence(at(State.ONGOING, producer_epoch=32_766), ProducerIdentity(7, 32_766), 100)
        done = automaton.complete(got, 100)
        fresh = automaton.initialise(done, 500, ProducerIdentity(7, 32_766), 9, 100)
        self.assertEqual(fresh.identity, (9, 0))

    def test_only_the_holder_fences_what_is_open(self) -> None:
        now = at(State.ONGOING, last_epoch=2)
        automaton.check_known(now, ID)
        for stranger in (ProducerIdentity(7, 2), ProducerIdentity(7, 4), ProducerIdentity(8, 3)):
            self.refused(ErrorCode.PRODUCER_FENCED, automaton.check_known, now, stranger)

    def test_without_partitions_it_is_over_at_once(self) -> None:
        got = automaton.fence(at(State.ONGOING, partitions=NOBODY, groups=frozenset("g")), None, 100)
        self.assertEqual((got.state, got.groups), (State.COMPLETE_ABORT, NOBODY))


class AddTests(Case):
    def test_begins_and_grows(self) -> None:
        for state in (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT):
            got = automaton.add(at(state), ID, frozenset([P0]), NOBODY, 100)
            self.assertEqual((got.state, got.start_time_ms, got.partitions), (State.ONGOING, 100, {P0}))
            more = automaton.add(got, ID, frozenset([P1]), frozenset("g"), 200)
            self.assertEqual((more.partitions, more.groups, more.start_time_ms), ({P0, P1}, {"g"}, 100))
            self.assertIs(automaton.add(more, ID, frozenset([P0]), frozenset("g"), 300), more)

    def test_not_while_the_one_before_is_being_ended(self) -> None:
        for state in (State.PREPARE_COMMIT, State.PREPARE_ABORT):
            self.refused(
                ErrorCode.CONCURRENT_TRANSACTIONS, automaton.add, at(state), ID, frozenset([P0]), NOBODY, 1
            )

    def test_strangers(self) -> None:
        for state in State:
            now = at(state)
            for epoch in (2, 4):
                stranger = ProducerIdentity(7, epoch)
                self.refused(ErrorCode.PRODUCER_FENCED, automaton.add, now, stranger, NOBODY, NOBODY, 1)
            other = ProducerIdentity(8, 3)
            self.refused(ErrorCode.INVALID_PRODUCER_ID, automaton.add, now, other, NOBODY, NOBODY, 1)

    def test_nobody_holds_what_has_no_identity(self) -> None:
        nobody = ProducerIdentity(-1, -1)
        self.refused(ErrorCode.PRODUCER_FENCED, automaton.check_identity, Transaction(), nobody)

    def test_verifying(self) -> None:
        automaton.verify(at(State.ONGOING), ID, P0)
        self.refused(ErrorCode.TRANSACTION_ABORTABLE, automaton.verify, at(State.ONGOING), ID, P1)
        self.refused(ErrorCode.TRANSACTION_ABORTABLE, automaton.verify, at(State.EMPTY), ID, P0)
        now = at(State.PREPARE_ABORT)
        self.refused(ErrorCode.CONCURRENT_TRANSACTIONS, automaton.verify, now, ID, P0)
        offsets = automaton.check_offsets_of
        offsets(at(State.ONGOING, groups=frozenset("g")), ID, "g")
        self.refused(ErrorCode.TRANSACTION_ABORTABLE, offsets, at(State.ONGOING), ID, "g")
        self.refused(ErrorCode.TRANSACTION_ABORTABLE, offsets, at(State.COMPLETE_COMMIT), ID, "g")
        self.refused(ErrorCode.CONCURRENT_TRANSACTIONS, offsets, now, ID, "g")


class EndTests(Case):
    def end(self, now: Transaction, commit: bool, bump: bool, identity: ProducerIdentity = ID) -> Transaction:
        return automaton.end(now, identity, commit, bump, 9, 100)

    def test_first_kind(self) -> None:
        for commit, state in ((True, State.PREPARE_COMMIT), (False, State.PREPARE_ABORT)):
            got = self.end(at(State.ONGOING), commit, False)
            self.assertEqual((got.state, got.identity, got.partitions), (state, ID, {P0}))
            self.assertIs(self.end(got, commit, False), got)
            self.refused(ErrorCode.INVALID_TXN_STATE, self.end, got, not commit, False)
            done = automaton.complete(got, 100)
            self.assertEqual((done.identity, done.partitions, done.start_time_ms), (ID, NOBODY, -1))
            self.assertIs(self.end(done, commit, False), done)
            self.refused(ErrorCode.INVALID_TXN_STATE, self.end, done, not commit, False)

    def test_second_kind_raises_the_epoch_and_can_be_repeated(self) -> None:
        for commit in (True, False):
            got = self.end(at(State.ONGOING), commit, True)
            self.assertEqual((got.identity, got.last_epoch), ((7, 4), 3))
            for now in (got, automaton.complete(got, 100)):
                self.assertEqual(now.identity, (7, 4))
                self.assertIs(self.end(now, commit, True), now)
                self.refused(ErrorCode.INVALID_TXN_STATE, self.end, now, not commit, True)
                self.refused(ErrorCode.PRODUCER_FENCED, self.end, now, commit, True, ProducerIdentity(7, 2))

    def test_a_repeat_is_late_when_the_next_one_has_begun(self) -> None:
        done = automaton.complete(self.end(at(State.ONGOING), True, True), 100)
        begun = automaton.add(done, ProducerIdentity(7, 4), frozenset([P1]), NOBODY, 100)
        self.refused(ErrorCode.PRODUCER_FENCED, self.end, begun, True, True)
        initialised = automaton.initialise(done, 500, None, -1, 100)
        self.refused(ErrorCode.PRODUCER_FENCED, self.end, initialised, True, True)

    def test_used_up_epochs_change_the_producer_id(self) -> None:
        last = ProducerIdentity(7, 32_766)
        got = self.end(at(State.ONGOING, producer_epoch=32_766), True, True, last)
        self.assertEqual((got.producer_id, got.producer_epoch, got.identity), (7, 32_767, (9, 0)))
        self.assertIs(self.end(got, True, True, last), got)
        self.refused(ErrorCode.CONCURRENT_TRANSACTIONS, automaton.add, got, got.identity, NOBODY, NOBODY, 1)
        done = automaton.complete(got, 100)
        self.assertEqual((done.identity, done.previous_producer_id), ((9, 0), 7))
        self.assertIs(self.end(done, True, True, last), done)
        self.refused(ErrorCode.INVALID_TXN_STATE, self.end, done, False, True, last)

    def test_aborting_what_was_never_begun(self) -> None:
        for state in (State.EMPTY, State.COMPLETE_ABORT, State.COMPLETE_COMMIT):
            now = at(state, ended_by_bump=state is not State.EMPTY)
            got = self.end(now, False, True)
            self.assertEqual((got.state, got.identity), (State.COMPLETE_ABORT, (7, 4)))
            self.refused(ErrorCode.INVALID_TXN_STATE, self.end, now, True, True)
            self.refused(ErrorCode.INVALID_TXN_STATE, self.end, now, False, False)
        now = at(State.PREPARE_COMMIT, ended_by_bump=True)
        self.refused(ErrorCode.CONCURRENT_TRANSACTIONS, self.end, now, False, True)

    def test_without_partitions_it_is_over_at_once(self) -> None:
        now = at(State.ONGOING, partitions=NOBODY, groups=frozenset("g"))
        self.assertIs(self.end(now, True, False).state, State.COMPLETE_COMMIT)
        last = attrs.evolve(now, producer_epoch=32_766)
        self.assertEqual(self.end(last, True, True, ProducerIdentity(7, 32_766)).identity, (9, 0))


class TimeTests(Case):
    def test_overdue(self) -> None:
        self.assertFalse(automaton.is_overdue(at(State.ONGOING), 1049))
        self.assertTrue(automaton.is_overdue(at(State.ONGOING), 1050))
        self.assertFalse(automaton.is_overdue(at(State.PREPARE_COMMIT), 9999))

    def test_expired(self) -> None:
        for state in State:
            idle = state in (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
            now = at(state, update_time_ms=100)
            self.assertEqual(automaton.is_expired(now, 1000, 1100), idle, state)
            self.assertFalse(automaton.is_expired(now, 1000, 1099))


class RowTests(Case):
    def test_round_trip(self) -> None:
        for state in State:
            now = at(state, groups=frozenset(["g", "h"]), ended_by_bump=True, next_producer_id=12)
            self.assertEqual(from_row(to_row(now)), now)
