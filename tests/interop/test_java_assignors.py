"""Our server-side assignors beside those of Apache Kafka, on the same groups.

Range gives the same to the same members. Uniform may choose other partitions, but is as even as Kafka's and
moves no more; where members differ in what they subscribe to, it moves no more all in all.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest

from megabroker.core.groups.assignors import ASSIGNORS, Subscriber
from tests.interop.conftest import java_or_skip
from tests.interop.java import TOOLS, Java

pytestmark = pytest.mark.interop

_CASES = 300

Places = set[tuple[int, int]]
"""(topic, partition)"""


@pytest.fixture(scope="module")
def java() -> Java:
    return java_or_skip(TOOLS, "Assignors")


class Group:
    """One case: topics, members and what they have."""

    def __init__(self, rng: random.Random, alike: bool) -> None:
        self.sizes = {topic: rng.randint(1, 9) for topic in range(1, rng.randint(2, 5))}
        every = sorted(self.sizes)
        self.members = [f"m{number}" for number in range(rng.randint(1, 6))]
        self.instances = {name: f"i{name}" if rng.random() < 0.2 else "" for name in self.members}
        self.topics = {
            name: every if alike else sorted(rng.sample(every, rng.randint(1, len(every))))
            for name in self.members
        }
        self.has: dict[str, Places] = {name: set() for name in self.members}
        if rng.random() < 0.7:
            for topic, size in self.sizes.items():
                takers = [name for name in self.members if topic in self.topics[name]]
                for index in range(size):
                    if takers and rng.random() < 0.8:
                        self.has[rng.choice(takers)].add((topic, index))

    def line(self, assignor: str) -> str:
        """Return the case as the Java class reads it."""
        topics = ",".join(f"{topic}={size}" for topic, size in self.sizes.items())
        members = [
            ":".join(
                (
                    name,
                    self.instances[name],
                    ".".join(map(str, self.topics[name])),
                    ".".join(f"{topic}/{index}" for topic, index in sorted(self.has[name])),
                )
            )
            for name in self.members
        ]
        return " ".join((assignor, topics, *members))

    def ours(self, assignor: str) -> dict[str, Places]:
        """Return what our assignor makes of it."""
        subscribers = [
            Subscriber(
                name,
                self.instances[name] or None,
                frozenset(map(_uuid, self.topics[name])),
                {_uuid(topic): frozenset(i for t, i in self.has[name] if t == topic) for topic in self.sizes},
            )
            for name in self.members
        ]
        sizes = {
            _uuid(topic): size
            for topic, size in self.sizes.items()
            if any(topic in topics for topics in self.topics.values())
        }
        made = ASSIGNORS[assignor](subscribers, sizes)
        return {
            name: {(topic.int, index) for topic, indexes in has.items() for index in indexes}
            for name, has in made.items()
        }

    def loads(self, made: Mapping[str, Places]) -> list[int]:
        return sorted(len(made.get(name, ())) for name in self.members)

    def kept(self, made: Mapping[str, Places]) -> int:
        return sum(len(self.has[name] & made.get(name, set())) for name in self.members)


def _uuid(topic: int) -> UUID:
    return UUID(int=topic)


def kafkas(java: Java, groups: Sequence[Group], assignor: str) -> list[dict[str, Places]]:
    """Return what Apache Kafka's assignor makes of the groups."""
    done = java.run("Assignors", text_input="".join(group.line(assignor) + "\n" for group in groups))
    assert done.returncode == 0, done.stderr
    answers = []
    for line in done.stdout.splitlines():
        made: dict[str, Places] = {}
        for word in line.split(" "):
            name, _, places = word.partition(":")
            pairs = [place.split("/") for place in places.split(".") if place]
            made[name] = {(int(topic), int(index)) for topic, index in pairs}
        answers.append(made)
    assert len(answers) == len(groups)
    return answers


def made_up(alike: bool) -> list[Group]:
    rng = random.Random(f"groups {alike}")
    return [Group(rng, alike) for _ in range(_CASES)]


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "different"])
def test_range_gives_the_same(java: Java, alike: bool) -> None:
    groups = made_up(alike)
    for group, theirs in zip(groups, kafkas(java, groups, "range"), strict=True):
        ours = group.ours("range")
        assert {name: ours[name] for name in theirs} == theirs, group.line("range")


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "different"])
def test_uniform_is_as_even_and_moves_no_more(java: Java, alike: bool) -> None:
    groups = made_up(alike)
    kept = [0, 0]
    for group, theirs in zip(groups, kafkas(java, groups, "uniform"), strict=True):
        ours = group.ours("uniform")
        assert sum(group.loads(ours)) == sum(group.loads(theirs))
        spread = [sum(load * load for load in group.loads(made)) for made in (ours, theirs)]
        assert spread[0] <= spread[1], (group.line("uniform"), ours, theirs)
        if spread[0] == spread[1]:
            of_one = group.kept(ours), group.kept(theirs)
            assert not alike or of_one[0] >= of_one[1], (group.line("uniform"), ours, theirs)
            kept = [total + one for total, one in zip(kept, of_one, strict=True)]
    assert kept[0] >= kept[1]
