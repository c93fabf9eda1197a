"""A consumer group under arbitrary members and time: what must hold whatever they do.

The model knows nothing of the automaton's states. It keeps what each client was told and checks it
against what the others were told.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import CommittedOffset, LeavingMember
from tests.unit.groups_harness import Harness, Outcome, tp

PROTOCOLS = (
    (("range", b"1"),),
    (("range", b"2"), ("sticky", b"3")),
    (("sticky", b"4"), ("range", b"5")),
)
INSTANCES = (None, None, "i", "j")

FATAL = {ErrorCode.UNKNOWN_MEMBER, ErrorCode.FENCED_INSTANCE}


class Client:
    """What one client believes."""

    def __init__(self, instance_id: str | None) -> None:
        self.instance_id = instance_id
        self.member_id = ""
        self.joined = None
        self.join: Outcome | None = None
        self.sync: Outcome | None = None
        self.assignment: tuple[int, bytes] | None = None


class GroupMachine(RuleBasedStateMachine):
    @initialize(delay_ms=st.sampled_from([0, 3000]))
    def begin(self, delay_ms: int) -> None:
        self.h = Harness(initial_rebalance_delay_ms=delay_ms, group_max_size=6, offsets_check_interval_ms=0)
        self.clients: list[Client] = []
        self.outcomes: list[Outcome] = []
        self.generation = 0
        self.leaders: dict[int, str] = {}
        self.rosters: dict[int, set[str]] = {}
        self.owners: dict[tuple[int, str], Client] = {}
        self.committed = -1

    # --- what clients do --------------------------------------------------------------------------

    def pick(self, number: int) -> Client | None:
        return self.clients[number % len(self.clients)] if self.clients else None

    @rule(
        instance_id=st.sampled_from(INSTANCES),
        protocols=st.sampled_from(PROTOCOLS),
        known=st.booleans(),
        rebalance_timeout_ms=st.sampled_from([0, 5_000, 60_000]),
    )
    def newcomer(self, instance_id, protocols, known, rebalance_timeout_ms) -> None:
        client = Client(instance_id)
        if len(self.clients) < 8:
            self.clients.append(client)
        else:
            self.clients[0] = client
        self.ask_to_join(client, protocols, known, rebalance_timeout_ms)

    @rule(number=st.integers(0, 20), protocols=st.sampled_from(PROTOCOLS))
    def rejoin(self, number, protocols) -> None:
        client = self.pick(number)
        if client is not None:
            self.ask_to_join(client, protocols, True, 30_000)

    def ask_to_join(self, client, protocols, known, rebalance_timeout_ms) -> None:
        client.assignment = None
        client.joined = None
        client.join = self.track(
            self.h.join(
                client.member_id,
                instance_id=client.instance_id,
                protocols=protocols,
                require_known_member_id=known,
                supports_skipping_assignment=known,
                session_timeout_ms=10_000,
                rebalance_timeout_ms=rebalance_timeout_ms,
            )
        )

    @rule(order=st.permutations(range(8)), absent=st.integers(0, 2), rounds=st.integers(1, 4))
    def behave(self, order, absent, rounds) -> None:
        """All clients but ``absent`` of them do what a well-behaved client does next."""
        for _ in range(rounds):
            for number in order[absent:]:
                if number < len(self.clients):
                    self.next_step(number, self.clients[number])
            self.h.clock.advance(0.011)
            self.settle()

    def next_step(self, number: int, client: Client) -> None:
        self.settle()
        if client.join is not None or client.sync is not None:
            return
        if client.joined is None:
            self.ask_to_join(client, PROTOCOLS[number % 3], True, 30_000)
        elif client.assignment is None:
            self.ask_to_sync(number, False)
        elif self.beat(client) is ErrorCode.REBALANCE_IN_PROGRESS:
            self.ask_to_join(client, PROTOCOLS[number % 3], True, 30_000)

    @rule(number=st.integers(0, 20), stale=st.booleans())
    def ask_to_sync(self, number, stale) -> None:
        client = self.pick(number)
        if client is None or client.joined is None:
            return
        joined = client.joined
        everybody = {member.member_id: b"%d" % joined.generation for member in joined.members}
        if joined.skip_assignment:
            everybody = {}
        generation = joined.generation - stale
        outcome = self.h.sync(joined, everybody, instance_id=client.instance_id, generation=generation)
        self.track(outcome)
        if stale:
            assert outcome.error.code in FATAL | {ErrorCode.ILLEGAL_GENERATION}
        else:
            client.sync = outcome

    @rule(number=st.integers(0, 20))
    def heartbeat(self, number) -> None:
        client = self.pick(number)
        if client is not None:
            self.beat(client)

    def beat(self, client: Client) -> ErrorCode | None:
        if client.joined is not None:
            try:
                self.h.service.heartbeat("g", client.joined.generation, client.member_id, client.instance_id)
            except BrokerError as error:
                self.told(client, error)
                return error.code
        return None

    @rule(number=st.integers(0, 20), by_instance=st.booleans())
    def leave(self, number, by_instance) -> None:
        client = self.pick(number)
        if client is None or self.state() == "Dead":
            return
        member_id = "" if by_instance and client.instance_id else client.member_id
        self.h.service.leave("g", [LeavingMember(member_id, client.instance_id)])

    @rule(number=st.integers(0, 20))
    def commit(self, number) -> None:
        client = self.pick(number)
        if client is None or client.joined is None:
            return
        offset = CommittedOffset(client.joined.generation)
        outcome = Outcome(
            self.h.service.commit(
                "g", client.joined.generation, client.member_id, client.instance_id, {tp(): offset}
            )
        )
        if not isinstance(outcome.results[0], BrokerError):
            assert client.joined.generation == self.generation
            assert client.joined.generation >= self.committed
            self.committed = client.joined.generation

    @rule(seconds=st.sampled_from([0.011, 0.5, 4, 9, 11, 65]))
    def wait(self, seconds) -> None:
        self.h.advance(seconds, step=1.0)

    # --- what they are told -----------------------------------------------------------------------

    def track(self, outcome: Outcome) -> Outcome:
        self.outcomes.append(outcome)
        return outcome

    def state(self) -> str:
        return self.h.service.describe("g").state

    def told(self, client: Client, error: BrokerError) -> None:
        if error.code in FATAL:
            client.member_id, client.joined, client.assignment = "", None, None
        elif error.code is ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = error.member_id
        elif error.code in (ErrorCode.ILLEGAL_GENERATION, ErrorCode.REBALANCE_IN_PROGRESS):
            client.joined, client.assignment = None, None

    def settle(self) -> None:
        for client in self.clients:
            if client.join is not None and not client.join.waits:
                result = client.join.results[0]
                client.join = None
                if isinstance(result, BrokerError):
                    self.told(client, result)
                else:
                    self.check_joined(client, result)
            if client.sync is not None and not client.sync.waits:
                result = client.sync.results[0]
                client.sync = None
                if isinstance(result, BrokerError):
                    self.told(client, result)
                elif client.joined is not None:
                    client.assignment = (client.joined.generation, result.assignment)

    def check_joined(self, client: Client, joined) -> None:
        assert joined.generation >= self.generation or joined.generation in self.rosters
        client.member_id = joined.member_id
        client.joined = joined
        key = (joined.generation, joined.member_id)
        assert self.owners.setdefault(key, client) is client
        if client.instance_id is None:
            leader = self.leaders.setdefault(joined.generation, joined.leader)
            assert leader == joined.leader or leader.startswith(("i-", "j-"))
        if joined.members:
            ids = {member.member_id for member in joined.members}
            assert len(ids) == len(joined.members) <= 6
            assert joined.leader == joined.member_id
            assert joined.leader in ids
            self.rosters.setdefault(joined.generation, ids)

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def nobody_is_told_two_things(self) -> None:
        if not hasattr(self, "h"):
            return
        self.settle()
        assert all(len(outcome.results) <= 1 for outcome in self.outcomes)

    @invariant()
    def one_generation_that_never_goes_back(self) -> None:
        if not hasattr(self, "h"):
            return
        group = self.h.service._directory.classic.get("g")
        if group is None:
            assert self.generation == 0
            return
        automaton = group.automaton
        assert automaton.generation >= self.generation
        self.generation = automaton.generation
        members = automaton.members
        assert members.awaiting == sum(member.join_ticket is not None for member in members)
        static = [member for member in members if member.instance_id is not None]
        assert members.away == sum(member.join_ticket is None for member in static)
        assert bool(members) == bool(members.leader)
        assert not members.leader or members.leader in members
        assert set(members.by_instance.values()) == {
            member.member_id for member in members if member.instance_id is not None
        }
        counted = [name for member in members for name, _ in member.protocols]
        assert dict(members.supported) == {name: counted.count(name) for name in counted}
        for member in members:
            if automaton.state.value in ("Stable", "CompletingRebalance"):
                assert member.join_ticket is None
            if automaton.state.value != "CompletingRebalance":
                assert member.sync_ticket is None
        assert (automaton.state.value == "Empty") == (
            not members and automaton.state.value != "PreparingRebalance"
        )

    @invariant()
    def all_of_a_stable_group_hold_an_assignment_of_its_generation(self) -> None:
        if not hasattr(self, "h") or self.state() != "Stable":
            return
        current = self.h.service._directory.classic["g"].automaton.generation
        generation = b"%d" % current
        for member in self.h.service.describe("g").members:
            assert member.assignment in (generation, b"")
        live = {member.member_id for member in self.h.service.describe("g").members}
        for client in self.clients:
            if client.assignment is not None and client.member_id in live and client.join is None:
                held_generation, assignment = client.assignment
                if held_generation == current:
                    assert assignment in (generation, b"")

    @invariant()
    def nobody_who_waits_is_forgotten(self) -> None:
        """A parked request always has a timer that will end it, be it somebody else's."""
        if hasattr(self, "h") and any(outcome.waits for outcome in self.outcomes):
            assert self.h.service._directory.classic["g"].timers

    def teardown(self) -> None:
        if not hasattr(self, "h"):
            return
        self.h.advance(500, step=5.0)
        self.settle()
        assert all(len(outcome.results) == 1 for outcome in self.outcomes)
        assert self.state() in ("Empty", "Dead")
        self.h.service.stop()
        assert self.h.clock.getDelayedCalls() == []


GroupMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
GroupTest = GroupMachine.TestCase
