"""The members of one group of the consumer protocol, and what follows from them together.

Owns indexes beside the members: which member a static instance id means, which member has each partition,
how many members subscribe to each topic and ask for each assignor. Decides nothing.

A member is stored as one row, an object with the fields of ``ConsumerMember`` under their names; assignments
are ``{"<topic id, 32 hex digits>": [partition, ...]}``, what a classic member joined with has its metadata in
base64.

Invariant: ``owners`` holds exactly what members are assigned or are revoking, each partition once;
``by_instance`` exactly the static members; ``subscribers`` counts each member once per topic, ``assignors``
once for the one it asks for; ``classics`` is the number of members of the classic protocol, and ``supported``
counts each of them once per protocol name.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import attrs

from megabroker.core.groups.reconciliation import MemberState, Standing, union
from megabroker.model import ANONYMOUS, Principal, TopicAssignment

__all__ = ["LEFT_EPOCH", "ClassicSide", "ConsumerMember", "ConsumerMembers"]

LEFT_EPOCH = -2
"""Epoch of a static member that has left for a while."""


class ClassicSide(NamedTuple):
    """What a member of the classic protocol joined with.

    Attributes:
        version: of the format it writes its metadata in.
        protocols: (name, metadata) in its order of preference.
    """

    session_timeout_ms: int
    version: int
    protocols: tuple[tuple[str, bytes], ...]

    def to_row(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return {
            "session_timeout_ms": self.session_timeout_ms,
            "version": self.version,
            "protocols": [[name, base64.b64encode(data).decode()] for name, data in self.protocols],
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ClassicSide:
        """Return what was stored. Raises ValueError, TypeError, KeyError or AttributeError."""
        return cls(
            int(row["session_timeout_ms"]),
            int(row["version"]),
            tuple((str(name), base64.b64decode(data)) for name, data in row["protocols"]),
        )


@attrs.define(eq=False)
class ConsumerMember:
    """One member.

    Attributes:
        principal: who it is, which decides on what ``topic_pattern`` matches.
        topic_names: what it subscribes to by name; ``topic_pattern`` adds to it unless empty.
        topics: ids of the topics it subscribes to, as far as they exist.
        assignor: the one it asks for; empty when it does not care.
        target: what it is to have in the end.
        classic: what it joined with if it speaks the classic protocol.
    """

    member_id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = 0
    topic_names: frozenset[str] = frozenset()
    topic_pattern: str = ""
    assignor: str = ""
    topics: frozenset[UUID] = frozenset()
    epoch: int = 0
    previous_epoch: int = 0
    state: MemberState = MemberState.STABLE
    assigned: TopicAssignment = attrs.Factory(dict)
    revoking: TopicAssignment = attrs.Factory(dict)
    target: TopicAssignment = attrs.Factory(dict)
    classic: ClassicSide | None = None
    principal: Principal = ANONYMOUS

    @property
    def standing(self) -> Standing[UUID]:
        """What reconciliation works on."""
        return Standing(self.state, self.epoch, self.assigned, self.revoking)

    @property
    def has_left(self) -> bool:
        """Whether it is away and expected back."""
        return self.epoch == LEFT_EPOCH

    def to_row(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return {
            "instance_id": self.instance_id,
            "rack_id": self.rack_id,
            "client_id": self.client_id,
            "client_host": self.client_host,
            "rebalance_timeout_ms": self.rebalance_timeout_ms,
            "topic_names": sorted(self.topic_names),
            "topic_pattern": self.topic_pattern,
            "assignor": self.assignor,
            "epoch": self.epoch,
            "previous_epoch": self.previous_epoch,
            "state": self.state.value,
            "assigned": _assignment_to_row(self.assigned),
            "revoking": _assignment_to_row(self.revoking),
            "target": _assignment_to_row(self.target),
            "classic": None if self.classic is None else self.classic.to_row(),
            "principal": [self.principal.type, self.principal.name],
        }

    @classmethod
    def from_row(cls, member_id: str, row: Mapping[str, Any]) -> ConsumerMember:
        """Return the member that was stored. Raises ValueError, TypeError, KeyError or AttributeError."""
        return cls(
            member_id,
            None if row["instance_id"] is None else str(row["instance_id"]),
            None if row["rack_id"] is None else str(row["rack_id"]),
            str(row["client_id"]),
            str(row["client_host"]),
            int(row["rebalance_timeout_ms"]),
            frozenset(str(name) for name in row["topic_names"]),
            str(row["topic_pattern"]),
            str(row["assignor"]),
            frozenset(),
            int(row["epoch"]),
            int(row["previous_epoch"]),
            MemberState(row["state"]),
            _assignment_from_row(row["assigned"]),
            _assignment_from_row(row["revoking"]),
            _assignment_from_row(row["target"]),
            None if row.get("classic") is None else ClassicSide.from_row(row["classic"]),
            Principal(*map(str, row["principal"])) if "principal" in row else ANONYMOUS,
        )


class ConsumerMembers:
    """All members of a group, in order of joining."""

    def __init__(self) -> None:
        self._members: dict[str, ConsumerMember] = {}
        self.by_instance: dict[str, str] = {}
        self.owners: dict[tuple[UUID, int], str] = {}
        self.subscribers: Counter[UUID] = Counter()
        self.assignors: Counter[str] = Counter()
        self.supported: Counter[str] = Counter()
        self.classics = 0

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[ConsumerMember]:
        return iter(list(self._members.values()))

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def ids(self) -> Collection[str]:
        """Return the ids of all members."""
        return self._members.keys()

    def get(self, member_id: str) -> ConsumerMember | None:
        """Return a member by id."""
        return self._members.get(member_id)

    def of_instance(self, instance_id: str) -> ConsumerMember | None:
        """Return a member by its static instance id."""
        return self._members.get(self.by_instance.get(instance_id, ""))

    def add(self, member: ConsumerMember) -> None:
        """Add a member with all it has."""
        self._members[member.member_id] = member
        if member.instance_id is not None:
            self.by_instance[member.instance_id] = member.member_id
        self._claim(member)
        self.subscribers.update(member.topics)
        self._vote(member.assignor, 1)
        self._speak(member.classic, 1)

    def remove(self, member: ConsumerMember) -> None:
        """Remove a member; what it has becomes free."""
        del self._members[member.member_id]
        if member.instance_id is not None:
            del self.by_instance[member.instance_id]
        self._release(member)
        self._unsubscribe(member.topics)
        self._vote(member.assignor, -1)
        self._speak(member.classic, -1)

    def subscribe(self, member: ConsumerMember, topics: frozenset[UUID]) -> None:
        """Change the topics a member subscribes to."""
        self._unsubscribe(member.topics)
        member.topics = topics
        self.subscribers.update(topics)

    def ask_for(self, member: ConsumerMember, assignor: str) -> None:
        """Change the assignor a member asks for."""
        self._vote(member.assignor, -1)
        member.assignor = assignor
        self._vote(assignor, 1)

    def speak(self, member: ConsumerMember, classic: ClassicSide | None) -> None:
        """Change which protocol a member speaks, or what it says in the classic one."""
        self._speak(member.classic, -1)
        member.classic = classic
        self._speak(classic, 1)

    def supports_any(self, names: Iterable[str], other_than: ConsumerMember | None) -> bool:
        """Whether one of these protocols is supported by every classic member, one perhaps excepted."""
        supported, classics = self.supported, self.classics
        if other_than is not None and other_than.classic is not None:
            supported, classics = supported - _names(other_than.classic), classics - 1
        return any(supported[name] == classics for name in names)

    def stand(self, member: ConsumerMember, standing: Standing[UUID]) -> None:
        """Change what a member has and how far it is."""
        self._release(member)
        member.state, member.epoch, member.assigned, member.revoking = standing
        self._claim(member)

    def is_free(self, topic: UUID, index: int) -> bool:
        """Whether nobody has a partition."""
        return (topic, index) not in self.owners

    def _claim(self, member: ConsumerMember) -> None:
        for place in _places(union(member.assigned, member.revoking)):
            self.owners[place] = member.member_id

    def _release(self, member: ConsumerMember) -> None:
        for place in _places(union(member.assigned, member.revoking)):
            if self.owners.get(place) == member.member_id:
                del self.owners[place]

    def _vote(self, assignor: str, votes: int) -> None:
        if assignor:
            self.assignors[assignor] += votes
            if not self.assignors[assignor]:
                del self.assignors[assignor]

    def _speak(self, classic: ClassicSide | None, count: int) -> None:
        if classic is not None:
            self.classics += count
            for name in _names(classic):
                self.supported[name] += count
                if not self.supported[name]:
                    del self.supported[name]

    def _unsubscribe(self, topics: Iterable[UUID]) -> None:
        for topic in topics:
            self.subscribers[topic] -= 1
            if not self.subscribers[topic]:
                del self.subscribers[topic]


def _names(classic: ClassicSide) -> Counter[str]:
    return Counter({name for name, _ in classic.protocols})


def _places(assignment: TopicAssignment) -> Iterator[tuple[UUID, int]]:
    for topic, indexes in assignment.items():
        for index in indexes:
            yield topic, index


def _assignment_to_row(assignment: TopicAssignment) -> dict[str, list[int]]:
    return {topic.hex: sorted(indexes) for topic, indexes in assignment.items()}


def _assignment_from_row(row: Mapping[str, Any]) -> dict[UUID, frozenset[int]]:
    return {UUID(hex=topic): frozenset(int(index) for index in indexes) for topic, indexes in row.items()}
