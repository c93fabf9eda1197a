"""What the broker's refusals are called on this wire."""

from __future__ import annotations

from typing import Final

from megabroker.errors import BrokerError, ErrorCode, ProtocolError
from megabroker.protocols.mega.codec import Invalid, MegaError, encode_error

__all__ = ["ERRORS", "FatalRequest", "no_more_offsets", "refusal"]

ERRORS: Final[dict[ErrorCode, MegaError]] = {
    ErrorCode.INVALID_REQUEST: MegaError.INVALID_REQUEST,
    ErrorCode.INVALID_TOPIC: MegaError.INVALID_REQUEST,
    ErrorCode.INVALID_RECORD: MegaError.INVALID_REQUEST,
    ErrorCode.INVALID_TIMESTAMP: MegaError.INVALID_REQUEST,
    ErrorCode.UNKNOWN_TOPIC: MegaError.TOPIC_NOT_FOUND,
    ErrorCode.UNKNOWN_PARTITION: MegaError.TOPIC_NOT_FOUND,
    ErrorCode.TOPIC_NOT_ALLOWED: MegaError.INVALID_REQUEST,
    ErrorCode.TOPIC_EXISTS: MegaError.TOPIC_ALREADY_EXISTS,
    ErrorCode.MESSAGE_TOO_LARGE: MegaError.MESSAGE_TOO_LARGE,
    ErrorCode.OFFSET_OUT_OF_RANGE: MegaError.INVALID_OFFSET,
    ErrorCode.STORAGE: MegaError.NETWORK_ERROR,
    ErrorCode.TIMED_OUT: MegaError.NETWORK_ERROR,
    ErrorCode.UNREACHABLE: MegaError.NETWORK_ERROR,
    ErrorCode.NOT_ENOUGH_REPLICAS: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.TOPIC_LIMIT: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.DISK_FULL: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.OVERLOADED: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.SHUTTING_DOWN: MegaError.RESOURCE_EXHAUSTED,
}
"""What the broker's refusals are called on this wire; everything else is INTERNAL_ERROR."""


class FatalRequest(ProtocolError):
    """A request after which the stream cannot be followed; ``answer`` is what the peer is told."""

    def __init__(self, request: Invalid) -> None:
        super().__init__(request.detail)
        self.answer = encode_error(request.correlation_id, request.code)


def no_more_offsets() -> BrokerError:
    """Return the refusal of what would get an offset that this wire cannot tell."""
    return BrokerError(ErrorCode.OVERLOADED, "offsets of this topic no longer fit 32 bits")


def refusal(correlation_id: int, error: BrokerError) -> bytes:
    """Return the answer that tells of a refusal."""
    return encode_error(correlation_id, ERRORS.get(error.code, MegaError.INTERNAL_ERROR))
