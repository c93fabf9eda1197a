"""A streams group under arbitrary members, topics, losses and restarts: what must hold."""

from __future__ import annotations

import itertools
from collections import Counter

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from megabroker.core.groups.actions import TimerKey, TimerKind
from megabroker.core.groups.streams.automaton import StreamsGroupAutomaton
from megabroker.core.groups.streams.members import StreamsMember
from megabroker.core.groups.streams.rows import topology_from_row, topology_to_row
from megabroker.core.groups.streams.settings import StreamsSettings
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model.streams_groups import (
    InternalTopic,
    Role,
    StreamsHeartbeat,
    StreamsStatus,
    Subtopology,
    TaskAssignment,
    TaskSet,
    Topology,
)

TOPOLOGY = Topology(
    0,
    (
        Subtopology("0", sources=("in",), sinks=("mid",)),
        Subtopology("1", repartitions=(InternalTopic("mid"),), changelogs=(InternalTopic("store"),)),
    ),
)
NUMBERS = st.integers(0, 20)


@attrs.define
class Client:
    """A member that does what KIP-1071 asks of it: gives up what is not its own any more, then says so."""

    member_id: str
    process_id: str
    epoch: int = 0
    has: dict[TaskSet, frozenset[int]] = attrs.Factory(dict)
    told: TaskAssignment = attrs.Factory(dict)
    error: ErrorCode | None = None

    def beat(self, group: StreamsGroupAutomaton, *, lose_answer: bool = False) -> None:
        # What it was told to have it begins; what it was not told it has given up before it says so.
        self.has = dict(self.told)
        joins = self.epoch == 0
        request = StreamsHeartbeat(
            "g",
            self.member_id,
            self.epoch,
            "client",
            "/127.0.0.1",
            rebalance_timeout_ms=30_000,
            topology=TOPOLOGY if joins else None,
            owned={} if joins else self.has,
            process_id=self.process_id,
        )
        try:
            answer = group.heartbeat(request)
        except BrokerError as error:
            self.error = error.code
            self.epoch, self.has, self.told = 0, {}, {}
            return
        self.error = None
        if lose_answer:
            return
        assert answer.member_epoch >= self.epoch
        self.epoch = answer.member_epoch
        if answer.assigned is not None:
            self.told = answer.assigned


class StreamsGroupMachine(RuleBasedStateMachine):
    @initialize(standbys=st.integers(0, 1))
    def begin(self, standbys) -> None:
        self.topics = {"in": 3}
        self.settings = StreamsSettings(standby_replicas=standbys, group_max_size=6)
        self.group = StreamsGroupAutomaton(self.settings, self.topics.get)
        self.clients: list[Client] = []
        self.names = itertools.count()
        self.epochs = (0, 0)

    def pick(self, number: int) -> Client | None:
        return self.clients[number % len(self.clients)] if self.clients else None

    # --- what happens -----------------------------------------------------------------------------

    @rule(process=st.sampled_from("xyz"))
    def newcomer(self, process) -> None:
        client = Client(f"m{next(self.names)}", process)
        client.beat(self.group)
        if client.error is None:
            self.clients.append(client)
        else:
            assert client.error is ErrorCode.GROUP_FULL

    @rule(number=NUMBERS, lost=st.booleans())
    def heartbeat(self, number, lost) -> None:
        client = self.pick(number)
        if client is not None:
            client.beat(self.group, lose_answer=lost and client.epoch > 0)

    @rule(number=NUMBERS)
    def leave(self, number) -> None:
        client = self.pick(number)
        if client is not None:
            self.clients.remove(client)
            if client.member_id in self.group.members:
                self.group.heartbeat(StreamsHeartbeat("g", client.member_id, -1, "client", "/127.0.0.1"))

    @rule(number=NUMBERS, kind=st.sampled_from([TimerKind.SESSION, TimerKind.REVOKE]))
    def time_is_up(self, number, kind) -> None:
        client = self.pick(number)
        if client is not None:
            self.group.timer_fired(TimerKey(kind, client.member_id))
            if client.member_id not in self.group.members:
                client.has = {}  # its session ended at the client too

    @rule(size=st.integers(0, 5))
    def source_changes(self, size) -> None:
        if size:
            self.topics["in"] = size
        else:
            self.topics.pop("in", None)
        self.group.topics_changed()

    @rule()
    def internal_topics_are_made(self) -> None:
        if self.group.plan is not None:
            for topic in self.group.plan.missing:
                self.topics[topic.name] = topic.partitions
            self.group.topics_changed()

    @rule()
    def internal_topics_are_deleted(self) -> None:
        self.topics.pop("mid", None)
        self.topics.pop("store", None)
        self.group.topics_changed()

    @rule()
    def restart(self) -> None:
        if self.group.topology is None:
            return
        members = [StreamsMember.from_row(one.member_id, one.to_row()) for one in self.group.members]
        topology = topology_from_row(topology_to_row(self.group.topology))
        assert topology == self.group.topology
        after = StreamsGroupAutomaton(self.settings, self.topics.get)
        after.restore(self.group.epoch, self.group.assignment_epoch, topology, members)
        self.group = after

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def no_task_is_active_twice(self) -> None:
        known = [client for client in self.clients if client.member_id in self.group.members]
        active = Counter(
            (part, index)
            for client in known
            for (role, part), indexes in client.has.items()
            if role is Role.ACTIVE
            for index in indexes
        )
        assert not active or max(active.values()) == 1, active

    @invariant()
    def no_process_has_a_task_twice(self) -> None:
        held = Counter(
            (member.process_id, part, index)
            for member in self.group.members
            for (_, part), indexes in member.assigned.items()
            for index in indexes
        )
        assert not held or max(held.values()) == 1, held

    @invariant()
    def epochs_go_on(self) -> None:
        epochs = (self.group.epoch, self.group.assignment_epoch)
        assert epochs[1] <= epochs[0]
        assert epochs >= self.epochs
        self.epochs = epochs
        assert all(member.epoch <= self.group.assignment_epoch for member in self.group.members)

    def teardown(self) -> None:
        """Left alone, the group comes to rest with every task done by somebody."""
        self.topics.setdefault("in", 3)
        self.topics.pop("mid", None)
        self.topics.pop("store", None)
        self.group.topics_changed()
        self.internal_topics_are_made()
        for member in list(self.group.members):
            if member.member_id not in {client.member_id for client in self.clients}:
                self.group.timer_fired(TimerKey(TimerKind.SESSION, member.member_id))
        for _ in range(8):
            for client in self.clients:
                client.beat(self.group)
            self.no_task_is_active_twice()
        if not self.clients:
            return
        assert self.group.state == "Stable"
        size = self.topics["in"]
        done = sorted(
            (part, index)
            for client in self.clients
            for (role, part), indexes in client.told.items()
            if role is Role.ACTIVE
            for index in indexes
        )
        assert done == sorted((part, index) for part in "01" for index in range(size))


TestStreamsGroup = StreamsGroupMachine.TestCase
TestStreamsGroup.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_whole_application_is_told_to_stop() -> None:
    group = StreamsGroupAutomaton(StreamsSettings(), {"in": 1, "mid": 1, "store": 1}.get)
    clients = [Client("a", "x"), Client("b", "y")]
    for client in clients:
        client.beat(group)
    stop = StreamsHeartbeat("g", "a", clients[0].epoch, "client", "/127.0.0.1", shutdown=True)
    assert [code for code, _ in group.heartbeat(stop).status] == [StreamsStatus.SHUTDOWN_APPLICATION]
    beat = StreamsHeartbeat("g", "b", clients[1].epoch, "client", "/127.0.0.1")
    assert [code for code, _ in group.heartbeat(beat).status] == [StreamsStatus.SHUTDOWN_APPLICATION]
