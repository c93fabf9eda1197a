"""Run one fuzz target without end: ``python -m tests.fuzz TARGET [SECONDS]``; with no name, list them.

With atheris installed (``pip install atheris``) it is guided by coverage; else seeds are damaged at random.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import time

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target


def main() -> None:
    """Feed the target that the command line names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        print("\n".join(TARGETS))
        return
    target = TARGETS[sys.argv[1]]
    if importlib.util.find_spec("atheris") is not None:
        _guided(target)
    else:
        _at_random(target, float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))


def _guided(target: Target) -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.feed)
    atheris.Fuzz()


def _at_random(target: Target, seconds: float) -> None:
    rng = random.Random()
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = mutated(rng.choice(target.seeds), target.seeds, rng)
        try:
            target.feed(data)
        except Exception:
            print(f"at fault: {data.hex()}")
            raise
        count += 1
    print(f"{count} inputs")


if __name__ == "__main__":
    main()
