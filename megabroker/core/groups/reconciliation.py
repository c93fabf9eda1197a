"""The way of one member from what it has to what it is to have.

Owns the rules of KIP-848's reconciliation as one function of values: what is to go is revoked and confirmed
first, in the member's old epoch; then the member comes into the epoch of the target and gets what is free;
what others still hold follows when they have let it go.

    STABLE --target changed, something to revoke--> UNREVOKED --confirmed--> UNRELEASED or STABLE
    STABLE --target changed, nothing to revoke--> UNRELEASED or STABLE
    UNRELEASED --everything free--> STABLE

Invariant: a step never assigns a partition that is not free, and never advances the epoch of a member that
may still hold a partition outside its target.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

__all__ = ["MemberState", "Standing", "overlaps", "reconciled", "union", "within"]

K = TypeVar("K", bound=Hashable)


class MemberState(enum.Enum):
    """How far a member is; the values are stored."""

    STABLE = "stable"
    UNREVOKED = "unrevoked-partitions"
    UNRELEASED = "unreleased-partitions"


class Standing(NamedTuple, Generic[K]):
    """Where a member stands.

    Attributes:
        assigned: what it may consume.
        revoking: what it was told to give up and has not confirmed; nobody else may have it.
    """

    state: MemberState
    epoch: int
    assigned: Mapping[K, frozenset[int]]
    revoking: Mapping[K, frozenset[int]]


def reconciled(
    member: Standing[K],
    target: Mapping[K, frozenset[int]],
    target_epoch: int,
    owned: Mapping[K, frozenset[int]] | None,
    is_free: Callable[[K, int], bool],
) -> Standing[K]:
    """Return where a member stands after one more step.

    Args:
        owned: what the member says it still has; None when it does not say.
        is_free: whether nobody at all, this member included, has a partition.

    What holds the partitions is a topic, for consumers, or the tasks of a subtopology in one role.
    """
    if member.state is MemberState.STABLE and member.epoch == target_epoch:
        return member
    if member.state is MemberState.UNREVOKED and (owned is None or overlaps(owned, member.revoking)):
        return member
    keeps: dict[K, frozenset[int]] = {}
    revoking: dict[K, frozenset[int]] = {}
    for topic, indexes in member.assigned.items():
        stays = indexes & target.get(topic, frozenset())
        if stays:
            keeps[topic] = stays
        if stays != indexes:
            revoking[topic] = indexes - stays
    if revoking and (owned is None or overlaps(owned, revoking)):
        return Standing(MemberState.UNREVOKED, member.epoch, keeps, revoking)
    complete = True
    for topic, indexes in target.items():
        has = keeps.get(topic, frozenset())
        # What this very member gives up with this step is free for it again only with the next.
        gets = frozenset(index for index in indexes - has if is_free(topic, index))
        complete = complete and len(has) + len(gets) == len(indexes)
        if gets:
            keeps[topic] = has | gets
    state = MemberState.STABLE if complete else MemberState.UNRELEASED
    return Standing(state, target_epoch, keeps, {})


def overlaps(one: Mapping[K, frozenset[int]], other: Mapping[K, frozenset[int]]) -> bool:
    """Whether two assignments have a partition in common."""
    return any(indexes & one.get(topic, frozenset()) for topic, indexes in other.items())


def within(one: Mapping[K, frozenset[int]], other: Mapping[K, frozenset[int]]) -> bool:
    """Whether everything in ``one`` is in ``other``."""
    return all(indexes <= other.get(topic, frozenset()) for topic, indexes in one.items())


def union(one: Mapping[K, frozenset[int]], other: Mapping[K, frozenset[int]]) -> dict[K, frozenset[int]]:
    """Return what is in one of two assignments or in both."""
    both = dict(one)
    for topic, indexes in other.items():
        both[topic] = both.get(topic, frozenset()) | indexes
    return both
