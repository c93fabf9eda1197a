"""From places as people write them to offsets of partitions, which takes asking the brokers."""

from __future__ import annotations

from collections.abc import Mapping

from megabroker.cli.cluster import EARLIEST, LATEST, Cluster, Partition
from megabroker.cli.moments import Place

__all__ = ["offsets_at"]


def offsets_at(
    cluster: Cluster, places: Mapping[Partition, Place], *, committed: bool = False
) -> dict[Partition, int]:
    """Return the offset of each place, within what the partition has. Raises RequestError, StateError.

    Args:
        committed: the end is before the first transaction that is open.
    """
    starts = cluster.offsets(dict.fromkeys(places, EARLIEST))
    ends = cluster.offsets(dict.fromkeys(places, LATEST), committed=committed)
    timed = {one: place.timestamp_ms for one, place in places.items() if place.timestamp_ms is not None}
    at_time = cluster.offsets(timed) if timed else {}
    found = {}
    for one, place in places.items():
        start, end = starts[one] or 0, ends[one] or 0
        if place.offset is not None:
            offset = place.offset
        elif place.after_start is not None:
            offset = start + place.after_start
        elif place.before_end is not None:
            offset = end - place.before_end
        else:
            known = at_time[one]
            offset = end if known is None else known
        found[one] = min(max(offset, start), end)
    return found
