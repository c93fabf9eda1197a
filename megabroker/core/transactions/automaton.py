"""The rules of transactions: from what is known of a transactional id and a request to what is next.

Pure: takes a ``Transaction``, returns the one to be stored, the same object when nothing changes, or raises
why not. Never does I/O and knows no time but what it is told.

    Empty, Complete*  --add-->  Ongoing  --end-->  Prepare*  --complete-->  Complete*  --initialise-->  Empty

A transaction without partitions has no markers to wait for and goes from Ongoing to Complete* at once.
Invariants: an epoch given out never comes back under the same producer id; a decision, once made, is the
only one of its transaction. Sources: KIP-98, KIP-360, KIP-447, KIP-890.
"""

from __future__ import annotations

from collections.abc import Set

import attrs

from megabroker.core.transactions.errors import refusal
from megabroker.core.transactions.transaction import NO_EPOCH, Transaction, TransactionState
from megabroker.errors import ErrorCode
from megabroker.model import NO_PRODUCER, NO_TIMESTAMP, ProducerIdentity, TopicPartition

__all__ = [
    "COMPLETE",
    "LAST_EPOCH",
    "PREPARE",
    "add",
    "check_identity",
    "check_known",
    "check_offsets_of",
    "complete",
    "end",
    "fence",
    "initialise",
    "is_exhausted",
    "is_expired",
    "is_overdue",
    "verify",
]

LAST_EPOCH = 32_767
"""Only ever a marker's: what a producer is given stays below, so that it can always be fenced."""

PREPARE = frozenset({TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT})
COMPLETE = frozenset({TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT})

_COMMITTED = frozenset({TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT})
_COMPLETED = {
    TransactionState.PREPARE_COMMIT: TransactionState.COMPLETE_COMMIT,
    TransactionState.PREPARE_ABORT: TransactionState.COMPLETE_ABORT,
}


def is_exhausted(epoch: int) -> bool:
    """Whether a producer with this epoch cannot be given a higher one."""
    return epoch >= LAST_EPOCH - 1


# --- who is asking ---------------------------------------------------------------------------------


def check_identity(now: Transaction, identity: ProducerIdentity) -> None:
    """Raise unless ``identity`` is the present holder: INVALID_PRODUCER_ID or PRODUCER_FENCED."""
    present = now.identity
    if identity.producer_id != present.producer_id:
        # The one ended with the last epoch is still being ended under the id before.
        old = identity.producer_id == now.producer_id != NO_PRODUCER
        raise refusal(ErrorCode.PRODUCER_FENCED if old else ErrorCode.INVALID_PRODUCER_ID)
    if identity.producer_epoch != present.producer_epoch or now.producer_id == NO_PRODUCER:
        raise refusal(ErrorCode.PRODUCER_FENCED)


def check_known(now: Transaction, known: ProducerIdentity | None) -> None:
    """Accept what a producer that asks for an identity says it has (KIP-360). Raises PRODUCER_FENCED.

    It has the present identity, or the one before, whose successor it was never told of; while a transaction
    is open its holder has been told.
    """
    if known is None or now.producer_id == NO_PRODUCER:
        return
    producer_id, epoch = known
    if producer_id == now.producer_id and epoch == now.producer_epoch:
        return
    if now.state is not TransactionState.ONGOING and epoch == now.last_epoch:
        if producer_id == now.producer_id:
            return
        if producer_id == now.previous_producer_id and is_exhausted(epoch):
            return
    raise refusal(ErrorCode.PRODUCER_FENCED)


# --- identities ------------------------------------------------------------------------------------


def initialise(
    now: Transaction, timeout_ms: int, known: ProducerIdentity | None, fresh_id: int, now_ms: int
) -> Transaction:
    """Give the next identity; an open transaction has to be fenced before.

    Args:
        fresh_id: an unused producer id, needed when there is none yet or its epochs are used up; else -1.

    Raises:
        StateError: PRODUCER_FENCED, CONCURRENT_TRANSACTIONS.
    """
    if now.state in PREPARE or now.state is TransactionState.ONGOING:
        raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
    check_known(now, known)
    producer_id, epoch = now.producer_id, now.producer_epoch
    last_epoch, previous = now.last_epoch, now.previous_producer_id
    told_before = known is not None and not (
        known.producer_id == producer_id and known.producer_epoch == epoch
    )
    if producer_id == NO_PRODUCER:
        producer_id, epoch, last_epoch = fresh_id, 0, NO_EPOCH
    elif is_exhausted(epoch):
        previous, producer_id, epoch = producer_id, fresh_id, 0
        last_epoch = NO_EPOCH if known is None else known.producer_epoch
    elif not told_before:
        last_epoch = NO_EPOCH if known is None else epoch
        epoch += 1
    return Transaction(
        producer_id=producer_id,
        producer_epoch=epoch,
        last_epoch=last_epoch,
        previous_producer_id=previous,
        timeout_ms=timeout_ms,
        update_time_ms=now_ms,
    )


def fence(now: Transaction, known: ProducerIdentity | None, now_ms: int) -> Transaction:
    """Abort the open transaction under a higher epoch, which nobody has been told.

    Args:
        known: who asks, when it is the holder itself: it may come back with its epoch.
    """
    fenced = attrs.evolve(
        now,
        producer_epoch=now.producer_epoch + 1,
        last_epoch=NO_EPOCH if known is None else now.producer_epoch,
        state=TransactionState.PREPARE_ABORT,
        update_time_ms=now_ms,
        ended_by_bump=False,
    )
    return fenced if fenced.partitions else complete(fenced, now_ms)


# --- the transaction -------------------------------------------------------------------------------


def add(
    now: Transaction,
    identity: ProducerIdentity,
    partitions: Set[TopicPartition],
    groups: Set[str],
    now_ms: int,
) -> Transaction:
    """Add partitions and groups to the open transaction, beginning one if there is none."""
    check_identity(now, identity)
    if now.state in PREPARE:
        raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
    if now.state is TransactionState.ONGOING:
        if partitions <= now.partitions and groups <= now.groups:
            return now
        return attrs.evolve(
            now,
            partitions=now.partitions | partitions,
            groups=now.groups | groups,
            update_time_ms=now_ms,
        )
    return attrs.evolve(
        now,
        state=TransactionState.ONGOING,
        partitions=frozenset(partitions),
        groups=frozenset(groups),
        start_time_ms=now_ms,
        update_time_ms=now_ms,
        ended_by_bump=False,
    )


def verify(now: Transaction, identity: ProducerIdentity, partition: TopicPartition) -> None:
    """Raise unless the partition is part of the open transaction (KIP-890)."""
    check_identity(now, identity)
    if now.state in PREPARE:
        raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
    if now.state is not TransactionState.ONGOING or partition not in now.partitions:
        raise refusal(ErrorCode.TRANSACTION_ABORTABLE)


def check_offsets_of(now: Transaction, identity: ProducerIdentity, group_id: str) -> None:
    """Raise unless the group's offsets are part of the open transaction."""
    check_identity(now, identity)
    if now.state in PREPARE:
        raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
    if now.state is not TransactionState.ONGOING or group_id not in now.groups:
        raise refusal(ErrorCode.TRANSACTION_ABORTABLE)


def end(
    now: Transaction, identity: ProducerIdentity, commit: bool, bump_epoch: bool, fresh_id: int, now_ms: int
) -> Transaction:
    """Decide the open transaction's outcome; the same decision again changes nothing.

    Args:
        bump_epoch: the producer goes on with a higher epoch (EndTxn v5+); it may then also abort a
            transaction that nothing was added to.
        fresh_id: an unused producer id, needed when the epochs are used up; else -1.

    Raises:
        StateError: INVALID_PRODUCER_ID, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS, INVALID_TXN_STATE.
    """
    ended = now.state in PREPARE or now.state in COMPLETE
    if ended and now.ended_by_bump and _is_repeated_end(now, identity):
        return _unchanged(now, commit)
    check_identity(now, identity)
    if now.state is TransactionState.ONGOING:
        return _decide(now, commit, bump_epoch, fresh_id, now_ms)
    if ended and not now.ended_by_bump:
        return _unchanged(now, commit)
    if now.state in PREPARE:
        raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
    if bump_epoch and not commit:
        return _decide(now, commit, bump_epoch, fresh_id, now_ms)
    raise refusal(ErrorCode.INVALID_TXN_STATE)


def complete(now: Transaction, now_ms: int) -> Transaction:
    """Every marker is written: the id is free for the next transaction."""
    rotated = now.next_producer_id != NO_PRODUCER
    producer_id, epoch = now.identity
    return attrs.evolve(
        now,
        producer_id=producer_id,
        producer_epoch=epoch,
        previous_producer_id=now.producer_id if rotated else now.previous_producer_id,
        next_producer_id=NO_PRODUCER,
        state=_COMPLETED[now.state],
        partitions=frozenset(),
        groups=frozenset(),
        start_time_ms=NO_TIMESTAMP,
        update_time_ms=now_ms,
    )


def _decide(now: Transaction, commit: bool, bump_epoch: bool, fresh_id: int, now_ms: int) -> Transaction:
    decided = attrs.evolve(
        now,
        state=TransactionState.PREPARE_COMMIT if commit else TransactionState.PREPARE_ABORT,
        update_time_ms=now_ms,
        ended_by_bump=bump_epoch,
    )
    if bump_epoch:
        rotates = is_exhausted(now.producer_epoch)
        decided = attrs.evolve(
            decided,
            producer_epoch=now.producer_epoch + 1,
            last_epoch=now.producer_epoch,
            next_producer_id=fresh_id if rotates else NO_PRODUCER,
        )
    return decided if decided.partitions else complete(decided, now_ms)


def _is_repeated_end(now: Transaction, identity: ProducerIdentity) -> bool:
    """Whether a producer that was not told its raised epoch asks for the end once more."""
    producer_id, epoch = identity
    if producer_id == now.producer_id:
        return epoch == now.producer_epoch - 1
    return producer_id == now.previous_producer_id and epoch == now.last_epoch and now.producer_epoch == 0


def _unchanged(now: Transaction, commit: bool) -> Transaction:
    if commit is not (now.state in _COMMITTED):
        raise refusal(ErrorCode.INVALID_TXN_STATE)
    return now


# --- time ------------------------------------------------------------------------------------------


def is_overdue(now: Transaction, now_ms: int) -> bool:
    """Whether the open transaction's time is up."""
    return now.state is TransactionState.ONGOING and now_ms >= now.start_time_ms + now.timeout_ms


def is_expired(now: Transaction, expiration_ms: int, now_ms: int) -> bool:
    """Whether nobody has used the id for so long that it is forgotten."""
    idle = now.state in COMPLETE or now.state is TransactionState.EMPTY
    return idle and now_ms - now.update_time_ms >= expiration_ms
