"""The segments of a log made as they were before batches that did not get into the file."""

from __future__ import annotations

from megabroker.storage.index import Index
from megabroker.storage.segment import Segment
from megabroker.storage.segments import Segments

__all__ = ["drop_from", "rewind"]


def drop_from(segments: Segments, offset: int) -> list[Segment]:
    """Let go of the segments that begin beyond ``offset``, but of one; return them."""
    first = len(segments.items) - 1
    while first and segments.bases[first] > offset:
        first -= 1
    gone = segments.remove(first + 1, len(segments.items))
    segments.forget_marks()
    return gone


def rewind(segments: Segments, active: Segment, offset: int) -> None:
    """Make the active segment's size, index and greatest timestamp those of what is written below ``offset``.

    Raises:
        OSError: it could not be read.
    """
    hop = next(segments.heads(active, offset), None)
    if hop is not None:
        active.written = hop.position
    active.size = active.written
    index = active.index or Index()
    active.index = index
    index.truncate(active.size, offset - active.base_offset)
    if active.aborted is not None:
        active.aborted.truncate(offset)
    start = index.positions[-1] if index.positions else 0
    active.max_timestamp = index.times[-1] if index.times else -1
    active.max_timestamp_offset = active.base_offset + (index.time_offsets[-1] if index.times else 0)
    last = index.offsets[-1] if index.offsets else 0
    for hop in segments.heads(active, active.base_offset + last):
        if hop.max_timestamp > active.max_timestamp:
            active.max_timestamp = hop.max_timestamp
            active.max_timestamp_offset = hop.last_offset
    active.unindexed = active.size - start
