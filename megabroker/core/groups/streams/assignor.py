"""Who is to do which task: everybody about as much as the others, and as far as possible what he did before.

A pure function. Members of one process share its disk, so a task is at most once in a process, and load is
compared between processes first (by member) and then between the members of one. Active tasks go to who had
them, then to who kept a standby of them, as long as those have not more than their share; the rest goes to
the least loaded. Standbys follow by the same rules (KIP-1071, assignor "sticky").
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from megabroker.model.streams_groups import Role, TaskAssignment, TaskSet

__all__ = ["Worker", "assign"]

_MAX_STANDBYS: Final = 50_000

_Task = tuple[str, int]


class Worker(NamedTuple):
    """A member as the assignor sees it; ``had`` is its former target."""

    member_id: str
    process_id: str
    had: TaskAssignment


def assign(
    workers: Iterable[Worker], tasks: Mapping[str, int], standbys: int = 0
) -> dict[str, dict[TaskSet, frozenset[int]]]:
    """Return what each member is to do, by member id.

    Args:
        tasks: how many tasks each subtopology has.
        standbys: how many copies of the state of each task are kept; fewer where there are too few processes,
            or more tasks than could be handed out so often within a second.
    """
    bench = _Bench(workers, standbys)
    wanted = [(part, index) for part, count in sorted(tasks.items()) for index in range(count)]
    if bench.loads and wanted:
        bench.hand_out(Role.ACTIVE, wanted, _share(len(wanted), len(bench.loads)))
        copies = min(standbys, len(bench.members_of) - 1, _MAX_STANDBYS // len(wanted))
        stateful = [task for task in wanted for _ in range(copies)]
        bench.hand_out(Role.STANDBY, stateful, _share(len(wanted) + len(stateful), len(bench.loads)))
    return bench.result()


def _share(tasks: int, members: int) -> int:
    return -(-tasks // members)


class _Bench:
    """The members, what they had, and what they have been given so far.

    Attributes:
        loads: tasks given to each member.
        members_of: member ids of each process.
    """

    def __init__(self, workers: Iterable[Worker], standbys: int) -> None:
        self.loads: dict[str, int] = {}
        self.members_of: dict[str, list[str]] = defaultdict(list)
        self._process: dict[str, str] = {}
        self._process_loads: dict[str, int] = defaultdict(int)
        self._in_process: dict[str, set[_Task]] = defaultdict(set)
        self._had: dict[tuple[Role, _Task], list[str]] = defaultdict(list)
        self._given: dict[str, dict[TaskSet, set[int]]] = {}
        for worker in sorted(workers):
            self.loads[worker.member_id] = 0
            self.members_of[worker.process_id].append(worker.member_id)
            self._process[worker.member_id] = worker.process_id
            self._given[worker.member_id] = defaultdict(set)
            for (role, part), indexes in worker.had.items():
                for index in indexes:
                    self._had[role, (part, index)].append(worker.member_id)

    def hand_out(self, role: Role, tasks: Iterable[_Task], share: int) -> None:
        """Give tasks to who had them, as long as he has less than ``share``, else to the least loaded."""
        left = list(tasks)
        for former in (Role.ACTIVE, Role.STANDBY):
            rest = []
            for task in left:
                able = [
                    one
                    for one in self._had.get((former, task), ())
                    if self.loads[one] < share and task not in self._in_process[self._process[one]]
                ]
                if able:
                    self._give(role, task, min(able, key=self._load))
                else:
                    rest.append(task)
            left = rest
        waiting = [(self._weight(process), process) for process in self.members_of]
        heapq.heapify(waiting)
        for task in left:
            passed = []
            while waiting and task in self._in_process[waiting[0][1]]:
                passed.append(heapq.heappop(waiting))
            if waiting:
                process = waiting[0][1]
                self._give(role, task, min(self.members_of[process], key=self._load))
                heapq.heapreplace(waiting, (self._weight(process), process))
            for one in passed:
                heapq.heappush(waiting, one)

    def _weight(self, process: str) -> float:
        return self._process_loads[process] / len(self.members_of[process])

    def _load(self, member_id: str) -> tuple[int, str]:
        return self.loads[member_id], member_id

    def _give(self, role: Role, task: _Task, member_id: str) -> None:
        process = self._process[member_id]
        self.loads[member_id] += 1
        self._process_loads[process] += 1
        self._in_process[process].add(task)
        self._given[member_id][TaskSet(role, task[0])].add(task[1])

    def result(self) -> dict[str, dict[TaskSet, frozenset[int]]]:
        """Return what everybody has been given."""
        return {
            member_id: {tasks: frozenset(indexes) for tasks, indexes in given.items()}
            for member_id, given in self._given.items()
        }
