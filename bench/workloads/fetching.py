"""Prepared fetches, sent by the C client, of what is in the page cache."""

from __future__ import annotations

from collections.abc import Callable

from bench.native import run_load
from bench.peers import Limit, Peer
from bench.requests import create_topic, fetch_request, kafka_count, produce_request, record_batch
from bench.workloads.model import ONE_WIRE, Sample, Workload, expect, sampled

__all__ = ["FETCHING"]

_TOPIC = "bench"


def _fetch(fetch_bytes: int, count: int) -> Callable[[Peer, float], Sample]:
    """Return a workload of fetches of what has just been written, from 64 MiB of it, going round."""
    record_bytes, batch_bytes, stored = 1000, 1 << 20, 64

    def run(peer: Peer, share: float) -> Sample:
        wanted = max(10, int(count * share))
        if isinstance(peer, Limit):
            requests = [b"\0\0\0\0"]
            load = run_load(peer.port, requests, count=10)
        else:
            records = batch_bytes // (record_bytes + 10)
            create_topic(peer.kafka, _TOPIC, max_message_bytes=str(8 << 20))
            writes = [produce_request(_TOPIC, 0, record_batch(records, record_bytes), 1)]
            run_load(peer.port, writes, count=stored)
            expect(kafka_count(peer.kafka, _TOPIC, 1), stored * records, peer)
            requests = [fetch_request(_TOPIC, 0, at * records, fetch_bytes) for at in range(stored)]
            load = run_load(peer.port, requests, count=stored)
        sample = sampled(peer, lambda: run_load(peer.port, requests, count=wanted, depth=4), 1, fetch_bytes)
        assert load.bytes_in >= load.answered * fetch_bytes // 2, f"{peer.name} answers with too little"
        return sample

    return run


FETCHING = (
    Workload(
        "fetch-cached",
        "fetches of 1 MB from the page cache, 4 under way",
        ONE_WIRE,
        "cpu",
        _fetch(1 << 20, 4000),
        limit_mode=("sendfile", str(1 << 20)),
    ),
)
