"""Single messages: produced, and looked at by offset or time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from megabroker.access import Operation, ResourceType
from megabroker.codec.batch import build, read_header
from megabroker.codec.murmur import partition_of
from megabroker.errors import BrokerError, Cold, ErrorCode, ProtocolError, RequestError, StorageError
from megabroker.http.api.topics import known_partition, known_topic
from megabroker.http.caller import Caller
from megabroker.http.encoding import OMITTED, READABLE, SHOWN, WRITABLE, decoded, encoded
from megabroker.http.reading import refused
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import (
    ANYTHING,
    OFFSET,
    Integer,
    ListOf,
    Nullable,
    Object,
    Text,
    ValueFault,
    optional,
    required,
)
from megabroker.http.waiting import LARGE_BYTES, called_back, in_thread, moved, pause
from megabroker.interfaces import IPartition
from megabroker.model import NO_TIMESTAMP, Acks, Record, Topic
from megabroker.protocols.reading import ReadCache, RecordReader

__all__ = ["ROUTES", "FoundRecords", "first_at_or_after", "produce", "read_messages", "read_records"]

_MOST_MESSAGES: Final = 1000
_LONGEST_WAIT_MS: Final = 30_000
_MOST_HEADERS: Final = 100
_SLICE_SECONDS: Final = 0.005
_MOST_SCANNED_BYTES: Final = 64 << 20
_READ_BYTES: Final = 256 << 10
_ESCAPED: Final = 1.2
"""What JSON makes of a message is about so much longer; of one that is all control characters six times."""

_WRITTEN_HEADER: Final = Object(
    {
        "name": required(Text(0, 32_767), "Name of the header."),
        "value": optional(Nullable(Text()), "Value of the header."),
        "encoding": optional(WRITABLE, "Encoding of the value.", "text"),
    },
    "NewHeader",
)

_WRITTEN: Final = Object(
    {
        "partition": optional(
            Nullable(Integer(0, (1 << 31) - 1)),
            "Partition; null to choose it by the key as Kafka's producers do, or any if there is no key.",
        ),
        "key": optional(ANYTHING, "Key; null for none."),
        "key_encoding": optional(WRITABLE, "Encoding of the key.", "text"),
        "value": optional(ANYTHING, "Value; null for none, which deletes the key in a compacted topic."),
        "value_encoding": optional(WRITABLE, "Encoding of the value.", "text"),
        "headers": optional(ListOf(_WRITTEN_HEADER, maximum=_MOST_HEADERS), "Headers, in order.", []),
        "timestamp_ms": optional(Nullable(Integer(0)), "Timestamp in milliseconds since 1970; null for now."),
    },
    "NewMessage",
)

_PLACE: Final = Object(
    {
        "topic": required(Text(), "Topic of the message."),
        "partition": required(Integer(0), "Partition of the message."),
        "offset": required(Integer(0), "Offset of the message."),
        "timestamp_ms": required(Integer(), "Timestamp in milliseconds since 1970."),
    },
    "ProducedMessage",
)

_HEADER: Final = Object(
    {
        "name": required(Text(), "Name of the header."),
        "value": required(Nullable(Text()), "Value of the header."),
        "encoding": required(SHOWN, "Encoding of the value."),
    },
    "Header",
)

_MESSAGE: Final = Object(
    {
        "partition": required(Integer(0), "Partition of the message."),
        "offset": required(Integer(0), "Offset of the message."),
        "timestamp_ms": required(Integer(), "Timestamp in milliseconds since 1970; -1 for none."),
        "key": required(ANYTHING, "Key; null for none."),
        "key_encoding": required(SHOWN, "Encoding of the key; omitted if the key is too large."),
        "value": required(ANYTHING, "Value; null for none."),
        "value_encoding": required(SHOWN, "Encoding of the value; omitted if the value is too large."),
        "headers": required(ListOf(_HEADER, maximum=1 << 20), "Headers, in order."),
        "size_bytes": required(Integer(0), "Size of key and value together."),
    },
    "Message",
)

_MESSAGES: Final = Object(
    {
        "messages": required(ListOf(_MESSAGE), "Messages, sorted by offset."),
        "next_offset": required(OFFSET, "Offset to continue at."),
        "start_offset": required(OFFSET, "First offset of the partition."),
        "end_offset": required(OFFSET, "End offset of the visible messages."),
    },
    "Messages",
)


# --- producing ----------------------------------------------------------------------------------------------


def _bytes_of(message: dict[str, Any]) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """Return key, value and headers. Raises Problem with all that cannot be read."""
    faults: list[ValueFault] = []
    key = decoded(message["key"], message["key_encoding"], "/key", faults)
    value = decoded(message["value"], message["value_encoding"], "/value", faults)
    headers = [
        (one["name"], decoded(one["value"], one["encoding"], f"/headers/{at}/value", faults))
        for at, one in enumerate(message["headers"])
    ]
    if faults:
        raise refused([("body", fault) for fault in faults])
    return key, value, headers


async def produce(caller: Caller, topic: Topic, message: dict[str, Any]) -> dict[str, Any]:
    """Store a message; return where it is once it is as durable as the broker promises.

    Raises:
        Problem: it cannot be read.
        BrokerError: it is refused.
    """
    broker = caller.broker
    if all(isinstance(message[name], str | None) for name in ("key", "value")):
        key, value, headers = _bytes_of(message)
    else:
        key, value, headers = await in_thread(broker.reactor, _bytes_of, message)
    index = message["partition"]
    if index is None:
        count = topic.partitions
        index = random.randrange(count) if key is None else partition_of(key, count)
    partition = known_partition(caller, topic, index)
    if partition.needs_keys and key is None:
        raise RequestError(ErrorCode.INVALID_RECORD, f"topic {topic.name} is compacted: expected a key")
    timestamp_ms = broker.now_ms() if message["timestamp_ms"] is None else message["timestamp_ms"]
    data = build([(key, value, headers, timestamp_ms)])
    while not partition.has_room(1, len(data)):
        await called_back(partition.when_room)
    meter = caller.meter()
    wait_ms = 0 if meter is None else meter.produced(len(data))
    offset, append_time_ms = await _appended(partition, data)
    if wait_ms:
        await pause(broker.reactor, wait_ms / 1000)
    if append_time_ms >= 0:
        timestamp_ms = append_time_ms
    return {"topic": topic.name, "partition": index, "offset": offset, "timestamp_ms": timestamp_ms}


async def _appended(partition: IPartition, data: bytearray) -> tuple[int, int]:
    """Append a batch; return its offset when it is durable, and the time it was given, -1 for its own.

    Raises:
        BrokerError: it is not stored.
    """
    header = read_header(data, 0, len(data))
    found: list[tuple[int, int]] = []

    def append(answered: Any) -> None:
        if partition.is_here:
            offset = partition.append(header, data, Acks.DURABLE, answered)
            found.append((offset, partition.append_time_ms))
        else:
            remote: Any = partition

            def stored(offset: int, error: BrokerError | None) -> None:
                found.append((offset, NO_TIMESTAMP))
                answered(error)

            remote.send(header, data, Acks.DURABLE, stored)

    error: BrokerError | None = await called_back(append)
    if error is not None:
        raise error
    return found[0]


async def post_message(call: Call) -> Any:
    """Produce a message."""
    topic = known_topic(call.caller, call.path["topic"])
    return await produce(call.caller, topic, call.body)


# --- looking ------------------------------------------------------------------------------------------------


async def _looked(partition: Any) -> None:
    if not partition.is_here:
        error = await called_back(partition.look)
        if error is not None:
            raise error


async def first_at_or_after(partition: Any, timestamp_ms: int) -> int:
    """Return the offset of the first message at or after a time; the end if there is none."""
    if not partition.is_here:
        found = await partition.find(timestamp_ms)
    else:
        while True:
            try:
                found = partition.log.offset_for_time(timestamp_ms, cached_only=True)
                break
            except Cold as cold:
                await called_back(cold.when_room)
    end: int = partition.last_stable_offset
    return end if found is None else min(found.offset, end)


async def _begin(partition: IPartition, query: Mapping[str, Any]) -> int:
    """Return the offset to begin at. Raises RequestError (OFFSET_OUT_OF_RANGE)."""
    if query["offset"] is not None:
        offset: int = query["offset"]
        if not partition.start_offset <= offset <= partition.high_watermark:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset}: expected {partition.start_offset} to {partition.high_watermark}",
            )
        return offset
    if query["timestamp_ms"] is not None:
        return await first_at_or_after(partition, query["timestamp_ms"])
    if query["from"] == "latest":
        return max(partition.start_offset, partition.last_stable_offset - int(query["limit"]))
    return partition.start_offset


async def read_messages(caller: Caller, topic: Topic, index: int, query: dict[str, Any]) -> dict[str, Any]:
    """Return messages of a partition.

    Args:
        query: as the route has it, defaults included.

    Raises:
        BrokerError: they cannot be read.
    """
    found = await read_records(
        caller, topic, index, query, lambda record, is_too_large: _shown(index, record, query, is_too_large)
    )
    return {
        "messages": found.shown,
        "next_offset": found.next_offset,
        "start_offset": found.start_offset,
        "end_offset": found.end_offset,
    }


class FoundRecords(NamedTuple):
    """Messages of a partition, and where that is in it."""

    shown: list[Any]
    next_offset: int
    start_offset: int
    end_offset: int


async def read_records(
    caller: Caller,
    topic: Topic,
    index: int,
    query: Mapping[str, Any],
    show: Callable[[Record, bool], Any],
    most_bytes: int = 0,
) -> FoundRecords:
    """Return messages of a partition as something else makes them; see ``read_messages``.

    Args:
        show: makes what is kept of one; told as well whether it alone is more than fits into an answer.
        most_bytes: of all of them, for whoever keeps less of each; 0 for ``http.max_answer_bytes``.
    """
    partition = known_partition(caller, topic, index)
    await _looked(partition)
    reader = RecordReader(partition, await _begin(partition, query), ReadCache(0), read_bytes=_READ_BYTES)
    looking = _Looking(caller, partition, reader, query, show, most_bytes)
    try:
        found = await looking.look()
    finally:
        reader.close()
    meter = caller.meter()
    wait_ms = 0 if meter is None else meter.consumed(looking.taken_bytes)
    if wait_ms:
        await pause(caller.broker.reactor, wait_ms / 1000)
    end = max(partition.last_stable_offset, reader.position)
    return FoundRecords(found, reader.position, partition.start_offset, end)


class _Looking:
    """Reads messages in slices, so that nobody waits long for it."""

    def __init__(
        self,
        caller: Caller,
        partition: IPartition,
        reader: RecordReader,
        query: Mapping[str, Any],
        show: Callable[[Record, bool], Any],
        most_bytes: int,
    ) -> None:
        self._caller = caller
        self._reactor = caller.broker.reactor
        self._partition = partition
        self._reader = reader
        self._query = query
        self._key = None if query["key"] is None else str(query["key"]).encode()
        self._most_bytes: int = most_bytes or caller.broker.settings.http.max_answer_bytes
        self._show = show
        self.taken_bytes = 0
        self._found: list[Any] = []
        self._size = 0
        self._scanned_bytes = 0

    async def look(self) -> list[Any]:
        """Return what there is, or comes in time."""
        left = self._query["wait_ms"] / 1000
        while True:
            is_over = await self._slice()
            if is_over or self._found or left <= 0:
                return self._found
            began = self._reactor.seconds()
            await moved(self._reactor, self._partition, left)
            left -= self._reactor.seconds() - began

    async def _slice(self) -> bool:
        """Take what there is; return whether that is enough."""
        began = self._reactor.seconds()
        while len(self._found) < self._query["limit"] and self._scanned_bytes < _MOST_SCANNED_BYTES:
            try:
                record = self._reader.next()
            except Cold as cold:
                await called_back(cold.when_room)
                continue
            except (BrokerError, ProtocolError) as error:
                if self._found:
                    return True  # what lies before it is not lost by it; whoever goes on meets it again
                if isinstance(error, BrokerError):
                    raise
                raise StorageError(ErrorCode.CORRUPT_BATCH, str(error)) from error
            if record is None:
                return False
            if not await self._take(record):
                return True
            if self._reactor.seconds() - began > _SLICE_SECONDS:
                await pause(self._reactor, 0)
                began = self._reactor.seconds()
        return True

    async def _take(self, record: Record) -> bool:
        """Take a message if it is wanted; return whether there is room for another."""
        size = len(record.key or b"") + len(record.value or b"")
        self._scanned_bytes += size + 1
        if self._key is not None and record.key != self._key:
            return True
        beside = sum(len(one.key) + len(one.value or b"") for one in record.headers)
        length = int(size * _ESCAPED) + beside
        if self._found and self._size + length > self._most_bytes:
            self._reader.drop()
            self._reader.position = record.offset
            return False
        self._size += length
        self.taken_bytes += size + beside
        is_too_large = length > self._most_bytes
        if length < LARGE_BYTES or is_too_large:
            self._found.append(self._show(record, is_too_large))
        else:
            self._found.append(await in_thread(self._reactor, self._show, record, is_too_large))
        return self._size < self._most_bytes


def _shown(partition: int, record: Record, query: Mapping[str, Any], is_too_large: bool) -> dict[str, Any]:
    key, key_encoding = encoded(record.key, query["key_encoding"])
    value, value_encoding = encoded(record.value, query["value_encoding"])
    if is_too_large:
        key, key_encoding, value, value_encoding = None, OMITTED, None, OMITTED
    headers = []
    for one in () if is_too_large else record.headers:
        shown, encoding = encoded(one.value, "auto")
        headers.append({"name": one.key, "value": shown, "encoding": encoding})
    return {
        "partition": partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": key,
        "key_encoding": key_encoding,
        "value": value,
        "value_encoding": value_encoding,
        "headers": headers,
        "size_bytes": len(record.key or b"") + len(record.value or b""),
    }


async def list_messages(call: Call) -> Any:
    """Return messages of a partition."""
    topic = known_topic(call.caller, call.path["topic"])
    return await read_messages(call.caller, topic, call.path["partition"], dict(call.query))


QUERY: Final = {
    "offset": optional(Nullable(OFFSET), "Offset of the first message."),
    "timestamp_ms": optional(
        Nullable(OFFSET), "Start with the first message at or after this time, in milliseconds since 1970."
    ),
    "from": optional(
        Text(choices=("earliest", "latest")),
        "Where to start otherwise: at the earliest message, or so that the last messages are returned.",
        "earliest",
    ),
    "limit": optional(Integer(1, _MOST_MESSAGES), "Maximum number of messages.", 100),
    "wait_ms": optional(Integer(0, _LONGEST_WAIT_MS), "How long to wait if there are no messages.", 0),
    "key": optional(Nullable(Text(0, 4096)), "Only messages with this key, given as text."),
    "key_encoding": optional(READABLE, "Encoding of keys in the answer.", "auto"),
    "value_encoding": optional(
        READABLE,
        "Encoding of values in the answer; a value that is not JSON or not text has another encoding.",
        "auto",
    ),
}

ROUTES: Final = (
    Route(
        "POST",
        "/v1/topics/{topic}/messages",
        post_message,
        "Produce a message; the answer is sent when the message is durable.",
        _PLACE,
        body=_WRITTEN,
        needs=(Need(Operation.WRITE, ResourceType.TOPIC, "topic"),),
        status=201,
    ),
    Route(
        "GET",
        "/v1/topics/{topic}/partitions/{partition}/messages",
        list_messages,
        "Read committed messages of a partition, by offset, without a group.",
        _MESSAGES,
        query=QUERY,
        needs=(Need(Operation.READ, ResourceType.TOPIC, "topic"),),
        waits=True,
    ),
)
