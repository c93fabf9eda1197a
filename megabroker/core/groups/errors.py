"""The refusals of the group coordinator.

Owns the sentences; the codes are those of ``megabroker.errors``. Every refusal is a new exception, because
one that answers many requests would gather the tracebacks of all of them.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError

__all__ = ["MemberIdRequired", "refusal", "stopped"]

_SENTENCES: dict[ErrorCode, str] = {
    ErrorCode.INVALID_GROUP: "the group id must not be empty",
    ErrorCode.INVALID_SESSION_TIMEOUT: "the session timeout is outside the bounds this broker allows",
    ErrorCode.UNKNOWN_MEMBER: "the group has no such member: join again with an empty member id",
    ErrorCode.ILLEGAL_GENERATION: "the request names a generation that is not the current one: join again",
    ErrorCode.REBALANCE_IN_PROGRESS: "the group is rebalancing: join again",
    ErrorCode.INCONSISTENT_PROTOCOL: "the group uses another protocol type, or none of these protocols",
    ErrorCode.FENCED_INSTANCE: "another member has taken over this static instance id",
    ErrorCode.GROUP_FULL: "the group has as many members as this broker allows",
    ErrorCode.GROUP_NOT_FOUND: "there is no such group",
    ErrorCode.GROUP_NOT_EMPTY: "the group has members",
}

_REQUEST_CODES = frozenset(
    {ErrorCode.INVALID_GROUP, ErrorCode.INVALID_SESSION_TIMEOUT, ErrorCode.INCONSISTENT_PROTOCOL}
)


class MemberIdRequired(StateError):
    """A first join is answered with the id to come back with.

    Attributes:
        member_id: the id, kept for one session timeout.
    """

    def __init__(self, member_id: str) -> None:
        super().__init__(
            ErrorCode.MEMBER_ID_REQUIRED, "join again with the member id given here", retriable=True
        )
        self.member_id = member_id


def refusal(code: ErrorCode) -> BrokerError:
    """Return a new error for ``code``."""
    kind = RequestError if code in _REQUEST_CODES else StateError
    retriable = code is ErrorCode.REBALANCE_IN_PROGRESS
    return kind(code, _SENTENCES[code], retriable=retriable)


def stopped() -> StateError:
    """Return what a client is told when this broker no longer coordinates: look for who does."""
    return StateError(ErrorCode.NOT_COORDINATOR, "this broker is stopping", retriable=True)
