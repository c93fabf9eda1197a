"""Prepared fetches of what the page cache has lost, and who else has to wait meanwhile."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator, Sequence

import attrs

from bench.bystander import Bystander
from bench.native import program, run_load
from bench.peers import Limit, Peer
from bench.processes import peak_mib
from bench.requests import create_topic, fetch_request, kafka_count, produce_request, record_batch
from bench.slow_disk import SlowDisk
from bench.workloads.model import ONE_WIRE, Sample, Workload, expect, sampled

__all__ = ["COLD", "forget"]

_TOPIC = "bench"
_RECORD_BYTES, _BATCH_BYTES = 1000, 1 << 20


def _fetch(stored: int, disk_megabytes: int = 0) -> Callable[[Peer, float], Sample]:
    """Return a workload of fetches, each of the next 1 MB; the limit reads a file of the same size.

    Latencies are of the small requests that another connection makes meanwhile, one at a time; the last one
    is the longest of all.

    Args:
        disk_megabytes: what may be read from the disk in a second; 0 for what it can.
    """

    def run(peer: Peer, share: float) -> Sample:
        count = max(16, int(stored * share))
        if isinstance(peer, Limit):
            with open(peer.file, "wb") as file:
                for _ in range(count):
                    file.write(os.urandom(_BATCH_BYTES))
            forget([peer.file])
            return _read_through(peer, disk_megabytes)
        records = _BATCH_BYTES // (_RECORD_BYTES + 10)
        create_topic(peer.kafka, _TOPIC, max_message_bytes=str(8 << 20))
        run_load(
            peer.port, [produce_request(_TOPIC, 0, record_batch(records, _RECORD_BYTES), 1)], count=count
        )
        expect(kafka_count(peer.kafka, _TOPIC, 1), count * records, peer)
        requests = [fetch_request(_TOPIC, 0, at * records, _BATCH_BYTES) for at in range(count)]
        logs = peer.logs(_TOPIC)
        forget(logs)
        with _disk(logs[0], disk_megabytes, peer.pid), Bystander(peer.port) as bystander:
            sample = sampled(
                peer, lambda: run_load(peer.port, requests, count=count, depth=4), 1, _BATCH_BYTES
            )
        p50_ms, p99_ms, longest_ms = bystander.waits()
        return attrs.evolve(sample, p50_ms=p50_ms, p99_ms=p99_ms, p999_ms=longest_ms)

    return run


@contextlib.contextmanager
def _disk(file: pathlib.Path, megabytes: int, pid: int) -> Iterator[None]:
    """Slow the disk down for one process, if it is to be slowed at all."""
    if not megabytes:
        yield
        return
    with SlowDisk(file, megabytes * 1_000_000) as disk:
        disk.hold(pid)
        yield


def forget(paths: Sequence[pathlib.Path]) -> None:
    """Have the kernel let go of what files hold."""
    assert paths, "no files"
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_through(peer: Limit, disk_megabytes: int) -> Sample:
    """What reading a file from its beginning to its end takes; an operation is 1 MiB."""
    command = [str(program("limit")), "read", str(peer.file), str(_BATCH_BYTES)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader,
        _disk(peer.file, disk_megabytes, reader.pid),
    ):
        answer, _ = reader.communicate("now\n")
    count, seconds, spent = (float(word) for word in answer.split())
    operations = int(count) // _BATCH_BYTES
    return Sample(operations, operations, count / 1e6, seconds, spent, 0, peak_mib(peer.pid), 0, 0, 0)


def _workload(name: str, disk: str, disk_megabytes: int) -> Workload:
    return Workload(
        name,
        f"fetches of 1 MB from {disk}, one after the other, 4 under way, where the limit reads a file;"
        " latencies are of small requests on another connection, the last the longest of all",
        ONE_WIRE,
        "time",
        _fetch(512, disk_megabytes),
        limit_mode=("sendfile", str(1 << 20)),
    )


COLD = (
    _workload("fetch-cold", "the disk", 0),
    _workload("fetch-cold-500", "a disk held to 500 MB/s", 500),
    _workload("fetch-cold-200", "a disk held to 200 MB/s", 200),
)
