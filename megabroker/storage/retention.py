"""Which segments of a log may go.

Owns the rule; the log owns the segments. Invariants: the active segment and what is not yet durable stay;
before any file goes, a file that says where the log now begins is there.
"""

from __future__ import annotations

from megabroker.model import LogSettings
from megabroker.storage.files import Files
from megabroker.storage.segment import Segment
from megabroker.storage.segments import Segments

__all__ = ["ensure_created", "expired"]


def expired(
    segments: Segments,
    settings: LogSettings,
    now_ms: int,
    *,
    start_offset: int,
    durable_offset: int,
    size_bytes: int,
) -> int:
    """Return how many of the first segments may go.

    A segment goes when it lies wholly below the start, when the log without it is still as large as
    ``retention_bytes``, or when its latest record is older than ``retention_ms``.

    Raises:
        OSError: an index could not be read.
    """
    excess = size_bytes - settings.retention_bytes if settings.retention_bytes >= 0 else 0
    gone = 0
    while gone + 1 < len(segments.items):
        segment = segments.items[gone]
        end = segments.bases[gone + 1]
        if end > durable_offset:
            break
        if end > start_offset and not (excess > 0 and excess >= segment.size):
            if settings.retention_ms < 0:
                break
            segments.index_of(segment)
            if now_ms - _newest(segment, now_ms) <= settings.retention_ms:
                break
            segments.offset_before(segment, 0)  # before anything goes, its time is held against the batches
            if now_ms - _newest(segment, now_ms) <= settings.retention_ms:
                break
        excess -= segment.size
        gone += 1
    return gone


def _newest(segment: Segment, now_ms: int) -> int:
    newest = segment.max_timestamp
    return newest if newest >= 0 else int((segment.born or now_ms / 1000) * 1000)


def ensure_created(files: Files, directory: str, active: Segment) -> None:
    """Make the active segment's file, if it is not there. Chores thread.

    To be called before any other goes: an empty directory would mean that the log begins at 0, and a last
    segment without an end that the log may end anywhere. Raises OSError.
    """
    if not active.created:
        files.close(files.open(active.path(), create=True))
        files.sync_dir(directory)
