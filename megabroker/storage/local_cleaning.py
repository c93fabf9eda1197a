"""Cleaning one log that is in files: which part, in which groups, into which new segments.

Owns the reading and writing of a cleaning; ``cleaning`` owns its rules, ``swap`` how a new segment comes into
its place. Runs in the cleaner's thread, on a snapshot that was taken in the reactor; a new segment is handed
to ``CleanableLog.replace`` there. Meanwhile the log goes on as always; a segment that retention takes away
ends the cleaning, without harm.

What may be cleaned ends before the active segment, before what is not on the disk, before the last stable
offset and before the first segment with a record younger than ``min.compaction.lag.ms``. A segment with
damage stays as it is. As many neighbours as together are no larger than ``segment.bytes`` become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs
from twisted.logger import Logger

from megabroker.codec.batch import BatchError, peek_header
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import AbortedTransaction, BatchHeader, Buffer, LogSettings
from megabroker.storage.aborted import AbortedIndex
from megabroker.storage.checking import Check
from megabroker.storage.cleaner import CleaningEnded, Turn
from megabroker.storage.cleaning import CleanedTransactions, Cleaning
from megabroker.storage.files import Files, LogFile
from megabroker.storage.index import Index
from megabroker.storage.segment import HEAD_BYTES, MAX_RELATIVE_OFFSET, DamageFound, Segment
from megabroker.storage.swap import CLEANED, commit, discard

if TYPE_CHECKING:
    from megabroker.storage.cleanable_log import CleanableLog

__all__ = ["Dirt", "LocalCleaning", "Snapshot", "dirt_of"]

_log = Logger()

_WRITE_BYTES: Final = 1 << 20


@attrs.frozen
class Snapshot:
    """A log as it was when its cleaning began.

    Attributes:
        segments: all but the active one that lie wholly below what may be cleaned.
        end_offset: where they end.
        cleaned_offset: below, every key is there once.
        recent: aborted transactions whose markers lie behind those segments.
        last_of: as ``cleaning.last_of_producers`` gives it.
    """

    segments: list[Segment]
    end_offset: int
    start_offset: int
    cleaned_offset: int
    settings: LogSettings
    recent: list[AbortedTransaction]
    last_of: dict[int, tuple[int, int]]


@attrs.frozen
class Dirt:
    """How much a log is in need of cleaning.

    Attributes:
        ratio: bytes of the dirty part over all that may be cleaned.
        due: whether something waits longer than ``max.compaction.lag.ms``.
    """

    ratio: float
    due: bool


def dirt_of(snapshot: Snapshot, now_ms: int) -> Dirt | None:
    """Measure a log; None when nothing of it may be cleaned. Raises OSError."""
    segments, _ = _within_lag(snapshot, now_ms)
    total = dirty = 0
    due = False
    oldest_ms = now_ms - snapshot.settings.max_compaction_lag_ms
    for segment in segments:
        total += segment.size
        if segment.size and (segment.next_base or 0) > snapshot.cleaned_offset:
            dirty += segment.size
            due = due or 0 < _first_timestamp(segment) < oldest_ms if oldest_ms > 0 else False
    return Dirt(dirty / total, due) if dirty else None


def _within_lag(snapshot: Snapshot, now_ms: int) -> tuple[list[Segment], int]:
    """Return the segments that ``min.compaction.lag.ms`` leaves, and where they end."""
    lag_ms = snapshot.settings.min_compaction_lag_ms
    segments = snapshot.segments
    if lag_ms > 0:
        for at, segment in enumerate(segments):
            dirty = (segment.next_base or 0) > snapshot.cleaned_offset
            if dirty and _newest(segment) > now_ms - lag_ms:
                return segments[:at], segment.base_offset
    return segments, snapshot.end_offset


def _newest(segment: Segment) -> int:
    """Return the greatest timestamp of a segment, or when its file last changed; its index is not kept."""
    if segment.max_timestamp >= 0:
        return segment.max_timestamp
    files = segment.open_files.files
    index = Index.decode(
        files.read_bytes(segment.path(".index")), files.read_bytes(segment.path(".timeindex")), segment.size
    )
    if index is not None and index.times:
        return index.times[-1]
    return int((segment.born or 0) * 1000)


def _first_timestamp(segment: Segment) -> int:
    file = LogFile(segment.open_files.files, segment.path(), create=False)
    head = segment.open_files.files.pread(file.fileno(), HEAD_BYTES, 0)
    try:
        return peek_header(head, 0, len(head)).max_timestamp
    except BatchError:
        return _newest(segment)


class LocalCleaning:
    """One cleaning of one log; ``run`` it once, in the cleaner's thread."""

    def __init__(self, log: CleanableLog, snapshot: Snapshot, turn: Turn) -> None:
        self._log = log
        self._snapshot = snapshot
        self._turn = turn
        self._files: Files = snapshot.segments[0].open_files.files
        self.read_bytes = 0
        self.written_bytes = 0

    def run(self) -> Cleaning | None:
        """Clean; return what was done, None when there was nothing to do.

        Raises:
            CleaningEnded: told to stop.
            DamageFound: a segment is damaged that was not known to be.
            OSError, StorageError: a file could not be read or written.
        """
        snapshot, turn = self._snapshot, self._turn
        self._finish_swap()
        segments, end_offset = _within_lag(snapshot, turn.now_ms)
        dirty_from = max(snapshot.cleaned_offset, segments[0].base_offset) if segments else end_offset
        if dirty_from >= end_offset:
            return None
        rules = Cleaning(
            start_offset=snapshot.start_offset,
            first_dirty_offset=dirty_from,
            end_offset=end_offset,
            now_ms=turn.now_ms,
            delete_retention_ms=snapshot.settings.delete_retention_ms,
            aborted=self._aborted(segments, end_offset),
            last_of=snapshot.last_of,
            map=turn.new_map(),
            breathe=turn.breathe,
        )
        self._learn(rules, segments)
        transactions = rules.second_pass()
        for group in self._groups([one for one in segments if one.base_offset < rules.map.end_offset]):
            self._clean_group(rules, transactions, group)
        return rules

    def summary(self, rules: Cleaning) -> str:
        """Return what was done as half a sentence."""
        notes = (
            f"to offset {rules.map.end_offset}, {self.read_bytes} bytes read, {self.written_bytes} written"
        )
        if rules.keyless:
            notes += f", {rules.keyless} records without a key dropped"
        if rules.unread:
            notes += f", {rules.unread} batches left alone that cannot be read"
        return notes

    def _aborted(self, segments: Sequence[Segment], end_offset: int) -> list[AbortedTransaction]:
        found: list[AbortedTransaction] = []
        for segment in segments:
            aborted = segment.aborted if segment.aborted is not None else segment.load_aborted()
            if aborted is None:
                path = segment.path(".txnindex")
                raise StorageError(ErrorCode.STORAGE, f"{path} is damaged", retriable=False)
            aborted.collect(0, MAX_OFFSET, found)
        found.extend(self._snapshot.recent)
        return [one for one in found if one.first_offset < end_offset]

    def _learn(self, rules: Cleaning, segments: Sequence[Segment]) -> None:
        """Map the keys of the dirty part, as far as the map goes."""
        transactions = rules.first_pass()
        rules.map.end_offset = rules.first_dirty_offset
        for segment in segments:
            after = segment.next_base or rules.end_offset
            if after <= rules.first_dirty_offset:
                continue
            for header, window, at in self._batches(segment):
                if not rules.learn(transactions, header, window, at):
                    return
            rules.map.end_offset = max(rules.map.end_offset, min(after, rules.end_offset))

    def _groups(self, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
        """Yield segments that become one; those with damage alone."""
        settings = self._snapshot.settings
        group: list[Segment] = []
        size = 0
        for segment in segments:
            end = segment.next_base or self._snapshot.end_offset
            if group and (
                group[-1].damaged
                or segment.damaged
                or size + segment.size > settings.segment_bytes
                or end - group[0].base_offset > MAX_RELATIVE_OFFSET
            ):
                yield group
                group, size = [], 0
            group.append(segment)
            size += segment.size
        if group:
            yield group

    def _clean_group(self, rules: Cleaning, transactions: CleanedTransactions, group: list[Segment]) -> None:
        if group[0].damaged:
            for header, window, at in self._batches(group[0]):
                transactions.control(header, window, at) if header.is_control else transactions.data(header)
            transactions.kept.clear()
            return
        new = _NewSegment(group, self._snapshot.settings.index_interval_bytes, self._turn)
        changed = len(group) > 1
        try:
            for segment in group:
                for header, window, at in self._batches(segment):
                    judgement = rules.judge(transactions, header, window, at)
                    changed = changed or judgement is not None
                    if judgement is None:
                        new.add(header, window[at : at + header.size_bytes])
                    elif not isinstance(judgement, type):
                        new.add(peek_header(judgement, 0, len(judgement)), judgement)
            if not changed:
                transactions.kept.clear()
                self._abandon(new)
                return
            new.finish(transactions.kept)
            transactions.kept = []
            self.written_bytes += new.segment.size
            is_in_place = self._commit(group, new.segment)
        except CleaningEnded:
            if new.segment.stage == CLEANED:
                self._abandon(new)
            raise  # else it may be on its way into the log, or come into it at the next opening
        except BaseException:
            self._abandon(new)
            raise
        if not is_in_place:
            self._abandon(new)
            raise CleaningEnded
        self._finish_swap()

    def _abandon(self, new: _NewSegment) -> None:
        if not new.abandon():
            self._log.uncleanable = True

    def _commit(self, group: list[Segment], new: Segment) -> bool:
        """Have a finished segment replace the ones it was made of; return False if they went meanwhile."""
        log, turn = self._log, self._turn
        turn.in_chores(log.create_active)
        turn.in_chores(log.sync_journaled)
        turn.in_chores(log.tell_synced)
        commit(self._files, new)
        return turn.in_reactor(lambda: log.replace(group, new))

    def _finish_swap(self) -> None:
        """Bring a segment that was swapped in to its proper names, now or after an earlier failure."""
        log, turn = self._log, self._turn
        if log.swapping is not None:
            turn.in_chores(log.retire)
            turn.in_reactor(log.settle)

    def _batches(self, segment: Segment) -> Iterator[tuple[BatchHeader, Buffer, int]]:
        """Read a segment's batches, every CRC checked; known damage is stepped over.

        Raises:
            DamageFound: something else is no batch.
            OSError: the file could not be read.
        """
        turn = self._turn
        try:
            file = LogFile(self._files, segment.path(), create=False)
        except FileNotFoundError:
            if segment.gone:
                raise CleaningEnded from None
            raise
        check = Check(segment.copy(file), 0, segment.base_offset)
        done = 0

        def account() -> None:
            nonlocal done
            self._check_sound(segment, check)
            turn.moved(check.position - done)
            self.read_bytes += check.position - done
            done = check.position

        for header, window, at in check.batches():
            account()
            turn.breathe()
            yield header, window, at
        account()

    @staticmethod
    def _check_sound(segment: Segment, check: Check) -> None:
        for damage in (*check.damaged, check.tail):
            if damage is not None:
                raise DamageFound(segment, damage.position, damage.from_offset)


MAX_OFFSET: Final = 2**63 - 1


class _NewSegment:
    """A segment being written beside those it is made of."""

    def __init__(self, group: Sequence[Segment], interval: int, turn: Turn) -> None:
        first = group[0]
        self.segment = segment = Segment(first.open_files, first.directory, first.base_offset)
        segment.stage = CLEANED
        segment.index = Index()
        segment.aborted = AbortedIndex()
        segment.born = group[-1].born
        self._files = first.open_files.files
        self._interval = interval
        self._turn = turn
        self._pending: list[Buffer] = []
        self._pending_bytes = 0
        self._file = LogFile(self._files, segment.path(), create=True)
        self._files.truncate(self._file.fileno(), 0)

    def add(self, header: BatchHeader, data: Buffer) -> None:
        """Add a batch."""
        segment, size = self.segment, len(data)
        segment.note(segment.size, size, header.last_offset, header.max_timestamp, self._interval)
        segment.size += size
        self._pending.append(data)
        self._pending_bytes += size
        if self._pending_bytes >= _WRITE_BYTES:
            self._write()

    def _write(self) -> None:
        data = memoryview(b"".join(self._pending))
        position = self.segment.size - len(data)
        self._pending = []
        self._pending_bytes = 0
        self._turn.moved(len(data))
        while data:
            taken = self._files.pwritev(self._file.fileno(), [data], position)
            data = data[taken:]
            position += taken

    def finish(self, aborted: Sequence[AbortedTransaction]) -> None:
        """Bring all of it to the disk, its indexes as well."""
        segment = self.segment
        self._write()
        self._files.fdatasync(self._file.fileno())
        segment.written = segment.size
        segment.created = True
        for one in aborted:
            assert segment.aborted is not None
            segment.aborted.add(one)
        segment.save_index()
        segment.saved = True

    def abandon(self) -> bool:
        """Remove it; return whether it is certain that it will not come to count."""
        try:
            discard(self._files, self.segment)
        except OSError as caught:
            _log.error(
                "cleaned-segment-kept: {path}: {error}; not cleaned again until restart",
                path=self.segment.path(),
                error=caught,
            )
            return False
        return True
