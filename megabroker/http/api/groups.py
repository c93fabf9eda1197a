"""Groups of every kind: their members, how far they are, and where they go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.core.groups.resetting import ResetTo, new_offset
from megabroker.errors import ErrorCode, PeerError, RequestError, StateError, StorageError
from megabroker.http.api.messages import first_at_or_after
from megabroker.http.api.topics import check_partition, known_topic, partition_rows
from megabroker.http.caller import Caller
from megabroker.http.paging import MOST_ROWS, PAGES, page, paged
from megabroker.http.routes import Answer, Call, Need, Route
from megabroker.http.schema import (
    FLAG,
    OFFSET,
    Integer,
    ListOf,
    Nullable,
    Object,
    Text,
    optional,
    required,
)
from megabroker.http.waiting import in_slices
from megabroker.model import CommittedOffset, GroupSummary, TopicPartition
from megabroker.model.streams_groups import TaskAssignment

__all__ = ["ROUTES", "describe_group", "group_offsets", "known_group", "reset_offsets", "visible_groups"]

_MOST_PARTITIONS: Final = 100_000
_ANY_MEMBERS: Final = ("Empty", "Dead")
_MOST_NAMED: Final = 20
"""Partitions that a refusal and the audit log name at most."""

_SUMMARY: Final = Object(
    {
        "group": required(Text(), "Name of the group."),
        "type": required(Text(), "classic, consumer, streams or share."),
        "state": required(Text(), "State of the group, by Kafka's name."),
        "protocol_type": required(Text(), "Protocol type; consumer for groups of consumers."),
    },
    "Group",
)

_ASSIGNED: Final = Object(
    {
        "topic": required(Text(), "Name of a topic, or of a subtopology."),
        "partitions": required(
            ListOf(Integer(0), maximum=_MOST_PARTITIONS), "Numbers of the partitions or tasks."
        ),
    },
    "Assigned",
)

_MEMBER: Final = Object(
    {
        "member": required(Text(), "Id of the member."),
        "instance": required(Nullable(Text()), "Instance id of a static member."),
        "client_id": required(Text(), "Client id."),
        "host": required(Text(), "Client address."),
        "epoch": required(Nullable(Integer()), "Member epoch; null in classic groups."),
        "topics": required(ListOf(Text(), maximum=_MOST_PARTITIONS), "Topics that the member subscribes to."),
        "pattern": required(Nullable(Text()), "Regular expression that the member subscribes with."),
        "assignment": required(ListOf(_ASSIGNED, maximum=_MOST_PARTITIONS), "Assigned partitions."),
    },
    "Member",
)

_GROUP: Final = Object(
    {
        **_SUMMARY.fields,
        "epoch": required(Nullable(Integer()), "Group epoch; null for classic groups."),
        "assignor": required(Text(), "Name of the assignor."),
        "coordinator": required(Integer(0), "Node that coordinates the group."),
        "members": required(ListOf(_MEMBER, maximum=MOST_ROWS), "Members on this page, sorted by id."),
        "next_page_token": required(Nullable(Text()), "page_token of the next page; null on the last page."),
    },
    "GroupDescription",
)

_OFFSET_ROW: Final = Object(
    {
        "topic": required(Text(), "Name of the topic."),
        "partition": required(Integer(0), "Number of the partition."),
        "offset": required(Nullable(OFFSET), "Offset of the next message for the group; null if unknown."),
        "end_offset": required(
            Nullable(OFFSET), "End offset of the partition; null if the partition is unavailable."
        ),
        "lag": required(Nullable(Integer(0)), "Lag: number of messages up to the end; null if unknown."),
        "metadata": required(Text(), "Metadata stored with the offset."),
        "commit_time_ms": required(Nullable(Integer(0)), "Time of the commit, in milliseconds since 1970."),
    },
    "GroupOffset",
)

_OFFSETS: Final = paged("offsets", _OFFSET_ROW, "GroupOffsets")

_WANTED: Final = Object(
    {
        "topic": required(Text(1, 249), "Name of the topic."),
        "partitions": optional(
            Nullable(ListOf(Integer(0, (1 << 31) - 1), 1, 10_000)), "Numbers of the partitions; null for all."
        ),
    },
    "ResetTopic",
)


def _reset_faults(body: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Say what does not go together."""
    needs = {"offset": "offset", "timestamp": "timestamp_ms", "shift": "by"}.get(body["to"])
    faults = [
        (name, f"none, as to is {body['to']}")
        for name in ("offset", "timestamp_ms", "by")
        if name != needs and body[name] is not None
    ]
    if needs is not None and body[needs] is None:
        faults.append((needs, f"a number, as to is {body['to']}"))
    return faults


_RESET: Final = Object(
    {
        "to": required(Text(choices=tuple(one.value for one in ResetTo)), "Where the group continues."),
        "topics": optional(
            Nullable(ListOf(_WANTED, 1, 1000)),
            "Topics; null for all topics that the group has committed offsets for, without the repartition"
            " topics of a streams group.",
        ),
        "offset": optional(Nullable(OFFSET), "Offset, if to is offset."),
        "timestamp_ms": optional(Nullable(OFFSET), "Time in milliseconds since 1970, if to is timestamp."),
        "by": optional(Nullable(Integer()), "Number of messages, if to is shift; negative to go back."),
        "dry_run": optional(FLAG, "Only return what would change.", False),
    },
    "OffsetReset",
    _reset_faults,
)

_MOVED: Final = Object(
    {
        "topic": required(Text(), "Name of the topic."),
        "partition": required(Integer(0), "Number of the partition."),
        "former_offset": required(Nullable(OFFSET), "Previous committed offset."),
        "offset": required(OFFSET, "New committed offset."),
    },
    "MovedOffset",
)

_MOVES: Final = Object(
    {
        "offsets": required(
            ListOf(_MOVED, maximum=_MOST_PARTITIONS), "Offsets, sorted by topic and partition."
        ),
        "dry_run": required(FLAG, "Whether this was a dry run that changed nothing."),
    },
    "OffsetsReset",
)


# --- what is asked for here and by others ----------------------------------------------------------------


def visible_groups(caller: Caller) -> list[GroupSummary]:
    """Return the groups that the caller may see, by name."""
    sees_all = caller.may(Operation.DESCRIBE, quiet=True)
    return [
        group
        for group in sorted([*caller.broker.groups.all(), *caller.broker.shares.all()])
        if sees_all or caller.sees(ResourceType.GROUP, group.group_id)
    ]


def known_group(caller: Caller, name: str) -> GroupSummary:
    """Return a group. Raises RequestError (GROUP_NOT_FOUND)."""
    broker = caller.broker
    for group in broker.shares.all() if name in broker.shares else broker.groups.all():
        if group.group_id == name:
            return group
    raise RequestError(ErrorCode.GROUP_NOT_FOUND, f"no group is called {name[:200]!r}")


def show_group(group: GroupSummary) -> dict[str, Any]:
    """Return what a list has of a group."""
    return {
        "group": group.group_id,
        "type": group.group_type.lower(),
        "state": group.state,
        "protocol_type": group.protocol_type,
    }


def describe_group(caller: Caller, name: str) -> dict[str, Any]:
    """Return all that is to be said of a group. Raises BrokerError (GROUP_NOT_FOUND)."""
    group = known_group(caller, name)
    shown = show_group(group)
    describe = _DESCRIBED.get(shown["type"], _classic)
    epoch, assignor, members = describe(caller, name)
    return {
        **shown,
        "epoch": epoch,
        "assignor": assignor,
        "coordinator": caller.broker.placement.coordinator(name).id,
        "members": sorted(members, key=lambda one: str(one["member"])),
    }


def _classic(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.groups.describe(name)
    metadata = caller.broker.groups.consumer_metadata
    reads = metadata is not None and found.protocol_type == "consumer"
    members = []
    for one in found.members:
        topics: Iterable[str] = ()
        assignment: Mapping[str, Iterable[int]] = {}
        if reads and metadata is not None:
            subscription = metadata.read_subscription(one.metadata)
            topics = () if subscription is None else subscription.topics
            found_here = metadata.read_assignment(one.assignment) or {}
            assignment = {
                name: of for name, of in found_here.items() if caller.sees(ResourceType.TOPIC, name)
            }
        members.append(_member(caller, one, None, topics, None, assignment))
    return None, found.protocol_name, members


def _consumers(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.groups.describe_consumers(name)
    members = [
        _member(
            caller,
            one,
            one.member_epoch,
            one.topic_names,
            one.topic_pattern,
            _by_name(caller, one.assignment),
        )
        for one in found.members
    ]
    return found.group_epoch, found.assignor, members


def _shares(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.shares.describe(name)
    members = [
        _member(caller, one, one.member_epoch, one.topic_names, None, _by_name(caller, one.assignment))
        for one in found.members
    ]
    return found.group_epoch, found.assignor, members


def _streams(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.groups.describe_streams(name)
    members = [
        _member(caller, one, one.member_epoch, (), None, _tasks(one.assigned)) for one in found.members
    ]
    return found.group_epoch, "streams", members


def _tasks(assigned: TaskAssignment) -> dict[str, frozenset[int]]:
    return {f"{tasks.role.value} {tasks.subtopology}": numbers for tasks, numbers in assigned.items()}


_DESCRIBED: Final = {"classic": _classic, "consumer": _consumers, "share": _shares, "streams": _streams}


def _by_name(caller: Caller, assignment: Mapping[Any, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Return an assignment by the names of topics; those that may not be seen are left out."""
    topics = ((caller.broker.topics.get_by_id(topic_id), found) for topic_id, found in assignment.items())
    return {
        topic.name: found
        for topic, found in topics
        if topic is not None and caller.sees(ResourceType.TOPIC, topic.name)
    }


def _member(
    caller: Caller,
    one: Any,
    epoch: int | None,
    topics: Iterable[str],
    pattern: str | None,
    assignment: Mapping[str, Iterable[int]],
) -> dict[str, Any]:
    return {
        "member": one.member_id,
        "instance": getattr(one, "instance_id", None),
        "client_id": one.client_id,
        "host": one.client_host.removeprefix("/"),
        "epoch": epoch,
        "topics": sorted(name for name in topics if caller.sees(ResourceType.TOPIC, name)),
        "pattern": pattern,
        "assignment": [
            {"topic": name, "partitions": sorted(numbers)} for name, numbers in sorted(assignment.items())
        ],
    }


async def group_offsets(caller: Caller, name: str) -> dict[TopicPartition, CommittedOffset]:
    """Return where a group is, in topics that the caller may see, by topic and partition.

    Of share groups that is the first message that is not done with.
    """
    broker = caller.broker
    found: dict[TopicPartition, CommittedOffset] = {}
    if name in broker.shares:
        for (topic_id, index), one in (await broker.shares.offsets(name, None)).items():
            topic = broker.topics.get_by_id(topic_id)
            if topic is not None and one.start_offset >= 0:
                found[TopicPartition(topic.name, index)] = CommittedOffset(one.start_offset)
    else:
        found.update(broker.groups.committed(name, None))
    return {where: found[where] for where in sorted(found) if caller.sees(ResourceType.TOPIC, where.topic)}


async def offset_rows(
    caller: Caller, places: Sequence[TopicPartition], offsets: Mapping[TopicPartition, CommittedOffset]
) -> list[dict[str, Any]]:
    """Return how far a group is in some partitions, in their order."""
    ends = await _ends(caller, places)
    return [
        _offset_row(where, offsets.get(where), ends.get(where, (None, None))[1])
        async for where in in_slices(caller.broker.reactor, places)
    ]


def _offset_row(where: TopicPartition, offset: CommittedOffset | None, end: int | None) -> dict[str, Any]:
    known = None if offset is None or offset.offset < 0 else offset.offset
    committed_ms = None if offset is None or offset.commit_time_ms < 0 else offset.commit_time_ms
    return {
        "topic": where.topic,
        "partition": where.partition,
        "offset": known,
        "end_offset": end,
        "lag": None if known is None or end is None else max(end - known, 0),
        "metadata": "" if offset is None else offset.metadata,
        "commit_time_ms": committed_ms,
    }


async def _ends(
    caller: Caller, places: Iterable[TopicPartition]
) -> dict[TopicPartition, tuple[int | None, int | None]]:
    """Return where partitions begin and end; None for what cannot be used, nothing for what is gone."""
    wanted: dict[str, list[int]] = {}
    for where in places:
        wanted.setdefault(where.topic, []).append(where.partition)
    found: dict[TopicPartition, tuple[int | None, int | None]] = {}
    for name, indexes in wanted.items():
        topic = caller.broker.topics.get(name)
        if topic is not None:
            for row in await partition_rows(caller, topic, min(indexes), max(indexes) + 1):
                place = TopicPartition(name, row["partition"])
                found[place] = row["start_offset"], row["end_offset"]
    return found


# --- moving -----------------------------------------------------------------------------------------------


async def reset_offsets(caller: Caller, name: str, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Have a group without members go on elsewhere, or only say where with ``dry_run``.

    Args:
        wanted: as the route takes it.

    Raises:
        BrokerError: GROUP_NOT_EMPTY and others. Nothing is changed then, unless only some partitions were
            refused: what it says names those that were moved.
    """
    broker = caller.broker
    known = known_group(caller, name) if _is_known(caller, name) else None
    if known is not None and known.state not in _ANY_MEMBERS:
        raise StateError(
            ErrorCode.GROUP_NOT_EMPTY, f"group {name} is {known.state}: expected it to have no members"
        )
    offsets = await group_offsets(caller, name)
    own = _repartitions(caller, known)
    places = _places(caller, wanted["topics"], [where for where in offsets if where.topic not in own])
    for topic in {where.topic for where in places}:
        caller.need(Operation.READ, ResourceType.TOPIC, topic)
    moves = await _moves(caller, wanted, places, offsets)
    if not wanted["dry_run"]:
        outcomes: Mapping[TopicPartition, ErrorCode | None] = dict.fromkeys(moves)
        if name in broker.shares:
            await _begin_at(caller, name, wanted["to"], moves)
        else:
            fresh = {where: CommittedOffset(offset) for where, offset in moves.items()}
            outcomes = await broker.groups.commit(name, -1, "", None, fresh)
        _settle(caller, "ResetOffsets", f"{name} to {wanted['to']}", _named(outcomes))
    return [
        {
            "topic": where.topic,
            "partition": where.partition,
            "former_offset": offsets[where].offset if where in offsets else None,
            "offset": offset,
        }
        for where, offset in moves.items()
    ]


async def _begin_at(caller: Caller, name: str, to: str, moves: Mapping[TopicPartition, int]) -> None:
    """Move a share group. Raises BrokerError; what it says tells whether partitions may have been moved."""
    try:
        await caller.broker.shares.set_offsets(name, moves)
    except (StorageError, PeerError) as error:
        caller.changed("ResetOffsets", f"{name} to {to}, of which some may be refused")
        raise StateError(
            error.code,
            f"{error.message}; some partitions may have been moved: the offsets of the group tell",
            retriable=error.retriable,
        ) from error


def _repartitions(caller: Caller, known: GroupSummary | None) -> frozenset[str]:
    """Return the topics in which a streams group hands records to itself: what is done must stay done."""
    if known is None or known.group_type.lower() != "streams":
        return frozenset()
    return caller.broker.groups.describe_streams(known.group_id).topology.repartitions


def _is_known(caller: Caller, name: str) -> bool:
    return name in caller.broker.groups or name in caller.broker.shares


def _places(
    caller: Caller, topics: Sequence[Any] | None, offsets: Iterable[TopicPartition]
) -> list[TopicPartition]:
    """Return the partitions that are meant. Raises RequestError."""
    if topics is None:
        places = list(offsets)
        if not places:
            raise RequestError(ErrorCode.INVALID_REQUEST, "the group has no offsets: expected topics")
        return places
    found: dict[TopicPartition, None] = {}
    for wanted in topics:
        topic = known_topic(caller, wanted["topic"])
        for index in range(topic.partitions) if wanted["partitions"] is None else wanted["partitions"]:
            check_partition(topic, index)
            found[TopicPartition(topic.name, index)] = None
    if len(found) > _MOST_PARTITIONS:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"expected at most {_MOST_PARTITIONS} partitions")
    return sorted(found)


async def _moves(
    caller: Caller,
    wanted: Mapping[str, Any],
    places: Sequence[TopicPartition],
    offsets: Mapping[TopicPartition, CommittedOffset],
) -> dict[TopicPartition, int]:
    to, ends = ResetTo(wanted["to"]), await _ends(caller, places)
    moves = {}
    async for where in in_slices(caller.broker.reactor, places):
        if where not in ends:
            continue  # the topic is gone by now
        start, end = ends[where]
        if start is None or end is None:
            raise StateError(
                ErrorCode.STORAGE, f"partition {where.partition} of {where.topic} cannot be used"
            )
        value = wanted["by"] if to is ResetTo.SHIFT else wanted["offset"]
        if to is ResetTo.TIMESTAMP:
            partition = caller.broker.partitions.partition(*where)
            value = await first_at_or_after(partition, wanted["timestamp_ms"])
        committed = offsets[where].offset if where in offsets else None
        moves[where] = new_offset(to, value, committed=committed, start_offset=start, end_offset=end)
    return moves


def _named(outcomes: Mapping[TopicPartition, ErrorCode | None]) -> dict[str, ErrorCode | None]:
    return {f"{where.topic}-{where.partition}": code for where, code in outcomes.items()}


def _settle(caller: Caller, what: str, of: str, outcomes: Mapping[str, ErrorCode | None]) -> None:
    """Put what was done into the audit log; raise StateError that names it if the rest was refused."""
    done = [where for where, code in outcomes.items() if code is None]
    refused = [(where, code) for where, code in outcomes.items() if code is not None]
    shown = ", ".join(done[:_MOST_NAMED]) + (", ..." if len(done) > _MOST_NAMED else "")
    some = f"{len(done)} of {len(outcomes)}, which are {shown}"
    if done or not refused:
        caller.changed(what, f"{of}, {some}" if refused else of)
    for where, code in refused:
        raise StateError(code, f"{where}: {code.value}; {f'done: {some}' if done else 'nothing was changed'}")


# --- routes -------------------------------------------------------------------------------------------------


def list_groups(call: Call) -> Any:
    """Return a page of the groups that the caller may see."""
    state, kind = call.query["state"], call.query["type"]
    groups = [
        group
        for group in visible_groups(call.caller)
        if (state is None or group.state.lower() == state.lower())
        and (kind is None or group.group_type.lower() == kind)
    ]
    return page(call, "groups", groups, lambda group: group.group_id, show_group)


def get_group(call: Call) -> Any:
    """Describe a group, with a page of its members."""
    found = describe_group(call.caller, call.path["group"])
    return {**found, **page(call, "members", found["members"], lambda one: one["member"], lambda one: one)}


async def delete_group(call: Call) -> Any:
    """Delete a group without members."""
    caller, name = call.caller, call.path["group"]
    broker = caller.broker
    await (broker.shares if name in broker.shares else broker.groups).delete(name)
    caller.changed("DeleteGroups", name)


async def list_offsets(call: Call) -> Any:
    """Return a page of how far a group is."""
    caller, name = call.caller, call.path["group"]
    known_group(caller, name)
    offsets = await group_offsets(caller, name)
    found = page(
        call, "offsets", list(offsets), lambda one: f"{one.topic}\0{one.partition:010}", lambda one: one
    )
    found["offsets"] = await offset_rows(caller, found["offsets"], offsets)
    return found


async def post_reset(call: Call) -> Any:
    """Move a group."""
    moves = await reset_offsets(call.caller, call.path["group"], call.body)
    return {"offsets": moves, "dry_run": call.body["dry_run"]}


async def delete_offsets(call: Call) -> Any:
    """Delete the committed offsets of a group for a topic."""
    caller, name, topic = call.caller, call.path["group"], call.path["topic"]
    caller.need(Operation.READ, ResourceType.TOPIC, topic)
    broker = caller.broker
    known_group(caller, name)
    if name in broker.shares:
        outcomes = await broker.shares.delete_offsets(name, [topic])
    else:
        places = [where for where in broker.groups.committed(name, None) if where.topic == topic]
        if not places:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"group {name} has no offsets of topic {topic}")
        outcomes = _named(await broker.groups.delete_offsets(name, places))
    _settle(caller, "OffsetDelete", f"{name} of {topic}", outcomes)
    return Answer(204)


_ON_GROUP: Final = Need(Operation.DESCRIBE, ResourceType.GROUP, "group")

ROUTES: Final = (
    Route(
        "GET",
        "/v1/groups",
        list_groups,
        "Groups, sorted by name.",
        paged("groups", _SUMMARY, "Groups"),
        query={
            "state": optional(Nullable(Text(0, 100)), "Only groups in this state."),
            "type": optional(
                Nullable(Text(choices=("classic", "consumer", "streams", "share"))),
                "Only groups of this type.",
            ),
            **PAGES,
        },
        asks="DESCRIBE on the cluster or on each group; other groups are omitted",
    ),
    Route(
        "GET",
        "/v1/groups/{group}",
        get_group,
        "A group and its members.",
        _GROUP,
        query=PAGES,
        needs=(_ON_GROUP,),
    ),
    Route(
        "DELETE",
        "/v1/groups/{group}",
        delete_group,
        "Delete a group without members, and its offsets.",
        needs=(Need(Operation.DELETE, ResourceType.GROUP, "group"),),
        status=204,
    ),
    Route(
        "GET",
        "/v1/groups/{group}/offsets",
        list_offsets,
        "Committed offsets of a group and its lag.",
        _OFFSETS,
        query=PAGES,
        needs=(_ON_GROUP,),
        asks="DESCRIBE on each topic; other topics are omitted",
    ),
    Route(
        "POST",
        "/v1/groups/{group}/offsets/reset",
        post_reset,
        "Reset the offsets of a group without members.",
        _MOVES,
        body=_RESET,
        needs=(Need(Operation.READ, ResourceType.GROUP, "group"),),
        asks="READ on each topic",
    ),
    Route(
        "DELETE",
        "/v1/groups/{group}/offsets/{topic}",
        delete_offsets,
        "Delete the committed offsets of a group for a topic.",
        needs=(Need(Operation.DELETE, ResourceType.GROUP, "group"),),
        asks="READ on the topic",
        status=204,
    ),
)
