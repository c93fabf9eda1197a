"""What storage takes and gives: how a log is kept, what reading it gives, rows of metadata."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple, Protocol

import attrs

from megabroker.errors import Cold
from megabroker.model.records import NO_LEADER_EPOCH, Buffer

__all__ = [
    "Acks",
    "Change",
    "Durability",
    "FileRange",
    "LogSettings",
    "OpenFile",
    "ReadResult",
    "RunRoom",
    "TimestampedOffset",
]


class Acks(enum.IntEnum):
    """When a produce is acknowledged; the values are Kafka's."""

    NONE = 0
    WRITTEN = 1
    DURABLE = -1


class Durability(enum.Enum):
    """What ``Acks.DURABLE`` waits for: the disk, or the operating system's cache."""

    FSYNC = "fsync"
    OS = "os"


class OpenFile(Protocol):
    """A file that stays readable for as long as somebody holds this object, deleted or not."""

    def fileno(self) -> int:
        """Return the descriptor, open for reading."""

    def read(self, position: int, length: int) -> bytes:
        """Read, waiting for the disk if need be; fewer bytes only at the end of the file. Raises OSError."""

    def cold(self, position: int, length: int) -> Cold | None:
        """Return None if a stretch can be read without waiting for the disk, else begin to read it."""

    def read_cached(self, position: int, length: int) -> Buffer:
        """Read without waiting for the disk; fewer bytes only at the end of the file.

        Raises:
            Cold: not all of it is in memory.
            OSError: it could not be read.
        """


class FileRange(NamedTuple):
    """A stretch of a file, fit for sendfile; holding it keeps the file open."""

    file: OpenFile
    position: int
    length: int


class RunRoom(NamedTuple):
    """What a run of batches may hold.

    Attributes:
        records: how many, at most.
        size_bytes: all batches together, at most.
        batch_bytes: each, at most.
        earliest_ms: what a batch's base timestamp must not be before, unless it is negative.
        latest_ms: what its greatest timestamp must not be after.
    """

    records: int
    size_bytes: int
    batch_bytes: int
    earliest_ms: int
    latest_ms: int


class ReadResult(NamedTuple):
    """What a log gives for one read: whole batches, the first holding the wanted offset.

    Attributes:
        data: the batches; empty bytes when there is nothing below the end offset.
        length: bytes in ``data``. The last batch may be cut off by the byte limit, as Kafka allows,
            but the first is always whole.
    """

    data: Buffer | FileRange
    length: int


class TimestampedOffset(NamedTuple):
    """An offset found by time."""

    offset: int
    timestamp_ms: int
    leader_epoch: int = NO_LEADER_EPOCH


@attrs.frozen
class LogSettings:
    """How one partition's log is kept; the units are in the names, -1 means unlimited.

    Attributes:
        compact: whether only the newest record of each key is kept.
        delete_retention_ms: how long its deletion is kept, after it became the newest.
        min_compaction_lag_ms: how long a record is left alone.
        max_compaction_lag_ms: after how long it no longer waits for the log to be dirty enough.
        min_cleanable_dirty_ratio: share of the log, 0 to 1, that is not compacted yet and is worth it.
        file_delete_delay_ms: how long files of dropped segments are still there.
        segment_jitter_ms: up to how much earlier than after ``segment_ms`` a segment may end, at random.
        segment_index_bytes: size of an index file at which the segment ends.
        flush_messages: records written after which the log is synced, whatever the durability.
        flush_ms: the same in time.
        codec: number of the codec batches are stored in; None keeps the producer's.
        codec_level: what the codec is told; None is its default.
        max_batch_bytes: largest batch stored once it is in that codec.
    """

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3600 * 1000
    index_interval_bytes: int = 4096
    retention_ms: int = 7 * 24 * 3600 * 1000
    retention_bytes: int = -1
    compact: bool = False
    delete_retention_ms: int = 24 * 3600 * 1000
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = 2**63 - 1
    min_cleanable_dirty_ratio: float = 0.5
    file_delete_delay_ms: int = 0
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    flush_messages: int = 2**63 - 1
    flush_ms: int = 2**63 - 1
    codec: int | None = None
    codec_level: int | None = None
    max_batch_bytes: int = 2**31 - 1


class Change(NamedTuple):
    """One row of the metadata store to be put (``value`` is JSON-like) or, with None, deleted."""

    table: str
    key: str
    value: Any | None
