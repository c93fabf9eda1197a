"""One segment of a log: a file of whole record batches in offset order, and what is known about it.

Owns the layout of a batch's head as far as walking needs it, and the numbers beside the file. ``size`` is
what the reactor has accepted, ``written`` what is in the file; nothing at or beyond ``written`` is ever
read. Only the reactor thread changes these numbers; the disk thread is handed positions.

    position  0  base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 = 2 | 17 CRC u32
             21  attributes i16 | 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64
             43  producer id i64 | epoch i16 | base sequence i32 | record count i32 | 61 records

``is_time_proven`` says that ``max_timestamp`` does not rest on the word of .timeindex alone.
``gone`` is set when the segment leaves the log: its files are being deleted, nobody need sync them, and
whoever still reads one opens it for himself.
``aborted`` are the aborted transactions whose markers are in here; None while they are in the file only.
``saved`` says that index files are there; before anything is appended, ``unsave`` removes them, for recovery
believes a segment's .txnindex, or its absence, when there is an .index.
``next_base`` is where the segment after it begins, None for the last one: a segment that was cleaned has
holes, and its last batch may lie behind one.
``stage`` is what the names of its files end in while the segment is being swapped in (see ``swap``).
``checked`` tells what of the file has been checked by reading it; None, all that is sound was found so, or
written by this process. Only what has been checked is walked by heads, and served.
``damaged`` holds (start, end) of stretches that no longer are batches; walking steps over them and they
are never cut off, so that they can still be examined.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from megabroker.model import Buffer
from megabroker.storage.aborted import AbortedIndex
from megabroker.storage.files import LogFile, OpenFiles
from megabroker.storage.index import Index

__all__ = [
    "HEAD_BYTES",
    "MAX_RELATIVE_OFFSET",
    "Checked",
    "Damage",
    "DamageFound",
    "Hop",
    "Segment",
    "file_name",
    "first_offset",
]

HEAD_BYTES = 61
MAX_RELATIVE_OFFSET = 0x7FFFFFFF
MAX_POSITION = 1 << 62
_HOP = struct.Struct(">qi4xb6xiqq")
_SMALL_WINDOW = 4096
_LARGE_WINDOW = 1 << 16
_MAX_STRETCHES = 64


def file_name(offset: int, suffix: str) -> str:
    """Return Kafka's name of a file that begins at ``offset``."""
    return f"{offset:020d}{suffix}"


def first_offset(name: str, suffix: str) -> int | None:
    """Return the offset in a file's name, or None when it is no such file."""
    stem = name.removesuffix(suffix)
    return int(stem) if len(stem) == 20 and stem.isdecimal() and stem.isascii() and stem != name else None


class Hop(NamedTuple):
    """What walking tells of one batch."""

    position: int
    size_bytes: int
    base_offset: int
    last_offset: int
    max_timestamp: int


class Damage(NamedTuple):
    """A stretch of a segment that holds no readable batch; it was acknowledged or may have been.

    Attributes:
        from_offset: first offset that may be lost.
        to_offset: first offset known to be there again after it.
    """

    segment: int
    position: int
    length: int
    from_offset: int
    to_offset: int


class DamageFound(Exception):
    """Walking met something at ``position`` that is no batch."""

    def __init__(self, segment: Segment, position: int, expected_offset: int) -> None:
        super().__init__(f"{segment.path()}: no record batch at position {position}")
        self.segment = segment
        self.position = position
        self.expected_offset = expected_offset


class Checked:
    """Which stretches of a segment were checked since the start, of what was in the file by then.

    At most 64 stretches are remembered: of more the shortest is forgotten, and checked again.

    Attributes:
        end: everything from here on was written by this process.
        end_offset: the first offset there.
        stretches: (start, end, first offset after it) of each, rising; batches begin at both.
        ahead: how many bytes are checked beyond what is read, while it is read in order.
        next_read: where the last stretch that was read ended.
    """

    __slots__ = ("ahead", "base_offset", "end", "end_offset", "next_read", "stretches")

    def __init__(self, end: int, base_offset: int, end_offset: int) -> None:
        self.end = end
        self.base_offset = base_offset
        self.end_offset = end_offset
        self.stretches: list[tuple[int, int, int]] = []
        self.ahead = 0
        self.next_read = -1

    def until(self, position: int) -> int:
        """Return where the stretch ends that holds ``position``, or ``position`` when none does."""
        at = bisect_right(self.stretches, (position, MAX_POSITION, 0)) - 1
        return max(position, self.stretches[at][1]) if at >= 0 else position

    def before(self, position: int) -> tuple[int, int]:
        """Return the last place up to ``position`` of which the offset is known, and that offset."""
        at = bisect_right(self.stretches, (position, MAX_POSITION, 0)) - 1
        return self.stretches[at][1:] if at >= 0 else (0, self.base_offset)

    def add(self, start: int, end: int, next_offset: int) -> bool:
        """Take note of a stretch; return whether nothing is left to check."""
        merged: list[tuple[int, int, int]] = []
        for one in sorted([*self.stretches, (start, end, next_offset)]):
            if merged and one[0] <= merged[-1][1]:
                if merged[-1][1] < one[1]:
                    merged[-1] = (merged[-1][0], one[1], one[2])
            else:
                merged.append(one)
        if len(merged) > _MAX_STRETCHES:
            others = (one for one in merged if not one[0] <= start < one[1])
            merged.remove(min(others, key=lambda one: one[1] - one[0]))
        self.stretches = merged
        return merged[0][0] == 0 and merged[0][1] >= self.end


class Segment:
    """One segment; see the module."""

    __slots__ = (
        "__weakref__",
        "aborted",
        "base_offset",
        "born",
        "checked",
        "created",
        "damaged",
        "directory",
        "file",
        "gone",
        "index",
        "is_time_proven",
        "max_timestamp",
        "max_timestamp_offset",
        "next_base",
        "open_files",
        "saved",
        "size",
        "stage",
        "touched",
        "unindexed",
        "written",
    )

    def __init__(self, open_files: OpenFiles, directory: str, base_offset: int, size: int = 0) -> None:
        self.open_files = open_files
        self.directory = directory
        self.base_offset = base_offset
        self.size = size
        self.written = size
        self.created = size > 0
        self.index: Index | None = None
        self.aborted: AbortedIndex | None = None if size else AbortedIndex()
        self.unindexed = 0
        self.is_time_proven = not size
        self.max_timestamp = -1
        self.max_timestamp_offset = base_offset
        self.born: float | None = None
        self.checked: Checked | None = None
        self.damaged: list[tuple[int, int]] = []
        self.gone = False
        self.saved = False
        self.next_base: int | None = None
        self.stage = ""
        self.file: LogFile | None = None
        self.touched = False

    def path(self, suffix: str = ".log") -> str:
        """Return where one of the segment's files is."""
        return f"{self.directory}/{self.base_offset:020d}{suffix}{self.stage}"

    def read(self, position: int, length: int, *, cached_only: bool = False) -> Buffer:
        """Read from the file. Raises OSError, and Cold with ``cached_only``."""
        file = self.open_files.get(self)
        if cached_only:
            return file.read_cached(position, length)
        return self.open_files.files.pread(file.fileno(), length, position)

    def past_damage(self, position: int) -> int:
        """Return ``position``, or the end of the damaged stretch that holds it."""
        for start, end in self.damaged:
            if start <= position < end:
                position = end
        return position

    def sound_until(self, position: int, stop: int) -> int:
        """Return the first damaged position between ``position`` and ``stop``, else ``stop``."""
        for start, _ in self.damaged:
            if position <= start < stop:
                return start
        return stop

    def hops(self, position: int, stop: int | None = None, *, cached_only: bool = False) -> Iterator[Hop]:
        """Walk the batches from ``position`` to ``stop`` (default: what is written) by their heads.

        Raises:
            OSError: the file could not be read.
            Cold: with ``cached_only``, that would have waited for the disk.
            DamageFound: something there is no batch.
        """
        if stop is None:
            stop = self.written
        window: Buffer = b""
        start = 0
        window_bytes = _SMALL_WINDOW
        expected = self.base_offset
        known = position == 0
        if self.damaged:
            position = self.past_damage(position)
            known = known and position == 0
        while position < stop:
            at = position - start
            if at + HEAD_BYTES > len(window):
                length = max(HEAD_BYTES, min(window_bytes, stop - position))
                window = self.read(position, length, cached_only=cached_only)
                start, at = position, 0
                window_bytes = min(window_bytes * 2, _LARGE_WINDOW)
                if len(window) < HEAD_BYTES:
                    raise DamageFound(self, position, expected)
            base, length, magic, delta, _, max_timestamp = _HOP.unpack_from(window, at)
            size = length + 12
            last = base + delta
            if (
                magic != 2
                or size < HEAD_BYTES
                or delta < 0
                or position + size > stop
                or base < expected
                or last - self.base_offset > MAX_RELATIVE_OFFSET
                or (
                    known
                    and base != expected
                    and not self.continues(position + size, last + 1, stop, cached_only)
                )
            ):
                raise DamageFound(self, position, expected)
            known = True
            expected = last + 1
            yield Hop(position, size, base, last, max_timestamp)
            position += size
            if self.damaged and (past := self.past_damage(position)) != position:
                position = past
                known = False

    def continues(self, position: int, offset: int, stop: int, cached_only: bool = False) -> bool:
        """Whether a batch before ``position`` may leap to end at ``offset``: the next one must bear it out.

        The CRC does not cover base offsets, and only cleaning leaves holes, which it never does in the last
        segment; so a hole is believed only when what follows goes on from there: the next batch, else the
        next segment, or something known to be damaged.
        """
        if self.past_damage(position) != position:
            return True
        if position + HEAD_BYTES > stop:
            return self.next_base is not None and offset <= self.next_base
        base, _, magic, _, _, _ = _HOP.unpack(self.read(position, _HOP.size, cached_only=cached_only))
        return bool(magic == 2 and base >= offset)

    def take_index(self, other: Segment) -> None:
        """Take the index that ``other`` has read by ``read_index_of``."""
        self.index = other.index
        self.unindexed = other.unindexed
        self.max_timestamp = other.max_timestamp
        self.max_timestamp_offset = other.max_timestamp_offset
        self.is_time_proven = self.is_time_proven or other.is_time_proven

    def note(self, position: int, size: int, last_offset: int, max_timestamp: int, interval: int) -> None:
        """Take a batch that was just added, or found, into the numbers and the index."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.unindexed > interval:
            index = self.index
            if index is not None:
                base = self.base_offset
                index.note(last_offset - base, position, self.max_timestamp, self.max_timestamp_offset - base)
            self.unindexed = 0
        self.unindexed += size

    def index_bytes(self) -> int:
        """Return how large the larger one of the loaded index's files would be."""
        index = self.index
        return max(8 * len(index.offsets), 12 * len(index.times)) if index is not None else 0

    def forget_index(self) -> None:
        """Have neither the index nor the aborted transactions in memory, unless this is appended to."""
        if self.next_base is not None or self.gone:
            self.index = None
            if self.aborted:
                self.aborted = None

    def load_index(self) -> Index | None:
        """Read the index files; None when they are absent or fail their check. Raises OSError."""
        files = self.open_files.files
        index = Index.decode(
            files.read_bytes(self.path(".index")), files.read_bytes(self.path(".timeindex")), self.size
        )
        self.index = index
        if index is not None and index.times:
            self.max_timestamp = index.times[-1]
            self.max_timestamp_offset = self.base_offset + index.time_offsets[-1]
        return index

    def copy(self, file: LogFile | None = None) -> Segment:
        """Return the segment as it is, for another thread to read; it knows no index.

        Args:
            file: what is read; else the segment's own. Raises OSError.
        """
        copy = Segment(self.open_files, self.directory, self.base_offset, self.size)
        copy.written = self.written
        copy.stage = self.stage
        copy.file = file if file is not None else self.open_files.get(self)
        copy.next_base = self.next_base
        copy.damaged = list(self.damaged)
        return copy

    def unsave(self) -> None:
        """Remove the .index file: what it says will not hold any more. Raises OSError."""
        if self.saved:
            self.open_files.files.unlink(self.path(".index"))
            self.saved = False

    def load_aborted(self) -> AbortedIndex | None:
        """Read .txnindex; None when it is not to be believed. Raises OSError."""
        data = self.open_files.files.read_bytes(self.path(".txnindex"))
        return AbortedIndex() if data is None else AbortedIndex.decode(data, self.base_offset)

    def save_index(self) -> None:
        """Write the index files, the closing time entry included. Raises OSError.

        The .txnindex, which is there only if anything was aborted, is on the disk before .index is
        written: a segment with an .index and no .txnindex holds no aborted transaction.
        """
        aborted = self.aborted
        if aborted is not None:
            files, path = self.open_files.files, self.path(".txnindex")
            if aborted:
                files.write_whole(path, aborted.encode(), sync=True)
            elif files.read_size(path) is not None:
                files.unlink(path)
        index = self.index
        if index is None:
            return
        index.note_time(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
        offsets, times = index.encode()
        files = self.open_files.files
        files.write_whole(self.path(".index"), offsets)
        files.write_whole(self.path(".timeindex"), times)
