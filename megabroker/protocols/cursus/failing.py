"""The first dialect's words for what the broker refuses."""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode
from megabroker.protocols.cursus.codec import Reply

__all__ = ["failure_reply"]


def failure_reply(error: BrokerError, topic: str, missing: str) -> str:
    """Return the reply to a command that the broker refused."""
    if error.code is ErrorCode.UNKNOWN_TOPIC:
        return missing.format(topic=topic)
    if error.code is ErrorCode.INVALID_TOPIC:
        return Reply.INVALID_TOPIC.format(detail=error.message)
    if error.code is ErrorCode.INVALID_PARTITIONS:
        return Reply.INVALID_PARTITIONS
    return Reply.FAILED.format(detail=error.message)
