"""The segments of one log in order, and reading from them.

Owns where things are: which segment, which position. Never reads at or beyond a segment's ``written``.

A sequential reader is found again without searching: the ends of written groups and of earlier reads are
kept as *marks*, offset -> (segment, position), in two small maps. Any other offset costs one look into the
sparse index and a short walk over batch heads.

With ``cached_only`` nothing waits for the disk: ``Cold`` is raised once what is missing is being read. What
lay in the files before the start and was not read since is checked first, by the threads that read it, and
what of it is damaged is never given out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from twisted.logger import Logger

from megabroker.codec.batch import BatchError, scan
from megabroker.errors import Cold, ErrorCode, StorageError
from megabroker.model import AbortedTransaction, FileRange, ReadResult
from megabroker.storage.aborted import AbortedIndex
from megabroker.storage.checking import Check, StretchCheck, find_damage, make_index, report_damage
from megabroker.storage.index import Index
from megabroker.storage.segment import Checked, Damage, DamageFound, Hop, Segment, file_name

__all__ = ["EMPTY", "Segments"]

_log = Logger()

EMPTY = ReadResult(b"", 0)

_COPY_BYTES = 16 << 10
_MAX_ENDS = 16  # where writes ended: only who reads up to the end needs them, and each log has as many
_MAX_MARKS = 128  # where reads ended: every reader needs its own
_LEAST_CHECK_BYTES = 128 << 10
_FIRST_AHEAD_BYTES = 1 << 20
_MAX_AHEAD_BYTES = 8 << 20


class IndexWrong(Exception):
    """A segment's index says something else than its batches."""


class Segments:
    """See the module.

    Attributes:
        items: the segments; the last one is appended to.
        damaged: every damaged stretch known. Those set aside when the log was opened are stepped over; who
            asks for an offset of one that reading has met is refused, since nobody has looked at it yet.
    """

    def __init__(
        self,
        items: list[Segment],
        damaged: list[Damage],
        refused: list[Damage],
        interval: Callable[[], int],
    ) -> None:
        self.items = items
        self.bases = [segment.base_offset for segment in items]
        for segment, following in pairwise(items):
            segment.next_base = following.base_offset
        self.damaged = damaged
        self._interval = interval
        self._refused: list[Damage] = []
        for damage in refused:
            self._keep_refused(damage)
        self._ends: dict[int, tuple[Segment, int]] = {}
        self._marks: dict[int, tuple[Segment, int]] = {}

    def let_go(self, interval: int) -> None:
        """Forget whose they are; they are still read."""
        self._interval = lambda: interval

    def add(self, segment: Segment) -> None:
        """Add a segment at the end."""
        self.items[-1].next_base = segment.base_offset
        self.items.append(segment)
        self.bases.append(segment.base_offset)

    def remove(self, first: int, stop: int) -> list[Segment]:
        """Take out the segments from index ``first`` to ``stop``; return them."""
        gone = self.items[first:stop]
        del self.items[first:stop]
        del self.bases[first:stop]
        if self.items:
            self.items[-1].next_base = None
        if self._refused:
            bases = set(self.bases)
            self._refused = [damage for damage in self._refused if damage.segment in bases]
        self.forget_marks()
        return gone

    def replace(self, old: Sequence[Segment], new: Segment) -> bool:
        """Put a segment in the place of neighbouring ones; return False if they are not all there."""
        first = bisect_left(self.bases, new.base_offset)
        stop = first + len(old)
        if self.items[first:stop] != old or stop >= len(self.items):
            return False
        new.next_base = self.bases[stop]
        self.items[first:stop] = [new]
        self.bases[first:stop] = [new.base_offset]
        self.forget_marks()
        return True

    def mark_end(self, offset: int, segment: Segment, position: int) -> None:
        """Remember that ``offset`` begins at ``position``, or will."""
        ends = self._ends
        ends[offset] = (segment, position)
        if len(ends) > _MAX_ENDS:
            del ends[next(iter(ends))]

    def forget_marks(self) -> None:
        """Forget every mark: what they point at may be gone."""
        self._ends.clear()
        self._marks.clear()

    def index_of(self, segment: Segment, *, cached_only: bool = False) -> Index:
        """Return a segment's index, reading or rebuilding it.

        Raises:
            OSError: it could not be read.
            Cold: with ``cached_only``, it is not in memory.
        """
        index = segment.index
        if index is not None:
            return index
        if cached_only and (cold := self._read_index(segment)) is not None:
            raise cold
        index = segment.load_index()
        if index is None:
            self._indexed(segment, *_read_index(segment.copy(), self._interval()))
            segment.save_index()
            assert segment.index is not None
            return segment.index
        segment.open_files.indexes.keep(segment)
        return index

    def _read_index(self, segment: Segment) -> Cold | None:
        """Have a segment's index read in another thread; None if there is none or it was in vain."""
        warmer = segment.open_files.warmer
        if warmer is None:
            return None
        interval = self._interval()

        def done(found: tuple[Segment, Check | None] | None) -> None:
            if found is not None and segment.index is None and not segment.gone:
                self._indexed(segment, *found)

        # The file is opened there as well.
        return warmer.work(("index", id(segment)), lambda: _read_index(segment.copy(), interval), done)

    def _indexed(self, segment: Segment, copy: Segment, check: Check | None) -> None:
        """Take an index that was read, or made from what was checked on the way."""
        segment.take_index(copy)
        segment.open_files.indexes.keep(segment)
        if check is not None:
            segment.checked = None
            for damage in check.damaged:
                self._refuse(segment, damage)
            if check.tail is not None:
                self._refuse(segment, check.tail)

    def aborted_of(self, segment: Segment) -> AbortedIndex:
        """Return a segment's aborted transactions, reading them. Raises OSError and StorageError."""
        aborted = segment.aborted
        if aborted is None:
            aborted = segment.load_aborted()
            if aborted is None:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"{segment.path('.txnindex')} is damaged; it is recreated at the next start if it and "
                    f"{segment.path('.index')} are removed",
                    retriable=False,
                )
            segment.aborted = aborted
            if aborted and segment.index is None:
                segment.open_files.indexes.keep(segment)
        return aborted

    def aborted(self, from_offset: int, to_offset: int) -> list[AbortedTransaction]:
        """Return the aborted transactions with records in a range. Raises OSError and StorageError."""
        found: list[AbortedTransaction] = []
        if from_offset < to_offset:
            for at in range(max(0, bisect_right(self.bases, from_offset) - 1), len(self.items)):
                if self.aborted_of(self.items[at]).collect(from_offset, to_offset, found):
                    break
        return found

    def end_of(self, result: ReadResult, next_offset: int, *, cached_only: bool) -> int:
        """Return an offset that all of ``result`` lies below, and not much else. Raises as ``read``."""
        data = result.data
        if not isinstance(data, FileRange):
            end = 0
            try:
                for _, header in scan(data, 0, result.length):
                    end = header.next_offset
            except BatchError:
                # What was damaged goes out as it is: whoever reads it sees that by its CRC.
                return next_offset
            return end
        if cached_only:
            head = data.file.read_cached(data.position, 8)
        else:
            head = self.items[0].open_files.files.pread(data.file.fileno(), 8, data.position)
        base = int.from_bytes(head, "big")
        at = max(0, bisect_right(self.bases, base) - 1)
        segment = self.items[at]
        index = self.index_of(segment, cached_only=cached_only)
        after = bisect_left(index.positions, data.position + data.length)
        if after < len(index.positions):
            return segment.base_offset + index.offsets[after] + 1
        return self.bases[at + 1] if at + 1 < len(self.bases) else next_offset

    def heads(
        self, segment: Segment, offset: int, *, cached_only: bool = False, length: int = 0
    ) -> Iterator[Hop]:
        """Walk a segment's written batches, from the one that holds ``offset`` or the next.

        What was not checked yet is; ``length`` says how much is going to be read. Damage met for the first
        time is measured, reported and stepped over. An index that leads to where no batch begins, or to one
        behind ``offset``, may be what is damaged: it is made anew once. Raises as ``read``.
        """
        believed = True
        while True:
            position = 0
            try:
                if offset > segment.base_offset:
                    index = self.index_of(segment, cached_only=cached_only)
                    position = index.position_for(offset - segment.base_offset)
                if segment.checked is None:
                    hops = segment.hops(position, cached_only=cached_only)
                else:
                    hops = self._walk(segment, position, length, cached_only)
                for hop in hops:
                    if believed and hop.position == position > 0 and hop.base_offset > offset:
                        raise DamageFound(segment, position, offset)
                    if hop.last_offset >= offset:
                        offset = hop.last_offset + 1
                        yield hop
                return
            except IndexWrong:
                if not believed:
                    raise StorageError(
                        ErrorCode.STORAGE, f"{segment.path('.index')} cannot be made", retriable=False
                    ) from None
            except DamageFound as found:
                if not believed or found.position != position or not position:
                    self.take_damage(found)
                    continue
            believed = False
            self._distrust(segment)

    def _walk(self, segment: Segment, position: int, length: int, cached_only: bool) -> Iterator[Hop]:
        """Walk what has been checked, checking more on the way."""
        while True:
            stop = self._checked_until(segment, position, length, cached_only)
            yield from segment.hops(position, stop, cached_only=cached_only)
            if stop >= segment.written:
                return
            position = stop

    def _checked_until(self, segment: Segment, position: int, length: int, cached_only: bool) -> int:
        """Return up to where a segment has been checked from ``position`` on, checking some if need be.

        Raises:
            OSError: the file could not be read.
            Cold: with ``cached_only``, it is being checked.
            IndexWrong: the index says something else than the batches.
        """
        checked = segment.checked
        if checked is None or position >= checked.end:
            return segment.written
        until = checked.until(position)
        if until > position:
            return until
        if cached_only and (cold := self._begin_check(segment, checked, position, length)) is not None:
            raise cold
        check = self.plan(segment, checked, position, max(length, _LEAST_CHECK_BYTES))
        self._take_check(segment, check.run())
        return self._checked_until(segment, position, length, cached_only)

    def _begin_check(self, segment: Segment, checked: Checked, position: int, length: int) -> Cold | None:
        """Have a stretch checked in another thread; None if there is none or it was in vain."""
        warmer = segment.open_files.warmer
        if warmer is None:
            return None
        check = self.plan(segment, checked, position, max(length, _LEAST_CHECK_BYTES))

        def done(found: StretchCheck | None) -> None:
            if found is not None and segment.checked is checked and not segment.gone:
                self.take(segment, found)

        return warmer.check(("check", id(segment), position), check, done)

    def plan(self, segment: Segment, checked: Checked, position: int, length: int) -> StretchCheck:
        """Return a check of a stretch, for any thread to run. Raises OSError."""
        return StretchCheck(segment.copy(), checked, segment.index, position, position + length)

    def take(self, segment: Segment, check: StretchCheck) -> None:
        """Take note of what a check has found: damage is reported, and refused to who asks for it."""
        try:
            self._take_check(segment, check)
        except IndexWrong:
            self._distrust(segment, cached_only=True)

    def _take_check(self, segment: Segment, check: StretchCheck) -> None:
        """Take note of what was found. Raises IndexWrong, the rest being noted."""
        checked = segment.checked
        if checked is not None and checked.add(check.start, check.end, check.end_offset):
            segment.checked = None
        for damage in check.damaged:
            self._refuse(segment, damage)
        if check.is_index_wrong:
            raise IndexWrong

    def _check_ahead(self, segment: Segment, position: int, length: int) -> None:
        """Have what is read next, by who reads on from ``position``, checked meanwhile."""
        checked = segment.checked
        if checked is None or position >= checked.end:
            return
        if position == checked.next_read:
            checked.ahead = min(max(2 * checked.ahead, _FIRST_AHEAD_BYTES), _MAX_AHEAD_BYTES)
        else:
            checked.ahead = 0
        checked.next_read = stop = position + length
        until = checked.until(position)
        if checked.ahead and until - stop < checked.ahead // 2 and until < checked.end:
            self._begin_check(segment, checked, until, checked.ahead)

    @staticmethod
    def is_time_unknown(segment: Segment) -> bool:
        """Return whether a segment's greatest timestamp is in its index files only, or not proven."""
        return not segment.is_time_proven or (segment.index is None and segment.max_timestamp < 0)

    def offset_before(self, segment: Segment, timestamp_ms: int, *, cached_only: bool = False) -> int:
        """Return an offset of a segment below which every record is earlier than ``timestamp_ms``.

        What the time index says is held against the batches that it names, its greatest time included; else
        it is made anew. Raises as ``read``.
        """
        index = self.index_of(segment, cached_only=cached_only)
        before = index.time_before(timestamp_ms)
        last = len(index.times) - 1
        wanted = {last} if not segment.is_time_proven and last >= 0 else set()
        if before >= 0 and not (before == last and segment.is_time_proven):
            wanted.add(before)
        if not all(self._is_time_right(segment, index, entry, cached_only) for entry in wanted):
            self._distrust(segment, cached_only=cached_only)
            index = self.index_of(segment, cached_only=cached_only)
            before = index.time_before(timestamp_ms)
        segment.is_time_proven = True
        return segment.base_offset + (index.time_offsets[before] if before >= 0 else 0)

    def _is_time_right(self, segment: Segment, index: Index, entry: int, cached_only: bool) -> bool:
        offset = segment.base_offset + index.time_offsets[entry]
        hop = next(self.heads(segment, offset, cached_only=cached_only), None)
        # A batch that was just accepted need not be in the file.
        return (hop is None and segment.next_base is None) or (
            hop is not None and hop.base_offset <= offset and hop.max_timestamp == index.times[entry]
        )

    def _distrust(self, segment: Segment, *, cached_only: bool = False) -> None:
        """Make a segment's index anew; with ``cached_only`` when it is asked for. Raises OSError."""
        _log.error("index-damaged: {path} does not go with its segment", path=segment.path(".index"))
        self.forget_marks()
        if segment.next_base is None:
            segment.index = Index()  # what was accepted is not all written: do without
            return
        segment.index = None
        for suffix in (".index", ".timeindex"):
            segment.open_files.files.unlink(segment.path(suffix))
        if not cached_only:
            self.index_of(segment)

    def take_damage(self, found: DamageFound) -> None:
        """Measure damage met for the first time, report and remember it. Raises OSError."""
        self._refuse(found.segment, find_damage(found.segment, found.position, found.expected_offset)[0])

    def _refuse(self, segment: Segment, damage: Damage) -> None:
        """Remember damage that reading met, report it, and serve nothing of it."""
        stretch = (damage.position, damage.position + damage.length)
        if stretch in segment.damaged:
            return
        segment.damaged.append(stretch)
        segment.damaged.sort()
        self.forget_marks()
        self._keep_refused(damage)
        report_damage(segment, damage)

    def _keep_refused(self, damage: Damage) -> None:
        if damage.to_offset <= damage.from_offset:
            after = self.bases[bisect_right(self.bases, damage.segment) :]
            end = after[0] if after else damage.from_offset + 1
            damage = damage._replace(to_offset=max(end, damage.from_offset + 1))
        self.damaged.append(damage)
        self._refused.append(damage)

    def _check_refused(self, offset: int, found_offset: int) -> None:
        """Refuse to go from ``offset`` on to ``found_offset`` if there is damage between."""
        for damage in self._refused:
            if damage.from_offset < found_offset and offset < damage.to_offset:
                path = f"{self.items[0].directory}/{file_name(damage.segment, '.log')}"
                raise StorageError(
                    ErrorCode.CORRUPT_BATCH,
                    f"offsets {damage.from_offset} to {damage.to_offset - 1} are damaged, "
                    f"{damage.length} bytes at {damage.position} of {path}: "
                    f"read on from offset {damage.to_offset}, or have fsck --repair set them aside",
                    retriable=False,
                )

    def read(
        self, offset: int, max_bytes: int, limit: int, written_offset: int, *, cached_only: bool = False
    ) -> ReadResult:
        """Return batches from ``offset`` on that begin below ``limit``, out of one segment.

        Raises:
            OSError: the file could not be read.
            Cold: with ``cached_only``, that would have waited for the disk.
        """
        first_size = 0
        place = self._ends.get(offset) or self._marks.get(offset)
        if (
            place is not None
            and place[1] < place[0].written
            and not place[0].damaged
            and ((checked := place[0].checked) is None or place[1] >= checked.end)
        ):
            segment, position = place
            at = len(self.bases) - 1 if segment is self.items[-1] else bisect_right(self.bases, offset) - 1
        else:
            at = max(0, bisect_right(self.bases, offset) - 1)
            while True:
                segment = self.items[at]
                hop = next(self.heads(segment, offset, cached_only=cached_only, length=max_bytes), None)
                if hop is not None:
                    break
                at += 1
                if at == len(self.items):
                    self._check_refused(offset, limit)
                    return EMPTY
            if hop.base_offset > offset and self._refused:
                self._check_refused(offset, hop.base_offset)
            if hop.base_offset >= limit:
                return EMPTY
            position, first_size = hop.position, hop.size_bytes
        following = self.bases[at + 1] if at + 1 < len(self.bases) else written_offset
        stop = segment.written
        if limit < following:
            stop = self._stop(segment, limit, cached_only)
        if segment.checked is not None:
            stop = min(stop, self._checked_until(segment, position, max_bytes, cached_only))
        if segment.damaged:
            stop = segment.sound_until(position, stop)
        length = stop - position
        if length <= 0:
            return EMPTY
        if length > max_bytes:
            first_size = first_size or self._first_size(segment, position, cached_only)
            length = min(length, max(max_bytes, first_size))
        if segment.checked is not None:
            self._check_ahead(segment, position, length)
        if length <= _COPY_BYTES:
            data = segment.read(position, length, cached_only=cached_only)
            return ReadResult(data, len(data))
        file = segment.open_files.get(segment)
        return ReadResult(FileRange(file, position, length), length)

    def _stop(self, segment: Segment, limit: int, cached_only: bool) -> int:
        """Return where the first batch that begins at or after ``limit`` is."""
        place = self._ends.get(limit) or self._marks.get(limit)
        if place is not None and place[0] is segment:
            return place[1]
        hop = next(self.heads(segment, limit, cached_only=cached_only), None)
        if hop is None:
            return segment.written
        if hop.base_offset == limit:
            self._mark(limit, segment, hop.position)
        return hop.position if hop.base_offset >= limit else hop.position + hop.size_bytes

    def _first_size(self, segment: Segment, position: int, cached_only: bool) -> int:
        head = segment.read(position, 12, cached_only=cached_only)
        return 12 + int.from_bytes(head[8:12], "big")

    def _mark(self, offset: int, segment: Segment, position: int) -> None:
        marks = self._marks
        marks[offset] = (segment, position)
        if len(marks) > _MAX_MARKS:
            del marks[next(iter(marks))]


def _read_index(copy: Segment, interval: int) -> tuple[Segment, Check | None]:
    """Read a segment's index, or make it; any thread. Raises OSError."""
    return copy, None if copy.load_index() is not None else make_index(copy, interval)
