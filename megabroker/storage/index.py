"""The sparse indexes of one segment, in memory and in Kafka's file formats.

Owns the entries, not the files, and the account of which are in memory. Disposable: all of it can be read out
of the segment again, so a file that fails a check is thrown away and never believed. Offsets are relative to
the segment's base.

    .index       per entry: offset i32 | position i32           8 bytes, both strictly increasing
    .timeindex   per entry: timestamp i64 | offset i32          12 bytes, timestamps strictly increasing

An offset entry names the *last* offset of a batch and where that batch begins, as Kafka has it. A time
entry (t, o) says that no record of the segment up to that point is later than t, and that the batch
ending at o is where t was first reached.
"""

from __future__ import annotations

import operator
import struct
import sys
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from itertools import islice
from typing import Protocol
from weakref import ref

__all__ = ["Index", "LoadedIndexes"]

_TIME = struct.Struct(">qi")
_SWAP = sys.byteorder == "little"
_MAX_RELATIVE = 0x7FFFFFFF
_ENTRY_BYTES = 1024  # what an index takes beside its entries, with the account that is kept of it


class Index:
    """Where to begin looking for an offset or a time."""

    __slots__ = ("offsets", "positions", "time_offsets", "times")

    def __init__(self) -> None:
        self.offsets = array("I")
        self.positions = array("I")
        self.times = array("q")
        self.time_offsets = array("I")

    def note(self, offset: int, position: int, timestamp_ms: int, time_offset: int) -> None:
        """Add the batch at ``position`` that ends with relative ``offset``, and the greatest time so far.

        Args:
            time_offset: as for ``note_time``.
        """
        self.offsets.append(offset)
        self.positions.append(position)
        times = self.times
        if not times or timestamp_ms > times[-1]:
            self.note_time(timestamp_ms, time_offset)

    def note_time(self, timestamp_ms: int, offset: int) -> None:
        """Add the greatest timestamp so far, unless an entry says so already."""
        if timestamp_ms >= 0 and (not self.times or timestamp_ms > self.times[-1]):
            self.times.append(timestamp_ms)
            self.time_offsets.append(offset)

    def position_for(self, offset: int) -> int:
        """Return the start of a batch at or before the one that holds relative ``offset``."""
        at = bisect_right(self.offsets, offset)
        return self.positions[at - 1] if at else 0

    def time_before(self, timestamp_ms: int) -> int:
        """Return which time entry is the last before ``timestamp_ms``, or -1."""
        return bisect_left(self.times, timestamp_ms) - 1

    def truncate(self, position: int, offset: int) -> None:
        """Forget what lies at or after ``position``, where relative ``offset`` would begin."""
        keep = bisect_left(self.positions, position)
        del self.offsets[keep:]
        del self.positions[keep:]
        keep = bisect_left(self.time_offsets, offset)
        del self.times[keep:]
        del self.time_offsets[keep:]

    def encode(self) -> tuple[bytes, bytes]:
        """Return the contents of .index and .timeindex."""
        pairs = array("I", bytes(8 * len(self.offsets)))
        pairs[0::2] = self.offsets
        pairs[1::2] = self.positions
        if _SWAP:
            pairs.byteswap()
        times = b"".join(map(_TIME.pack, self.times, self.time_offsets))
        return pairs.tobytes(), times

    @classmethod
    def decode(cls, index: bytes | None, timeindex: bytes | None, size_bytes: int) -> Index | None:
        """Read both files of a segment of ``size_bytes``; None when one is absent or not to be believed.

        A closed segment has at least its closing time entry, unless no record had a timestamp.
        Kafka preallocates the files of an active segment with zeros; zeros at the end are cut off.
        """
        if index is None or timeindex is None or len(index) % 8 or len(timeindex) % 12:
            return None
        self = cls()
        pairs = array("I", index)
        if _SWAP:
            pairs.byteswap()
        self.offsets = pairs[0::2]
        self.positions = pairs[1::2]
        while self.positions and not self.positions[-1]:
            self.offsets.pop()
            self.positions.pop()
        for timestamp, offset in _TIME.iter_unpack(timeindex):
            if not timestamp and not offset:
                break
            if offset < 0 or timestamp < 0:
                return None
            self.times.append(timestamp)
            self.time_offsets.append(offset)
        if not (_rising(self.offsets) and _rising(self.positions) and _rising(self.times)):
            return None
        if size_bytes and not self.times:
            return None
        if self.positions and (self.positions[-1] >= size_bytes or self.offsets[-1] > _MAX_RELATIVE):
            return None
        if not all(map(operator.le, self.time_offsets, islice(self.time_offsets, 1, None))):
            return None
        return self

    def memory_bytes(self) -> int:
        """Return about how much memory it takes."""
        arrays = (self.offsets, self.positions, self.times, self.time_offsets)
        return sum(one.itemsize * len(one) for one in arrays)


def _rising(values: array[int]) -> bool:
    return all(map(operator.lt, values, islice(values, 1, None)))


class Indexed(Protocol):
    """What has an index that can be read again."""

    @property
    def index(self) -> Index | None:
        """The index, if it is in memory."""

    def forget_index(self) -> None:
        """Have it in memory no more."""


class LoadedIndexes:
    """Which indexes that can be read again are in memory: those loaded last, of all logs together.

    Reading one takes milliseconds, and a log that is read here and there needs all of its own.

    Args:
        most_bytes: how much they may take together.
    """

    def __init__(self, most_bytes: int = 32 << 20) -> None:
        self._most_bytes = most_bytes
        self._loaded: deque[tuple[ref[Indexed], int]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, one: Indexed) -> None:
        """Count one as loaded, and forget what was loaded longest ago while there is too much."""
        index = one.index
        size = _ENTRY_BYTES + (0 if index is None else index.memory_bytes())
        with self._lock:
            self._loaded.append((ref(one), size))
            self._bytes += size
            while self._bytes > self._most_bytes:
                oldest, size = self._loaded.popleft()
                self._bytes -= size
                other = oldest()
                if other is not None:
                    other.forget_index()
