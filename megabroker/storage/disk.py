"""The write-behind half of storage: one thread that writes and syncs what the logs have accepted.

Owns the threads and the order of writes; never an offset. What one reactor turn brought is written at its
end: by the disk thread, or, when that is idle and it is little, in place (``_end_turn``); every sync is the
disk thread's. Invariants:

- Batches of one log reach its files in the order they were accepted, and their progress is reported in
  that order.
- Everything pending is taken at once: one ``pwritev`` per log and segment, one ``fdatasync`` per file, one
  wake-up of the reactor per batch of completions. While a sync runs, new batches pile up: group commit.
- After a failed write the file is cut back to the last whole batch, and nothing more of that *lane* is
  written: the log takes its offsets back in the reactor and goes on with a new lane. What is left in the
  old lane is void.
- After a failed sync nobody knows what the page cache holds, so the log is out of order until it is
  opened again. Nothing is cut off: recovery reads what really is there.

How what is written comes to be on the disk is known to ``syncs``. Chores (deleting, index files, checkpoints)
have a thread of their own, so that they never hold up a write. Without threads (``threaded=False``) nothing
happens until ``pump`` is called, which does everything there is to do, completions included.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from megabroker.errors import ErrorCode, StorageError
from megabroker.latency import BOUNDS_SECONDS, Latency
from megabroker.model import Buffer, Durability
from megabroker.storage.files import Files, OpenFiles, storage_error
from megabroker.storage.journal import Journal
from megabroker.storage.segment import Segment
from megabroker.storage.syncs import Kept, Syncs

if TYPE_CHECKING:
    from megabroker.storage.log import LocalLog

__all__ = ["Chore", "DiskHandler", "Lane"]

_log = Logger()

_MAX_BUFFERS = min(os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 1024, 1024)
_MAX_WRITE_BYTES = 16 << 20
_IN_PLACE_LANES = 64
_IN_PLACE_BYTES = 2 << 20
_SLOW_SECONDS = 0.005
_SHORT_SECONDS = BOUNDS_SECONDS[0]
# Who was slow may only have been kept from the processor: the pause grows while the disk is found slow again.
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

Entry = tuple[Segment | None, int, Any, int]
Chore = Callable[[], Any]
ChoreDone = Callable[[Any, StorageError | None], None]


class Lane:
    """What one log has accepted and not yet written, up to its first failure.

    Attributes:
        entries: (segment, position, batch, offset after it), or (None, 0, job, 0) to run in between.
        queued: whether the disk thread has been told; set by the reactor, cleared by the disk thread.
        dead: whether the rest is void.
        written_offset: how far the disk thread has come.
        wants_sync: whether a flush was asked for, whatever the durability.
        kept: what was written since the last sync; None when that was too much to keep.
        kept_bytes: how much that is.
    """

    __slots__ = (
        "dead",
        "entries",
        "kept",
        "kept_bytes",
        "log",
        "queued",
        "wants_sync",
        "written_offset",
    )

    def __init__(self, log: LocalLog, written_offset: int) -> None:
        self.log = log
        self.entries: deque[Entry] = deque()
        self.queued = False
        self.dead = False
        self.wants_sync = False
        self.written_offset = written_offset
        self.kept: list[Kept] | None = []
        self.kept_bytes = 0


class DiskHandler:
    """The writer; see the module. ``submit``, ``chore`` and ``stop`` are called in the reactor thread.

    Attributes:
        turns: rounds of the disk thread; ``turns_in_place`` are those of the reactor.
        written_bytes: written to segments.
        failed_writes: writes that failed.
        removed_segments, removed_bytes: what retention and requests have removed of all logs.
        compacted_bytes: what compaction has made them shorter by.
        write_latency: how long rounds of writing took, their syncs left out.
    """

    def __init__(
        self,
        open_files: OpenFiles,
        durability: Durability,
        call_from_thread: Callable[[Callable[[], None]], object],
        *,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
        threaded: bool = True,
        journal: Journal | None = None,
    ) -> None:
        self.open_files = open_files
        self.durability = durability
        self.threaded = threaded
        self.turns = 0
        self.turns_in_place = 0
        self.written_bytes = 0
        self.failed_writes = 0
        self._failed = (-1, (0.0, ""))  # how much had been written when a write failed last; when, and why
        self.removed_segments = 0
        self.removed_bytes = 0
        self.compacted_bytes = 0
        self.write_latency = Latency()
        self._call_from_thread = call_from_thread
        self._call_soon = call_soon if threaded else None
        self._gathered: list[Lane] = []
        self._handed_over = 0  # lanes, counted by the reactor
        self._finished = 0  # of them, counted by the disk thread
        self._in_place_after = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._files: Files = open_files.files
        self._lanes: SimpleQueue[list[Lane] | None] = SimpleQueue()
        self._chores: SimpleQueue[tuple[Chore, ChoreDone | None] | None] = SimpleQueue()
        self._done: deque[Callable[[dict[LocalLog, None]], None]] = deque()
        self._waking = False
        self._threads: list[threading.Thread] = []
        self.syncing = Syncs(
            open_files, self._done.append, self._wake, self.chore, journal, threaded=threaded
        )

    @property
    def syncs(self) -> int:
        """How many syncs there were."""
        return self.syncing.count

    @property
    def last_failure(self) -> tuple[float, str] | None:
        """When (monotonic) the last write failed and why; None if it did not."""
        written_bytes, failure = self._failed
        return failure if written_bytes == self.written_bytes else None

    def start(self) -> None:
        """Start the threads."""
        if self.threaded and not self._threads:
            for name, target in (("disk", self._run), ("chores", self._run_chores)):
                thread = threading.Thread(target=target, name=f"megabroker-{name}", daemon=False)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        """Finish what is queued and end the threads. Blocks; completions still arrive afterwards."""
        threads, self._threads = self._threads, []
        self._hand_over(self._take_gathered())
        if threads:
            self._lanes.put(None)
            threads[0].join()
            self.syncing.stop()
            self._chores.put(None)
            threads[1].join()

    def submit(self, lane: Lane) -> None:
        """Have a lane with entries written; the caller has just set ``lane.queued``."""
        if self._call_soon is None:
            self._hand_over([lane])
            return
        self._gathered.append(lane)
        if len(self._gathered) == 1:
            self._call_soon(self._end_turn)

    def _take_gathered(self) -> list[Lane]:
        gathered, self._gathered = self._gathered, []
        return gathered

    def _hand_over(self, lanes: list[Lane]) -> None:
        if lanes:
            # All at once: the disk thread would else begin a round with the first of them.
            self._handed_over += len(lanes)
            self._lanes.put(lanes)

    def _end_turn(self) -> None:
        """Write in place what little this reactor turn has brought, or hand it to the disk thread.

        Handing over costs two changes of thread and, with large batches, has another processor fetch what
        this one has just received: some hundred microseconds where one batch is under way at a time. Copying
        a few kilobytes into the page cache costs ten, a megabyte a hundred or two. In place only while the
        disk thread has nothing to do, so that order holds, and not for a while after the kernel was slow to
        take it.
        """
        lanes = self._take_gathered()
        waiting_bytes = 0
        for lane in lanes:
            waiting_bytes += lane.log.pending_bytes
        began = time.monotonic()
        if (
            self._handed_over != self._finished
            or len(lanes) > _IN_PLACE_LANES
            or waiting_bytes > _IN_PLACE_BYTES
            or began < self._in_place_after
        ):
            self._hand_over(lanes)
            return
        self.turns_in_place += 1
        due = lanes if self.durability is Durability.FSYNC else []
        try:
            for lane in lanes:
                self._drain(lane)
                if lane.wants_sync and due is not lanes:
                    due.append(lane)
        except Exception as caught:  # noqa: BLE001
            self._give_up(lanes, caught)
        ended = time.monotonic()
        took = ended - began
        latency = self.write_latency
        latency.counts[0 if took <= _SHORT_SECONDS else bisect_left(BOUNDS_SECONDS, took)] += 1
        latency.seconds += took
        if took > _SLOW_SECONDS:
            self._in_place_after = ended + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        else:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        if due:
            self._hand_over(due)
        self.deliver()

    def chore(self, work: Chore, done: ChoreDone | None = None) -> None:
        """Run ``work`` in the chores thread, then ``done(result, error)`` in the reactor. Any thread."""
        self._chores.put((work, done))

    def report(self, call: Callable[[], None]) -> None:
        """Have something called in the reactor. Any thread."""
        self._done.append(lambda touched: call())
        self._wake()

    @property
    def queued_lanes(self) -> int:
        """How many logs wait for the disk thread, or are being written by it."""
        return self._handed_over - self._finished

    @property
    def queued_chores(self) -> int:
        """How many chores wait for their thread."""
        return self._chores.qsize()

    @property
    def idle(self) -> bool:
        """Whether ``pump`` has nothing to do."""
        return not self._done and self._lanes.empty() and self._chores.empty()

    def pump(self) -> None:
        """Do all that is queued, here and now; only without threads."""
        while True:
            lanes = self._take(block=False)
            if lanes:
                self._turn(lanes)
            elif not self._chores.empty():
                item = self._chores.get()
                if item is not None:
                    self._do_chore(*item)
            elif self._done:
                self.deliver()
            else:
                return

    # --- the disk thread ------------------------------------------------------------------------

    def _take(self, *, block: bool) -> list[Lane] | None:
        """Return the lanes that are waiting now; None when told to stop."""
        lanes: list[Lane] = []
        for _ in range(max(1, self._lanes.qsize())):
            try:
                more = self._lanes.get(block and not lanes)
            except Empty:
                break
            if more is None:
                if not lanes:
                    return None
                self._lanes.put(None)
                break
            lanes += more
        return lanes

    def _run(self) -> None:
        while (lanes := self._take(block=True)) is not None:
            try:
                self._turn(lanes)
            except Exception as caught:  # noqa: BLE001
                self._give_up(lanes, caught)
                self._wake()
            self._finished += len(lanes)
            del lanes  # a log that was deleted would be kept until the next ones come

    def _give_up(self, lanes: list[Lane], caught: Exception) -> None:
        """Something is wrong that no disk explains: put the logs out of order instead of hanging."""
        _log.failure("disk-turn-failed")
        error = StorageError(ErrorCode.INTERNAL, f"cannot write: {caught!r}")
        for lane in lanes:
            lane.dead = True
            failed = partial(lane.log.on_failed, lane, lane.written_offset, error, True)
            self._done.append(failed)

    def _turn(self, lanes: list[Lane]) -> None:
        self.turns += 1
        written_bytes = self.written_bytes
        began = time.monotonic()
        for lane in lanes:
            self._drain(lane)
        if self.written_bytes != written_bytes:  # else the reactor has written all there was
            self.write_latency.observe(time.monotonic() - began)
        always = self.durability is Durability.FSYNC
        due = [
            lane for lane in dict.fromkeys(lanes) if (always or lane.wants_sync) and not lane.log.sync_failed
        ]
        if not self.syncing.is_quick(due):
            self._wake()
        self.syncing.round(due)

    def _drain(self, lane: Lane) -> None:
        """Write what the lane holds now; what is added meanwhile waits, or a turn might never end."""
        lane.queued = False
        pop = lane.entries.popleft
        segment: Segment | None = None
        start = size = 0
        buffers: list[Buffer] = []
        ends: list[tuple[int, int]] = []
        for _ in range(len(lane.entries)):
            target, position, data, after = pop()
            full = len(buffers) >= _MAX_BUFFERS or size >= _MAX_WRITE_BYTES
            if segment is not None and buffers and (full or target is not segment):
                if not self._write(lane, segment, start, buffers, ends):
                    break
                buffers, ends, size = [], [], 0
            if target is None:
                data(lane)
                continue
            if not buffers:
                segment, start = target, position
            buffers.append(data)
            size += len(data)
            ends.append((start + size, after))
        if segment is not None and buffers and not lane.dead:
            self._write(lane, segment, start, buffers, ends)
        if lane.dead:
            lane.entries.clear()

    def _write(
        self, lane: Lane, segment: Segment, start: int, buffers: list[Buffer], ends: list[tuple[int, int]]
    ) -> bool:
        """Write consecutive batches; on failure keep the whole ones, kill the lane and return False."""
        log = lane.log
        position, stop = start, ends[-1][0]
        error: OSError | None = None
        try:
            file = self.open_files.get(segment)
            fd = file.fileno()
            if not segment.created:
                segment.created = True
                log.unsynced_names = True
            log.dirty[segment] = None
            pending: list[Buffer] = buffers
            while True:
                position += self._files.pwritev(fd, pending, position)
                if position >= stop:
                    break
                pending = _after(buffers, position - start)
        except OSError as caught:
            error = caught
            good = [end for end in ends if end[0] <= position]
            keep = good[-1][0] if good else start
            lane.dead = True
            fatal = not self._cut_back(segment, keep)
            ends = good
        if position > start:
            log.dirty[segment] = None  # a sync may have taken it between the first time and the write
        if ends:
            position, offset = ends[-1]
            lane.written_offset = offset
            written = position - start
            self.written_bytes += written
            log.written_pieces += len(ends)
            self.syncing.keep(lane, (segment, start, offset, buffers), written)
            self._done.append(partial(log.on_written, lane, offset, written, segment, position))
        if error is not None:
            self.failed_writes += 1
            self._failed = (self.written_bytes, (time.monotonic(), error.strerror or str(error)))
            failure = storage_error("cannot write", segment.path(), error)
            from_offset = lane.written_offset
            self._done.append(lambda touched: log.on_failed(lane, from_offset, failure, fatal, touched))
        return error is None

    def _cut_back(self, segment: Segment, length: int) -> bool:
        """Cut a file to its last whole batch; return whether that is certain."""
        try:
            if segment.created:
                file = self.open_files.get(segment)
                self._files.truncate(file.fileno(), length)
        except OSError:
            return False
        return True

    def sync_later(self, log: LocalLog) -> None:
        """Sync, in the chores thread, all that is now written of a log. Reactor thread."""
        offset = log.written_offset
        self.chore(lambda: self.syncing.sync(log, offset))

    # --- the chores thread ----------------------------------------------------------------------

    def _run_chores(self) -> None:
        while (item := self._chores.get()) is not None:
            self._do_chore(*item)
            del item

    def _do_chore(self, work: Chore, done: ChoreDone | None) -> None:
        result, error = None, None
        try:
            result = work()
        except StorageError as caught:
            error = caught
        except OSError as caught:
            error = storage_error("cannot tidy", str(caught.filename or ""), caught)
        except Exception as caught:  # noqa: BLE001
            _log.failure("storage-chore-failed")
            error = StorageError(ErrorCode.INTERNAL, f"cannot tidy: {caught!r}")
        if error is not None:
            _log.error("storage-chore-failed: {error}", error=error.message)
        if done is not None:
            self._done.append(lambda touched: done(result, error))
        self._wake()

    # --- the way back ---------------------------------------------------------------------------

    def _wake(self) -> None:
        """Have the completions delivered in the reactor, by one call however many there are."""
        if self.threaded and self._done and not self._waking:
            self._waking = True
            self._call_from_thread(self.deliver)

    def deliver(self) -> None:
        """Hand on in the reactor what was completed; done by itself but where there are no threads."""
        self._waking = False
        touched: dict[LocalLog, None] = {}
        while self._done:
            report = self._done.popleft()
            try:
                report(touched)
            except Exception:  # noqa: BLE001
                _log.failure("disk-report-failed")
        for log in touched:
            log.announce()


def _after(buffers: list[Buffer], skip: int) -> list[Buffer]:
    """Return what is left of ``buffers`` after their first ``skip`` bytes."""
    for at, buffer in enumerate(buffers):
        if skip < len(buffer):
            return [memoryview(buffer)[skip:], *buffers[at + 1 :]]
        skip -= len(buffer)
    return []
