"""What access rules decide, against an oracle that looks through all of them, rule by rule."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.access import (
    SUPPORTED,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from megabroker.core.acls.matching import RuleSet

# Few letters, so that names are prefixes of each other and rules meet.
NAMES = st.one_of(st.text("ab", min_size=1, max_size=4), st.just("*"), st.just("*a"))
TYPES = st.sampled_from([ResourceType.TOPIC, ResourceType.GROUP])
HOSTS = ("10.0.0.1", "10.0.0.2")
PRINCIPALS = ("User:alice", "User:bob")
ASKED = st.sampled_from([*SUPPORTED[ResourceType.TOPIC], Operation.IDEMPOTENT_WRITE])
ACLS = st.builds(
    Acl,
    TYPES,
    NAMES,
    st.sampled_from([PatternType.LITERAL, PatternType.PREFIXED]),
    st.sampled_from([*PRINCIPALS, "User:*", "User:a*"]),
    st.sampled_from([*HOSTS, "*"]),
    st.sampled_from([Operation.ALL, *SUPPORTED[ResourceType.TOPIC]]),
    st.sampled_from([Permission.ALLOW, Permission.DENY]),
)
QUESTIONS = st.tuples(st.sampled_from(PRINCIPALS), st.sampled_from(HOSTS), ASKED, TYPES, NAMES)
IMPLIES = {
    "DESCRIBE": {"DESCRIBE", "READ", "WRITE", "DELETE", "ALTER"},
    "DESCRIBE_CONFIGS": {"DESCRIBE_CONFIGS", "ALTER_CONFIGS"},
}


def concerns(acl: Acl, kind: ResourceType, name: str) -> bool:
    if acl.resource_type != kind:
        return False
    if acl.pattern_type == PatternType.PREFIXED:
        return name.startswith(acl.name)
    return acl.name in (name, "*")


def applies(acl: Acl, principal: str, host: str, operation: Operation) -> bool:
    if acl.principal not in (principal, "User:*") or acl.host not in (host, "*"):
        return False
    if acl.operation == Operation.ALL:
        return True
    if acl.permission == Permission.DENY:
        return acl.operation == operation
    return acl.operation.name in IMPLIES.get(operation.name, {operation.name})


def oracle(
    acls: list[Acl], principal: str, host: str, operation: Operation, kind: ResourceType, name: str
) -> bool | None:
    about = [acl for acl in acls if concerns(acl, kind, name)]
    said = {acl.permission for acl in about if applies(acl, principal, host, operation)}
    if Permission.DENY in said:
        return False
    if Permission.ALLOW in said:
        return True
    return False if about else None


@settings(max_examples=500, deadline=None)
@given(st.lists(ACLS, max_size=12), st.lists(QUESTIONS, min_size=1, max_size=6))
def test_decisions_are_those_of_the_oracle(acls, questions):
    rules = RuleSet(acls)
    for question in questions:
        decision = rules.decide(*question)
        assert decision.allowed == oracle(acls, *question), question
        if decision.rule is not None:
            assert decision.rule in acls
            assert (decision.rule.permission is Permission.ALLOW) is decision.allowed


@settings(max_examples=200, deadline=None)
@given(st.lists(ACLS, max_size=12, unique=True), st.data())
def test_what_was_removed_decides_nothing(acls, data):
    gone = data.draw(st.sets(st.sampled_from(acls))) if acls else set()
    rules = RuleSet(acls)
    for acl in (*gone, *gone):
        rules.remove(acl)
    left = [acl for acl in acls if acl not in gone]
    assert sorted(rules) == sorted(left)
    assert len(rules) == len(left)
    assert all(acl in rules for acl in left)
    question = data.draw(QUESTIONS)
    assert rules.decide(*question).allowed == oracle(left, *question)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACLS, max_size=8), st.sampled_from(PRINCIPALS), st.sampled_from(HOSTS), TYPES)
def test_who_may_write_somewhere_is_allowed_some(acls, principal, host, kind):
    """The coarse question may not say no to whoever a rule of that operation lets write to some name."""
    rules = RuleSet(acls)
    somewhere = any(
        rules.decide(principal, host, Operation.WRITE, kind, name).allowed
        for acl in acls
        for name in (acl.name, acl.name + "b", acl.name + "aa")
        if (acl.pattern_type, acl.name) != (PatternType.LITERAL, "*")
    )
    if somewhere:
        assert rules.allows_some(principal, host, Operation.WRITE, kind)
    if rules.allows_some(principal, host, Operation.WRITE, kind):
        assert any(applies(acl, principal, host, Operation.WRITE) for acl in acls)


@settings(max_examples=300, deadline=None)
@given(ACLS, NAMES)
def test_filters_mean_what_kafkas_mean(acl, name):
    exactly = AclFilter(*acl)
    assert exactly.matches(acl)
    assert AclFilter().matches(acl)
    match = AclFilter(acl.resource_type, name, PatternType.MATCH)
    assert match.matches(acl) == (concerns(acl, acl.resource_type, name) or acl.name == name)
    by_name = AclFilter(ResourceType.ANY, name, PatternType.ANY)
    assert by_name.matches(acl) == (acl.name == name)
    literal = AclFilter(acl.resource_type, name, PatternType.LITERAL)
    assert literal.matches(acl) == (acl.name == name and acl.pattern_type == PatternType.LITERAL)
