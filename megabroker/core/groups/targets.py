"""The epochs of a group whose members are given targets, and of its target; base of automata that have them.

Every change of members, of what they subscribe to or of topics raises the epoch of the group. The target is
made for an epoch, later perhaps, and then is what members come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from megabroker.core.groups.outbox import KeptMember, Outbox

__all__ = ["AimedMember", "TargetAutomaton"]


class AimedMember(KeptMember, Protocol):
    """A member that is to have something."""

    target: Any


class TargetAutomaton(Outbox):
    """See the module.

    Args:
        epoch: the last one known, of the target too.

    Attributes:
        epoch: the group's.
        assignment_epoch: the one for which the target was made.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch
        self.assignment_epoch = epoch

    def _bump(self) -> None:
        self.epoch += 1
        self._group_changed = True

    def _take_targets(self, members: Iterable[AimedMember], targets: Mapping[str, Any]) -> None:
        """Make ``targets``, by member id, those of the group's epoch."""
        for member in members:
            target = targets[member.member_id]
            if target != member.target:
                member.target = target
                self._note(member)
        self.assignment_epoch = self.epoch
        self._group_changed = True
