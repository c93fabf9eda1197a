"""@platformatic/kafka through node: a wire implementation of its own that asks for the newest versions."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]
Run = Callable[..., Any]

_DRIVER = pathlib.Path(__file__).with_name("platformatic_driver.mjs")
_SECONDS = 60


@pytest.fixture
def run(kafka: str, platformatic: pathlib.Path) -> Run:
    """Run one action of the driver and return its result."""

    def act(action: str, **arguments: Any) -> Any:
        done = subprocess.run(
            ["node", str(_DRIVER)],
            input=json.dumps({"action": action, "bootstrap": kafka, **arguments}),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "MODULES": str(platformatic)},
        )
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
        return json.loads(done.stdout)

    return act


def written(first: int, count: int) -> list[list[str]]:
    """Return what the driver wrote: key, value and header of each message."""
    return sorted([f"k{number}", f"v{number}", str(number)] for number in range(first, first + count))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4"])
def test_round_trip(protocol: str, compression: str, run: Run, new_topic: New, unique: Unique) -> None:
    read = run(
        "roundTrip",
        topic=new_topic(3),
        group=unique("group"),
        protocol=protocol,
        compression=compression,
        count=50,
    )
    assert read == written(0, 50)


def test_read_committed_passes_over_what_was_aborted(run: Run, new_topic: New, unique: Unique) -> None:
    read = run("transactions", topic=new_topic(2), group=unique("group"), id=unique("id"))
    assert read == sorted(written(10, 5) * 2)


def test_offsets_are_deleted_of_a_member_that_subscribes_to_nothing(
    run: Run, new_topic: New, unique: Unique
) -> None:
    """Its metadata ends after the topics and the user data, whatever version it names."""
    told = run("offsetsOfMember", topic=new_topic(1), group=unique("group"))
    assert told == [[2, 7], [-1, -1]]
