"""The same real client, librdkafka, against this broker and Apache Kafka: numbered records, each counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.client import Client, Worked
from bench.peers import Peer
from bench.processes import cpu_seconds, peak_mib
from bench.requests import create_topic, kafka_count
from bench.workloads.cold import forget
from bench.workloads.model import Sample, Workload, expect

__all__ = ["CLIENTS", "CLIENT_LATENCY", "by_client", "produce"]

_TOPIC = "bench"
_PEERS = ("megabroker", "kafka")
_WARM = 1000  # records, at least
_MANY = 500_000
_LATE_SECONDS = 10  # for records that nobody acknowledges


def _producer(peer: Peer, count: int, record_bytes: int, partitions: int = 1, **more: Any) -> Client:
    own = {name: more.pop(name) for name in ("topic", "rate") if name in more}
    config = {name.replace("_", "."): value for name, value in more.items()}
    options: dict[str, Any] = {"topic": _TOPIC, "partitions": partitions, "count": count}
    options |= {"record_bytes": record_bytes, "config": config, **own}
    return Client("produce", bootstrap=peer.kafka, **options)


def _consumer(peer: Peer, count: int, **more: Any) -> Client:
    options: dict[str, Any] = {"topic": _TOPIC, "partitions": 1, "count": count, "config": {}, **more}
    return Client("consume", bootstrap=peer.kafka, **options)


def _sample(peer: Peer, clients: list[Client], record_bytes: int, lead_seconds: float = 0) -> Sample:
    """Let clients work, the first some time before the others; what the first says is what is told."""
    before = cpu_seconds(peer.pid)
    for place, client in enumerate(clients):
        if place == 1:
            time.sleep(lead_seconds)
        client.begin()
    all_worked = [client.result() for client in clients]
    spent = cpu_seconds(peer.pid) - before
    worked = all_worked[0]
    began_ns = min(one.began_ns for one in all_worked[1:] or all_worked)
    p50_ms, p99_ms, p999_ms = worked.latencies
    return Sample(
        operations=worked.operations,
        records=worked.records,
        megabytes=worked.records * record_bytes / 1e6,
        seconds=(worked.ended_ns - began_ns) / 1e9,
        broker_cpu=spent,
        client_cpu=sum(one.cpu_seconds for one in all_worked),
        peak_mib=peak_mib(peer.pid),
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        p999_ms=p999_ms,
    )


def _warm_up(peer: Peer, wanted: int) -> None:
    """Have a tenth as much go through another topic first: Java compiles what it has seen run."""
    count = max(_WARM, wanted // 10)
    create_topic(peer.kafka, "warm")
    _alone(_producer(peer, count, 100, topic="warm"))
    _alone(_consumer(peer, count, topic="warm"))


def _alone(client: Client) -> Worked:
    with client:
        client.begin()
        return client.result()


def produce(
    count: int, record_bytes: int = 100, partitions: int = 1, **config: Any
) -> Callable[[Peer, float], Sample]:
    """Return a workload of one producer as fast as can be."""

    def run(peer: Peer, share: float) -> Sample:
        wanted = max(_WARM, int(count * share))
        create_topic(peer.kafka, _TOPIC, partitions)
        _warm_up(peer, wanted)
        with _producer(peer, wanted, record_bytes, partitions, **config) as client:
            sample = _sample(peer, [client], record_bytes)
        deadline = time.monotonic() + _LATE_SECONDS
        while (found := kafka_count(peer.kafka, _TOPIC, partitions)) < wanted:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        expect(found, wanted, peer)
        return sample

    return run


def _consume(
    count: int, record_bytes: int = 100, consumers: int = 1, *, cold: bool = False
) -> Callable[[Peer, float], Sample]:
    """Return a workload of consumers of what has just been written, or of what only the disk has."""

    def run(peer: Peer, share: float) -> Sample:
        wanted = max(_WARM, int(count * share))
        create_topic(peer.kafka, _TOPIC)
        _alone(_producer(peer, wanted, record_bytes))
        _warm_up(peer, wanted)
        if cold:
            forget(peer.logs(_TOPIC))
        with _consumer(peer, wanted, consumers=consumers) as client:
            return _sample(peer, [client], record_bytes)

    return run


def _flow(count: int, record_bytes: int = 100, rate: float = 0) -> Callable[[Peer, float], Sample]:
    """Return a workload of a producer, at a rate or as fast as can be, and a consumer of all it sends."""

    def run(peer: Peer, share: float) -> Sample:
        create_topic(peer.kafka, _TOPIC)
        _warm_up(peer, _MANY)
        more = {"rate": rate, "linger_ms": 0} if rate else {}
        return _flowed(peer, _TOPIC, max(100, int(count * share)), record_bytes, **more)

    return run


def _flowed(peer: Peer, topic: str, count: int, record_bytes: int, **more: Any) -> Sample:
    with (
        _consumer(peer, count, topic=topic, latencies=True) as consumer,
        _producer(peer, count, record_bytes, topic=topic, **more) as producer,
    ):
        return _sample(peer, [consumer, producer], record_bytes, lead_seconds=1)


def _half(peer: Peer, share: float) -> Sample:
    """Latency at half of what this peer can; what that is, is found out first, on another topic."""
    count = max(_WARM, int(1_000_000 * share))
    _warm_up(peer, _MANY)
    for topic in ("most", _TOPIC):
        create_topic(peer.kafka, topic)
    most = _flowed(peer, "most", count, 100).per_second
    return _flowed(peer, _TOPIC, count, 100, rate=most / 2)


def _transactions(count: int, records: int) -> Callable[[Peer, float], Sample]:
    """Return a workload of transactions one after the other; what is committed is read back."""

    def run(peer: Peer, share: float) -> Sample:
        wanted = max(10, int(count * share))
        create_topic(peer.kafka, _TOPIC)
        _warm_up(peer, _MANY)
        client = Client(
            "transact",
            bootstrap=peer.kafka,
            topic=_TOPIC,
            partitions=1,
            count=wanted,
            record_bytes=100,
            records=records,
            config={"linger.ms": 0},
        )
        with client:
            sample = _sample(peer, [client], 100)
        _alone(_consumer(peer, wanted * records))
        return sample

    return run


def by_client(
    name: str, doc: str, run: Callable[[Peer, float], Sample], measure: str = "cpu", durability: str = "os"
) -> Workload:
    """Return a workload of librdkafka."""
    return Workload(name, doc, _PEERS, measure, run, durability)


CLIENTS = (
    by_client(
        "client-produce",
        "one producer of 100-byte records, linger 5 ms, one partition, acks 1",
        produce(1_000_000),
    ),
    by_client("client-produce-linger-0", "the same, linger 0", produce(500_000, linger_ms=0)),
    by_client("client-produce-linger-50", "the same, linger 50 ms", produce(1_000_000, linger_ms=50)),
    by_client("client-produce-16k", "the same, batches of 16 KB", produce(1_000_000, batch_size=16_384)),
    by_client("client-produce-1k", "the same, 1,000-byte records", produce(300_000, record_bytes=1000)),
    by_client("client-produce-100", "the same, 100 partitions", produce(1_000_000, partitions=100)),
    by_client("client-produce-acks-0", "the same, acks 0", produce(1_000_000, acks=0)),
    by_client("client-produce-acks-all", "the same, acks all", produce(1_000_000, acks="all")),
    by_client(
        "client-produce-fsync",
        "the same, acks all, on the disk",
        produce(500_000, acks="all"),
        durability="fsync",
    ),
    by_client("client-produce-lz4", "the same, lz4", produce(1_000_000, compression_type="lz4")),
    by_client("client-produce-zstd", "the same, zstd", produce(1_000_000, compression_type="zstd")),
    by_client("client-consume", "one consumer of 100-byte records just written", _consume(1_000_000)),
    by_client("client-consume-1k", "the same, 1,000-byte records", _consume(300_000, record_bytes=1000)),
    by_client("client-consume-10", "10 consumers of all the same records", _consume(200_000, consumers=10)),
    by_client(
        "client-consume-cold",
        "one consumer of 1,000-byte records that only the disk has",
        _consume(300_000, record_bytes=1000, cold=True),
    ),
    by_client(
        "client-consume-cold-10",
        "10 consumers of all the same such records",
        _consume(60_000, record_bytes=1000, consumers=10, cold=True),
    ),
    by_client("client-both", "a producer and a consumer of 100-byte records at once", _flow(2_000_000)),
    by_client(
        "client-transactions",
        "transactions of 10 records, one after the other",
        _transactions(1000, 10),
        "time",
    ),
)

CLIENT_LATENCY = (
    by_client(
        "end-to-end-100",
        "from when a record was due to when its consumer has it, 100 a second, linger 0",
        _flow(500, rate=100),
        "p99",
    ),
    by_client("end-to-end-10000", "the same, 10,000 a second", _flow(50_000, rate=10_000), "p99"),
    by_client("end-to-end-half", "the same, linger 5 ms, at half of the most the peer can", _half, "p99"),
)
