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
    ErrorCode.FENCED_MEMBER_EPOCH: "the member epoch is not the current one: give all up and join again",
    ErrorCode.STALE_MEMBER_EPOCH: "the member epoch is not the current one: try again after a heartbeat",
    ErrorCode.UNRELEASED_INSTANCE: "another member holds this static instance id and has not left",
    ErrorCode.UNSUPPORTED_ASSIGNOR: "the assignors of this broker are uniform and range",
    ErrorCode.INVALID_REQUEST: "the request does not fit the member epoch it names",
    ErrorCode.INVALID_PATTERN: "the regular expression is not valid",
    ErrorCode.STREAMS_INVALID_TOPOLOGY: "the topology contradicts itself",
}

_REQUEST_CODES = frozenset(
    {
        ErrorCode.INVALID_GROUP,
        ErrorCode.INVALID_SESSION_TIMEOUT,
        ErrorCode.INCONSISTENT_PROTOCOL,
        ErrorCode.UNSUPPORTED_ASSIGNOR,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_PATTERN,
        ErrorCode.STREAMS_INVALID_TOPOLOGY,
    }
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


def refusal(code: ErrorCode, sentence: str = "") -> BrokerError:
    """Return a new error for ``code``, with a sentence of its own or the usual one."""
    kind = RequestError if code in _REQUEST_CODES else StateError
    retriable = code is ErrorCode.REBALANCE_IN_PROGRESS
    return kind(code, sentence or _SENTENCES[code], retriable=retriable)


def stopped() -> StateError:
    """Return what a client is told when this broker no longer coordinates: look for who does."""
    return StateError(ErrorCode.NOT_COORDINATOR, "this broker is stopping", retriable=True)
