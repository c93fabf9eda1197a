"""What is told of a run that broke a promise: which one, what shows it, and how to see it again.

Owns the choice of what of a trace matters: the events that show the fault, whatever else names the same
records, and what was done to the machine meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from megabroker.simulation.clock import EPOCH_SECONDS
from megabroker.simulation.rules import Violation
from megabroker.simulation.world import Line, Result

__all__ = ["as_json", "describe", "replay_command"]

_MOST_LINES: Final = 60
_WIDEST: Final = 400
_MACHINE: Final = ("plan", "machine", "chaos")


def replay_command(seed: int) -> str:
    """Return what a shell takes to run a seed again, with all of its trace."""
    return f"python -m megabroker.simulation --seed {seed}"


def describe(result: Result) -> Iterator[str]:
    """Yield lines about a failed run."""
    yield f"seed {result.seed} FAILED: {len(result.violations)} broken promises"
    for violation in result.violations:
        yield f"  {violation.rule}: {violation.message}"
    first = result.violations[0]
    yield "  the part of the trace that shows the first:"
    for line in related(first, result.trace):
        yield f"    {show(line)}"
    yield f"  replay: {replay_command(result.seed)}"


def related(violation: Violation, trace: list[Line]) -> list[Line]:
    """Return the lines of a trace that have to do with a violation, the last of them if there are many."""
    shown = {str(event) for event in violation.events}
    times = [event.time - EPOCH_SECONDS for event in violation.events]
    first, last = (min(times), max(times)) if times else (0.0, float("inf"))
    found = []
    for line in trace:
        time, who, something = line
        what = str(something)
        told = what in shown or any(f"'{word}'" in what for word in violation.words)
        machine = (who in _MACHINE or what.startswith(("PowerLost", "SyncFailed", "Damaged"))) and (
            who == "plan" or first - 1 <= time <= last + 1
        )
        grave = who == "broker" and what.startswith(("error", "critical", "warn")) and first <= time <= last
        if told or machine or grave:
            found.append(line)
    return found[:1] + found[1:][-_MOST_LINES:]


def show(line: Line) -> str:
    """Return a line of a trace as text."""
    time, who, what = line
    return f"{time:10.4f} {who}: {str(what)[:_WIDEST]}"


def as_json(result: Result) -> dict[str, Any]:
    """Return a run as JSON values."""
    return {
        "seed": result.seed,
        "digest": result.digest,
        "violations": [{"rule": one.rule, "message": one.message} for one in result.violations],
        "faults": dict(sorted(result.injected.items())),
        "operations": dict(sorted(result.counts.items())),
        "happened": result.happened,
    }
