"""Groups whose members commit offsets in the epochs that they were given (KIP-848, KIP-1071)."""

from __future__ import annotations

from typing import Protocol, TypeVar

from megabroker.core.groups.errors import refusal
from megabroker.core.groups.kept_groups import KeptAutomaton, KeptGroup, KeptGroups
from megabroker.errors import ErrorCode

__all__ = ["CommittingAutomaton", "CommittingGroups"]


class CommittingAutomaton(KeptAutomaton, Protocol):
    """What the rules of such a group are asked besides."""

    def check_epoch(self, member_id: str, epoch: int) -> None: ...


A = TypeVar("A", bound=CommittingAutomaton)


class CommittingGroups(KeptGroups[A]):
    """All groups of one such kind."""

    def check_commit(self, group_id: str, member_id: str, epoch: int) -> None:
        """Raise StateError unless offsets may be committed: by a member in its epoch, or while empty."""
        group = self._groups[group_id]
        if epoch < 0 and group.vacant:
            return
        group.automaton.check_epoch(member_id, epoch)

    def check_member(self, group_id: str, member_id: str, epoch: int) -> None:
        """Raise StateError unless this is a member, in this epoch."""
        self._groups[group_id].automaton.check_epoch(member_id, epoch)

    def _known(self, group_id: str) -> KeptGroup[A]:
        group = self._groups.get(group_id)
        if group is None:
            raise refusal(ErrorCode.GROUP_NOT_FOUND)
        return group
