"""The offsets of groups: how far they are, and where they go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.core.groups.resetting import ResetTo, new_offset
from megabroker.errors import ErrorCode, PeerError, RequestError, StateError, StorageError
from megabroker.http.api.groups import DESCRIBE_GROUP, known_group
from megabroker.http.api.messages import first_at_or_after
from megabroker.http.api.topics import check_partition, known_topic, partition_rows
from megabroker.http.caller import Caller
from megabroker.http.paging import PAGES, page, paged
from megabroker.http.routes import Answer, Call, Need, Route
from megabroker.http.schema import FLAG, OFFSET, Integer, ListOf, Nullable, Object, Text, optional, required
from megabroker.http.waiting import in_slices
from megabroker.model import CommittedOffset, GroupSummary, TopicPartition

__all__ = ["ROUTES", "group_offsets", "offset_rows", "reset_offsets"]

_MOST_PARTITIONS: Final = 100_000
_ANY_MEMBERS: Final = ("Empty", "Dead")
_MOST_NAMED: Final = 20
"""Partitions that a refusal and the audit log name at most."""

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


ROUTES: Final = (
    Route(
        "GET",
        "/v1/groups/{group}/offsets",
        list_offsets,
        "Committed offsets of a group and its lag.",
        _OFFSETS,
        query=PAGES,
        needs=(DESCRIBE_GROUP,),
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
