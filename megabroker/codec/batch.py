"""Record batches v2: the public face of the batch codec, and walks over many batches in a row.

Owns the sequence of batches in a buffer. ``header`` owns one batch's head, ``records`` what is inside; both
are re-exported here, so that users import this module alone. Never moves or copies a batch.

    | batch | batch | ... | batch, possibly cut off |

Invariant: a position yielded here is where a whole batch begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from megabroker.codec.header import (
    CRC_START,
    HEADER,
    HEADER_BYTES,
    LENGTH_END,
    MAGIC_POS,
    MIN_BATCH_LENGTH,
    BatchError,
    CorruptBatch,
    InvalidBatch,
    TruncatedBatch,
    UnsupportedMagic,
    check_crc,
    peek_header,
    read_header,
    stamp,
    stamp_append_time,
    validate_produce,
)
from megabroker.codec.records import (
    MAX_DECOMPRESSED_BYTES,
    RecordInput,
    build,
    build_control,
    build_single,
    parse_control,
    read_marker,
    records,
)
from megabroker.model import BatchHeader, Buffer, Record

__all__ = [
    "CRC_START",
    "HEADER",
    "HEADER_BYTES",
    "LENGTH_END",
    "MAGIC_POS",
    "MAX_DECOMPRESSED_BYTES",
    "MIN_BATCH_LENGTH",
    "BatchError",
    "CorruptBatch",
    "InvalidBatch",
    "RecordInput",
    "SearchExhausted",
    "TruncatedBatch",
    "UnsupportedMagic",
    "build",
    "build_control",
    "build_single",
    "check_crc",
    "find_batch",
    "parse_control",
    "peek_header",
    "read_header",
    "read_marker",
    "read_records",
    "records",
    "scan",
    "stamp",
    "stamp_append_time",
    "validate_produce",
]

# What the bytes around the magic can be: offset, length and last offset delta positive, the nine
# unassigned attribute bits zero, a known codec. Beginning with the one literal byte makes it forty times
# as fast as a pattern that begins where the batch does. A random megabyte holds about one match.
_CANDIDATE = re.compile(
    rb"(?s)\x02(?<=[\x00-\x7f].{7}[\x00-\x7f].{7}\x02)(?=.{4}\x00["
    + b"".join(b"\\x%02x" % bits for bits in range(0x80) if bits & 7 <= 4)
    + rb"][\x00-\x7f])"
)
_SEARCH_FACTOR = 16
_SEARCH_FLOOR_BYTES = 64 << 20


class SearchExhausted(BatchError):
    """So many places look like batches without being any that the search was given up."""


def scan(buf: Buffer, pos: int, end: int) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of the consecutive batches from ``pos``; no CRC is checked.

    Ends before a batch that is not wholly below ``end``.

    Raises:
        CorruptBatch, UnsupportedMagic: while iterating, where the next batch should be and is not.
    """
    while pos < end:
        try:
            header = read_header(buf, pos, end)
        except TruncatedBatch:
            return
        yield pos, header
        pos += LENGTH_END + header.batch_length


def find_batch(
    buf: Buffer, pos: int, end: int, min_offset: int, end_offset: int | None = None
) -> tuple[int, BatchHeader] | None:
    """Return the first place at or after ``pos`` where a valid batch begins, and its header.

    For use after damage. Valid means: sane header, whole, CRC right, base offset at least ``min_offset`` and
    last offset below ``end_offset``. A record's value may itself contain such a batch; only the offset tells
    them apart, and not always.

    Raises:
        SearchExhausted: checking CRCs took more than 16 times the bytes searched, which only bytes made
            for the purpose do.
    """
    budget = max(_SEARCH_FLOOR_BYTES, _SEARCH_FACTOR * (end - pos))
    for match in _CANDIDATE.finditer(memoryview(buf)[:end], pos + MAGIC_POS):
        at = match.start() - MAGIC_POS
        try:
            header = read_header(buf, at, end)
        except BatchError:
            continue
        if header.base_offset < min_offset or (end_offset is not None and header.next_offset > end_offset):
            continue
        if check_crc(buf, at, header):
            return at, header
        budget -= header.size_bytes
        if budget < 0:
            raise SearchExhausted(f"gave up at byte {at} of {end}")
    return None


def read_records(
    data: Buffer, from_offset: int = 0, *, max_bytes: int = MAX_DECOMPRESSED_BYTES
) -> Iterator[Record]:
    """Decode the records of all whole batches in ``data``, as a fetch returned them.

    Control batches and records below ``from_offset`` are passed over; a cut-off last batch is ignored. CRCs
    are not checked.

    Args:
        max_bytes: the most that any one batch may take decompressed.

    Raises:
        ProtocolError: while iterating, at the first thing that is no batch or no record.
    """
    for pos, header in scan(data, 0, len(data)):
        if header.next_offset > from_offset:
            yield from records(data, header, pos, from_offset=from_offset, max_bytes=max_bytes)
