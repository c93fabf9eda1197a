"""Access rules and filters of them as Kafka's requests write them."""

from __future__ import annotations

import enum
from typing import Any, Final, TypeVar

from megabroker.access import Acl, AclFilter, Operation, PatternType, Permission, ResourceType
from megabroker.errors import ErrorCode, RequestError

__all__ = ["NO_AUTHORIZER", "acl_of", "acl_with", "filter_of"]

NO_AUTHORIZER: Final = (
    "No Authorizer is configured: every client may do everything (security.authorizer: acls changes that)."
)

_FIRST_WITH_PATTERNS: Final = 1

_E = TypeVar("_E", bound=enum.IntEnum)


def _known(kind: type[_E], code: int) -> _E:
    """Return what a number stands for; a number that stands for nothing is UNKNOWN."""
    return kind(code) if code in kind.__members__.values() else kind(0)


def acl_of(row: Any) -> Acl:
    """Return the rule that a row of CreateAcls describes; it may be one that cannot be."""
    return acl_with(row, row.resource_pattern_type)


def acl_with(row: Any, pattern_type: int) -> Acl:
    """Return the same of a row that calls its pattern otherwise."""
    return Acl(
        _known(ResourceType, row.resource_type),
        row.resource_name,
        _known(PatternType, pattern_type),
        row.principal,
        row.host,
        _known(Operation, row.operation),
        _known(Permission, row.permission_type),
    )


def filter_of(row: Any, version: int) -> AclFilter:
    """Return the filter that DescribeAcls, or a row of DeleteAcls, describes.

    Raises:
        RequestError: INVALID_REQUEST.
    """
    found = AclFilter(
        _known(ResourceType, row.resource_type_filter),
        row.resource_name_filter,
        _known(PatternType, row.pattern_type_filter),
        row.principal_filter,
        row.host_filter,
        _known(Operation, row.operation),
        _known(Permission, row.permission_type),
    )
    if version < _FIRST_WITH_PATTERNS:
        found = found._replace(pattern_type=PatternType.LITERAL)
    unknown = [
        one.__class__.__name__
        for one in (found.resource_type, found.pattern_type, found.operation, found.permission)
        if not one
    ]
    if unknown:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"the filter has an unknown {unknown[0]}")
    return found
