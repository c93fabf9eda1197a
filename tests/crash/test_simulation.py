"""Seeds of the simulation: the same ones every time, and new ones; and that a seed decides everything."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from typing import Any

import pytest

from megabroker.simulation.chance import decided_by
from megabroker.simulation.report import describe, replay_command
from megabroker.simulation.world import World, run
from tests.crash.test_planted_bugs import CUTS, acknowledge_before_the_sync

FIXED = range(20)
FRESH_SECONDS = 10.0


@pytest.mark.parametrize("seed", FIXED)
def test_a_known_seed_breaks_no_promise(seed: int) -> None:
    result = run(seed)
    assert not result.violations, "\n".join(describe(result))


def test_fresh_seeds_break_no_promise() -> None:
    first = int.from_bytes(os.urandom(4), "big")
    print(f"fresh seeds from {first}")
    deadline = time.monotonic() + FRESH_SECONDS
    seed = first
    while seed == first or time.monotonic() < deadline:
        result = run(seed)
        assert not result.violations, "\n".join(describe(result))
        seed += 1


def test_the_same_seed_is_the_same_run() -> None:
    for seed in (3, 7, 13):
        first, second = run(seed), run(seed)
        assert first.digest == second.digest
        assert [line[:2] for line in first.trace] == [line[:2] for line in second.trace]
        assert first.injected == second.injected


def test_other_seeds_are_other_runs() -> None:
    assert len({run(seed).digest for seed in (0, 1, 4)}) == 3


def test_no_order_of_hashes_and_no_clock_decides_anything() -> None:
    """Nor does it matter how many processes the seeds are spread over."""
    command = [sys.executable, "-m", "megabroker.simulation", "--seeds", "5", "--first", "11", "--json"]
    waiting = [
        subprocess.Popen(
            [*command, "--jobs", jobs],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        for hash_seed, jobs in (("1", "1"), ("2", "2"))
    ]
    runs: list[list[dict[str, Any]]] = []
    for process in waiting:
        output, _ = process.communicate(timeout=120)
        runs.append([json.loads(line) for line in output.splitlines()])
        assert process.returncode == 0
    for one in runs:
        assert one.pop()["failed"] == []
    assert len(runs[0]) == 5
    assert runs[0] == runs[1]


def test_a_failed_seed_tells_what_how_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge_before_the_sync(monkeypatch)
    results = (World(seed, CUTS).run() for seed in range(60))
    result = next(one for one in results if any(two.rule == "lost-write" for two in one.violations))
    text = "\n".join(describe(result))
    assert f"seed {result.seed} FAILED" in text
    assert "lost-write: " in text
    assert "PowerLost" in text
    assert replay_command(result.seed) in text
    assert len(text.splitlines()) < 200


def test_chance_is_decided_and_given_back() -> None:
    def thrown() -> tuple[bytes, float]:
        return os.urandom(8), random.random()

    with decided_by(5):
        first = thrown()
    between = thrown()
    with decided_by(5):
        assert thrown() == first
    assert between != first
    assert thrown() != first
