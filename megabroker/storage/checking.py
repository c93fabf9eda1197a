"""Telling sound batches of a segment from damaged ones, and knowing which of them have been looked at.

Owns the walk that believes nothing: it reads every byte and checks every CRC, and that offsets go on where
the batch before ends, which no CRC covers. So whatever single bit of a batch is not what was written, it is
this batch that is damaged and no other. Walking by heads (``Segment.hops``) is for what has been checked.

    | sound | sound | damage .......... | sound |        a valid batch follows
    | sound | sound | tail ...................           none does

A valid batch is one with a sane head, the right CRC and an offset that goes with its neighbours'. What this
process has written was checked when it came in. What was in the files before is checked when it is first
read, in any thread, and ``Checked`` remembers stretch by stretch what was.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from crc32c import crc32c
from twisted.logger import Logger

from megabroker.codec.batch import (
    CRC_START,
    LENGTH_END,
    MIN_BATCH_LENGTH,
    BatchError,
    SearchExhausted,
    check_crc,
    find_batch,
    peek_header,
)
from megabroker.model import BatchHeader, Buffer
from megabroker.storage.files import LogFile
from megabroker.storage.index import Index
from megabroker.storage.segment import HEAD_BYTES, MAX_RELATIVE_OFFSET, Checked, Damage, Segment

__all__ = ["Check", "StretchCheck", "find_damage", "make_index", "report_damage"]

_log = Logger()

_WINDOW_BYTES = 1 << 18
_LARGE_BYTES = 1 << 20
_MAP_BYTES = 1 << 22
_MAX_STRIDE_BYTES = 1 << 21
# base offset | length | magic | CRC | last offset delta | record count
_ORDINARY = struct.Struct(">qi4xbI2xi30xi")
_NEAR_BYTES = 1 << 17


def _header(window: Buffer, at: int) -> BatchHeader | None:
    try:
        return peek_header(window, at, len(window))
    except BatchError:
        return None


def _is_crc_right(segment: Segment, position: int, header: BatchHeader) -> bool:
    """Check a batch that may be of any size without holding it. Raises OSError."""
    crc, stop = 0, position + header.size_bytes
    for at in range(position + CRC_START, stop, _LARGE_BYTES):
        crc = crc32c(segment.read(at, min(_LARGE_BYTES, stop - at)), crc)
    return crc == header.crc


def _end_of_damaged(segment: Segment, position: int, expected_offset: int) -> int | None:
    """Return where a damaged batch ends whose length can be believed: the very next offset begins there."""
    header = _header(segment.read(position, HEAD_BYTES), 0)
    if header is None or header.base_offset != expected_offset:
        return None
    end = position + header.size_bytes
    if end + HEAD_BYTES > segment.written:
        return None
    following = _header(segment.read(end, HEAD_BYTES), 0)
    if (
        following is None
        or following.base_offset != header.next_offset
        or end + following.size_bytes > segment.written
        or not _is_crc_right(segment, end, following)
    ):
        return None
    return end


def find_damage(segment: Segment, position: int, expected_offset: int) -> tuple[Damage, bool]:
    """Measure the damage that begins at ``position``; return it and whether a valid batch follows.

    Raises:
        OSError: the file could not be read.
    """
    files = segment.open_files.files
    file = segment.open_files.get(segment)
    fd = file.fileno()
    stop = segment.written
    there = min(stop, files.size(fd))  # a file cut short from outside cannot be mapped whole
    exhausted = False
    # What lies outside of these is no offset of this segment, whatever follows.
    limit = segment.base_offset + MAX_RELATIVE_OFFSET + 1
    if segment.next_base is not None:
        limit = min(limit, segment.next_base)
    if position < there:
        end = _end_of_damaged(segment, position, expected_offset)
        if end is not None:
            base = int.from_bytes(segment.read(end, 8), "big")
            return Damage(segment.base_offset, position, end - position, expected_offset, base), True
        with files.map(fd, there) as view:
            buffer = memoryview(view)
            read, until = position, position
            try:
                while until < there:
                    until = min(there, position + max(_MAP_BYTES, 4 * (until - position)))
                    for at in range(read, until, _MAP_BYTES):  # what fails here would kill in the map
                        files.pread(fd, min(_MAP_BYTES, until - at), at)
                    read = until
                    found = find_batch(buffer, position + 1, until, expected_offset, limit)
                    if found is not None:
                        at, header = found
                        length = at - position
                        damage = Damage(
                            segment.base_offset, position, length, expected_offset, header.base_offset
                        )
                        return damage, True
            except SearchExhausted:
                exhausted = True
            finally:
                buffer.release()
    return Damage(segment.base_offset, position, stop - position, expected_offset, expected_offset), exhausted


class Check:
    """Walks a segment's batches from ``position`` and yields the valid ones; changes ``damaged`` only.

    Args:
        segment: at rest meanwhile; the damage found is added to what it knows.
        position: where a batch begins.
        expected_offset: the least that it may have.
        leap: whether it may have any greater one.
        whole: whether the batches yielded are to be whole in memory, or may be heads.

    Attributes:
        position: everything before has been looked at.
        expected_offset: the least that the next batch may have.
        damaged: stretches that hold no batch and are followed by one.
        tail: what no valid batch follows, if anything.
    """

    def __init__(
        self,
        segment: Segment,
        position: int,
        expected_offset: int,
        *,
        leap: bool = False,
        whole: bool = True,
    ) -> None:
        self.segment = segment
        self.position = position
        self.expected_offset = expected_offset
        self.damaged: list[Damage] = []
        self.tail: Damage | None = None
        self._leap = leap
        self._whole = whole
        self._stride_bytes = _WINDOW_BYTES

    def batches(self, until: int | None = None) -> Iterator[tuple[BatchHeader, Buffer, int]]:
        """Yield (header, buffer, where in it the batch begins) for those that begin below ``until``.

        ``position`` is then still that batch's.

        Raises:
            OSError: the file could not be read.
        """
        segment = self.segment
        if until is None:
            until = segment.written
        window: Buffer = b""
        start = 0
        while (position := self.position) < until:
            if segment.damaged and (past := segment.past_damage(position)) != position:
                self.position, self._leap = past, True
                continue
            at = position - start
            window, at, header = self._batch(window, at, position)
            start = position - at
            if header is None:
                self._found(position)
                continue
            yield header, window, at
            if self.position == position:
                self._pass(header)

    def step(self, until: int) -> tuple[int, BatchHeader] | None:
        """Walk to the next valid batch that begins below ``until`` and past it. Raises OSError."""
        for header, _, _ in self.batches(until):
            position = self.position
            self._pass(header)
            return position, header
        return None

    def stride(self, until: int) -> dict[int, int]:
        """Walk as far as ordinary batches follow each other in one window: most of a log, for less.

        Returns:
            The last offset of each by its position; empty where something else is, for ``step``.
        """
        segment, position = self.segment, self.position
        ends: dict[int, int] = {}
        if segment.damaged or self._leap or position >= until:
            return ends
        window = memoryview(segment.read(position, min(self._stride_bytes, segment.written - position)))
        size, stop = len(window), until - position
        expected, limit = self.expected_offset, segment.base_offset + MAX_RELATIVE_OFFSET
        unpack = _ORDINARY.unpack_from
        at = length = 0
        while at < stop and at + HEAD_BYTES <= size:
            base, length, magic, crc, delta, count = unpack(window, at)
            end = at + LENGTH_END + length
            if (
                base != expected
                or magic != 2
                or length < MIN_BATCH_LENGTH
                or end > size
                or not 0 <= count <= delta + 1
                or delta < 0
                or (last := base + delta) > limit
                or crc32c(window[at + CRC_START : end]) != crc
            ):
                break
            ends[position + at] = last
            expected = last + 1
            at = end
        self.expected_offset, self.position = expected, position + at
        self._stride_bytes = min(max(2 * length, _WINDOW_BYTES), _MAX_STRIDE_BYTES)
        return ends

    def _pass(self, header: BatchHeader) -> None:
        self._leap = False
        self.expected_offset = header.next_offset
        self.position += header.size_bytes

    def run(self, until: int | None = None) -> None:
        """Walk to the end. Raises as ``batches``."""
        for _ in self.batches(until):
            pass

    def _batch(self, window: Buffer, at: int, position: int) -> tuple[Buffer, int, BatchHeader | None]:
        """Return the valid batch at ``position``, read anew if need be, or None for what is none."""
        segment = self.segment
        left = segment.written - position
        if at < 0 or at + HEAD_BYTES > len(window):
            window, at = segment.read(position, min(_WINDOW_BYTES, left)), 0
        header = _header(window, at)
        if header is None or (need := header.size_bytes) > left or not self._follows(header, position + need):
            return window, at, None
        if at + need > len(window):
            if need > _LARGE_BYTES:
                if not _is_crc_right(segment, position, header):
                    return window, at, None
                if self._whole:
                    window, at = segment.read(position, need), 0
                return window, at, header
            window, at = segment.read(position, min(max(4 * need, _WINDOW_BYTES), left)), 0
            if len(window) < need:
                return window, at, None
        return window, at, header if check_crc(window, at, header) else None

    def _follows(self, header: BatchHeader, after: int) -> bool:
        """Whether the offsets of a batch go with those before it and, where there is a hole, after it."""
        base, segment = header.base_offset, self.segment
        if header.last_offset - segment.base_offset > MAX_RELATIVE_OFFSET:
            return False
        if base == self.expected_offset:
            return True
        return base > self.expected_offset and (
            self._leap or segment.continues(after, header.next_offset, segment.written)
        )

    def _found(self, position: int) -> None:
        segment = self.segment
        damage, followed = find_damage(segment, position, self.expected_offset)
        if followed:
            self.damaged.append(damage)
            segment.damaged.append((position, position + damage.length))
            segment.damaged.sort()
        else:
            self.tail = damage
        self._leap = True
        self.position = position + damage.length


def make_index(segment: Segment, interval: int) -> Check:
    """Read a whole segment for a new index; return what was found on the way. Raises OSError.

    Args:
        interval: bytes between two entries.
    """
    segment.index = Index()
    segment.unindexed = 0
    segment.is_time_proven = True
    segment.max_timestamp = -1
    segment.max_timestamp_offset = segment.base_offset
    check = Check(segment, 0, segment.base_offset, whole=False)
    for header, _, _ in check.batches():
        segment.note(check.position, header.size_bytes, header.last_offset, header.max_timestamp, interval)
    return check


class StretchCheck:
    """Checks a stretch of a segment before it is first read, and what the index says of it; any thread.

    Args:
        segment: a copy of it, of which nobody else knows.
        checked: what has been checked of it.
        index: its index, if it is in memory.
        position: where a batch begins, as far as is known.
        until: a batch that begins below is to be checked.

    Attributes:
        start, end: what has been checked.
        end_offset: the least offset that a batch at ``end`` may have.
        damaged: what was found on the way; the tail ends where what is to be checked does.
        is_index_wrong: whether the index says something else than the batches.
    """

    def __init__(
        self, segment: Segment, checked: Checked, index: Index | None, position: int, until: int
    ) -> None:
        self.start = self.end = position
        self.end_offset = segment.base_offset
        self.damaged: list[Damage] = []
        self.is_index_wrong = False
        self._segment = segment
        self._damaged = list(segment.damaged)
        self._limit_offset = checked.end_offset
        self._index = index if index is not None else Index()
        self._until = min(until, checked.end)
        self._known = checked.before(position)

    def stretch(self) -> tuple[LogFile, int, int]:
        """Return the file, the position and the length of what is going to be read."""
        segment = self._segment
        return segment.open_files.get(segment), self.start, self._until - self.start

    def run(self) -> StretchCheck:
        """Do it. Raises OSError."""
        for position, offset, is_exact in self._starts():
            check = Check(self._segment, position, offset, leap=not is_exact, whole=False)
            if self._walk(check, is_exact):
                break
        self.end, self.end_offset = check.position, check.expected_offset
        self.damaged += check.damaged
        if check.tail is not None:
            self.damaged.append(check.tail._replace(to_offset=max(self._limit_offset, check.expected_offset)))
            self.end_offset = self._limit_offset
        return self

    def _starts(self) -> Iterator[tuple[int, int, bool]]:
        """Yield where to begin: (position, expected offset, whether that is certain), the nearest first.

        An entry of the index is believed only if a valid batch is there that ends as it says; else what is
        wrong, the entry or the batch, shows from the entry before, or from what has been checked.
        """
        known, offset = self._known
        if known + _NEAR_BYTES < self.start:
            index = self._index
            at = bisect_right(index.positions, self.start) - 1
            for entry in range(at, max(-1, at - 2), -1):
                if index.positions[entry] > known:
                    yield index.positions[entry], self._segment.base_offset, False
        yield known, offset, True

    def _walk(self, check: Check, is_exact: bool) -> bool:
        """Check from one start on; return False when it cannot be believed."""
        self.start = check.position
        until = self._until
        if not is_exact:
            found = check.step(until)
            if (
                found is None
                or found[0] != self.start
                or not self._is_told({found[0]: found[1].last_offset}, self.start, check.position)
            ):
                self._segment.damaged[:] = self._damaged
                return False
        while check.position < until:
            position, ends = check.position, check.stride(until)
            if not ends:
                found = check.step(until)
                if found is None:
                    break
                position, ends = found[0], {found[0]: found[1].last_offset}
            if not self._is_told(ends, position, check.position):
                self.is_index_wrong = True
        return True

    def _is_told(self, ends: dict[int, int], start: int, stop: int) -> bool:
        """Whether the index says of a stretch what its batches say, whose last offsets are given."""
        index, base = self._index, self._segment.base_offset
        first, end = bisect_left(index.positions, start), bisect_left(index.positions, stop)
        return all(ends.get(index.positions[at]) == base + index.offsets[at] for at in range(first, end))


def report_damage(segment: Segment, damage: Damage) -> None:
    """Say in the log what is damaged."""
    _log.error(
        "log-damaged: {path}: {length} bytes at {position} unreadable, offsets {first} to {last} may be lost",
        path=segment.path(),
        length=damage.length,
        position=damage.position,
        first=damage.from_offset,
        last=damage.to_offset,
    )
