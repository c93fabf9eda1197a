"""What a topology needs: which internal topics, of how many partitions, and how many tasks there are.

Pure functions over the topics there are. A topology is *ready* when all its topics exist and fit together;
else the plan says what is in the way, and which internal topics are to be made.

The number of partitions of a repartition topic is its own if the application fixed it, else the largest of
what the subtopologies that write it read, found from the sources on. Topics that are to be copartitioned get
as many as each other. A changelog has as many as the largest topic its subtopology reads (KIP-1071).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import attrs

from megabroker.core.groups.errors import refusal
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model.streams_groups import InternalTopic, StreamsStatus, Subtopology, Topology

__all__ = ["Plan", "check_topology", "plan"]

_MAX_SUBTOPOLOGIES = 1000
_MAX_NAMES = 20_000
_MAX_PARTITIONS = 10_000
_MAX_TASKS = 100_000
"""Of one application: to hand them out takes half a second, in which nothing else happens."""
_SHOWN = 3

PartitionsOf = Callable[[str], int | None]


@attrs.frozen
class Plan:
    """What follows from a topology and the topics there are.

    Attributes:
        topology: with the partitions of its internal topics decided, as far as they could be.
        tasks: tasks of each subtopology; empty unless ready.
        missing: internal topics to be made.
        problem: why the topology is not ready, with a sentence; None when it is.
    """

    topology: Topology
    tasks: Mapping[str, int]
    missing: tuple[InternalTopic, ...] = ()
    problem: tuple[StreamsStatus, str] | None = None

    @property
    def ready(self) -> bool:
        """Whether tasks can be handed out."""
        return self.problem is None


class _Misfit(Exception):
    """Topics that are there do not fit together; the text says how."""


def check_topology(topology: Topology) -> None:
    """Refuse a topology that no topics could make ready. Raises RequestError (STREAMS_INVALID_TOPOLOGY)."""
    if topology.epoch < 0:
        raise _invalid("a topology epoch is not negative")
    if len(topology.subtopologies) > _MAX_SUBTOPOLOGIES:
        raise _invalid(f"expected at most {_MAX_SUBTOPOLOGIES} subtopologies")
    ids = [one.id for one in topology.subtopologies]
    if len(set(ids)) != len(ids):
        raise _invalid("two subtopologies have the same id")
    names = sum(len(one.reads) + len(one.sinks) + len(one.changelogs) for one in topology.subtopologies)
    if names > _MAX_NAMES:
        raise _invalid(f"expected at most {_MAX_NAMES} topics")
    for one in topology.subtopologies:
        for topic in (*one.repartitions, *one.changelogs):
            if not 0 <= topic.partitions <= _MAX_PARTITIONS:
                raise _invalid(f"{topic.name}: expected 0 to {_MAX_PARTITIONS} partitions")
        for changelog in one.changelogs:
            if changelog.partitions:
                raise _invalid(
                    f"{changelog.name}: a changelog has as many partitions as its subtopology tasks"
                )


def plan(topology: Topology, partitions_of: PartitionsOf) -> Plan:
    """Say what a topology needs.

    Args:
        partitions_of: how many partitions a topic has, None when there is no such topic.

    Raises:
        RequestError: STREAMS_INVALID_TOPOLOGY, the topology contradicts itself.
    """
    parts = topology.subtopologies
    absent = sorted({name for one in parts for name in one.sources if partitions_of(name) is None})
    if absent:
        sentence = f"source topics are missing: {_some(absent)}"
        return Plan(topology, {}, (), (StreamsStatus.MISSING_SOURCE_TOPICS, sentence))
    try:
        decided = _repartitions(parts, partitions_of)
        _copartition(parts, partitions_of, decided)
        tasks = {one.id: _tasks(one, partitions_of, decided) for one in parts}
        if sum(tasks.values()) > _MAX_TASKS:
            raise _Misfit(f"the application has {sum(tasks.values())} tasks, more than {_MAX_TASKS}")
        internal = _internal(parts, decided, tasks)
        missing = tuple(topic for topic in internal.values() if _is_missing(topic, partitions_of))
    except _Misfit as misfit:
        return Plan(topology, {}, (), (StreamsStatus.INCORRECTLY_PARTITIONED_TOPICS, str(misfit)))
    settled = attrs.evolve(topology, subtopologies=tuple(_settled(one, internal) for one in parts))
    if missing:
        sentence = f"internal topics are missing: {_some(sorted(topic.name for topic in missing))}"
        return Plan(settled, {}, missing, (StreamsStatus.MISSING_INTERNAL_TOPICS, sentence))
    return Plan(settled, tasks)


def _repartitions(parts: Iterable[Subtopology], partitions_of: PartitionsOf) -> dict[str, int]:
    """Decide the partitions of repartition topics, from those that are known on."""
    parts = list(parts)
    decided = {
        topic.name: topic.partitions for one in parts for topic in one.repartitions if topic.partitions
    }
    wanted = {name for one in parts for name in one.sinks} - set(decided)
    readers: dict[str, set[int]] = defaultdict(set)
    for place, one in enumerate(parts):
        for topic in one.repartitions:
            readers[topic.name].add(place)
    places: Iterable[int] = range(len(parts))  # of those that may know by now
    while wanted:
        found: dict[str, int] = {}
        for one in map(parts.__getitem__, places):
            names = wanted.intersection(one.sinks)
            known = max(
                (_count(topic, partitions_of, decided) or 0 for topic in one.reads if names), default=0
            )
            if known:
                found.update({name: max(known, found.get(name, 0)) for name in names})
        if not found:
            raise _invalid(f"the partitions of {_some(sorted(wanted))} follow from nothing: is there a loop?")
        decided.update(found)
        wanted -= found.keys()
        places = sorted({place for name in found for place in readers[name]})
    for one in parts:
        for topic in one.repartitions:
            if topic.name not in decided:
                raise _invalid(f"nobody writes the repartition topic {topic.name}")
    return decided


def _count(name: str, partitions_of: PartitionsOf, decided: Mapping[str, int]) -> int | None:
    return decided.get(name) or partitions_of(name)


def _copartition(parts: Iterable[Subtopology], partitions_of: PartitionsOf, decided: dict[str, int]) -> None:
    """Give topics that are to be copartitioned as many partitions as each other."""
    parts = list(parts)
    flexible = {topic.name for one in parts for topic in one.repartitions if not topic.partitions}
    for one in parts:
        for names in one.copartitioned:
            given = {name: _count(name, partitions_of, decided) for name in sorted(names - flexible)}
            counts = set(given.values())
            if len(counts) > 1:
                told = ", ".join(f"{name} has {count}" for name, count in given.items())
                raise _Misfit(f"topics that are joined must have as many partitions as each other: {told}")
            bound = names & flexible
            if bound:
                common = counts.pop() if counts else max(decided[name] for name in bound)
                decided.update(dict.fromkeys(bound, common or 0))


def _tasks(one: Subtopology, partitions_of: PartitionsOf, decided: Mapping[str, int]) -> int:
    if not one.reads:
        raise _invalid(f"subtopology {one.id} reads no topic")
    return max(_count(name, partitions_of, decided) or 0 for name in one.reads)


def _internal(
    parts: Iterable[Subtopology], decided: Mapping[str, int], tasks: Mapping[str, int]
) -> dict[str, InternalTopic]:
    """Return every internal topic with its partitions, by name."""
    found: dict[str, InternalTopic] = {}
    for one in parts:
        for topic in one.repartitions:
            found[topic.name] = attrs.evolve(topic, partitions=decided[topic.name])
        for topic in one.changelogs:
            found[topic.name] = attrs.evolve(topic, partitions=tasks[one.id])
    return found


def _is_missing(topic: InternalTopic, partitions_of: PartitionsOf) -> bool:
    present = partitions_of(topic.name)
    if present is not None and present != topic.partitions:
        raise _Misfit(f"{topic.name} has {present} partitions; the application needs {topic.partitions}")
    return present is None


def _settled(one: Subtopology, internal: Mapping[str, InternalTopic]) -> Subtopology:
    return attrs.evolve(
        one,
        repartitions=tuple(internal[topic.name] for topic in one.repartitions),
        changelogs=tuple(internal[topic.name] for topic in one.changelogs),
    )


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _invalid(sentence: str) -> BrokerError:
    return refusal(ErrorCode.STREAMS_INVALID_TOPOLOGY, sentence)
