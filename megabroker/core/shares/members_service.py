"""The members of all share groups: their automata, their time, and what is stored of them.

Owns the table ``share_groups`` and the timers of members; the rules are the automaton's.

Table ``share_groups``: key ``["<group>"]`` holds ``{"epoch": int, "assignment_epoch": int}``, key
``["<group>","<member>"]`` one member (``membership``). Members outlive a restart and have a session timeout
to be heard again.

Invariant: an answer leaves when everything it says is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.kept_groups import KeptGroup, KeptGroups
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.groups.outbox import Changes
from megabroker.core.groups.room import Room, named_bytes, said_bytes
from megabroker.core.shares.assignor import SIMPLE
from megabroker.core.shares.membership import ShareGroupAutomaton, ShareMember, check_heartbeat
from megabroker.core.shares.settings import ShareSettings
from megabroker.core.timers import TimerWheel
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


class ShareMembers(KeptGroups[ShareGroupAutomaton]):
    """The membership of all share groups.

    Args:
        topics: returns all topics.
        has_offsets: whether a group has anything but members; without either it is forgotten.

    Attributes:
        room: what all of them may take together.
    """

    table = SHARE_GROUPS_TABLE

    def __init__(
        self,
        timers: TimerWheel,
        writes: OrderedWrites,
        settings: ShareSettings,
        configs: GroupConfigs,
        topics: Callable[[], Sequence[Topic]],
        has_offsets: Callable[[str], bool],
    ) -> None:
        super().__init__(timers, writes, TopicsView(topics), settings.topics_interval_ms)
        self._has_offsets = has_offsets
        self._settings = settings
        self._configs = configs
        self.room = Room(
            settings.max_groups, settings.max_member_bytes, self.__len__, self._said_bytes, timers.now_ms
        )

    def _said_bytes(self) -> int:
        return named_bytes(member.topic_names for automaton in self.automata() for member in automaton)

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin from what the store holds. A row that is none is logged and left alone."""
        self.view.look()
        heads, members = self._read(rows, _head_of, ShareMember.from_row)
        for group_id, (epoch, assignment_epoch) in heads.items():
            automaton = self._automaton(group_id)
            automaton.restore(epoch, assignment_epoch, members.get(group_id, []))
            self._keep(group_id, automaton, None)

    def _automaton(self, group_id: str) -> ShareGroupAutomaton:
        return ShareGroupAutomaton(
            self.view,
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
                self.room.check_group()
                group = self._begun(request.group_id)
            if size_bytes := said_bytes(request):
                self.room.take(size_bytes)
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
        try:
            self.room.check_group()
        except BrokerError as error:
            return fail(error)
        group = self._groups[group_id] = self._begun(group_id)
        return self._writes.write(self._rows(group, group.automaton.take_changes()), lambda: None)

    def _begun(self, group_id: str) -> KeptGroup[ShareGroupAutomaton]:
        return KeptGroup(group_id, self._automaton(group_id), self._timers.now_ms())

    def _rows(self, group: KeptGroup[ShareGroupAutomaton], changes: Changes) -> list[Change]:
        rows = super()._rows(group, changes)
        if changes.removed and group.vacant and not self._has_offsets(group.group_id):
            rows += self.removal(group.group_id)
            self.forget(group.group_id)
        return rows

    def _head(self, group: KeptGroup[ShareGroupAutomaton]) -> dict[str, Any]:
        return {"epoch": group.automaton.epoch, "assignment_epoch": group.automaton.assignment_epoch}

    # --- asking and going -------------------------------------------------------------------------

    def state(self, group_id: str) -> str:
        """Return what a group is doing, in Kafka's word."""
        return self._groups[group_id].automaton.state

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


def _head_of(row: Any) -> tuple[int, int]:
    return int(row["epoch"]), int(row["assignment_epoch"])
