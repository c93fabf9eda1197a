"""Why a command of the later dialect is not carried out, as its clients are told.

    ERROR: <code> [name=value ...]
    ERROR: <code> class=<class> retryable=<bool> [name=value ...]      for who negotiated structured_errors_v1

Owns the codes, what class each is of, and which code stands for an error of the broker. The codes and classes
are the original broker's; what goes beyond them says so in its code's row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from megabroker.errors import BrokerError, ErrorCode

__all__ = ["CLASSES", "Refusal", "classified", "quoted", "refusal_of"]

_ERROR: Final = "ERROR: "
_LONGEST_VALUE: Final = 500  # characters; some of it the peer's own words


class _Class(NamedTuple):
    name: str
    retryable: bool


_CODES: Final = """
routing       yes NOT_COORDINATOR NOT_LEADER
availability  yes broker_not_available coordinator_not_available transaction_commit_failed
fencing       no  GEN_MISMATCH NOT_OWNER member_not_found producer_fenced stale_producer_epoch
conflict      no  OFFSET_OUT_OF_RANGE offset_regression snapshot_version_exceeds_stream version_conflict
conflict      no  producer_reinitialization_required transaction_aborted transaction_already_committed
conflict      no  transaction_not_abortable idempotency_gap events_deleted stream_too_long
authorization no  NOT_AUTHORIZED_FOR_OPERATION NOT_AUTHORIZED_FOR_TOPIC authentication_failed
authorization no  authentication_required internal_topic_write_forbidden
not_found     no  group_not_found partition_not_found topic_not_found transaction_not_found
validation    no  UNSUPPORTED_FEATURE UNSUPPORTED_PROTOCOL_VERSION batch_decode_failed duplicate_partition
validation    no  empty_messages event_sourcing_not_enabled invalid_acks invalid_auth invalid_batch
validation    no  invalid_autoOffsetReset invalid_batch_commit_entry invalid_consume_syntax invalid_epoch
validation    no  invalid_event_sourcing invalid_event_type invalid_from_version invalid_generation
validation    no  invalid_group invalid_idempotent invalid_is_idempotent invalid_isolation invalid_key
validation    no  invalid_limit invalid_member invalid_metadata invalid_offset invalid_partition
validation    no  invalid_partitions invalid_principal invalid_producerId invalid_protocol_features
validation    no  invalid_protocol_version invalid_replication_factor invalid_require_features
validation    no  invalid_retention_bytes invalid_retention_hours invalid_schema_version invalid_seq_num
validation    no  invalid_stream_syntax invalid_token invalid_topic invalid_topic_name
validation    no  invalid_topic_policy invalid_transaction_result invalid_transactional_id
validation    no  invalid_txn_offsets invalid_version invalid_wait_ms malformed_input message_too_large
validation    no  missing_coordinator_key missing_generation missing_group missing_key missing_member
validation    no  missing_message missing_offset missing_partition missing_producer_id
validation    no  missing_protocol_version missing_topic missing_transactional_id missing_version
validation    no  no_valid_offsets unknown_command unsupported_topic_policy
internal      no  broker_error create_topic_failed delete_topic_failed init_producer_failed
internal      no  stream_index_failed transaction_begin_failed transaction_offsets_failed
internal      no  transaction_publish_failed
"""


def _classes(text: str) -> Mapping[str, _Class]:
    rows = {}
    for line in text.strip().splitlines():
        name, retryable, *codes = line.split()
        rows.update(dict.fromkeys(codes, _Class(name, retryable == "yes")))
    return rows


CLASSES: Final[Mapping[str, _Class]] = _classes(_CODES)
"""Every code there is, with its class and whether the same command may succeed later."""

_BROKER_CODES: Final = {
    ErrorCode.UNKNOWN_TOPIC: "topic_not_found",
    ErrorCode.UNKNOWN_PARTITION: "partition_not_found",
    ErrorCode.INVALID_TOPIC: "invalid_topic_name",
    ErrorCode.INVALID_PARTITIONS: "invalid_partitions",
    ErrorCode.INVALID_CONFIG: "invalid_topic_policy",
    ErrorCode.POLICY_VIOLATION: "invalid_topic_policy",
    ErrorCode.TOPIC_NOT_ALLOWED: "NOT_AUTHORIZED_FOR_TOPIC",
    ErrorCode.GROUP_NOT_ALLOWED: "NOT_AUTHORIZED_FOR_OPERATION",
    ErrorCode.CLUSTER_NOT_ALLOWED: "NOT_AUTHORIZED_FOR_OPERATION",
    ErrorCode.TRANSACTIONAL_ID_NOT_ALLOWED: "NOT_AUTHORIZED_FOR_OPERATION",
    ErrorCode.GROUP_NOT_FOUND: "group_not_found",
    ErrorCode.UNKNOWN_MEMBER: "member_not_found",
    ErrorCode.STALE_MEMBER_EPOCH: "GEN_MISMATCH",
    ErrorCode.FENCED_MEMBER_EPOCH: "GEN_MISMATCH",
    ErrorCode.ILLEGAL_GENERATION: "GEN_MISMATCH",
    ErrorCode.REBALANCE_IN_PROGRESS: "GEN_MISMATCH",
    ErrorCode.PRODUCER_FENCED: "producer_fenced",
    ErrorCode.INVALID_PRODUCER_ID: "producer_fenced",
    ErrorCode.INVALID_PRODUCER_EPOCH: "stale_producer_epoch",
    ErrorCode.OUT_OF_ORDER_SEQUENCE: "idempotency_gap",
    ErrorCode.TRANSACTIONAL_ID_NOT_FOUND: "transaction_not_found",
    ErrorCode.MESSAGE_TOO_LARGE: "message_too_large",
    ErrorCode.OVERLOADED: "broker_not_available",
    ErrorCode.TIMED_OUT: "broker_not_available",
    ErrorCode.UNREACHABLE: "broker_not_available",
    ErrorCode.SHUTTING_DOWN: "broker_not_available",
    ErrorCode.NOT_LEADER: "broker_not_available",
    ErrorCode.CONCURRENT_TRANSACTIONS: "broker_not_available",
    ErrorCode.NOT_COORDINATOR: "coordinator_not_available",
    ErrorCode.COORDINATOR_LOADING: "coordinator_not_available",
}


class Refusal(Exception):
    """A command is not carried out.

    Args:
        code: one of ``CLASSES``.
        detail: what was wrong and what would be right, shown in quotes as ``reason``.
        fields: shown after the code, in this order.

    Attributes:
        text: the reply.
    """

    def __init__(self, code: str, detail: str = "", **fields: object) -> None:
        parts = [code, *(f"{name}={value}" for name, value in fields.items())]
        if detail:
            parts.append(f"reason={quoted(detail)}")
        self.text = _ERROR + " ".join(parts)
        super().__init__(self.text)

    @classmethod
    def told(cls, text: str) -> Refusal:
        """Return the refusal that another process told."""
        refusal = cls.__new__(cls)
        Exception.__init__(refusal, text)
        refusal.text = text
        return refusal


def quoted(text: str) -> str:
    """Return text in quotes, without a line break in it, and cut where it is long."""
    return json.dumps(text[:_LONGEST_VALUE], ensure_ascii=False)


def refusal_of(error: BrokerError, otherwise: str = "broker_error", **fields: object) -> Refusal:
    """Return what stands for an error of the broker.

    Args:
        otherwise: the code where none is of the error's own.
    """
    return Refusal(_BROKER_CODES.get(error.code, otherwise), error.message, **fields)


def classified(text: str) -> str:
    """Add to a refusal what class it is of and whether to try again."""
    if not text.startswith(_ERROR):
        return text
    code, _, rest = text[len(_ERROR) :].partition(" ")
    name, retryable = CLASSES.get(code, _Class("internal", False))
    head = f"{_ERROR}{code} class={name} retryable={str(retryable).lower()}"
    return f"{head} {rest}" if rest else head
