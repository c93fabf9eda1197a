"""Batches written anew with some of their records left out, or with another codec.

Owns what a rewritten batch keeps of the old one: base offset, last offset delta, epoch, producer and sequence
always, so that offsets and the producers' state stay what they were; the bytes of each record it keeps.
Decides nothing about which records those are.

    delete horizon   attribute bit 6: the base timestamp is not the first record's but the time from which
                     on tombstones and markers in the batch may go; the deltas count from there (KIP-534)

A batch that has no records left is a head alone, uncompressed, with a base timestamp of -1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from crc32c import crc32c

from megabroker.codec import compression as codecs
from megabroker.codec.header import (
    CRC_START,
    HEADER,
    HEADER_BYTES,
    LENGTH_END,
    MIN_BATCH_LENGTH,
    MIN_RECORD_BYTES,
    CorruptBatch,
)
from megabroker.codec.primitives import read_varint, read_varlong, write_varint, write_varlong
from megabroker.model import BatchHeader, Buffer

__all__ = [
    "DELETE_HORIZON",
    "MAX_TIME",
    "RawRecord",
    "delete_horizon",
    "emptied",
    "payload_of",
    "rebuilt",
    "recompressed",
    "skim",
]

DELETE_HORIZON = 0x40
MAX_TIME = 1 << 62
"""Times in ms beyond are not believed, and no horizon lies there: differences have to fit 64 bits."""

_CODEC = 0x07
_LOG_APPEND_TIME = 0x08
_LOG_APPEND_TIME_TRANSACTIONAL_CONTROL = 0x38

_new = tuple.__new__


class RawRecord(NamedTuple):
    """Where one record lies in the records of its batch, and as much of it as cleaning asks about.

    Attributes:
        start: where its length begins.
        attributes: where its attributes are, just before the timestamp delta.
        offset_pos: where its offset delta begins, just after the timestamp delta.
        end: where the next one begins.
        offset: absolute.
        timestamp_delta: milliseconds after the base timestamp of the batch.
    """

    start: int
    attributes: int
    offset_pos: int
    end: int
    offset: int
    timestamp_delta: int
    key: bytes | None
    has_value: bool


def payload_of(buf: Buffer, header: BatchHeader, pos: int, max_bytes: int) -> bytes:
    """Return the records of the batch at ``pos``, decompressed.

    Raises:
        ProtocolError: they cannot be decompressed to at most ``max_bytes``.
    """
    data = memoryview(buf)[pos + HEADER_BYTES : pos + LENGTH_END + header.batch_length]
    codec = header.attributes & _CODEC
    payload = codecs.decompress(codec, data, max_bytes) if codec else bytes(data)
    if header.record_count * MIN_RECORD_BYTES > len(payload):
        raise CorruptBatch(f"{header.record_count} records cannot be in {len(payload)} bytes")
    return payload


def skim(payload: bytes, header: BatchHeader) -> Iterator[RawRecord]:
    """Walk the records of a batch without taking apart what cleaning does not ask about.

    Raises:
        ProtocolError: while iterating, at the first record that is none.
    """
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    last_delta = header.last_offset_delta
    size = len(payload)
    previous = -1
    at = 0
    if not -MAX_TIME <= base_timestamp <= MAX_TIME:
        raise CorruptBatch("timestamp out of range")
    try:
        for _ in range(header.record_count):
            start = at
            number = payload[at]
            if number < 0x80:
                at += 1
            elif payload[at + 1] < 0x80:
                number = number & 0x7F | payload[at + 1] << 7
                at += 2
            else:
                length, at = read_varint(payload, at, size)
                number = length << 1 if length >= 0 else 1
            attributes = at
            end = at + (number >> 1)
            if number & 1 or end > size:
                raise CorruptBatch(f"record {previous + 1} does not fit its batch")
            at += 1

            number = payload[at]
            if number < 0x80:
                at += 1
                timestamp_delta = (number >> 1) ^ -(number & 1)
            else:
                timestamp_delta, at = read_varlong(payload, at, end)
                if not -MAX_TIME <= base_timestamp + timestamp_delta <= MAX_TIME:
                    raise CorruptBatch("timestamp out of range")
            offset_pos = at

            number = payload[at]
            if number < 0x80:
                at += 1
                delta = (number >> 1) ^ -(number & 1)
            elif payload[at + 1] < 0x80:
                number = number & 0x7F | payload[at + 1] << 7
                at += 2
                delta = (number >> 1) ^ -(number & 1)
            else:
                delta, at = read_varint(payload, at, end)
            if not previous < delta <= last_delta:
                raise CorruptBatch(f"offset delta {delta} after {previous}, in a batch up to {last_delta}")
            previous = delta

            number = payload[at]
            if number < 0x80:
                at += 1
                length = (number >> 1) ^ -(number & 1)
            else:
                length, at = read_varint(payload, at, end)
            key = None
            if length >= 0:
                key = payload[at : at + length]
                at += length
            elif length != -1:
                raise CorruptBatch(f"key of {length} bytes")

            if at >= end:
                raise CorruptBatch(f"record {delta} ends inside its key")
            yield _new(
                RawRecord,
                (
                    start,
                    attributes,
                    offset_pos,
                    end,
                    base_offset + delta,
                    timestamp_delta,
                    key,
                    # The low bit of a zig-zag number is its sign: of lengths, only -1 has one.
                    not payload[at] & 1,
                ),
            )
            at = end
    except IndexError:
        raise CorruptBatch("a record is cut off") from None
    if at != size:
        raise CorruptBatch(f"{size - at} bytes after the last record")


def delete_horizon(header: BatchHeader) -> int | None:
    """Return the time in ms from which on tombstones and markers in a batch may go; None while unset."""
    return header.base_timestamp if header.attributes & DELETE_HORIZON else None


def emptied(header: BatchHeader) -> bytearray:
    """Return a batch without its records."""
    attributes = header.attributes & _LOG_APPEND_TIME_TRANSACTIONAL_CONTROL
    return _assemble(header, b"", attributes, -1, header.max_timestamp, 0)


def rebuilt(
    header: BatchHeader, payload: bytes, kept: Iterable[RawRecord], horizon_ms: int | None = None
) -> bytearray:
    """Return a batch with no other records than ``kept``, compressed as it was.

    Args:
        payload: what ``payload_of`` gave.
        kept: at least one, in order; none of them is held, for there may be millions.
        horizon_ms: the delete horizon to set, at most ``MAX_TIME``; None leaves it as it is.
    """
    attributes, base_timestamp = header.attributes, header.base_timestamp
    records = bytearray()
    count, latest = 0, -MAX_TIME * 2
    start = end = 0  # of neighbours that are still to be copied
    for one in kept:
        count += 1
        if one.timestamp_delta > latest:
            latest = one.timestamp_delta
        if horizon_ms is not None:
            _move(one, payload, base_timestamp - horizon_ms, records)
            continue
        if one.start != end:
            records += payload[start:end]
            start = one.start
        end = one.end
    records += payload[start:end]
    max_timestamp = header.max_timestamp if attributes & _LOG_APPEND_TIME else base_timestamp + latest
    if horizon_ms is not None:
        attributes |= DELETE_HORIZON
        base_timestamp = horizon_ms
    codec = attributes & _CODEC
    stored = codecs.compress(codec, records) if codec else records
    return _assemble(header, stored, attributes, base_timestamp, max_timestamp, count)


def recompressed(
    header: BatchHeader, data: Buffer, codec: int, level: int | None, max_bytes: int
) -> tuple[BatchHeader, bytearray]:
    """Return a batch with the same records, which are not looked at, in another codec, and its header.

    Args:
        level: what the codec is told; None is its default.
        max_bytes: the most the records may take decompressed.

    Raises:
        ProtocolError: the batch cannot be decompressed.
    """
    payload = payload_of(data, header, 0, max_bytes)
    records = codecs.compress(codec, payload, level)
    attributes = header.attributes & ~_CODEC | codec
    batch = _assemble(
        header, records, attributes, header.base_timestamp, header.max_timestamp, header.record_count
    )
    return _new(BatchHeader, HEADER.unpack_from(batch)), batch


def _move(one: RawRecord, payload: bytes, by_ms: int, out: bytearray) -> None:
    """Add a record whose timestamp counts from a base ``by_ms`` earlier."""
    delta = write_varlong(one.timestamp_delta + by_ms)
    out += write_varint(1 + len(delta) + one.end - one.offset_pos)
    out += payload[one.attributes : one.attributes + 1]
    out += delta
    out += payload[one.offset_pos : one.end]


def _assemble(
    header: BatchHeader,
    records: Buffer,
    attributes: int,
    base_timestamp: int,
    max_timestamp: int,
    record_count: int,
) -> bytearray:
    out = bytearray(
        HEADER.pack(
            *header._replace(
                batch_length=MIN_BATCH_LENGTH + len(records),
                crc=0,
                attributes=attributes,
                base_timestamp=base_timestamp,
                max_timestamp=max_timestamp,
                record_count=record_count,
            )
        )
    )
    out += records
    crc = crc32c(memoryview(out)[CRC_START:])
    out[CRC_START - 4 : CRC_START] = crc.to_bytes(4, "big")
    return out
