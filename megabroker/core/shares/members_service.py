"""The members of all share groups: their automata, their time, and what is stored of them.

Owns the table ``share_groups`` and the timers of members; the rules are the automaton's.

Table ``share_groups``: key ``["<group>"]`` holds ``{"epoch": int, "assignment_epoch": int}``, key
``["<group>","<member>"]`` one member (``membership``). Members outlive a restart and have a session timeout
to be heard again.

Invariant: an answer leaves when everything it says is stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.actions import SetTimer, TimerKey
from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.shares.assignor import SIMPLE
from megabroker.core.shares.membership import ShareGroupAutomaton, ShareMember, check_heartbeat
from megabroker.core.shares.settings import ShareSettings
from megabroker.core.timers import TimerHandle, TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import (
    Change,
    ConsumerHeartbeatAnswer,
    ShareGroupDescription,
    ShareHeartbeat,
    ShareMemberDescription,
    Topic,
)

__all__ = ["SHARE_GROUPS_TABLE", "ShareMembers"]

SHARE_GROUPS_TABLE = "share_groups"

_log = Logger()


class _Group:
    """One automaton and what the service keeps for it."""

    __slots__ = ("automaton", "dead", "group_id", "timers", "writes")

    def __init__(self, group_id: str, automaton: ShareGroupAutomaton) -> None:
        self.group_id = group_id
        self.automaton = automaton
        self.timers: dict[TimerKey, TimerHandle] = {}
        self.writes = 0
        self.dead = False


class ShareMembers:
    """The membership of all share groups.

    Args:
        topics: returns all topics.
        has_offsets: whether a group has anything but members; without either it is forgotten.
    """

    def __init__(
        self,
        timers: TimerWheel,
        writes: OrderedWrites,
        settings: ShareSettings,
        configs: GroupConfigs,
        topics: Callable[[], Sequence[Topic]],
        has_offsets: Callable[[str], bool],
    ) -> None:
        self._has_offsets = has_offsets
        self._timers = timers
        self._writes = writes
        self._settings = settings
        self._configs = configs
        self._view = TopicsView(topics)
        self._groups: dict[str, _Group] = {}
        self._watch: TimerHandle | None = None

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._groups

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin from what the store holds. A row that is none is logged and left alone."""
        self._view.look()
        heads: dict[str, tuple[int, int]] = {}
        members: dict[str, list[ShareMember]] = {}
        for key, row in rows.items():
            try:
                group_id, *rest = json.loads(key)
                if rest:
                    members.setdefault(group_id, []).append(ShareMember.from_row(rest[0], row))
                else:
                    heads[group_id] = int(row["epoch"]), int(row["assignment_epoch"])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable share group {key!r}: {error}", key=key, error=error)
        for group_id, (epoch, assignment_epoch) in heads.items():
            group = self._groups[group_id] = _Group(group_id, self._automaton(group_id))
            group.automaton.restore(epoch, assignment_epoch, members.get(group_id, []))
            self._set_timers(group)

    def _automaton(self, group_id: str) -> ShareGroupAutomaton:
        return ShareGroupAutomaton(
            self._view,
            self._settings.max_members,
            self._configs.number(group_id, "share.session.timeout.ms"),
            self._configs.number(group_id, "share.heartbeat.interval.ms"),
        )

    def reconfigure(self, group_id: str) -> None:
        """Follow a group's changed configuration."""
        group = self._groups.get(group_id)
        if group is not None:
            automaton = group.automaton
            automaton.session_timeout_ms = self._configs.number(group_id, "share.session.timeout.ms")
            automaton.heartbeat_interval_ms = self._configs.number(group_id, "share.heartbeat.interval.ms")

    # --- membership -------------------------------------------------------------------------------

    def heartbeat(self, request: ShareHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """A member joins, lives on or leaves; fires when what it is told is stored."""
        try:
            check_heartbeat(request)
            group = self._groups.get(request.group_id)
            is_new = group is None
            if group is None:
                if request.member_epoch != 0:
                    raise refusal(ErrorCode.GROUP_NOT_FOUND)
                group = _Group(request.group_id, self._automaton(request.group_id))
            if request.topic_names is not None:
                self.look_at_topics()
            answer = group.automaton.heartbeat(request)
        except BrokerError as error:
            return fail(error)
        if is_new:
            self._groups[request.group_id] = group
        stored = self._carry_out(group)
        return succeed(answer) if stored is None else stored.addCallback(lambda _: answer)

    def create(self, group_id: str) -> Deferred[None]:
        """Make sure that there is a group, without members if it is new; fires when that is stored."""
        if group_id in self._groups:
            return succeed(None)
        group = self._groups[group_id] = _Group(group_id, self._automaton(group_id))
        return self._writes.write([self._head(group)], lambda: None)

    def _carry_out(self, group: _Group) -> Deferred[None] | None:
        """Set the timers, store what has changed; return what fires when that is done, None if it is."""
        self._set_timers(group)
        automaton = group.automaton
        changes = automaton.take_changes()
        if not changes and not group.writes:
            return None
        rows = [self._head(group)]
        if changes.removed and not automaton and not self._has_offsets(group.group_id):
            self.forget(group.group_id)
            rows = self.removal(group.group_id)
        for member_id in sorted(changes.removed):
            rows.append(Change(SHARE_GROUPS_TABLE, _key(group.group_id, member_id), None))
        for member_id in sorted(changes.members):
            member = automaton.get(member_id)
            assert member is not None
            rows.append(Change(SHARE_GROUPS_TABLE, _key(group.group_id, member_id), member.to_row()))
        group.writes += 1

        def ended(result: Any) -> Any:
            group.writes -= 1
            if isinstance(result, Failure):
                automaton.give_back(changes)
            return result

        return self._writes.write(rows, lambda: None).addBoth(ended)

    def _head(self, group: _Group) -> Change:
        row = {"epoch": group.automaton.epoch, "assignment_epoch": group.automaton.assignment_epoch}
        return Change(SHARE_GROUPS_TABLE, _key(group.group_id), row)

    def _set_timers(self, group: _Group) -> None:
        for action in group.automaton.take_actions():
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
            stored.addErrback(_log_failure)

    # --- topics -----------------------------------------------------------------------------------

    def look_at_topics(self) -> None:
        """Take note of topics that are new, gone or grown."""
        if self._view.look():
            for group in list(self._groups.values()):
                if group.automaton.topics_changed():
                    self._carry_out_later(group)

    def _watch_topics(self) -> None:
        if self._watch is None and any(group.timers for group in self._groups.values()):
            self._watch = self._timers.call_later(self._settings.topics_interval_ms, self._look)

    def _look(self) -> None:
        self._watch = None
        self.look_at_topics()
        self._watch_topics()

    # --- asking and going -------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Return the ids of all groups."""
        return list(self._groups)

    def state(self, group_id: str) -> str:
        """Return what a group is doing, in Kafka's word."""
        return self._groups[group_id].automaton.state

    def is_empty(self, group_id: str) -> bool:
        """Whether a group has no members."""
        return not self._groups[group_id].automaton

    def subscribed(self, group_id: str) -> set[str]:
        """Return the names of the topics a group subscribes to."""
        return {name for member in self._groups[group_id].automaton for name in member.topic_names}

    def describe(self, group_id: str) -> ShareGroupDescription:
        """Describe one group, which must be there."""
        automaton = self._groups[group_id].automaton
        return ShareGroupDescription(
            group_id,
            automaton.state,
            automaton.epoch,
            automaton.assignment_epoch,
            SIMPLE,
            [
                ShareMemberDescription(
                    member.member_id,
                    member.rack_id,
                    member.epoch,
                    member.client_id,
                    member.client_host,
                    sorted(member.topic_names),
                    member.assigned,
                )
                for member in automaton
            ],
        )

    def removal(self, group_id: str) -> list[Change]:
        """Return the changes that delete what is stored of a group without members."""
        return [Change(SHARE_GROUPS_TABLE, _key(group_id), None)]

    def forget(self, group_id: str) -> None:
        """Forget a group without members."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            group.dead = True
            for timer in group.timers.values():
                timer.cancel()
            group.timers.clear()


def _key(*parts: str) -> str:
    return json.dumps(parts, separators=(",", ":"))


def _log_failure(failure: Failure) -> None:
    _log.failure("could not store a share group", failure=failure)
