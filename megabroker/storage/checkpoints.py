"""The small files beside the logs, in Kafka's own formats.

Owns their bytes and nothing of their meaning. A file that cannot be parsed counts as absent: all of them
can be derived again, at the price of reading more of the log.

    offset checkpoints   text: "0", number of entries, then "<topic> <partition> <offset>" per line;
                         ours end with a line "__crc32c -1 <CRC-32C of the lines before it>", which is of no
                         partition, so that Kafka passes over it
    leader epochs        text: "0", number of entries, then "<epoch> <start offset>" per line
    damaged ranges       text: "0", number of entries, then five numbers per line (ours, not Kafka's); ends
                         with a line "-1 <CRC-32C of the lines before it> 0 0 0", which is of no segment
    meta.properties      text: "<key>=<value>" per line, as Java has them; ours begin with a comment of the
                         CRC-32C of the lines after it, which Kafka passes over. No other file says this, so
                         a damaged one must not count as absent
    partition.metadata   text: "version: 0", "topic_id: <22 characters of url-safe base64>"
    <offset>.snapshot    version i16 = 1, CRC-32C u32 of what follows, count i32, per producer:
                         id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
                         timestamp i64, coordinator epoch i32, first offset of open transaction i64

A snapshot holds the last batch of each producer only, as Kafka's does; replaying the log after it
brings the others back.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from crc32c import crc32c

from megabroker.model import ProducerSnapshot, TopicPartition

__all__ = [
    "decode_damaged",
    "decode_meta",
    "decode_offsets",
    "decode_partition_metadata",
    "decode_rows",
    "decode_snapshot",
    "encode_damaged",
    "encode_meta",
    "encode_offsets",
    "encode_partition_metadata",
    "encode_rows",
    "encode_snapshot",
]

_HEAD = struct.Struct(">hIi")
_ENTRY = struct.Struct(">qhiqiqiq")
_MAX_SEQUENCE = 0x7FFFFFFF
_CHECK_NAME = "__crc32c"
_CHECK = f"{_CHECK_NAME} -1 "
_META_CHECK = b"# crc32c of what follows: "


def _lines(data: bytes | None) -> list[str] | None:
    if data is None:
        return None
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) < 2 or lines[0] != "0" or lines[1] != str(len(lines) - 2):
        return None
    return lines[2:]


def encode_meta(values: Mapping[str, str]) -> bytes:
    """Encode ``meta.properties``."""
    told = "".join(f"{key}={value}\n" for key, value in values.items()).encode()
    return b"%b%d\n%b" % (_META_CHECK, crc32c(told), told)


def decode_meta(data: bytes) -> dict[str, str] | None:
    """Decode ``meta.properties``; None when its CRC says that it is damaged. Without a CRC it is believed."""
    if data.startswith(_META_CHECK):
        check, _, told = data.partition(b"\n")
        if check != b"%b%d" % (_META_CHECK, crc32c(told)):
            return None
    lines = data.decode(errors="replace").splitlines()
    return dict(line.strip().split("=", 1) for line in lines if "=" in line and line[0] != "#")


def encode_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    """Encode an offset checkpoint."""
    rows = [f"{name} {index} {offset}\n" for (name, index), offset in sorted(offsets.items())]
    told = "".join(rows)
    return f"0\n{len(rows) + 1}\n{told}{_CHECK}{crc32c(told.encode())}\n".encode()


def decode_offsets(data: bytes | None) -> dict[TopicPartition, int] | None:
    """Decode an offset checkpoint; None when it is absent or damaged."""
    lines = _lines(data)
    if lines is None:
        return None
    if lines and lines[-1].startswith(_CHECK):
        told = "".join(f"{line}\n" for line in lines[:-1])
        if lines.pop() != f"{_CHECK}{crc32c(told.encode())}":
            return None
    offsets = {}
    for line in lines:
        try:
            topic, partition, offset = line.split(" ")
            offsets[TopicPartition(topic, int(partition))] = int(offset)
        except ValueError:
            return None
    if any(topic == _CHECK_NAME or partition < 0 for topic, partition in offsets):
        return None  # the check, damaged itself
    return offsets


def encode_rows(rows: Iterable[Sequence[int]]) -> bytes:
    """Encode a checkpoint of plain numbers."""
    lines = [" ".join(map(str, row)) + "\n" for row in rows]
    return f"0\n{len(lines)}\n{''.join(lines)}".encode()


def decode_rows(data: bytes | None, columns: int) -> list[tuple[int, ...]] | None:
    """Decode a checkpoint of ``columns`` numbers per line; None when it is absent or damaged."""
    lines = _lines(data)
    if lines is None:
        return None
    rows = []
    for line in lines:
        try:
            row = tuple(map(int, line.split(" ")))
        except ValueError:
            return None
        if len(row) != columns:
            return None
        rows.append(row)
    return rows


def encode_damaged(rows: Iterable[Sequence[int]]) -> bytes:
    """Encode damaged ranges."""
    told = list(rows)
    return encode_rows([*told, (-1, crc32c(encode_rows(told)), 0, 0, 0)])


def decode_damaged(data: bytes | None) -> list[tuple[int, ...]] | None:
    """Decode damaged ranges; None when they are absent or damaged. Without a check they are believed."""
    rows = decode_rows(data, 5)
    if rows is None or encode_rows(rows).rstrip() != (data or b"").rstrip():
        return None  # numbers are written in one way only
    if rows and rows[-1][0] < 0:
        *told, check = rows
        rows = told if check == (-1, crc32c(encode_rows(told)), 0, 0, 0) else None
    if rows is None or any(min(row) < 0 for row in rows):
        return None
    return rows


def encode_partition_metadata(topic_id: UUID) -> bytes:
    """Encode partition.metadata."""
    text = base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()
    return f"version: 0\ntopic_id: {text}\n".encode()


def decode_partition_metadata(data: bytes | None) -> UUID | None:
    """Return the topic id in partition.metadata, or None."""
    for line in (data or b"").splitlines():
        key, _, value = line.partition(b":")
        if key.strip() == b"topic_id":
            try:
                return UUID(bytes=base64.urlsafe_b64decode(value.strip() + b"=="))
            except (ValueError, binascii.Error):
                return None
    return None


def encode_snapshot(producers: Iterable[ProducerSnapshot], offset: int) -> bytes:
    """Encode the producers' state below ``offset``; batches at or after it are left out."""
    entries = []
    for producer in producers:
        below = [batch for batch in producer.batches if batch[3] < offset]
        first = producer.transaction_first_offset
        if first >= offset:
            first = -1
        if below:
            _, last_sequence, base_offset, last_offset, timestamp = below[-1]
            delta = last_offset - base_offset
        elif producer.batches and producer.coordinator_epoch < 0 and first < 0:
            continue
        else:
            last_sequence, last_offset, delta, timestamp = -1, -1, 0, -1
        entries.append(
            _ENTRY.pack(
                producer.producer_id,
                producer.producer_epoch,
                last_sequence,
                last_offset,
                delta,
                timestamp,
                producer.coordinator_epoch,
                first,
            )
        )
    body = struct.pack(">i", len(entries)) + b"".join(entries)
    return struct.pack(">hI", 1, crc32c(body)) + body


def decode_snapshot(data: bytes | None) -> tuple[ProducerSnapshot, ...] | None:
    """Decode a producer snapshot; None when it is absent or damaged."""
    if data is None or len(data) < _HEAD.size:
        return None
    version, crc, count = _HEAD.unpack_from(data)
    if version != 1 or crc32c(data[6:]) != crc or count < 0 or len(data) < _HEAD.size + count * _ENTRY.size:
        return None
    producers = []
    for index in range(count):
        fields = _ENTRY.unpack_from(data, _HEAD.size + index * _ENTRY.size)
        producer_id, epoch, last_sequence, last_offset, delta, timestamp, coordinator_epoch, first = fields
        batches: tuple[tuple[int, int, int, int, int], ...] = ()
        if last_offset >= 0:
            first_sequence = last_sequence - delta
            if first_sequence < 0 <= last_sequence:
                first_sequence += _MAX_SEQUENCE + 1
            batches = ((first_sequence, last_sequence, last_offset - delta, last_offset, timestamp),)
        producers.append(ProducerSnapshot(producer_id, epoch, batches, first, coordinator_epoch))
    return tuple(producers)
