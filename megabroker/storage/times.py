"""Looking for records by time.

Owns the two questions ``ILog`` answers about timestamps, given the segments. Producers' clocks run as they
like, so timestamps need not rise with offsets: the answer to "at or after t" is the first such record in
offset order, as Kafka has it. Only the batch that holds the answer is decoded.
"""

from __future__ import annotations

from megabroker.codec.batch import peek_header, records
from megabroker.errors import ErrorCode, ProtocolError, StorageError
from megabroker.model import TimestampedOffset
from megabroker.storage.segment import Hop, Segment
from megabroker.storage.segments import Segments

__all__ = ["first_at_or_after", "latest"]


def first_at_or_after(
    segments: Segments,
    timestamp_ms: int,
    start_offset: int,
    written_offset: int,
    *,
    cached_only: bool = False,
) -> TimestampedOffset | None:
    """Return the first record at or after ``timestamp_ms`` in [start_offset, written_offset).

    Asked again after each ``Cold`` it gets on: what is known of a segment's times is kept.

    Raises:
        OSError: a file could not be read.
        Cold: with ``cached_only``, that would have waited for the disk.
        StorageError: a batch could not be decoded.
    """
    for segment in list(segments.items):
        if segment.max_timestamp < timestamp_ms and not segments.is_time_unknown(segment):
            continue
        before = segments.offset_before(segment, timestamp_ms, cached_only=cached_only)
        if segment.max_timestamp < timestamp_ms:
            continue
        offset = max(start_offset, before)
        while offset < written_offset:
            hop = _first_batch(segments, segment, offset, timestamp_ms, cached_only)
            if hop is None:
                break
            found = _in_batch(segment, hop, timestamp_ms, start_offset, cached_only)
            if found is not None:
                return found
            offset = hop.last_offset + 1
    return None


def latest(
    segments: Segments, start_offset: int, written_offset: int, *, cached_only: bool = False
) -> TimestampedOffset | None:
    """Return the record with the greatest timestamp; raises as `first_at_or_after`."""
    best = -1
    for segment in segments.items:
        if segments.is_time_unknown(segment):
            segments.offset_before(segment, 0, cached_only=cached_only)
        best = max(best, segment.max_timestamp)
    if best < 0:
        return None
    found = first_at_or_after(segments, best, start_offset, written_offset, cached_only=cached_only)
    if found is not None:
        return found
    # The greatest one is not written yet, or below the start: look at what is there.
    for segment in segments.items:
        for hop in segments.heads(segment, start_offset, cached_only=cached_only):
            if hop.last_offset >= start_offset:
                here = _in_batch(segment, hop, hop.max_timestamp, start_offset, cached_only)
                if here is not None and (found is None or here.timestamp_ms > found.timestamp_ms):
                    found = here
    return found


def _first_batch(
    segments: Segments, segment: Segment, offset: int, timestamp_ms: int, cached_only: bool
) -> Hop | None:
    for hop in segments.heads(segment, offset, cached_only=cached_only):
        if hop.last_offset >= offset and hop.max_timestamp >= timestamp_ms:
            return hop
    return None


def _in_batch(
    segment: Segment, hop: Hop, timestamp_ms: int, start_offset: int, cached_only: bool
) -> TimestampedOffset | None:
    data = segment.read(hop.position, hop.size_bytes, cached_only=cached_only)
    try:
        header = peek_header(data, 0, len(data))
        if header.is_log_append_time and header.record_count:
            offset = max(header.base_offset, start_offset)
            return TimestampedOffset(offset, header.max_timestamp, header.leader_epoch)
        for record in records(data, header, 0, from_offset=start_offset, control=True):
            if record.timestamp_ms >= timestamp_ms:
                return TimestampedOffset(record.offset, record.timestamp_ms, header.leader_epoch)
    except ProtocolError as error:
        raise StorageError(
            ErrorCode.STORAGE,
            f"{segment.path()}: batch at offset {hop.base_offset}: {error}",
            retriable=False,
        ) from error
    return None
