"""What is measured: each workload prepares a server, loads it, checks that nothing is missing, and reports.

A workload says which peers it fits and how many records it moves. ``run`` is given a started peer and
returns a ``Sample``; CPU seconds count from the first request to the last answer. Records are counted
afterwards by asking the server; one missing or too many ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import attrs

from bench.native import Loaded, run_load
from bench.peers import Kafka, Limit, Megabroker, Nats, Peer, Redis
from bench.processes import cpu_seconds, peak_mib
from bench.requests import (
    NATS_GREETING,
    create_topic,
    fetch_request,
    kafka_count,
    nats_count,
    nats_create,
    nats_publish,
    produce_request,
    record_batch,
    redis_count,
    redis_xadd,
)

__all__ = ["WORKLOADS", "Sample", "Workload"]

_TOPIC = "bench"
_HEAD_BYTES = 65
"""What surrounds the batch in a Produce request, about."""


@attrs.frozen
class Sample:
    """One measurement of one peer.

    Attributes:
        operations: requests answered.
        records: records moved.
        megabytes: of records, in millions of bytes.
        broker_cpu: CPU seconds of the server.
        client_cpu: CPU seconds of the client.
    """

    operations: int
    records: int
    megabytes: float
    seconds: float
    broker_cpu: float
    client_cpu: float
    peak_mib: float
    p50_ms: float
    p99_ms: float
    p999_ms: float

    @property
    def per_second(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Operations a second of the server's CPU time."""
        return self.operations / max(self.broker_cpu, 0.01)


@attrs.frozen
class Workload:
    """One thing that is measured.

    Attributes:
        peers: names of those it fits, the one to compare with last.
        measure: "cpu" to compare operations by CPU second of the server, "time" by second, "p99" latencies.
        make: makes a peer ready to be started, by its name and durability.
        run: measures a started peer; asked for a share of its usual size.
    """

    name: str
    doc: str
    peers: tuple[str, ...]
    measure: str
    run: Callable[[Peer, float], Sample]
    durability: str = "os"
    limit_mode: tuple[str, ...] = ("append",)

    def peer(self, name: str) -> Peer:
        """Return a peer, not yet started."""
        if name == Limit.name:
            return Limit(self.durability, *self.limit_mode)
        kinds: dict[str, type[Peer]] = {kind.name: kind for kind in (Megabroker, Kafka, Nats, Redis)}
        return kinds[name](self.durability)


def _sample(peer: Peer, load: Callable[[], Loaded], records: int, record_bytes: int) -> Sample:
    """Load a peer and say what that cost; ``records`` of each request."""
    before = cpu_seconds(peer.pid)
    loaded = load()
    spent = cpu_seconds(peer.pid) - before
    moved = loaded.answered * records
    return Sample(
        operations=loaded.answered,
        records=moved,
        megabytes=moved * record_bytes / 1e6,
        seconds=loaded.seconds,
        broker_cpu=spent,
        client_cpu=loaded.cpu_seconds,
        peak_mib=peak_mib(peer.pid),
        p50_ms=loaded.p50_ms,
        p99_ms=loaded.p99_ms,
        p999_ms=loaded.p999_ms,
    )


def _expect(found: int, expected: int, peer: Peer) -> None:
    assert found == expected, f"{peer.name} has {found} records of {expected}"


# --- producing ----------------------------------------------------------------------------------------


def _produce(
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
        sample = _sample(peer, lambda: load(wanted, rate), records, record_bytes)
        _check(peer, (warm + wanted) * records, partitions)
        return sample

    return run


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
        _expect(redis_count(peer.port), expected, peer)
    elif isinstance(peer, Nats):
        _expect(nats_count(peer.port), expected, peer)
    elif not isinstance(peer, Limit):
        _expect(kafka_count(peer.kafka, _TOPIC, partitions), expected, peer)


# --- fetching -----------------------------------------------------------------------------------------


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
            _expect(kafka_count(peer.kafka, _TOPIC, 1), stored * records, peer)
            requests = [fetch_request(_TOPIC, 0, at * records, fetch_bytes) for at in range(stored)]
            load = run_load(peer.port, requests, count=stored)
        sample = _sample(peer, lambda: run_load(peer.port, requests, count=wanted, depth=4), 1, fetch_bytes)
        assert load.bytes_in >= load.answered * fetch_bytes // 2, f"{peer.name} answers with too little"
        return sample

    return run


# --- starting -----------------------------------------------------------------------------------------


def _start(peer: Peer, share: float) -> Sample:
    """What starting took, and memory when idle; an operation is a start."""
    time.sleep(2)
    return Sample(1, 0, 0, peer.start_seconds, cpu_seconds(peer.pid), 0, peak_mib(peer.pid), 0, 0, 0)


_BATCH_16K, _BATCH_1M = 16_384, 1_048_000
_ONE_WIRE = ("megabroker", "kafka", "limit")
_ALL = ("megabroker", "kafka", "nats", "redis", "limit")

_LIST = (
    Workload(
        "one-pipelined",
        "one 100-byte record a request, 100 requests under way on one connection, acks 1",
        _ALL,
        "cpu",
        _produce(depth=100),
    ),
    Workload(
        "one-100-connections",
        "one 100-byte record a request, 100 connections with one request under way each, acks 1",
        _ALL,
        "cpu",
        _produce(connections=100, count=50_000),
    ),
    Workload(
        "one-1000-connections",
        "the same with 1,000 connections",
        _ALL,
        "cpu",
        _produce(connections=1000, count=50_000),
    ),
    Workload(
        "one-in-flight",
        "one 100-byte record a request, one at a time",
        _ALL,
        "cpu",
        _produce(count=20_000),
    ),
    Workload(
        "batch-16k",
        "16 KB batches of 100-byte records, 10 requests under way, acks 1",
        _ONE_WIRE,
        "cpu",
        _produce(records=_BATCH_16K // 110, depth=10, count=20_000),
    ),
    Workload(
        "batch-1m",
        "1 MB batches of 1,000-byte records, 4 requests under way, acks 1",
        _ONE_WIRE,
        "cpu",
        _produce(records=_BATCH_1M // 1010, record_bytes=1000, depth=4, count=600),
    ),
    Workload(
        "batch-1m-lz4",
        "the same, compressed by lz4",
        _ONE_WIRE,
        "cpu",
        _produce(records=_BATCH_1M // 1010, record_bytes=1000, depth=4, count=2000, codec="lz4"),
    ),
    Workload(
        "batch-16k-100-partitions",
        "16 KB batches over 100 partitions, 10 requests under way, acks 1",
        _ONE_WIRE,
        "cpu",
        _produce(records=_BATCH_16K // 110, depth=10, count=20_000, partitions=100),
    ),
    Workload(
        "latency-100",
        "one record a request at 100 a second, acks 1",
        ("megabroker", "kafka", "nats", "redis"),
        "p99",
        _produce(connections=4, depth=1000, count=500, rate=100),
    ),
    Workload(
        "latency-10000",
        "one record a request at 10,000 a second over 10 connections, acks 1",
        ("megabroker", "kafka", "nats", "redis"),
        "p99",
        _produce(connections=10, depth=10_000, count=50_000, rate=10_000),
    ),
    Workload(
        "commit-128",
        "one record a request, 128 connections with one under way each, acks all, on the disk",
        _ALL,
        "time",
        _produce(connections=128, acks=-1, count=50_000),
        durability="fsync",
        limit_mode=("commit",),
    ),
    Workload(
        "fetch-cached",
        "fetches of 1 MB from the page cache, 4 under way",
        _ONE_WIRE,
        "cpu",
        _fetch(1 << 20, 4000),
        limit_mode=("sendfile", str(1 << 20)),
    ),
    Workload(
        "start",
        "an empty broker from the command to its first answer; memory after two seconds",
        ("megabroker", "kafka", "nats", "redis"),
        "time",
        _start,
    ),
)

WORKLOADS: dict[str, Workload] = {one.name: one for one in _LIST}
