"""CONSUME and STREAM: messages in batches, once or for as long as the client listens.

A group that has committed goes on there, whatever lower offset is asked for; delivering commits nothing. Both
look at the log in slices, one a turn, and send no more while the client's output is full. A stream says by an
empty frame every five seconds that it is alive, and by STREAM_CONTROL why it ends.

Invariant: messages leave in offset order, each at most once per command.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from megabroker.access import Operation, ResourceType
from megabroker.errors import BrokerError, Cold, ErrorCode, ProtocolError
from megabroker.interfaces import IPartition
from megabroker.protocols.cursus.later.batch import BatchMessage, encode_batch
from megabroker.protocols.cursus.later.calling import Call, Reply, look, turn, waited
from megabroker.protocols.cursus.later.errands import found_topic
from megabroker.protocols.cursus.later.records import message_of
from megabroker.protocols.cursus.later.refusals import Refusal, refusal_of
from megabroker.protocols.reading import RecordReader

__all__ = ["consume", "stream"]

_log = Logger()

_BATCH_BYTES: Final = 4 << 20
_STREAM_BYTES: Final = 256 * 1024
_SLICE_RECORDS: Final = 500
_SLICE_BYTES: Final = 256 * 1024
_KEEPALIVE_SECONDS: Final = 5.0
_VISIBLE_WITHIN_SECONDS: Final = 10.0
_MOST_MESSAGES: Final = 8192
_LONGEST_PATTERN: Final = 256
_MOST_TOPICS: Final = 100
_KEEPALIVE: Final = b""

_is_pattern = re.compile(r"[*?]").search


async def consume(call: Call) -> Reply:
    """CONSUME: one batch, after ``wait_ms`` at most if there is nothing yet."""
    call.need(Operation.READ, ResourceType.GROUP, call["group"])
    partitions = [await _partition(call, name) for name in _topics(call)]
    readers = []
    for partition in partitions:
        reader = RecordReader(
            partition,
            await _begin(call, partition),
            call.client.factory.read_cache,
            committed=call["isolation"] == "read_committed",
        )
        readers.append(reader)
    try:
        messages = await _read_all(call, readers)
    finally:
        for reader in readers:
            reader.close()
    body = encode_batch(call["topic"], call["partition"], messages)
    if call.broker.quotas.limits_clients:
        call.client.count_consumed(len(body))
    return (body,)


async def _read_all(call: Call, readers: list[RecordReader]) -> list[BatchMessage]:
    """Return what there is, or what comes within the time that the client gives it.

    What was accepted when it asked belongs to it, even where it is not visible yet.
    """
    most = min(call["batch"], _MOST_MESSAGES)
    partitions = [reader.partition for reader in readers]
    ends = [partition.log.next_offset for partition in partitions]
    seconds = call.broker.reactor.seconds
    deadline, visible = seconds() + call["wait_ms"] / 1000, seconds() + _VISIBLE_WITHIN_SECONDS
    messages: list[BatchMessage] = []
    while True:
        for reader in readers:
            if len(messages) < most:
                await _read(call, reader, messages, most, _BATCH_BYTES)
        is_behind = any(one.high_watermark < end for one, end in zip(partitions, ends, strict=True))
        left = (visible if is_behind else deadline) - seconds()
        if len(messages) >= most or (messages and not is_behind) or left <= 0 or call.dialect.hurries:
            return messages
        await _news(call, partitions, left)


async def stream(call: Call) -> Reply:
    """STREAM: sends batches until one of the two ends it."""
    partition = await _partition(call, found_topic(call.broker, call["topic"]).name)
    begin = await _begin(call, partition)
    client = call.client
    committed = call["isolation"] == "read_committed"
    reader = RecordReader(partition, begin, client.factory.read_cache, committed=committed)
    client.idle_exempt = True
    reason = "stopped"
    try:
        await _send_all(call, reader)
    except Refusal as refusal:
        # What is refused later is told by the stream's own end.
        is_behind = refusal.text.startswith("ERROR: OFFSET_OUT_OF_RANGE")
        reason = "offset_out_of_range" if is_behind else "error"
        if refusal.text.startswith("ERROR: broker_error"):  # the client is told no more than that
            place = f"{call['topic']}-{call['partition']}"
            _log.warn(
                "stream-ended: {place} at {offset}: {why}", place=place, offset=reader.position, why=refusal
            )
    finally:
        reader.close()
        client.idle_exempt = False
    end = f"STREAM_CONTROL type=CLOSE reason={reason} offset={reader.position}"
    if reason == "offset_out_of_range":
        end += f" requested={reader.position} {_range(partition)}"
    return end


async def _send_all(call: Call, reader: RecordReader) -> None:
    client, most = call.client, min(call["batch"], _MOST_MESSAGES)
    topic, index = call["topic"], call["partition"]
    while not call.dialect.hurries:
        if not client.may(Operation.READ, ResourceType.TOPIC, topic):
            raise Refusal("NOT_AUTHORIZED_FOR_TOPIC", operation="read", topic=topic)
        call.need(Operation.READ, ResourceType.GROUP, call["group"])
        if client.output_is_full:
            await call.dialect.drained()
            continue
        messages: list[BatchMessage] = []
        await _read(call, reader, messages, most, _STREAM_BYTES)
        if not messages:
            if not await _news(call, [reader.partition], _KEEPALIVE_SECONDS) and not call.dialect.hurries:
                client.send_frame(_KEEPALIVE)
            continue
        body = encode_batch(topic, index, messages)
        client.note_activity()
        client.send_frame(body)
        wait_ms = client.count_consumed(len(body)) if call.broker.quotas.limits_clients else 0
        if wait_ms:
            await call.dialect.awoken(wait_ms / 1000)
        else:
            await turn(call.broker)


def _topics(call: Call) -> list[str]:
    """Return the names of the topics that are meant, which the client may read."""
    name = call["topic"]
    if not _is_pattern(name):
        call.need(Operation.READ, ResourceType.TOPIC, name)
        return [found_topic(call.broker, name).name]
    if len(name) > _LONGEST_PATTERN:
        raise Refusal("invalid_topic_name", f"a pattern has at most {_LONGEST_PATTERN} characters")
    names = [topic.name for topic in call.broker.topics.all() if not topic.internal]
    pattern = name.replace("[", "[[]")
    found = [
        one
        for one in sorted(fnmatch.filter(names, pattern))
        if call.client.may(Operation.READ, ResourceType.TOPIC, one, quiet=True)
    ]
    if not found:
        raise Refusal("topic_not_found", topic=name)
    if len(found) > _MOST_TOPICS:
        raise Refusal(
            "invalid_topic_name", f"{len(found)} topics fit; a pattern is for at most {_MOST_TOPICS}"
        )
    return found


async def _partition(call: Call, topic: str) -> IPartition:
    try:
        partition = call.broker.partitions.partition(topic, call["partition"])
    except BrokerError as error:
        if error.code is ErrorCode.UNKNOWN_PARTITION:
            raise Refusal("partition_not_found", partition=call["partition"]) from None
        raise
    await look(partition)
    return partition


async def _begin(call: Call, partition: IPartition) -> int:
    """Return where to begin: what the group has committed, or what is asked for if that is further."""
    topic = partition.topic.name
    fields = await call.office.at_coordinator(
        call["group"], "fetch_offset", group=call["group"], topic=topic, partition=partition.index
    )
    asked, committed = call["offset"], fields["offset"]
    if committed is not None:
        offset = committed if asked is None else max(asked, committed)
    elif asked is not None:
        offset = asked
    else:
        latest = call["autoOffsetReset"] == "latest"
        return partition.last_stable_offset if latest else partition.start_offset
    if not partition.start_offset <= offset <= max(partition.log.next_offset, partition.high_watermark):
        raise _out_of_range(partition, offset)
    return int(offset)


def _out_of_range(partition: IPartition, offset: int) -> Refusal:
    return Refusal(
        "OFFSET_OUT_OF_RANGE",
        requested=offset,
        earliest=partition.start_offset,
        latest=partition.last_stable_offset,
    )


def _range(partition: IPartition) -> str:
    return f"earliest={partition.start_offset} latest={partition.last_stable_offset}"


async def _read(
    call: Call, reader: RecordReader, messages: list[BatchMessage], most: int, max_bytes: int
) -> None:
    """Add what is there, as much as is wanted. Raises Refusal."""
    size = sum(one.size_bytes for one in messages)
    since, count = size, 0
    while len(messages) < most and not call.client.closed:
        begin = reader.position
        try:
            record = reader.next()
        except Cold as cold:
            await waited(cold)
            continue
        except (BrokerError, ProtocolError) as error:
            if messages:
                return  # what lies before it is not lost by it; whoever reads on meets it again
            if isinstance(error, ProtocolError):
                raise Refusal("broker_error", str(error)) from None
            if error.code is ErrorCode.OFFSET_OUT_OF_RANGE:
                raise _out_of_range(reader.partition, reader.position) from None
            raise refusal_of(error) from None
        if record is None:
            return
        message = message_of(record)
        if messages and size + message.size_bytes > max_bytes:
            reader.drop()
            reader.position = begin
            return
        messages.append(message)
        size += message.size_bytes
        count += 1
        if count % _SLICE_RECORDS == 0 or size - since > _SLICE_BYTES:
            since = size
            await turn(call.broker)


async def _news(call: Call, partitions: list[IPartition], seconds: float) -> bool:
    """Wait until there is something new in any of the partitions, or so long; say whether there may be."""
    moved: Deferred[None] = Deferred()
    news: list[bool] = []

    def wake() -> None:
        news.append(True)
        if not moved.called:
            moved.callback(None)

    cancels: list[Callable[[], None]] = [partition.watch(wake) for partition in partitions]
    done: Any = call.dialect.awoken(seconds)

    def time_is_up(_: object) -> None:
        if not moved.called:
            moved.callback(None)

    done.addBoth(time_is_up)
    try:
        await moved
    finally:
        for cancel in cancels:
            cancel()
        call.dialect.forget(done)
    return bool(news)
