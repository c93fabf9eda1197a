"""Stored share group state as other brokers ask for it: what the requests 83 to 87 have alike (KIP-932).

Owns the checks of a group, topic and partition. The state is that of ``megabroker.core.shares.partitions``,
which brokers write themselves: here it can be read and, by whoever administers the cluster, written.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.model import ShareState, TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.groups import MAX_TEXT_BYTES, fits

__all__ = ["Place", "check_epochs", "check_place", "rows", "stored", "tell"]

Place = tuple[UUID, int]


def rows(topic_type: Any, row_type: Any, request: Any) -> tuple[list[Any], list[tuple[Place, Any, Any]]]:
    """Return the answer's topics, and (place, row wanted, row of the answer) for each partition."""
    topics = []
    found = []
    for topic in request.topics:
        answer = topic_type(topic_id=topic.topic_id)
        topics.append(answer)
        for wanted in topic.partitions:
            row = row_type(partition=wanted.partition)
            answer.partitions.append(row)
            found.append(((UUID(bytes=bytes(topic.topic_id)), wanted.partition), wanted, row))
    return topics, found


def check_place(context: Context, group_id: str, place: Place) -> None:
    """Accept a partition of a group; its leader keeps the state. Raises RequestError or StateError."""
    if not fits(group_id):
        raise RequestError(ErrorCode.INVALID_GROUP, f"a group id has at most {MAX_TEXT_BYTES} bytes")
    if not group_id:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the group id must not be empty")
    context.broker.shares.check_name(group_id)
    if place[1] < 0:
        raise RequestError(ErrorCode.INVALID_REQUEST, "a partition is not negative")
    topic = context.broker.topics.get_by_id(place[0])
    if topic is None or place[1] >= topic.partitions:
        raise RequestError(ErrorCode.UNKNOWN_PARTITION, "there is no such topic or partition")
    placement = context.broker.placement
    if placement.leader(TopicPartition(topic.name, place[1])).id != placement.me.id:
        raise StateError(ErrorCode.NOT_COORDINATOR, "another node leads this partition", retriable=True)


def stored(context: Context, group_id: str, place: Place) -> ShareState:
    """Return what is stored of a partition. Raises RequestError(INVALID_REQUEST) when that is nothing."""
    check_place(context, group_id, place)
    state: ShareState | None = context.broker.shares.partitions.stored_state(group_id, place)
    if state is None:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the share partition has not been initialized")
    return state


def check_epochs(state: ShareState, state_epoch: int, leader_epoch: int) -> None:
    """Refuse who writes on the strength of an older state; -1 is not compared. Raises StateError."""
    if 0 <= leader_epoch < state.leader_epoch:
        raise StateError(ErrorCode.FENCED_LEADER_EPOCH, f"the leader epoch is {state.leader_epoch}")
    if 0 <= state_epoch < state.state_epoch:
        raise StateError(ErrorCode.FENCED_STATE_EPOCH, f"the state epoch is {state.state_epoch}")


def tell(row: Any, error: BrokerError) -> None:
    """Put an error into a row of the answer."""
    row.error_code = kafka_error(error)
    row.error_message = error.message
