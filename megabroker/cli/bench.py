"""``megabroker bench``: how fast a broker that runs takes and gives messages, seen from one client.

Owns the measurement and what is said of it. This client is one thread of Python, which may be slower than the
broker: how much of a processor it used is told beside every figure, and near 100% the figure is the client's.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
import click

from megabroker.cli.cluster import LATEST, Cluster, Partition
from megabroker.cli.connecting import cluster_options
from megabroker.cli.output import human_bytes, json_option, print_json, print_table, progress
from megabroker.cli.reading import Reader
from megabroker.cli.refusals import check
from megabroker.cli.writing import COMPRESSIONS, Acknowledged, Writer
from megabroker.errors import ErrorCode, StateError
from megabroker.protocols.kafka.schema import create_topics, delete_topics

__all__ = ["bench", "percentile"]

_TIMEOUT_MS: Final = 30_000
_IDLE_SECONDS: Final = 30.0
_VARIANTS: Final = 64
_BUSY: Final = 0.9
"""The share of a processor from which on this client is what limits."""


@attrs.frozen(kw_only=True)
class _Stage:
    """One thing measured.

    Attributes:
        seconds: how long it took.
        cpu_seconds: of that, how long this client had a processor.
        latencies_ms: of each request that was waited for, from sent to answered; of none for reading.
    """

    name: str
    messages: int
    bytes: int
    seconds: float
    cpu_seconds: float
    latencies_ms: Sequence[float] = ()

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        seconds = max(self.seconds, 1e-9)
        told: dict[str, Any] = {
            "stage": self.name,
            "messages": self.messages,
            "bytes": self.bytes,
            "seconds": round(seconds, 4),
            "messages_per_second": round(self.messages / seconds, 1),
            "bytes_per_second": round(self.bytes / seconds, 1),
            "client_cpu": round(self.cpu_seconds / seconds, 3),
        }
        for share in (50, 95, 99, 100) if self.latencies_ms else ():
            name = "max_ms" if share == 100 else f"p{share}_ms"
            told[name] = round(percentile(self.latencies_ms, share), 3)
        return told


def percentile(values: Sequence[float], share: int) -> float:
    """Return the smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


@click.command()
@click.option("-n", "--messages", type=click.IntRange(1), default=100_000, show_default=True)
@click.option(
    "--size",
    type=click.IntRange(1, 1 << 20),
    default=100,
    show_default=True,
    help="Size of a message in bytes.",
)
@click.option(
    "--single",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Number of messages that are sent one by one.",
)
@click.option("-t", "--topic", help="An existing topic, read from its end; otherwise a topic is created.")
@click.option(
    "-p",
    "--partitions",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Partitions of the created topic.",
)
@click.option("--acks", type=click.Choice(["1", "all"]), default="all", show_default=True)
@click.option("-z", "--compression", type=click.Choice(list(COMPRESSIONS)), default="none", show_default=True)
@click.option("--batch-bytes", type=click.IntRange(1, 1 << 20), default=1 << 16, show_default=True)
@click.option("--keep", is_flag=True, help="Do not delete the created topic.")
@json_option
@cluster_options
def bench(
    cluster: Cluster, topic: str | None, partitions: int, keep: bool, as_json: bool, **given: Any
) -> None:
    """Measure a running broker: produce messages in batches, produce them one by one, and consume them all.

    The results are limited by this one client, which is written in Python. bench/ in the sources measures
    what a broker can do.
    """
    name = topic or f"megabroker-bench-{secrets.token_hex(4)}"
    if topic is None:
        _make(cluster, name, partitions)
    try:
        stages = list(_measured(cluster, name, given))
    finally:
        if topic is None and not keep:
            request = delete_topics.Request.Topic(name=name)
            cluster.ask(delete_topics.Request(topics=[request], topic_names=[name], timeout_ms=_TIMEOUT_MS))
    if as_json:
        told = {"topic": name, "acks": given["acks"], "size": given["size"], "partitions": partitions}
        print_json({**told, "stages": [one.plain() for one in stages]})
        return
    _tell([one.plain() for one in stages])


def _make(cluster: Cluster, name: str, partitions: int) -> None:
    row = create_topics.Request.Topic(name=name, num_partitions=partitions, replication_factor=-1)
    for one in cluster.ask(create_topics.Request(topics=[row], timeout_ms=_TIMEOUT_MS)).topics:
        check(one.error_code, one.error_message, f"topic {name}")


def _measured(cluster: Cluster, name: str, given: dict[str, Any]) -> Iterator[_Stage]:
    numbers = cluster.partitions([name])[name]
    there = [Partition(name, number) for number in numbers]
    starts = {one: at or 0 for one, at in cluster.offsets(dict.fromkeys(there, LATEST)).items()}
    # Random bytes, so that compression has no more to gain than with what is worth compressing least.
    values = [os.urandom(given["size"]) for _ in range(_VARIANTS)]
    yield _write("produce", cluster, there, values, given["messages"], given)
    if given["single"]:
        yield _write("singly", cluster, there, values, given["single"], given, alone=True)
    yield _read(cluster, starts, given["messages"] + given["single"])


def _write(
    stage: str,
    cluster: Cluster,
    partitions: Sequence[Partition],
    values: Sequence[bytes],
    count: int,
    given: dict[str, Any],
    *,
    alone: bool = False,
) -> _Stage:
    done: list[Acknowledged] = []
    acks = -1 if given["acks"] == "all" else 1
    writer = Writer(
        cluster,
        done.append,
        acks=acks,
        compression=COMPRESSIONS[given["compression"]],
        idempotent=acks == -1,
        batch_bytes=given["batch_bytes"],
    )
    began, cpu = time.monotonic(), time.process_time()
    with progress(stage, count) as tell:
        for number in range(count):
            stamp = time.time_ns() // 1_000_000
            writer.add(partitions[number % len(partitions)], (None, values[number % _VARIANTS], (), stamp))
            if alone:
                writer.flush()
            if number % 1000 == 0:
                tell(number)
        writer.flush()
    ended, used = time.monotonic(), time.process_time() - cpu
    latencies = [1000 * one.seconds for one in done]
    size = sum(one.bytes for one in done)
    return _Stage(
        name=stage,
        messages=sum(one.records for one in done),
        bytes=size,
        seconds=ended - began,
        cpu_seconds=used,
        latencies_ms=latencies,
    )


def _read(cluster: Cluster, starts: dict[Partition, int], count: int) -> _Stage:
    reader = Reader(cluster, committed=False)
    reader.assign(starts)
    found = size = 0
    began, cpu = time.monotonic(), time.process_time()
    heard = began
    with progress("consume", count) as tell:
        while found < count:
            for _, records in reader.poll(500):
                found += len(records)
                size += sum(len(one.value or b"") for one in records)
                heard = time.monotonic()
            tell(found)
            if time.monotonic() - heard > _IDLE_SECONDS:
                raise StateError(
                    ErrorCode.TIMED_OUT,
                    f"{found} of {count} messages were received, and no more for half a minute",
                )
    ended, used = time.monotonic(), time.process_time() - cpu
    reader.close()
    return _Stage(name="consume", messages=found, bytes=size, seconds=ended - began, cpu_seconds=used)


def _rounded(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds:.2f}"


def _tell(stages: Sequence[dict[str, Any]]) -> None:
    columns = ["stage", "messages", "per s", "bytes/s", "client", "p50", "p95", "p99", "max"]
    rows = [
        (
            one["stage"],
            f"{one['messages']:,}",
            f"{one['messages_per_second']:,.0f}",
            human_bytes(one["bytes_per_second"]),
            f"{one['client_cpu']:.0%}",
            *(_rounded(one.get(name)) for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")),
        )
        for one in stages
    ]
    print_table(columns, rows, columns[1:])
    busy = [one["stage"] for one in stages if one["client_cpu"] >= _BUSY]
    click.echo(
        "times are from sending a batch to its acknowledgement; client is this client's share of a processor"
    )
    if busy:
        click.echo(f"{' and '.join(busy)}: the client was the limit; the broker may be faster")
