"""The head of a record batch v2: parsing, checking and stamping.

Owns the 61 bytes and the CRC over what follows them. Never looks into the records: for this module, and
for storage and the produce path that use it, they are opaque bytes.

    pos  size  field             |  pos  size  field
    0    i64   base offset       |  23   i32   last offset delta
    8    i32   batch length      |  27   i64   base timestamp, ms
    12   i32   leader epoch      |  35   i64   max timestamp, ms
    16   i8    magic, 2          |  43   i64   producer id
    17   u32   CRC-32C           |  51   i16   producer epoch
    21   i16   attributes        |  53   i32   base sequence
                                 |  57   i32   record count
    61         records, compressed as a whole or not

    attributes, from the lowest bit:
      0-2 codec   3 LogAppendTime   4 transactional   5 control   6 delete horizon   7-15 zero

The batch length counts from position 12. The CRC covers position 21 to the end, so base offset and
leader epoch can be stamped into a batch without touching it.

Invariant: a header that leaves this module describes a batch of magic 2 with sane lengths and counts.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from crc32c import crc32c

from megabroker.errors import ErrorCode, ProtocolError
from megabroker.model import BatchHeader, Buffer

__all__ = [
    "CRC_START",
    "HEADER",
    "HEADER_BYTES",
    "MIN_BATCH_LENGTH",
    "MIN_RECORD_BYTES",
    "BatchError",
    "CorruptBatch",
    "InvalidBatch",
    "TruncatedBatch",
    "UnsupportedMagic",
    "check_crc",
    "pack_stamp",
    "peek_header",
    "read_header",
    "stamp",
    "stamp_append_time",
    "validate_produce",
]

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
LENGTH_END = 12
MAGIC_POS = 16
CRC_POS = 17
CRC_START = 21
MIN_BATCH_LENGTH = HEADER_BYTES - LENGTH_END
# Length, attributes, timestamp, offset, key length, value length, header count: one byte each.
MIN_RECORD_BYTES = 7
_MAX_TIMESTAMP_POS = 35
_MAX_OFFSET = (1 << 63) - 1

_unpack = HEADER.unpack_from
_new = tuple.__new__
pack_stamp = struct.Struct(">qii").pack_into
"""Write base offset, batch length and leader epoch at the head of a batch: ``stamp`` for a known length."""
_pack_crc = struct.Struct(">I").pack_into
_pack_max_timestamp = struct.Struct(">q").pack_into
_pack_attributes = struct.Struct(">h").pack_into


class BatchError(ProtocolError):
    """Bytes that are no acceptable record batch.

    Attributes:
        code: what to answer a client that sent them.
    """

    code = ErrorCode.CORRUPT_BATCH

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class TruncatedBatch(BatchError):
    """The batch says it is longer than the bytes there are."""

    code = ErrorCode.INVALID_RECORD


class CorruptBatch(BatchError):
    """Lengths, counts or the CRC are wrong."""


class UnsupportedMagic(BatchError):
    """A message set of magic 0 or 1, from before record batches, or an unknown later format."""


class InvalidBatch(BatchError):
    """A whole batch, but one that a client must not send."""

    code = ErrorCode.INVALID_RECORD


def peek_header(buf: Buffer, pos: int, end: int) -> BatchHeader:
    """Read the header at ``pos``; the rest of the batch may lie beyond ``end``.

    Raises:
        TruncatedBatch: fewer than 61 bytes are left.
        UnsupportedMagic: the magic byte is not 2.
        CorruptBatch: a length or count cannot be.
    """
    if pos + HEADER_BYTES > end:
        if pos + MAGIC_POS < end and buf[pos + MAGIC_POS] != 2:
            _refuse_magic(buf[pos + MAGIC_POS])
        raise TruncatedBatch(f"{max(0, end - pos)} bytes are no record batch header")
    header: BatchHeader = _new(BatchHeader, _unpack(buf, pos))
    base_offset, batch_length, _, magic, _, _, last_delta, _, _, _, _, _, count = header
    if magic != 2:
        _refuse_magic(magic)
    if batch_length < MIN_BATCH_LENGTH:
        raise CorruptBatch(f"batch length {batch_length} is below {MIN_BATCH_LENGTH}")
    if not 0 <= count <= last_delta + 1:
        raise CorruptBatch(f"{count} records do not go with a last offset delta of {last_delta}")
    if last_delta < 0:
        raise CorruptBatch(f"last offset delta {last_delta}")
    if not 0 <= base_offset <= _MAX_OFFSET - last_delta:
        raise CorruptBatch(f"base offset {base_offset}")
    return header


def read_header(buf: Buffer, pos: int, end: int) -> BatchHeader:
    """Read the header of the batch at ``pos``, which must end at or before ``end``. No CRC is checked.

    Raises:
        TruncatedBatch: the batch does not end before ``end``.
        UnsupportedMagic, CorruptBatch: as `peek_header`.
    """
    header = peek_header(buf, pos, end)
    if header[1] > end - pos - LENGTH_END:
        raise TruncatedBatch(f"batch of {header[1] + LENGTH_END} bytes where {end - pos} are left")
    return header


def check_crc(buf: Buffer, pos: int, header: BatchHeader) -> bool:
    """Whether the batch at ``pos``, all of which must be there, has the CRC its header says."""
    crc: int = crc32c(memoryview(buf)[pos + CRC_START : pos + LENGTH_END + header[1]])
    return crc == header[4]


def validate_produce(data: Buffer) -> BatchHeader:
    """Check that ``data`` is one whole batch that a client may send, and return its header.

    The records themselves are not looked at. What the client wrote as base offset is meaningless.

    Raises:
        TruncatedBatch: it is cut off.
        UnsupportedMagic: it is in an old format.
        CorruptBatch: the CRC or a length is wrong.
        InvalidBatch: empty, several batches, a control batch, counts or producer fields that do not go
            together; the error's ``code`` says which answer is due.
    """
    size = len(data)
    if size < HEADER_BYTES:
        peek_header(data, 0, size)
    view = data if type(data) is memoryview else memoryview(data)
    fields = _unpack(view)
    (_, length, _, magic, crc, attributes, last_delta, _, _, producer_id, epoch, sequence, count) = fields
    header: BatchHeader = _new(BatchHeader, fields)
    if (
        magic != 2
        or length != size - LENGTH_END
        or count <= 0
        or count - last_delta != 1
        or (attributes & 0x2F and _is_barred(attributes))
        or (not attributes & 7 and count * MIN_RECORD_BYTES > size - HEADER_BYTES)
        or (producer_id != -1 and (producer_id < 0 or epoch < 0 or sequence < 0))
        or (attributes & 16 and producer_id < 0)
        or crc32c(view[CRC_START:]) != crc
    ):
        _refuse_produce(data, header)
    return header


def stamp(data: bytearray | memoryview, base_offset: int, leader_epoch: int) -> None:
    """Write the base offset and leader epoch into the batch at the start of ``data``; the CRC stays right."""
    pack_stamp(data, 0, base_offset, int.from_bytes(data[8:LENGTH_END], "big"), leader_epoch)


def stamp_append_time(data: bytearray | memoryview, header: BatchHeader, now_ms: int) -> BatchHeader:
    """Make the batch at the start of ``data`` a LogAppendTime one of ``now_ms``, with a fresh CRC.

    The base timestamp and the records' deltas stay: readers ignore them once the bit is set.

    Returns:
        The header as it is now in ``data``.
    """
    attributes = header[5] | 8
    _pack_attributes(data, CRC_START, attributes)
    _pack_max_timestamp(data, _MAX_TIMESTAMP_POS, now_ms)
    crc = crc32c(memoryview(data)[CRC_START : LENGTH_END + header[1]])
    _pack_crc(data, CRC_POS, crc)
    return header._replace(attributes=attributes, max_timestamp=now_ms, crc=crc)


def _is_barred(attributes: int) -> bool:
    return bool(attributes & 0x28) or attributes & 7 > 4


def _refuse_magic(magic: int) -> NoReturn:
    raise UnsupportedMagic(
        f"record format of magic {magic}, only 2 is supported",
        ErrorCode.INVALID_RECORD if magic < 2 else ErrorCode.CORRUPT_BATCH,
    )


def _refuse_produce(data: Buffer, header: BatchHeader) -> NoReturn:
    """Say what is wrong with a batch that `validate_produce` found wrong."""
    size = len(data)
    if header.magic != 2:
        _refuse_magic(header.magic)
    if header.batch_length < MIN_BATCH_LENGTH:
        raise CorruptBatch(f"batch length {header.batch_length} is below {MIN_BATCH_LENGTH}")
    if header.size_bytes > size:
        raise TruncatedBatch(f"batch of {header.size_bytes} bytes where {size} are left")
    if header.size_bytes < size:
        raise InvalidBatch(f"{size - header.size_bytes} bytes after the one batch that is allowed")
    if not check_crc(data, 0, header):
        raise CorruptBatch("the CRC does not match")
    if header.is_control:
        raise InvalidBatch("clients must not write control batches")
    if header.is_log_append_time:
        raise InvalidBatch("clients must not stamp batches with LogAppendTime", ErrorCode.INVALID_TIMESTAMP)
    if header.compression > 4:
        raise InvalidBatch(
            f"unknown compression codec {header.compression}", ErrorCode.UNSUPPORTED_COMPRESSION
        )
    if header.record_count <= 0 or header.record_count != header.last_offset_delta + 1:
        raise InvalidBatch(
            f"{header.record_count} records do not go with a last offset delta of {header.last_offset_delta}"
        )
    if not header.compression and header.record_count * MIN_RECORD_BYTES > size - HEADER_BYTES:
        raise InvalidBatch(f"{header.record_count} records cannot be in {size - HEADER_BYTES} bytes")
    raise InvalidBatch(
        f"producer id {header.producer_id}, epoch {header.producer_epoch} and sequence {header.base_sequence}"
        f" do not go together"
    )
