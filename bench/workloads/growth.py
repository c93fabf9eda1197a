"""What growth costs: more partitions, and longer logs, which also end by kill -9 and are opened again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bench.native import Loaded, run_load
from bench.peers import Peer
from bench.processes import cpu_seconds, peak_mib
from bench.requests import create_topic, fetch_request, kafka_count, record_batch
from bench.workloads.model import Sample, Workload, expect, sampled
from bench.workloads.producing import produce, write_batches

__all__ = ["GROWTH"]

_TOPIC = "bench"
_PEERS = ("megabroker", "compiled", "kafka")
_RECORD_BYTES, _RECORDS = 100, 148
_MIB = 1 << 20


def _filled(peer: Peer, mib: float) -> int:
    """Write that much in batches of 16 KB; return how many records."""
    create_topic(peer.kafka, _TOPIC)
    batch = record_batch(_RECORDS, _RECORD_BYTES)
    batches = max(1, int(mib * _MIB / len(batch)))
    write_batches(peer, _TOPIC, [batch], batches)
    expect(kafka_count(peer.kafka, _TOPIC, 1), batches * _RECORDS, peer)
    return batches * _RECORDS


def _recover(mib: float) -> Callable[[Peer, float], Sample]:
    """Return a workload of one start after kill -9; its time, its memory."""

    def run(peer: Peer, share: float) -> Sample:
        records = _filled(peer, mib * share)
        peer.kill()
        began = time.monotonic()
        peer.start()
        seconds = time.monotonic() - began
        spent, memory = cpu_seconds(peer.pid), peak_mib(peer.pid)
        expect(kafka_count(peer.kafka, _TOPIC, 1), records, peer)
        return Sample(1, records, mib * share * _MIB / 1e6, seconds, spent, 0, memory, 0, 0, 0)

    return run


def _random_fetches(mib: float, count: int) -> Callable[[Peer, float], Sample]:
    """Return a workload of fetches of one batch at offsets all over the log, one at a time."""

    def run(peer: Peer, share: float) -> Sample:
        records = _filled(peer, mib * share)
        chance = random.Random(1)
        offsets = [chance.randrange(records) for _ in range(max(100, int(count * min(share, 1))))]
        requests = [fetch_request(_TOPIC, 0, offset, 1) for offset in offsets]

        def load() -> Loaded:
            loaded = run_load(peer.port, requests, count=len(requests))
            assert loaded.bytes_in > loaded.answered * _RECORD_BYTES * _RECORDS, "too little is answered"
            return loaded

        return sampled(peer, load, _RECORDS, _RECORD_BYTES)

    return run


def _spread(partitions: int, count: int = 50_000) -> Callable[[Peer, float], Sample]:
    """Return a workload of one record a request to ever other partitions."""

    def run(peer: Peer, share: float) -> Sample:
        wanted = max(1, int(partitions * min(share, 1)))
        return produce(partitions=wanted, depth=100, count=max(count, 2 * wanted))(peer, share)

    return run


_SIZES = {"1m": 1, "64m": 64, "1g": 1024}

GROWTH = (
    *(
        Workload(
            f"partitions-{number}",
            f"one record a request, 100 under way, in turn to {number:,} partitions",
            _PEERS,
            "cpu",
            _spread(number),
        )
        for number in (1, 100, 1000, 10_000)
    ),
    *(
        Workload(
            f"recovery-{name}",
            f"starting after kill -9 with a log of {mib} MiB",
            _PEERS,
            "time",
            _recover(mib),
        )
        for name, mib in _SIZES.items()
    ),
    *(
        Workload(
            f"random-fetch-{name}",
            f"fetches of a batch of 16 KB anywhere in a log of {mib} MiB, one at a time",
            _PEERS,
            "cpu",
            _random_fetches(mib, 10_000),
        )
        for name, mib in _SIZES.items()
    ),
)
