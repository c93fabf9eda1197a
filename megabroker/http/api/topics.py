"""Topics: listed, made, described, grown, deleted."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.http.caller import Caller
from megabroker.http.paging import PAGES, page, paged
from megabroker.http.routes import Answer, Call, Need, Route
from megabroker.http.schema import (
    FLAG,
    Integer,
    MapOf,
    Nullable,
    Object,
    Text,
    optional,
    required,
)
from megabroker.http.waiting import in_slices, pause
from megabroker.interfaces import IPartition
from megabroker.model import Topic, TopicPartition

__all__ = [
    "ROUTES",
    "Totals",
    "check_partition",
    "create_topic",
    "describe_topic",
    "known_partition",
    "known_topic",
    "partition_rows",
    "show_topic",
    "topic_totals",
    "truncate",
    "visible_topics",
]

_MOST_PARTITIONS: Final = 1_000_000
_ROWS_AT_ONCE: Final = 200
"""How many partitions are told of before everybody else has a turn."""

_VALUE: Final = Text(0, 32_767)

_TOPIC: Final = Object(
    {
        "name": required(Text(), "Name of the topic."),
        "id": required(Text(form="uuid"), "Id of the topic; a later topic of the same name has another one."),
        "partitions": required(Integer(0), "Number of partitions."),
        "is_internal": required(FLAG, "Whether it is an internal topic of the broker."),
        "configs": required(
            MapOf(Text()), "Configurations set on the topic, by Kafka's names, without defaults."
        ),
    },
    "Topic",
)

PARTITION: Final = Object(
    {
        "partition": required(Integer(0), "Number of the partition."),
        "leader": required(Integer(-1), "Node that leads the partition."),
        "leader_epoch": required(Integer(-1), "Leader epoch."),
        "start_offset": required(Nullable(Integer(0)), "Offset of the first message."),
        "end_offset": required(Nullable(Integer(0)), "End offset of the visible messages (high watermark)."),
        "stable_offset": required(
            Nullable(Integer(0)), "Last stable offset: start of the earliest open transaction."
        ),
        "size_bytes": required(Nullable(Integer(0)), "Size of the files of the partition."),
        "error": required(Nullable(Text()), "Why the partition is unavailable; null if it is available."),
    },
    "Partition",
)

_DESCRIBED: Final = Object(
    {
        **_TOPIC.fields,
        "size_bytes": required(Integer(0), "Size of all files of the topic."),
        "messages": required(
            Integer(0), "Number of offsets in all partitions: approximately the number of messages."
        ),
    },
    "TopicDescription",
)

_NEW: Final = Object(
    {
        "name": required(Text(1, 249), "Name of the topic: letters, digits, dot, underscore, hyphen."),
        "partitions": optional(
            Nullable(Integer(1, _MOST_PARTITIONS)), "Number of partitions; null for the broker's default."
        ),
        "configs": optional(MapOf(_VALUE), "Configurations to set, by Kafka's names.", {}),
        "validate_only": optional(FLAG, "Only check whether the request would be refused.", False),
    },
    "NewTopic",
)

_GROWN: Final = Object(
    {
        "partitions": required(
            Integer(1, _MOST_PARTITIONS), "New number of partitions, above the current one."
        ),
        "validate_only": optional(FLAG, "Only check whether the request would be refused.", False),
    },
    "MorePartitions",
)


# --- what is asked for here and by others --------------------------------------------------------------


class Totals(NamedTuple):
    """All partitions of a topic together; ``end`` is the sum of their ends."""

    size_bytes: int
    messages: int
    end: int


def visible_topics(caller: Caller, prefix: str = "") -> list[Topic]:
    """Return the topics that the caller may see, by name."""
    return [
        topic
        for topic in caller.broker.topics.all()
        if topic.name.startswith(prefix) and caller.sees(ResourceType.TOPIC, topic.name)
    ]


def known_topic(caller: Caller, name: str) -> Topic:
    """Return a topic. Raises RequestError (UNKNOWN_TOPIC)."""
    topic = caller.broker.topics.get(name)
    if topic is None:
        raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"no topic is called {name!r}")
    return topic


def check_partition(topic: Topic, index: int) -> None:
    """Raise RequestError (UNKNOWN_PARTITION) unless a topic has a partition of this number."""
    if index >= topic.partitions:
        raise RequestError(
            ErrorCode.UNKNOWN_PARTITION, f"topic {topic.name} has partitions 0 to {topic.partitions - 1}"
        )


def known_partition(caller: Caller, topic: Topic, index: int) -> IPartition:
    """Return a partition, wherever it is led. Raises BrokerError (UNKNOWN_PARTITION and others)."""
    check_partition(topic, index)
    return caller.broker.partitions.partition(topic.name, index)


def show_topic(topic: Topic) -> dict[str, Any]:
    """Return what a list has of a topic."""
    return {
        "name": topic.name,
        "id": str(topic.id),
        "partitions": topic.partitions,
        "is_internal": topic.internal,
        "configs": dict(topic.configs),
    }


async def partition_rows(caller: Caller, topic: Topic, begin: int = 0, end: int | None = None) -> list[Any]:
    """Return what is to be said of a topic's partitions, or of some of them."""
    rows: list[Any] = []
    last = topic.partitions if end is None else min(end, topic.partitions)
    for first in range(begin, last, _ROWS_AT_ONCE):
        if rows:
            await pause(caller.broker.reactor, 0)
        found = await _partitions(caller, topic, first, min(first + _ROWS_AT_ONCE, last))
        rows += [_partition_row(caller, topic, at, one) for at, one in enumerate(found, first)]
    return rows


async def _partitions(caller: Caller, topic: Topic, begin: int, end: int) -> list[IPartition | BrokerError]:
    """Return partitions whose ends are known, or why they cannot be used."""
    found: list[IPartition | BrokerError] = []
    looking: list[Deferred[None]] = []
    for index in range(begin, end):
        try:
            partition = caller.broker.partitions.partition(topic.name, index)
        except BrokerError as error:
            found.append(error)
            continue
        found.append(partition)
        if not partition.is_here:
            looking.append(_looked(partition))
    for one in looking:
        await one
    return found


def _looked(partition: Any) -> Deferred[None]:
    """Have the leader say how far a partition is; what it does not say is what it said last."""
    done: Deferred[None] = Deferred()
    partition.look(lambda error: done.callback(None))
    return done


def _partition_row(caller: Caller, topic: Topic, index: int, found: IPartition | BrokerError) -> Any:
    leader = caller.broker.placement.leader(TopicPartition(topic.name, index)).id
    row: dict[str, Any] = dict.fromkeys(PARTITION.fields)
    row.update({"partition": index, "leader": leader, "leader_epoch": topic.leader_epoch})
    if isinstance(found, BrokerError):
        return {**row, "error": found.message}
    return {
        **row,
        "leader_epoch": found.leader_epoch,
        "start_offset": found.start_offset,
        "end_offset": found.high_watermark,
        "stable_offset": found.last_stable_offset,
        "size_bytes": found.log.size_bytes,
    }


async def describe_topic(caller: Caller, name: str) -> dict[str, Any]:
    """Return all that is to be said of a topic as a whole. Raises RequestError (UNKNOWN_TOPIC)."""
    topic = known_topic(caller, name)
    totals = await topic_totals(caller, topic)
    return {**show_topic(topic), "size_bytes": totals.size_bytes, "messages": totals.messages}


async def topic_totals(caller: Caller, topic: Topic) -> Totals:
    """Return what all partitions of a topic hold, those left out that cannot be used."""
    size_bytes = messages = end = 0
    if caller.broker.peers is None:
        async for partition in in_slices(caller.broker.reactor, caller.broker.topics.led(topic.name)):
            if partition is not None:
                size_bytes += partition.log.size_bytes
                messages += partition.high_watermark - partition.start_offset
                end += partition.high_watermark
        return Totals(size_bytes, messages, end)
    for row in await partition_rows(caller, topic):
        if row["error"] is None:
            size_bytes += row["size_bytes"]
            messages += row["end_offset"] - row["start_offset"]
            end += row["end_offset"]
    return Totals(size_bytes, messages, end)


async def create_topic(
    caller: Caller, name: str, partitions: int | None, configs: dict[str, str], *, validate_only: bool = False
) -> Topic | None:
    """Make a topic; return it when it serves, None with ``validate_only``. Raises BrokerError."""
    if not caller.may(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, quiet=True):
        caller.need(Operation.CREATE, ResourceType.TOPIC, name)
    topics = caller.broker.topics
    count: int = caller.broker.settings.topics.default_partitions if partitions is None else partitions
    topics.validate(name, count, configs)
    caller.charge(count)
    if validate_only:
        return None
    topic = await topics.create(name, count, configs)
    caller.changed("CreateTopics", name)
    return topic


# --- routes -----------------------------------------------------------------------------------------------


def list_topics(call: Call) -> Any:
    """Return a page of the topics that the caller may see."""
    topics = visible_topics(call.caller, call.query["prefix"])
    return page(call, "topics", topics, lambda topic: topic.name, show_topic)


async def post_topic(call: Call) -> Any:
    """Make a topic."""
    wanted = call.body
    topic = await create_topic(
        call.caller,
        wanted["name"],
        wanted["partitions"],
        wanted["configs"],
        validate_only=wanted["validate_only"],
    )
    return Answer(204) if topic is None else show_topic(topic)


async def get_topic(call: Call) -> Any:
    """Describe a topic."""
    return await describe_topic(call.caller, call.path["topic"])


async def delete_topic(call: Call) -> Any:
    """Delete a topic and its data."""
    caller, name = call.caller, call.path["topic"]
    topic = known_topic(caller, name)
    caller.charge(topic.partitions)
    await caller.broker.topics.delete(name)
    caller.changed("DeleteTopics", name)


async def list_partitions(call: Call) -> Any:
    """Return a page of a topic's partitions."""
    topic = known_topic(call.caller, call.path["topic"])
    numbers = range(topic.partitions)
    found = page(call, "partitions", numbers, lambda index: f"{index:010}", lambda index: index)
    shown = found["partitions"]
    if shown:
        found["partitions"] = await partition_rows(call.caller, topic, shown[0], shown[-1] + 1)
    return found


async def get_partition(call: Call) -> Any:
    """Describe a partition."""
    topic, index = known_topic(call.caller, call.path["topic"]), call.path["partition"]
    check_partition(topic, index)
    return (await partition_rows(call.caller, topic, index, index + 1))[0]


async def truncate(caller: Caller, topic: Topic, index: int, before: int | None) -> int:
    """Delete what lies below an offset, None for all there is; return the first offset left.

    Raises:
        BrokerError: it cannot be done.
    """
    caller.broker.topics.check_truncation(topic.name)
    partition: Any = known_partition(caller, topic, index)
    if not partition.is_here:
        start = await partition.delete_records_there(-1 if before is None else before)
    else:
        start = partition.delete_records(partition.high_watermark if before is None else before)
    caller.changed("DeleteRecords", f"{topic.name}-{index} before {start}")
    return int(start)


async def post_truncation(call: Call) -> Any:
    """Delete the records of a partition below an offset."""
    topic = known_topic(call.caller, call.path["topic"])
    start = await truncate(call.caller, topic, call.path["partition"], call.body["before_offset"])
    return {"start_offset": start}


async def post_partitions(call: Call) -> Any:
    """Grow a topic."""
    caller, total = call.caller, call.body["partitions"]
    topic = known_topic(caller, call.path["topic"])
    caller.charge(caller.broker.topics.check_growth(topic.name, total))
    if call.body["validate_only"]:
        return Answer(204)
    grown = await caller.broker.topics.create_partitions(topic.name, total)
    caller.changed("CreatePartitions", topic.name)
    return show_topic(grown)


_CHECKED: Final = "With validate_only, if the request would succeed."
_SEEN: Final = "DESCRIBE on each topic, those that may not be seen are left out"
_ON_TOPIC: Final = Need(Operation.DESCRIBE, ResourceType.TOPIC, "topic")

ROUTES: Final = (
    Route(
        "GET",
        "/v1/topics",
        list_topics,
        "Topics, sorted by name.",
        paged("topics", _TOPIC, "Topics"),
        query={"prefix": optional(Text(0, 249), "Prefix of the topic names.", ""), **PAGES},
        asks=_SEEN,
    ),
    Route(
        "POST",
        "/v1/topics",
        post_topic,
        "Create a topic; the answer is sent when the topic is available.",
        _TOPIC,
        body=_NEW,
        asks="CREATE on the cluster or the topic",
        status=201,
        may_be_empty=_CHECKED,
    ),
    Route("GET", "/v1/topics/{topic}", get_topic, "A topic.", _DESCRIBED, needs=(_ON_TOPIC,)),
    Route(
        "DELETE",
        "/v1/topics/{topic}",
        delete_topic,
        "Delete a topic and its data.",
        needs=(Need(Operation.DELETE, ResourceType.TOPIC, "topic"),),
        status=204,
    ),
    Route(
        "GET",
        "/v1/topics/{topic}/partitions",
        list_partitions,
        "The partitions of a topic: offsets, sizes, leaders.",
        paged("partitions", PARTITION, "Partitions"),
        query=PAGES,
        needs=(_ON_TOPIC,),
    ),
    Route(
        "GET",
        "/v1/topics/{topic}/partitions/{partition}",
        get_partition,
        "A partition.",
        PARTITION,
        needs=(_ON_TOPIC,),
    ),
    Route(
        "POST",
        "/v1/topics/{topic}/partitions/{partition}/truncate",
        post_truncation,
        "Delete the messages of a partition below an offset.",
        Object(
            {"start_offset": required(Integer(0), "Offset of the first message that remains.")}, "Truncated"
        ),
        body=Object(
            {
                "before_offset": required(
                    Nullable(Integer(0)), "Offset below which messages are deleted; null for the end."
                )
            },
            "Truncation",
        ),
        needs=(Need(Operation.DELETE, ResourceType.TOPIC, "topic"),),
    ),
    Route(
        "POST",
        "/v1/topics/{topic}/partitions",
        post_partitions,
        "Add partitions to a topic.",
        _TOPIC,
        body=_GROWN,
        may_be_empty=_CHECKED,
        needs=(Need(Operation.ALTER, ResourceType.TOPIC, "topic"),),
    ),
)
