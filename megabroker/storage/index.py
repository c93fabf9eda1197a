"""The sparse indexes of one segment, in memory and in Kafka's file formats.

Owns the entries, not the files. Disposable: all of it can be read out of the segment again, so a file that
fails a check is thrown away and never believed. Offsets are relative to the segment's base.

    .index       per entry: offset i32 | position i32           8 bytes, both strictly increasing
    .timeindex   per entry: timestamp i64 | offset i32          12 bytes, timestamps strictly increasing

An offset entry names the *last* offset of a batch and where that batch begins, as Kafka has it. A time
entry (t, o) says that no record of the segment up to that point is later than t, and that the batch
ending at o is where t was first reached.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise

__all__ = ["Index"]

_TIME = struct.Struct(">qi")
_SWAP = sys.byteorder == "little"
_MAX_RELATIVE = 0x7FFFFFFF


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

    def offset_before(self, timestamp_ms: int) -> int:
        """Return a relative offset up to which every record is earlier than ``timestamp_ms``, or -1."""
        at = bisect_left(self.times, timestamp_ms)
        return self.time_offsets[at - 1] if at else -1

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
        if any(a > b for a, b in pairwise(self.time_offsets)):
            return None
        return self


def _rising(values: array[int]) -> bool:
    return all(a < b for a, b in pairwise(values))
