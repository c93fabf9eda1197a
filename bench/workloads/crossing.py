"""Settings of producers crossing each other, by librdkafka.

Every combination is a workload, 432 in all; a name says its settings, and a pattern chooses some of them:
``cross-100b-*-0ms-*-fsync-*``. The group ``crossed`` is the few in which every value of every setting
meets every value of every other setting at least once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from bench.workloads.clients import by_client, produce
from bench.workloads.model import Workload

__all__ = ["CROSSED", "CROSSINGS"]

_COUNT, _MEGABYTES = 500_000, 200
_FSYNC_FEWER = 5  # Apache Kafka syncs each batch by itself
_SETTINGS: Sequence[Sequence[tuple[str, Any]]] = (
    (("100b", 100), ("1k", 1000)),
    (("16k", 16_384), ("1m", 1_000_000)),
    (("0ms", 0), ("5ms", 5), ("50ms", 50)),
    (("1p", 1), ("100p", 100)),
    (("none", 0), ("leader", 1), ("all", "all")),
    (("os", "os"), ("fsync", "fsync")),
    (("plain", "none"), ("lz4", "lz4"), ("zstd", "zstd")),
)
"""Words and values: record, batch, linger, partitions, acks, durability, compression."""

_Choice = tuple[tuple[str, Any], ...]
_Pairs = frozenset[tuple[tuple[str, Any], tuple[str, Any]]]


def _workload(choice: _Choice) -> Workload:
    record_bytes, batch_bytes, linger_ms, partitions, acks, durability, codec = (value for _, value in choice)
    count = min(_COUNT, _MEGABYTES * 1_000_000 // record_bytes)
    run = produce(
        count if durability == "os" else count // _FSYNC_FEWER,
        record_bytes,
        partitions,
        batch_size=batch_bytes,
        linger_ms=linger_ms,
        acks=acks,
        compression_type=codec,
    )
    words = [word for word, _ in choice]
    doc = "one producer: record {}, batch {}, linger {}, {}, acks {}, durability {}, {}".format(*words)
    return by_client(f"cross-{'-'.join(words)}", doc, run, durability=durability)


def _pairs(choice: _Choice) -> _Pairs:
    return frozenset(itertools.combinations(choice, 2))


def _covering(choices: Sequence[_Choice]) -> list[_Choice]:
    """Return few of all choices that have all pairs there are: each time one with most of those missing."""
    pairs = {choice: _pairs(choice) for choice in choices}
    missing = set().union(*pairs.values())
    found = []
    while missing:
        best = max(choices, key=lambda choice: len(pairs[choice] & missing))
        missing -= pairs[best]
        found.append(best)
    return found


_CHOICES: Sequence[_Choice] = list(itertools.product(*_SETTINGS))
CROSSINGS = tuple(map(_workload, _CHOICES))
"""Every combination."""

CROSSED = tuple(CROSSINGS[_CHOICES.index(choice)] for choice in _covering(_CHOICES))
