"""Transactions and the identities of producers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import (
    CommittedOffset,
    ProducerIdentity,
    TopicPartition,
    TransactionDescription,
    TransactionMarker,
)

__all__ = ["ITransactionPeers", "ITransactionService"]


class ITransactionService(Interface):
    """Transactions of the producers whose transactional ids this node coordinates, and producer ids.

    A failed Deferred carries a BrokerError: INVALID_TXN_STATE, PRODUCER_FENCED, INVALID_PRODUCER_EPOCH,
    INVALID_PRODUCER_ID, CONCURRENT_TRANSACTIONS, INVALID_TXN_TIMEOUT, COORDINATOR_LOADING among them.
    """

    coordinator_epoch: int = Attribute("What every transaction marker made here carries.")
    marker_generation: int = Attribute(
        "The highest generation of another process's requests with markers that was carried out here."
    )

    def init_producer(
        transactional_id: str | None, timeout_ms: int, known: ProducerIdentity | None
    ) -> Deferred[ProducerIdentity]:
        """Give a producer its identity, fence those before it and abort what they left open.

        Args:
            known: what the producer believes it is, to be continued with a higher epoch (KIP-360).
        """

    def add_partitions(
        transactional_id: str,
        identity: ProducerIdentity,
        partitions: Sequence[TopicPartition],
        *,
        verify_only: bool = False,
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Add partitions to the open transaction, beginning it; fires when that is stored."""

    def admit(
        transactional_id: str, identity: ProducerIdentity, partition: TopicPartition, *, implicit: bool
    ) -> Any | None:
        """Ask whether transactional batches may be appended now (KIP-890).

        Args:
            implicit: whether the partition is to be added if it is not part of the transaction yet.

        Returns:
            None when they may; else something with ``when_room(callback)`` that says when to ask again.

        Raises:
            StateError: they may not.
        """

    def add_offsets(transactional_id: str, identity: ProducerIdentity, group_id: str) -> Deferred[None]:
        """Make a group's offsets part of the open transaction."""

    def commit_offsets(
        transactional_id: str,
        identity: ProducerIdentity,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        implicit: bool = False,
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Keep offsets to be committed with the transaction; fires when they are stored."""

    def end(
        transactional_id: str, identity: ProducerIdentity, commit: bool, *, bump_epoch: bool
    ) -> Deferred[ProducerIdentity]:
        """Commit or abort; fires when the outcome is certain, with the identity to go on with."""

    def abort(transactional_id: str) -> Deferred[None]:
        """Abort an open transaction for its producer, which is fenced; fires when that is certain.

        Fails with INVALID_TXN_STATE where none is open, and with TRANSACTIONAL_ID_NOT_FOUND.
        """

    def ending(partition: TopicPartition, producer_id: int) -> None:
        """Take note that a marker for a producer is about to be appended to a partition led here."""

    def unexplained(
        open_transactions: Sequence[tuple[TopicPartition, ProducerIdentity]],
    ) -> Sequence[tuple[TopicPartition, ProducerIdentity]]:
        """Return which of what is open in partitions is part of no transaction; nobody will end it.

        Raises:
            StateError: NOT_COORDINATOR.
        """

    def describe(transactional_id: str) -> TransactionDescription | None:
        """Describe one transactional id, or None."""

    def all() -> Sequence[TransactionDescription]:
        """Describe every transactional id."""


class ITransactionPeers(Interface):
    """What transactions need of the other processes of this broker: their coordinator, or their leaders."""

    def add_partitions(
        transactional_id: str,
        identity: ProducerIdentity,
        partitions: Sequence[TopicPartition],
        *,
        verify_only: bool,
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Ask the coordinator; see ``ITransactionService.add_partitions``. Fails with BrokerError."""

    def unexplained(
        open_transactions: Sequence[tuple[TopicPartition, ProducerIdentity]],
    ) -> Deferred[Sequence[tuple[TopicPartition, ProducerIdentity]]]:
        """Ask the coordinator which of these are part of no transaction. Fails with BrokerError."""

    def write_marker(
        marker: TransactionMarker,
        partition: TopicPartition,
        done: Callable[[BrokerError | None], None],
    ) -> None:
        """Have the leader of a partition end a transaction there.

        ``done`` is called once, not at once: None when the marker is durable; the leader's own refusal; or
        PeerError when it did not answer. The marker may then be written, and must be asked for again; no
        earlier asking takes effect after a later one was answered.
        """
