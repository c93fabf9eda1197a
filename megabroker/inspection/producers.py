"""Producers' state as the batches of a log tell it, and whether its snapshots say the same.

Owns the replay. After a hole that compaction left, or damage, the state is no longer exactly what the batches
tell (``complete``), and a snapshot is only checked for being one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from megabroker.core.producers import ProducerTable
from megabroker.inspection.findings import Finding, Kind
from megabroker.model import (
    AbortedTransaction,
    BatchHeader,
    ProducerSnapshot,
    TransactionMarker,
)
from megabroker.storage.checkpoints import decode_snapshot, encode_snapshot
from megabroker.storage.segment import file_name

__all__ = ["ProducerCheck"]


class ProducerCheck:
    """Use once, for one log.

    Args:
        read: returns what is in a snapshot's file, by its name.
        path_of: returns where a file is, by its name.
        offsets: of the snapshots there are, rising.
        base: the log's first offset.
        exact: whether our own broker wrote them; what Kafka remembers of a producer differs in small things.

    Attributes:
        complete: whether every batch was seen since the state was complete.
        findings: what is wrong.
    """

    def __init__(
        self,
        read: Callable[[str], bytes | None],
        path_of: Callable[[str], str],
        offsets: Sequence[int],
        base: int,
        *,
        exact: bool,
    ) -> None:
        self.findings: list[Finding] = []
        self._read = read
        self._path_of = path_of
        self._base = base
        self._exact = exact
        self._table = ProducerTable()
        self._open: dict[int, int] = {}  # producer id -> first offset of its open transaction, rising
        before = [offset for offset in offsets if offset <= base]
        for offset in reversed(before):
            state = self._snapshot(offset)
            if state is not None:
                self._table.restore(state)
                rows = sorted((one.transaction_first_offset, one.producer_id) for one in state)
                self._open = {producer_id: first for first, producer_id in rows if first >= 0}
                break
        self.complete = base == 0 or base in before
        self._coming = [offset for offset in offsets if offset > base]

    def come_to(self, offset: int) -> None:
        """Everything below ``offset`` was seen: compare the snapshots up to there."""
        while self._coming and self._coming[0] <= offset:
            self._compare(self._coming.pop(0))

    def data(self, header: BatchHeader) -> None:
        """Take a batch that is no marker."""
        self._table.replay(header)
        if header.is_transactional:
            self._open.setdefault(header.producer_id, header.base_offset)

    def marker(self, header: BatchHeader, marker: TransactionMarker | None) -> AbortedTransaction | None:
        """Take a marker; return the transaction it aborts, as far as the batches tell."""
        self._table.replay(header, marker)
        if marker is None:
            return None
        first = self._open.pop(header.producer_id, -1)
        if first < 0 or marker.commit:
            return None
        stable = next(iter(self._open.values()), header.next_offset)
        return AbortedTransaction(marker.producer_id, first, header.base_offset, stable)

    def end(self, offset: int) -> list[Finding]:
        """Return what is wrong; the log ends at ``offset``."""
        self.come_to(offset)
        for one in self._coming:
            self._wrong(one, f"it is of offset {one}, the log ends at {offset}")
        return self.findings

    def _snapshot(self, offset: int) -> tuple[ProducerSnapshot, ...] | None:
        found = decode_snapshot(self._read(file_name(offset, ".snapshot")))
        if found is None:
            self._wrong(offset, "it is no snapshot, or fails its CRC")
        return found

    def _wrong(self, offset: int, what: str) -> None:
        path = self._path_of(file_name(offset, ".snapshot"))
        right = "it is derived from the log and is recreated"
        self.findings.append(Finding(Kind.WRONG, path, what, right, remove=(path,)))

    def _compare(self, offset: int) -> None:
        found = self._snapshot(offset)
        if found is None or not self.complete:
            return
        state = decode_snapshot(encode_snapshot(self._table.snapshot(), offset)) or ()
        derived = {one.producer_id: one for one in state}
        for one in found:
            right = derived.pop(one.producer_id, None)
            if self._exact and right != one and (right is not None or not self._is_older(one)):
                self._wrong(
                    offset,
                    f"it says of producer {one.producer_id}: {_told(one)}; the log says: {_told(right)}",
                )
                return
        for one in derived.values():  # the others may have been silent for too long
            if one.transaction_first_offset >= 0:
                self._wrong(offset, f"it lacks producer {one.producer_id}, whose transaction is open")
                return

    def _is_older(self, one: ProducerSnapshot) -> bool:
        """Whether what is said of a producer was in segments that are gone."""
        return bool(one.batches) and one.batches[-1][2] < self._base


def _told(one: ProducerSnapshot | None) -> str:
    if one is None:
        return "nothing"
    last = f"last sequence {one.batches[-1][1]} at offset {one.batches[-1][3]}" if one.batches else "no batch"
    return (
        f"epoch {one.producer_epoch}, {last}, transaction from {one.transaction_first_offset}, "
        f"coordinator epoch {one.coordinator_epoch}"
    )
