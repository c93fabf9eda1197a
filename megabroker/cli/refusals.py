"""What a broker's refusal means, in a sentence that says what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.errors import KafkaError

__all__ = ["check", "check_all", "meaning"]

_MEANINGS: Final = {
    KafkaError.UNKNOWN_SERVER_ERROR: "the broker failed; its log says why",
    KafkaError.OFFSET_OUT_OF_RANGE: "there is no such offset",
    KafkaError.CORRUPT_MESSAGE: "the broker received a damaged message",
    KafkaError.UNKNOWN_TOPIC_OR_PARTITION: "it does not exist: megabroker topic list shows all topics",
    KafkaError.LEADER_NOT_AVAILABLE: "no broker leads it at present",
    KafkaError.REQUEST_TIMED_OUT: "the brokers did not do it in time",
    KafkaError.MESSAGE_TOO_LARGE: "larger than the topic's max.message.bytes",
    KafkaError.NOT_ENOUGH_REPLICAS: "fewer replicas than min.insync.replicas",
    KafkaError.COORDINATOR_NOT_AVAILABLE: "no broker coordinates it at present",
    KafkaError.INVALID_TOPIC_EXCEPTION: "not a valid topic name: expected at most 249 of a-z A-Z 0-9 . _ -",
    KafkaError.UNKNOWN_MEMBER_ID: "the group has members: stop them first",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "not permitted: megabroker acl list shows the rules",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "not permitted: megabroker acl list shows the rules",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "not permitted: megabroker acl list shows the rules",
    KafkaError.TOPIC_ALREADY_EXISTS: "it exists already",
    KafkaError.INVALID_PARTITIONS: "not a valid number of partitions: it can only be increased",
    KafkaError.INVALID_REPLICATION_FACTOR: "the replication factor is greater than the number of brokers",
    KafkaError.INVALID_CONFIG: "no such configuration, or no such value of it",
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: "the broker does not support this compression",
    KafkaError.NON_EMPTY_GROUP: "the group has members: stop them first",
    KafkaError.GROUP_ID_NOT_FOUND: "it does not exist: megabroker group list shows all groups",
    KafkaError.GROUP_SUBSCRIBED_TO_TOPIC: "the group is reading it: stop its members first",
    KafkaError.INVALID_TIMESTAMP: "the timestamp is further from the current time than the topic allows",
    KafkaError.INVALID_RECORD: "the topic rejects it: in a compacted topic, each message needs a key",
    KafkaError.POLICY_VIOLATION: "more than the broker's limits allow",
    KafkaError.KAFKA_STORAGE_ERROR: "the broker's disk is full or failing",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "the group is of another kind",
    KafkaError.FENCED_INSTANCE_ID: "another member has the same instance id",
    KafkaError.GROUP_MAX_SIZE_REACHED: "the group has as many members as it may have",
    KafkaError.THROTTLING_QUOTA_EXCEEDED: "more than a quota allows: try again later",
}


def meaning(code: int) -> str:
    """Say what a code means; one that is not known is told by its number."""
    try:
        known = KafkaError(code)
    except ValueError:
        return f"the broker answered Kafka's error {code}"
    return _MEANINGS.get(known) or f"the broker answered {known.name}"


def check(code: int, message: str | None, what: str) -> None:
    """Raise RequestError, which says what was refused, if ``code`` is a refusal.

    Args:
        message: the broker's own words, which are better than ours if there are any.
    """
    check_all([(code, message, what)])


def check_all(answers: Iterable[tuple[int, str | None, str]]) -> None:
    """Raise RequestError, which says all that was refused of several things.

    Args:
        answers: for each what `check` takes.
    """
    refused = []
    for code, message, what in answers:
        if code:
            text = " ".join(message.split()) if message else meaning(code)
            named = message and what.rpartition(" ")[2] in text
            refused.append(text if named else f"{what}: {text}")
    if refused:
        raise RequestError(ErrorCode.INVALID_REQUEST, "; ".join(refused))
