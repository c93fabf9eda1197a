"""Classic consumer groups, and the offsets that groups of every kind commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import attrs

from megabroker.errors import BrokerError
from megabroker.model.records import NO_LEADER_EPOCH, NO_TIMESTAMP

__all__ = [
    "CommittedOffset",
    "GroupDescription",
    "GroupMember",
    "GroupSummary",
    "JoinRequest",
    "JoinedGroup",
    "JoinedMember",
    "LeavingMember",
    "Subscription",
    "SyncRequest",
    "SyncedGroup",
]


class CommittedOffset(NamedTuple):
    """A consumer group's position in one partition."""

    offset: int
    leader_epoch: int = NO_LEADER_EPOCH
    metadata: str = ""
    commit_time_ms: int = NO_TIMESTAMP
    expire_time_ms: int = NO_TIMESTAMP


@attrs.frozen
class JoinRequest:
    """A member asking into a classic consumer group.

    Attributes:
        member_id: empty on a first join.
        protocols: (name, opaque metadata) in the member's order of preference.
        require_known_member_id: answer a first join with a fresh id to come back with (JoinGroup v4+).
    """

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    require_known_member_id: bool = False
    supports_skipping_assignment: bool = False


class Subscription(NamedTuple):
    """What a consumer says of itself in the metadata it joins a classic group with.

    Attributes:
        version: of the format it writes, in which its assignment is to be written.
        owned: partitions by topic that it still has; empty for those that give up all before they join.
    """

    version: int
    topics: frozenset[str]
    owned: Mapping[str, frozenset[int]]
    rack_id: str | None = None


class JoinedMember(NamedTuple):
    """A member as the group's leader is told of it."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@attrs.frozen
class JoinedGroup:
    """The answer to a join; ``members`` is empty for all but the leader."""

    generation: int
    protocol_type: str
    protocol_name: str | None
    leader: str
    member_id: str
    members: tuple[JoinedMember, ...] = ()
    skip_assignment: bool = False


@attrs.frozen
class SyncRequest:
    """A member asking for its assignment; the leader brings everybody's."""

    group_id: str
    generation: int
    member_id: str
    instance_id: str | None
    protocol_type: str | None
    protocol_name: str | None
    assignments: Mapping[str, bytes]


@attrs.frozen
class SyncedGroup:
    """The answer to a sync."""

    protocol_type: str
    protocol_name: str | None
    assignment: bytes


class LeavingMember(NamedTuple):
    """A member asking out, by id or by static instance."""

    member_id: str
    instance_id: str | None
    reason: str | None = None


class GroupSummary(NamedTuple):
    """One line of a group listing; ``state`` and ``group_type`` are Kafka's words."""

    group_id: str
    protocol_type: str
    state: str
    group_type: str


@attrs.frozen
class GroupMember:
    """A member as an administrator sees it."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@attrs.frozen
class GroupDescription:
    """A group as an administrator sees it; an unknown group has the state ``Dead``."""

    group_id: str
    state: str
    protocol_type: str
    protocol_name: str
    members: Sequence[GroupMember] = ()
    error: BrokerError | None = None
