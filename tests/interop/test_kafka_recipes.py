"""The recipes that docs/clients.md names run, and do what they say."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.brokers import BrokerProcess

pytestmark = pytest.mark.interop

PLACE = pathlib.Path(__file__).parents[2] / "examples" / "kafka"

PRINTED = {
    "confluent_recipes.py": [
        "recipes: 2 partitions",
        "100 messages stored",
        "one transaction committed, one aborted",
        "102 messages consumed and committed",
    ],
    "asyncio_recipes.py": ["102 messages stored", "102 messages consumed and committed"],
    "twisted_recipes.py": ["20 messages stored", "20 messages consumed and committed"],
}


def test_all_are_known() -> None:
    assert {path.name for path in PLACE.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_recipe(name: str, broker: BrokerProcess) -> None:
    command = [sys.executable, str(PLACE / name), broker.kafka]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTED[name]
