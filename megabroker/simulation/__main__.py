"""The command: run seeds, tell which broke a promise, and how many a second.

python -m megabroker.simulation --seeds 1000 [--first N] [--jobs N] [--json]
python -m megabroker.simulation --seed N
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from megabroker.simulation.report import as_json, describe, show
from megabroker.simulation.seeds import runs, say_nothing
from megabroker.simulation.world import run

__all__ = ["main"]

_PROGRESS_SECONDS: Final = 10.0


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; return the exit code, 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m megabroker.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many (100)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seed", type=int, help="run this one and print all of its trace")
    parser.add_argument("--jobs", type=int, default=1, help="over so many processes (1)")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each, and one for all")
    asked = parser.parse_args(arguments)
    if asked.seeds < 1:
        parser.error(f"--seeds {asked.seeds}: expected 1 or more")
    if asked.jobs < 1:
        parser.error(f"--jobs {asked.jobs}: expected 1 or more")
    say_nothing()
    if asked.seed is not None:
        return _replay(asked.seed, as_text=not asked.json)
    return _run_all(asked.first, asked.seeds, asked.jobs, as_text=not asked.json)


def _replay(seed: int, *, as_text: bool) -> int:
    result = run(seed)
    if as_text:
        for line in result.trace:
            print(show(line))
        if result.violations:
            print(*describe(result), sep="\n")
        print(f"seed {seed}: {result.happened} things happened, digest {result.digest}")
    else:
        print(json.dumps({**as_json(result), "trace": [show(line) for line in result.trace]}))
    return 1 if result.violations else 0


def _run_all(first: int, count: int, jobs: int, *, as_text: bool) -> int:
    began = told = time.monotonic()
    failed: list[int] = []
    faults: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    happened = 0
    with runs(range(first, first + count), jobs) as results:
        for number, one in enumerate(results, 1):
            faults.update(one.values["faults"])
            operations.update(one.values["operations"])
            happened += one.values["happened"]
            if one.lines:
                failed.append(one.seed)
            if not as_text:
                print(json.dumps(one.values), flush=True)
            elif one.lines:
                print(*one.lines, sep="\n", flush=True)
            now = time.monotonic()
            if as_text and number < count and now - told > _PROGRESS_SECONDS:
                told = now
                pace = number / (now - began)
                print(f"{number} of {count} seeds, {len(failed)} failed, {pace:.1f} a second", flush=True)
    seconds = time.monotonic() - began
    summary: dict[str, Any] = {
        "seeds": count,
        "failed": failed,
        "seeds_per_second": round(count / seconds, 2) if seconds else 0.0,
        "happened": happened,
        "faults": dict(sorted(faults.items())),
        "operations": dict(sorted(operations.items())),
    }
    if as_text:
        for key, value in summary.items():
            print(f"{key}: {value}")
    else:
        print(json.dumps(summary))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
