"""Idempotent producers and transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

from megabroker.model.topics import TopicPartition

__all__ = [
    "NAMED_PRODUCERS",
    "AbortedTransaction",
    "ProducerDescription",
    "ProducerIdentity",
    "ProducerSnapshot",
    "TransactionDescription",
    "TransactionMarker",
]

NAMED_PRODUCERS = 1 << 62
"""Producer ids from here on are never handed out: they are hashes of what producers call themselves."""


class AbortedTransaction(NamedTuple):
    """A transaction whose records in one partition are not to be read by read_committed consumers.

    Attributes:
        last_offset: of its marker.
        last_stable_offset: the partition's, once the marker was written.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class TransactionMarker(NamedTuple):
    """The end of a producer's transaction in one partition: what a control batch says."""

    producer_id: int
    producer_epoch: int
    commit: bool
    coordinator_epoch: int


class ProducerDescription(NamedTuple):
    """An idempotent producer as one partition knows it; -1 where there is nothing to say."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int
    coordinator_epoch: int
    transaction_first_offset: int


class ProducerIdentity(NamedTuple):
    """What an idempotent or transactional producer writes under."""

    producer_id: int
    producer_epoch: int


@attrs.frozen
class TransactionDescription:
    """A transactional id as an administrator sees it; ``state`` is Kafka's word."""

    transactional_id: str
    state: str
    timeout_ms: int
    producer_id: int
    producer_epoch: int
    start_time_ms: int = -1
    partitions: Sequence[TopicPartition] = ()


class ProducerSnapshot(NamedTuple):
    """Last known state of one idempotent producer on one partition.

    Attributes:
        batches: (first sequence, last sequence, base offset, last offset, max timestamp) of up to five
            last batches, oldest first.
        transaction_first_offset: where its open transaction began, or -1.
    """

    producer_id: int
    producer_epoch: int
    batches: tuple[tuple[int, int, int, int, int], ...]
    transaction_first_offset: int = -1
    coordinator_epoch: int = -1
