"""Who gets which partition: the assignors this broker offers to groups of the consumer protocol.

Owns the decision and nothing else: takes subscriptions and the assignment aimed at so far, returns the one to
aim at. Must be deterministic, and knows neither epochs nor who holds what at the moment.

``uniform`` (the default) gives everybody the same number of partitions, as far as subscriptions allow, and
moves as few as it can. ``range`` gives each member one run of consecutive partitions of every topic, in the
order of instance and member ids, so that equal partitions of different topics meet in one member.

Invariant: every partition of a topic that somebody subscribes to is given to exactly one member, who
subscribes to that topic.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final
from uuid import UUID

import attrs

from megabroker.model import TopicAssignment

__all__ = ["ASSIGNORS", "DEFAULT_ASSIGNOR", "Subscriber", "assign_range", "assign_uniform"]

_MAX_ROUNDS: Final = 8
"""Passes over all topics in search of a better balance; two or three find it."""

_MAX_LOOKS: Final = 2_000_000
"""Members looked at in that search, so that no group occupies the reactor for long."""

_Held = dict[UUID, set[int]]


@attrs.frozen
class Subscriber:
    """One member as an assignor sees it.

    Attributes:
        topics: ids of the topics it subscribes to.
        target: what it was to have until now.
    """

    member_id: str
    instance_id: str | None
    topics: frozenset[UUID]
    target: TopicAssignment


Assignor = Callable[[Sequence[Subscriber], Mapping[UUID, int]], dict[str, TopicAssignment]]
"""(members, number of partitions by topic) -> what each member is to have."""


def assign_range(members: Sequence[Subscriber], topics: Mapping[UUID, int]) -> dict[str, TopicAssignment]:
    """Give every topic's partitions out in runs of consecutive ones."""
    result: dict[str, dict[UUID, frozenset[int]]] = {one.member_id: {} for one in members}
    ordered = sorted(members, key=lambda one: (one.instance_id is None, one.instance_id or "", one.member_id))
    for topic, subscribers in _by_topic(ordered, topics).items():
        share, over = divmod(topics[topic], len(subscribers))
        first = 0
        for number, member in enumerate(subscribers):
            end = first + share + (number < over)
            if end > first:
                result[member.member_id][topic] = frozenset(range(first, end))
            first = end
    return dict(result)


def assign_uniform(members: Sequence[Subscriber], topics: Mapping[UUID, int]) -> dict[str, TopicAssignment]:
    """Give everybody about as many partitions, moving few."""
    if not members:
        return {}
    ordered = sorted(members, key=lambda one: one.member_id)
    subscribers = _by_topic(ordered, topics)
    held, free = _kept(ordered, subscribers, topics)
    alike = all(one.topics == ordered[0].topics for one in ordered)
    balance = _Balance(held)
    if alike:
        free += balance.give_up_surplus(sum(topics[topic] for topic in subscribers))
        everybody = [one.member_id for one in ordered]
        balance.give_out(free, lambda _: everybody)
    else:
        names: dict[UUID, Sequence[str]] = {
            topic: [one.member_id for one in those] for topic, those in subscribers.items()
        }
        # Partitions that few may have go first, so that those who have no choice are counted early.
        free.sort(key=lambda one: len(names[one[0]]))
        balance.give_out(free, names.__getitem__)
        balance.even_out(names)
    return {
        member_id: {topic: frozenset(partitions) for topic, partitions in mine.items() if partitions}
        for member_id, mine in held.items()
    }


def _by_topic(members: Iterable[Subscriber], topics: Mapping[UUID, int]) -> dict[UUID, list[Subscriber]]:
    """Return who subscribes to each topic, topics and members in a fixed order."""
    found: dict[UUID, list[Subscriber]] = {}
    for member in members:
        for topic in member.topics:
            if topic in topics:
                found.setdefault(topic, []).append(member)
    return {topic: found[topic] for topic in sorted(found)}


def _kept(
    members: Sequence[Subscriber],
    subscribers: Mapping[UUID, Sequence[Subscriber]],
    topics: Mapping[UUID, int],
) -> tuple[dict[str, _Held], list[tuple[UUID, int]]]:
    """Return what members may keep of their targets, and the partitions nobody keeps."""
    left = {topic: set(range(topics[topic])) for topic in subscribers}
    held: dict[str, _Held] = {}
    for member in members:
        mine = held[member.member_id] = {}
        for topic in sorted(member.target):
            if topic in member.topics and topic in left:
                keeps = left[topic] & member.target[topic]
                left[topic] -= keeps
                if keeps:
                    mine[topic] = keeps
    return held, [(topic, index) for topic, indexes in left.items() for index in sorted(indexes)]


class _Balance:
    """Who holds what, and how much."""

    def __init__(self, held: dict[str, _Held]) -> None:
        self._held = held
        self._former = {
            name: {topic: frozenset(indexes) for topic, indexes in mine.items()}
            for name, mine in held.items()
        }
        self._looks = 0
        self._loads = {name: sum(map(len, mine.values())) for name, mine in held.items()}

    def give_up_surplus(self, total: int) -> list[tuple[UUID, int]]:
        """Take what members hold beyond an even share of ``total`` partitions, and return it.

        Where it does not divide evenly, those who hold most keep one more.
        """
        share, over = divmod(total, len(self._loads))
        taken: list[tuple[UUID, int]] = []
        for number, name in enumerate(sorted(self._loads, key=lambda one: -self._loads[one])):
            surplus = self._loads[name] - share - (number < over)
            while surplus > 0:
                # One of every topic in turn, so that no topic is taken away as a whole.
                for topic, indexes in self._held[name].items():
                    if indexes and surplus > 0:
                        index = max(indexes)
                        indexes.remove(index)
                        taken.append((topic, index))
                        self._loads[name] -= 1
                        surplus -= 1
        return taken

    def give_out(self, free: Iterable[tuple[UUID, int]], may_have: Callable[[UUID], Sequence[str]]) -> None:
        """Give each partition to the least loaded of those who may have it."""
        heaps: dict[int, list[tuple[int, str]]] = {}
        for topic, index in free:
            names = may_have(topic)
            heap = heaps.get(id(names))
            if heap is None:
                heap = heaps[id(names)] = [(self._loads[name], name) for name in names]
                heapq.heapify(heap)
            # Loads also grow through other topics: what is out of date goes back with the real one.
            while heap[0][0] != self._loads[heap[0][1]]:
                heapq.heapreplace(heap, (self._loads[heap[0][1]], heap[0][1]))
            name = heap[0][1]
            self._held[name].setdefault(topic, set()).add(index)
            self._loads[name] += 1
            heapq.heapreplace(heap, (self._loads[name], name))

    def even_out(self, names: Mapping[UUID, Sequence[str]]) -> None:
        """Move partitions from more to less loaded members until nothing makes it more even."""
        for _ in range(_MAX_ROUNDS):
            moved = False
            for topic, those in names.items():
                while self._looks < _MAX_LOOKS:
                    self._looks += len(those)
                    least = min(those, key=self._loads.__getitem__)
                    most = max(those, key=lambda one: self._loads[one] if self._held[one].get(topic) else -1)
                    if self._loads[most] - self._loads[least] < 2 or not self._held[most].get(topic):
                        break
                    self._move(topic, most, least)
                    moved = True
            if not moved:
                break
        while self._looks < _MAX_LOOKS and self._move_along_a_chain(names):
            pass

    def _move_along_a_chain(self, names: Mapping[UUID, Sequence[str]]) -> bool:
        """Move one partition from each member of a chain to the next, so that its ends become more even.

        Who subscribes to what may leave no topic in common to the two, but others in between who pass on as
        much as they get.
        """
        seen: set[str] = set()
        for start in sorted(self._loads, key=lambda one: -self._loads[one]):
            if start in seen:
                continue  # whom it reaches was reached by a more loaded one, in vain
            seen.add(start)
            topics: set[UUID] = set()
            came: dict[str, tuple[str, UUID]] = {}
            queue = deque([start])
            while queue:
                giver = queue.popleft()
                for topic, indexes in self._held[giver].items():
                    if not indexes or topic in topics:
                        continue
                    topics.add(topic)
                    self._looks += len(names[topic])
                    for taker in names[topic]:
                        if taker in seen:
                            continue
                        seen.add(taker)
                        came[taker] = giver, topic
                        queue.append(taker)
                        if self._loads[taker] < self._loads[start] - 1:
                            while taker != start:
                                before, passed_on = came[taker]
                                self._move(passed_on, before, taker)
                                taker = before
                            return True
        return False

    def _move(self, topic: UUID, giver: str, taker: str) -> None:
        """Move one partition; one that the giver has not had before if there is one."""
        indexes = self._held[giver][topic]
        index = max(indexes - self._former[giver].get(topic, frozenset()), default=max(indexes))
        indexes.remove(index)
        self._held[taker].setdefault(topic, set()).add(index)
        self._loads[giver] -= 1
        self._loads[taker] += 1


ASSIGNORS: Final[Mapping[str, Assignor]] = MappingProxyType(
    {"uniform": assign_uniform, "range": assign_range}
)
"""By the name members ask for them."""

DEFAULT_ASSIGNOR: Final = "uniform"
