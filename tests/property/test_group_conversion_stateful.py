"""A group under members of both protocols, coming and going, with losses and restarts: what must hold.

Classic members are all eager or all cooperative in one run. No partition is ever consumed by two members that
the group counts on, across every change of the group's protocol; offsets stay; when nothing happens any more,
everything is assigned once and everybody knows.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import CommittedOffset
from tests.unit.classic_member import ClassicMember
from tests.unit.consumer_groups_harness import ConsumerHarness, Member
from tests.unit.groups_harness import Outcome, tp

NUMBERS = st.integers(0, 20)
SUBSCRIPTIONS = st.sampled_from([("a",), ("a", "b"), ("b",)])


class ConversionMachine(RuleBasedStateMachine):
    @initialize(cooperative=st.booleans())
    def begin(self, cooperative) -> None:
        self.h = ConsumerHarness(group_max_size=8, offsets_check_interval_ms=0)
        self.h.topic("a", 3)
        self.h.topic("b", 2)
        self.cooperative = cooperative
        self.members: list[Any] = []
        self.offset = 0

    def pick(self, number: int, kind: type) -> Any:
        chosen = [member for member in self.members if isinstance(member, kind)]
        return chosen[number % len(chosen)] if chosen else None

    # --- what happens -----------------------------------------------------------------------------

    @rule(names=SUBSCRIPTIONS, static=st.booleans())
    def classic_newcomer(self, names, static) -> None:
        if len(self.members) < 8:
            instance_id = f"i{len(self.members)}" if static else None
            if any(member.instance_id == instance_id for member in self.members if instance_id):
                return
            member = ClassicMember(self.h, *names, cooperative=self.cooperative, instance_id=instance_id)
            self.members.append(member)

    @rule(names=SUBSCRIPTIONS)
    def consumer_newcomer(self, names) -> None:
        if len(self.members) < 8:
            member = Member(self.h, *names)
            member.beat()
            assert member.error is None or member.error.code is ErrorCode.GROUP_FULL, member.error
            self.members.append(member)

    @rule(number=NUMBERS, count=st.integers(1, 4))
    def classic_steps(self, number, count) -> None:
        member = self.pick(number, ClassicMember)
        for _ in range(count):
            if member is not None:
                member.step()
                self.check()

    @rule(number=NUMBERS)
    def heartbeat(self, number) -> None:
        member = self.pick(number, Member)
        if member is not None:
            member.beat()

    @rule(rounds=st.integers(1, 6))
    def everybody(self, rounds) -> None:
        for _ in range(rounds):
            for member in self.members:
                member.step() if isinstance(member, ClassicMember) else member.beat()
                self.check()

    @rule(number=NUMBERS)
    def lose_answer(self, number) -> None:
        member = self.pick(number, ClassicMember)
        if member is not None:
            member.forget_answers()

    @rule(number=NUMBERS)
    def leave(self, number) -> None:
        if self.members:
            member = self.members.pop(number % len(self.members))
            if member.member_id:
                member.leave()

    @rule(number=NUMBERS)
    def vanish(self, number) -> None:
        """Only who is no static member, as a classic group goes on counting on those."""
        if self.members and self.members[number % len(self.members)].instance_id is None:
            self.members.pop(number % len(self.members))

    @rule(number=NUMBERS, consumer=st.booleans())
    def come_back_as_another(self, number, consumer) -> None:
        """A static member is started anew, perhaps with the other protocol."""
        member = self.pick(number, ClassicMember)
        if member is None or member.instance_id is None:
            return
        self.members.remove(member)
        if consumer:
            other: Any = Member(self.h, *member.names, instance_id=member.instance_id)
            other.beat()
        else:
            other = ClassicMember(
                self.h, *member.names, cooperative=self.cooperative, instance_id=member.instance_id
            )
        self.members.append(other)

    @rule(seconds=st.sampled_from([0.02, 1.1, 3, 11]))
    def wait(self, seconds) -> None:
        self.h.advance(seconds, step=1.0)

    @rule()
    def restart(self) -> None:
        self.h.restart()
        for member in self.members:
            if isinstance(member, ClassicMember):
                member.forget_answers()

    @rule(number=NUMBERS)
    def commit(self, number) -> None:
        member = self.members[number % len(self.members)] if self.members else None
        epoch = getattr(member, "generation", getattr(member, "epoch", 0))
        if member is not None and member.member_id and epoch > 0:
            offset = CommittedOffset(self.offset + 1)
            outcome = Outcome(self.h.service.commit("g", epoch, member.member_id, None, {tp("a"): offset}))
            if not isinstance(outcome.results[0], BrokerError):
                self.offset += 1

    # --- what must hold ---------------------------------------------------------------------------

    def known(self) -> dict[str, int]:
        """Return the epochs of those the group counts on."""
        classic = self.h.service._directory.classic.get("g")
        if classic is not None:
            group = classic.automaton
            return {member.member_id: group.generation for member in group.members}
        group = self.h.service._directory.consumers._groups.get("g")
        return {} if group is None else {one.member_id: one.epoch for one in group.automaton.members}

    def consumed(self) -> list[tuple[str, int]]:
        known = self.known()
        found: list[tuple[str, int]] = []
        for member in self.members:
            if member.member_id not in known:
                continue
            if isinstance(member, ClassicMember):
                if member.error is None:
                    found += member.owned
            elif member.epoch:
                names = {topic.id: topic.name for topic in self.h.topics.values()}
                found += [(names[topic], index) for topic, has in member.owned.items() for index in has]
        return found

    @invariant()
    def check(self) -> None:
        if not hasattr(self, "h"):
            return
        consumed = self.consumed()
        assert len(consumed) == len(set(consumed)), (consumed, self.known())
        if self.offset:
            assert self.h.service.committed("g", None)[tp("a")].offset == self.offset
        summaries = self.h.service.all()
        assert len(summaries) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "h"):
            return
        for _ in range(120):
            self.everybody(1)
            self.h.advance(1, step=1.0)
        live = [member for member in self.members if member.error is None]
        assert {member.member_id for member in live} == set(self.known())
        wanted = set()
        for member in live:
            for name in member.names:
                wanted |= {(name, index) for index in range(self.h.topics[name].partitions)}
        assert set(self.consumed()) == wanted
        for member in live:
            assert not isinstance(member, ClassicMember) or member.is_settled
        if live:
            modern = any(isinstance(member, Member) for member in live)
            [summary] = self.h.service.all()
            assert summary.state == "Stable"
            assert not modern or summary.group_type == "consumer"
        self.h.service.stop()


ConversionTest = ConversionMachine.TestCase
ConversionTest.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
