"""The demonstration that the README shows: three wires in, a restart, three wires out."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

from tests.brokers import BrokerProcess

pytestmark = pytest.mark.interop

SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "three_wires.py"
TOPICS = ("from-mega", "from-cursus", "from-kafka")


def run(broker: BrokerProcess, what: str, count: int, host: str = "127.0.0.1") -> tuple[int, str]:
    ports = [f"--{name}={port}" for name, port in broker.ports.items()]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), what, f"--host={host}", f"--count={count}", *ports],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_three_wires_and_a_restart() -> None:
    with BrokerProcess() as broker:
        code, said = run(broker, "produce", 50)
        assert code == 0, said
        broker.restart()
        code, said = run(broker, "read", 50)
        assert code == 0, said
        for topic in TOPICS:
            wire = topic.removeprefix("from-")
            expected = (
                f"{topic}: 50 by mega, 50 by cursus, 50 by kafka: all the same; the last is '{wire} at "
            )
            assert re.search(re.escape(expected) + r"[\d:]{8}: 49'", said), said
        # What is killed instead of stopped keeps it as well, and more can follow.
        broker.kill()
        broker.start()
        code, said = run(broker, "both", 7)
        assert code == 0, said
        assert said.count("57 by mega, 57 by cursus, 57 by kafka: all the same") == 3, said
        assert broker.stop() == 0
        assert "Traceback" not in broker.log


def test_it_notices_a_difference() -> None:
    """A demonstration that cannot fail shows nothing."""
    with BrokerProcess() as one, BrokerProcess() as other:
        assert run(one, "produce", 3)[0] == 0
        assert run(other, "produce", 4)[0] == 0
        one.ports["cursus"] = other.ports["cursus"]
        code, said = run(one, "read", 0)
        assert code == 1, said
        assert said.count("DIFFERENT") == 3


def test_without_a_broker_it_says_so_in_one_line() -> None:
    ports = [f"--{name}=1" for name in ("mega", "cursus", "kafka")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "read", "--host=127.0.0.1", *ports],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("three_wires.py: 127.0.0.1:1: ")
    assert done.stderr.count("\n") == 1
