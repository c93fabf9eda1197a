"""Who consumes which partitions of a share group: the assignor ``simple`` (KIP-932).

Owns one pure function. Any number of members may have a partition; the point is that every partition has
somebody, that partitions are had by about equally many and that members have about equally many.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from megabroker.model import TopicAssignment

__all__ = ["SIMPLE", "Consumer", "assign"]

SIMPLE = "simple"

_Place = tuple[UUID, int]


class Consumer(NamedTuple):
    """A member as the assignor sees it.

    Attributes:
        former: what it has; it keeps of that what it can.
    """

    member_id: str
    topics: frozenset[UUID]
    former: TopicAssignment


def assign(consumers: Sequence[Consumer], sizes: Mapping[UUID, int]) -> dict[str, TopicAssignment]:
    """Return what each member is to have.

    Those who subscribe to the same topics share these evenly among themselves, whatever others have.

    Args:
        sizes: number of partitions by topic.
    """
    alike: dict[frozenset[UUID], list[Consumer]] = {}
    for consumer in consumers:
        alike.setdefault(consumer.topics, []).append(consumer)
    assigned: dict[str, TopicAssignment] = {}
    for topics, members in alike.items():
        places = [(topic, index) for topic in sorted(topics) for index in range(sizes.get(topic, 0))]
        for member, had in zip(members, _share(members, places), strict=True):
            assigned[member.member_id] = _by_topic(had)
    return assigned


def _share(members: Sequence[Consumer], places: Sequence[_Place]) -> list[set[_Place]]:
    """Give each place to equally many members, and each member its part of them."""
    had: list[set[_Place]] = [set() for _ in members]
    if not places:
        return had
    sharing = -(-len(members) // len(places))
    total = sharing * len(places)
    wanted = [
        total * (number + 1) // len(members) - total * number // len(members)
        for number in range(len(members))
    ]
    room = dict.fromkeys(places, sharing)
    for number, member in enumerate(members):
        for place in _places(member.former):
            if room.get(place) and len(had[number]) < wanted[number]:
                had[number].add(place)
                room[place] -= 1
    hungry = [(len(had[number]) - wanted[number], number) for number in range(len(members))]
    hungry = [one for one in hungry if one[0] < 0]
    heapq.heapify(hungry)
    for place in places:
        later = []
        while room[place] and hungry:
            missing, number = heapq.heappop(hungry)
            if place not in had[number]:
                had[number].add(place)
                room[place] -= 1
                missing += 1
            if missing:
                later.append((missing, number))
        for one in later:
            heapq.heappush(hungry, one)
    return had


def _places(assignment: TopicAssignment) -> list[_Place]:
    return [(topic, index) for topic in sorted(assignment) for index in sorted(assignment[topic])]


def _by_topic(places: set[_Place]) -> TopicAssignment:
    found: dict[UUID, set[int]] = {}
    for topic, index in places:
        found.setdefault(topic, set()).add(index)
    return {topic: frozenset(indexes) for topic, indexes in found.items()}
