"""The members of one share group (KIP-932) as a state machine.

Owns the epochs of the group, its members and what each is to consume. Takes heartbeats, returns answers or
refusals; timers to be set gather as actions (``take_actions``), what is to be stored as ids
(``take_changes``). Must never know a clock, a Deferred, a store or a wire.

    Empty --join--> Stable --the last member leaves or is silent--> Empty

A change of members, subscriptions or topics raises the group's epoch; the next heartbeat makes the
assignment of that epoch, and each member comes into it with its own next heartbeat. Nothing is revoked first:
two members may have one partition, and the share partition keeps apart what they acquire in it.

Invariant: a member's epoch is at most the assignment's, and that at most the group's; no epoch goes back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any
from uuid import UUID

import attrs

from megabroker.core.groups.actions import TimerKey, TimerKind
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.targets import TargetAutomaton
from megabroker.core.shares.assignor import Consumer, assign
from megabroker.errors import ErrorCode
from megabroker.model import ConsumerHeartbeatAnswer, ShareHeartbeat, TopicAssignment

__all__ = ["ShareGroupAutomaton", "ShareMember", "check_heartbeat"]

_JOIN_EPOCH = 0
_LEAVE_EPOCH = -1


def check_heartbeat(request: ShareHeartbeat) -> None:
    """Refuse a heartbeat that no group could take. Raises RequestError."""
    if not request.member_id.strip():
        raise refusal(ErrorCode.INVALID_REQUEST, "a member id must not be empty")
    if request.rack_id is not None and not request.rack_id.strip():
        raise refusal(ErrorCode.INVALID_REQUEST, "a rack id must not be empty")
    if request.member_epoch < _LEAVE_EPOCH:
        raise refusal(ErrorCode.INVALID_REQUEST, "a member epoch is -1, 0 or more")
    if request.member_epoch == _JOIN_EPOCH and not request.topic_names:
        raise refusal(ErrorCode.INVALID_REQUEST, "who joins must name topics")


@attrs.define(eq=False)
class ShareMember:
    """One member.

    Attributes:
        topics: ids of the topics it subscribes to, as far as they exist.
        target: what it is to have; ``assigned`` what it has been told.
    """

    member_id: str
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topic_names: frozenset[str] = frozenset()
    topics: frozenset[UUID] = frozenset()
    epoch: int = 0
    previous_epoch: int = 0
    assigned: TopicAssignment = attrs.Factory(dict)
    target: TopicAssignment = attrs.Factory(dict)

    def to_row(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return {
            "rack_id": self.rack_id,
            "client_id": self.client_id,
            "client_host": self.client_host,
            "topic_names": sorted(self.topic_names),
            "epoch": self.epoch,
            "previous_epoch": self.previous_epoch,
            "assigned": {topic.hex: sorted(indexes) for topic, indexes in self.assigned.items()},
            "target": {topic.hex: sorted(indexes) for topic, indexes in self.target.items()},
        }

    @classmethod
    def from_row(cls, member_id: str, row: Mapping[str, Any]) -> ShareMember:
        """Return the member that was stored. Raises ValueError, TypeError, KeyError or AttributeError."""
        return cls(
            member_id,
            None if row["rack_id"] is None else str(row["rack_id"]),
            str(row["client_id"]),
            str(row["client_host"]),
            frozenset(str(name) for name in row["topic_names"]),
            frozenset(),
            int(row["epoch"]),
            int(row["previous_epoch"]),
            _assignment(row["assigned"]),
            _assignment(row["target"]),
        )


class ShareGroupAutomaton(TargetAutomaton):
    """One group.

    Args:
        view: the topics; the caller takes it anew and then calls ``topics_changed``.

    Attributes:
        max_members: of this group.
        session_timeout_ms: how long a member may be silent; counts from its next heartbeat on.
        heartbeat_interval_ms: how often members are told to send heartbeats.
    """

    def __init__(
        self, view: TopicsView, max_members: int, session_timeout_ms: int, heartbeat_interval_ms: int
    ) -> None:
        super().__init__(0)
        self.max_members = max_members
        self.session_timeout_ms = session_timeout_ms
        self.heartbeat_interval_ms = heartbeat_interval_ms
        self._view = view
        self._members: dict[str, ShareMember] = {}
        self._sizes: dict[UUID, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[ShareMember]:
        return iter(list(self._members.values()))

    @property
    def state(self) -> str:
        """What the group is doing, in Kafka's word."""
        return "Stable" if self._members else "Empty"

    def get(self, member_id: str) -> ShareMember | None:
        """Return a member by id."""
        return self._members.get(member_id)

    def member_ids(self) -> Collection[str]:
        """See ``Outbox``."""
        return self._members.keys()

    def kept_member(self, member_id: str) -> ShareMember | None:
        """See ``Outbox``."""
        return self._members.get(member_id)

    def restore(self, epoch: int, assignment_epoch: int, members: list[ShareMember]) -> None:
        """Go on where a group was stored."""
        self.epoch, self.assignment_epoch = epoch, assignment_epoch
        for member in members:
            member.topics = self._view.resolve(member.topic_names, "")
            self._members[member.member_id] = member
            self._set_session(member)
        self._sizes = self._present_sizes()
        if members:
            # Topics may have changed while nobody looked.
            self._bump()

    # --- events -----------------------------------------------------------------------------------

    def heartbeat(self, request: ShareHeartbeat) -> ConsumerHeartbeatAnswer:
        """A member joins, lives on or leaves; ``check_heartbeat`` has accepted the request.

        Raises:
            BrokerError: refused, and nothing has changed: UNKNOWN_MEMBER, FENCED_MEMBER_EPOCH, GROUP_FULL.
        """
        member = self._find(request)
        if request.member_epoch == _LEAVE_EPOCH:
            assert member is not None
            self._remove(member)
            return ConsumerHeartbeatAnswer(member.member_id, _LEAVE_EPOCH, 0)
        if member is None:
            member = self._members[request.member_id] = ShareMember(request.member_id)
            self._note(member)
        self._describe(member, request)
        if self.epoch > self.assignment_epoch:
            self._aim()
        tells = request.member_epoch == _JOIN_EPOCH or request.topic_names is not None
        if member.epoch != self.assignment_epoch or member.assigned != member.target:
            tells = tells or member.assigned != member.target
            member.previous_epoch, member.epoch = member.epoch, self.assignment_epoch
            member.assigned = member.target
            self._note(member)
        self._set_session(member)
        return ConsumerHeartbeatAnswer(
            member.member_id, member.epoch, self.heartbeat_interval_ms, member.assigned if tells else None
        )

    def topics_changed(self) -> bool:
        """The topics have been looked at anew; return whether that concerns this group."""
        for member in self._members.values():
            member.topics = self._view.resolve(member.topic_names, "")
        sizes = self._present_sizes()
        if sizes == self._sizes:
            return False
        self._sizes = sizes
        self._bump()
        return True

    def timer_fired(self, key: TimerKey) -> None:
        """A member has been silent for too long and is removed."""
        member = self._members.get(key.member_id)
        if member is not None:
            self._remove(member)

    # --- small steps ------------------------------------------------------------------------------

    def _find(self, request: ShareHeartbeat) -> ShareMember | None:
        """Return the member that sends this, None when it is new and welcome."""
        member = self._members.get(request.member_id)
        if member is None:
            if request.member_epoch != _JOIN_EPOCH:
                raise refusal(ErrorCode.UNKNOWN_MEMBER)
            if len(self._members) >= self.max_members:
                raise refusal(ErrorCode.GROUP_FULL)
        elif request.member_epoch > 0 and request.member_epoch not in (member.epoch, member.previous_epoch):
            # The previous one will do: the answer that told the new one may have been lost.
            raise refusal(ErrorCode.FENCED_MEMBER_EPOCH)
        return member

    def _describe(self, member: ShareMember, request: ShareHeartbeat) -> None:
        """Take over what a member says of itself."""
        says: dict[str, object] = {"client_id": request.client_id, "client_host": request.client_host}
        if request.rack_id is not None:
            says["rack_id"] = request.rack_id
        if request.topic_names is not None:
            says["topic_names"] = request.topic_names
        for name, value in says.items():
            if getattr(member, name) != value:
                setattr(member, name, value)
                self._note(member)
                if name == "topic_names":
                    member.topics = self._view.resolve(member.topic_names, "")
                    self._sizes = self._present_sizes()
                    self._bump()

    def _remove(self, member: ShareMember) -> None:
        del self._members[member.member_id]
        self._note_removed(member)
        self._cancel(TimerKind.SESSION, member)
        self._sizes = self._present_sizes()
        self._bump()

    def _aim(self) -> None:
        """Make the assignment of the present group epoch."""
        members = list(self._members.values())
        wanted = assign([Consumer(one.member_id, one.topics, one.target) for one in members], self._sizes)
        self._take_targets(members, wanted)

    def _present_sizes(self) -> dict[UUID, int]:
        topics = {topic for member in self._members.values() for topic in member.topics}
        return {topic: self._view.partitions(topic) for topic in topics}

    def _set_session(self, member: ShareMember) -> None:
        self._set_timer(TimerKind.SESSION, member, self.session_timeout_ms)


def _assignment(row: Mapping[str, Any]) -> dict[UUID, frozenset[int]]:
    return {UUID(hex=topic): frozenset(int(index) for index in indexes) for topic, indexes in row.items()}
