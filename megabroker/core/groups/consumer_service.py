"""Groups of the consumer protocol: their automata, their time, and what is stored of them.

Owns the table ``consumer_groups`` and the timers of such groups; the rules are the automaton's. The group
service asks it for the groups it has, and owns what groups of both protocols share: names and offsets.

Table ``consumer_groups``: key ``["<group>"]`` holds ``{"epoch": int, "assignment_epoch": int,
"empty_since_ms": int or null}``, key ``["<group>","<member>"]`` one member (``consumer_members``). Members
outlive a restart: they go on with their epochs and partitions, and have a session timeout to be heard again.

Invariant: an answer leaves when everything it says is stored, so that after a crash nobody has an epoch or a
partition the broker does not know of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from megabroker.core.groups.committing_groups import CommittingGroups
from megabroker.core.groups.consumer_automaton import check_heartbeat
from megabroker.core.groups.consumer_members import ConsumerMember
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.kept_groups import KeptGroup
from megabroker.core.groups.mixed_automaton import MixedGroupAutomaton
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.groups.settings import GroupSettings
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import (
    Change,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    GroupSummary,
    JoinedGroup,
    JoinRequest,
    LeavingMember,
    Subscription,
    SyncRequest,
    Topic,
    TopicAssignment,
)
from megabroker.model import ConsumerMember as DescribedMember

__all__ = ["CONSUMER_GROUPS_TABLE", "ConsumerGroups"]

CONSUMER_GROUPS_TABLE = "consumer_groups"


class ConsumerGroups(CommittingGroups[MixedGroupAutomaton]):
    """All groups of the consumer protocol this broker coordinates.

    Args:
        topics: returns all topics.
        new_member_id: makes a fresh id of a client's or instance's name.
        downgrade: takes a group over whose members are all classic ones now; returns what fires when that is
            stored, or None when the group stays.
    """

    table = CONSUMER_GROUPS_TABLE

    def __init__(
        self,
        timers: TimerWheel,
        writes: OrderedWrites,
        settings: GroupSettings,
        topics: Callable[[], Sequence[Topic]],
        new_member_id: Callable[[str], str],
        downgrade: Callable[[str, MixedGroupAutomaton], Deferred[None] | None],
    ) -> None:
        super().__init__(timers, writes, TopicsView(topics), settings.consumer_topics_interval_ms)
        self._settings = settings
        self._settings_of: Callable[[str], GroupSettings] = lambda group_id: settings
        self._new_member_id = new_member_id
        self._downgrade = downgrade

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin from what the store holds. A row that is none is logged and left alone."""
        self.view.look()
        heads, members = self._read(rows, _head_of, ConsumerMember.from_row)
        for group_id, (epoch, assignment_epoch, empty_since_ms) in heads.items():
            automaton = self.begin()
            automaton.settings = self._settings_of(group_id)
            automaton.restore(epoch, assignment_epoch, members.get(group_id, []))
            self._keep(group_id, automaton, empty_since_ms)

    def configure(self, settings_of: Callable[[str], GroupSettings]) -> None:
        """Have groups kept as ``settings_of`` says of each."""
        self._settings_of = settings_of
        for group_id in self._groups:
            self.reconfigure(group_id)

    def reconfigure(self, group_id: str) -> None:
        """Follow a group's changed configuration; sessions do so from the next heartbeat on."""
        group = self._groups.get(group_id)
        if group is not None:
            group.automaton.settings = self._settings_of(group_id)

    # --- membership -------------------------------------------------------------------------------

    def begin(self, epoch: int = 0) -> MixedGroupAutomaton:
        """Return a new group without members, to be kept when the first one has joined."""
        return MixedGroupAutomaton(self._settings, self.view, epoch)

    def heartbeat(
        self,
        request: ConsumerHeartbeat,
        begun: MixedGroupAutomaton | None = None,
        also: Sequence[Change] = (),
        created: Callable[[], None] | None = None,
    ) -> Deferred[ConsumerHeartbeatAnswer]:
        """A member joins, lives on or leaves; fires when what it is told is stored.

        Args:
            begun: a new group to begin with, in the place of a classic one.
            also: changes to be stored with those of a new group.
            created: called when the request has made a new group.
        """
        try:
            check_heartbeat(request)
            group = self._groups.get(request.group_id)
            is_new = group is None
            if group is None:
                if request.member_epoch != 0:
                    raise refusal(ErrorCode.GROUP_NOT_FOUND)
                group = KeptGroup(request.group_id, begun or self.begin(), self._timers.now_ms())
                group.automaton.settings = self._settings_of(request.group_id)
            if request.topic_names is not None or request.topic_pattern is not None:
                self.look_at_topics()
            fresh_id = "" if request.member_id else self._new_member_id(request.client_id)
            answer = group.automaton.heartbeat(request, fresh_id)
        except BrokerError as error:
            return fail(error)
        if is_new:
            self._groups[request.group_id] = group
            if created is not None:
                created()
        stored = self._carry_out(group, also)
        if stored is None:
            return succeed(answer)
        return stored.addCallback(lambda _: answer)

    def classic_join(self, request: JoinRequest, subscription: Subscription) -> Deferred[JoinedGroup]:
        """A member of the classic protocol joins; fires when what it is told is stored."""
        group = self._groups[request.group_id]
        self.look_at_topics()
        fresh_id = "" if request.member_id else self._new_member_id(request.instance_id or request.client_id)
        try:
            joined = group.automaton.classic_join(request, subscription, fresh_id)
        except BrokerError as error:
            return fail(error)
        stored = self._carry_out(group)
        return succeed(joined) if stored is None else stored.addCallback(lambda _: joined)

    def classic_sync(self, request: SyncRequest) -> Deferred[tuple[str, int, TopicAssignment]]:
        """A classic member asks what it may consume; fires when that is stored, as the automaton says."""
        group = self._groups[request.group_id]
        try:
            synced = group.automaton.classic_sync(request)
        except BrokerError as error:
            self._set_timers(group)
            return fail(error)
        stored = self._carry_out(group)
        return succeed(synced) if stored is None else stored.addCallback(lambda _: synced)

    def classic_heartbeat(
        self, group_id: str, generation: int, member_id: str, instance_id: str | None
    ) -> None:
        """A classic member is alive. Raises BrokerError (REBALANCE_IN_PROGRESS included)."""
        group = self._groups[group_id]
        try:
            group.automaton.classic_heartbeat(generation, member_id, instance_id)
        finally:
            self._set_timers(group)

    def classic_leave(self, group_id: str, members: Sequence[LeavingMember]) -> Sequence[BrokerError | None]:
        """Classic members want out; return one outcome each."""
        group = self._groups[group_id]
        outcomes = group.automaton.classic_leave(members)
        self._carry_out_later(group)
        return outcomes

    def _carry_out(
        self, group: KeptGroup[MixedGroupAutomaton], also: Sequence[Change] = ()
    ) -> Deferred[None] | None:
        automaton = group.automaton
        if automaton.turns_classic and not group.dead:
            stored = self._downgrade(group.group_id, automaton)
            if stored is not None:
                return stored
        return super()._carry_out(group, also)

    def _head(self, group: KeptGroup[MixedGroupAutomaton]) -> dict[str, Any]:
        automaton = group.automaton
        return {
            "epoch": automaton.epoch,
            "assignment_epoch": automaton.assignment_epoch,
            "empty_since_ms": None if automaton.members else group.empty_since_ms,
        }

    def subscribed_topics(self, group_id: str) -> Set[str]:
        """Return the names of the topics a group subscribes to."""
        automaton = self._groups[group_id].automaton
        names = {self.view.name(topic) for topic in automaton.members.subscribers}
        for member in automaton.members:
            names |= member.topic_names
        return names

    # --- asking -----------------------------------------------------------------------------------

    def describe(self, group_id: str) -> ConsumerGroupDescription:
        """Describe one group. Raises StateError (GROUP_NOT_FOUND)."""
        automaton = self._known(group_id).automaton
        return ConsumerGroupDescription(
            group_id,
            automaton.state.value,
            automaton.epoch,
            automaton.assignment_epoch,
            automaton.assignor,
            [_described(member) for member in automaton.members],
        )

    def member(self, group_id: str, member_id: str) -> DescribedMember | None:
        """Describe one member, if it is one. Raises StateError (GROUP_NOT_FOUND)."""
        member = self._known(group_id).automaton.members.get(member_id)
        return None if member is None else _described(member)

    def summaries(self) -> list[GroupSummary]:
        """List every group."""
        return [
            GroupSummary(group_id, "consumer", group.automaton.state.value, "consumer")
            for group_id, group in self._groups.items()
        ]


def _head_of(row: Any) -> tuple[int, int, int | None]:
    since_ms = row["empty_since_ms"]
    return int(row["epoch"]), int(row["assignment_epoch"]), None if since_ms is None else int(since_ms)


def _described(member: ConsumerMember) -> DescribedMember:
    return DescribedMember(
        member.member_id,
        member.instance_id,
        member.rack_id,
        member.epoch,
        member.client_id,
        member.client_host,
        sorted(member.topic_names),
        member.topic_pattern or None,
        member.assigned,
        member.target,
        member.classic is not None,
    )
