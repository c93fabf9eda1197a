"""A log's batches as share groups look at them: which offsets, which may be delivered, where in the data.

Owns the walk over batch heads, in memory or in a file, without reading what is between them, and the piece of
the data that holds the records acquired. Knows nothing of who acquires what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from megabroker.codec.batch import HEADER_BYTES
from megabroker.codec.header import TruncatedBatch, peek_header
from megabroker.errors import ErrorCode, ProtocolError, StorageError
from megabroker.interfaces import IPartition
from megabroker.model import AbortedTransaction, BatchHeader, Buffer, FileRange, LogSpan, ReadResult

__all__ = ["LocatedBatch", "batches_of", "piece"]

_MAX_BATCHES: Final = 4096
"""Batches looked at in one read; each has a record at least, and a group has 2000 in flight by default."""

_WINDOW_BYTES: Final = 16 * 1024


class LocatedBatch(NamedTuple):
    """A batch and where it lies in the data read."""

    span: LogSpan
    position: int
    size_bytes: int


def batches_of(
    partition: IPartition, found: ReadResult, from_offset: int, committed: bool
) -> list[LocatedBatch]:
    """Return the whole batches of what was read, in offset order.

    Args:
        committed: whether records of aborted transactions are not to be delivered.

    Raises:
        StorageError: the log could not be read, or holds something that is no batch.
        Cold: the heads of batches have to be read from the disk first.
    """
    located = []
    aborted: Sequence[AbortedTransaction] = ()
    if committed and found.length:
        aborted = partition.aborted_transactions(from_offset, partition.log.end_of(found, cached_only=True))
    for position, header in _headers(found):
        # Compaction leaves batches without records where a producer's last sequence must be kept.
        empty = header.is_control or not header.record_count
        readable = not empty and not (header.is_transactional and _is_aborted(header, aborted))
        span = LogSpan(header.base_offset, header.last_offset, readable)
        located.append(LocatedBatch(span, position, header.size_bytes))
        if len(located) == _MAX_BATCHES:
            break
    return located


def piece(
    data: Buffer | FileRange, batches: Sequence[LocatedBatch], first: int, last: int
) -> Buffer | FileRange:
    """Return the part of the data that has the batches with offsets from ``first`` to ``last``."""
    wanted = [one for one in batches if one.span.last >= first and one.span.first <= last]
    begin = wanted[0].position
    end = wanted[-1].position + wanted[-1].size_bytes
    if isinstance(data, FileRange):
        return FileRange(data.file, data.position + begin, end - begin)
    return memoryview(data)[begin:end]


def _headers(found: ReadResult) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of each batch that lies whole within what was read."""
    data = found.data
    position = 0
    window: Buffer = b""
    window_at = 0
    try:
        while position + HEADER_BYTES <= found.length:
            if isinstance(data, FileRange):
                if not window_at <= position <= window_at + len(window) - HEADER_BYTES:
                    window_at = position
                    size = min(_WINDOW_BYTES, found.length - position)
                    window = data.file.read_cached(data.position + position, size)
                header = peek_header(window, position - window_at, len(window))
            else:
                header = peek_header(data, position, found.length)
            if position + header.size_bytes > found.length:
                return
            yield position, header
            position += header.size_bytes
    except TruncatedBatch:
        return
    except (OSError, ProtocolError) as error:
        raise StorageError(ErrorCode.STORAGE, f"cannot read the log: {error}") from error


def _is_aborted(header: BatchHeader, aborted: Sequence[AbortedTransaction]) -> bool:
    return any(
        one.producer_id == header.producer_id and one.first_offset <= header.base_offset <= one.last_offset
        for one in aborted
    )
