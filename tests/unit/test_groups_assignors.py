"""The assignors of groups of the consumer protocol: complete, even, and moving little."""

from __future__ import annotations

import time
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.core.groups.assignors import ASSIGNORS, Subscriber, assign_range, assign_uniform

A, B, C = (UUID(int=number) for number in (1, 2, 3))
TOPICS = {A: 3, B: 3, C: 1}


def member(name: str, *topics: UUID, instance: str | None = None, **target: set[int]) -> Subscriber:
    held = {{"a": A, "b": B, "c": C}[topic]: frozenset(indexes) for topic, indexes in target.items()}
    return Subscriber(name, instance, frozenset(topics or (A,)), held)


def test_range_gives_runs_in_order_of_instances_then_ids() -> None:
    members = [member("x", A, B), member("y", A, B, instance="1"), member("a", B)]
    assert assign_range(members, TOPICS) == {
        "y": {A: {0, 1}, B: {0}},
        "a": {B: {1}},
        "x": {A: {2}, B: {2}},
    }


def test_range_leaves_those_who_come_late_without_any() -> None:
    assert assign_range([member("x", C), member("y", C)], TOPICS) == {"x": {C: {0}}, "y": {}}


def test_uniform_moves_only_the_surplus() -> None:
    found = assign_uniform([member("x", A, B, a={0, 1, 2}, b={0, 1, 2}), member("y", A, B)], TOPICS)
    assert {name: sum(map(len, mine.values())) for name, mine in found.items()} == {"x": 3, "y": 3}
    assert found["x"][A] <= {0, 1, 2}
    third = assign_uniform(
        [Subscriber(name, None, frozenset({A, B}), found.get(name, {})) for name in ("x", "y", "z")], TOPICS
    )
    for name in ("x", "y"):
        for topic, indexes in third[name].items():
            assert indexes <= found[name][topic]


def test_uniform_makes_up_for_what_others_cannot_have() -> None:
    found = assign_uniform([member("x", A, a={0, 1, 2}), member("y", A, B)], TOPICS)
    assert found == {"x": {A: {0, 1, 2}}, "y": {B: {0, 1, 2}}}


def test_uniform_passes_partitions_on_through_others() -> None:
    """The first and the last have no topic in common, and nobody in between is two apart from either."""
    a, b = UUID(int=1), UUID(int=2)
    first = Subscriber("first", None, frozenset({a}), {a: frozenset(range(5))})
    middle = Subscriber("middle", None, frozenset({a, b}), {b: frozenset(range(4))})
    last = Subscriber("last", None, frozenset({b}), {b: frozenset({4, 5, 6})})
    made = assign_uniform([first, middle, last], {a: 5, b: 7})
    assert [sum(map(len, made[name].values())) for name in ("first", "middle", "last")] == [4, 4, 4]


def test_a_target_two_members_claim_is_given_once() -> None:
    found = assign_uniform([member("x", a={0, 1}), member("y", a={1, 2, 7})], TOPICS)
    assert sorted([*found["x"][A], *found["y"][A]]) == [0, 1, 2]


def test_nobody_and_nothing() -> None:
    for assign in ASSIGNORS.values():
        assert assign([], TOPICS) == {}
        assert assign([member("x", UUID(int=9))], TOPICS) == {"x": {}}


def test_many_members_and_partitions_are_assigned_quickly() -> None:
    topics = {UUID(int=number): 20 for number in range(500)}
    everything = frozenset(topics)
    some = [frozenset(list(topics)[number % 50 :]) for number in range(500)]
    alike = [Subscriber(f"{number}", None, everything, {}) for number in range(500)]
    unlike = [Subscriber(f"{number}", None, mine, {}) for number, mine in enumerate(some)]
    for members in (alike, unlike):
        for assign in ASSIGNORS.values():
            began = time.monotonic()
            assert (
                sum(len(one) for mine in assign(members, topics).values() for one in mine.values()) == 10_000
            )
            assert time.monotonic() - began < 5


subscribers = st.lists(
    st.tuples(
        st.sets(st.sampled_from([A, B, C]), min_size=1),
        st.dictionaries(st.sampled_from([A, B, C]), st.frozensets(st.integers(0, 8), min_size=1)),
    ),
    min_size=1,
    max_size=7,
)
sizes = st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 9))


@settings(max_examples=200, deadline=None)
@given(subscribers, sizes, st.sampled_from(sorted(ASSIGNORS)), st.booleans())
def test_every_partition_goes_to_one_subscriber(drawn, topics, name, alike) -> None:
    members = [
        Subscriber(f"m{number}", None, frozenset(drawn[0][0] if alike else wanted), target)
        for number, (wanted, target) in enumerate(drawn)
    ]
    found = ASSIGNORS[name](members, topics)
    assert set(found) == {one.member_id for one in members}
    given = []
    for one in members:
        for topic, indexes in found[one.member_id].items():
            assert topic in one.topics
            assert indexes
            given.extend((topic, index) for index in indexes)
    wanted = set().union(*(one.topics for one in members))
    assert sorted(given) == sorted(
        (topic, index) for topic in wanted & set(topics) for index in range(topics[topic])
    )
    loads = {one.member_id: sum(map(len, found[one.member_id].values())) for one in members}
    if name == "uniform":
        for more in members:
            for less in members:
                for topic in found[more.member_id]:
                    assert topic not in less.topics or loads[more.member_id] - loads[less.member_id] < 2
        again = ASSIGNORS[name](
            [Subscriber(one.member_id, None, one.topics, found[one.member_id]) for one in members], topics
        )
        assert again == found
