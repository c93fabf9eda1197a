"""What our access rules decide beside Apache Kafka's own authorizer, on the same rules and questions."""

from __future__ import annotations

import random

import pytest
from twisted.internet.task import Clock

from megabroker.access import SUPPORTED, Acl, Operation, PatternType, Permission, ResourceType
from megabroker.core.acls import Acls, AclSettings
from megabroker.core.audit import Audit
from megabroker.model import Principal
from megabroker.storage.metadata.memory import MemoryMetadataStore
from tests.interop.conftest import java_or_skip
from tests.interop.java import TOOLS, Java

pytestmark = pytest.mark.interop

_CASES = 400
_QUESTIONS = 15
_TYPES = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
_HOSTS = ("10.0.0.1", "10.0.0.2")
_USERS = ("User:alice", "User:bob", "User:admin")
_OPERATIONS = tuple(sorted({Operation.ALL, *(one for several in SUPPORTED.values() for one in several)}))


@pytest.fixture(scope="module")
def java() -> Java:
    return java_or_skip(TOOLS, "AccessRules")


def name(rng: random.Random) -> str:
    """Few letters, so that names are prefixes of each other."""
    return "*" if rng.random() < 0.15 else "".join(rng.choices("ab", k=rng.randint(1, 4)))


def rule(rng: random.Random) -> Acl:
    return Acl(
        rng.choice(_TYPES),
        name(rng),
        rng.choice([PatternType.LITERAL, PatternType.PREFIXED]),
        rng.choice([*_USERS, "User:*"]),
        rng.choice([*_HOSTS, "*"]),
        rng.choice(_OPERATIONS),
        rng.choice([Permission.ALLOW, Permission.ALLOW, Permission.DENY]),
    )


@pytest.mark.parametrize("for_everybody", [False, True])
def test_both_decide_alike(java: Java, for_everybody: bool) -> None:
    rng = random.Random(7 + for_everybody)
    settings = AclSettings(
        enabled=True,
        super_users=frozenset({"User:admin"}),
        allow_everyone_if_no_acl_found=for_everybody,
    )
    lines: list[str] = []
    expected: list[str] = []
    asked = _OPERATIONS[1:]
    for _ in range(_CASES):
        rules = [rule(rng) for _ in range(rng.randint(0, 10))]
        clock = Clock()
        store = MemoryMetadataStore(clock)
        store.open()
        ours = Acls(store, settings, Audit(clock.seconds), lambda: None)
        ours.create(rules)
        clock.advance(0)
        assert set(ours._rules) == set(rules)
        written = (
            f"{one.resource_type:d},{one.pattern_type:d},{one.name},{one.principal},{one.host},"
            f"{one.operation:d},{one.permission:d}"
            for one in dict.fromkeys(rules)
        )
        lines.append(" ".join(["rules", *written]))
        for _ in range(_QUESTIONS):
            user, host, operation, kind = (rng.choice(of) for of in (_USERS, _HOSTS, asked, _TYPES))
            who = Principal(*user.split(":"))
            if rng.random() < 0.3:
                lines.append(f"some {user} {host} {operation:d} {kind:d}")
                allowed = ours.allowed_some(who, host, operation, kind)
            else:
                resource = name(rng)
                lines.append(f"may {user} {host} {operation:d} {kind:d} {resource}")
                allowed = ours.allowed(who, host, operation, kind, resource, quiet=True)
            expected.append("ALLOWED" if allowed else "DENIED")
    done = java.run("AccessRules", str(for_everybody).lower(), text_input="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr[-2000:]
    answers = done.stdout.split()
    questions = [line for line in lines if not line.startswith("rules")]
    assert len(answers) == len(expected) == _CASES * _QUESTIONS
    differing = [
        (question, ours, kafkas)
        for question, ours, kafkas in zip(questions, expected, answers, strict=True)
        if ours != kafkas
    ]
    assert differing == []
    assert {"ALLOWED", "DENIED"} == set(answers)
