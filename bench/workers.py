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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
from confluent_kafka.admin import AdminClient

from bench.native import Loaded, program, run_load
from bench.processes import cpu_seconds, resident_mib
from bench.requests import create_topic, kafka_count, produce_request, record_batch
from megabroker.net import quick
from tests.workers import WorkersProcess

_TOPIC = "bench"
_PARTITIONS_EACH = 2
_WARM = 0.1


@attrs.frozen
class Load:
    """One kind of requests: how many records of how many bytes, how many under way, how many in all."""

    name: str
    doc: str
    records: int
    record_bytes: int
    depth: int
    count: int


LOADS = (
    Load("one-pipelined", "one 100-byte record a request, 100 under way a connection", 1, 100, 100, 160_000),
    Load("batch-16k", "16 KB batches of 100-byte records, 10 under way a connection", 148, 100, 10, 60_000),
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
        partitions = clients * _PARTITIONS_EACH
        create_topic(broker.nodes[0], _TOPIC, partitions)
        batch = record_batch(load.records, load.record_bytes)
        places = _places(broker, partitions, clients)
        wanted = max(1, int(load.count * share / clients))
        warm = max(1, int(wanted * _WARM))
        _run(places, batch, load, warm)
        pids = broker.all_pids()
        before = sum(map(cpu_seconds, pids))
        loaded = _run(places, batch, load, wanted)
        spent = sum(map(cpu_seconds, pids)) - before
        found = kafka_count(broker.kafka, _TOPIC, partitions)
        expected = (warm + wanted) * clients * load.records
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


def _run(places: Sequence[tuple[int, list[int]]], batch: bytes, load: Load, count: int) -> list[Loaded]:
    def client(place: tuple[int, list[int]]) -> Loaded:
        port, indexes = place
        requests = [produce_request(_TOPIC, index, batch, 1) for index in indexes]
        return run_load(port, requests, count=count, depth=load.depth)

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(client, places))


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
    print(f"\n{load.name}: {load.doc}")
    print(
        "workers      req/s  (rounds)  req/cpu s  broker cpu s  client cpu s  processors  MiB  ratio (rounds)"
    )
    first = next(iter(samples.values()))
    for count, found in samples.items():
        rates = [one.per_second for one in found]
        by_cpu = statistics.median(one.per_second * one.seconds / one.broker_cpu for one in found)
        ratios = [one.per_second / base.per_second for one, base in zip(found, first, strict=True)]
        print(
            f"{count:7} {statistics.median(rates):10.0f}  ({min(rates):.0f} to {max(rates):.0f})"
            f" {by_cpu:12.0f} {statistics.median(one.broker_cpu for one in found):12.2f}"
            f" {statistics.median(one.client_cpu for one in found):13.2f}"
            f" {statistics.median(one.busy for one in found):11.2f}"
            f" {statistics.median(one.resident_mib for one in found):6.0f}"
            f"  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
