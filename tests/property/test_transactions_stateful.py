"""Transactions under arbitrary producers, time-outs, failing stores and restarts between any two steps.

The model knows nothing of the coordinator's states. It reads the partitions' logs and what clients were told.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from megabroker.errors import BrokerError
from megabroker.model import ProducerIdentity
from tests.unit.transactions_harness import Harness, Outcome, disk_error, offset, tp

PARTITIONS = 3


class Client:
    """What one instance of a producer believes.

    Attributes:
        kind: 1 adds its partitions by requests, 2 has them added and gets a new epoch at every end.
        number: of its present transaction; the offsets it commits carry it.
        touched: whether this transaction has anything.
        known: its identity before the present one.
        ending: the end asked for and not yet certain: (commit, outcome).
        decided: the end it was told of.
        floor: by producer id, the highest epoch anybody had been given when it asked.
    """

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.known: ProducerIdentity | None = None
        self.identity: ProducerIdentity | None = None
        self.init: Outcome | None = None
        self.floor: dict[int, int] = {}
        self.number = -1
        self.touched = False
        self.ending: tuple[bool, Outcome] | None = None
        self.decided: bool | None = None
        self.requests: list[Outcome] = []


class TransactionMachine(RuleBasedStateMachine):
    """Clients of one transactional id; everything of theirs that is answered is remembered."""

    @initialize(last=st.booleans())
    def begin(self, last: bool) -> None:
        self.h = Harness(id_expiration_ms=10_000_000)
        self.clients: list[Client] = []
        self.numbers = 0
        self.records: dict[int, set[tuple[int, int]]] = {}
        self.told: dict[int, bool] = {}
        self.asked: dict[int, set[bool]] = {}
        self.with_offsets: set[int] = set()
        self.highest: dict[int, int] = {}
        self.given: dict[tuple[int, int], Client] = {}
        if last:
            self.use_up_epochs()
        for kind in (1, 2):
            self.newcomer(kind)

    def use_up_epochs(self) -> None:
        """Come near the last epoch, so that producer ids change."""
        identity = self.h.producer()
        row: Any = self.h.store.rows("transactions")["x"]
        row["producer_epoch"] = 32_760
        self.h.store._apply([("transactions", "x", row)])
        self.h.restart()
        self.highest[identity.producer_id] = 32_760

    def pick(self, number: int) -> Client | None:
        return self.clients[number % len(self.clients)] if self.clients else None

    # --- clients ----------------------------------------------------------------------------------

    @rule(kind=st.sampled_from([1, 2]))
    def newcomer(self, kind: int) -> None:
        client = Client(kind)
        self.clients = [*self.clients[-3:], client]
        self.initialise(client)

    @rule(number=st.integers(0, 3), tell=st.booleans())
    def come_back(self, number: int, tell: bool) -> None:
        client = self.pick(number)
        if client is not None and client.init is None and client.ending is None:
            self.initialise(client, client.identity or client.known if tell else None)

    def initialise(self, client: Client, known: ProducerIdentity | None = None) -> None:
        client.known = known
        client.floor = dict(self.highest)
        client.identity = None
        client.init = self.h.init(known, timeout_ms=5_000)

    def fresh(self, client: Client) -> None:
        client.touched, client.decided, client.ending = False, None, None
        client.number = self.numbers = self.numbers + 1
        self.records[client.number] = set()
        self.asked[client.number] = set()

    @rule(
        number=st.integers(0, 3),
        indexes=st.sets(st.integers(0, PARTITIONS - 1), max_size=2),
        adds=st.booleans(),
        offsets=st.booleans(),
    )
    def work(self, number: int, indexes: set[int], adds: bool, offsets: bool) -> None:
        client = self.ready(number)
        if client is None:
            return
        if client.kind == 1 and adds and indexes:
            assert client.identity is not None
            client.requests.append(self.h.add(client.identity, *map(tp, indexes)))
        for index in indexes:
            self.produce(client, index)
        if offsets:
            self.send_offsets(client)

    def produce(self, client: Client, index: int) -> None:
        """Write a batch, if the coordinator lets it."""
        identity = client.identity
        assert identity is not None
        for _ in range(2):
            try:
                room = self.h.service.admit("x", identity, tp(index), implicit=client.kind == 2)
            except BrokerError:
                return
            if room is None:
                partition = self.h.partition(index)
                if partition.epochs.get(identity.producer_id, 0) <= identity.producer_epoch:
                    partition.append(identity)
                    self.records[client.number].add((index, len(partition.log) - 1))
                    client.touched = True
                return
            room.when_room(lambda: None)
            self.h.clock.advance(0)

    def send_offsets(self, client: Client) -> None:
        assert client.identity is not None
        if client.kind == 1:
            Outcome(self.h.service.add_offsets("x", client.identity, "g"))
        outcome = self.h.offsets(client.identity, {tp(): offset(client.number)}, implicit=client.kind == 2)
        client.requests.append(outcome)
        if not outcome.waits and not isinstance(outcome.results[0], BrokerError):
            client.touched = True
            self.with_offsets.add(client.number)

    def ready(self, number: int) -> Client | None:
        """Return a client that may go on with its transaction, having heard what it waited for."""
        self.settle()
        client = self.pick(number)
        if client is None or client.identity is None or client.ending or client.decided is not None:
            return None
        return None if any(one.waits for one in client.requests) else client

    @rule(
        number=st.integers(0, 3),
        commit=st.booleans(),
        meanwhile=st.sampled_from(["", "", "held", "failed", "stalled", "lost", "stored"]),
    )
    def end(self, number: int, commit: bool, meanwhile: str) -> None:
        """Ask for the end; the store holds or refuses the row, a partition the marker, or the broker dies."""
        client = self.ready(number)
        if client is None or not client.touched:
            return
        if meanwhile == "stalled":
            self.h.partition(0).holding = True
        elif meanwhile:
            self.h.store.hold = True
        assert client.identity is not None
        self.asked[client.number].add(commit)
        client.floor = dict(self.highest)
        client.ending = (commit, self.h.end(client.identity, commit, client.kind == 2))
        if meanwhile == "failed" and self.h.store.held:
            self.h.store.release(error=disk_error())
        if meanwhile in ("lost", "stored"):
            self.crash(3 if meanwhile == "stored" else 0)

    @rule(number=st.integers(0, 3), same=st.booleans())
    def repeat_the_end(self, number: int, same: bool) -> None:
        """A client that was told asks again, or for the other outcome: it is told nothing else."""
        self.settle()
        client = self.pick(number)
        if client is not None and client.decided is not None:
            commit = client.decided is same
            identity = client.known or client.identity
            assert identity is not None
            outcome = self.h.end(identity, commit, client.kind == 2)
            if not outcome.waits and not isinstance(outcome.results[0], BrokerError):
                assert same

    @rule(number=st.integers(0, 3))
    def next_transaction(self, number: int) -> None:
        self.settle()
        client = self.pick(number)
        if client is not None and client.decided is not None:
            self.fresh(client)

    def settle(self) -> None:
        """Let clients read their answers."""
        for client in self.clients:
            client.requests = [one for one in client.requests if one.waits]
            if client.init is not None and not client.init.waits:
                result = client.init.results[0]
                client.init = None
                if isinstance(result, BrokerError):
                    continue
                self.check_given(client, result)
                client.identity, client.known = result, None
                self.fresh(client)
            if client.ending is not None and not client.ending[1].waits:
                commit, outcome = client.ending
                client.ending = None
                result = outcome.results[0]
                if isinstance(result, BrokerError):
                    continue
                assert self.told.setdefault(client.number, commit) is commit
                client.decided = commit
                client.known = client.identity
                if client.kind == 2:
                    self.check_given(client, result)
                client.identity = result

    def check_given(self, client: Client, identity: ProducerIdentity) -> None:
        """Nobody gets an identity that another has or had, nor an epoch below one given before it asked."""
        producer_id, epoch = identity
        assert 0 <= epoch < 32_767
        assert self.given.setdefault(identity, client) is client
        assert epoch >= client.floor.get(producer_id, 0)
        self.highest[producer_id] = max(epoch, self.highest.get(producer_id, 0))

    # --- the world --------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.011, 0.3, 2, 6]))
    def wait(self, seconds: float) -> None:
        self.h.advance(seconds)

    @rule()
    def hold_the_store(self) -> None:
        self.h.store.hold = True

    @precondition(lambda self: hasattr(self, "h") and self.h.store.held)
    @rule(fails=st.booleans())
    def store_answers(self, fails: bool) -> None:
        self.h.store.release(error=disk_error() if fails else None)

    @rule()
    def store_recovers(self) -> None:
        while self.h.store.held:
            self.h.store.release()
        self.h.store.hold = False

    @rule(index=st.integers(0, PARTITIONS - 1), fails=st.booleans())
    def partition_stalls(self, index: int, fails: bool) -> None:
        self.h.partition(index).holding = not fails
        self.h.partition(index).error = disk_error() if fails else None

    @rule(index=st.integers(0, PARTITIONS - 1), fails=st.booleans())
    def partition_answers(self, index: int, fails: bool) -> None:
        partition = self.h.partition(index)
        partition.holding, partition.error = False, None
        partition.release(disk_error() if fails else None)

    @rule(stored=st.integers(0, 3))
    def crash(self, stored: int) -> None:
        """The broker dies, some of its last writes done and none of them answered."""
        self.settle()
        for changes, _ in self.h.store.held[:stored]:
            self.h.store._apply(changes)
        for client in self.clients:
            client.requests.clear()
            client.init = None
            if client.ending is not None:
                client.ending = None
        self.h.restart()

    # --- what must hold ---------------------------------------------------------------------------

    def fates(self) -> dict[int, set[str]]:
        """Return by transaction how its records were ended: by the next marker of their producer."""
        found: dict[int, set[str]] = {}
        for number, records in self.records.items():
            for index, position in records:
                log = self.h.partition(index).log
                producer_id = log[position][1]
                word = next((w for w, p, _ in log[position:] if p == producer_id and w != "data"), "open")
                found.setdefault(number, set()).add(word)
        return found

    @invariant()
    def all_or_nothing(self) -> None:
        if not hasattr(self, "h"):
            return
        self.settle()
        for number, words in self.fates().items():
            assert not {"commit", "abort"} <= words, (number, words)
            if "commit" in words:
                assert True in self.asked[number]
            if self.told.get(number) is True:
                assert "abort" not in words
            if self.told.get(number) is False:
                assert "commit" not in words

    @invariant()
    def epochs_never_go_back(self) -> None:
        if not hasattr(self, "h"):
            return
        for index in range(PARTITIONS):
            latest: dict[int, int] = {}
            for _, producer_id, epoch in self.h.partition(index).log:
                assert epoch >= latest.get(producer_id, 0)
                latest[producer_id] = epoch

    def teardown(self) -> None:
        if not hasattr(self, "h"):
            return
        self.settle()
        self.store_recovers()
        self.settle()
        self.h.restart()
        self.h.advance(40)
        for index in range(PARTITIONS):
            assert not self.h.partition(index).open
        fates = self.fates()
        for number, commit in self.told.items():
            if self.records[number]:
                assert fates[number] == {"commit" if commit else "abort"}
        self.check_offsets(fates)
        assert self.h.groups.unstable("g") == set()
        assert self.h.store.rows("transaction_offsets") == {}
        assert self.h.state() in ("none", "Empty", "CompleteCommit", "CompleteAbort")
        self.h.service.stop()
        self.h.groups.stop()
        assert self.h.clock.getDelayedCalls() == []

    def check_offsets(self, fates: dict[int, set[str]]) -> None:
        """The offset visible is one of a committed transaction, and none committed is missing."""
        committed = [n for n, commit in self.told.items() if commit and n in self.with_offsets]
        visible = self.h.committed().get(tp())
        if visible is None:
            assert not committed
        else:
            assert True in self.asked[visible]
            assert fates.get(visible, {"commit"}) == {"commit"}
            assert not committed or visible >= 0


TransactionMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TransactionsTest = TransactionMachine.TestCase
