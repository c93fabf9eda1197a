"""Prepared produce requests, sent by the C client: what the server does with them, without a real client."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.native import Loaded, run_load
from bench.peers import Limit, Nats, Peer, Redis
from bench.requests import (
    NATS_GREETING,
    create_topic,
    kafka_count,
    nats_count,
    nats_create,
    nats_publish,
    produce_request,
    record_batch,
    redis_count,
    redis_xadd,
)
from bench.workloads.model import ALL, ONE_WIRE, Sample, Workload, expect, sampled

__all__ = ["PRODUCING", "produce", "write_batches"]

_TOPIC = "bench"
_BATCH_16K, _BATCH_1M = 16_384, 1_048_000


def produce(
    *,
    record_bytes: int = 100,
    records: int = 1,
    connections: int = 1,
    depth: int = 1,
    acks: int = 1,
    codec: str = "none",
    partitions: int = 1,
    count: int = 100_000,
    rate: float = 0,
) -> Callable[[Peer, float], Sample]:
    """Return a workload of identical requests, each with one batch; partitions in turn."""

    def run(peer: Peer, share: float) -> Sample:
        batch = record_batch(records, record_bytes, codec)
        wanted = max(connections, int(count * share))
        warm = max(connections, wanted // 10)
        requests, kind, greeting = _requests(peer, batch, record_bytes, acks, partitions)

        def load(number: int, rate: float) -> Loaded:
            return run_load(
                peer.port,
                requests,
                count=number,
                connections=connections,
                depth=depth,
                kind=kind,
                rate=rate,
                greeting=greeting,
            )

        load(warm, 0)
        sample = sampled(peer, lambda: load(wanted, rate), records, record_bytes)
        _check(peer, (warm + wanted) * records, partitions)
        return sample

    return run


def write_batches(peer: Peer, topic: str, batches: Sequence[bytes], count: int) -> None:
    """Have a peer store ``count`` batches, going round those given."""
    requests = [produce_request(topic, 0, batch, 1) for batch in batches]
    run_load(peer.port, requests, count=count, depth=4)


def _requests(
    peer: Peer, batch: bytes, record_bytes: int, acks: int, partitions: int
) -> tuple[Sequence[bytes], str, bytes]:
    """Prepare a peer; return the requests, how its answers are told apart, and how a connection begins."""
    value = b"x" * record_bytes
    if isinstance(peer, Redis):
        return [redis_xadd(value)], "redis", b""
    if isinstance(peer, Nats):
        nats_create(peer.port)
        return [nats_publish(value)], "nats", NATS_GREETING
    if not isinstance(peer, Limit):
        create_topic(peer.kafka, _TOPIC, partitions)
    return [produce_request(_TOPIC, index, batch, acks) for index in range(partitions)], "length32", b""


def _check(peer: Peer, expected: int, partitions: int) -> None:
    if isinstance(peer, Redis):
        expect(redis_count(peer.port), expected, peer)
    elif isinstance(peer, Nats):
        expect(nats_count(peer.port), expected, peer)
    elif not isinstance(peer, Limit):
        expect(kafka_count(peer.kafka, _TOPIC, partitions), expected, peer)


PRODUCING = (
    Workload(
        "one-pipelined",
        "one 100-byte record a request, 100 requests under way on one connection, acks 1",
        ALL,
        "cpu",
        produce(depth=100),
    ),
    Workload(
        "one-100-connections",
        "one 100-byte record a request, 100 connections with one request under way each, acks 1",
        ALL,
        "cpu",
        produce(connections=100, count=50_000),
    ),
    Workload(
        "one-1000-connections",
        "the same with 1,000 connections",
        ALL,
        "cpu",
        produce(connections=1000, count=50_000),
    ),
    Workload(
        "one-in-flight",
        "one 100-byte record a request, one at a time",
        ALL,
        "cpu",
        produce(count=20_000),
    ),
    Workload(
        "batch-16k",
        "16 KB batches of 100-byte records, 10 requests under way, acks 1",
        ONE_WIRE,
        "cpu",
        produce(records=_BATCH_16K // 110, depth=10, count=20_000),
    ),
    Workload(
        "batch-1m",
        "1 MB batches of 1,000-byte records, 4 requests under way, acks 1",
        ONE_WIRE,
        "cpu",
        produce(records=_BATCH_1M // 1010, record_bytes=1000, depth=4, count=600),
    ),
    Workload(
        "batch-1m-lz4",
        "the same, compressed by lz4",
        ONE_WIRE,
        "cpu",
        produce(records=_BATCH_1M // 1010, record_bytes=1000, depth=4, count=2000, codec="lz4"),
    ),
    Workload(
        "batch-16k-100-partitions",
        "16 KB batches over 100 partitions, 10 requests under way, acks 1",
        ONE_WIRE,
        "cpu",
        produce(records=_BATCH_16K // 110, depth=10, count=20_000, partitions=100),
    ),
    Workload(
        "commit-128",
        "one record a request, 128 connections with one under way each, acks all, on the disk",
        ALL,
        "time",
        produce(connections=128, acks=-1, count=50_000),
        durability="fsync",
        limit_mode=("commit",),
    ),
    Workload(
        "commit-1000-partitions",
        "the same in turn to 1,000 partitions; the limit has one file for all",
        ONE_WIRE,
        "time",
        produce(connections=128, acks=-1, count=20_000, partitions=1000),
        durability="fsync",
        limit_mode=("commit",),
    ),
)
