"""Seeds, one after the other or over several processes at a time.

Owns the spreading. A run is of one thread and knows nothing of others, so any process may run any seed; what
comes of them is told in their order.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
from twisted.logger import globalLogBeginner

from megabroker.simulation.report import as_json, describe
from megabroker.simulation.world import run

__all__ = ["Told", "runs", "say_nothing"]

_SEEDS_A_COLLECTION: Final = 8


@attrs.frozen
class Told:
    """What is kept of a run: small, for it comes from another process.

    Attributes:
        lines: what is said of it if it broke a promise.
        values: it all as JSON values.
    """

    seed: int
    lines: list[str]
    values: dict[str, Any]


def say_nothing() -> None:
    """What the broker logs is in the traces."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def _run_one(seed: int) -> Told:
    result = run(seed)
    told = Told(seed, list(describe(result)) if result.violations else [], as_json(result))
    del result
    if seed % _SEEDS_A_COLLECTION == 0:
        gc.collect()
    return told


@contextmanager
def runs(seeds: Iterable[int], jobs: int) -> Iterator[Iterator[Told]]:
    """Run seeds, over ``jobs`` processes; what comes of them comes in their order."""
    if jobs == 1:
        yield map(_run_one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, say_nothing) as pool:
        yield pool.imap(_run_one, seeds)
