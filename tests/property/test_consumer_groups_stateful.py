"""A group of the consumer protocol under arbitrary members, topics, losses and restarts: what must hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import CommittedOffset
from tests.unit.consumer_groups_harness import ConsumerHarness, Member, settle
from tests.unit.groups_harness import Outcome, tp

SUBSCRIPTIONS = st.sampled_from(
    [(("a",), None), (("a", "b"), None), (("b", "c"), None), ((), "[ab]"), (("c",), "a.*")]
)
ASSIGNORS = st.sampled_from([None, "uniform", "range"])
MATCHES = {"[ab]": {"a", "b"}, "a.*": {"a"}}
NUMBERS = st.integers(0, 20)


class ConsumerGroupMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.h = ConsumerHarness(group_max_size=6, offsets_check_interval_ms=0)
        self.h.topic("a", 3)
        self.h.topic("b", 2)
        self.members: list[Member] = []
        self.epochs: tuple[int, int] = (0, 0)
        self.member_epochs: dict[str, int] = {}
        self.names = iter(range(1000))

    def pick(self, number: int) -> Member | None:
        return self.members[number % len(self.members)] if self.members else None

    # --- what happens -----------------------------------------------------------------------------

    @rule(
        subscription=SUBSCRIPTIONS,
        assignor=ASSIGNORS,
        instance=st.sampled_from([None, None, "i", "j"]),
        v1=st.booleans(),
    )
    def newcomer(self, subscription, assignor, instance, v1) -> None:
        names, pattern = subscription
        member = Member(
            self.h,
            *names,
            pattern=pattern,
            instance_id=instance,
            assignor=assignor,
            member_id=f"own-{next(self.names)}" if v1 else "",
        )
        member.beat()
        if member.error is None:
            self.members.append(member)
        else:
            assert member.error.code in (ErrorCode.GROUP_FULL, ErrorCode.UNRELEASED_INSTANCE)

    @rule(number=NUMBERS, lost=st.booleans(), full=st.booleans())
    def heartbeat(self, number, lost, full) -> None:
        member = self.pick(number)
        if member is not None and (member.member_id or not lost):
            if lost and member.epoch == 0:
                self.member_epochs.pop(member.member_id, None)
            member.beat(lose_answer=lost, full=full)

    @rule(number=NUMBERS, subscription=SUBSCRIPTIONS)
    def subscribe(self, number, subscription) -> None:
        member = self.pick(number)
        if member is not None:
            member.names, member.pattern = frozenset(subscription[0]), subscription[1] or ""
            member.beat(full=True)

    @rule(number=NUMBERS)
    def leave(self, number) -> None:
        member = self.pick(number)
        if member is not None:
            member.leave()
            self.members.remove(member)

    @rule(number=NUMBERS, new_id=st.booleans())
    def leave_for_a_while(self, number, new_id) -> None:
        member = self.pick(number)
        if member is not None and member.instance_id is not None and member.epoch:
            had = member.has
            group_epoch = self.h.service.describe_consumers("g").group_epoch
            if isinstance(member.leave(-2).results[0], BrokerError):
                return
            self.member_epochs.pop(member.member_id, None)
            if new_id:
                member.member_id = f"back-{next(self.names)}"
            member.pattern = member.pattern or ""
            self.check()
            member.beat()
            assert member.error is None
            if self.h.service.describe_consumers("g").assignment_epoch == group_epoch:
                assert set(had) & {*member.has} == set(had) or member.has != had

    @rule(number=NUMBERS)
    def vanish(self, number) -> None:
        member = self.pick(number)
        if member is not None:
            self.members.remove(member)

    @rule(name=st.sampled_from("abc"), partitions=st.integers(1, 5))
    def change_topic(self, name, partitions) -> None:
        known = self.h.topics.get(name)
        if known is None:
            self.h.topic(name, partitions)
        elif partitions > known.partitions:
            self.h.grow(name, partitions)
        elif partitions == 1:
            self.h.delete(name)

    @rule(seconds=st.sampled_from([0.02, 1.1, 1.1, 20, 40]))
    def wait(self, seconds) -> None:
        self.h.advance(seconds, step=1.0)

    @rule()
    def restart(self) -> None:
        before = self.described()
        self.h.restart()
        after = self.described()
        if before is not None:
            assert after is not None
            assert {m.member_id: (m.member_epoch, m.assignment, m.target) for m in before.members} == {
                m.member_id: (m.member_epoch, m.assignment, m.target) for m in after.members
            }

    @rule(number=NUMBERS)
    def commit(self, number) -> None:
        member = self.pick(number)
        if member is None or member.epoch == 0:
            return
        outcome = Outcome(
            self.h.service.commit("g", member.epoch, member.member_id, None, {tp("a"): CommittedOffset(1)})
        )
        current = {m.member_id: m.member_epoch for m in self.described().members}
        good = not isinstance(outcome.results[0], BrokerError)
        assert good == (current.get(member.member_id) == member.epoch)

    @rule()
    def calm(self) -> None:
        """When nothing happens any more, everything is assigned once and everybody knows."""
        for _ in range(14):  # who has vanished is missed after nine
            self.h.advance(5, step=5.0)
            settle(self.members, 1)
        group = self.described()
        if group is None or not group.members:
            return
        assert group.state == "Stable", group
        live = {member.member_id: member for member in self.members if member.error is None}
        assert {m.member_id for m in group.members} == set(live)
        given = sorted(place for member in live.values() for place in member.has)
        wanted = set()
        for member in live.values():
            wanted |= (member.names | MATCHES.get(member.pattern or "", set())) & set(self.h.topics)
        topics = [self.h.topics[name] for name in wanted]
        assert given == sorted((topic.id, index) for topic in topics for index in range(topic.partitions))
        for described in group.members:
            assert described.assignment == described.target == live[described.member_id].assignment
            assert described.member_epoch == group.group_epoch == live[described.member_id].epoch

    # --- what must hold ---------------------------------------------------------------------------

    def described(self):
        try:
            return self.h.service.describe_consumers("g")
        except BrokerError:
            return None

    @invariant()
    def check(self) -> None:
        if not hasattr(self, "h"):
            return
        group = self.described()
        if group is None:
            assert self.epochs == (0, 0)
            return
        assert group.group_epoch >= self.epochs[0]
        assert group.assignment_epoch >= self.epochs[1]
        assert group.assignment_epoch <= group.group_epoch
        self.epochs = group.group_epoch, group.assignment_epoch
        assert (group.state == "Empty") == (not group.members)
        assert len(group.members) <= 6

        automaton = self.h.service._directory.consumers._groups["g"].automaton
        owners = {}
        for member in automaton.members:
            for held in (member.assigned, member.revoking):
                for topic, indexes in held.items():
                    for index in indexes:
                        assert (topic, index) not in owners
                        owners[topic, index] = member.member_id
            assert member.epoch <= group.assignment_epoch
        assert automaton.members.owners == owners
        assert sum(automaton.members.subscribers.values()) == sum(len(m.topics) for m in automaton.members)
        assert set(automaton.members.by_instance.values()) == {
            m.member_id for m in automaton.members if m.instance_id is not None
        }

        # What members consume, as far as the group still counts on them, no two do.
        known = {m.member_id for m in group.members}
        consumed = [
            (topic, index)
            for member in self.members
            if member.member_id in known and member.epoch
            for topic, indexes in member.owned.items()
            for index in indexes
        ]
        assert len(consumed) == len(set(consumed))

    def teardown(self) -> None:
        if not hasattr(self, "h"):
            return
        self.calm()
        self.members = []
        self.h.advance(60, step=5.0)
        group = self.described()
        assert group is None or group.state == "Empty"
        self.h.restart()
        assert self.described() == group
        self.h.service.stop()
        assert self.h.clock.getDelayedCalls() == []


ConsumerGroupMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
ConsumerGroupTest = ConsumerGroupMachine.TestCase
