"""A log in files as the cleaner sees it: what of it may be cleaned, and how a new segment comes into it.

Owns how far compaction has come and the swap that is under way; the log owns its segments. ``local_cleaning``
does the work in the cleaner's thread; what it changes is changed here, in the thread that each method names.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

import attrs

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import AbortedTransaction
from megabroker.storage.cleaner import Turn
from megabroker.storage.cleaning import last_of_producers
from megabroker.storage.disk import DiskHandler
from megabroker.storage.local_cleaning import LocalCleaning, Snapshot, dirt_of
from megabroker.storage.retention import ensure_created
from megabroker.storage.segment import DamageFound, Segment
from megabroker.storage.swap import retire, settle

if TYPE_CHECKING:
    from megabroker.storage.log import LocalLog

__all__ = ["CleanableLog"]


class CleanableLog:
    """See the module, and ``cleaner.Cleanable``.

    Attributes:
        cleaned_offset: compaction has been here: below, every key is there once.
        cleaning: held while the log is being cleaned.
        uncleanable: whether a file is left of a cleaning that would undo what came after it.
        swapping: those that a cleaned segment has replaced, and that, which has not its proper names yet.
    """

    def __init__(
        self,
        log: LocalLog,
        disk: DiskHandler,
        cleaned_offset: int,
        changed: Callable[[], None],
        save_points: Callable[[], None],
    ) -> None:
        self.cleaned_offset = cleaned_offset
        self.cleaning = Lock()
        self.uncleanable = False
        self.swapping: tuple[list[Segment], Segment] | None = None
        self._log = log
        self._disk = disk
        self._changed = changed
        self._save_points = save_points

    def __str__(self) -> str:
        return str(self._log.topic_partition)

    @property
    def going(self) -> bool:
        """Whether nothing more is to be done to the log's files. Any thread."""
        return self._log.going

    def dirt(self, now_ms: int) -> tuple[bool, float] | None:
        """Return whether cleaning is overdue and how dirty the log is; None when it can wait. Any thread.

        Raises:
            OSError: a file could not be read.
        """
        log = self._log
        settings = log.settings
        if not settings.compact or log.going or self.uncleanable:
            return None
        snapshot = self._snapshot(log.durable_offset)
        dirt = None if snapshot is None else dirt_of(snapshot, now_ms)
        if dirt is None or not (dirt.due or dirt.ratio > settings.min_cleanable_dirty_ratio):
            return None
        return dirt.due, dirt.ratio

    def clean(self, turn: Turn) -> str | None:
        """Clean the log; return what was done, None for nothing. Cleaner's thread; see ``Cleanable``."""
        snapshot = turn.in_reactor(self._begin)
        if snapshot is None:
            return None
        cleaning = LocalCleaning(self, snapshot, turn)
        rules = cleaning.run()
        if rules is None:
            return None
        end = rules.map.end_offset
        turn.in_reactor(lambda: self._cleaned_to(end))
        return cleaning.summary(rules)

    def _snapshot(self, end_offset: int) -> Snapshot | None:
        log = self._log
        items = list(log.segments.items)
        closed = [one for one in items[:-1] if one.next_base is not None and one.next_base <= end_offset]
        end = closed[-1].next_base if closed else None
        if end is None or end <= self.cleaned_offset:
            return None
        return Snapshot(closed, end, log.start_offset, self.cleaned_offset, log.settings, [], {})

    def _begin(self) -> Snapshot | None:
        """Return what is to be cleaned. Reactor."""
        log = self._log
        if log.going or not log.settings.compact:
            return None
        snapshot = self._snapshot(min(log.durable_offset, log.producers.first_unstable_offset()))
        if snapshot is None:
            return None
        recent: list[AbortedTransaction] = []
        for segment in log.segments.items[len(snapshot.segments) :]:
            log.segments.aborted_of(segment).collect(0, snapshot.end_offset, recent)
        return attrs.evolve(snapshot, recent=recent, last_of=last_of_producers(log.producers.snapshot()))

    def create_active(self) -> None:
        """Make sure that the active segment has a file. Chores thread; raises OSError."""
        active = self._log.active
        if not self.going:  # else the directory may be that of another log of the name by now
            ensure_created(active.open_files.files, self._log.directory, active)

    def sync_journaled(self) -> None:
        """Have what is in the journal in the log's own files too. Chores thread; raises StorageError."""
        log = self._log
        offset = log.journaled_offset
        if offset > log.recovery_point and not self._disk.syncing.sync(log, offset):
            raise StorageError(ErrorCode.STORAGE, f"{log.topic_partition} cannot be synced")

    def tell_synced(self) -> None:
        """Have the checkpoint file say so: nothing older is then replayed over a segment that was cleaned.

        Chores thread, once that is reported; raises OSError.
        """
        if self._log.journaled_offset > self._log.saved_point:
            self._save_points()

    def replace(self, old: list[Segment], new: Segment) -> bool:
        """Put a cleaned segment in the place of ``old``; return False if they went meanwhile. Reactor.

        The same if damage was found in one of them, by a reader: it is kept, and not in ``new``.
        """
        log = self._log
        if log.going or any(segment.damaged for segment in old) or not log.segments.replace(old, new):
            return False
        for segment in old:
            segment.open_files.drop(segment)
            log.dirty.pop(segment, None)
        new.open_files.indexes.keep(new)
        less = sum(segment.size for segment in old) - new.size
        log.size_bytes -= less
        log.removed_bytes += less
        self._disk.compacted_bytes += less
        self.swapping = (old, new)
        return True

    def retire(self) -> None:
        """Take the files of replaced segments out of the way. Chores thread; raises OSError."""
        if self.swapping is not None and not self.going:
            old, new = self.swapping
            paths = retire(new.open_files.files, self._log.directory, old)
            self._disk.report(lambda: self._log.delete_retired(paths))

    def settle(self) -> None:
        """Give the segment that replaced them its proper names. Reactor; raises OSError."""
        if self.swapping is not None and not self._log.going:
            new = self.swapping[1]
            if not new.gone:
                settle(new.open_files.files, new)
            self.swapping = None

    def found_damage(self, found: DamageFound) -> None:
        """Measure, report and remember damage that cleaning has met. Reactor; raises OSError."""
        segments = self._log.segments
        if found.segment in segments.items:
            segments.take_damage(found)

    def _cleaned_to(self, offset: int) -> None:
        self.cleaned_offset = offset
        self._changed()
