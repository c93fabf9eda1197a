"""Transactional ids, from the records of ``__transaction_state``.

Owns what a record means there, and what becomes of it: an open transaction is aborted under a higher epoch,
as if its time had been up, so that whoever had it open is fenced; a decided one is carried out; ids and
epochs go on. Pure: takes batches.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from megabroker.core.transactions import automaton
from megabroker.core.transactions.transaction import Transaction, TransactionState
from megabroker.errors import ProtocolError
from megabroker.kafkadir.batches import Batch, damaged, records_of
from megabroker.kafkadir.coordinator_records import TransactionValue, read_transaction_key, read_value
from megabroker.model import NO_PRODUCER, TopicPartition

__all__ = ["GROUPS_TOPIC", "Transactions"]

GROUPS_TOPIC: Final = "__consumer_offsets"

_STATES: Final = {
    0: TransactionState.EMPTY,
    1: TransactionState.ONGOING,
    2: TransactionState.PREPARE_COMMIT,
    3: TransactionState.PREPARE_ABORT,
    4: TransactionState.COMPLETE_COMMIT,
    5: TransactionState.COMPLETE_ABORT,
}
"""By Kafka's numbers. Dead (6) is on its way out, and 7 is never written."""
_ENDED: Final = automaton.PREPARE | automaton.COMPLETE
_BUMPING_VERSION: Final = 2


@attrs.define
class Transactions:
    """What the records read so far say; by transactional id."""

    known: dict[str, Transaction] = attrs.field(factory=dict)

    def read(self, batches: Iterable[Batch], where: pathlib.Path) -> None:
        """Take the batches of one partition of the topic into account. Raises StorageError."""
        for batch in batches:
            for record in records_of(batch, where):
                try:
                    self._apply(record.key, record.value)
                except ProtocolError as error:
                    raise damaged(where, record.offset, error) from error

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        transactional_id = read_transaction_key(key or b"")
        if transactional_id is None:
            return
        found = None if value is None else read_value(TransactionValue, value)
        if found is None or found.transaction_status not in _STATES:
            self.known.pop(transactional_id, None)
        else:
            self.known[transactional_id] = _transaction(found)

    @property
    def open(self) -> list[str]:
        """The transactional ids with an open transaction."""
        return sorted(name for name, one in self.known.items() if one.state is TransactionState.ONGOING)

    @property
    def committing(self) -> list[int]:
        """The producer ids whose transaction is decided to commit and not yet carried out everywhere."""
        committed = TransactionState.PREPARE_COMMIT
        return [one.producer_id for one in self.known.values() if one.state is committed]

    @property
    def highest_producer_id(self) -> int:
        """The highest producer id that is known, -1 without any."""
        ids = [max(one.producer_id, one.next_producer_id) for one in self.known.values()]
        return max(ids, default=NO_PRODUCER)

    def settled(self, exists: Callable[[TopicPartition], bool], now_ms: int) -> dict[str, Transaction]:
        """Return every id as it goes on: nothing is open any more.

        Args:
            exists: whether a partition is there, and so can take a marker.
        """
        return {name: _settle(one, exists, now_ms) for name, one in self.known.items()}


def _transaction(value: TransactionValue) -> Transaction:
    state = _STATES[value.transaction_status]
    return Transaction(
        producer_id=value.producer_id,
        producer_epoch=value.producer_epoch,
        previous_producer_id=value.previous_producer_id,
        next_producer_id=value.next_producer_id if state in automaton.PREPARE else NO_PRODUCER,
        timeout_ms=value.transaction_timeout_ms,
        state=state,
        partitions=frozenset(
            TopicPartition(one.topic, index)
            for one in value.transaction_partitions or ()
            for index in one.partition_ids
        ),
        start_time_ms=value.start_timestamp_ms,
        update_time_ms=value.last_update_timestamp_ms,
        ended_by_bump=state in _ENDED and value.client_transaction_version >= _BUMPING_VERSION,
    )


def _fenceable(one: Transaction) -> Transaction:
    """No producer has the last epoch; if a damaged record says so there is no higher one to fence it with."""
    return attrs.evolve(one, producer_epoch=min(one.producer_epoch, automaton.LAST_EPOCH - 1))


def _settle(one: Transaction, exists: Callable[[TopicPartition], bool], now_ms: int) -> Transaction:
    one = attrs.evolve(one, partitions=frozenset(filter(exists, one.partitions)))
    if one.state is TransactionState.ONGOING:
        return automaton.fence(_fenceable(one), None, now_ms)
    if one.state in automaton.PREPARE and not one.partitions:
        return automaton.complete(one, now_ms)
    return one
