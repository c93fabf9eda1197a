"""Starting an empty broker, and the memory it holds, idle and under load."""

from __future__ import annotations

import time

from bench.peers import Peer
from bench.processes import cpu_seconds, peak_mib, resident_mib
from bench.workloads.model import Sample, Workload
from bench.workloads.producing import produce

__all__ = ["STARTING"]

_IDLE_SECONDS = 5


def _start(peer: Peer, share: float) -> Sample:
    """What starting took, and memory when idle; an operation is a start."""
    time.sleep(2)
    return Sample(1, 0, 0, peer.start_seconds, cpu_seconds(peer.pid), 0, peak_mib(peer.pid), 0, 0, 0)


def _idle(peer: Peer, share: float) -> Sample:
    """Memory a while after the start; nothing is asked of the server."""
    time.sleep(_IDLE_SECONDS)
    return Sample(1, 0, 0, _IDLE_SECONDS, cpu_seconds(peer.pid), 0, resident_mib(peer.pid), 0, 0, 0)


def _loaded(peer: Peer, share: float) -> Sample:
    """The most memory while 100 connections write to 100 partitions."""
    load = produce(records=16, record_bytes=1000, connections=100, depth=4, partitions=100, count=50_000)
    return load(peer, share)


STARTING = (
    Workload(
        "start",
        "an empty broker from the command to its first answer; memory after two seconds",
        ("megabroker", "kafka", "nats", "redis"),
        "time",
        _start,
    ),
    Workload(
        "memory-idle",
        f"resident memory {_IDLE_SECONDS} s after an empty broker's start",
        ("megabroker", "kafka", "nats", "redis"),
        "memory",
        _idle,
    ),
    Workload(
        "memory-loaded",
        "most memory while 100 connections with 4 requests under way write 16 KB batches to 100 partitions",
        ("megabroker", "kafka"),
        "memory",
        _loaded,
    ),
)
