"""What a workload is, and what one measurement of it has found."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bench.native import Loaded
from bench.peers import PEERS, Limit, Peer
from bench.processes import cpu_seconds, peak_mib

__all__ = ["ALL", "ONE_WIRE", "Sample", "Workload", "expect", "sampled"]

ALL = ("megabroker", "compiled", "kafka", "nats", "redis", "limit")
ONE_WIRE = ("megabroker", "compiled", "kafka", "limit")


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
        measure: "cpu" to compare operations by CPU second of the server, "time" by second, "p99" latencies,
            "memory" the most of it.
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
        return PEERS[name](self.durability)


def sampled(peer: Peer, load: Callable[[], Loaded], records: int, record_bytes: int) -> Sample:
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


def expect(found: int, expected: int, peer: Peer) -> None:
    assert found == expected, f"{peer.name} has {found} records of {expected}"
