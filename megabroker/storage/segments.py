"""The segments of one log in order, and reading from them.

Owns where things are: which segment, which position. Never reads at or beyond a segment's ``written``.

A sequential reader is found again without searching: the ends of written groups and of earlier reads are
kept as *marks*, offset -> (segment, position), in two small maps. Any other offset costs one look into the
sparse index and a short walk over batch heads.

With ``cached_only`` nothing waits for the disk: ``Cold`` is raised once what is missing is being read.
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
from megabroker.storage.index import Index
from megabroker.storage.recovery import find_damage, report_damage
from megabroker.storage.segment import Damage, DamageFound, Hop, Segment

__all__ = ["EMPTY", "Segments"]

_log = Logger()

EMPTY = ReadResult(b"", 0)

_COPY_BYTES = 16 << 10
_MAX_MARKS = 128


class Segments:
    """See the module.

    Attributes:
        items: the segments; the last one is appended to.
        damaged: every damaged stretch known.
    """

    def __init__(
        self,
        items: list[Segment],
        damaged: list[Damage],
        interval: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self.items = items
        self.bases = [segment.base_offset for segment in items]
        for segment, following in pairwise(items):
            segment.next_base = following.base_offset
        self.damaged = damaged
        self._interval = interval
        self._changed = changed
        self._ends: dict[int, tuple[Segment, int]] = {}
        self._marks: dict[int, tuple[Segment, int]] = {}

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
        if len(ends) > _MAX_MARKS:
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
            while index is None:
                try:
                    index = segment.rebuild_index(self._interval())
                except DamageFound as found:
                    self.take_damage(found)
            segment.save_index()
        segment.open_files.indexes.keep(segment)
        return index

    def _read_index(self, segment: Segment) -> Cold | None:
        """Have a segment's index read in another thread; None if there is none or it was in vain."""
        warmer = segment.open_files.warmer
        if warmer is None:
            return None
        reading = Segment(segment.open_files, segment.directory, segment.base_offset, segment.size)
        reading.stage = segment.stage
        interval = self._interval()

        def done(found: bool) -> None:
            if found and segment.index is None and not segment.gone:
                segment.take_index(reading)
                segment.open_files.indexes.keep(segment)

        return warmer.work(("index", id(segment)), lambda: reading.read_index_of(segment, interval), done)

    def aborted_of(self, segment: Segment) -> AbortedIndex:
        """Return a segment's aborted transactions, reading them. Raises OSError and StorageError."""
        aborted = segment.aborted
        if aborted is None:
            aborted = segment.load_aborted()
            if aborted is None:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"{segment.path('.txnindex')} is damaged; it is made anew at the next start if it and "
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

    def heads(self, segment: Segment, offset: int, *, cached_only: bool = False) -> Iterator[Hop]:
        """Walk a segment's written batches, from the one that holds ``offset`` or the next.

        Damage met for the first time is measured, reported and stepped over. An index that leads to where no
        batch begins, or to one behind ``offset``, may be what is damaged: it is made anew once. Raises as
        ``read``.
        """
        believed = True
        while True:
            position = 0
            try:
                if offset > segment.base_offset:
                    index = self.index_of(segment, cached_only=cached_only)
                    position = index.position_for(offset - segment.base_offset)
                for hop in segment.hops(position, cached_only=cached_only):
                    if believed and hop.position == position > 0 and hop.base_offset > offset:
                        raise DamageFound(segment, position, offset)
                    if hop.last_offset >= offset:
                        offset = hop.last_offset + 1
                        yield hop
                return
            except DamageFound as found:
                if not believed or found.position != position or not position:
                    self.take_damage(found)
                    continue
            believed = False
            self._distrust(segment)

    def _distrust(self, segment: Segment) -> None:
        """Make a segment's index anew. Raises OSError."""
        _log.error("index-damaged: {path} does not go with its segment", path=segment.path(".index"))
        self.forget_marks()
        if segment.next_base is None:
            segment.index = Index()  # what was accepted is not all written: do without
            return
        segment.index = None
        for suffix in (".index", ".timeindex"):
            segment.open_files.files.unlink(segment.path(suffix))
        self.index_of(segment)

    def take_damage(self, found: DamageFound) -> None:
        """Measure damage met for the first time, report and remember it. Raises OSError."""
        segment = found.segment
        damage, _ = find_damage(segment, found.position, found.expected_offset)
        segment.damaged.append((damage.position, damage.position + damage.length))
        segment.damaged.sort()
        self.damaged.append(damage)
        self.forget_marks()
        report_damage(segment, damage)
        self._changed()

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
        if place is not None and place[1] < place[0].written and not place[0].damaged:
            segment, position = place
            at = len(self.bases) - 1 if segment is self.items[-1] else bisect_right(self.bases, offset) - 1
        else:
            at = max(0, bisect_right(self.bases, offset) - 1)
            while True:
                segment = self.items[at]
                hop = next(self.heads(segment, offset, cached_only=cached_only), None)
                if hop is not None:
                    break
                at += 1
                if at == len(self.items):
                    return EMPTY
            if hop.base_offset >= limit:
                return EMPTY
            position, first_size = hop.position, hop.size_bytes
        following = self.bases[at + 1] if at + 1 < len(self.bases) else written_offset
        stop = segment.written
        if limit < following:
            stop = self._stop(segment, limit, cached_only)
        if segment.damaged:
            stop = segment.sound_until(position, stop)
        length = stop - position
        if length <= 0:
            return EMPTY
        if length > max_bytes:
            first_size = first_size or self._first_size(segment, position, cached_only)
            length = min(length, max(max_bytes, first_size))
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
