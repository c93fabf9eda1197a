"""Where the events of aggregates lie in a partition, and where their last snapshots do; pure.

Both are derived from the log, record by record in offset order, and hold nothing that is not in it. An event
counts when it is the next of its aggregate; whatever else says it is an event is none, so that nobody who
writes to the topic by another wire can make an event be there twice.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from megabroker.model import Record
from megabroker.protocols.cursus.later.records import aggregate_version_of

__all__ = ["EventIndex", "Index", "SnapshotIndex"]

_KEY_BYTES = 250
"""About what an aggregate takes beside its key."""

_EVENT_BYTES = 8


class Index(Protocol):
    """What follows a partition.

    Attributes:
        position: everything below is in it.
        size_bytes: about what it takes.
    """

    position: int
    size_bytes: int

    def note(self, record: Record) -> None:
        """Take in the next record."""


class EventIndex:
    """The events of each aggregate."""

    __slots__ = ("_streams", "position", "size_bytes")

    def __init__(self, position: int) -> None:
        self.position = position
        self.size_bytes = 0
        self._streams: dict[bytes, tuple[int, array[int]]] = {}  # the first version that is there, offsets

    def note(self, record: Record) -> None:
        """Take in the next record; the first event found of an aggregate may have any version."""
        version = aggregate_version_of(record.headers)
        if version and record.key:
            self.add(record.key, version, record.offset)

    def add(self, key: bytes, version: int, offset: int) -> None:
        """Take in an event."""
        found = self._streams.get(key)
        if found is None:
            self._streams[key] = (version, array("q", (offset,)))
            self.size_bytes += _KEY_BYTES + len(key)
        else:
            first, offsets = found
            if version != first + len(offsets):
                return
            offsets.append(offset)
        self.size_bytes += _EVENT_BYTES

    def version(self, key: bytes) -> int:
        """Return the version of an aggregate, 0 if it has no events."""
        first, offsets = self._streams.get(key, (1, ()))
        return first + len(offsets) - 1

    def events(self, key: bytes, from_version: int, start_offset: int) -> tuple[int, Sequence[int]]:
        """Return the events of an aggregate that are still there.

        Args:
            start_offset: where the log begins by now.

        Returns:
            The version of the first one at or after ``from_version``, and all offsets from it on.
        """
        first, offsets = self._streams.get(key, (1, array("q")))
        at = bisect_left(offsets, start_offset, max(from_version - first, 0))
        return first + at, offsets[at:]


class SnapshotIndex:
    """The last snapshot of each aggregate, as (version, offset)."""

    __slots__ = ("_found", "position", "size_bytes")

    def __init__(self, position: int) -> None:
        self.position = position
        self.size_bytes = 0
        self._found: dict[bytes, tuple[int, int]] = {}

    def note(self, record: Record) -> None:
        """Take in the next record; one without a value is the end of its aggregate's snapshots."""
        if not record.key:
            return
        if record.value is None:
            if self._found.pop(record.key, None) is not None:
                self.size_bytes -= _KEY_BYTES + len(record.key)
            return
        if record.key not in self._found:
            self.size_bytes += _KEY_BYTES + len(record.key)
        self._found[record.key] = aggregate_version_of(record.headers), record.offset

    def find(self, key: bytes) -> tuple[int, int] | None:
        """Return the last snapshot of an aggregate, if there is one."""
        return self._found.get(key)
