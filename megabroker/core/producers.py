"""Idempotent producers on one partition: what each last sent, and whether the next batch fits.

Owns the table (producer id -> epoch, last five batches) of one partition. Pure: takes headers and times,
gives verdicts, never does I/O. The invariant: the table is exactly what replaying the accepted batches in
offset order would give, also after batches that were accepted but could not be written are taken back.
Entries are immutable, so taking back is putting the former entry in place again.

Rules as in Kafka's ``ProducerAppendInfo.checkSequence`` (KIP-98, KIP-360): five batches are remembered, an
epoch may only grow, a new epoch starts at sequence 0, a producer without state may start anywhere (its
state may have expired), and after sequence 2147483647 comes 0.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from zope.interface import implementer

from megabroker.errors import ErrorCode, RequestError, StateError
from megabroker.interfaces import IProducerState
from megabroker.model import NO_PRODUCER, BatchHeader, ProducerSnapshot

__all__ = ["KEPT_BATCHES", "MAX_SEQUENCE", "ProducerTable"]

KEPT_BATCHES = 5
MAX_SEQUENCE = 2**31 - 1

_NEVER_SEEN = -1
_TRANSACTIONAL = 16
_CONTROL = 32

Batch = tuple[int, int, int, int, int]
"""(first sequence, last sequence, base offset, last offset, max timestamp)"""


class _Entry(NamedTuple):
    """One producer's state; ``last_seen_ms`` is -1 until a batch or a sweep dates it."""

    epoch: int
    batches: tuple[Batch, ...]
    last_seen_ms: int
    transaction_first_offset: int = -1
    coordinator_epoch: int = -1


@implementer(IProducerState)
class ProducerTable:
    """Producer state of one partition.

    Args:
        max_producers: entries kept; beyond it the one that has been silent longest is forgotten.

    Attributes:
        evicted: how many entries ``max_producers`` cost.
    """

    def __init__(self, max_producers: int = 100_000) -> None:
        self._max_producers = max_producers
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._undo: deque[tuple[int, int, _Entry | None]] = deque()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, header: BatchHeader) -> Batch | None:
        """Judge a client's batch that carries a producer id.

        Returns:
            None for a batch to append; for a repeat of one of the last five, that batch as it was stored.

        Raises:
            RequestError: INVALID_RECORD for a header no idempotent producer sends.
            StateError: INVALID_PRODUCER_EPOCH or OUT_OF_ORDER_SEQUENCE.
        """
        first_sequence = header.base_sequence
        epoch = header.producer_epoch
        if first_sequence < 0 or epoch < 0:
            raise RequestError(
                ErrorCode.INVALID_RECORD,
                f"producer {header.producer_id} sent epoch {epoch} and sequence {first_sequence}: "
                "an idempotent batch needs both",
            )
        entry = self._entries.get(header.producer_id)
        if entry is None:
            return None
        if epoch != entry.epoch:
            if epoch < entry.epoch:
                raise StateError(
                    ErrorCode.INVALID_PRODUCER_EPOCH,
                    f"producer {header.producer_id} sent epoch {epoch}, but {entry.epoch} is in use",
                )
            if first_sequence:
                raise StateError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE,
                    f"producer {header.producer_id} began epoch {epoch} with sequence {first_sequence} "
                    "instead of 0",
                )
            return None
        batches = entry.batches
        if not batches:
            if first_sequence:
                raise StateError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE,
                    f"producer {header.producer_id} sent sequence {first_sequence} instead of 0",
                )
            return None
        last_known = batches[-1][1]
        expected = 0 if last_known == MAX_SEQUENCE else last_known + 1
        if first_sequence == expected:
            return None
        last_sequence = _last_sequence(header)
        for batch in reversed(batches):
            if batch[0] == first_sequence and batch[1] == last_sequence:
                return batch
        raise StateError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE,
            f"producer {header.producer_id} sent sequence {first_sequence}, expected {expected}",
        )

    def accepted(self, header: BatchHeader, base_offset: int, now_ms: int) -> None:
        """Take note of a batch the log accepted at ``base_offset``; it can still be rolled back."""
        producer_id = header.producer_id
        self._undo.append((base_offset, producer_id, self._entries.get(producer_id)))
        self._add(header, base_offset, now_ms)
        if len(self._entries) > self._max_producers:
            self._entries.popitem(last=False)
            self.evicted += 1

    def settled(self, offset: int) -> None:
        """Everything below ``offset`` is in the log for good: ``rollback`` will not go below it."""
        undo = self._undo
        while undo and undo[0][0] < offset:
            undo.popleft()

    def rollback(self, offset: int) -> None:
        """Forget every accepted batch from ``offset`` on, as if it had never come."""
        undo = self._undo
        while undo and undo[-1][0] >= offset:
            _, producer_id, former = undo.pop()
            if former is None:
                self._entries.pop(producer_id, None)
            else:
                self._entries[producer_id] = former

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers silent for ``expiration_ms``, open transactions excepted; return how many.

        An entry from a snapshot or the log is dated by the first sweep after it: batch timestamps are the
        client's and may be years old.
        """
        entries = self._entries
        limit_ms = now_ms - expiration_ms
        silent = []
        for producer_id, entry in entries.items():
            if entry.last_seen_ms == _NEVER_SEEN:
                entries[producer_id] = entry._replace(last_seen_ms=now_ms)
            elif entry.last_seen_ms <= limit_ms and entry.transaction_first_offset < 0:
                silent.append(producer_id)
        for producer_id in silent:
            del entries[producer_id]
        return len(silent)

    def replay(self, header: BatchHeader) -> None:
        """Take note of a batch found in the log during recovery, in offset order."""
        if header.producer_id > NO_PRODUCER:
            self._add(header, header.base_offset, _NEVER_SEEN)

    def restore(self, snapshot: Sequence[ProducerSnapshot]) -> None:
        """Begin from a stored snapshot; what was known before is forgotten."""
        self._undo.clear()
        self._entries = OrderedDict(
            (
                one.producer_id,
                _Entry(
                    one.producer_epoch,
                    tuple(one.batches)[-KEPT_BATCHES:],
                    _NEVER_SEEN,
                    one.transaction_first_offset,
                    one.coordinator_epoch,
                ),
            )
            for one in snapshot
        )

    def snapshot(self) -> Sequence[ProducerSnapshot]:
        """Return the state after the last accepted batch, longest silent producer first."""
        return [
            ProducerSnapshot(
                producer_id,
                entry.epoch,
                entry.batches,
                entry.transaction_first_offset,
                entry.coordinator_epoch,
            )
            for producer_id, entry in self._entries.items()
        ]

    def _add(self, header: BatchHeader, base_offset: int, seen_ms: int) -> None:
        producer_id = header.producer_id
        epoch = header.producer_epoch
        attributes = header.attributes
        entries = self._entries
        entry = entries.get(producer_id)
        batches: tuple[Batch, ...] = ()
        transaction = coordinator_epoch = -1
        if entry is not None:
            transaction = entry.transaction_first_offset
            coordinator_epoch = entry.coordinator_epoch
            if entry.epoch == epoch:
                batches = entry.batches
        if attributes & _CONTROL:
            transaction = -1
        else:
            batch = (
                header.base_sequence,
                _last_sequence(header),
                base_offset,
                base_offset + header.last_offset_delta,
                header.max_timestamp,
            )
            batches = (*batches[1 - KEPT_BATCHES :], batch)
            if transaction < 0 and attributes & _TRANSACTIONAL:
                transaction = base_offset
        entries[producer_id] = _Entry(epoch, batches, seen_ms, transaction, coordinator_epoch)
        entries.move_to_end(producer_id)


def _last_sequence(header: BatchHeader) -> int:
    last = header.base_sequence + header.last_offset_delta
    return last if last <= MAX_SEQUENCE else last - MAX_SEQUENCE - 1
