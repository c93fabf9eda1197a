"""Acknowledgements of records, as ShareFetch and ShareAcknowledge bring them.

Owns the checks that need no state and the outcome per partition; what becomes of the records is for the share
partition to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from megabroker.access import ResourceType
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker
from megabroker.model import AcknowledgementBatch, AcknowledgeType
from megabroker.protocols.kafka.access.refusals import not_allowed
from megabroker.protocols.kafka.errors import kafka_error

__all__ = ["Outcome", "Place", "acknowledge", "check_names"]

Place = tuple[UUID, int]

_MAX_MEMBER_ID_CHARS: Final = 36
_FIRST_WITH_RENEWAL: Final = 2


class Outcome(NamedTuple):
    """What became of one partition's acknowledgements; the code is 0 when they are taken."""

    error_code: int = 0
    message: str | None = None


def check_names(group_id: str | None, member_id: str | None) -> tuple[str, str]:
    """Accept the names of a share group and a member of it.

    Raises:
        RequestError: INVALID_REQUEST.
    """
    if not group_id:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the group id must not be empty")
    if not member_id or len(member_id) > _MAX_MEMBER_ID_CHARS:
        raise RequestError(
            ErrorCode.INVALID_REQUEST, f"a member id has 1 to {_MAX_MEMBER_ID_CHARS} characters"
        )
    return group_id, member_id


def acknowledge(
    broker: IBroker,
    group_id: str,
    member_id: str,
    topics: Iterable[Any],
    version: int,
    renews: bool,
    may_read: Callable[[str], bool] = lambda name: True,
) -> Deferred[dict[Place, Outcome]]:
    """Take the acknowledgements of a request; fires when all are stored or refused.

    Args:
        topics: rows of the request; partitions without acknowledgements are passed over.
        renews: whether the request says that it renews locks.
        may_read: whether the client may read a topic.
    """
    outcomes: dict[Place, Outcome] = {}
    done: Deferred[dict[Place, Outcome]] = Deferred()
    left = 1

    def ended(result: object, place: Place | None = None) -> None:
        nonlocal left
        if isinstance(result, Failure) and place is not None:
            outcomes[place] = _refused(result)
        left -= 1
        if not left:
            done.callback(outcomes)

    for place, batches in _wanted(topics):
        outcomes[place] = Outcome()
        left += 1
        try:
            _check(batches, version, renews)
            _check_place(broker, place, may_read)
            stored = broker.shares.partitions.acknowledge(group_id, member_id, place, batches)
        except BrokerError as error:
            outcomes[place] = Outcome(kafka_error(error), error.message)
            stored = succeed(None)
        stored.addBoth(ended, place)
    ended(None)
    return done


def _wanted(topics: Iterable[Any]) -> Iterable[tuple[Place, list[AcknowledgementBatch]]]:
    wanted: dict[Place, list[AcknowledgementBatch]] = {}
    for topic in topics:
        topic_id = UUID(bytes=bytes(topic.topic_id))
        for partition in topic.partitions:
            if partition.acknowledgement_batches:
                wanted.setdefault((topic_id, partition.partition_index), []).extend(
                    AcknowledgementBatch(batch.first_offset, batch.last_offset, batch.acknowledge_types)
                    for batch in partition.acknowledgement_batches
                )
    return wanted.items()


def _check(batches: Sequence[AcknowledgementBatch], version: int, renews: bool) -> None:
    """Refuse what no share partition could take. Raises RequestError(INVALID_REQUEST)."""
    highest = AcknowledgeType.RENEW if version >= _FIRST_WITH_RENEWAL else AcknowledgeType.REJECT
    previous_last = -1
    for first, last, types in batches:
        for wrong, sentence in (
            (first > last, f"offsets {first} to {last} are none"),
            (first < previous_last, f"offset {first} comes after {previous_last}"),
            (not types, "an acknowledge type is missing"),
            (
                len(types) > 1 and last - first != len(types) - 1,
                f"{len(types)} acknowledge types for offsets {first} to {last}",
            ),
        ):
            if wrong:
                raise RequestError(ErrorCode.INVALID_REQUEST, sentence)
        if not 0 <= min(types) <= max(types) <= highest:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"expected acknowledge types from 0 to {highest}")
        if AcknowledgeType.RENEW in types and not renews:
            raise RequestError(ErrorCode.INVALID_REQUEST, "the request does not say that it renews locks")
        previous_last = last


def _check_place(broker: IBroker, place: Place, may_read: Callable[[str], bool]) -> None:
    topic = broker.topics.get_by_id(place[0])
    if topic is None:
        raise RequestError(ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id")
    if not may_read(topic.name):
        raise not_allowed(ResourceType.TOPIC)
    if not 0 <= place[1] < topic.partitions:
        raise RequestError(ErrorCode.UNKNOWN_PARTITION, f"{topic.name} has no partition {place[1]}")


def _refused(failure: Failure) -> Outcome:
    error = failure.value
    if not isinstance(error, BrokerError):
        failure.raiseException()
    return Outcome(kafka_error(error), error.message)
