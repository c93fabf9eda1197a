"""The aborted transactions that end in one segment, in memory and in Kafka's file format.

Owns the entries, not the file. They come in the order of their markers; where they begin follows no order.
Derived from the log like the other indexes: a file that fails a check is thrown away and never believed.

    .txnindex    per entry, 34 bytes: version i16 = 0 | producer id i64 | first offset i64
                 | last offset i64 | last stable offset i64

The last offset is the marker's. The last stable offset is the partition's once the marker was written: every
transaction that begins below it is decided by then, so whoever reads up to there need look no further.

Ours end with an entry of no transaction that holds the CRC-32C of those before it: producer id -1 - CRC,
first offset 2^63 - 1, the last offset once more, stable offset -1. No range has anything of it, so that Kafka
passes over it.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator

from crc32c import crc32c

from megabroker.model import AbortedTransaction

__all__ = ["AbortedIndex"]

_ENTRY = struct.Struct(">hqqqq")
_VERSION = 0
_FIELDS = 4
_LAST = 2
_NOWHERE = 2**63 - 1


class AbortedIndex:
    """Which transactions were aborted, by the offset of their markers."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers = array("q")

    def __len__(self) -> int:
        return len(self._numbers) // _FIELDS

    def __iter__(self) -> Iterator[AbortedTransaction]:
        """Iterate in the order of the markers."""
        numbers = self._numbers
        return (AbortedTransaction(*numbers[at : at + _FIELDS]) for at in range(0, len(numbers), _FIELDS))

    def add(self, aborted: AbortedTransaction) -> None:
        """Add a transaction whose marker follows all known ones."""
        self._numbers.extend(aborted)

    def truncate(self, offset: int) -> None:
        """Forget markers at or after ``offset``."""
        del self._numbers[self._at(offset) * _FIELDS :]

    def collect(self, from_offset: int, to_offset: int, into: list[AbortedTransaction]) -> bool:
        """Add the transactions with records in a range to ``into``.

        Returns:
            Whether no later marker can abort any more in that range.
        """
        numbers = self._numbers
        for at in range(self._at(from_offset) * _FIELDS, len(numbers), _FIELDS):
            one = AbortedTransaction(*numbers[at : at + _FIELDS])
            if one.first_offset < to_offset:
                into.append(one)
            if one.last_stable_offset >= to_offset:
                return True
        return False

    def _at(self, offset: int) -> int:
        """Return the place of the first marker at or after ``offset``."""
        numbers = self._numbers
        return bisect_left(range(len(self)), offset, key=lambda at: numbers[at * _FIELDS + _LAST])

    def encode(self) -> bytes:
        """Return the contents of .txnindex."""
        entries = b"".join(_ENTRY.pack(_VERSION, *one) for one in self)
        return entries + _check(entries) if entries else entries

    @classmethod
    def decode(cls, data: bytes, base_offset: int) -> AbortedIndex | None:
        """Read the file of a segment that begins at ``base_offset``; None when it is not to be believed."""
        if len(data) % _ENTRY.size:
            return None
        self = cls()
        if len(data) > _ENTRY.size:
            entries, last = data[: -_ENTRY.size], data[-_ENTRY.size :]
            if _ENTRY.unpack(last)[1] < 0:
                if last != _check(entries):
                    return None
                data = entries
        previous = base_offset - 1
        for version, producer_id, first, last, stable in _ENTRY.iter_unpack(data):
            if version != _VERSION or last <= previous or not 0 <= first < last or stable < 0:
                return None
            previous = last
            self._numbers.extend((producer_id, first, last, stable))
        return self


def _check(entries: bytes) -> bytes:
    """Return the entry that ends them."""
    *_, last = _ENTRY.iter_unpack(entries)
    return _ENTRY.pack(_VERSION, -1 - crc32c(entries), _NOWHERE, last[1 + _LAST], -1)
