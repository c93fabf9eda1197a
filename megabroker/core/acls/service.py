"""The access rules that are kept, and who decides by them.

Owns the metadata table ``acls``: the key is the rule as a JSON array, its fields in order, the value ``{}``.

Decisions are remembered, until a rule is changed. Whoever remembers on its own that somebody may do something
goes by a generation, which ``renew`` moves on.

Invariant: a change that is told is stored and in force.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.access import (
    CLUSTER_NAME,
    SUPPORTED,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from megabroker.core.acls.matching import Decision, RuleSet
from megabroker.core.audit import Audit
from megabroker.core.quotas.table import plain_address
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IAuthorizer, IMetadataStore
from megabroker.model import PEER, Change, Principal

__all__ = ["ACLS_TABLE", "AclSettings", "Acls", "acl_row", "check_acl"]

ACLS_TABLE = "acls"
_MAX_ACLS: Final = 100_000
_MAX_AT_ONCE: Final = 10_000
_MAX_DECISIONS: Final = 10_000
_MAX_NAME_CHARS: Final = 1_000

_log = Logger()

_SUPER_USER: Final = Decision(True)
_Question = tuple[Principal, str, Operation, ResourceType, str]


@attrs.frozen
class AclSettings:
    """Who decides.

    Attributes:
        enabled: whether rules do; else everybody may do everything.
        super_users: who may do everything anyway, as ``User:name``.
        allow_everyone_if_no_acl_found: whether what no rule is about is for everybody, or for nobody.
    """

    enabled: bool = False
    super_users: frozenset[str] = frozenset()
    allow_everyone_if_no_acl_found: bool = False


def acl_row(acl: Acl, *, kept: bool = True) -> Change:
    """Return the row that keeps a rule, or the one that removes it."""
    return Change(ACLS_TABLE, json.dumps(acl, separators=(",", ":")), {} if kept else None)


def check_acl(acl: Acl) -> None:
    """Raise RequestError(INVALID_REQUEST) for what cannot be a rule, as Kafka's controller does."""
    wrong = ""
    if acl.resource_type in (ResourceType.UNKNOWN, ResourceType.ANY):
        wrong = f"Invalid resourceType {acl.resource_type.name}"
    elif acl.pattern_type not in (PatternType.LITERAL, PatternType.PREFIXED):
        wrong = f"Invalid patternType {acl.pattern_type.name}"
    elif acl.operation in (Operation.UNKNOWN, Operation.ANY):
        wrong = f"Invalid operation {acl.operation.name}"
    elif acl.permission not in (Permission.ALLOW, Permission.DENY):
        wrong = f"Invalid permissionType {acl.permission.name}"
    elif not acl.name:
        wrong = "Resource name should not be empty"
    elif acl.resource_type is ResourceType.CLUSTER and acl.name != CLUSTER_NAME:
        wrong = f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}"
    elif ":" not in acl.principal:
        wrong = (
            f"Could not parse principal from `{acl.principal}` (no colon is present separating the "
            "principal type from the principal name)"
        )
    elif max(len(acl.name), len(acl.principal), len(acl.host)) > _MAX_NAME_CHARS:
        wrong = f"Names of more than {_MAX_NAME_CHARS} characters are not taken"
    if wrong:
        raise RequestError(ErrorCode.INVALID_REQUEST, wrong)


@implementer(IAuthorizer)
class Acls:
    """See ``IAuthorizer``.

    Args:
        renew: has everybody ask again who remembers what was allowed.
    """

    def __init__(
        self,
        metadata: IMetadataStore,
        settings: AclSettings,
        audit: Audit,
        renew: Callable[[], None],
    ) -> None:
        self._metadata = metadata
        self._settings = settings
        self._audit = audit
        self._renew = renew
        self._changing = DeferredLock()
        self._rules = RuleSet()
        self._decisions: dict[_Question, Decision] = {}
        self.enabled = settings.enabled

    def load(self) -> None:
        """Read what is stored. Blocking; call first. A row that is none is logged and left alone."""
        rules = RuleSet()
        for key in self._metadata.rows(ACLS_TABLE):
            try:
                rules.add(_from_key(key))
            except (BrokerError, ValueError, TypeError) as error:
                _log.error("unreadable access rule {key!r}: {error}", key=key, error=str(error))
        self._rules = rules
        self._follow()

    def configure(self, settings: AclSettings) -> None:
        """Put other settings in force; who decides stays as it was at the start."""
        settings = attrs.evolve(settings, enabled=self.enabled)
        if settings != self._settings:
            self._settings = settings
            self._follow()

    @property
    def has_administrator(self) -> bool:
        """Whether somebody may make rules, as things are."""
        settings = self._settings
        if not settings.enabled or settings.super_users or settings.allow_everyone_if_no_acl_found:
            return True
        return self._rules.allow_somebody(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)

    # --- administration ---------------------------------------------------------------------------

    def describe(self, wanted: AclFilter) -> Sequence[Acl]:
        """See ``IAuthorizer.describe``."""
        return [acl for acl in self._rules if wanted.matches(acl)]

    def create(self, acls: Sequence[Acl]) -> Deferred[Sequence[BrokerError | None]]:
        """See ``IAuthorizer.create``."""
        return self._changing.run(lambda: Deferred.fromCoroutine(self._create(list(acls))))

    async def _create(self, acls: list[Acl]) -> Sequence[BrokerError | None]:
        outcomes: list[BrokerError | None] = []
        new: dict[Acl, None] = {}
        for acl in acls:
            try:
                check_acl(acl)
                if acl not in self._rules and acl not in new:
                    if len(self._rules) + len(new) >= _MAX_ACLS:
                        raise StateError(ErrorCode.TOPIC_LIMIT, f"at most {_MAX_ACLS} access rules are kept")
                    new[acl] = None
                outcomes.append(None)
            except BrokerError as error:
                outcomes.append(error)
        if new:
            await self._metadata.write([acl_row(acl) for acl in new])
            for acl in new:
                self._rules.add(acl)
            self._follow()
        return outcomes

    def delete(self, filters: Sequence[AclFilter]) -> Deferred[Sequence[Sequence[Acl]]]:
        """See ``IAuthorizer.delete``."""
        return self._changing.run(lambda: Deferred.fromCoroutine(self._delete(list(filters))))

    async def _delete(self, filters: list[AclFilter]) -> Sequence[Sequence[Acl]]:
        found = [self.describe(wanted) for wanted in filters]
        gone = dict.fromkeys(acl for alike in found for acl in alike)
        if len(gone) > _MAX_AT_ONCE:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"Cannot remove more than {_MAX_AT_ONCE} acls in a single request"
            )
        if gone:
            await self._metadata.write([acl_row(acl, kept=False) for acl in gone])
            for acl in gone:
                self._rules.remove(acl)
            self._follow()
        return found

    def _follow(self) -> None:
        self._decisions.clear()
        self._renew()

    # --- in force ---------------------------------------------------------------------------------

    def allowed(
        self,
        principal: Principal,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        *,
        quiet: bool = False,
    ) -> bool:
        """See ``IAuthorizer.allowed``."""
        if not self.enabled:
            return True
        question = (principal, host, operation, resource_type, name)
        decision = self._decisions.get(question)
        if decision is None:
            decision = self._decide(*question)
            if len(name) <= _MAX_NAME_CHARS:
                if len(self._decisions) >= _MAX_DECISIONS:
                    self._decisions.clear()
                self._decisions[question] = decision
        if decision.allowed:
            return True
        if not quiet:
            rule = "no rule that allows it" if decision.rule is None else f"the rule {decision.rule}"
            self._audit.denied(principal, host, operation, resource_type, name, rule)
        return False

    def allowed_some(
        self, principal: Principal, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """See ``IAuthorizer.allowed_some``."""
        # Kafka asks for this very name, to find out about super users and those without any rule.
        if self.allowed(principal, host, operation, resource_type, "hardcode", quiet=True):
            return True
        return self._rules.allows_some(str(principal), _plain(host), operation, resource_type)

    def operations(
        self, principal: Principal, host: str, resource_type: ResourceType, name: str
    ) -> Collection[Operation]:
        """See ``IAuthorizer.operations``."""
        return [
            operation
            for operation in SUPPORTED[resource_type]
            if self.allowed(principal, host, operation, resource_type, name, quiet=True)
        ]

    def _decide(
        self,
        principal: Principal,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
    ) -> Decision:
        who, host = str(principal), _plain(host)
        if principal == PEER or who in self._settings.super_users:
            return _SUPER_USER
        decision = self._rules.decide(who, host, operation, resource_type, name)
        if decision.allowed is None:
            return Decision(self._settings.allow_everyone_if_no_acl_found)
        return decision


def _plain(host: str) -> str:
    """Return an address as rules have it; that of a socket which has none as it is."""
    try:
        return plain_address(host)
    except ValueError:
        return host


def _from_key(key: str) -> Acl:
    fields: Any = json.loads(key)
    kind, name, pattern, principal, host, operation, permission = fields
    acl = Acl(
        ResourceType(kind),
        str(name),
        PatternType(pattern),
        str(principal),
        str(host),
        Operation(operation),
        Permission(permission),
    )
    check_acl(acl)
    return acl
