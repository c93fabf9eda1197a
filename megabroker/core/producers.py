"""Producers on one partition: what each last sent, whether the next batch fits, whose transaction is open.

Owns the table (producer id -> epoch, last five batches, open transaction) of one partition. Pure: takes
headers, markers and times, gives verdicts, never does I/O. The invariant: the table is exactly what
replaying the accepted batches in offset order would give, also after batches that were accepted but could
not be written are taken back. Entries are immutable, so taking back is putting the former entry in place
again.

Rules as in Kafka's ``ProducerAppendInfo`` (KIP-98, KIP-360, KIP-890):

- Five batches are remembered, an epoch may only grow, a new epoch starts at sequence 0, a producer without
  state may start anywhere (its state may have expired), and after sequence 2147483647 comes 0.
- Other than there, a batch of a transaction that has ended is no repeat any more. No producer sends one
  again, but librdkafka gives its sequence to one of the next transaction if it has not heard of its storing.
- The first transactional batch opens a transaction, a marker of the same or a newer epoch ends it and leaves
  the producer with the marker's epoch. Meanwhile the producer writes nothing outside of it.
- An open transaction is *undecided*; one whose marker not all consumers can see yet still counts as such for
  the first unstable offset, below which everything is decided for good.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from zope.interface import implementer

from megabroker.core.producer_room import PER_PARTITION, ProducerRoom
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IProducerState
from megabroker.model import (
    NO_PRODUCER,
    BatchHeader,
    ProducerDescription,
    ProducerIdentity,
    ProducerSnapshot,
    TransactionMarker,
)

__all__ = ["ALL_STABLE", "KEPT_BATCHES", "MAX_SEQUENCE", "ProducerTable"]

KEPT_BATCHES = 5
MAX_SEQUENCE = 2**31 - 1
ALL_STABLE = 2**63 - 1
"""The first unstable offset of a partition without undecided transactions."""

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


def _described(producer_id: int, entry: _Entry) -> ProducerDescription:
    return ProducerDescription(
        producer_id,
        entry.epoch,
        entry.batches[-1][1] if entry.batches else -1,
        entry.batches[-1][4] if entry.batches else entry.last_seen_ms,
        entry.coordinator_epoch,
        entry.transaction_first_offset,
    )


@implementer(IProducerState)
class ProducerTable:
    """Producer state of one partition.

    Args:
        max_producers: entries kept; beyond it the one that has been silent longest, and has no open
            transaction, is forgotten.
        room: what all tables together may have.

    Attributes:
        evicted: how many entries ``max_producers`` cost.
        unsettled: what ``settled`` has not been told of: (offset, producer id, what was known of it before).
        unstable: what ``first_unstable_offset`` returns, None while it has to look.
    """

    def __init__(self, max_producers: int = 100_000, room: ProducerRoom | None = None) -> None:
        self._max_producers = max_producers
        self._room = room or ProducerRoom()
        self._counted = 0  # entries that it knows of
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self.unsettled: deque[tuple[int, int, _Entry | None]] = deque()
        self._open: list[tuple[int, int]] = []  # (first offset, producer id), rising
        self._ended: deque[tuple[int, int]] = deque()  # (marker's offset, first offset), rising
        self.unstable: int | None = ALL_STABLE
        self.evicted = 0

    def __contains__(self, producer_id: int) -> bool:
        return producer_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, header: BatchHeader) -> Batch | None:
        """Judge a client's batch that carries a producer id.

        Returns:
            None for a batch to append; for a repeat of one of the last five, that batch as it was stored.
            Of transactions only what is in the open one can be repeated.

        Raises:
            RequestError: INVALID_RECORD for a header no idempotent producer sends.
            StateError: INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE, or INVALID_TXN_STATE for a batch
                outside of the transaction that its producer has open here.
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
            _check_transaction(header, entry)
            return None
        batches = entry.batches
        if not batches:
            if first_sequence:
                raise StateError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE,
                    f"producer {header.producer_id} sent sequence {first_sequence} instead of 0",
                )
            _check_transaction(header, entry)
            return None
        last_known = batches[-1][1]
        expected = 0 if last_known == MAX_SEQUENCE else last_known + 1
        if first_sequence == expected:
            if entry.transaction_first_offset >= 0:
                _check_transaction(header, entry)
            return None
        last_sequence = _last_sequence(header)
        least_offset = 0
        if header.attributes & _TRANSACTIONAL:
            open_offset = entry.transaction_first_offset
            least_offset = open_offset if open_offset >= 0 else ALL_STABLE
        for batch in reversed(batches):
            if batch[0] == first_sequence and batch[1] == last_sequence and batch[2] >= least_offset:
                return batch
        raise StateError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE,
            f"producer {header.producer_id} sent sequence {first_sequence}, expected {expected}",
        )

    def is_repeat(self, header: BatchHeader) -> bool:
        """Whether a client's batch is one that is here already; of a transaction, of the one that is open."""
        try:
            return self.check(header) is not None
        except BrokerError:
            return False

    def check_marker(self, marker: TransactionMarker) -> tuple[int, int]:
        """Judge the end of a producer's transaction.

        Returns:
            The first offset of the transaction it ends here and that of the earliest other one that is
            open; -1 where there is none.

        Raises:
            StateError: INVALID_PRODUCER_EPOCH when the producer has a newer epoch, NOT_COORDINATOR when a
                newer coordinator has ended a transaction of it.
        """
        first_offset = -1
        entry = self._entries.get(marker.producer_id)
        if entry is not None:
            if marker.producer_epoch < entry.epoch:
                raise StateError(
                    ErrorCode.INVALID_PRODUCER_EPOCH,
                    f"a marker of epoch {marker.producer_epoch} for producer {marker.producer_id}, "
                    f"but {entry.epoch} is in use",
                )
            if marker.coordinator_epoch < entry.coordinator_epoch:
                raise StateError(
                    ErrorCode.NOT_COORDINATOR,
                    f"a marker of coordinator epoch {marker.coordinator_epoch} after one of "
                    f"{entry.coordinator_epoch}",
                )
            first_offset = entry.transaction_first_offset
        for other_offset, producer_id in self._open:
            if producer_id != marker.producer_id:
                return first_offset, other_offset
        return first_offset, -1

    def accepted(self, header: BatchHeader, base_offset: int, now_ms: int) -> None:
        """Take note of a batch the log accepted at ``base_offset``; it can still be rolled back."""
        producer_id = header.producer_id
        self.unsettled.append((base_offset, producer_id, self._entries.get(producer_id)))
        self._add(header, base_offset, now_ms)
        if len(self._entries) != self._counted:
            self._count(now_ms)

    def ended(self, marker: TransactionMarker, offset: int, now_ms: int) -> None:
        """Take note of a marker the log accepted at ``offset``; it can still be rolled back."""
        former = self._entries.get(marker.producer_id)
        self.unsettled.append((offset, marker.producer_id, former))
        if former is not None and former.transaction_first_offset >= 0:
            self._ended.append((offset, former.transaction_first_offset))
        self._end(marker, now_ms)
        if len(self._entries) != self._counted:
            self._count(now_ms)

    def settled(self, offset: int) -> None:
        """Everything below ``offset`` is in the log for good: ``rollback`` will not go below it."""
        undo = self.unsettled
        while undo and undo[0][0] < offset:
            undo.popleft()
        ended = self._ended
        while ended and ended[0][0] < offset:
            ended.popleft()
            self.unstable = None

    def rollback(self, offset: int) -> None:
        """Forget every accepted batch from ``offset`` on, as if it had never come."""
        undo, entries = self.unsettled, self._entries
        while undo and undo[-1][0] >= offset:
            _, producer_id, former = undo.pop()
            current = entries.get(producer_id)
            now_open = -1 if current is None else current.transaction_first_offset
            was_open = -1 if former is None else former.transaction_first_offset
            if now_open != was_open:
                self._close_transaction(now_open, producer_id)
                self._open_transaction(was_open, producer_id)
            if former is None:
                entries.pop(producer_id, None)
            else:
                entries[producer_id] = former
        while self._ended and self._ended[-1][0] >= offset:
            self._ended.pop()
            self.unstable = None

    def first_unstable_offset(self) -> int:
        """Return where the earliest transaction begins that is undecided, or was at the last ``settled``."""
        found = self.unstable
        if found is None:
            found = min((first for _, first in self._ended), default=ALL_STABLE)
            if self._open:
                found = min(found, self._open[0][0])
            self.unstable = found
        return found

    def open_transactions(self) -> list[ProducerIdentity]:
        """Return the producers with an open transaction, the earliest first."""
        return [ProducerIdentity(one, self._entries[one].epoch) for _, one in self._open]

    def describe(self) -> list[ProducerDescription]:
        """Return what is known of every producer, longest silent first."""
        return [_described(*item) for item in self._entries.items()]

    def describe_one(self, producer_id: int) -> ProducerDescription | None:
        """Return what is known of one producer, if anything is."""
        entry = self._entries.get(producer_id)
        return None if entry is None else _described(producer_id, entry)

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
        if len(entries) != self._counted:
            self._count(now_ms)
        return len(silent)

    def leave(self) -> None:
        """Take no part in what all tables together may have any more."""
        self._room.left(self)
        self._counted = 0

    def replay(self, header: BatchHeader, marker: TransactionMarker | None = None) -> None:
        """Take note of a batch found in the log during recovery, in offset order.

        Args:
            marker: what a control batch says; without, it says nothing, as one that was cleaned out.
        """
        if header.attributes & _CONTROL:
            if marker is not None:
                self._end(marker, _NEVER_SEEN)
        elif header.producer_id > NO_PRODUCER:
            self._add(header, header.base_offset, _NEVER_SEEN)

    def restore(self, snapshot: Sequence[ProducerSnapshot]) -> None:
        """Begin from a stored snapshot; what was known before is forgotten."""
        self.unsettled.clear()
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
        self._ended.clear()
        self._open = sorted(
            (one.transaction_first_offset, one.producer_id)
            for one in snapshot
            if one.transaction_first_offset >= 0
        )
        self.unstable = None

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
        entries = self._entries
        entry = entries.get(producer_id)
        batches: tuple[Batch, ...] = ()
        transaction = coordinator_epoch = -1
        if entry is not None:
            transaction = entry.transaction_first_offset
            coordinator_epoch = entry.coordinator_epoch
            if entry.epoch == epoch:
                batches = entry.batches
        batch = (
            header.base_sequence,
            _last_sequence(header),
            base_offset,
            base_offset + header.last_offset_delta,
            header.max_timestamp,
        )
        if transaction < 0 and header.attributes & _TRANSACTIONAL:
            transaction = base_offset
            self._open_transaction(base_offset, producer_id)
        entries[producer_id] = _Entry(
            epoch, (*batches[1 - KEPT_BATCHES :], batch), seen_ms, transaction, coordinator_epoch
        )
        entries.move_to_end(producer_id)

    def _end(self, marker: TransactionMarker, seen_ms: int) -> None:
        producer_id, epoch = marker.producer_id, marker.producer_epoch
        entry = self._entries.get(producer_id)
        batches: tuple[Batch, ...] = ()
        if entry is not None:
            self._close_transaction(entry.transaction_first_offset, producer_id)
            if entry.epoch == epoch:
                batches = entry.batches
        self._entries[producer_id] = _Entry(epoch, batches, seen_ms, -1, marker.coordinator_epoch)
        self._entries.move_to_end(producer_id)

    def _open_transaction(self, first_offset: int, producer_id: int) -> None:
        if first_offset >= 0:
            insort(self._open, (first_offset, producer_id))
            self.unstable = None

    def _close_transaction(self, first_offset: int, producer_id: int) -> None:
        if first_offset >= 0:
            at = bisect_left(self._open, (first_offset, producer_id))
            del self._open[at : at + 1]
            self.unstable = None

    def longest_silent_ms(self) -> int | None:
        """Return when the longest silent producer was heard of, -1 if it was not yet; None if none may go.

        Those with open transactions count as just heard of.
        """
        entries = self._entries
        for _ in range(len(entries)):
            producer_id, entry = next(iter(entries.items()))
            if entry.transaction_first_offset < 0:
                return entry.last_seen_ms
            entries.move_to_end(producer_id)
        return None

    def forget_longest_silent(self) -> None:
        """Forget the producer that ``longest_silent_ms`` has just told of."""
        self._entries.popitem(last=False)
        self._counted = len(self._entries)

    def _count(self, now_ms: int) -> None:
        """Forget whoever is one too many, here or in all tables together."""
        while len(self._entries) > self._max_producers and (seen_ms := self.longest_silent_ms()) is not None:
            self.forget_longest_silent()
            self.evicted += 1
            silent_ms = None if seen_ms == _NEVER_SEEN else now_ms - seen_ms
            self._room.forgot(PER_PARTITION, 1, silent_ms)
        self._counted = len(self._entries)
        self._room.counted(self, now_ms)


def _check_transaction(header: BatchHeader, entry: _Entry) -> None:
    """Refuse a plain batch of a producer that has a transaction open."""
    if entry.transaction_first_offset >= 0 and not header.attributes & _TRANSACTIONAL:
        raise StateError(
            ErrorCode.INVALID_TXN_STATE,
            f"producer {header.producer_id} sent a batch outside of the transaction it began at offset "
            f"{entry.transaction_first_offset}",
        )


def _last_sequence(header: BatchHeader) -> int:
    last = header.base_sequence + header.last_offset_delta
    return last if last <= MAX_SEQUENCE else last - MAX_SEQUENCE - 1
