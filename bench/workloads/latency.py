"""How long a record takes at a fixed rate, counted from when it was due and not from when it was sent."""

from __future__ import annotations

from bench.workloads.clients import CLIENT_LATENCY
from bench.workloads.model import Workload
from bench.workloads.producing import produce

__all__ = ["LATENCY"]


LATENCY = (
    *CLIENT_LATENCY,
    Workload(
        "latency-100",
        "one record a request at 100 a second, acks 1",
        ("megabroker", "kafka", "nats", "redis"),
        "p99",
        produce(connections=4, depth=1000, count=500, rate=100),
    ),
    Workload(
        "latency-10000",
        "one record a request at 10,000 a second over 10 connections, acks 1",
        ("megabroker", "kafka", "nats", "redis"),
        "p99",
        produce(connections=10, depth=10_000, count=50_000, rate=10_000),
    ),
)
