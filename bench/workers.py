"""What more worker processes bring: one beside several, the same prepared requests, round by round.

    python -m bench.workers                              two workers beside one, five rounds
    python -m bench.workers --workers 1,2,4 --compiled

Every broker gets the same load: as many C clients as the largest number of workers, each with one connection
to one of them and with requests for partitions that this one leads. Beside the rates it is told what all
processes of the broker and all clients spent; where their sum comes near the processors that there are, it is
the machine that limits, and the rate by CPU second says what more processors would bring.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
from confluent_kafka.admin import AdminClient

from bench.native import Loaded, program, run_load
from bench.processes import cpu_seconds, resident_mib
from bench.requests import create_topic, kafka_count, produce_request, record_batch
from bench.wire import framed
from megabroker.codec.records import build
from megabroker.net import quick
from megabroker.protocols.kafka.schema import produce
from tests.workers import WorkersProcess

_TOPIC = "bench"
_RECORD_BYTES = 100
_PRODUCE_VERSION = 9
_WARM = 0.1


@attrs.frozen
class Load:
    """One kind of requests.

    Attributes:
        records: in each batch, of 100 bytes.
        depth: requests under way on a connection.
        count: requests in all.
        partitions: of each client.
        together: whether a request has a batch for each of them, or for one in turn.
        keys: whether records have keys and the topic is compacted, so that each record is looked at.
    """

    name: str
    doc: str
    records: int
    depth: int
    count: int
    partitions: int = 2
    together: bool = False
    keys: bool = False

    @property
    def records_a_request(self) -> int:
        """Records of all batches of a request."""
        return self.records * (self.partitions if self.together else 1)


LOADS = (
    Load("one-pipelined", "one record a request, 100 under way a connection", 1, 100, 300_000),
    Load("batch-16k", "16 KB batches, 10 under way a connection", 148, 10, 60_000),
    Load(
        "many-partitions",
        "requests with one record for each of 20 partitions, 10 under way a connection",
        1,
        10,
        24_000,
        partitions=20,
        together=True,
    ),
    Load("compacted", "16 KB batches for a compacted topic, 10 under way", 148, 10, 12_000, keys=True),
)


@attrs.frozen
class Sample:
    """One measurement; CPU seconds of all processes of the broker, and of all clients."""

    per_second: float
    broker_cpu: float
    client_cpu: float
    seconds: float
    resident_mib: float

    @property
    def possible(self) -> float:
        """The most that more workers can bring on this machine, where clients run as well."""
        spent = self.broker_cpu + self.client_cpu
        return (os.cpu_count() or 1) * self.broker_cpu / spent

    @property
    def busy(self) -> float:
        """How many processors were at work."""
        return (self.broker_cpu + self.client_cpu) / self.seconds


def measure(load: Load, workers: int, clients: int, share: float, compiled: bool) -> Sample:
    """Start a broker, load it and see that it has every record."""
    config: dict[str, Any] = {
        "durability": "os",
        "protocols": {"mega": {"enabled": False}, "cursus": {"enabled": False}},
    }
    broker = WorkersProcess(workers, config)
    broker.environment = {quick.VARIABLE: "1" if compiled else "0"}
    with broker:
        partitions = clients * load.partitions
        policy = "compact" if load.keys else "delete"
        create_topic(broker.nodes[0], _TOPIC, partitions, cleanup_policy=policy)
        places = _places(broker, partitions, clients)
        wanted = max(1, int(load.count * share / clients))
        warm = max(1, int(wanted * _WARM))
        _run(places, load, warm)
        pids = broker.all_pids()
        before = sum(map(cpu_seconds, pids))
        loaded = _run(places, load, wanted)
        spent = sum(map(cpu_seconds, pids)) - before
        found = kafka_count(broker.kafka, _TOPIC, partitions)
        expected = (warm + wanted) * clients * load.records_a_request
        assert found == expected, f"the broker has {found} records of {expected}"
        seconds = max(one.seconds for one in loaded)
        return Sample(
            per_second=sum(one.answered for one in loaded) / seconds,
            broker_cpu=spent,
            client_cpu=sum(one.cpu_seconds for one in loaded),
            seconds=seconds,
            resident_mib=sum(map(resident_mib, pids)),
        )


def _places(broker: WorkersProcess, partitions: int, clients: int) -> list[tuple[int, list[int]]]:
    """Return a port and partitions for each client; with fewer workers than clients some share a worker."""
    metadata = AdminClient({"bootstrap.servers": broker.nodes[0]}).list_topics(_TOPIC, 30)
    led: dict[int, list[int]] = {}
    for index, one in sorted(metadata.topics[_TOPIC].partitions.items()):
        led.setdefault(one.leader, []).append(index)
    each = clients // len(led)
    places = []
    for node_id, indexes in sorted(led.items()):
        for turn in range(each):
            places.append((metadata.brokers[node_id].port, indexes[turn::each]))
    assert len(places) == clients, f"{clients} clients cannot be dealt out to {len(led)} workers"
    return places


def _run(places: Sequence[tuple[int, list[int]]], load: Load, count: int) -> list[Loaded]:
    def client(place: tuple[int, list[int]]) -> Loaded:
        port, indexes = place
        return run_load(port, _requests(load, indexes), count=count, depth=load.depth)

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(client, places))


def _requests(load: Load, indexes: Sequence[int]) -> list[bytes]:
    """Return whole Produce requests for partitions, to be sent in turn."""
    if load.keys:
        now_ms = time.time_ns() // 1_000_000
        batch = bytes(build([(b"%06d" % n, b"x" * 94, (), now_ms) for n in range(load.records)]))
    else:
        batch = record_batch(load.records, _RECORD_BYTES)
    if not load.together:
        return [produce_request(_TOPIC, index, batch, 1) for index in indexes]
    partition = produce.Request.Topic.Partition
    data = [partition(index=index, records=batch) for index in indexes]
    topic = produce.Request.Topic(name=_TOPIC, partition_data=data)
    return [framed(produce.Request(acks=1, timeout_ms=30_000, topic_data=[topic]), _PRODUCE_VERSION, 1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=", ".join(load.name for load in LOADS))
    parser.add_argument("--workers", default="1,2", help="numbers of workers; the first is compared with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of requests")
    parser.add_argument("--compiled", action="store_true", help="with the compiled part")
    arguments = parser.parse_args()
    counts = [int(one) for one in arguments.workers.split(",")]
    program("load")  # compiled before many ask for it at once
    print(f"{os.cpu_count()} processors, {arguments.rounds} rounds, medians (fewest to most)")
    for load in LOADS:
        if arguments.loads and load.name not in arguments.loads:
            continue
        samples: dict[int, list[Sample]] = {count: [] for count in counts}
        for _ in range(arguments.rounds):
            for count in counts:
                sample = measure(load, count, max(counts), arguments.share, arguments.compiled)
                samples[count].append(sample)
        _tell(load, samples)


def _tell(load: Load, samples: dict[int, list[Sample]]) -> None:
    first = next(iter(samples.values()))
    possible = statistics.median(one.possible for one in first)
    print(f"\n{load.name}: {load.doc}; possible here {possible:.2f}")
    print(
        "workers      req/s  (rounds)  req/cpu s  broker cpu s  client cpu s  processors  MiB  ratio (rounds)"
    )
    for count, found in samples.items():
        rates = [one.per_second for one in found]
        by_cpu = statistics.median(one.per_second * one.seconds / one.broker_cpu for one in found)
        ratios = [one.per_second / base.per_second for one, base in zip(found, first, strict=True)]
        print(
            f"{count:7} {statistics.median(rates):10.0f}  ({min(rates):.0f} to {max(rates):.0f})"
            f" {by_cpu:10.0f} {statistics.median(one.broker_cpu for one in found):13.2f}"
            f" {statistics.median(one.client_cpu for one in found):13.2f}"
            f" {statistics.median(one.busy for one in found):11.2f}"
            f" {statistics.median(one.resident_mib for one in found):4.0f}"
            f"  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
