"""What groups there are, who is in them and how far they are, whatever their kind.

Owns the differences between the kinds: classic groups and those of the consumer, share and streams protocols
are described by requests of their own, and offsets of share groups are no committed ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from megabroker.cli.cluster import EARLIEST, LATEST, Cluster, Partition
from megabroker.cli.refusals import check
from megabroker.errors import ErrorCode, ProtocolError, RequestError
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import (
    consumer_group_describe,
    describe_groups,
    describe_share_group_offsets,
    list_groups,
    offset_fetch,
    share_group_describe,
    streams_group_describe,
)
from megabroker.protocols.kafka.schema.consumer_protocol import read_assignment

__all__ = ["CLASSIC", "SHARE", "Group", "Listed", "Member", "Progress", "committed", "describe", "list_all"]

CLASSIC: Final = "classic"
SHARE: Final = "share"
STREAMS: Final = "streams"
_BY_NAME: Final = 9
"""The last version of OffsetFetch and OffsetCommit that names topics; later ones have their ids."""


@attrs.frozen
class Listed:
    """A group in the list of all.

    Attributes:
        kind: ``classic``, ``consumer``, ``share`` or ``streams``.
    """

    name: str
    kind: str
    state: str
    protocol: str


@attrs.frozen
class Member:
    """A member of a group, and the partitions it has."""

    id: str
    client_id: str
    host: str
    partitions: tuple[Partition, ...]


@attrs.frozen
class Progress:
    """How far a group is in a partition.

    Attributes:
        offset: the next one it would read, None where it has none.
        lag: how many are between that and the end; without an offset, all there are.
    """

    partition: Partition
    offset: int | None
    end_offset: int | None
    lag: int | None
    member: str | None


@attrs.frozen
class Group:
    """A group, described.

    Attributes:
        repartitions: topics in which a streams group hands records to itself.
    """

    name: str
    kind: str
    state: str
    members: tuple[Member, ...]
    progress: tuple[Progress, ...]
    repartitions: frozenset[str] = frozenset()


def list_all(cluster: Cluster) -> list[Listed]:
    """Ask every broker for the groups that it coordinates. Raises StateError, RequestError."""
    found: dict[str, Listed] = {}
    for node_id in cluster.node_ids:
        answer = cluster.node(node_id).ask(list_groups.Request())
        check(answer.error_code, None, f"the groups of broker {node_id}")
        for row in answer.groups:
            kind = (row.group_type or CLASSIC).lower()
            found[row.group_id] = Listed(row.group_id, kind, row.group_state, row.protocol_type)
    return [found[name] for name in sorted(found)]


def describe(cluster: Cluster, name: str) -> Group:
    """Ask for everything about a group. Raises RequestError: there is none; StateError."""
    kind = _kind(cluster, name)
    row = _row(cluster, name, kind)
    members = tuple(_MEMBERS[kind](cluster, row))
    owners = {one: member.client_id or member.id for member in members for one in member.partitions}
    read = _share_progress if kind == SHARE else _progress
    own = {topic for topics in _repartitions(row).values() for topic in topics} if kind == STREAMS else ()
    return Group(name, kind, row.group_state, members, tuple(read(cluster, name, owners)), frozenset(own))


def _kind(cluster: Cluster, name: str) -> str:
    node = cluster.node(cluster.coordinator(name))
    answer = node.ask(list_groups.Request())
    check(answer.error_code, None, f"group {name}")
    for row in answer.groups:
        if row.group_id == name:
            return (row.group_type or CLASSIC).lower()
    raise RequestError(
        ErrorCode.GROUP_NOT_FOUND, f"group {name} does not exist: megabroker group list shows all groups"
    )


def _row(cluster: Cluster, name: str, kind: str) -> Any:
    requests: dict[str, Any] = {
        "consumer": consumer_group_describe.Request,
        SHARE: share_group_describe.Request,
        STREAMS: streams_group_describe.Request,
    }
    if kind in requests:
        request = requests[kind](group_ids=[name])
    else:
        request = describe_groups.Request(groups=[name])
    answer = cluster.ask_coordinator(name, request, _of_first_group)
    row = answer.groups[0]
    check(row.error_code, row.error_message, f"group {name}")
    return row


def _of_first_group(answer: Any) -> int:
    return int(answer.groups[0].error_code)


def _classic_members(cluster: Cluster, row: Any) -> Iterable[Member]:
    for one in row.members:
        partitions: list[Partition] = []
        if row.protocol_type == "consumer" and one.member_assignment:
            try:
                assigned = read_assignment(one.member_assignment).assigned_partitions
                partitions = [
                    Partition(some.topic, number) for some in assigned for number in some.partitions
                ]
            except ProtocolError:
                pass  # what members say among themselves is theirs; who they are is told all the same
        yield Member(one.member_id, one.client_id, one.client_host, tuple(sorted(partitions)))


def _assigned_members(cluster: Cluster, row: Any) -> Iterable[Member]:
    for one in row.members:
        assigned = one.assignment.topic_partitions
        partitions = [Partition(some.topic_name, number) for some in assigned for number in some.partitions]
        yield Member(one.member_id, one.client_id, one.client_host, tuple(sorted(partitions)))


def _streams_members(cluster: Cluster, row: Any) -> Iterable[Member]:
    """Tasks are numbered like the partitions of the topics that their part of the topology reads."""
    own = _repartitions(row)
    read = {one.subtopology_id: [*one.source_topics, *own[one.subtopology_id]] for one in _subtopologies(row)}
    for one in row.members:
        partitions = [
            Partition(topic, number)
            for task in one.assignment.active_tasks
            for topic in read.get(task.subtopology_id, ())
            for number in task.partitions
        ]
        yield Member(one.member_id, one.client_id, one.client_host, tuple(sorted(partitions)))


def _subtopologies(row: Any) -> Iterable[Any]:
    return (row.topology and row.topology.subtopologies) or ()


def _repartitions(row: Any) -> dict[str, list[str]]:
    """Return by part of a topology the topics that another part of it writes for it."""
    return {
        one.subtopology_id: [topic.name for topic in one.repartition_source_topics]
        for one in _subtopologies(row)
    }


_MEMBERS: Final = {
    CLASSIC: _classic_members,
    "consumer": _assigned_members,
    SHARE: _assigned_members,
    STREAMS: _streams_members,
}


def committed(cluster: Cluster, name: str, member: tuple[str, int] | None = None) -> dict[Partition, int]:
    """Return the offsets that a group has committed. Raises RequestError, StateError.

    Args:
        member: who asks, by id and epoch, for groups that want to know.
    """
    client = cluster.node(cluster.coordinator(name))
    version = client.version(offset_fetch.Request.__schema__.key, _BY_NAME)
    if version < 8:
        request = offset_fetch.Request(group_id=name, topics=None)
        answer = cluster.ask_coordinator(name, request, lambda answer: int(answer.error_code), version)
        found: Any = answer
    else:
        row = offset_fetch.Request.Group(group_id=name, topics=None)
        if member is not None:
            row.member_id, row.member_epoch = member
        request = offset_fetch.Request(groups=[row])
        answer = cluster.ask_coordinator(name, request, _of_first_group, version)
        found = answer.groups[0]
    check(found.error_code, None, f"group {name}")
    offsets = {}
    for topic in found.topics:
        for one in topic.partitions:
            if one.committed_offset >= 0 and not one.error_code:
                offsets[Partition(topic.name, one.partition_index)] = one.committed_offset
    return offsets


def _progress(cluster: Cluster, name: str, owners: dict[Partition, str]) -> Iterable[Progress]:
    offsets = committed(cluster, name)
    partitions = sorted({*offsets, *owners})
    starts, ends = _bounds(cluster, partitions)
    for one in partitions:
        end = ends.get(one)
        begun = offsets.get(one, starts.get(one))
        lag = None if end is None or begun is None else max(0, end - begun)
        yield Progress(one, offsets.get(one), end, lag, owners.get(one))


def _share_progress(cluster: Cluster, name: str, owners: dict[Partition, str]) -> Iterable[Progress]:
    row = describe_share_group_offsets.Request.Group(group_id=name, topics=None)
    request = describe_share_group_offsets.Request(groups=[row])
    answer = cluster.ask_coordinator(name, request, _of_first_group)
    check(answer.groups[0].error_code, answer.groups[0].error_message, f"group {name}")
    told = {
        Partition(topic.topic_name, one.partition_index): one
        for topic in answer.groups[0].topics
        for one in topic.partitions
        if not one.error_code
    }
    partitions = sorted({*told, *owners})
    _, ends = _bounds(cluster, partitions)
    for one in partitions:
        known, end = told.get(one), ends.get(one)
        offset = known.start_offset if known is not None and known.start_offset >= 0 else None
        lag = known.lag if known is not None and known.lag >= 0 else None
        if lag is None and None not in (offset, end):
            lag = max(0, end - offset)  # type: ignore[operator]
        yield Progress(one, offset, end, lag, owners.get(one))


def _bounds(
    cluster: Cluster, partitions: Iterable[Partition]
) -> tuple[dict[Partition, int | None], dict[Partition, int | None]]:
    """Return starts and ends of those partitions that there are: a group may remember deleted topics."""
    wanted = list(partitions)
    there = {
        Partition(topic.name, row.partition_index)
        for topic in cluster.metadata(sorted({one.topic for one in wanted})).topics
        if topic.error_code == KafkaError.NONE
        for row in topic.partitions
        if row.leader_id >= 0
    }
    some = [one for one in wanted if one in there]
    return cluster.offsets(dict.fromkeys(some, EARLIEST)), cluster.offsets(dict.fromkeys(some, LATEST))
