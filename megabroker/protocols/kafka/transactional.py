"""Asking the coordinator whether batches of a transaction may be stored, and telling a producer why not.

Owns the step that both ways of a Produce request go: the general one and the template. ``admit`` is asked
once each time a batch is offered: the coordinator may forget a failure that it has told.
"""

from __future__ import annotations

from megabroker.codec.batch import BatchError, read_header
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import BatchHeader, Buffer, ProducerIdentity
from megabroker.net.wire import Room

__all__ = ["FIRST_IMPLICIT", "admit", "check_beginning"]

_FIRST_ABORTABLE = 11
FIRST_IMPLICIT = 12
"""The version of Produce from which on a partition is added by writing to it (KIP-890)."""

_TRANSACTIONAL = 16
_LATER = frozenset(
    {
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.COORDINATOR_LOADING,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.UNREACHABLE,
    }
)
"""What a retry helps with."""


def admit(
    broker: IBroker,
    transactional_id: str | None,
    identity: ProducerIdentity,
    partition: IPartition,
    batch: Buffer,
    version: int,
) -> Room | None:
    """Ask whether a transactional batch may be stored; return what to wait for, if anything.

    A batch that the open transaction already has needs no admission if the coordinator cannot tell now, as
    after a crash: its producer may end the transaction without having heard that it is stored, and use its
    sequences again.

    Raises:
        StateError: it may not; the code is one that producers know from Produce.
    """
    if not transactional_id:
        raise StateError(ErrorCode.INVALID_TXN_STATE, "a transactional batch without a transactional id")
    try:
        return broker.transactions.admit(
            transactional_id, identity, partition.topic_partition, implicit=version >= FIRST_IMPLICIT
        )
    except BrokerError as error:
        if error.code in _LATER and _is_repeat(partition, batch):
            return None
        code = _as_produce_error(error.code, version)
        raise StateError(code, error.message, retriable=error.retriable) from None


def check_beginning(partition: IPartition, header: BatchHeader, version: int) -> None:
    """Refuse a batch that cannot be the first of its producer here.

    With KIP-890 every transaction has an epoch of its own, in which sequences begin at 0: if nothing is known
    of the producer, a batch with another is one whose predecessors were refused, and would be taken for the
    beginning.

    Raises:
        StateError: OUT_OF_ORDER_SEQUENCE.
    """
    if (
        header.base_sequence
        and version >= FIRST_IMPLICIT
        and header.attributes & _TRANSACTIONAL
        and not partition.remembers(header.producer_id)
    ):
        raise StateError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE,
            f"producer {header.producer_id} began with sequence {header.base_sequence} instead of 0",
        )


def _is_repeat(partition: IPartition, batch: Buffer) -> bool:
    try:
        return partition.is_repeat(read_header(batch, 0, len(batch)))
    except BatchError:
        return False


def _as_produce_error(code: ErrorCode, version: int) -> ErrorCode:
    """Return what a producer is told; as Kafka, whose clients end in a fatal state after the wrong one.

    Kafka says NOT_ENOUGH_REPLICAS where a retry helps, for the sake of old clients, which retry it without
    asking for metadata anew; they treat a time-out in the same way.
    """
    if code is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if code in _LATER:
        return ErrorCode.TIMED_OUT
    if code in (ErrorCode.INVALID_TXN_STATE, ErrorCode.TRANSACTION_ABORTABLE):
        return ErrorCode.TRANSACTION_ABORTABLE if version >= _FIRST_ABORTABLE else ErrorCode.INVALID_TXN_STATE
    return code
