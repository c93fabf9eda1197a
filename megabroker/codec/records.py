"""The records inside a batch v2: building batches and taking them apart.

Owns the record layout. Never trusts a length: every field must end inside its record, every record inside
the batch, and decompression is bounded. Invariant: what ``build`` writes, ``records`` gives back.

    record   length varint | attributes i8, 0 | timestamp delta varlong | offset delta varint
             | key length varint, -1 null | key | value length varint, -1 null | value
             | header count varint | { key length varint | key | value length varint, -1 null | value }*

    control  key    version i16 | type i16: 0 abort, 1 commit
             value  version i16 | coordinator epoch i32

All varints here are zig-zag. Timestamps are relative to the batch's base timestamp, offsets to its base
offset. With the LogAppendTime attribute every record has the batch's max timestamp instead of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from crc32c import crc32c

from megabroker.codec import compression as codecs
from megabroker.codec.header import (
    HEADER,
    HEADER_BYTES,
    LENGTH_END,
    MIN_BATCH_LENGTH,
    MIN_RECORD_BYTES,
    CorruptBatch,
)
from megabroker.codec.primitives import read_varint, read_varlong, write_varint, write_varlong
from megabroker.errors import ProtocolError
from megabroker.model import BatchHeader, Buffer, Header, Record, TransactionMarker

__all__ = [
    "MAX_DECOMPRESSED_BYTES",
    "RecordInput",
    "build",
    "build_control",
    "build_single",
    "parse_control",
    "read_marker",
    "records",
]

RecordInput = tuple[Buffer | None, Buffer | None, Sequence[tuple[str, bytes | None]], int]
"""What ``build`` takes: (key, value, headers, timestamp in epoch milliseconds or -1)."""

MAX_DECOMPRESSED_BYTES = 64 << 20
_MAX_MARKER_BYTES = 1 << 16

_TAIL = struct.Struct(">hiqqqhii")
_CONTROL_KEY = struct.Struct(">hh")
_CONTROL_VALUE = struct.Struct(">hi")
_MAX_INT64 = (1 << 63) - 1
_TRANSACTIONAL_CONTROL = 0x30
# Lengths and deltas are mostly small: a table lookup instead of a call, 60 KB for both forms of use.
_VARINTS = tuple(write_varint(number) for number in range(1024))
_SMALL = len(_VARINTS)
_NULL = write_varint(-1)

_new = tuple.__new__
_no_headers: tuple[Header, ...] = ()


def build(
    records: Iterable[RecordInput],
    *,
    base_offset: int = 0,
    base_timestamp: int | None = None,
    compression: int = codecs.NONE,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    leader_epoch: int = -1,
    attributes: int = 0,
) -> bytearray:
    """Encode records into one batch, writable, with its CRC.

    Args:
        records: at least one.
        base_timestamp: what the records' timestamps are relative to; the first record's when None.
        compression: codec number.
        attributes: further attribute bits, the codec's excluded.

    Raises:
        ValueError: no record, or something out of range; a fault of the caller.
    """
    varints = _VARINTS
    small = _SMALL
    join = b"".join
    parts: list[bytes] = []
    append = parts.append
    max_timestamp = -1
    base = base_timestamp
    number = -1
    for number, (key, value, headers, timestamp) in enumerate(records):
        if base is None:
            base = timestamp
        if timestamp > max_timestamp:
            max_timestamp = timestamp
        delta = timestamp - base
        if key is None:
            key = b""
            key_length = _NULL
        else:
            size = len(key)
            key_length = varints[size] if size < small else write_varint(size)
        if value is None:
            value = b""
            value_length = _NULL
        else:
            size = len(value)
            value_length = varints[size] if size < small else write_varint(size)
        body = join(
            (
                b"\x00",
                varints[delta] if 0 <= delta < small else write_varlong(delta),
                varints[number] if number < small else write_varint(number),
                key_length,
                key,
                value_length,
                value,
                _encode_headers(headers) if headers else b"\x00",
            )
        )
        size = len(body)
        append(varints[size] if size < small else write_varint(size))
        append(body)
    if base is None or number < 0:
        raise ValueError("a batch needs at least one record")
    payload = join(parts)
    if compression:
        payload = codecs.compress(compression, payload)
    return _assemble(
        base_offset,
        leader_epoch,
        payload,
        (
            attributes | compression,
            number,
            base,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            number + 1,
        ),
    )


def build_single(key: Buffer | None, value: Buffer | None, timestamp_ms: int) -> bytearray:
    """Encode one record without headers into an uncompressed batch: ``build``, only faster."""
    varints = _VARINTS
    if key is None:
        key = b""
        key_length = _NULL
    else:
        size = len(key)
        key_length = varints[size] if size < _SMALL else write_varint(size)
    if value is None:
        value = b""
        value_length = _NULL
    else:
        size = len(value)
        value_length = varints[size] if size < _SMALL else write_varint(size)
    size = 4 + len(key_length) + len(key) + len(value_length) + len(value)
    length = varints[size] if size < _SMALL else write_varint(size)
    payload = b"".join((length, b"\x00\x00\x00", key_length, key, value_length, value, b"\x00"))
    return _assemble(0, -1, payload, (0, 0, timestamp_ms, timestamp_ms, -1, -1, -1, 1))


def records(
    buf: Buffer,
    header: BatchHeader,
    pos: int = 0,
    *,
    from_offset: int = 0,
    max_bytes: int = MAX_DECOMPRESSED_BYTES,
    control: bool = False,
) -> Iterator[Record]:
    """Decode the records of the batch at ``pos``, all of which must be in ``buf``.

    Args:
        header: the batch's own header, as `read_header` gave it.
        from_offset: records below it are passed over.
        max_bytes: the most that the records may take decompressed.
        control: also yield the markers of a control batch, which otherwise has no records.

    Raises:
        ProtocolError: at once when decompression fails; while iterating, at the first record that is none.
    """
    if header.attributes & 0x20 and not control:
        return iter(())
    data = memoryview(buf)[pos + HEADER_BYTES : pos + LENGTH_END + header.batch_length]
    if header.attributes & 7:
        payload = codecs.decompress(header.attributes & 7, data, max_bytes)
    else:
        payload = bytes(data)
    if header.record_count * MIN_RECORD_BYTES > len(payload):
        raise CorruptBatch(f"{header.record_count} records cannot be in {len(payload)} bytes")
    return _decode(payload, header, from_offset)


def build_control(
    *,
    commit: bool,
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    timestamp_ms: int,
) -> bytearray:
    """Encode the marker that ends a transaction."""
    key = _CONTROL_KEY.pack(0, int(commit))
    value = _CONTROL_VALUE.pack(0, coordinator_epoch)
    return build(
        [(key, value, (), timestamp_ms)],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        attributes=_TRANSACTIONAL_CONTROL,
    )


def parse_control(record: Record) -> tuple[bool, int]:
    """Return (whether it commits, coordinator epoch) of a transaction marker.

    Raises:
        CorruptBatch: it is none.
    """
    key, value = record.key, record.value
    if key is None or value is None or len(key) < _CONTROL_KEY.size or len(value) < _CONTROL_VALUE.size:
        raise CorruptBatch("a control record without marker")
    _, kind = _CONTROL_KEY.unpack_from(key)
    _, coordinator_epoch = _CONTROL_VALUE.unpack_from(value)
    if kind not in (0, 1):
        raise CorruptBatch(f"control record of type {kind}")
    return kind == 1, coordinator_epoch


def read_marker(buf: Buffer, header: BatchHeader, pos: int = 0) -> TransactionMarker | None:
    """Return what the control batch at ``pos`` says, all of which must be in ``buf``.

    None when it is no transaction marker: emptied by cleaning, of another type, or undecodable.
    """
    try:
        for record in records(buf, header, pos, control=True, max_bytes=_MAX_MARKER_BYTES):
            commit, coordinator_epoch = parse_control(record)
            return TransactionMarker(header.producer_id, header.producer_epoch, commit, coordinator_epoch)
    except ProtocolError:
        pass
    return None


def _assemble(base_offset: int, leader_epoch: int, payload: bytes, tail: tuple[int, ...]) -> bytearray:
    length = MIN_BATCH_LENGTH + len(payload)
    try:
        crc = crc32c(payload, crc32c(_TAIL.pack(*tail)))
        out = bytearray(HEADER.pack(base_offset, length, leader_epoch, 2, crc, *tail))
    except struct.error as error:
        raise ValueError(f"no record batch: {error}") from None
    out += payload
    return out


def _encode_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    parts = [write_varint(len(headers))]
    for key, value in headers:
        name = key.encode()
        parts.append(write_varint(len(name)))
        parts.append(name)
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(write_varint(len(value)))
            parts.append(value)
    return b"".join(parts)


def _decode(body: bytes, header: BatchHeader, from_offset: int) -> Iterator[Record]:
    """Decode record by record; varints of one and two bytes, nearly all there are, are read in place."""
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    last_delta = header.last_offset_delta
    fixed_timestamp = header.max_timestamp if header.attributes & 8 else None
    from_delta = from_offset - base_offset
    size = len(body)
    previous = -1
    at = 0
    try:
        for _ in range(header.record_count):
            number = body[at]
            if number < 0x80:
                at += 1
            elif body[at + 1] < 0x80:
                number = number & 0x7F | body[at + 1] << 7
                at += 2
            else:
                length, at = read_varint(body, at, size)
                number = length << 1 if length >= 0 else 1
            end = at + (number >> 1)
            if number & 1 or end > size:
                raise CorruptBatch(f"record {previous + 1} does not fit its batch")
            at += 1

            number = body[at]
            if number < 0x80:
                at += 1
                timestamp = base_timestamp + ((number >> 1) ^ -(number & 1))
            elif body[at + 1] < 0x80:
                number = number & 0x7F | body[at + 1] << 7
                at += 2
                timestamp = base_timestamp + ((number >> 1) ^ -(number & 1))
            else:
                delta, at = read_varlong(body, at, end)
                timestamp = base_timestamp + delta
            if fixed_timestamp is not None:
                timestamp = fixed_timestamp
            elif not -_MAX_INT64 <= timestamp <= _MAX_INT64:
                raise CorruptBatch("timestamp out of range")

            number = body[at]
            if number < 0x80:
                at += 1
                delta = (number >> 1) ^ -(number & 1)
            elif body[at + 1] < 0x80:
                number = number & 0x7F | body[at + 1] << 7
                at += 2
                delta = (number >> 1) ^ -(number & 1)
            else:
                delta, at = read_varint(body, at, end)
            if not previous < delta <= last_delta:
                raise CorruptBatch(f"offset delta {delta} after {previous}, in a batch up to {last_delta}")
            previous = delta
            if delta < from_delta:
                at = end
                continue

            number = body[at]
            if number < 0x80:
                at += 1
                length = (number >> 1) ^ -(number & 1)
            else:
                length, at = read_varint(body, at, end)
            if length >= 0:
                key = body[at : at + length]
                at += length
            else:
                key = None
                if length != -1:
                    raise CorruptBatch(f"key of {length} bytes")

            number = body[at]
            if number < 0x80:
                at += 1
                length = (number >> 1) ^ -(number & 1)
            elif body[at + 1] < 0x80:
                number = number & 0x7F | body[at + 1] << 7
                at += 2
                length = (number >> 1) ^ -(number & 1)
            else:
                length, at = read_varint(body, at, end)
            if length >= 0:
                value = body[at : at + length]
                at += length
            else:
                value = None
                if length != -1:
                    raise CorruptBatch(f"value of {length} bytes")

            if body[at]:
                headers, at = _decode_headers(body, at, end)
            else:
                at += 1
                headers = _no_headers
            if at != end:
                raise CorruptBatch(f"record {delta} is {abs(end - at)} bytes off its length")
            yield _new(Record, (base_offset + delta, timestamp, key, value, headers))
    except IndexError:
        raise CorruptBatch("a record is cut off") from None
    if at != size:
        raise CorruptBatch(f"{size - at} bytes after the last record")


def _decode_headers(body: bytes, at: int, end: int) -> tuple[tuple[Header, ...], int]:
    count, at = read_varint(body, at, end)
    if not 0 <= count <= (end - at) // 2:
        raise CorruptBatch(f"{count} headers cannot be in {end - at} bytes")
    headers = []
    for _ in range(count):
        number = body[at]
        if number < 0x80:
            at += 1
            length = (number >> 1) ^ -(number & 1)
        else:
            length, at = read_varint(body, at, end)
        if not 0 <= length <= end - at:
            raise CorruptBatch(f"header key of {length} bytes")
        # As Kafka's own clients do: a key that is no UTF-8 is shown as well as it can be.
        key = body[at : at + length].decode("utf-8", "replace")
        at += length
        number = body[at]
        if number < 0x80:
            at += 1
            length = (number >> 1) ^ -(number & 1)
        else:
            length, at = read_varint(body, at, end)
        if not -1 <= length <= end - at:
            raise CorruptBatch(f"header value of {length} bytes")
        if length < 0:
            headers.append(_new(Header, (key, None)))
        else:
            headers.append(_new(Header, (key, body[at : at + length])))
            at += length
    return tuple(headers), at
