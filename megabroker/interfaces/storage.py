"""Storage as the core sees it: logs, rows that must not be lost, the journal of message ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.errors import BrokerError
from megabroker.interfaces.runs import IRun
from megabroker.model import (
    AbortedTransaction,
    BatchHeader,
    Change,
    LogSettings,
    ProducerSnapshot,
    ReadResult,
    TimestampedOffset,
    Topic,
    TopicPartition,
    TransactionMarker,
)

__all__ = ["ILog", "ILogListener", "ILogStore", "IMetadataStore", "IProducerState", "IWindowStore"]


class ILogListener(Interface):
    """Told by a log how far its writing has come; called at most once per log and reactor turn."""

    def progressed(written_offset: int, durable_offset: int) -> None:
        """Everything below ``written_offset`` is in the file, below ``durable_offset`` on the disk."""

    def failed(from_offset: int, error: BrokerError) -> None:
        """Everything accepted from ``from_offset`` on was not written and its offsets are free again.

        The log has already gone back: its ``next_offset`` equals ``from_offset``.
        """


class IProducerState(Interface):
    """Producer state of one partition, derived from its log and kept beside it."""

    def replay(header: BatchHeader, marker: TransactionMarker | None = None) -> None:
        """Take note of a batch found in the log during recovery, in offset order. Any thread.

        Args:
            marker: what the batch says, if it is the end of a transaction.
        """

    def restore(snapshot: Sequence[ProducerSnapshot]) -> None:
        """Begin from a stored snapshot. Any thread."""

    def snapshot() -> Sequence[ProducerSnapshot]:
        """Return the state after the last accepted batch."""

    def first_unstable_offset() -> int:
        """Return where the earliest undecided transaction begins; beyond every offset if there is none."""


class ILog(Interface):
    """One partition's log: record batches v2 in offset order, written behind and read in place.

    Append has two stages. *Ordered*: ``append`` fixes the offset and returns. *Durable*: the listener
    hears that the bytes are in the file, then that they are on the disk. Knows nothing of topics'
    meaning, of groups or of who may read.
    """

    start_offset: int = Attribute("First offset still readable.")
    next_offset: int = Attribute("Offset the next accepted record gets.")
    written_offset: int = Attribute("Everything below is in the file.")
    durable_offset: int = Attribute("Everything below is on the disk.")
    pending_bytes: int = Attribute("Bytes accepted and not yet written.")
    size_bytes: int = Attribute("Bytes accepted and not deleted, all segments.")
    appended_batches: int = Attribute("Batches written since it was opened.")
    removed_bytes: int = Attribute("Bytes deleted since it was opened, by retention, compaction and request.")
    settings: LogSettings = Attribute("How the log is kept; assign to change it.")
    place: str = Attribute("The data directory it is in, as an absolute path; empty if it is in none.")

    def append(
        header: BatchHeader, data: bytearray | memoryview, leader_epoch: int, append_time_ms: int | None
    ) -> int:
        """Accept one batch, stamp base offset and leader epoch into ``data``, queue it for writing.

        Args:
            header: the parsed header of ``data``; CRC and bounds are already checked by the caller.
            data: the whole batch, writable; the log keeps it, the caller must not touch it again.
            append_time_ms: when set, the batch is re-stamped as LogAppendTime with this time.

        Returns:
            The batch's base offset. Never waits and never calls the listener before returning.

        Raises:
            StorageError: the log is closed, deleted or failed.
        """

    def append_run(run: IRun, leader_epoch: int) -> int:
        """Accept all batches of a run, which are of no idempotent producers; as ``append``."""

    def append_marker(
        marker: TransactionMarker, leader_epoch: int, now_ms: int, first_offset: int, stable_offset: int
    ) -> int:
        """Accept the control batch that ends a transaction; as ``append``.

        Args:
            first_offset: where the transaction it ends began in this log, or -1.
            stable_offset: where the earliest other open transaction began, or -1.
        """

    def aborted(from_offset: int, to_offset: int) -> Sequence[AbortedTransaction]:
        """Return the aborted transactions with records in a range, by their first offsets."""

    def end_of(result: ReadResult, *, cached_only: bool = False) -> int:
        """Return an offset that everything ``read`` has just returned lies below, and not much else.

        Raises:
            StorageError: the file could not be read.
            Cold: with ``cached_only``, as ``read`` raises it.
        """

    def read(offset: int, max_bytes: int, end_offset: int, *, cached_only: bool = False) -> ReadResult:
        """Return batches from the one holding ``offset`` (or the next, after a hole) to ``end_offset``.

        The first batch is returned whole even when larger than ``max_bytes``. Never returns a batch that
        begins at or beyond ``end_offset``, nor one not yet written.

        Raises:
            RequestError: OFFSET_OUT_OF_RANGE when outside [start_offset, written_offset].
            StorageError: the file could not be read.
            Cold: with ``cached_only``, this would have waited for the disk. What was missing is being read;
                whether a ``FileRange`` is in memory is for the file to say.
        """

    def offset_for_time(timestamp_ms: int, *, cached_only: bool = False) -> TimestampedOffset | None:
        """Return the first record whose timestamp is at or after ``timestamp_ms``, below written_offset.

        Raises as ``read``.
        """

    def latest_timestamp(*, cached_only: bool = False) -> TimestampedOffset | None:
        """Return the record with the greatest timestamp, or None for an empty log. Raises as ``read``."""

    def epoch_end_offset(leader_epoch: int) -> tuple[int, int]:
        """Return (greatest epoch <= ``leader_epoch``, end offset of it), or (-1, -1) when unknown."""

    def advance_start(offset: int) -> None:
        """Make everything below ``offset`` unreadable; whole segments below it are deleted later."""

    def enforce_retention(now_ms: int) -> int:
        """Roll an over-age segment, drop segments beyond the retention settings; return how many."""

    def flush() -> Deferred[None]:
        """Fire when everything accepted up to now is on the disk; fail with StorageError if not."""


class ILogStore(Interface):
    """All logs of one broker process."""

    def open() -> None:
        """Take the data directory and prepare for ``log``. Blocking, before the reactor serves.

        Raises:
            DataDirectoryLocked: another process holds it.
            StorageError: it cannot be used.
        """

    def log(
        topic: Topic,
        partition: int,
        settings: LogSettings,
        listener: ILogListener,
        producers: IProducerState,
    ) -> ILog:
        """Open the log of one partition, creating or recovering it. Blocking; may run in any one thread.

        Raises:
            StorageError: it cannot be created or read.
        """

    def partitions() -> Iterable[tuple[TopicPartition, UUID | None]]:
        """Yield every partition found in the store, with its topic id where it is known."""

    def delete(topic_partition: TopicPartition) -> Deferred[None]:
        """Close and remove one partition's log; ranges handed out stay readable."""

    def close() -> Deferred[None]:
        """Write and fsync all that was accepted, mark the store cleanly closed, release it."""


class IMetadataStore(Interface):
    """Small rows that must not be lost: topics, group offsets, producer-id blocks.

    A row is (table, key, JSON-like value). State is read once, at start; after that the services' own
    memory is the truth and the store only follows. Of several processes each is so with the rows that it
    writes, and reads those of another again when that one says so.
    """

    def open() -> None:
        """Open, creating if need be. Blocking. Raises StorageError."""

    def rows(table: str, keys: Collection[str] | None = None) -> Mapping[str, Any]:
        """Return all rows of a table, or those of them with ``keys``. Blocking."""

    def write(changes: Sequence[Change]) -> Deferred[None]:
        """Apply all of ``changes`` atomically, in call order; fire when committed.

        Calls of one reactor turn are committed together, off the reactor thread. Fails with StorageError.
        """

    def advance(table: str, key: str, count: int) -> Deferred[int]:
        """Raise the number in a row, 0 where there is none; fire when it is on the disk, with what it was.

        No process that does so gets what another has got, nor after a power failure, whatever the durability
        is of what is written otherwise. In order with ``write``; fails with StorageError.
        """

    def close() -> Deferred[None]:
        """Commit what is pending and close."""


class IWindowStore(Interface):
    """Keeps the deduplication window over a restart: a journal of (scope, id, time)."""

    def load(since_ms: int) -> Iterable[tuple[int, int, int]]:
        """Yield (scope, message id, time in ms) of entries not older than ``since_ms``. Blocking."""

    def append(entries: Sequence[tuple[int, int, int]]) -> None:
        """Add entries; they survive kill -9 once this returns. Raises StorageError."""

    def expire(before_ms: int) -> None:
        """Forget entries older than ``before_ms``, at the store's own granularity."""

    def close() -> None:
        """Release files."""
