"""What the console counts of the broker: its listeners, its partitions, how far groups are.

Owns the going through of what there may be very many of: in slices, between which everybody else has a turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple, TypeVar

from megabroker.http.api.groups import group_offsets, offset_rows
from megabroker.http.api.topics import partition_rows
from megabroker.http.caller import Caller
from megabroker.http.waiting import pause
from megabroker.latency import BOUNDS_SECONDS
from megabroker.model import Topic

__all__ = [
    "COUNTS",
    "Totals",
    "broker_sample",
    "group_sample",
    "in_slices",
    "latency_quantile",
    "topic_totals",
]

_T = TypeVar("_T")

_SLICE_SECONDS: Final = 0.004
_BETWEEN_LOOKS: Final = 32
_ROWS: Final = 200
_PRODUCING: Final = frozenset({"Produce", "PRODUCE", "PUBLISH"})
_BUCKETS: Final = tuple(f"bucket{at}" for at in range(len(BOUNDS_SECONDS) + 1))

COUNTS: Final = ("received_bytes", "sent_bytes", "requests", "messages", *_BUCKETS)
"""What of a broker's sample only ever grows."""


class Totals(NamedTuple):
    """All partitions of a topic together; ``end`` is the sum of their ends."""

    size_bytes: int
    messages: int
    end: int


async def in_slices(caller: Caller, things: Iterable[_T]) -> AsyncIterator[_T]:
    """Yield things; every few milliseconds everybody else has a turn."""
    reactor = caller.broker.reactor
    began = reactor.seconds()
    for at, one in enumerate(things):
        if at % _BETWEEN_LOOKS == 0 and at and reactor.seconds() - began > _SLICE_SECONDS:
            await pause(reactor, 0)
            began = reactor.seconds()
        yield one


async def topic_totals(caller: Caller, topic: Topic) -> Totals:
    """Return what all partitions of a topic hold, those left out that cannot be used."""
    size_bytes = messages = end = 0
    if caller.broker.peers is None:
        async for partition in in_slices(caller, caller.broker.topics.led(topic.name)):
            if partition is not None:
                size_bytes += partition.log.size_bytes
                messages += partition.high_watermark - partition.start_offset
                end += partition.high_watermark
        return Totals(size_bytes, messages, end)
    for begin in range(0, topic.partitions, _ROWS):
        for row in await partition_rows(caller, topic, begin, begin + _ROWS):
            if row["error"] is None:
                size_bytes += row["size_bytes"]
                messages += row["end_offset"] - row["start_offset"]
                end += row["end_offset"]
        await pause(caller.broker.reactor, 0)
    return Totals(size_bytes, messages, end)


async def broker_sample(caller: Caller) -> Mapping[str, float]:
    """Return the counts of this process now."""
    sample: dict[str, float] = dict.fromkeys(COUNTS, 0)
    sample["connections"] = 0
    for factory in caller.inside.factories():
        sample["connections"] += len(getattr(factory, "connections", ()))
        counts = getattr(factory, "counts", None)
        if counts is None:
            continue
        sample["received_bytes"] += counts.received_bytes
        sample["sent_bytes"] += counts.sent_bytes
        for api, latency in counts.latencies.items():
            sample["requests"] += latency.count
            if api in _PRODUCING:
                for name, count in zip(_BUCKETS, latency.counts, strict=True):
                    sample[name] += count
    messages = 0
    topics = caller.broker.topics
    led: Iterable[Any] = (one for topic in topics.all() for one in topics.led(topic.name))
    async for partition in in_slices(caller, led):
        if partition is not None:
            messages += partition.appended_records
    sample["messages"] = messages
    return sample


def latency_quantile(row: Mapping[str, float], share: float) -> float | None:
    """Return the milliseconds that this share of producing requests stayed below; None if there were none.

    Args:
        row: of ``rates``.
    """
    upto = list(accumulate(row[name] for name in _BUCKETS))
    wanted = upto[-1] * share
    if upto[-1] <= 0:
        return None
    at = bisect_left(upto, wanted)
    if at >= len(BOUNDS_SECONDS):
        return BOUNDS_SECONDS[-1] * 1000
    below = upto[at - 1] if at else 0.0
    low = BOUNDS_SECONDS[at - 1] if at else 0.0
    part = (wanted - below) / (upto[at] - below)
    return (low + (BOUNDS_SECONDS[at] - low) * part) * 1000


async def group_sample(caller: Caller, name: str) -> Mapping[str, float]:
    """Return how far a group is now: ``lag`` of all, ``position``, and the lag by topic as ``topic:NAME``."""
    offsets = await group_offsets(caller, name)
    places = list(offsets)
    sample: dict[str, float] = {"lag": 0, "position": 0, "unknown": 0}
    for begin in range(0, len(places), _ROWS):
        rows: list[dict[str, Any]] = await offset_rows(caller, places[begin : begin + _ROWS], offsets)
        for row in rows:
            of = f"topic:{row['topic']}"
            sample[of] = sample.get(of, 0) + (row["lag"] or 0)
            sample["lag"] += row["lag"] or 0
            sample["position"] += row["offset"] or 0
            sample["unknown"] += row["lag"] is None
        await pause(caller.broker.reactor, 0)
    return sample
