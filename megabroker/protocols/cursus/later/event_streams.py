"""Streams of events: APPEND_STREAM, READ_STREAM, STREAM_VERSION, and snapshots.

An event is a record whose key is its aggregate's, in the partition that the key's hash selects, with its
version and what else is said of it in headers. Whoever leads the partition decides whether an event is the
next one: it follows its log with an index, and an event is in the index before the next is asked about. A
snapshot is a record in the topic's companion, which is compacted, so that the last of each aggregate stays;
the companion has access rules of its own, as any topic.

All of these are acknowledged when they are on the disk, and seen by who reads then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.codec.batch import build, read_header
from megabroker.errors import BrokerError, Cold, ProtocolError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import Acks, Topic
from megabroker.protocols.cursus.later.batch import BatchMessage, encode_head, encode_messages
from megabroker.protocols.cursus.later.calling import Call, Reply, room, told, turn, waited
from megabroker.protocols.cursus.later.errands import Carried, Errand, found_topic, partition_of_key
from megabroker.protocols.cursus.later.following import Followers
from megabroker.protocols.cursus.later.publishing import has_streams
from megabroker.protocols.cursus.later.records import message_of, record_of
from megabroker.protocols.cursus.later.refusals import Refusal
from megabroker.protocols.cursus.later.stream_index import EventIndex, SnapshotIndex
from megabroker.protocols.cursus.later.topics import snapshots_of
from megabroker.protocols.cursus.later.words import Need
from megabroker.protocols.reading import ReadCache, RecordReader

__all__ = ["append", "errands", "read", "read_snapshot", "save_snapshot", "version"]

_SLICE_RECORDS: Final = 300
_NEAR_RECORDS: Final = 64
_FAR_RECORDS: Final = 20  # what beginning elsewhere costs, in records that are read on
_READ_BYTES: Final = 64 * 1024
_CACHE_BYTES: Final = 16 << 20
_READS: Final = Need(Operation.READ, ResourceType.TOPIC, "")


async def append(call: Call) -> Reply:
    """APPEND_STREAM."""
    topic, index = _place(call)
    if call.broker.quotas.limits_clients:
        beside = sum(len(call[name].encode()) for name in ("key", "event_type", "metadata"))
        call.client.count_produced(len(call["message"]) + beside)
    values = {name: value for name, value in call.values.items() if name not in ("topic", "message")}
    fields, _ = await call.office.at_leader(topic.name, index, "append_event", call["message"], **values)
    return f"OK version={call['version']} offset={fields['offset']} partition={index}"


async def read(call: Call) -> Reply:
    """READ_STREAM: what is known of the stream, and a batch of its events."""
    topic, index = _place(call)
    kept = snapshots_of(topic.name)
    # Who may not read snapshots is told the events themselves.
    snapshot = await _snapshot(call, topic) if call.sees(_READS, kept) else None
    begin = call["from_version"]
    shown: dict[str, Any] = {}
    if snapshot is not None and snapshot["version"] >= begin:
        begin = snapshot["version"] + 1
        shown = {"snapshot": snapshot}
    fields, blob = await call.office.at_leader(
        topic.name,
        index,
        "read_events",
        key=call["key"],
        begin=begin,
        limit=call["limit"],
        max_bytes=call.client.factory.settings.max_frame_bytes,
    )
    envelope = {
        "status": "OK",
        "topic": topic.name,
        "key": call["key"],
        "partition": index,
        "count": fields["count"],
        **shown,
    }
    told = _json(envelope).encode()
    if call.broker.quotas.limits_clients:
        call.client.count_consumed(len(told) + len(blob))
    return told, blob


async def version(call: Call) -> Reply:
    """STREAM_VERSION."""
    return f"OK version={await _version(call)}"


async def save_snapshot(call: Call) -> Reply:
    """SAVE_SNAPSHOT: of a version that there is."""
    topic, index = _place(call)
    call.need(Operation.WRITE, ResourceType.TOPIC, snapshots_of(topic.name))
    try:
        call["message"].decode()
    except UnicodeDecodeError:
        raise Refusal("malformed_input", "a snapshot is UTF-8, as it is told in JSON") from None
    current = await _version(call)
    if call["version"] > current:
        raise Refusal("snapshot_version_exceeds_stream", version=call["version"], current=current)
    kept = found_topic(call.broker, snapshots_of(topic.name))
    at = partition_of_key(call["key"], kept.partitions)
    message = BatchMessage(0, 0, call["message"], call["key"].encode(), aggregate_version=call["version"])
    data = build([record_of(message, call.broker.now_ms())])
    if call.broker.quotas.limits_clients:
        call.client.count_produced(len(data))
    await call.office.at_leader(kept.name, at, "append", bytes(data), acks=int(Acks.DURABLE))
    return f"OK version={call['version']} partition={index}"


async def read_snapshot(call: Call) -> Reply:
    """READ_SNAPSHOT."""
    topic, _ = _place(call)
    call.need(Operation.READ, ResourceType.TOPIC, snapshots_of(topic.name))
    snapshot = await _snapshot(call, topic)
    told = "null" if snapshot is None else _json(snapshot)
    if call.broker.quotas.limits_clients:
        call.client.count_consumed(len(told.encode()))
    return f"OK snapshot={told}"


def _place(call: Call) -> tuple[Topic, int]:
    """Return the topic and the partition of an aggregate. Raises Refusal for a topic without streams."""
    topic = found_topic(call.broker, call["topic"])
    if not has_streams(topic):
        raise Refusal("event_sourcing_not_enabled", topic=topic.name)
    return topic, partition_of_key(call["key"], topic.partitions)


async def _version(call: Call) -> int:
    topic, index = _place(call)
    fields, _ = await call.office.at_leader(topic.name, index, "stream_version", key=call["key"])
    return int(fields["version"])


async def _snapshot(call: Call, topic: Topic) -> Mapping[str, Any] | None:
    kept = call.broker.topics.get(snapshots_of(topic.name))
    if kept is None:
        return None
    at = partition_of_key(call["key"], kept.partitions)
    fields, blob = await call.office.at_leader(kept.name, at, "read_snapshot", key=call["key"])
    if fields["version"] is None:
        return None
    return {"version": fields["version"], "payload": blob.decode("utf-8", "replace")}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- where partitions are led ----------------------------------------------------------------------


class _Streams:
    def __init__(self, broker: IBroker) -> None:
        self._broker = broker
        settings = broker.settings.protocols.get("cursus")
        max_bytes = getattr(settings, "stream_index_bytes", None) or 256 << 20
        self._events = Followers(broker, EventIndex, max_bytes)
        self._snapshots = Followers(broker, SnapshotIndex, max_bytes)
        self._cache = ReadCache(_CACHE_BYTES)

    async def append_event(self, fields: Mapping[str, Any], blob: bytes) -> Carried:
        """Append an event if it is the next of its aggregate; answers with its offset."""
        key, wanted = fields["key"].encode(), fields["version"]
        message = BatchMessage(
            0,
            0,
            blob,
            key,
            (fields["producerId"] or "").encode(),
            event_type=fields["event_type"].encode(),
            schema_version=fields["schema_version"],
            aggregate_version=wanted,
            metadata=fields["metadata"].encode(),
        )
        data = build([record_of(message, self._broker.now_ms())])
        while True:
            partition, followed = await self._events.find(fields["topic"], fields["partition"])
            current = followed.index.version(key)
            if wanted != current + 1:
                raise Refusal("version_conflict", current=current, expected=wanted)
            if partition.has_room(1, len(data)):
                break
            await room(partition, 1, len(data))
        # From the look at the version on nothing else has happened.
        offsets: list[int] = []

        def appended(done: Any) -> None:
            header = read_header(data, 0, len(data))
            offsets.append(partition.append(header, data, Acks.DURABLE, done))
            followed.index.add(key, wanted, offsets[0])
            followed.index.position = offsets[0] + 1

        try:
            await told(appended)
        except BrokerError:
            self._events.forget(partition)
            raise
        return {"offset": offsets[0]}, b""

    async def stream_version(self, fields: Mapping[str, Any], blob: bytes) -> Carried:
        """Say which version an aggregate has."""
        _, followed = await self._events.find(fields["topic"], fields["partition"])
        return {"version": followed.index.version(fields["key"].encode())}, b""

    async def read_events(self, fields: Mapping[str, Any], blob: bytes) -> Carried:
        """Return a batch of an aggregate's events."""
        key, begin, limit = fields["key"].encode(), fields["begin"], fields["limit"]
        partition, followed = await self._events.find(fields["topic"], fields["partition"])
        first, offsets = followed.index.events(key, begin, partition.start_offset)
        if offsets and first > begin:
            raise Refusal("events_deleted", requested=begin, earliest=first)
        messages = await self._read(partition, offsets[:limit], fields["max_bytes"], whole=limit is None)
        parts = [encode_head(fields["topic"], fields["partition"], messages)]
        for at in range(0, len(messages), _SLICE_RECORDS):
            if at:
                await turn(self._broker)
            parts.append(encode_messages(messages[at : at + _SLICE_RECORDS]))
        return {"count": len(messages)}, b"".join(parts)

    async def read_snapshot(self, fields: Mapping[str, Any], blob: bytes) -> Carried:
        """Return the last snapshot of an aggregate; version None is none."""
        partition, followed = await self._snapshots.find(fields["topic"], fields["partition"])
        found = followed.index.find(fields["key"].encode())
        if found is None:
            return {"version": None}, b""
        messages = await self._read(partition, [found[1]], 1 << 62, whole=True)
        return {"version": found[0]}, messages[0].payload

    async def _read(
        self, partition: IPartition, offsets: Sequence[int], max_bytes: int, *, whole: bool
    ) -> list[BatchMessage]:
        """Read the records at some offsets, as many as fit. Raises Refusal if all must and do not."""
        messages: list[BatchMessage] = []
        looked_at = 0
        reader = RecordReader(partition, 0, self._cache, read_bytes=_READ_BYTES)
        try:
            for offset in offsets:
                looked_at += offset - reader.position if _is_near(reader, offset) else _FAR_RECORDS
                message = await self._at(reader, offset)
                max_bytes -= message.size_bytes
                if max_bytes < 0 and messages:
                    if whole:
                        raise Refusal(
                            "stream_too_long",
                            f"{len(offsets)} events do not fit into one frame: ask for some with limit=<N>",
                        )
                    break
                messages.append(message)
                looked_at += 1
                if looked_at >= _SLICE_RECORDS:
                    looked_at = 0
                    await turn(self._broker)
        except (BrokerError, ProtocolError) as error:
            raise Refusal("broker_error", str(error)) from None
        finally:
            reader.close()
        return messages

    async def _at(self, reader: RecordReader, offset: int) -> BatchMessage:
        if not _is_near(reader, offset):
            reader.drop()
            reader.position = offset
        while True:
            try:
                record = reader.next()
            except Cold as cold:
                await waited(cold)
                continue
            if record is None or record.offset > offset:
                raise ProtocolError(
                    f"there is no record at offset {offset} of {reader.partition.topic_partition}"
                )
            if record.offset == offset:
                return message_of(record)


def _is_near(reader: RecordReader, offset: int) -> bool:
    """Whether to read on to an offset, rather than to begin there."""
    return 0 <= offset - reader.position <= _NEAR_RECORDS


def errands(broker: IBroker) -> Mapping[str, Errand]:
    """Return what is carried out where the partition is led."""
    streams = _Streams(broker)
    return {
        "append_event": streams.append_event,
        "stream_version": streams.stream_version,
        "read_events": streams.read_events,
        "read_snapshot": streams.read_snapshot,
    }
