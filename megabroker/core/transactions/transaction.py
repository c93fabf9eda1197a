"""What is known of one transactional id, as a value, and its row in the metadata store.

Owns the table ``transactions``: key the transactional id, value an object of the fields below, partitions as
``[topic, number]``. And the table ``transaction_offsets``, one row per offset that waits for the outcome: key
``["<transactional id>","<group>","<topic>",<partition>]``, value the fields of ``CommittedOffset``. Decides
nothing.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from megabroker.model import (
    NO_LEADER_EPOCH,
    NO_PRODUCER,
    NO_TIMESTAMP,
    Change,
    CommittedOffset,
    ProducerIdentity,
    TopicPartition,
)

__all__ = [
    "NO_EPOCH",
    "OFFSETS_TABLE",
    "TRANSACTIONS_TABLE",
    "Transaction",
    "TransactionState",
    "from_row",
    "offset_from_row",
    "offset_rows",
    "to_row",
]

TRANSACTIONS_TABLE = "transactions"
OFFSETS_TABLE = "transaction_offsets"
NO_EPOCH = -1


class TransactionState(enum.Enum):
    """Where a transactional id is; the values are Kafka's words."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"
    DEAD = "Dead"
    PREPARE_EPOCH_FENCE = "PrepareEpochFence"


@attrs.frozen
class Transaction:
    """One transactional id.

    Attributes:
        producer_id: -1 until the first identity is stored.
        last_epoch: the epoch before the present one, where a producer may come back with it.
        previous_producer_id: the producer id before the last change of it.
        next_producer_id: in a Prepare state, the id that follows because the epochs are used up, or -1.
        timeout_ms: how long a transaction may be open.
        partitions: of the transaction that is open or being ended.
        groups: whose offsets are part of it.
        start_time_ms: when the open transaction began, or -1.
        update_time_ms: of the last change.
        ended_by_bump: whether the last transaction's end raised the epoch and told its producer so; what
            was ended by fencing was not.
    """

    producer_id: int = NO_PRODUCER
    producer_epoch: int = NO_EPOCH
    last_epoch: int = NO_EPOCH
    previous_producer_id: int = NO_PRODUCER
    next_producer_id: int = NO_PRODUCER
    timeout_ms: int = 0
    state: TransactionState = TransactionState.EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    groups: frozenset[str] = frozenset()
    start_time_ms: int = NO_TIMESTAMP
    update_time_ms: int = NO_TIMESTAMP
    ended_by_bump: bool = False

    @property
    def identity(self) -> ProducerIdentity:
        """What the producer writes under, and after an end is to write under."""
        if self.next_producer_id != NO_PRODUCER:
            return ProducerIdentity(self.next_producer_id, 0)
        return ProducerIdentity(self.producer_id, self.producer_epoch)


_NUMBERS = (
    "producer_id",
    "producer_epoch",
    "last_epoch",
    "previous_producer_id",
    "next_producer_id",
    "timeout_ms",
    "start_time_ms",
    "update_time_ms",
)


def to_row(transaction: Transaction) -> dict[str, Any]:
    """Return the value to be stored."""
    row: dict[str, Any] = {name: getattr(transaction, name) for name in _NUMBERS}
    row["state"] = transaction.state.value
    row["partitions"] = sorted(transaction.partitions)
    row["groups"] = sorted(transaction.groups)
    row["ended_by_bump"] = transaction.ended_by_bump
    return row


def from_row(row: Mapping[str, Any]) -> Transaction:
    """Read a stored value.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none.
    """
    return Transaction(
        **{name: int(row[name]) for name in _NUMBERS},
        state=TransactionState(row["state"]),
        partitions=frozenset(TopicPartition(str(topic), int(index)) for topic, index in row["partitions"]),
        groups=frozenset(str(group) for group in row["groups"]),
        ended_by_bump=bool(row["ended_by_bump"]),
    )


def offset_rows(
    transactional_id: str,
    group_id: str,
    offsets: Mapping[TopicPartition, CommittedOffset] | Iterable[TopicPartition],
) -> list[Change]:
    """Return the changes that keep pending offsets; those that forget them, of partitions alone."""
    known = offsets if isinstance(offsets, Mapping) else None
    return [
        Change(
            OFFSETS_TABLE,
            json.dumps([transactional_id, group_id, *partition], separators=(",", ":")),
            None if known is None else known[partition]._asdict(),
        )
        for partition in offsets
    ]


def offset_from_row(key: str, value: Mapping[str, Any]) -> tuple[str, str, TopicPartition, CommittedOffset]:
    """Read a stored pending offset: transactional id, group, partition, offset.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none.
    """
    transactional_id, group_id, topic, index = json.loads(key)
    offset = CommittedOffset(
        int(value["offset"]),
        int(value.get("leader_epoch", NO_LEADER_EPOCH)),
        str(value.get("metadata", "")),
        int(value.get("commit_time_ms", NO_TIMESTAMP)),
        int(value.get("expire_time_ms", NO_TIMESTAMP)),
    )
    return str(transactional_id), str(group_id), TopicPartition(str(topic), int(index)), offset
