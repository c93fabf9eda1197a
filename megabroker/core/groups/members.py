"""The members of one group, and what the group knows about them together.

Owns the counts that make a rebalance linear in the number of members: how many wait for a join to be
answered, how many support each protocol, which member a static instance id means. Decides nothing and
answers nobody.

Invariant: ``awaiting`` is the number of members with a join ticket, ``away`` that of static ones without;
``supported`` counts each member once per protocol name, ``by_instance`` holds exactly the static members,
``leader`` is a member or empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import attrs

from megabroker.core.groups.actions import Ticket
from megabroker.model import JoinedMember, JoinRequest

__all__ = ["Member", "Members", "rebalance_timeout_ms"]


@attrs.define(eq=False)
class Member:
    """One member.

    Attributes:
        assignment: what the leader gave it; empty until then.
        is_new: its first join has not been answered yet, so it may not know its own id.
        join_ticket: its join, waiting for the rebalance to complete.
        sync_ticket: its sync, waiting for the leader's.
    """

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    assignment: bytes = b""
    is_new: bool = False
    join_ticket: Ticket | None = None
    sync_ticket: Ticket | None = None

    def metadata(self, protocol_name: str | None) -> bytes:
        """Return what the member sent for one protocol, empty if nothing."""
        for name, metadata in self.protocols:
            if name == protocol_name:
                return metadata
        return b""


class Members:
    """All members of a group, in order of joining."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self.by_instance: dict[str, str] = {}
        self.supported: Counter[str] = Counter()
        self.awaiting = 0
        self.away = 0
        self.leader = ""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def get(self, member_id: str) -> Member | None:
        """Return a member by id."""
        return self._members.get(member_id)

    def add(self, member: Member) -> None:
        """Add a member; the first one leads."""
        self._members[member.member_id] = member
        if member.instance_id is not None:
            self.by_instance[member.instance_id] = member.member_id
        self.supported.update({name for name, _ in member.protocols})
        self._count(member, 1)
        self.leader = self.leader or member.member_id

    def remove(self, member: Member) -> None:
        """Remove a member; when it led, the longest-standing one leads."""
        del self._members[member.member_id]
        if member.instance_id is not None:
            del self.by_instance[member.instance_id]
        self._forget_protocols(member)
        self._count(member, -1)
        if self.leader == member.member_id:
            self.leader = next(iter(self._members), "")

    def rename(self, member: Member, member_id: str) -> None:
        """Give a static member a new id; it keeps its assignment and, if it led, the lead."""
        del self._members[member.member_id]
        if self.leader == member.member_id:
            self.leader = member_id
        member.member_id = member_id
        self._members[member_id] = member
        if member.instance_id is not None:
            self.by_instance[member.instance_id] = member_id

    def update(self, member: Member, request: JoinRequest, rebalance_timeout_ms: int) -> None:
        """Take over what a rejoin says."""
        self._forget_protocols(member)
        member.protocols = request.protocols
        self.supported.update({name for name, _ in member.protocols})
        member.client_id = request.client_id
        member.client_host = request.client_host
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = rebalance_timeout_ms

    def set_join_ticket(self, member: Member, ticket: Ticket | None) -> Ticket | None:
        """Set or clear what waits for the rebalance; return what waited before."""
        self._count(member, -1)
        before, member.join_ticket = member.join_ticket, ticket
        self._count(member, 1)
        return before

    def _count(self, member: Member, count: int) -> None:
        if member.join_ticket is not None:
            self.awaiting += count
        elif member.instance_id is not None:
            self.away += count

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader is a member whose join waits; return whether there is one."""
        leader = self._members.get(self.leader)
        if leader is not None and leader.join_ticket is not None:
            return True
        for member in self._members.values():
            if member.join_ticket is not None:
                self.leader = member.member_id
                return True
        return False

    def supports_any(self, protocols: tuple[tuple[str, bytes], ...]) -> bool:
        """Whether one of ``protocols`` is supported by every member."""
        return any(self.supported[name] == len(self._members) for name, _ in protocols)

    def select_protocol(self) -> str | None:
        """Return the protocol most members prefer among those that all support; None without any."""
        votes: Counter[str] = Counter()
        for member in self._members.values():
            for name, _ in member.protocols:
                if self.supported[name] == len(self._members):
                    votes[name] += 1
                    break
        return max(votes, key=votes.__getitem__, default=None)

    def rebalance_timeout_ms(self) -> int:
        """Return the longest rebalance timeout any member asks for."""
        return max((member.rebalance_timeout_ms for member in self._members.values()), default=0)

    def for_leader(self, protocol_name: str | None) -> tuple[JoinedMember, ...]:
        """Return all members as their leader is told of them."""
        return tuple(
            JoinedMember(member.member_id, member.instance_id, member.metadata(protocol_name))
            for member in self._members.values()
        )

    def _forget_protocols(self, member: Member) -> None:
        for name in {name for name, _ in member.protocols}:
            self.supported[name] -= 1
            if not self.supported[name]:
                del self.supported[name]


def rebalance_timeout_ms(request: JoinRequest) -> int:
    """Return how long a member may take to rejoin; JoinGroup v0 has none and means the session timeout."""
    return request.rebalance_timeout_ms if request.rebalance_timeout_ms >= 0 else request.session_timeout_ms
