"""What a set of access rules decides.

Pure: rules and questions are values. A question about a resource is decided by the rules whose pattern fits
its name: those of that very name, those whose prefix it has, and those of the literal name ``*``. Among them
a DENY that fits is stronger than any ALLOW; where none fits it is denied; and where no rule has a pattern
that fits, whoever it is about, nothing is decided here. An ALLOW of some operations implies DESCRIBE or
DESCRIBE_CONFIGS, a DENY implies nothing. Source: Kafka's ``StandardAuthorizerData``.

Invariant: a question costs one look-up for each length that prefixes have, however many rules there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from megabroker.access import (
    WILDCARD,
    WILDCARD_PRINCIPAL,
    Acl,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)

__all__ = ["Decision", "RuleSet"]

_IMPLIED_BY: Final = {
    Operation.DESCRIBE: frozenset(
        {Operation.DESCRIBE, Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER}
    ),
    Operation.DESCRIBE_CONFIGS: frozenset({Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS}),
}


class Decision(NamedTuple):
    """What rules say to one question.

    Attributes:
        allowed: None when no rule is about the resource.
        rule: the one that decided, if one did.
    """

    allowed: bool | None
    rule: Acl | None = None


_UNDECIDED: Final = Decision(None)
_DENIED: Final = Decision(False)


class RuleSet:
    """Rules, found by what they are about."""

    def __init__(self, acls: Iterable[Acl] = ()) -> None:
        self._by_pattern: dict[tuple[ResourceType, PatternType, str], dict[Acl, None]] = {}
        self._lengths: dict[ResourceType, Counter[int]] = {}
        self._count = 0
        for acl in acls:
            self.add(acl)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Acl]:
        for alike in self._by_pattern.values():
            yield from alike

    def __contains__(self, acl: Acl) -> bool:
        return acl in self._by_pattern.get((acl.resource_type, acl.pattern_type, acl.name), ())

    def add(self, acl: Acl) -> None:
        """Add a rule, once."""
        if acl in self:
            return
        alike = self._by_pattern.setdefault((acl.resource_type, acl.pattern_type, acl.name), {})
        if not alike and acl.pattern_type is PatternType.PREFIXED:
            self._lengths.setdefault(acl.resource_type, Counter())[len(acl.name)] += 1
        alike[acl] = None
        self._count += 1

    def remove(self, acl: Acl) -> None:
        """Remove a rule, if it is there."""
        key = (acl.resource_type, acl.pattern_type, acl.name)
        alike = self._by_pattern.get(key)
        if alike is None or acl not in alike:
            return
        del alike[acl]
        self._count -= 1
        if alike:
            return
        del self._by_pattern[key]
        if acl.pattern_type is PatternType.PREFIXED:
            lengths = self._lengths[acl.resource_type]
            lengths[len(acl.name)] -= 1
            if not lengths[len(acl.name)]:
                del lengths[len(acl.name)]

    def decide(
        self, principal: str, host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> Decision:
        """Return what the rules say of an operation on one resource."""
        concerned = False
        allowing: Acl | None = None
        for acl in self._about(resource_type, name):
            concerned = True
            if (
                acl.principal in (principal, WILDCARD_PRINCIPAL)
                and acl.host in (host, WILDCARD)
                and _covers(acl, operation)
            ):
                if acl.permission is Permission.DENY:
                    return Decision(False, acl)
                allowing = acl
        if allowing is not None:
            return Decision(True, allowing)
        return _DENIED if concerned else _UNDECIDED

    def allows_some(
        self, principal: str, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Say whether there is a resource of a type that the operation is allowed on (KIP-679).

        Source: ``Authorizer.authorizeByResourceType``, whose coarse view is kept: only rules of this very
        operation or ALL count, and a DENY counts where it covers the whole pattern of an ALLOW.
        """
        allowed: list[Acl] = []
        denied: set[tuple[PatternType, str]] = set()
        for acl in self:
            if (
                acl.resource_type is not resource_type
                or acl.principal not in (principal, WILDCARD_PRINCIPAL)
                or acl.host not in (host, WILDCARD)
                or acl.operation not in (operation, Operation.ALL)
            ):
                continue
            if acl.permission is Permission.DENY:
                denied.add((acl.pattern_type, acl.name))
            else:
                allowed.append(acl)
        if (PatternType.LITERAL, WILDCARD) in denied:
            return False
        return any(not _is_dominated(acl, denied) for acl in allowed)

    def allow_somebody(self, operation: Operation, resource_type: ResourceType, name: str) -> bool:
        """Say whether somebody may do an operation on one resource by these rules."""
        return any(
            self.decide(acl.principal, acl.host, operation, resource_type, name).allowed
            for acl in self._about(resource_type, name)
            if acl.permission is Permission.ALLOW
        )

    def _about(self, resource_type: ResourceType, name: str) -> Iterator[Acl]:
        found = self._by_pattern
        yield from found.get((resource_type, PatternType.LITERAL, name), ())
        for length in self._lengths.get(resource_type, ()):
            if length <= len(name):
                yield from found.get((resource_type, PatternType.PREFIXED, name[:length]), ())
        if name != WILDCARD:
            yield from found.get((resource_type, PatternType.LITERAL, WILDCARD), ())


def _covers(acl: Acl, operation: Operation) -> bool:
    if acl.operation in (operation, Operation.ALL):
        return True
    return acl.permission is Permission.ALLOW and acl.operation in _IMPLIED_BY.get(operation, ())


def _is_dominated(acl: Acl, denied: set[tuple[PatternType, str]]) -> bool:
    """Whether denials cover all that a rule allows."""
    if acl.pattern_type is PatternType.LITERAL:
        if acl.name == WILDCARD:
            return False
        if (PatternType.LITERAL, acl.name) in denied:
            return True
    return any((PatternType.PREFIXED, acl.name[:end]) in denied for end in range(1, len(acl.name) + 1))
