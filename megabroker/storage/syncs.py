"""How what logs have written comes to be on the disk: each log's files by themselves, or all in the journal.

Owns the choice and the bookkeeping of it; ``DiskHandler`` says what is due. Without a journal the files of
each log are synced. Rounds of three logs and more have one made. From then on what logs have written since
their last sync, as long as that is little, goes into it by one write and one sync, and their files are synced
later, in the chores thread, before that part of the journal is used again (``settle``). Even for a single log
that is quicker: the journal does not grow, so its sync waits for no metadata.

Only a log whose files are on the disk by name is journaled, and whose partition.metadata is: replaying makes
no file, and believes no directory without a topic id. When the journal fails nothing is lost: it is given
up, and each log's own sync decides about it, as without one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from megabroker.errors import StorageError
from megabroker.latency import Latency
from megabroker.model import Buffer
from megabroker.storage.files import OpenFiles, storage_error
from megabroker.storage.journal import MAX_FRAME_BYTES, Journal, encode_entry
from megabroker.storage.replay import PARTITION_METADATA
from megabroker.storage.segment import Segment

if TYPE_CHECKING:
    from megabroker.storage.disk import Chore, ChoreDone, Lane
    from megabroker.storage.log import LocalLog

__all__ = ["Kept", "Syncs"]

_log = Logger()

# A journaling file system commits concurrent syncs together: 500 files took 2 ms each one after the other
# and 0.2 ms each with eight threads (ext4, shared virtual disk).
_MANY_SYNCS = 3
_SYNC_THREADS = 8
_KEPT_BYTES_A_LOG = 64 * 1024
_KEPT_BYTES = MAX_FRAME_BYTES // 2
# Syncs of single logs that a journal would have spared, before one is made: that writes 64 MiB.
_WORTH_A_JOURNAL = 512
_EVERYTHING = 2**63 - 1

Kept = tuple[Segment, int, int, list[Buffer]]
"""Segment, position in it, offset after the last record, bytes."""
Report = Callable[[dict["LocalLog", None]], None]


class Syncs:
    """See the module. ``keep`` and ``round`` are for who writes; ``sync`` for any thread but the reactor's.

    Args:
        report: has a completion called in the reactor.
        wake: has those reported so far delivered.
        chore: runs something in the chores thread.
        journal: None where nothing is journaled.

    Attributes:
        count: how many syncs there were, of files and of the journal.
        failures: how many logs could not be synced.
        rounds: how often the disk thread had something synced; ``synced_logs`` counts the logs of all rounds.
        latency: how long these rounds took, which is what acknowledgements wait for.
        eager: whether the journal is made and used however little it spares; for tests and drills.
    """

    def __init__(
        self,
        open_files: OpenFiles,
        report: Callable[[Report], None],
        wake: Callable[[], None],
        chore: Callable[[Chore, ChoreDone | None], None],
        journal: Journal | None,
        *,
        threaded: bool,
    ) -> None:
        self.count = 0
        self.failures = 0
        self.rounds = 0
        self.synced_logs = 0
        self.latency = Latency()
        self.eager = False
        self.journal = journal
        self._open_files = open_files
        self._files = open_files.files
        self._report = report
        self._wake = wake
        self._chore = chore
        self._threaded = threaded
        self._threads: ThreadPoolExecutor | None = None
        self._kept_bytes = 0
        self._spared = 0
        self._patience = 1
        self._making = False
        self._given_up = False
        self._settling = False

    def stop(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    # --- what the next round will want ----------------------------------------------------------

    def keep(self, lane: Lane, kept: Kept, size: int) -> None:
        """Keep bytes that were just written until they are on the disk, unless it is too much."""
        if self.journal is None or lane.kept is None or lane.log.sync_failed:
            return
        if lane.kept_bytes + size > _KEPT_BYTES_A_LOG or self._kept_bytes + size > _KEPT_BYTES:
            self._kept_bytes -= lane.kept_bytes
            lane.kept, lane.kept_bytes = None, 0
            return
        lane.kept.append(kept)
        lane.kept_bytes += size
        self._kept_bytes += size

    def _let_go(self, lane: Lane) -> None:
        self._kept_bytes -= lane.kept_bytes
        lane.kept, lane.kept_bytes = [], 0

    # --- a round --------------------------------------------------------------------------------

    def is_quick(self, due: list[Lane]) -> bool:
        """Whether a round takes so little that what was written can be reported with it."""
        return self.journal is not None and self.journal.ready and len(due) >= _MANY_SYNCS

    def round(self, due: list[Lane]) -> None:
        """Bring to the disk what these lanes have written, and report it."""
        if not due:
            return
        began = time.monotonic()
        self._round(due)
        self.rounds += 1
        self.synced_logs += len(due)
        self.latency.observe(time.monotonic() - began)

    def _round(self, due: list[Lane]) -> None:
        apart = due
        journal = self.journal
        if journal is not None and (journal.ready or self.eager or len(due) >= _MANY_SYNCS):
            dead = {lane.log for lane in due if lane.dead}
            together = [lane for lane in due if lane.log not in dead and _may_wait(lane)]
            if together and self._write_journal(journal, together):
                done = set(together)
                apart = [lane for lane in due if lane not in done]
        if len(apart) < _MANY_SYNCS or not self._threaded:
            for lane in apart:
                self._sync_lane(lane)
        else:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_SYNC_THREADS, "megabroker-sync")
            for _ in self._threads.map(self._sync_lane, apart):
                pass
        for lane in due:
            self._let_go(lane)

    def _sync_lane(self, lane: Lane) -> None:
        lane.wants_sync = False
        if not self.sync(lane.log, lane.written_offset):
            lane.dead = True
        self._wake()

    def sync(self, log: LocalLog, offset: int) -> bool:
        """Sync every dirty file of a log that is written up to ``offset``; return whether that went well."""
        path = log.directory
        files = self._files
        try:
            with log.sync_lock:
                if log.sync_failed:
                    return False
                while (segment := log.take_dirty()) is not None:
                    path = segment.path()
                    try:
                        file = self._open_files.get(segment)
                        files.fdatasync(file.fileno())
                        self.count += 1
                    except OSError:
                        if not segment.gone:
                            raise
                path = log.directory
                if log.unsynced_parent:
                    self._sync_file(f"{path}/{PARTITION_METADATA}")
                if log.unsynced_names:
                    log.unsynced_names = False
                    self._sync_dir(path)
                if log.unsynced_parent:
                    log.unsynced_parent = False
                    self._sync_dir(os.path.dirname(path))
        except OSError as caught:
            if log.abandoned:
                return False  # its directory goes away meanwhile
            failure = storage_error("cannot sync", path, caught)
            log.sync_failed = True
            self.failures += 1
            log.note_failed_sync()
            self._report(lambda touched: log.on_sync_failed(failure, touched))
            return False
        if self.journal is not None:
            self.journal.settled(log, offset)
        self._report(lambda touched: log.on_synced(offset, touched))
        return True

    def _sync_dir(self, path: str) -> None:
        self._open_files.with_room(lambda: self._files.sync_dir(path))

    def _sync_file(self, path: str) -> None:
        fd = self._open_files.with_room(lambda: self._files.open(path, create=False))
        try:
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)

    # --- the journal ----------------------------------------------------------------------------

    def _write_journal(self, journal: Journal, lanes: list[Lane]) -> bool:
        """Have the journal make durable what was kept of these lanes; return whether it did."""
        if not journal.ready:
            self._want_journal(journal, len(lanes))
            return False
        parts: list[Buffer] = []
        count = 0
        logs: dict[LocalLog, int] = {}
        reached: list[tuple[LocalLog, int]] = []
        for lane in lanes:
            log = lane.log
            for segment, position, offset, buffers in lane.kept or ():
                parts += encode_entry(log.entry_key, segment.base_offset, position, offset, buffers)
                count += 1
            logs[log] = lane.written_offset
            reached.append((log, lane.written_offset))
        try:
            done = journal.append(parts, count, logs)
        except OSError as caught:
            _log.error(
                "sync-journal-failed: {error}: not used any more, each log is synced by itself until restart",
                error=storage_error("cannot write", journal.path, caught).message,
            )
            self._given_up = True
            journal.close()
            self.settle(all_of_it=True)
            return False
        if journal.turned:
            self.settle()
        if done:
            self.count += 1
            self._report(lambda touched: _journaled(reached, touched))
            self._wake()
        return done

    def _want_journal(self, journal: Journal, count: int) -> None:
        """Have the journal made once it would have been of use."""
        self._spared += count
        enough = self.eager or self._spared >= _WORTH_A_JOURNAL * self._patience
        if not enough or self._making or self._given_up:
            return
        self._spared = 0
        self._making = True

        def made(_: Any, error: StorageError | None) -> None:
            self._making = False
            if error is not None:
                self._patience *= 2  # a disk that is full may be so for long
                _log.warn("sync-journal-not-made: {error}: each log is synced by itself", error=error.message)

        self._chore(journal.make, made)

    def settle(self, *, all_of_it: bool = False) -> None:
        """Have logs synced whose part of the journal is full, or all that are in it. Any thread."""
        if self.journal is None or not self.journal.is_there or (self._settling and not all_of_it):
            return
        self._settling = True
        self._chore(lambda: self._settle(all_of_it), None)

    def _settle(self, all_of_it: bool) -> None:
        journal = self.journal
        assert journal is not None
        for log, offset in journal.held(all_of_it=all_of_it).items():
            # A log that cannot be synced stays in the journal, for the next start to find.
            if not self.sync(log, offset) and log.abandoned:
                self.forget(log)
        self._settling = False
        if not journal.ready and not journal.held(all_of_it=True):
            journal.remove()

    def forget(self, log: LocalLog) -> None:
        """A log is being deleted: what the journal has of it is not needed."""
        if self.journal is not None:
            self.journal.settled(log, _EVERYTHING)


def _may_wait(lane: Lane) -> bool:
    """Whether a log's own files may be synced later if its bytes are in the journal."""
    log = lane.log
    return (
        bool(lane.kept)
        and not lane.wants_sync
        and not log.unsynced_names
        and not log.unsynced_parent
        and bool(log.entry_key)
        # Asked last: who has just called the names synced may still be at it.
        and not log.sync_lock.locked()
    )


def _journaled(reached: list[tuple[LocalLog, int]], touched: dict[LocalLog, None]) -> None:
    for log, offset in reached:
        log.on_journaled(offset, touched)
