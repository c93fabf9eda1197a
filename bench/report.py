"""Medians of what was measured, as a table, as JSON, and as a picture."""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from bench.workloads import WORKLOADS, Sample, Workload

__all__ = ["Row", "as_json", "from_json", "plot", "table"]

_NAME_WIDTH = 27
_LINE = (
    "{:{width}} {:11} {:>9} {:4.0f}% {:>10} {:7,.0f} {:6.2f} {:6.2f} {:5.0f} {:>8} {:>8} {:>8} {:>7} {:>6} {}"
)
_HEAD = (
    f"{{:{{width}}}} {'peer':11} {'ops/s':>9} {'spread':>5} {'ops/cpu s':>9} {'MB/s':>7} {'cpu s':>6} "
    f"{'client':>6} {'MiB':>5} {'p50 ms':>8} {'p99 ms':>8} {'99.9 ms':>8} {'ratio/s':>7} {'ratio':>6} of"
)

_COMPARED: Mapping[str, Callable[[Sample], float]] = {
    "cpu": lambda sample: sample.per_cpu_second,
    "time": lambda sample: sample.per_second,
    "memory": lambda sample: 1 / sample.peak_mib,
    "p99": lambda sample: 1 / max(sample.p99_ms, 0.001),
}
"""What is compared, by the workload's ``measure``; more is better."""


@attrs.frozen
class Row:
    """All rounds of one peer in one workload."""

    workload: Workload
    peer: str
    samples: Sequence[Sample]

    def median(self, of: Callable[[Sample], float]) -> float:
        """Return the median of one figure."""
        return statistics.median(of(sample) for sample in self.samples)

    @property
    def figure(self) -> float:
        """What is compared; more is better."""
        return self.median(_COMPARED[self.workload.measure])

    @property
    def speed(self) -> float:
        """Operations a second."""
        return self.median(lambda sample: sample.per_second)

    @property
    def spread(self) -> float:
        """How far the rounds lie apart in what is compared, as a share of their median."""
        values = [_COMPARED[self.workload.measure](sample) for sample in self.samples]
        return (max(values) - min(values)) / statistics.median(values)


def table(rows: Sequence[Row], missing: Mapping[str, str], of: str = "megabroker") -> str:
    """Return one line a peer and workload, with ratios of the figures of one, ``of``, to the peer's.

    The last ratio is of what the workload is about, the one before it of operations a second.
    """
    width = max([_NAME_WIDTH, *(len(row.workload.name) for row in rows)])
    lines = [_HEAD.format("workload", width=width)]
    for row in rows:
        ours = next((one for one in rows if one.workload is row.workload and one.peer == of), None)
        ratios = ["", ""]
        if ours is not None and ours is not row:
            ratios = [f"{ours.speed / row.speed:.2f}", f"{ours.figure / row.figure:.2f}"]
        figures = (
            _short(row.speed),
            row.spread * 100,
            _short(row.median(lambda s: s.per_cpu_second)),
            row.median(lambda s: s.megabytes / s.seconds),
            row.median(lambda s: s.broker_cpu),
            row.median(lambda s: s.client_cpu),
            row.median(lambda s: s.peak_mib),
            _latency(row.median(lambda s: s.p50_ms)),
            _latency(row.median(lambda s: s.p99_ms)),
            _latency(row.median(lambda s: s.p999_ms)),
        )
        names = (row.workload.name, row.peer)
        lines.append(_LINE.format(*names, *figures, *ratios, row.workload.measure, width=width))
    lines += [f"missing: {peer}: {reason}" for peer, reason in missing.items()]
    return "\n".join(lines)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"


def _latency(ms: float) -> str:
    """Return a latency, or nothing where none was measured."""
    return f"{ms:.3f}" if ms else ""


def as_json(rows: Iterable[Row], missing: Mapping[str, str]) -> str:
    """Return everything measured."""
    measured: list[dict[str, Any]] = [
        {
            "workload": row.workload.name,
            "about": row.workload.doc,
            "durability": row.workload.durability,
            "compared_by": row.workload.measure,
            "peer": row.peer,
            "figure": row.figure,
            "samples": [attrs.asdict(sample) for sample in row.samples],
        }
        for row in rows
    ]
    return json.dumps({"measured": measured, "missing": dict(missing)}, indent=1)


def from_json(text: str) -> tuple[list[Row], dict[str, str]]:
    """Return what ``as_json`` told: everything measured, and what was missing."""
    told = json.loads(text)
    rows = [
        Row(WORKLOADS[one["workload"]], one["peer"], [Sample(**sample) for sample in one["samples"]])
        for one in told["measured"]
    ]
    return rows, told["missing"]


def plot(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Draw each peer's figure as a multiple of this broker's, a line a workload.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import pyplot

    ours = {row.workload.name: row.figure for row in rows if row.peer == "megabroker"}
    compared = {row.workload.name for row in rows if row.peer != "megabroker"} & set(ours)
    names = [name for name in WORKLOADS if name in compared]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.26 * len(names)))
    for peer in dict.fromkeys(row.peer for row in rows if row.peer != "megabroker"):
        found = {row.workload.name: row.figure for row in rows if row.peer == peer}
        shown = [name for name in names if name in found]
        axes.plot(
            [found[name] / ours[name] for name in shown],
            [names.index(name) for name in shown],
            "o",
            label=peer,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.axvline(1, color="black")
    axes.set_xlabel("times megabroker, which is the line at 1; further right is better")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
