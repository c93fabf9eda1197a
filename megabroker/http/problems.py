"""What went wrong, as HTTP says it: problem details (RFC 9457) with the broker's own code.

Owns the one table from the broker's codes to HTTP's statuses. A problem never tells a traceback, and never
what the client may not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from megabroker.errors import BrokerError, ErrorCode
from megabroker.http.schema import (
    FLAG,
    Integer,
    ListOf,
    Object,
    Text,
    ValueFault,
    optional,
    required,
)

__all__ = ["PROBLEM", "PROBLEM_TYPE", "STATUSES", "Problem", "described", "of_error"]

PROBLEM_TYPE: Final = "application/problem+json"

_TITLES: Final = MappingProxyType(
    {
        400: "Bad request",
        401: "Authentication required",
        403: "Not allowed",
        404: "Not found",
        405: "Method not allowed",
        408: "The request took too long",
        409: "Conflict with the current state",
        413: "The request is too large",
        414: "The URL is too long",
        415: "Unsupported media type",
        421: "Wrong host",
        422: "The request cannot be carried out",
        431: "The headers are too large",
        500: "Internal error",
        503: "Temporarily unavailable",
        504: "Timed out",
        507: "No space left",
    }
)

_C = ErrorCode
STATUSES: Final[Mapping[ErrorCode, int]] = MappingProxyType(
    {
        _C.INVALID_REQUEST: 400,
        _C.INVALID_TOPIC: 400,
        _C.INVALID_PARTITIONS: 400,
        _C.INVALID_REPLICATION_FACTOR: 400,
        _C.INVALID_REPLICA_ASSIGNMENT: 400,
        _C.INVALID_CONFIG: 400,
        _C.INVALID_RECORD: 400,
        _C.INVALID_TIMESTAMP: 400,
        _C.INVALID_GROUP: 400,
        _C.UNSUPPORTED_COMPRESSION: 400,
        _C.OFFSET_OUT_OF_RANGE: 400,
        _C.OFFSET_METADATA_TOO_LARGE: 400,
        _C.MESSAGE_TOO_LARGE: 413,
        _C.NOT_AUTHENTICATED: 401,
        _C.TOPIC_NOT_ALLOWED: 403,
        _C.GROUP_NOT_ALLOWED: 403,
        _C.CLUSTER_NOT_ALLOWED: 403,
        _C.TRANSACTIONAL_ID_NOT_ALLOWED: 403,
        _C.UNKNOWN_TOPIC: 404,
        _C.UNKNOWN_TOPIC_ID: 404,
        _C.UNKNOWN_PARTITION: 404,
        _C.GROUP_NOT_FOUND: 404,
        _C.UNKNOWN_MEMBER: 404,
        _C.TRANSACTIONAL_ID_NOT_FOUND: 404,
        _C.TOPIC_EXISTS: 409,
        _C.GROUP_NOT_EMPTY: 409,
        _C.SUBSCRIBED_TO_TOPIC: 409,
        _C.CONCURRENT_TRANSACTIONS: 409,
        _C.INVALID_TXN_STATE: 409,
        _C.INVALID_PRODUCER_EPOCH: 409,
        _C.PRODUCER_FENCED: 409,
        _C.TOPIC_LIMIT: 409,
        _C.UNSUPPORTED: 422,
        _C.INTERNAL: 500,
        _C.CORRUPT_BATCH: 500,
        _C.STORAGE: 500,
        _C.DISK_FULL: 507,
        _C.TIMED_OUT: 504,
    }
)
"""Those that are not here mean 503 where asking again may help, else 409."""


class Problem(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        code: the broker's code.
        detail: what was wrong, and what would be right.
        faults: where there are several, each with what it is about: body, query, path or header.
        headers: further ones of the answer.
    """

    def __init__(
        self,
        status: int,
        code: ErrorCode,
        detail: str,
        *,
        retriable: bool = False,
        faults: Sequence[tuple[str, ValueFault]] = (),
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retriable = retriable
        self.faults = tuple(faults)
        self.headers = headers


def of_error(error: BrokerError) -> Problem:
    """Return what the broker refused as a problem."""
    status = STATUSES.get(error.code, 503 if error.retriable else 409)
    return Problem(status, error.code, error.message, retriable=error.retriable)


def described(problem: Problem) -> dict[str, Any]:
    """Return a problem as JSON."""
    found: dict[str, Any] = {
        "type": f"urn:megabroker:problem:{problem.code.value}",
        "title": _TITLES.get(problem.status, "The request was refused"),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code.value,
        "retriable": problem.retriable,
    }
    if problem.faults:
        found["errors"] = [
            {"in": where, "path": fault.path, "found": fault.found, "expected": fault.expected}
            for where, fault in problem.faults
        ]
    return found


PROBLEM: Final = Object(
    {
        "type": required(Text(), "URN of the kind of problem."),
        "title": required(Text(), "Short description of the kind of problem."),
        "status": required(Integer(400, 599), "HTTP status code."),
        "detail": required(Text(), "What is wrong, and what is expected."),
        "code": required(Text(), "The broker's error code, as in its log."),
        "retriable": required(FLAG, "Whether the same request may succeed later."),
        "errors": optional(
            ListOf(
                Object(
                    {
                        "in": required(Text(), "body, query, path or header."),
                        "path": required(Text(), "Location: a JSON pointer or a name."),
                        "found": required(Text(), "Value found."),
                        "expected": required(Text(), "Value expected."),
                    }
                )
            ),
            "All faults of the request.",
            [],
        ),
    },
    "Problem",
)
