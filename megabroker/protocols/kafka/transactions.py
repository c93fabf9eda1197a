"""What the requests about transactions need alike.

Owns no state. A transactional id is answered for by the node that coordinates it; this module says when that
is not this one, and how an error of the broker reads to a transactional producer of each version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted.internet.defer import Deferred

from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IBroker
from megabroker.model import TopicPartition, TransactionMarker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.groups import MAX_TEXT_BYTES, fits

__all__ = ["by_topic", "check_transactional_id", "transaction_error", "write_marker"]

# Producers retry what names the coordinator; storage errors would end most of them.
_AS_SEEN_BY_PRODUCERS: Final = {
    ErrorCode.STORAGE: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.DISK_FULL: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.OVERLOADED: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.TIMED_OUT: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.UNREACHABLE: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.SHUTTING_DOWN: KafkaError.NOT_COORDINATOR,
}


def transaction_error(error: BrokerError, *, fenced: bool = True, abortable: bool = True) -> int:
    """Return the wire code for an error in a transaction's matters.

    Args:
        fenced: whether this version knows PRODUCER_FENCED; before, it was INVALID_PRODUCER_EPOCH.
        abortable: whether it knows TRANSACTION_ABORTABLE; before, it was INVALID_TXN_STATE.
    """
    if error.code is ErrorCode.PRODUCER_FENCED and not fenced:
        return int(KafkaError.INVALID_PRODUCER_EPOCH)
    if error.code is ErrorCode.TRANSACTION_ABORTABLE and not abortable:
        return int(KafkaError.INVALID_TXN_STATE)
    found = _AS_SEEN_BY_PRODUCERS.get(error.code)
    return kafka_error(error) if found is None else int(found)


def check_transactional_id(context: Context, transactional_id: str) -> None:
    """Accept a transactional id this node coordinates, and that every version can say.

    Raises:
        RequestError: INVALID_REQUEST.
        StateError: NOT_COORDINATOR.
    """
    if not transactional_id or not fits(transactional_id):
        raise RequestError(ErrorCode.INVALID_REQUEST, f"a transactional id has 1 to {MAX_TEXT_BYTES} bytes")
    placement = context.broker.placement
    if placement.coordinator(transactional_id).id != placement.me.id:
        raise StateError(
            ErrorCode.NOT_COORDINATOR, "another node coordinates this transactional id", retriable=True
        )


def by_topic(codes: Mapping[TopicPartition, int]) -> dict[str, list[tuple[int, int]]]:
    """Arrange codes of partitions as answers have them: (partition, code) by topic."""
    rows: dict[str, list[tuple[int, int]]] = {}
    for where, code in codes.items():
        rows.setdefault(where.topic, []).append((where.partition, code))
    return rows


def write_marker(
    broker: IBroker, where: TopicPartition, marker: TransactionMarker
) -> Deferred[BrokerError | None]:
    """End a transaction in a partition led here; fires when that is durable, or with why it is refused."""
    written: Deferred[BrokerError | None] = Deferred()
    try:
        partition = broker.topics.partition(*where)
        broker.transactions.ending(where, marker.producer_id)
        partition.append_marker(marker, written.callback)
    except BrokerError as error:
        written.callback(error)
    return written
