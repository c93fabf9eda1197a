"""Which committed offsets may go: the rules of KIP-211 and of OffsetDelete.

Owns two pure questions about a group: what it is subscribed to, and which of its offsets are past their time.
Deletes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from megabroker.core.groups.automaton import GroupAutomaton, GroupState
from megabroker.model import NO_TIMESTAMP, CommittedOffset, TopicPartition

__all__ = ["SubscribedTopics", "expired_offsets", "past_retention", "subscribed_topics"]

SubscribedTopics = Callable[[str, bytes], Set[str] | None]
"""(protocol type, one member's metadata) -> the topics it subscribes to, None when that cannot be told."""


def subscribed_topics(group: GroupAutomaton, parse: SubscribedTopics | None) -> Set[str] | None:
    """Return every topic a member subscribes to; None when a member's subscription cannot be told."""
    topics: set[str] = set()
    for member in group.members:
        metadata = member.metadata(group.protocol_name) or member.protocols[0][1]
        found = parse(group.protocol_type, metadata) if parse is not None else None
        if found is None:
            return None
        topics |= found
    return topics


def expired_offsets(
    group: GroupAutomaton,
    offsets: Mapping[TopicPartition, CommittedOffset],
    parse: SubscribedTopics | None,
    *,
    empty_since_ms: int,
    retention_ms: int,
    now_ms: int,
) -> list[TopicPartition]:
    """Return the partitions whose offsets have outlived their retention.

    Without members it runs from the last one's leaving or the last commit, whichever is later; in a stable
    group, from the last commit, and only for topics nobody subscribes to; never during a rebalance.
    """
    subscribed: Set[str] | None = frozenset()
    since_ms = 0
    if group.state is GroupState.STABLE:
        subscribed = subscribed_topics(group, parse)
    elif group.state is not GroupState.EMPTY:
        subscribed = None
    elif group.protocol_type:
        since_ms = empty_since_ms
    if subscribed is None:
        return []
    return past_retention(offsets, subscribed, since_ms=since_ms, retention_ms=retention_ms, now_ms=now_ms)


def past_retention(
    offsets: Mapping[TopicPartition, CommittedOffset],
    subscribed: Set[str],
    *,
    since_ms: int,
    retention_ms: int,
    now_ms: int,
) -> list[TopicPartition]:
    """Return the partitions, of topics nobody subscribes to, whose offsets have outlived their retention.

    It runs from ``since_ms`` or the commit, whichever is later.
    """
    expired = []
    for partition, offset in offsets.items():
        deadline_ms = max(since_ms, offset.commit_time_ms) + retention_ms
        if offset.expire_time_ms != NO_TIMESTAMP:
            deadline_ms = offset.expire_time_ms
        if now_ms >= deadline_ms and partition.topic not in subscribed:
            expired.append(partition)
    return expired
