"""The refusals of the transaction coordinator.

Owns the sentences; the codes are those of ``megabroker.errors``. Every refusal is a new exception.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError

__all__ = ["refusal"]

_SENTENCES: dict[ErrorCode, str] = {
    ErrorCode.INVALID_REQUEST: "the transactional id must not be empty",
    ErrorCode.INVALID_TXN_TIMEOUT: "the transaction timeout is not one that this broker allows",
    ErrorCode.INVALID_PRODUCER_ID: "the transactional id is not known, or belongs to another producer id",
    ErrorCode.PRODUCER_FENCED: "another producer has taken over this transactional id, or its time was up",
    ErrorCode.INVALID_PRODUCER_EPOCH: "another producer has taken over this transactional id",
    ErrorCode.CONCURRENT_TRANSACTIONS: "the transaction before this one is still being ended",
    ErrorCode.INVALID_TXN_STATE: "the transaction is not in a state in which this can be done",
    ErrorCode.TRANSACTION_ABORTABLE: "this is not part of the open transaction, which can only be aborted",
    ErrorCode.OVERLOADED: "this broker keeps as many transactional ids, or pending offsets, as it is allowed",
    ErrorCode.NOT_COORDINATOR: "this broker is stopping",
    ErrorCode.SHUTTING_DOWN: "this broker is stopping",
}

_REQUEST_CODES = frozenset({ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_TXN_TIMEOUT})
_RETRIABLE = frozenset(
    {
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.OVERLOADED,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.SHUTTING_DOWN,
    }
)


def refusal(code: ErrorCode) -> BrokerError:
    """Return a new error for ``code``."""
    kind = RequestError if code in _REQUEST_CODES else StateError
    return kind(code, _SENTENCES[code], retriable=code in _RETRIABLE)
