"""Values of streams groups (KIP-1071) that cross module boundaries.

A Kafka Streams application describes what it computes as a *topology*: *subtopologies* that read source
topics and topics of the application's own. A subtopology has as many *tasks* as the largest of its sources
has partitions; the broker makes the internal topics and hands the tasks to the members.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import attrs

from megabroker.model.clients import ANONYMOUS, Principal
from megabroker.model.nodes import HostPort

__all__ = [
    "InternalTopic",
    "Role",
    "StreamsAnswer",
    "StreamsEndpoint",
    "StreamsGroupDescription",
    "StreamsHeartbeat",
    "StreamsMemberDescription",
    "StreamsStatus",
    "Subtopology",
    "TaskAssignment",
    "TaskSet",
    "Topology",
]


class Role(enum.Enum):
    """What a member does for a task."""

    ACTIVE = "active"
    STANDBY = "standby"
    WARMUP = "warmup"


class TaskSet(NamedTuple):
    """Names tasks of one subtopology in one role."""

    role: Role
    subtopology: str


TaskAssignment = Mapping[TaskSet, frozenset[int]]
"""Tasks, by role and subtopology, as numbers of partitions."""


@attrs.frozen
class InternalTopic:
    """A topic that belongs to the application.

    Attributes:
        partitions: how many, or 0 for as many as it takes.
        replication_factor: how many replicas, or 0 for the broker's choice.
    """

    name: str
    partitions: int = 0
    replication_factor: int = 0
    configs: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Subtopology:
    """A part of a topology whose tasks need nothing of each other.

    Attributes:
        sources: topics of others it reads.
        sinks: repartition topics it writes.
        repartitions: repartition topics it reads.
        changelogs: where its state is kept.
        copartitioned: sets of topics, of those it reads, that must have as many partitions as each other.
    """

    id: str
    sources: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    repartitions: tuple[InternalTopic, ...] = ()
    changelogs: tuple[InternalTopic, ...] = ()
    copartitioned: tuple[frozenset[str], ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Every topic it reads."""
        return (*self.sources, *(topic.name for topic in self.repartitions))


@attrs.frozen
class Topology:
    """What an application computes; ``epoch`` counts its versions."""

    epoch: int
    subtopologies: tuple[Subtopology, ...]

    @property
    def repartitions(self) -> frozenset[str]:
        """The names of all topics by which its parts hand records to each other."""
        return frozenset(topic.name for part in self.subtopologies for topic in part.repartitions)


class StreamsStatus(enum.IntEnum):
    """What a member is told beside its tasks; the values are on Kafka's wire."""

    STALE_TOPOLOGY = 0
    MISSING_SOURCE_TOPICS = 1
    INCORRECTLY_PARTITIONED_TOPICS = 2
    MISSING_INTERNAL_TOPICS = 3
    SHUTDOWN_APPLICATION = 4
    ASSIGNMENT_DELAYED = 5


@attrs.frozen
class StreamsHeartbeat:
    """A member of a streams group asking in, saying that it lives, or leaving.

    Attributes:
        member_epoch: 0 to join, -1 to leave.
        endpoint_epoch: the version of everybody's endpoints that it knows.
        rebalance_timeout_ms: how long it may take to give up tasks; -1 for unchanged.
        topology: said when joining.
        owned: the tasks it has; None when that has not changed.
        process_id: members of one process share state; None for unchanged.
        endpoint: where the application answers queries itself; None for unchanged.
        shutdown: the whole application is to stop.
    """

    group_id: str
    member_id: str
    member_epoch: int
    client_id: str
    client_host: str
    endpoint_epoch: int = 0
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    topology: Topology | None = None
    owned: TaskAssignment | None = None
    process_id: str | None = None
    endpoint: HostPort | None = None
    tags: Mapping[str, str] | None = None
    shutdown: bool = False
    principal: Principal = ANONYMOUS


class StreamsEndpoint(NamedTuple):
    """Where a member's application answers queries, and the partitions it can answer for, by topic."""

    address: HostPort
    active: Mapping[str, Sequence[int]]
    standby: Mapping[str, Sequence[int]]


@attrs.frozen
class StreamsAnswer:
    """What a member is told.

    Attributes:
        assigned: its tasks, when they have changed; else None.
        status: what else there is to know, with a sentence each.
        endpoints: everybody's, when the member does not know them; else None.
    """

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int = 0
    assigned: TaskAssignment | None = None
    status: Sequence[tuple[StreamsStatus, str]] = ()
    endpoint_epoch: int = 0
    endpoints: Sequence[StreamsEndpoint] | None = None


@attrs.frozen
class StreamsMemberDescription:
    """A member, for administrators."""

    member_id: str
    member_epoch: int
    rack_id: str | None
    client_id: str
    client_host: str
    topology_epoch: int
    process_id: str
    endpoint: HostPort | None
    tags: Mapping[str, str]
    assigned: TaskAssignment
    target: TaskAssignment


@attrs.frozen
class StreamsGroupDescription:
    """A group, for administrators; its internal topics have the number of partitions that was decided."""

    group_id: str
    state: str
    group_epoch: int
    assignment_epoch: int
    topology: Topology
    members: Sequence[StreamsMemberDescription]
