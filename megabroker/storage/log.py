"""One partition's log in a directory of segments.

Owns the offsets: which are given out, written, on the disk, readable. Every method is called in the
reactor thread; the disk thread only sees what is in the log's lane.

Invariants:

- ``start_offset`` <= ``durable_offset`` <= ``written_offset`` <= ``next_offset``, and ``written_offset`` is
  where a batch ends. Nothing at or beyond it is ever returned by ``read``.
- After a failed write (a full disk) everything from the first batch that is not wholly in the file is void,
  its offsets are free again, ``next_offset == written_offset``, and the next append tries anew. When even
  cutting the file back failed, the log is *out of order*: append raises until it is opened again.
- After a failed sync the log is out of order, and everything from ``durable_offset`` on is reported as
  failed. The file is left alone: what is in it is found by recovery, since the store will not then
  be marked as cleanly closed. A batch reported failed may therefore be there after a restart, as after
  any lost answer; one reported durable always is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from random import randrange
from threading import Lock
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.codec.batch import build_control, read_header, stamp_append_time
from megabroker.codec.header import LENGTH_END, pack_stamp
from megabroker.errors import BrokerError, ErrorCode, RequestError, StorageError
from megabroker.interfaces import ILog, ILogListener, IProducerState, IRun
from megabroker.model import (
    AbortedTransaction,
    BatchHeader,
    Durability,
    LogSettings,
    ReadResult,
    TimestampedOffset,
    TopicPartition,
    TransactionMarker,
)
from megabroker.storage import times
from megabroker.storage.checkpoints import encode_rows, encode_snapshot
from megabroker.storage.cleanable_log import CleanableLog
from megabroker.storage.disk import DiskHandler, Lane
from megabroker.storage.files import storage_error
from megabroker.storage.flushes import Flushes
from megabroker.storage.index import Index
from megabroker.storage.leader_epochs import LeaderEpochs
from megabroker.storage.recompression import in_codec
from megabroker.storage.recovery import LEADER_EPOCHS, SYNC_FAILED, Loaded
from megabroker.storage.retention import expired
from megabroker.storage.retiring import Retiring
from megabroker.storage.runs import append_each
from megabroker.storage.segment import MAX_RELATIVE_OFFSET, Damage, Segment
from megabroker.storage.segments import EMPTY, Segments
from megabroker.storage.snapshots import save_snapshot
from megabroker.storage.truncation import drop_from, rewind

__all__ = ["LocalLog"]

_log = Logger()

_CONTROL = 0x20
_NEVER_MS = 2**63 - 1


@implementer(ILog)
class LocalLog:
    """See the module, and ``ILog`` for the public methods.

    Attributes:
        damaged: unreadable stretches that are kept.
        recovery_point: everything below has been synced in the log's own files, whatever the durability.
        journaled_offset: everything below is on the disk, in the journal if not there.
        saved_point: the recovery point in the checkpoint file.
        entry_key: what the log's entries in the journal begin with; empty, it has none.
        written_pieces: how many batches and runs were written; counted by who writes.
        dirty: segments written and not synced; the disk thread adds before each write and again after it,
            the reactor discards those that are gone, whoever syncs takes.
        unsynced_names: whether files were made since the directory was synced.
        topic_id: what partition.metadata says.
        unsynced_parent: the same for the log's own directory in the store's.
        sync_lock: held while syncing, so that nobody reports what another is still syncing.
        sync_failed: set by the disk thread.
        abandoned: whether the log is being deleted; set by the reactor.
        segments: all of them; ``active`` is the last.
        compaction: how the cleaner sees the log.
    """

    def __init__(
        self,
        topic_partition: TopicPartition,
        directory: str,
        settings: LogSettings,
        listener: ILogListener,
        producers: IProducerState,
        disk: DiskHandler,
        seconds: Callable[[], float],
        loaded: Loaded,
        start_offset: int,
        cleaned_offset: int,
        points_changed: Callable[[], None],
        save_points: Callable[[], None],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self.topic_partition = topic_partition
        self.directory = directory
        self.place = os.path.dirname(os.path.abspath(directory))
        self.settings = settings
        self.listener = listener
        self.producers = producers
        end = loaded.next_offset
        self.next_offset = self.written_offset = self.durable_offset = self.recovery_point = end
        self.journaled_offset = self.saved_point = 0
        self.entry_key = b""
        self.start_offset = min(end, max(start_offset, loaded.segments[0].base_offset))
        self.pending_bytes = 0
        self.size_bytes = sum(segment.size for segment in loaded.segments)
        self.removed_bytes = 0
        self.written_pieces = 0
        self._more_batches = 0
        self.damaged: list[Damage] = loaded.damaged
        self.dirty: dict[Segment, None] = {}  # and not a set, whose order is another each time
        self.unsynced_names = False
        self.unsynced_parent = False
        self.topic_id: UUID | None = None
        self.sync_lock = Lock()
        self.sync_failed = False
        self.abandoned = False
        self.modified = bool(loaded.unsynced)
        self.refusal: StorageError | None = None
        self._broken = False
        self._retiring = Retiring(directory, disk, later)
        self._failures = 0  # writes that failed since the last that did not
        self._disk = disk
        self._seconds = seconds
        self._points_changed = points_changed
        self._later = later
        self._flushing = False
        self._flush_is_planned = False
        self._jitter_ms = 0
        self.segments = Segments(
            loaded.segments, loaded.damaged, loaded.refused, lambda: self.settings.index_interval_bytes
        )
        self.active = loaded.segments[-1]
        self._epochs = LeaderEpochs(loaded.epochs)
        self._epochs_are_saved = loaded.epochs_are_saved
        self._lane = Lane(self, end)
        self._entries = self._lane.entries
        self._choose_jitter()
        self.compaction = CleanableLog(self, disk, cleaned_offset, points_changed, save_points)
        self._announced = (end, end)
        self._flushes = Flushes()

    @property
    def appended_batches(self) -> int:
        """Batches written since it was opened; of runs a little before they are."""
        return self.written_pieces + self._more_batches

    # --- appending ------------------------------------------------------------------------------

    def append(
        self,
        header: BatchHeader,
        data: bytearray | memoryview,
        leader_epoch: int,
        append_time_ms: int | None,
    ) -> int:
        if self.refusal is not None:
            raise self.refusal
        settings = self.settings
        if settings.codec is not None and not header[5] & _CONTROL:
            header, data = in_codec(settings, header, data)
        if append_time_ms is not None:
            header = stamp_append_time(data, header, append_time_ms)
        base = self.next_offset
        last = base + header[6]
        size = len(data)
        segment = self.active
        position = segment.size
        if position:
            if (
                position + size > settings.segment_bytes
                or last - segment.base_offset > MAX_RELATIVE_OFFSET
                or (
                    not self._lane.queued  # once for all that is written together
                    and (self._seconds() - (segment.born or 0.0)) * 1000
                    >= (settings.segment_ms - self._jitter_ms if settings.segment_ms >= 0 else _NEVER_MS)
                )
                # Entries are at least an interval apart: before so many bytes the index cannot be full.
                or (
                    position * 8 >= settings.segment_index_bytes * settings.index_interval_bytes
                    and segment.index_bytes() > settings.segment_index_bytes
                )
            ):
                segment = self._roll()
                position = 0
                segment.born = self._seconds()
            elif segment.saved:
                self._unsave(segment)
        else:
            segment.born = self._seconds()
        pack_stamp(data, 0, base, size - LENGTH_END, leader_epoch)
        if leader_epoch > self._epochs.latest:
            self._begin_epoch(leader_epoch, base)
        if header[8] > segment.max_timestamp or segment.unindexed > settings.index_interval_bytes:
            segment.note(position, size, last, header[8], settings.index_interval_bytes)
        else:
            segment.unindexed += size
        segment.size = position + size
        self.next_offset = last = last + 1
        self.pending_bytes += size
        self.size_bytes += size
        self._entries.append((segment, position, data, last))
        lane = self._lane
        if not lane.queued:
            lane.queued = True
            self._disk.submit(lane)
        return base

    def append_run(self, run: IRun, leader_epoch: int) -> int:
        if self.refusal is not None:
            raise self.refusal
        settings = self.settings
        segment = self.active
        position = segment.size
        base = self.next_offset
        end = position + run.size_bytes
        last = base + run.records
        if (
            not position
            or end > settings.segment_bytes
            or last - segment.base_offset > MAX_RELATIVE_OFFSET
            or end * 8 >= settings.segment_index_bytes * settings.index_interval_bytes
            or (self._seconds() - (segment.born or 0.0)) * 1000
            >= (settings.segment_ms - self._jitter_ms if settings.segment_ms >= 0 else _NEVER_MS)
            or segment.saved
            or leader_epoch > self._epochs.latest
            or settings.codec is not None
        ):
            return append_each(self, run, leader_epoch)
        run.stamp(base, leader_epoch)
        run.note(segment, position, settings.index_interval_bytes)
        segment.size = end
        self.next_offset = last
        self.pending_bytes += run.size_bytes
        self.size_bytes += run.size_bytes
        self._entries.append((segment, position, run.data, last))
        run.given()
        self._more_batches += run.requests - 1
        lane = self._lane
        if not lane.queued:
            lane.queued = True
            self._disk.submit(lane)
        return base

    def append_marker(
        self,
        marker: TransactionMarker,
        leader_epoch: int,
        now_ms: int,
        first_offset: int,
        stable_offset: int,
    ) -> int:
        """Append a control batch as ``append`` does, and remember what it aborts.

        Args:
            first_offset: where the transaction it ends began in this log, or -1.
            stable_offset: where the earliest other open transaction began, or -1.
        """
        if first_offset >= 0 and not marker.commit:
            try:
                self.segments.aborted_of(self.active)
            except OSError as caught:
                raise storage_error("cannot read", self.directory, caught) from caught
        data = build_control(**marker._asdict(), timestamp_ms=now_ms)
        offset = self.append(read_header(data, 0, len(data)), data, leader_epoch, None)
        if first_offset >= 0 and not marker.commit:
            stable = offset + 1 if stable_offset < 0 else stable_offset
            aborted = AbortedTransaction(marker.producer_id, first_offset, offset, stable)
            self.segments.aborted_of(self.active).add(aborted)
        return offset

    def _unsave(self, segment: Segment) -> None:
        try:
            segment.unsave()
            self.modified = True
        except OSError as caught:
            raise storage_error("cannot remove", segment.path(".index"), caught) from caught

    def take_dirty(self) -> Segment | None:
        """Take a segment that has to be synced, or None when there is none left. Any thread."""
        while True:
            try:
                segment, _ = self.dirty.popitem()
            except KeyError:
                return None
            if not segment.gone:
                return segment

    def _queue(self, job: Callable[[Lane], None]) -> None:
        """Run ``job`` in the disk thread once all accepted before is written."""
        lane = self._lane
        lane.entries.append((None, 0, job, 0))
        if not lane.queued:
            lane.queued = True
            self._disk.submit(lane)

    def _roll(self) -> Segment:
        """Begin a new segment at ``next_offset``."""
        old, base = self.active, self.next_offset
        if self._epochs.rows and not self._epochs_are_saved:
            self._save_epochs()
        segment = Segment(old.open_files, self.directory, base)
        segment.index = Index()
        segment.born = self._seconds()
        self.segments.add(segment)
        self.active = segment
        self._choose_jitter()
        snapshot = encode_snapshot(self.producers.snapshot(), base)
        self._queue(partial(self._seal, old, base, snapshot))
        return segment

    def _choose_jitter(self) -> None:
        """Spread the ends of segments that began together."""
        most = min(self.settings.segment_jitter_ms, self.settings.segment_ms)
        self._jitter_ms = randrange(most) if most > 0 else 0

    def _seal(self, segment: Segment, offset: int, snapshot: bytes, lane: Lane) -> None:
        """All of ``segment`` is written: save its index and the producers' state after it. Disk thread."""

        def save() -> None:
            if not segment.gone:
                segment.save_index()
                save_snapshot(segment.open_files.files, self.directory, offset, snapshot, self.recovery_point)

        def saved(_: None, error: StorageError | None) -> None:
            if error is None and segment in self.segments.items:
                segment.saved = True
                if segment is not self.active:
                    segment.open_files.indexes.keep(segment)

        self._disk.chore(save, saved)

    def _begin_epoch(self, leader_epoch: int, offset: int) -> None:
        self._epochs.begin(leader_epoch, offset)
        # While a log is one segment of one epoch its first batch says it all, and a file costs an inode.
        if self._epochs_are_saved or len(self._epochs.rows) > 1:
            self._save_epochs()

    def _save_epochs(self) -> None:
        self._epochs_are_saved = True
        self._save(LEADER_EPOCHS, encode_rows(self._epochs.rows))

    def _save(self, name: str, data: bytes) -> None:
        files = self.active.open_files.files
        self._disk.chore(lambda: files.write_whole(f"{self.directory}/{name}", data))

    # --- what the disk reports; called in the reactor, then ``announce`` ------------------------

    def on_written(
        self,
        lane: Lane,
        offset: int,
        size: int,
        segment: Segment,
        position: int,
        touched: dict[LocalLog, None],
    ) -> None:
        """A group of batches is in the file."""
        if lane is not self._lane:
            return
        if self._failures:
            _log.info(
                "log-writes-again: {log} after {count} failures",
                log=self.topic_partition,
                count=self._failures,
            )
            self._failures = 0
        self.modified = True
        segment.written = position
        self.written_offset = offset
        self.pending_bytes -= size
        self.segments.mark_end(offset, segment, position)
        if self._disk.durability is Durability.OS:
            self.durable_offset = offset
            settings = self.settings
            if offset - self.recovery_point >= settings.flush_messages or settings.flush_ms < _NEVER_MS:
                self._flush_when_due(offset)
        touched[self] = None

    def _flush_when_due(self, offset: int) -> None:
        """Sync what ``flush.messages`` and ``flush.ms`` ask for; with durability fsync all is anyway."""
        settings = self.settings
        if offset - self.recovery_point >= settings.flush_messages:
            if not self._flushing:
                self._flushing = True
                self._queue(_want_sync)
        elif settings.flush_ms < _NEVER_MS and not self._flush_is_planned:
            self._flush_is_planned = True
            self._later(settings.flush_ms / 1000, self._flush_in_time)

    def _flush_in_time(self) -> None:
        self._flush_is_planned = False
        if not self._broken and self.recovery_point < self.written_offset:
            self._queue(_want_sync)

    def on_synced(self, offset: int, touched: dict[LocalLog, None]) -> None:
        """Everything below ``offset`` is on the disk."""
        self._flushing = False
        if self.sync_failed or offset <= self.recovery_point:
            return
        self.recovery_point = offset
        if offset > self.durable_offset:
            self.durable_offset = offset
        touched[self] = None
        if self._flushes.waiting:
            self._flushes.reached(offset)

    def on_journaled(self, offset: int, touched: dict[LocalLog, None]) -> None:
        """Everything below ``offset`` is on the disk, if only in the journal."""
        if offset > self.journaled_offset:
            self.journaled_offset = offset
        if offset > self.durable_offset and not self.sync_failed:
            self.durable_offset = offset
            touched[self] = None

    def on_failed(
        self, lane: Lane, from_offset: int, error: StorageError, fatal: bool, touched: dict[LocalLog, None]
    ) -> None:
        """A write failed; what was accepted from ``from_offset`` on is void."""
        if lane is not self._lane:
            return
        self.announce()
        self._take_back(from_offset)
        if fatal:
            self._broken = True
            self.refusal = error
        self._failures += 1
        # A full disk refuses every write: the first is told, then the second, fourth, eighth ...
        if fatal or self._failures & (self._failures - 1) == 0:
            _log.error(
                "log-write-failed: {log} from offset {offset}, {count} in a row: {error}{fatal}",
                log=self.topic_partition,
                offset=from_offset,
                count=self._failures,
                error=error.message,
                fatal="; unavailable until restart" if fatal else "",
            )
        self._tell_failed(from_offset, error)

    def on_sync_failed(self, error: StorageError, touched: dict[LocalLog, None]) -> None:
        """A sync failed; the log is out of order."""
        if self._broken:
            return
        self._broken = True
        self.announce()
        self.refusal = error
        from_offset = self.written_offset = self.durable_offset
        self._take_back(from_offset)
        _log.error(
            "log-sync-failed: {log} from offset {offset}: {error}; unavailable until restart",
            log=self.topic_partition,
            offset=from_offset,
            error=error.message,
        )
        self._tell_failed(from_offset, error)

    def note_failed_sync(self) -> None:
        """Have the next opening write again what the page cache holds and the disk may not. Any thread.

        The kernel takes pages whose writing failed for written: they are read as if nothing had been, and a
        sync after that, by whatever process, finds nothing to do.
        """
        try:
            self.active.open_files.files.write_whole(f"{self.directory}/{SYNC_FAILED}", b"")
        except OSError as caught:
            _log.error("log-sync-failure-not-noted: {log}: {error}", log=self.topic_partition, error=caught)

    def _take_back(self, from_offset: int) -> None:
        """Free every offset from ``from_offset`` on."""
        segments = self.segments
        for segment in drop_from(segments, from_offset):
            segment.open_files.drop(segment)
            self.dirty.pop(segment, None)
        self.active = active = segments.items[-1]
        self.next_offset = from_offset
        self.pending_bytes = 0
        self._lane.dead = True
        self._lane = Lane(self, from_offset)
        self._entries = self._lane.entries
        self._epochs.truncate(from_offset)
        try:
            rewind(segments, active, from_offset)
        except OSError as caught:
            self.refusal = storage_error("cannot read", active.path(), caught)
        self.size_bytes = sum(segment.size for segment in segments.items)

    def _tell_failed(self, from_offset: int, error: StorageError) -> None:
        self._flushes.fail(error, -1 if self._broken else from_offset)
        try:
            self.listener.failed(from_offset, error)
        except Exception:  # noqa: BLE001
            _log.failure("log-listener-failed: {log}", log=self.topic_partition)

    def announce(self) -> None:
        """Tell the listener of progress, if there is any."""
        progress = (self.written_offset, self.durable_offset)
        if progress != self._announced:
            self._announced = progress
            try:
                self.listener.progressed(*progress)
            except Exception:  # noqa: BLE001
                _log.failure("log-listener-failed: {log}", log=self.topic_partition)

    # --- reading --------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, end_offset: int, *, cached_only: bool = False) -> ReadResult:
        written = self.written_offset
        if not self.start_offset <= offset <= written:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} is outside {self.start_offset} to {written} of {self.topic_partition}",
            )
        limit = end_offset if end_offset < written else written
        if offset >= limit:
            return EMPTY
        try:
            return self.segments.read(offset, max_bytes, limit, written, cached_only=cached_only)
        except OSError as caught:
            raise storage_error("cannot read", self.directory, caught) from caught

    def offset_for_time(self, timestamp_ms: int, *, cached_only: bool = False) -> TimestampedOffset | None:
        try:
            return times.first_at_or_after(
                self.segments, timestamp_ms, self.start_offset, self.written_offset, cached_only=cached_only
            )
        except OSError as caught:
            raise storage_error("cannot read", self.directory, caught) from caught

    def latest_timestamp(self, *, cached_only: bool = False) -> TimestampedOffset | None:
        try:
            return times.latest(
                self.segments, self.start_offset, self.written_offset, cached_only=cached_only
            )
        except OSError as caught:
            raise storage_error("cannot read", self.directory, caught) from caught

    def epoch_end_offset(self, leader_epoch: int) -> tuple[int, int]:
        return self._epochs.end_offset(leader_epoch, self.next_offset)

    def aborted(self, from_offset: int, to_offset: int) -> list[AbortedTransaction]:
        """Return the aborted transactions with records in a range, by their first offsets.

        Raises:
            StorageError: a file could not be read.
        """
        try:
            found = self.segments.aborted(from_offset, to_offset)
        except OSError as caught:
            raise storage_error("cannot read", self.directory, caught) from caught
        found.sort(key=_first_offset)
        return found

    def end_of(self, result: ReadResult, *, cached_only: bool = False) -> int:
        """Return an offset that everything ``read`` has just returned lies below, and not much else.

        Raises:
            StorageError: a file could not be read.
            Cold: with ``cached_only``, that would have waited for the disk.
        """
        try:
            return self.segments.end_of(result, self.next_offset, cached_only=cached_only)
        except OSError as caught:
            raise storage_error("cannot read", self.directory, caught) from caught

    # --- retention ------------------------------------------------------------------------------

    def advance_start(self, offset: int) -> None:
        offset = min(offset, self.written_offset)
        if offset > self.start_offset:
            self.start_offset = offset
            self._points_changed()

    def enforce_retention(self, now_ms: int) -> int:
        settings, segments = self.settings, self.segments
        active = self.active
        if self.refusal is None and active.size and settings.segment_ms >= 0:
            age_ms = (self._seconds() - (active.born or 0.0)) * 1000
            if age_ms >= settings.segment_ms - self._jitter_ms:
                self._roll()
        try:
            gone = expired(
                segments,
                settings,
                now_ms,
                start_offset=self.start_offset,
                durable_offset=self.durable_offset,
                size_bytes=self.size_bytes,
            )
        except OSError as caught:
            raise storage_error("cannot read", self.directory, caught) from caught
        removed: list[Segment] = []
        if gone:
            removed = segments.remove(0, gone)
            removed_bytes = sum(segment.size for segment in removed)
            self.size_bytes -= removed_bytes
            self.removed_bytes += removed_bytes
            self._disk.removed_segments += len(removed)
            self._disk.removed_bytes += removed_bytes
            if self.start_offset < segments.bases[0]:
                self.start_offset = segments.bases[0]
                self._points_changed()
            self.modified = True
            self._retiring.add(removed)
        self._retiring.go_on(self.active, settings.file_delete_delay_ms)
        for segment in removed:
            self.dirty.pop(segment, None)
        return gone

    def delete_retired(self, paths: list[str]) -> None:
        """Unlink files that are out of the way; see ``Retiring.delete``."""
        self._retiring.delete(paths, self.active, self.settings.file_delete_delay_ms)

    @property
    def going(self) -> bool:
        """Whether nothing more is to be done to the log's files. Any thread."""
        return self._broken

    # --- the end --------------------------------------------------------------------------------

    def flush(self) -> Deferred[None]:
        if self.refusal is not None:
            return fail(self.refusal)
        target = self.next_offset
        if target <= self.recovery_point:
            return succeed(None)
        done = self._flushes.add(target)
        self._queue(_want_sync)
        return done

    def refuse(self, error: StorageError) -> None:
        """Accept nothing more; what was accepted is still written."""
        if self.refusal is None:
            self.refusal = error

    def abandon(self, error: StorageError) -> None:
        """Accept nothing more and write nothing more."""
        self.refuse(error)
        self.abandoned = True
        self._broken = True
        self._lane.dead = True
        for segment in self.segments.items:
            segment.open_files.drop(segment)
        self._flushes.fail(error)

    def let_go(self) -> None:
        """Refer to nothing any more that refers back: it was abandoned, and its files are gone.

        So it goes as soon as nobody uses it, and no search for garbage has to find it.
        """
        interval = self.settings.index_interval_bytes
        self.listener = _Nobody()
        self._lane = _NO_LANE
        self.segments.let_go(interval)
        del self.compaction

    def save_closing(self, snapshot: bytes) -> None:
        """Write what lets the next opening believe the sizes. Chores thread, after the last sync."""
        self.active.save_index()
        files = self.active.open_files.files
        save_snapshot(files, self.directory, self.next_offset, snapshot, self.recovery_point)
        if self._epochs.rows and not self._epochs_are_saved:
            files.write_whole(f"{self.directory}/{LEADER_EPOCHS}", encode_rows(self._epochs.rows))


@implementer(ILogListener)
class _Nobody:
    """Listens to a log that is no more."""

    def progressed(self, written_offset: int, durable_offset: int) -> None:
        """Nothing comes of it."""

    def failed(self, from_offset: int, error: BrokerError) -> None:
        """Nothing comes of it."""


_NO_LANE: Any = object()


def _first_offset(aborted: AbortedTransaction) -> int:
    return aborted.first_offset


def _want_sync(lane: Lane) -> None:
    lane.wants_sync = True
