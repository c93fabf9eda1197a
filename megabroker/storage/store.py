"""All logs of one process in its data directories, laid out as Kafka lays them out.

Owns the logs that are open, and when checkpoints and the clean-shutdown marker are written; where things are
is known to ``directories``. Knows nothing of what a log holds.

    <topic>-<partition>/   partition.metadata, leader-epoch-checkpoint, damaged-ranges
        <offset>.log .index .timeindex .txnindex .snapshot

Invariants:

- The clean marker is removed before anything else is done and written after all else is on the disk; it is
  not written when any log is out of order.
- A line of a checkpoint file is of the log in the directory of that name. The lines hold no topic id, so
  they would be believed of whatever log has the name: a partition's directory is made only when no
  file holds a line of that name, and as long as one does, all are written anew and synced first.
  Deleting removes the directory, then the lines; when that fails, or a crash comes between, making the
  directory again does it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid4

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.errors import DataDirectoryLocked, ErrorCode, StorageError
from megabroker.interfaces import ILogListener, ILogStore, IProducerState
from megabroker.model import Durability, LogSettings, Topic, TopicPartition
from megabroker.storage.checkpoints import (
    decode_partition_metadata,
    encode_partition_metadata,
    encode_snapshot,
)
from megabroker.storage.cleaner import CleanerSettings, LogCleaner
from megabroker.storage.directories import Checkpoints, DataDirectories
from megabroker.storage.disk import DiskHandler, Lane
from megabroker.storage.files import Files, OpenFiles, storage_error
from megabroker.storage.journal import HALF_BYTES, JOURNAL, Journal, entry_key
from megabroker.storage.log import LocalLog
from megabroker.storage.recovery import SYNC_FAILED, Loader, write_again
from megabroker.storage.replay import PARTITION_METADATA
from megabroker.storage.scrubbing import Scrubber
from megabroker.storage.segment import Segment
from megabroker.storage.shares import Share
from megabroker.storage.warming import Warmer

__all__ = ["LocalLogStore"]

_log = Logger()

_MAX_NAME = 255


class _Clock(Protocol):
    def seconds(self) -> float:
        """Return the time, in seconds since the epoch."""

    def callLater(self, delay: float, call: Callable[[], None]) -> Any:
        """Call in so many seconds; the result has ``cancel``."""


@implementer(ILogStore)
class LocalLogStore:
    """See the module, and ``ILogStore``.

    Args:
        clock: the reactor, for the time.
        cleaner: how logs with keys are compacted.
        call_from_thread: ``reactor.callFromThread``.
        cluster_id: the cluster this must belong to; None takes what is found.
        new_cluster_id: makes the identity of a directory that has none.
        more_dirs: further directories in which partitions lie.
        share: which partitions are this process's, if it is one of several.
        journal_half_bytes: how much fits into each half of the journal.
        call_soon: calls back at the end of the reactor turn; with it, little is written in place.
        threaded: without, nothing is written until ``disk.pump()``.
        scrub_bytes_per_second: at which closed segments are read again; 0 for never.
        thorough: read every log wholly when it is opened, and make all that is derived from it anew.
    """

    def __init__(
        self,
        data_dir: str,
        clock: _Clock,
        call_from_thread: Callable[[Callable[[], None]], object],
        durability: Durability = Durability.FSYNC,
        *,
        files: Files | None = None,
        cluster_id: str | None = None,
        node_id: int | None = None,
        new_cluster_id: Callable[[], str] | None = None,
        more_dirs: Sequence[str] = (),
        max_open_files: int = 2048,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
        threaded: bool = True,
        cleaner: CleanerSettings | None = None,
        share: Share | None = None,
        journal_half_bytes: int = HALF_BYTES,
        scrub_bytes_per_second: int = 0,
        thorough: bool = False,
    ) -> None:
        self.data_dir = os.path.abspath(data_dir)
        self.durability = durability
        self._thorough = thorough
        self._clock = clock
        self._files = files or Files()
        self._warmer = Warmer(self._files, call_from_thread) if threaded else None
        self._open_files = OpenFiles(self._files, max_open_files, self._warmer)
        self._directories = DataDirectories(
            self._files, [data_dir, *more_dirs], cluster_id, node_id, new_cluster_id, share
        )
        place = self._directories.small(self.data_dir)
        self._journal = None
        if durability is Durability.FSYNC:
            self._journal = Journal(self._files, f"{place}/{JOURNAL}", journal_half_bytes)
        self.disk = DiskHandler(
            self._open_files,
            durability,
            call_from_thread,
            call_soon=call_soon,
            threaded=threaded,
            journal=self._journal,
        )
        self.cleaner = LogCleaner(
            cleaner or CleanerSettings(),
            lambda: [log.compaction for log in list(self._logs.values())],
            clock.seconds,
            call_from_thread,
            self.disk.chore,
            None if threaded else lambda done: self.disk.pump(),
        )
        self.scrubber = Scrubber(
            lambda: self._logs.values(),
            self._work,
            self._call_later,
            clock.seconds,
            scrub_bytes_per_second,
        )
        self._logs: dict[TopicPartition, LocalLog] = {}
        self._leaving: set[TopicPartition] = set()
        self._points: dict[TopicPartition, int] = {}
        self._starts: dict[TopicPartition, int] = {}
        self._cleaned: dict[TopicPartition, int] = {}
        self._planned: set[Any] = set()
        self._saving_soon = False
        self.saving = threading.Lock()  # held while the checkpoints are written
        self._saved: set[TopicPartition] = set()  # whose lines the checkpoint files may hold
        self._all_synced = False
        self._state = "new"

    # --- opening --------------------------------------------------------------------------------

    @property
    def cluster_id(self) -> str | None:
        """Whose the directories are, known once they are open."""
        return self._directories.cluster_id

    @property
    def warmer(self) -> Warmer | None:
        """What reads that the reactor must not wait for."""
        return self._warmer

    @property
    def was_clean(self) -> bool:
        """Whether the last close was in order."""
        return self._directories.was_clean

    def open(self) -> None:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.seconds()))
        directories = self._directories
        try:
            directories.take(started)
            known = directories.prepare()
        except OSError as caught:
            directories.release()
            raise storage_error("cannot use data directory", self.data_dir, caught) from caught
        except (StorageError, DataDirectoryLocked):
            directories.release()
            raise
        self._starts, self._points, self._cleaned = known
        self._all_synced = self._sync_all()
        self._saved = {*self._points, *self._starts, *self._cleaned}
        self._state = "open"
        self.disk.start()
        self.cleaner.start()
        self.scrubber.start()

    def _sync_all(self) -> bool:
        """After a kill, have all that was written on the disk at once; log by log it takes many times as
        long.

        Returns:
            Whether that is so, so that no log need be synced when it is opened.
        """
        if self.was_clean or self.durability is Durability.OS:
            return False
        try:
            devices = {self._files.device(path): path for path in self._directories.paths}
            return all(self._files.sync_file_system(path) for path in devices.values())
        except OSError as caught:
            _log.warn("file-system-not-synced: {error}: each log is synced by itself", error=caught)
            return False

    def log(
        self,
        topic: Topic,
        partition: int,
        settings: LogSettings,
        listener: ILogListener,
        producers: IProducerState,
    ) -> LocalLog:
        name = TopicPartition(topic.name, partition)
        if self._state != "open":
            raise StorageError(ErrorCode.STORAGE, f"the log store is {self._state}")
        if name in self._logs or name in self._leaving:
            raise StorageError(ErrorCode.STORAGE, f"the log of {name} is open already or being deleted")
        directory = self._directories.place(name)
        try:
            is_new = not self._files.is_directory(directory)
            if is_new:
                self._forget(name)
                self._files.mkdir(directory)
            is_told = self._check_topic_id(directory, topic)
            recovery_point = self._points.get(name, 0)
            start_offset = self._starts.get(name, 0)
            loaded = Loader(
                self._open_files,
                directory,
                producers,
                clean=self.was_clean or is_new,
                recovery_point=recovery_point,
                start_offset=start_offset,
                interval=settings.index_interval_bytes,
                thorough=self._thorough,
            ).run()
            if is_new:
                self._create(loaded.segments[0])
            elif self._files.read_size(f"{directory}/{SYNC_FAILED}") is not None:
                write_again(self._open_files, directory, loaded.unsynced)
            if self.durability is Durability.FSYNC and not self._all_synced:
                for segment in loaded.unsynced:
                    file = self._open_files.get(segment)
                    self._files.fdatasync(file.fileno())
                if loaded.unsynced:
                    self._files.sync_dir(directory)
        except OSError as caught:
            raise storage_error("cannot open log", directory, caught) from caught
        log = LocalLog(
            name,
            directory,
            settings,
            listener,
            producers,
            self.disk,
            self._clock.seconds,
            loaded,
            start_offset,
            self._cleaned_offset(name, loaded.next_offset),
            self._points_changed,
            self._save_checkpoints,
            self._call_later,
        )
        if self.durability is Durability.OS:
            log.dirty.update(dict.fromkeys(loaded.unsynced))
            if loaded.unsynced:
                log.recovery_point = min(log.recovery_point, recovery_point)
        log.topic_id = topic.id
        log.entry_key = entry_key(topic.id.bytes, str(name))
        # An empty one was never synced, not even if it was closed in order since it was made.
        log.unsynced_names = is_new or not log.size_bytes
        log.unsynced_parent = is_new or is_told or not log.size_bytes
        self._logs[name] = log
        return log

    def _create(self, segment: Segment) -> None:
        """Make a new log's file, for which the first to append would have to wait. Raises OSError."""
        fd = self._open_files.with_room(lambda: self._files.open(segment.path(), create=True))
        self._files.close(fd)
        segment.created = True

    def _cleaned_offset(self, name: TopicPartition, next_offset: int) -> int:
        offset = self._cleaned.get(name, 0)
        if offset <= next_offset:
            return offset
        _log.warn(
            "log-cleaned-anew: {log} ends at {end}, was cleaned to {offset}",
            log=name,
            end=next_offset,
            offset=offset,
        )
        return 0

    def _check_topic_id(self, directory: str, topic: Topic) -> bool:
        """Refuse another topic's directory; return whether this one's had to be told."""
        path = f"{directory}/{PARTITION_METADATA}"
        data = self._files.read_bytes(path)
        found = decode_partition_metadata(data)
        if found is None:
            self._files.write_whole(path, encode_partition_metadata(topic.id))
        elif found != topic.id:
            raise StorageError(
                ErrorCode.STORAGE,
                f"{directory} holds topic id {found}, not {topic.id} of {topic.name}",
                retriable=False,
            )
        return found is None

    def partitions(self) -> Iterable[tuple[TopicPartition, UUID | None]]:
        for name, directory in self._directories.partitions():
            log = self._logs.get(name)
            if log is not None:
                yield name, log.topic_id
                continue
            data = self._files.read_bytes(f"{directory}/{PARTITION_METADATA}")
            yield name, decode_partition_metadata(data)

    # --- while open -----------------------------------------------------------------------------

    def checkpoint(self) -> Deferred[None]:
        """Write down how far each log is on the disk, syncing first what durability has not; every minute."""
        if self._state != "open":
            return succeed(None)
        logs = list(self._logs.values())
        if self.durability is Durability.OS:
            for log in logs:
                if log.dirty:
                    self.disk.sync_later(log)
        self.disk.syncing.settle(all_of_it=True)
        synced = self._chore(lambda: None)
        return synced.addCallback(lambda _: self._chore(self._save_checkpoints))

    def _save_checkpoints(self, without: TopicPartition | None = None) -> None:
        """Chores thread, or the reactor's; the logs' offsets only grow, so a torn view is only older.

        Args:
            without: a log that is no more: nothing is done unless the files may hold it, and all is synced.
        """
        with self.saving:
            if without is not None and without not in self._saved:
                return
            points, starts, cleaned = self._points.copy(), self._starts.copy(), self._cleaned.copy()
            for name, log in self._logs.copy().items():
                points[name] = log.recovery_point
                starts[name] = log.start_offset
                if log.compaction.cleaned_offset:
                    cleaned[name] = log.compaction.cleaned_offset
                else:
                    cleaned.pop(name, None)
            names = {*points, *starts, *cleaned}
            self._saved |= names
            sync = self.durability is Durability.FSYNC or without is not None
            self._directories.save_checkpoints(Checkpoints(starts, points, cleaned), sync=sync)
            self._saved = names
            for name, log in self._logs.copy().items():
                log.saved_point = points.get(name, 0)

    def _forget(self, name: TopicPartition) -> None:
        """Make sure that no checkpoint tells of a log, which is not there. Raises OSError."""
        self._points.pop(name, None)
        self._starts.pop(name, None)
        self._cleaned.pop(name, None)
        self._save_checkpoints(without=name)

    def _points_changed(self) -> None:
        """A log's start moved, or it was cleaned: write that down soon, once for all that are meanwhile."""
        if not self._saving_soon:
            self._saving_soon = True

            def save() -> None:
                self._saving_soon = False
                self._save_checkpoints()

            self.disk.chore(save)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call in so many seconds, unless the store is closed before."""
        if self._state == "open":
            planned = self._clock.callLater(seconds, lambda: due())
            self._planned.add(planned)

            def due() -> None:
                self._planned.discard(planned)
                call()

    def _work(self, key: Any, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call what reads in a thread that reads, if there are any, and then ``done`` with the result."""
        if self._warmer is not None:
            self._warmer.work(key, call, done)
        else:
            done(call())

    def delete(self, topic_partition: TopicPartition) -> Deferred[None]:
        gone = StorageError(ErrorCode.STORAGE, f"{topic_partition} has been deleted", retriable=False)
        if self._state != "open":
            return fail(StorageError(ErrorCode.STORAGE, f"the log store is {self._state}"))
        directory = self._directories.place(topic_partition)
        log = self._logs.pop(topic_partition, None)
        self._points.pop(topic_partition, None)
        self._starts.pop(topic_partition, None)
        self._cleaned.pop(topic_partition, None)
        suffix = f".{uuid4().hex}-delete"
        doomed = f"{os.path.dirname(directory)}/{str(topic_partition)[: _MAX_NAME - len(suffix)]}{suffix}"
        done: Deferred[None] = Deferred()
        self._leaving.add(topic_partition)

        def remove() -> None:
            if log is not None:
                self.disk.syncing.forget(log)
                with log.compaction.cleaning:  # which ends when it finds that the log was abandoned
                    pass
            try:
                self._files.rename(directory, doomed)
            except FileNotFoundError:
                pass
            else:
                # Else it might be back after a power cut, under the name of a topic made since.
                self._files.sync_dir(os.path.dirname(directory))
                self._files.rmtree(doomed)
            try:
                self._save_checkpoints(without=topic_partition)
            except OSError as caught:
                _log.warn("log-checkpoint-kept: {log}: {error}", log=topic_partition, error=caught)

        def removed(_: None, error: StorageError | None) -> None:
            self._leaving.discard(topic_partition)
            if log is not None:
                log.let_go()
            if error is not None:
                done.errback(error)
            else:
                self._directories.forget(topic_partition)
                done.callback(None)

        if log is None:
            self.disk.chore(remove, removed)
        else:
            log.abandon(gone)
            lane = Lane(log, 0)
            lane.entries.append((None, 0, lambda _: self.disk.chore(remove, removed), 0))
            self.disk.submit(lane)
        return done

    # --- closing --------------------------------------------------------------------------------

    def close(self) -> Deferred[None]:
        if self._state == "new":
            self._state = "closed"
        if self._state != "open":
            return succeed(None)
        self._state = "closing"
        self.cleaner.stop()
        for call in self._planned:
            call.cancel()
        logs = list(self._logs.values())
        flushes = [log.flush() for log in logs]
        closed = StorageError(ErrorCode.SHUTTING_DOWN, "the log store is closed")
        for log in logs:
            log.refuse(closed)
        done: Deferred[None] = Deferred()
        gathered = DeferredList(flushes, consumeErrors=True)
        gathered.addCallback(lambda results: self._flushed(results, logs, done))
        return done

    def _flushed(
        self, results: Sequence[tuple[bool, Any]], logs: list[LocalLog], done: Deferred[None]
    ) -> None:
        failures = [result for good, result in results if not good]
        sound = [log for log, (good, _) in zip(logs, results, strict=True) if good]
        snapshots = [
            (log, encode_snapshot(log.producers.snapshot(), log.next_offset)) for log in sound if log.modified
        ]

        def save() -> None:
            for log, snapshot in snapshots:
                log.save_closing(snapshot)
            self._save_checkpoints()
            if not failures:
                self._directories.mark_clean(sync=self.durability is Durability.FSYNC)
                if self._journal is not None:
                    self._journal.remove()

        def saved(_: None, error: StorageError | None) -> None:
            self.disk.stop()
            if self._warmer is not None:
                self._warmer.stop()
            if self._journal is not None:
                self._journal.close()
            self._open_files.close()
            self._directories.release()
            self._state = "closed"
            if error is not None:
                done.errback(error)
            elif failures:
                done.errback(failures[0])
            else:
                done.callback(None)

        self.disk.chore(save, saved)

    def _chore(self, work: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()

        def finished(_: None, error: StorageError | None) -> None:
            if error is not None:
                done.errback(error)
            else:
                done.callback(None)

        self.disk.chore(work, finished)
        return done
