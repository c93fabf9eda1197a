"""Whether a segment's index files say what its batches say.

Owns the comparison, streaming: the batches are shown one by one in order, and only the files' own entries are
held. What lies in damaged stretches cannot be judged and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

from megabroker.inspection.findings import Finding, Kind
from megabroker.model import AbortedTransaction, BatchHeader
from megabroker.storage.aborted import AbortedIndex
from megabroker.storage.index import Index
from megabroker.storage.segment import Segment

__all__ = ["AbortedCheck", "IndexCheck"]

_INDEX_FILES = (".index", ".timeindex")


class IndexCheck:
    """.index and .timeindex of one segment.

    Args:
        exact: an entry names the batch it points to, as ours do; those of Kafka may name a later one.
        needed: without the files, and a closing entry, something is wrong.
    """

    def __init__(self, segment: Segment, *, exact: bool, needed: bool) -> None:
        self._segment = segment
        self._exact = exact
        self._needed = needed
        self._index: Index | None = None
        self._at = self._time_at = 0
        self._greatest = -1
        self._faults: list[tuple[str, str]] = []
        files = segment.open_files.files
        there = [files.read_size(segment.path(suffix)) is not None for suffix in _INDEX_FILES]
        if not all(there):
            if needed or any(there):
                absent = _INDEX_FILES[there.index(False)]
                self._faults.append((absent, "it is absent"))
            return
        data = [files.read_bytes(segment.path(suffix)) for suffix in _INDEX_FILES]
        self._index = Index.decode(data[0], data[1], segment.size)
        if self._index is None and (needed or any(data[1] or b"")):
            self._faults.append((".index", "it, or the .timeindex beside it, is no index of this segment"))

    def visit(self, position: int, header: BatchHeader) -> None:
        """Take the next batch."""
        self._greatest = max(self._greatest, header.max_timestamp)
        index = self._index
        if index is None:
            return
        base = self._segment.base_offset
        positions = index.positions
        while self._at < len(positions) and positions[self._at] <= position:
            at = self._at
            self._at += 1
            offset = base + index.offsets[at]
            if positions[at] != position:
                if self._segment.past_damage(positions[at]) == positions[at]:
                    self._wrong(".index", f"entry {at} points to byte {positions[at]}, where no batch begins")
            elif offset < header.base_offset or (self._exact and offset != header.last_offset):
                self._wrong(
                    ".index",
                    f"entry {at} says offset {offset} for the batch that ends at {header.last_offset}",
                )
        while (
            self._time_at < len(index.times)
            and base + index.time_offsets[self._time_at] <= header.last_offset
        ):
            at = self._time_at
            self._time_at += 1
            exact = not self._exact or base + index.time_offsets[at] == header.last_offset
            if not (exact and index.times[at] == self._greatest) and not self._segment.damaged:
                self._wrong(
                    ".timeindex",
                    f"entry {at} says {index.times[at]} ms, greatest up to offset "
                    f"{base + index.time_offsets[at]} is {self._greatest}",
                )

    def _wrong(self, suffix: str, what: str) -> None:
        self._faults.append((suffix, what))
        self._index = None  # one is enough to throw it away

    def end(self) -> Iterator[Finding]:
        """Yield what is wrong, once all batches were shown."""
        index, segment = self._index, self._segment
        if index is not None and not segment.damaged:
            if self._at < len(index.positions):
                self._wrong(".index", f"entry {self._at} lies behind the last batch")
            elif self._time_at < len(index.times):
                self._wrong(".timeindex", f"entry {self._time_at} lies behind the last batch")
            elif self._needed and index.times and index.times[-1] != self._greatest:
                self._wrong(".timeindex", f"it ends with {index.times[-1]} ms, not {self._greatest}")
        for suffix, what in self._faults:
            yield Finding(
                Kind.WRONG,
                segment.path(suffix),
                what,
                "it is derived from the segment and is recreated",
                remove=tuple(map(segment.path, _INDEX_FILES)),
            )


class AbortedCheck:
    """.txnindex of one segment.

    Args:
        complete: every batch of its transactions can have been seen, so that entries must be equal.
    """

    def __init__(self, segment: Segment, *, complete: bool) -> None:
        self._segment = segment
        self._complete = complete
        self._fault = ""
        path = segment.path(".txnindex")
        data = segment.open_files.files.read_bytes(path)
        found = AbortedIndex() if data is None else AbortedIndex.decode(data, segment.base_offset)
        self._entries: dict[int, AbortedTransaction] = {}
        if found is None:
            self._fault = "it is no index of aborted transactions"
        else:
            self._entries = {one.last_offset: one for one in found}

    def marker(self, derived: AbortedTransaction | None, producer_id: int, offset: int, commit: bool) -> None:
        """Take a marker.

        Args:
            derived: what the entry has to be as far as the batches tell, if there has to be one.
        """
        entry = self._entries.pop(offset, None)
        if self._fault:
            return
        if entry is None:
            if derived is not None:
                self._fault = (
                    f"it lacks the transaction that producer {producer_id} aborted at offset {offset}"
                )
        elif commit or entry.producer_id != producer_id:
            self._fault = f"it says that producer {entry.producer_id} aborted at offset {offset}"
        elif derived is not None and (
            entry != derived if self._complete else entry.first_offset > derived.first_offset
        ):
            self._fault = (
                f"the transaction aborted at offset {offset} is said to begin at {entry.first_offset} and to "
                f"leave {entry.last_stable_offset} stable, not {derived.first_offset} and "
                f"{derived.last_stable_offset}"
            )

    def data(self, header: BatchHeader) -> None:
        """Take a batch that is no marker."""
        if self._entries and not self._fault:
            at = next(iter(self._entries))
            if header.base_offset <= at <= header.last_offset:
                self._fault = (
                    f"it says that a transaction was aborted at offset {at}, where there are records"
                )

    def end(self, *, needed: bool) -> Iterator[Finding]:
        """Yield what is wrong; without ``needed`` the file may be behind, as while it is appended to."""
        if not self._fault and self._complete and self._entries and not self._segment.damaged:
            self._fault = f"it says that a transaction was aborted at offset {next(iter(self._entries))}"
        if self._fault and needed:
            segment = self._segment
            yield Finding(
                Kind.WRONG,
                segment.path(".txnindex"),
                self._fault,
                "it is derived from the log and is recreated",
                remove=(segment.path(".index"), segment.path(".txnindex")),
            )
