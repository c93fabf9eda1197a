"""What a topology needs of topics, and how many tasks it has."""

from __future__ import annotations

from typing import Any

import pytest

from megabroker.core.groups.streams.topology import check_topology, plan
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model.streams_groups import InternalTopic, StreamsStatus, Subtopology, Topology


def topology(*parts: Subtopology, epoch: int = 0) -> Topology:
    return Topology(epoch, parts)


def internal(name: str, partitions: int = 0, **configs: str) -> InternalTopic:
    return InternalTopic(name, partitions, configs=configs)


WORDS = Subtopology("0", sources=("text",), sinks=("words",))
COUNTS = Subtopology("1", repartitions=(internal("words"),), changelogs=(internal("counts", a="b"),))


def test_internal_topics_follow_the_sources() -> None:
    found = plan(topology(WORDS, COUNTS), {"text": 4}.get)
    assert found.problem == (
        StreamsStatus.MISSING_INTERNAL_TOPICS,
        "internal topics are missing: counts, words",
    )
    assert found.missing == (internal("words", 4), internal("counts", 4, a="b"))
    assert (found.ready, found.tasks) == (False, {})
    ready = plan(topology(WORDS, COUNTS), {"text": 4, "words": 4, "counts": 4}.get)
    assert (ready.ready, ready.tasks, ready.missing) == (True, {"0": 4, "1": 4}, ())
    assert ready.topology.subtopologies[1].changelogs == (internal("counts", 4, a="b"),)


def test_sources_must_be_there() -> None:
    parts = [Subtopology(str(number), sources=(f"t{number}",)) for number in range(5)]
    found = plan(topology(*parts), {"t1": 1}.get)
    assert found.problem == (
        StreamsStatus.MISSING_SOURCE_TOPICS,
        "source topics are missing: t0, t2, t3 and 1 more",
    )


def test_a_chain_is_followed_from_whatever_end_it_is_told() -> None:
    chain = [
        Subtopology(str(number), repartitions=(internal(f"r{number}"),), sinks=(f"r{number + 1}",))
        for number in range(1, 5)
    ]
    last = Subtopology("9", repartitions=(internal("r5"),))
    first = Subtopology("0", sources=("a", "b"), sinks=("r1",))
    found = plan(topology(last, *reversed(chain), first), {"a": 3, "b": 7}.get)
    assert {topic.name: topic.partitions for topic in found.missing} == {f"r{n}": 7 for n in range(1, 6)}


def test_a_long_chain_takes_no_longer_from_its_end() -> None:
    count, calls = 300, 0
    chain = [
        Subtopology(str(number), repartitions=(internal(f"r{number}"),), sinks=(f"r{number + 1}",))
        for number in range(1, count)
    ]
    last = Subtopology("last", repartitions=(internal(f"r{count}"),))
    first = Subtopology("0", sources=("a",), sinks=("r1",))

    def partitions_of(name: str) -> int | None:
        nonlocal calls
        calls += 1
        return 3 if name == "a" else None

    assert len(plan(topology(last, *reversed(chain), first), partitions_of).missing) == count
    assert calls < 10 * count


def test_the_tasks_of_one_application_are_bounded() -> None:
    parts = [Subtopology(str(number), sources=("a",)) for number in range(101)]
    found = plan(topology(*parts), {"a": 1000}.get)
    assert found.problem == (
        StreamsStatus.INCORRECTLY_PARTITIONED_TOPICS,
        "the application has 101000 tasks, more than 100000",
    )
    assert plan(topology(*parts[1:]), {"a": 1000}.get).ready


def test_fixed_partitions_are_kept() -> None:
    counts = Subtopology("1", repartitions=(internal("words", 2),), changelogs=(internal("counts"),))
    found = plan(topology(WORDS, counts), {"text": 9}.get)
    assert [topic.partitions for topic in found.missing] == [2, 2]


def test_joined_topics_have_as_many_partitions_as_each_other() -> None:
    join = Subtopology(
        "1",
        sources=("table",),
        repartitions=(internal("words"),),
        copartitioned=(frozenset({"table", "words"}),),
    )
    found = plan(topology(WORDS, join), {"text": 9, "table": 3}.get)
    assert [topic.partitions for topic in found.missing] == [3]
    both = Subtopology("0", sources=("x", "y"), copartitioned=(frozenset({"x", "y"}),))
    assert plan(topology(both), {"x": 3, "y": 3}.get).tasks == {"0": 3}
    assert plan(topology(both), {"x": 3, "y": 4}.get).problem == (
        StreamsStatus.INCORRECTLY_PARTITIONED_TOPICS,
        "topics that are joined must have as many partitions as each other: x has 3, y has 4",
    )
    fixed = Subtopology(
        "0", sources=("x",), repartitions=(internal("r", 2),), copartitioned=(frozenset({"x", "r"}),)
    )
    assert plan(topology(fixed), {"x": 3}.get).problem is not None
    loose = Subtopology(
        "1",
        repartitions=(internal("r"), internal("s")),
        copartitioned=(frozenset({"r", "s"}),),
    )
    wide = Subtopology("0", sources=("x",), sinks=("r",))
    narrow = Subtopology("2", sources=("y",), sinks=("s",))
    found = plan(topology(wide, loose, narrow), {"x": 8, "y": 2}.get)
    assert {topic.name: topic.partitions for topic in found.missing} == {"r": 8, "s": 8}


def test_an_internal_topic_of_another_size_is_told() -> None:
    found = plan(topology(WORDS, COUNTS), {"text": 4, "words": 5}.get)
    assert found.problem == (
        StreamsStatus.INCORRECTLY_PARTITIONED_TOPICS,
        "words has 5 partitions; the application needs 4",
    )


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([Subtopology("0", repartitions=(internal("r"),), sinks=("r",))], "is there a loop"),
        ([Subtopology("0", sources=("text",), repartitions=(internal("r"),))], "nobody writes"),
        ([Subtopology("0")], "reads no topic"),
    ],
)
def test_contradictions(parts: list[Subtopology], what: str) -> None:
    with pytest.raises(BrokerError, match=what) as caught:
        plan(topology(*parts), {"text": 1}.get)
    assert caught.value.code is ErrorCode.STREAMS_INVALID_TOPOLOGY


@pytest.mark.parametrize(
    "wrong",
    [
        topology(epoch=-1),
        topology(Subtopology("0"), Subtopology("0")),
        topology(*(Subtopology(str(number)) for number in range(1001))),
        topology(Subtopology("0", sources=("t",) * 20_001)),
        topology(Subtopology("0", repartitions=(internal("r", 10_001),))),
        topology(Subtopology("0", repartitions=(internal("r", -1),))),
        topology(Subtopology("0", changelogs=(internal("c", 1),))),
    ],
    ids=["epoch", "ids", "subtopologies", "topics", "partitions", "negative", "changelog"],
)
def test_what_no_topics_could_make_ready_is_refused(wrong: Any) -> None:
    with pytest.raises(BrokerError) as caught:
        check_topology(wrong)
    assert caught.value.code is ErrorCode.STREAMS_INVALID_TOPOLOGY
