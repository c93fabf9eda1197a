"""Starting an empty broker, and what it holds when idle."""

from __future__ import annotations

import time

from bench.peers import Peer
from bench.processes import cpu_seconds, peak_mib
from bench.workloads.model import Sample, Workload

__all__ = ["STARTING"]


def _start(peer: Peer, share: float) -> Sample:
    """What starting took, and memory when idle; an operation is a start."""
    time.sleep(2)
    return Sample(1, 0, 0, peer.start_seconds, cpu_seconds(peer.pid), 0, peak_mib(peer.pid), 0, 0, 0)


STARTING = (
    Workload(
        "start",
        "an empty broker from the command to its first answer; memory after two seconds",
        ("megabroker", "kafka", "nats", "redis"),
        "time",
        _start,
    ),
)
