"""What a set of access rules says beside single questions."""

from __future__ import annotations

from megabroker.access import CLUSTER_NAME, Acl, Operation, PatternType, Permission, ResourceType
from megabroker.core.acls.matching import RuleSet


def cluster_rule(
    operation: Operation, principal: str = "User:admin", *, permission: Permission = Permission.ALLOW
) -> Acl:
    return Acl(ResourceType.CLUSTER, CLUSTER_NAME, PatternType.LITERAL, principal, "*", operation, permission)


def test_whether_somebody_may() -> None:
    deny = Permission.DENY
    for rules, expected in (
        ([], False),
        ([cluster_rule(Operation.DESCRIBE)], False),
        ([cluster_rule(Operation.ALTER)], True),
        ([cluster_rule(Operation.ALL)], True),
        ([cluster_rule(Operation.ALTER, "User:*")], True),
        ([cluster_rule(Operation.ALTER), cluster_rule(Operation.ALTER, permission=deny)], False),
        ([cluster_rule(Operation.ALTER), cluster_rule(Operation.ALL, "User:*", permission=deny)], False),
        ([cluster_rule(Operation.ALTER), cluster_rule(Operation.ALTER, "User:b", permission=deny)], True),
    ):
        found = RuleSet(rules).allow_somebody(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
        assert found is expected, rules
