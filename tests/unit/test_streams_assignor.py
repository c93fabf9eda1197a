"""The assignor of streams groups: complete, even, never twice in a process, and moving little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from megabroker.core.groups.streams.assignor import Worker, assign
from megabroker.model.streams_groups import Role, TaskAssignment, TaskSet

TASKS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 8), max_size=3)
PROCESSES = st.lists(st.sampled_from("xyz"), min_size=1, max_size=8)


def workers(
    processes: list[str], had: dict[str, dict[TaskSet, frozenset[int]]] | None = None
) -> list[Worker]:
    return [
        Worker(f"m{number}", process, (had or {}).get(f"m{number}", {}))
        for number, process in enumerate(processes)
    ]


def of(assignment: TaskAssignment, role: Role) -> list[tuple[str, int]]:
    return [
        (part, index) for (found, part), indexes in assignment.items() for index in indexes if found is role
    ]


@given(PROCESSES, TASKS, st.integers(0, 3))
def test_every_task_is_active_once_and_standbys_are_elsewhere(
    processes: list[str], tasks: dict[str, int], standbys: int
) -> None:
    found = assign(workers(processes), tasks, standbys)
    wanted = sorted((part, index) for part, count in tasks.items() for index in range(count))
    assert sorted(task for mine in found.values() for task in of(mine, Role.ACTIVE)) == wanted
    by_process: dict[str, list[tuple[str, int]]] = {}
    for number, process in enumerate(processes):
        mine = found[f"m{number}"]
        by_process.setdefault(process, []).extend(of(mine, Role.ACTIVE) + of(mine, Role.STANDBY))
    for here in by_process.values():
        assert len(set(here)) == len(here)
    copies = min(standbys, len(by_process) - 1)
    spare = sorted(task for mine in found.values() for task in of(mine, Role.STANDBY))
    assert spare == sorted(wanted * copies)


@given(st.integers(1, 8), TASKS)
def test_members_have_about_as_much_as_each_other(members: int, tasks: dict[str, int]) -> None:
    found = assign(workers([f"p{number}" for number in range(members)]), tasks)
    loads = [len(of(mine, Role.ACTIVE)) for mine in found.values()]
    assert max(loads) - min(loads) <= 1


@given(PROCESSES, TASKS, st.integers(0, 2))
def test_nothing_moves_without_need(processes: list[str], tasks: dict[str, int], standbys: int) -> None:
    first = assign(workers(processes), tasks, standbys)
    assert of_role(assign(workers(processes, first), tasks, standbys)) == of_role(first)


def of_role(found: dict[str, dict[TaskSet, frozenset[int]]]) -> dict[str, list[tuple[str, int]]]:
    return {member_id: sorted(of(mine, Role.ACTIVE)) for member_id, mine in found.items()}


def test_a_newcomer_gets_its_share_and_no_more() -> None:
    alone = assign(workers(["x"]), {"a": 6})
    both = assign(workers(["x", "y"], alone), {"a": 6})
    assert [len(of(mine, Role.ACTIVE)) for mine in both.values()] == [3, 3]
    assert set(of(both["m0"], Role.ACTIVE)) <= set(of(alone["m0"], Role.ACTIVE))


def test_a_standby_takes_over() -> None:
    found = assign(workers(["x", "y"]), {"a": 2}, 1)
    gone = {"m1": found["m1"]}
    after = assign([Worker("m1", "y", gone["m1"]), Worker("m2", "z", {})], {"a": 2}, 1)
    kept = set(of(found["m1"], Role.ACTIVE))
    assert kept & set(of(after["m1"], Role.ACTIVE)) == kept


def test_without_members_or_tasks() -> None:
    assert assign([], {"a": 3}) == {}
    assert assign(workers(["x"]), {}) == {"m0": {}}


def test_so_many_standbys_as_would_take_long_are_not_kept() -> None:
    found = assign(workers([f"p{number}" for number in range(30)]), {"a": 25_000}, 20)
    assert sum(len(of(mine, Role.ACTIVE)) for mine in found.values()) == 25_000
    assert sum(len(of(mine, Role.STANDBY)) for mine in found.values()) == 50_000
