"""Reading all metrics of a broker, a little at a time.

Owns the order of reading, and the bound on how many series there are of topics, partitions and groups. It is
a generator that may be left alone after each step: what comes or goes meanwhile is in or is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import monotonic
from typing import Any, Final

from megabroker.ops.metrics.service import Sources
from megabroker.ops.metrics.table import (
    ALL,
    BROKER,
    CONNECTION_FAMILIES,
    GROUP_FAMILIES,
    LEFT_OUT,
    PARTITION,
    TOPIC,
)

__all__ = ["gather"]

_STEP: Final = 64
_LEAST_SECONDS: Final = 1.0
_AT_REST: Final = frozenset({"Empty", "CompleteCommit", "CompleteAbort"})

Gathered = list[Any]


def gather(sources: Sources, gathered: Gathered) -> Iterator[None]:
    """Put pairs of a family and its samples into ``gathered``; a step may be followed by a pause."""
    for row in BROKER:
        gathered.append((row.family, list(row.read(sources))))
    yield
    left: dict[str, int] = {"topics": 0, "partitions": 0, "groups": 0}
    yield from _partitions(sources, gathered, left)
    yield from _connections(sources, gathered)
    yield from _groups(sources, gathered, left)
    gathered.append((LEFT_OUT, [((kind,), count) for kind, count in left.items()]))


def _partitions(sources: Sources, gathered: Gathered, left: dict[str, int]) -> Iterator[None]:
    topics, backlog = sources.broker.topics, sources.broker.topics.backlog
    most = sources.settings().max_series
    by_topic: list[list[Any]] = [[] for _ in TOPIC]
    by_partition: list[list[Any]] = [[] for _ in PARTITION]
    count = broken = damaged = producers = queued = 0
    records, size, batches, fetched = (
        backlog.closed_records,
        backlog.closed_bytes,
        backlog.closed_batches,
        backlog.closed_fetched_bytes,
    )
    for step, name in enumerate(list(topics.all_names)):
        led = [one for one in topics.led(name) if one is not None]
        broken += topics.out_of_order(name)
        totals = [0] * len(TOPIC)
        for first in range(0, len(led), _STEP):
            for one in led[first : first + _STEP]:
                count += 1
                damaged += len(getattr(one.log, "damaged", ()))
                producers += len(one.producers)
                queued += one.log.next_offset - one.log.written_offset
                for at, row in enumerate(TOPIC):
                    totals[at] += row.read(one)
                if count > most:
                    left["partitions"] += 1
                    continue
                labels = name, str(one.index)
                for at, row in enumerate(PARTITION):
                    by_partition[at].append((labels, row.read(one)))
            yield
        if not led:
            if not step % _STEP:
                yield
            continue
        records, size, batches, fetched = (
            records + totals[0],
            size + totals[1],
            batches + totals[2],
            fetched + totals[3],
        )
        if len(by_topic[0]) >= most:
            left["topics"] += 1
            continue
        for at, total in enumerate(totals):
            by_topic[at].append(((name,), total))
    rate = _rate(sources, records)
    values = count, broken, damaged, producers, records, size, batches, fetched, records, rate, queued
    gathered += [(family, [((), value)]) for family, value in zip(ALL, values, strict=True)]
    gathered += [(row.family, found) for row, found in zip(TOPIC, by_topic, strict=True)]
    gathered += [(row.family, found) for row, found in zip(PARTITION, by_partition, strict=True)]


def _rate(sources: Sources, records: int) -> float:
    """Return how many records there were a second since the scrape before."""
    now = monotonic()
    if now - sources.records_at >= _LEAST_SECONDS:
        sources.rate = max(0, records - sources.records) / (now - sources.records_at)
        sources.records, sources.records_at = records, now
    return sources.rate


def _connections(sources: Sources, gathered: Gathered) -> Iterator[None]:
    unanswered: dict[str, int] = {}
    waiting: dict[str, int] = {}
    for factory in sources.factories():
        protocol = factory.listener.protocol
        connections = iter(list(factory.connections))
        requests = fetches = 0
        while some := list(islice(connections, _STEP)):
            for one in some:
                requests += one.unanswered
                fetches += len(getattr(one, "fetches", ()))
            yield
        unanswered[protocol] = unanswered.get(protocol, 0) + requests
        waiting[protocol] = waiting.get(protocol, 0) + fetches
    states: dict[str, int] = {}
    ids: Iterator[str] = iter(getattr(sources.broker.transactions, "states", tuple)())
    while found := list(islice(ids, 16 * _STEP)):
        for state in found:
            if state not in _AT_REST:
                states[state] = states.get(state, 0) + 1
        yield
    for family, values in zip(CONNECTION_FAMILIES, (unanswered, waiting, states), strict=True):
        gathered.append((family, [((label,), value) for label, value in values.items()]))


def _groups(sources: Sources, gathered: Gathered, left: dict[str, int]) -> Iterator[None]:
    groups, topics = sources.broker.groups, sources.broker.topics
    most = sources.settings().max_series
    members: list[Any] = []
    generations: list[Any] = []
    lags: list[Any] = []
    for group_id in list(groups.ids()):
        size = groups.size(group_id)
        if size is not None:
            if len(members) < most:
                members.append(((group_id,), size[0]))
                generations.append(((group_id,), size[1]))
            else:
                left["groups"] += 1
        for number, (place, offset) in enumerate(groups.visible_offsets(group_id).items()):
            if not number % _STEP:
                yield
            led = topics.led(place.topic)
            one = led[place.partition] if 0 <= place.partition < len(led) else None
            if one is None:
                continue
            if len(lags) >= most:
                left["groups"] += 1
                continue
            labels = group_id, place.topic, str(place.partition)
            lags.append((labels, max(0, one.high_watermark - offset.offset)))
        yield
    for family, found in zip(GROUP_FAMILIES, (members, generations, lags), strict=True):
        gathered.append((family, found))
