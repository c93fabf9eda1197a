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

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.actions import SetTimer, TimerKey
from megabroker.core.groups.consumer_automaton import check_heartbeat
from megabroker.core.groups.consumer_members import ConsumerMember
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.mixed_automaton import MixedGroupAutomaton
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.groups.settings import GroupSettings
from megabroker.core.timers import TimerHandle, TimerWheel
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

_log = Logger()


class _Group:
    """One automaton and what the service keeps for it."""

    __slots__ = ("automaton", "dead", "empty_since_ms", "group_id", "timers", "writes")

    def __init__(self, group_id: str, automaton: MixedGroupAutomaton, empty_since_ms: int) -> None:
        self.group_id = group_id
        self.automaton = automaton
        self.empty_since_ms = empty_since_ms
        self.timers: dict[TimerKey, TimerHandle] = {}
        self.writes = 0
        self.dead = False


class ConsumerGroups:
    """All groups of the consumer protocol this broker coordinates.

    Args:
        topics: returns all topics.
        new_member_id: makes a fresh id of a client's or instance's name.
        downgrade: takes a group over whose members are all classic ones now; returns what fires when that is
            stored, or None when the group stays.

    Attributes:
        view: the topics as these groups see them.
    """

    def __init__(
        self,
        timers: TimerWheel,
        writes: OrderedWrites,
        settings: GroupSettings,
        topics: Callable[[], Sequence[Topic]],
        new_member_id: Callable[[str], str],
        downgrade: Callable[[str, MixedGroupAutomaton], Deferred[None] | None],
    ) -> None:
        self._timers = timers
        self._writes = writes
        self._settings = settings
        self._settings_of: Callable[[str], GroupSettings] = lambda group_id: settings
        self._new_member_id = new_member_id
        self._downgrade = downgrade
        self.view = TopicsView(topics)
        self._groups: dict[str, _Group] = {}
        self._watch: TimerHandle | None = None

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._groups

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin from what the store holds. A row that is none is logged and left alone."""
        self.view.look()
        heads: dict[str, tuple[int, int, int | None]] = {}
        members: dict[str, list[ConsumerMember]] = {}
        for key, row in rows.items():
            try:
                group_id, *rest = json.loads(key)
                if rest:
                    members.setdefault(group_id, []).append(ConsumerMember.from_row(rest[0], row))
                else:
                    since_ms = row["empty_since_ms"]
                    heads[group_id] = (
                        int(row["epoch"]),
                        int(row["assignment_epoch"]),
                        None if since_ms is None else int(since_ms),
                    )
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable consumer group {key!r}: {error}", key=key, error=error)
        now_ms = self._timers.now_ms()
        for group_id, (epoch, assignment_epoch, empty_since_ms) in heads.items():
            since_ms = now_ms if empty_since_ms is None else empty_since_ms
            automaton = self.begin()
            automaton.settings = self._settings_of(group_id)
            group = self._groups[group_id] = _Group(group_id, automaton, since_ms)
            automaton.restore(epoch, assignment_epoch, members.get(group_id, []))
            self._set_timers(group)

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
                group = _Group(request.group_id, begun or self.begin(), self._timers.now_ms())
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

    def _carry_out(self, group: _Group, also: Sequence[Change] = ()) -> Deferred[None] | None:
        """Set the timers, store what has changed; return what fires when that is done, None if it is."""
        automaton = group.automaton
        if automaton.turns_classic and not group.dead:
            stored = self._downgrade(group.group_id, automaton)
            if stored is not None:
                return stored
        self._set_timers(group)
        changes = automaton.take_changes()
        if not changes and not also:
            if not group.writes:
                return None
            # What was changed before is still on its way, and this answer may tell of it.
            changes = changes._replace(group=True)
        if not automaton.members:
            group.empty_since_ms = self._timers.now_ms()
        rows = [*also, Change(CONSUMER_GROUPS_TABLE, _key(group.group_id), self._head(group))]
        for member_id in sorted(changes.removed):
            rows.append(Change(CONSUMER_GROUPS_TABLE, _key(group.group_id, member_id), None))
        for member_id in sorted(changes.members):
            member = automaton.members.get(member_id)
            assert member is not None
            rows.append(Change(CONSUMER_GROUPS_TABLE, _key(group.group_id, member_id), member.to_row()))
        group.writes += 1

        def ended(result: Any) -> Any:
            group.writes -= 1
            if isinstance(result, Failure):
                automaton.give_back(changes)
            return result

        return self._writes.write(rows, lambda: None).addBoth(ended)

    def _head(self, group: _Group) -> dict[str, Any]:
        automaton = group.automaton
        return {
            "epoch": automaton.epoch,
            "assignment_epoch": automaton.assignment_epoch,
            "empty_since_ms": None if automaton.members else group.empty_since_ms,
        }

    def _set_timers(self, group: _Group) -> None:
        for action in group.automaton.take_actions():
            if isinstance(action, SetTimer) and action.keep and action.key in group.timers:
                continue
            timer = group.timers.pop(action.key, None)
            if timer is not None:
                timer.cancel()
            if isinstance(action, SetTimer) and not group.dead:
                callback = partial(self._timer_fired, group, action.key)
                group.timers[action.key] = self._timers.call_later(action.delay_ms, callback)
        self._watch_topics()

    def _timer_fired(self, group: _Group, key: TimerKey) -> None:
        del group.timers[key]
        group.automaton.timer_fired(key)
        self._carry_out_later(group)

    def _carry_out_later(self, group: _Group) -> None:
        stored = self._carry_out(group)
        if stored is not None:
            stored.addErrback(_log_failure, "store a consumer group")

    # --- topics -----------------------------------------------------------------------------------

    def look_at_topics(self) -> None:
        """Take note of topics that are new, gone or grown."""
        if self.view.look():
            for group in list(self._groups.values()):
                if group.automaton.topics_changed():
                    self._carry_out_later(group)

    def _watch_topics(self) -> None:
        if self._watch is None and any(group.timers for group in self._groups.values()):
            self._watch = self._timers.call_later(self._settings.consumer_topics_interval_ms, self._look)

    def _look(self) -> None:
        self._watch = None
        self.look_at_topics()
        self._watch_topics()

    def subscribed_topics(self, group_id: str) -> Set[str]:
        """Return the names of the topics a group subscribes to."""
        automaton = self._groups[group_id].automaton
        names = {self.view.name(topic) for topic in automaton.members.subscribers}
        for member in automaton.members:
            names |= member.topic_names
        return names

    # --- asking -----------------------------------------------------------------------------------

    def ids(self) -> Iterable[str]:
        """Return the ids of all groups."""
        return list(self._groups)

    def empty_since_ms(self, group_id: str) -> int:
        """Return since when a group has had no members, if it has none."""
        return self._groups[group_id].empty_since_ms

    def is_vacant(self, group_id: str) -> bool:
        """Whether there is such a group, without members."""
        group = self._groups.get(group_id)
        return group is not None and not group.automaton.members

    def epoch(self, group_id: str) -> int:
        """Return a group's epoch."""
        return self._groups[group_id].automaton.epoch

    def check_commit(self, group_id: str, member_id: str, epoch: int) -> None:
        """Raise StateError unless offsets may be committed: by a member in its epoch, or while empty."""
        automaton = self._groups[group_id].automaton
        if epoch < 0 and not automaton.members:
            return
        automaton.check_epoch(member_id, epoch)

    def check_member(self, group_id: str, member_id: str, epoch: int) -> None:
        """Raise StateError unless this is a member, in this epoch."""
        self._groups[group_id].automaton.check_epoch(member_id, epoch)

    def describe(self, group_id: str) -> ConsumerGroupDescription:
        """Describe one group. Raises StateError (GROUP_NOT_FOUND)."""
        group = self._groups.get(group_id)
        if group is None:
            raise refusal(ErrorCode.GROUP_NOT_FOUND)
        automaton = group.automaton
        return ConsumerGroupDescription(
            group_id,
            automaton.state.value,
            automaton.epoch,
            automaton.assignment_epoch,
            automaton.assignor,
            [
                DescribedMember(
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
                for member in automaton.members
            ],
        )

    def summaries(self) -> list[GroupSummary]:
        """List every group."""
        return [
            GroupSummary(group_id, "consumer", group.automaton.state.value, "consumer")
            for group_id, group in self._groups.items()
        ]

    # --- groups going -----------------------------------------------------------------------------

    def removal(self, group_id: str) -> list[Change]:
        """Return the changes that delete what is stored of a group and of those that are or were in it."""
        automaton = self._groups[group_id].automaton
        members = {member.member_id for member in automaton.members} | automaton.removed
        return [
            Change(CONSUMER_GROUPS_TABLE, _key(group_id), None),
            *(Change(CONSUMER_GROUPS_TABLE, _key(group_id, one), None) for one in sorted(members)),
        ]

    def forget(self, group_id: str) -> None:
        """Forget a group."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            group.dead = True
            for timer in group.timers.values():
                timer.cancel()
            group.timers.clear()


def _key(*parts: str) -> str:
    return json.dumps(parts, separators=(",", ":"))


def _log_failure(failure: Failure, what: str) -> None:
    _log.failure("could not {what}", failure=failure, what=what)
