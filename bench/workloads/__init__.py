"""What is measured: each workload prepares a server, loads it, checks that nothing is missing, and reports.

A workload says which peers it fits. Its ``run`` is given a started peer and returns a ``Sample``; CPU
seconds count from the first request to the last answer. Records are counted afterwards by asking the server;
one missing or too many ends the run. Each module is a group, and has a tuple of workloads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.workloads.clients import CLIENTS
from bench.workloads.cold import COLD
from bench.workloads.crossing import CROSSED, CROSSINGS
from bench.workloads.fetching import FETCHING
from bench.workloads.growth import GROWTH
from bench.workloads.latency import LATENCY
from bench.workloads.model import Sample, Workload
from bench.workloads.producing import PRODUCING
from bench.workloads.starting import STARTING
from bench.workloads.wires import WIRES

__all__ = ["GROUPS", "WORKLOADS", "Sample", "Workload"]

GROUPS: Mapping[str, Sequence[Workload]] = {
    "producing": PRODUCING,
    "latency": LATENCY,
    "fetching": FETCHING,
    "cold": COLD,
    "starting": STARTING,
    "clients": CLIENTS,
    "crossed": CROSSED,
    "wires": WIRES,
    "growth": GROWTH,
}

WORKLOADS: Mapping[str, Workload] = {
    one.name: one for group in (*GROUPS.values(), CROSSINGS) for one in group
}
"""Those of all groups, and every crossing of settings."""
