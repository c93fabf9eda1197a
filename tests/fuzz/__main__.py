"""Run fuzz targets for as long as one likes.

    python -m tests.fuzz                     # their names
    python -m tests.fuzz TARGET [SECONDS]    # one of them
    python -m tests.fuzz each [SECONDS]      # one after the other; the single messages of Kafka together
    python -m tests.fuzz TARGET SECONDS keep # add to the corpus what reached further

With atheris installed (the extra ``fuzz``) it is guided by coverage, beginning with the target's seeds and
its corpus; else seeds are damaged at random. If something is at fault the input is printed, and exit code 1.
"""

from __future__ import annotations

import importlib.util
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import MESSAGES, TARGETS, corpus, keep

__all__ = ["run"]

_SECONDS = 60.0
_LONGEST_BYTES = 4096
_KEPT = 40
_KEPT_BYTES = 300
"""Of what a run has found, so many are added to the corpus, none longer: the last, which got furthest."""

_EXECUTED = re.compile(rb"stat::number_of_executed_units:\s+(\d+)")


def run(name: str, seconds: float, *, keeping: bool = False) -> int:
    """Feed a target for so long; return how many inputs it was fed. Raises AssertionError: it is at fault."""
    if importlib.util.find_spec("atheris") is None:
        return _at_random(TARGETS[name], seconds)
    with tempfile.TemporaryDirectory() as place:
        return _guided(name, seconds, pathlib.Path(place), keeping)


def _at_random(target: Target, seconds: float) -> int:
    rng = random.Random()
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = mutated(rng.choice(target.seeds), target.seeds, rng)
        try:
            target.feed(data)
        except Exception as error:
            raise AssertionError(f"at fault: {data.hex()}") from error
        count += 1
    return count


def _guided(name: str, seconds: float, place: pathlib.Path, keeping: bool) -> int:
    known, found = place / "known", place / "found"
    known.mkdir()
    found.mkdir()
    for at, data in enumerate((*TARGETS[name].seeds, *corpus(name))):
        (known / str(at)).write_bytes(data)
    said = _child(name, place, f"-max_total_time={max(1, round(seconds))}", str(found), str(known))
    if keeping:
        newest_first = sorted(found.iterdir(), key=lambda one: -one.stat().st_mtime_ns)
        keep(name, [one.read_bytes() for one in newest_first if one.stat().st_size <= _KEPT_BYTES][:_KEPT])
    executed = _EXECUTED.search(said)
    assert executed is not None, said.decode(errors="replace")
    return int(executed[1])


def _child(name: str, place: pathlib.Path, *arguments: str) -> bytes:
    """Run ``tests.fuzz.guided``, which ends with its process; return what it says."""
    options = (f"-max_len={_LONGEST_BYTES}", "-print_final_stats=1", f"-artifact_prefix={place}/fault-")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", name, *options, *arguments], capture_output=True
    )
    faults = [one.read_bytes().hex() for one in place.glob("fault-*")]
    if ran.returncode or faults:
        raise AssertionError(f"{name} at fault: {faults}\n{ran.stderr.decode(errors='replace')}")
    return ran.stderr


def main() -> int:
    """Feed what the command line names; return the exit code."""
    names = sys.argv[1:2]
    if names == ["each"]:
        names = [name for name in TARGETS if name not in MESSAGES]
    elif not names or names[0] not in TARGETS:
        print("\n".join(TARGETS))
        return 2 if names else 0
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else _SECONDS
    wrong = 0
    for name in names:
        began = time.monotonic()
        try:
            count = run(name, seconds, keeping=sys.argv[3:] == ["keep"])
            print(f"{name}: {count} inputs in {time.monotonic() - began:.0f} s", flush=True)
        except AssertionError as error:
            print(error, flush=True)
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
