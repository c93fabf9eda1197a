"""What the console counts of the broker: its listeners, its partitions, how far groups are.

Goes through what there may be very many of in slices, between which everybody else has a turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any, Final

from megabroker.http.api.group_offsets import group_offsets, offset_rows
from megabroker.http.caller import Caller
from megabroker.http.waiting import in_slices
from megabroker.latency import BOUNDS_SECONDS

__all__ = [
    "COUNTS",
    "broker_sample",
    "group_sample",
    "latency_quantile",
]

_PRODUCING: Final = frozenset({"Produce", "PRODUCE", "PUBLISH"})
_BUCKETS: Final = tuple(f"bucket{at}" for at in range(len(BOUNDS_SECONDS) + 1))

COUNTS: Final = ("received_bytes", "sent_bytes", "requests", "messages", *_BUCKETS)
"""What of a broker's sample only ever grows."""


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
    async for partition in in_slices(caller.broker.reactor, led):
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
    async for row in in_slices(caller.broker.reactor, await offset_rows(caller, places, offsets)):
        of = f"topic:{row['topic']}"
        sample[of] = sample.get(of, 0) + (row["lag"] or 0)
        sample["lag"] += row["lag"] or 0
        sample["position"] += row["offset"] or 0
        sample["unknown"] += row["lag"] is None
    return sample
