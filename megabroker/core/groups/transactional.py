"""The offsets that groups commit within transactions (KIP-447), as the transaction coordinator needs them.

Owns nothing: rows and memory are ``offsets``', the rules of membership the automaton's. The coordinator keeps
the offsets themselves until their transaction is decided, and makes them visible by the write that decides.

Invariant: whatever was held is released exactly once, by the coordinator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from twisted.internet.defer import Deferred
from zope.interface import Interface

from megabroker.core.groups.offsets import CommittedOffsets, GroupOffsets, OrderedWrites
from megabroker.errors import ErrorCode
from megabroker.model import Change, CommittedOffset, TopicPartition

__all__ = ["IUnstableOffsets", "Judged", "TransactionalOffsets"]

Offsets = Mapping[TopicPartition, CommittedOffset]
Judged = tuple[dict[TopicPartition, ErrorCode | None], dict[TopicPartition, CommittedOffset]]


class IUnstableOffsets(Interface):
    """A group service whose offsets can be part of transactions."""

    def unstable(group_id: str) -> Set[TopicPartition]:
        """Return the partitions whose committed offsets an undecided transaction may change."""


class TransactionalOffsets:
    """What transactions and groups share.

    Args:
        check: raises unless a member may commit within a transaction.
        judge: says of each offset what is wrong with it, and which may be stored; if there must be room for
            those of a group, with its id.
        committed: told of every group that has got offsets.
    """

    def __init__(
        self,
        writes: OrderedWrites,
        offsets: CommittedOffsets,
        check: Callable[[str, int, str, str | None], None],
        judge: Callable[[Offsets, str | None], Judged],
        committed: Callable[[str], None],
    ) -> None:
        self._writes = writes
        self._offsets = offsets
        self._check = check
        self._judge = judge
        self._committed = committed

    def admit(
        self, group_id: str, generation: int, member_id: str, instance_id: str | None, offsets: Offsets
    ) -> Judged:
        """Return the outcome of each offset, and those to be kept.

        Raises:
            BrokerError: the member may not commit, or there is no such group id.
        """
        self._check(group_id, generation, member_id, instance_id)
        return self._judge(offsets, group_id)

    def hold(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Make the group's offsets of these partitions unstable."""
        self._offsets.hold(group_id, partitions)

    def release(self, offsets: Mapping[str, Iterable[TopicPartition]]) -> None:
        """Make them stable again."""
        for group_id, partitions in offsets.items():
            self._offsets.release(group_id, partitions)

    def surviving(self, offsets: GroupOffsets) -> GroupOffsets:
        """Return those whose topics still exist."""
        judged = {group_id: self._judge(of_group, None)[1] for group_id, of_group in offsets.items()}
        return {group_id: of_group for group_id, of_group in judged.items() if of_group}

    def changes(self, offsets: GroupOffsets) -> list[Change]:
        """Return the rows that commit these offsets."""
        return self._offsets.transactional_changes(offsets)

    def applied(self, offsets: GroupOffsets) -> None:
        """Show offsets whose rows are committed."""
        self._offsets.transactional_applied(offsets)
        for group_id in offsets:
            self._committed(group_id)

    def write(self, changes: Sequence[Change], apply: Callable[[], None]) -> Deferred[None]:
        """Write rows of transactions, in one order with those of groups; see ``OrderedWrites.write``."""
        return self._writes.write(changes, apply)
