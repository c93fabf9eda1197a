"""The members of one streams group, and who holds which task.

Owns what is known of each member and an index of what members hold. Decides nothing. A member is stored as
one row, an object with the fields of ``StreamsMember`` under their names; tasks are lists of
``[role, subtopology, [partition, ...]]``.

Invariant: ``_holders`` counts exactly what members are assigned or are giving up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

from megabroker.core.groups.reconciliation import MemberState, Standing, union
from megabroker.model import HostPort
from megabroker.model.streams_groups import Role, TaskAssignment, TaskSet

__all__ = ["StreamsMember", "StreamsMembers"]


@attrs.define(eq=False)
class StreamsMember:
    """One member.

    Attributes:
        joined_epoch: the first epoch it came into.
        target: what it is to do in the end.
    """

    member_id: str
    process_id: str = ""
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = 0
    topology_epoch: int = 0
    endpoint: HostPort | None = None
    tags: Mapping[str, str] = attrs.Factory(dict)
    epoch: int = 0
    previous_epoch: int = 0
    joined_epoch: int = 0
    state: MemberState = MemberState.STABLE
    assigned: TaskAssignment = attrs.Factory(dict)
    revoking: TaskAssignment = attrs.Factory(dict)
    target: TaskAssignment = attrs.Factory(dict)

    @property
    def standing(self) -> Standing[TaskSet]:
        """What reconciliation works on."""
        return Standing(self.state, self.epoch, self.assigned, self.revoking)

    def to_row(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return {
            "process_id": self.process_id,
            "rack_id": self.rack_id,
            "client_id": self.client_id,
            "client_host": self.client_host,
            "rebalance_timeout_ms": self.rebalance_timeout_ms,
            "topology_epoch": self.topology_epoch,
            "endpoint": None if self.endpoint is None else list(self.endpoint),
            "tags": dict(self.tags),
            "epoch": self.epoch,
            "previous_epoch": self.previous_epoch,
            "joined_epoch": self.joined_epoch,
            "state": self.state.value,
            "assigned": _to_row(self.assigned),
            "revoking": _to_row(self.revoking),
            "target": _to_row(self.target),
        }

    @classmethod
    def from_row(cls, member_id: str, row: Mapping[str, Any]) -> StreamsMember:
        """Return the member that was stored. Raises ValueError, TypeError, KeyError or AttributeError."""
        endpoint = row["endpoint"]
        return cls(
            member_id,
            process_id=str(row["process_id"]),
            rack_id=None if row["rack_id"] is None else str(row["rack_id"]),
            client_id=str(row["client_id"]),
            client_host=str(row["client_host"]),
            rebalance_timeout_ms=int(row["rebalance_timeout_ms"]),
            topology_epoch=int(row["topology_epoch"]),
            endpoint=None if endpoint is None else HostPort(str(endpoint[0]), int(endpoint[1])),
            tags={str(key): str(value) for key, value in row["tags"].items()},
            epoch=int(row["epoch"]),
            previous_epoch=int(row["previous_epoch"]),
            joined_epoch=int(row["joined_epoch"]),
            state=MemberState(row["state"]),
            assigned=_from_row(row["assigned"]),
            revoking=_from_row(row["revoking"]),
            target=_from_row(row["target"]),
        )


class StreamsMembers:
    """All members of a group, in order of joining."""

    def __init__(self) -> None:
        self._members: dict[str, StreamsMember] = {}
        self._holders: Counter[tuple[TaskSet, int, str]] = Counter()
        self._active: Counter[tuple[str, int]] = Counter()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[StreamsMember]:
        return iter(list(self._members.values()))

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def ids(self) -> Collection[str]:
        """Return the ids of all members."""
        return self._members.keys()

    def get(self, member_id: str) -> StreamsMember | None:
        """Return a member by id."""
        return self._members.get(member_id)

    def add(self, member: StreamsMember) -> None:
        """Add a member with all it has."""
        self._members[member.member_id] = member
        self._count(member, 1)

    def remove(self, member: StreamsMember) -> None:
        """Remove a member; what it has becomes free."""
        self._count(member, -1)
        del self._members[member.member_id]

    def stand(self, member: StreamsMember, standing: Standing[TaskSet]) -> None:
        """Change what a member has and how far it is."""
        self._count(member, -1)
        member.state, member.epoch, member.assigned, member.revoking = standing
        self._count(member, 1)

    def move(self, member: StreamsMember, process_id: str) -> None:
        """Change the process a member is in."""
        self._count(member, -1)
        member.process_id = process_id
        self._count(member, 1)

    def is_free(self, member: StreamsMember, tasks: TaskSet, index: int) -> bool:
        """Whether a member may begin a task.

        An active task is done by nobody else; and a process has the state of a task at most once.
        """
        role, part = tasks
        if role is Role.ACTIVE and self._active[part, index]:
            return False
        return not any(self._holders[TaskSet(one, part), index, member.process_id] for one in Role)

    def _count(self, member: StreamsMember, change: int) -> None:
        for tasks, indexes in union(member.assigned, member.revoking).items():
            for index in indexes:
                _add(self._holders, (tasks, index, member.process_id), change)
                if tasks.role is Role.ACTIVE:
                    _add(self._active, (tasks.subtopology, index), change)


def _add(counts: Counter[Any], key: Any, change: int) -> None:
    counts[key] += change
    if not counts[key]:
        del counts[key]


def _to_row(tasks: TaskAssignment) -> list[list[Any]]:
    return [[role.value, part, sorted(indexes)] for (role, part), indexes in tasks.items()]


def _from_row(rows: Any) -> dict[TaskSet, frozenset[int]]:
    return {TaskSet(Role(role), str(part)): frozenset(map(int, indexes)) for role, part, indexes in rows}
