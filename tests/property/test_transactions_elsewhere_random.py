"""Transactions over two processes, whatever is late, lost, repeated, killed or timed out between them.

A producer writes to a partition of the coordinator and one of another leader. Requests between the two are
held, delivered, answered, given up by who asked, and delivered after that; either process is started anew at
any time. Whatever the order: what the producer was told about a transaction is what the next marker behind
each of its batches says, and in the end no transaction is open.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from megabroker.errors import BrokerError, ErrorCode, PeerError
from megabroker.model import ProducerIdentity, TopicPartition
from tests.unit.test_transactions_elsewhere import Carried, TwoProcesses
from tests.unit.transactions_harness import Outcome

_STEPS = 1500
_KEYS = {1011, 1012, 1013}


class World:
    """The two processes, their producer, and what it was told."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.h = TwoProcesses()
        self.places = [self.h.here, self.h.there]
        self.implicit = self.chance.random() < 0.5
        self.h.wire.holding |= _KEYS
        self.given_up: list[Carried] = []
        self.identity = self.h.producer()
        self.number = 0
        self.batches: list[tuple[TopicPartition, int, int]] = []  # where, place in the log, transaction
        self.told: dict[int, bool] = {}  # whether a transaction was committed, as far as is known
        self.added: set[TopicPartition] = set()
        self.wanted: set[TopicPartition] = set()
        self.ending: tuple[bool, Outcome] | None = None
        self.open: list[tuple[TopicPartition, int]] = []  # batches whose transaction is not over
        self.late: list[tuple[TopicPartition, ProducerIdentity]] = []

    # --- the producer -----------------------------------------------------------------------------

    def want(self) -> None:
        if self.ending is None:
            self.wanted.add(self.chance.choice(self.places))

    def write(self) -> None:
        """Do what is next for the batches that are to be written, if it can be done."""
        for where in sorted(self.wanted):
            if not self.implicit and where not in self.added:
                outcome = Outcome(self.h.service.add_partitions("x", self.identity, [where]))
                if outcome.results and not isinstance(outcome.results[0], BrokerError):
                    self.added.add(where)
                continue
            service: Any = self.h.leader if where == self.h.here else self.h.service
            try:
                room = service.admit("x", self.identity, where, implicit=self.implicit)
            except BrokerError as error:
                if error.code in (ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.SHUTTING_DOWN):
                    continue
                if isinstance(error, PeerError):
                    continue
                self.begin_again()
                return
            if room is None:
                self.append(where)

    def append(self, where: TopicPartition) -> None:
        partition = self.h.whole.partition(*where)
        if self.identity.producer_epoch < partition.epochs.get(self.identity.producer_id, 0):
            self.begin_again()
            return
        self.wanted.discard(where)
        self.batches.append((where, len(partition.log), self.number))
        self.store(where, self.identity)

    def store(self, where: TopicPartition, identity: ProducerIdentity) -> None:
        """Store a batch; the marker that ends its transaction must be still to come."""
        partition = self.h.whole.partition(*where)
        known = self.h.service.describe("x")
        assert known is not None
        assert where in known.partitions, (where, known)
        self.open.append((where, len(partition.log)))
        partition.append(identity)

    def look_at_open(self) -> None:
        """Where the coordinator is done with a partition, a marker is behind every batch."""
        known = self.h.service.describe("x")
        there = () if known is None else known.partitions
        for where, at in [one for one in self.open if one[0] not in there]:
            log = self.h.whole.partition(*where).log
            assert any(word != "data" for word, *_ in log[at:]), (where, at, log, known)
            self.open.remove((where, at))

    def end(self) -> None:
        has_begun = bool(self.batches) and self.batches[-1][2] == self.number
        gives_up = self.chance.random() < 0.2
        if self.ending is None and has_begun and (gives_up or not self.wanted):
            self.late += [(where, self.identity) for where in sorted(self.wanted)]
            commit = not self.wanted and self.chance.random() < 0.6
            self.wanted.clear()
            done = self.h.service.end("x", self.identity, commit, bump_epoch=self.implicit)
            self.ending = (commit, Outcome(done))

    def write_late(self) -> None:
        """Have a batch that was given up come at last; nobody waits for it."""
        if not self.late:
            return
        where, identity = self.late[self.chance.randrange(len(self.late))]
        service: Any = self.h.leader if where == self.h.here else self.h.service
        partition = self.h.whole.partition(*where)
        try:
            room = service.admit("x", identity, where, implicit=self.implicit)
        except BrokerError:
            self.late.remove((where, identity))
            return
        if room is None:
            self.late.remove((where, identity))
            if identity.producer_epoch >= partition.epochs.get(identity.producer_id, 0):
                self.store(where, identity)

    def look(self) -> None:
        """Hear how the end went."""
        if self.ending is None or not self.ending[1].results:
            return
        (commit, outcome), self.ending = self.ending, None
        result = outcome.results[0]
        if isinstance(result, ProducerIdentity):
            self.told[self.number] = commit
            self.identity = result
            self.next()
        elif result.code is not ErrorCode.CONCURRENT_TRANSACTIONS:
            self.begin_again()

    def next(self) -> None:
        self.number += 1
        self.added.clear()
        self.wanted.clear()

    def begin_again(self) -> None:
        """A producer that is of no more use is followed by another; nothing is known of its transaction."""
        self.ending = None
        self.next()
        outcome = self.h.init()
        for _ in range(50):
            if outcome.results and isinstance(outcome.results[0], ProducerIdentity):
                self.identity = outcome.results[0]
                return
            self.carry_all()
            self.h.advance(0.5, 0.05)
            outcome = self.h.init()
        raise AssertionError("no identity")

    # --- the wire and time ------------------------------------------------------------------------

    def carry(self) -> None:
        held = self.h.wire.held
        if not held:
            return
        carried = held[self.chance.randrange(len(held))]
        if carried.response is None:
            if self.chance.random() < 0.9:
                carried.deliver()
            else:
                held.remove(carried)
                self.given_up.append(carried)
                carried.lose()
        else:
            held.remove(carried)
            if self.chance.random() < 0.9:
                carried.answer()
            else:
                carried.lose()

    def carry_late(self) -> None:
        if self.given_up:
            self.given_up.pop(self.chance.randrange(len(self.given_up))).deliver()

    def carry_all(self) -> None:
        for _ in range(100):
            if not self.h.wire.held:
                return
            carried = self.h.wire.held.pop(0)
            if carried.response is None:
                carried.deliver()
            carried.answer()
            self.h.advance(0.05, 0.01)

    def lose_all(self, *, of: int | None = None) -> None:
        """Whoever asked has ended: nothing is heard of its requests, which may lie in a socket."""
        keys = {None: _KEYS, 1: {1012}, 2: {1011, 1013}}[of]
        for carried in [one for one in self.h.wire.held if one.key in keys]:
            self.h.wire.held.remove(carried)
            if carried.response is None:
                self.given_up.append(carried)

    def restart_leader(self) -> None:
        self.h.leader.stop()
        self.lose_all(of=2)
        self.given_up = [one for one in self.given_up if one.node_id != 2]
        for carried in [one for one in self.h.wire.held if one.node_id == 2]:
            self.h.wire.held.remove(carried)
            carried.lose()
        self.h.start_leader()

    def restart_coordinator(self) -> None:
        if self.ending is not None and not self.ending[1].results:
            return  # it answers at once here, or waits for the turn of another request
        self.lose_all(of=1)
        self.given_up = [one for one in self.given_up if one.node_id != 1]
        held = [one for one in self.h.wire.held if one.node_id == 1]
        self.h.restart()
        for carried in held:
            self.h.wire.held.remove(carried)
            carried.lose()

    def step(self) -> None:
        do = self.chance.choices(
            [
                self.want,
                self.write,
                self.end,
                self.write_late,
                self.carry,
                self.carry_late,
                lambda: self.h.advance(self.chance.choice((0, 0.01, 0.1, 0.3)), 0.01),
                lambda: self.h.advance(70, 1),
                self.restart_leader,
                self.restart_coordinator,
            ],
            [5, 12, 4, 3, 24, 3, 16, 0.1, 0.3, 0.3],
        )[0]
        do()
        self.look()
        self.look_at_open()

    # --- the end ----------------------------------------------------------------------------------

    def settle(self) -> None:
        self.begin_again()
        for _ in range(40):
            self.carry_all()
            self.h.advance(2, 0.05)
        for carried in self.given_up:
            carried.deliver()

    def check(self) -> None:
        for where in self.places:
            partition = self.h.whole.partition(*where)
            assert not partition.open_transactions(), (where, partition.log)
        for where, at, number in self.batches:
            log = self.h.whole.partition(*where).log
            word = next(entry[0] for entry in log[at:] if entry[0] != "data")
            if number in self.told:
                assert word == ("commit" if self.told[number] else "abort"), (where, at, number, log)
        for where in self.places:
            mine = [(at, number) for place, at, number in self.batches if place == where]
            log = self.h.whole.partition(*where).log
            for (first, number), (second, other) in pairwise(mine):
                between = any(entry[0] != "data" for entry in log[first:second])
                assert between == (number != other), (where, first, second, log)


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_what_was_told_is_what_the_logs_say(first: int) -> None:
    for seed in range(first, first + 20):
        world = World(seed)
        try:
            for _ in range(_STEPS):
                world.step()
            world.settle()
            world.check()
        except BaseException as error:
            error.add_note(f"seed {seed}, implicit {world.implicit}")
            raise
