"""Groups of the consumer protocol (KIP-848)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import attrs

from megabroker.model.clients import ANONYMOUS, Principal

__all__ = [
    "ConsumerGroupDescription",
    "ConsumerHeartbeat",
    "ConsumerHeartbeatAnswer",
    "ConsumerMember",
    "TopicAssignment",
]


TopicAssignment = Mapping[UUID, frozenset[int]]
"""Partitions by topic id; a topic without partitions is absent."""


@attrs.frozen
class ConsumerHeartbeat:
    """A member of a group of the consumer protocol (KIP-848) joining, living on or leaving.

    Attributes:
        member_epoch: 0 joins, -1 leaves, -2 leaves for a while (static members).
        rebalance_timeout_ms: -1 is "as before", as None is in the others that can be None.
        topic_pattern: a regular expression; empty takes the one before back.
        owned: what the member still has.
    """

    group_id: str
    member_id: str
    member_epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    topic_names: frozenset[str] | None = None
    topic_pattern: str | None = None
    assignor: str | None = None
    owned: TopicAssignment | None = None
    principal: Principal = ANONYMOUS


@attrs.frozen
class ConsumerHeartbeatAnswer:
    """What the member is to be and to have; ``assignment`` is None while that does not change."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int
    assignment: TopicAssignment | None = None


@attrs.frozen
class ConsumerMember:
    """A member of a group of the consumer protocol as an administrator sees it.

    Attributes:
        classic: whether it speaks the classic protocol.
    """

    member_id: str
    instance_id: str | None
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    topic_names: Sequence[str]
    topic_pattern: str | None
    assignment: TopicAssignment
    target: TopicAssignment
    classic: bool = False


@attrs.frozen
class ConsumerGroupDescription:
    """A group of the consumer protocol as an administrator sees it; ``state`` is Kafka's word."""

    group_id: str
    state: str
    group_epoch: int
    assignment_epoch: int
    assignor: str
    members: Sequence[ConsumerMember] = ()
