"""What an automaton of a group wants done and stored, until its service takes it.

Owns the lists; ``kept_groups`` is who takes them. Decides nothing.

Invariant: a change is in the lists from when it was made until it is taken, and again if it could not be
stored; a member is among the changed or among the removed, never both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

from megabroker.core.groups.actions import CancelTimer, SetTimer, TimerKey, TimerKind

__all__ = ["Changes", "KeptMember", "Outbox"]


class Changes(NamedTuple):
    """What is to be stored: ids of members new or changed, ids of members removed, and whether epochs are."""

    members: set[str]
    removed: set[str]
    group: bool

    def __bool__(self) -> bool:
        return bool(self.members or self.removed or self.group)


class KeptMember(Protocol):
    """A member that can be stored."""

    @property
    def member_id(self) -> str: ...

    def to_row(self) -> dict[str, Any]: ...


class Outbox:
    """Base of automata whose members are stored one by one."""

    def __init__(self) -> None:
        self._actions: list[SetTimer | CancelTimer] = []
        self._changed: set[str] = set()
        self._removed: set[str] = set()
        self._group_changed = False

    def member_ids(self) -> Collection[str]:
        """Return the ids of all members."""
        raise NotImplementedError

    def kept_member(self, member_id: str) -> KeptMember | None:
        """Return a member by id."""
        raise NotImplementedError

    # --- what the service takes -------------------------------------------------------------------

    def take_actions(self) -> list[SetTimer | CancelTimer]:
        """Return the timers to be set and cancelled since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    def take_changes(self) -> Changes:
        """Return what is to be stored since the last call."""
        changes = Changes(self._changed, self._removed - self._changed, self._group_changed)
        self._changed, self._removed, self._group_changed = set(), set(), False
        return changes

    def give_back(self, changes: Changes) -> None:
        """Have changes that could not be stored stored with the next ones."""
        present = self.member_ids()
        self._changed |= {member_id for member_id in changes.members if member_id in present}
        self._removed |= {one for one in changes.members | changes.removed if one not in present}
        self._group_changed = self._group_changed or changes.group

    @property
    def removed(self) -> frozenset[str]:
        """Ids of members that are gone and may still be stored."""
        return frozenset(self._removed)

    # --- what the automaton puts in ---------------------------------------------------------------

    def _note(self, member: KeptMember) -> None:
        self._changed.add(member.member_id)

    def _note_removed(self, member: KeptMember) -> None:
        self._changed.discard(member.member_id)
        self._removed.add(member.member_id)

    def _set_timer(self, kind: TimerKind, member: KeptMember, delay_ms: int) -> None:
        self._actions.append(SetTimer(TimerKey(kind, member.member_id), delay_ms))

    def _cancel(self, kind: TimerKind, member: KeptMember) -> None:
        self._actions.append(CancelTimer(TimerKey(kind, member.member_id)))
