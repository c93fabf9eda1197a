"""What acks 1 may lose, its retry brings back: failed syncs and what a power cut leaves."""

from __future__ import annotations

import os
import pathlib
import time

import pytest

from tests.brokers import BrokerProcess
from tests.interop.wires import CursusWire, until

pytestmark = pytest.mark.interop

PUBLISHED = "📤 Published to 'c'"

DISK = """
import os, time

_real = os.fdatasync

def fdatasync(fd):
    plan = os.environ["FDATASYNC_PLAN"]
    if os.readlink(f"/proc/self/fd/{fd}").endswith(".log") and os.path.exists(plan):
        with open(plan) as file:
            what = file.read()
        if what == "EIO":
            raise OSError(5, os.strerror(5))
        time.sleep(float(what))
    return _real(fd)

os.fdatasync = fdatasync
"""


class Disk:
    """What becomes of fdatasync in a broker process: as always, failing, or slow."""

    def __init__(self, directory: pathlib.Path) -> None:
        (directory / "sitecustomize.py").write_text(DISK)
        self._plan = directory / "plan"
        self.env = {"PYTHONPATH": str(directory), "FDATASYNC_PLAN": str(self._plan)}

    def plan(self, what: str) -> None:
        before = self._plan.with_name("next")
        before.write_text(what)
        before.rename(self._plan)

    def heal(self) -> None:
        self._plan.unlink()


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Disk:
    directory = tmp_path / "site"
    directory.mkdir()
    return Disk(directory)


def ask(broker: BrokerProcess, command: str) -> str:
    with CursusWire(broker.ports["cursus"]) as wire:
        return wire.ask(command)


def journalled(broker: BrokerProcess) -> int:
    return sum(path.stat().st_size // 24 for path in broker.directory.glob("data/dedup/*.ids"))


def test_failed_sync(disk: Disk) -> None:
    broker = BrokerProcess()
    broker.start(env=disk.env)
    try:
        ask(broker, "CREATE c 1")
        assert ask(broker, "PUBLISH c one") == PUBLISHED
        until(lambda: journalled(broker) == 1)
        disk.plan("EIO")
        first = ask(broker, "PUBLISH c two")
        until(lambda: "log-sync-failed" in broker.log)
        assert first == PUBLISHED or first.startswith("ERROR"), first
        assert ask(broker, "PUBLISH c two").startswith("ERROR"), "what is void is not called stored"
        assert ask(broker, "PUBLISH c one") == PUBLISHED
        assert journalled(broker) == 1
    finally:
        broker.__exit__(None, None, None)


def test_power_cut_before_the_sync(disk: Disk) -> None:
    broker = BrokerProcess()
    broker.start(env=disk.env)
    try:
        ask(broker, "CREATE c 1")
        disk.plan("5")
        assert ask(broker, "PUBLISH c two") == PUBLISHED
        began = time.monotonic()
        assert ask(broker, "PUBLISH c two") == PUBLISHED
        assert time.monotonic() - began < 3, "a repeat is answered without waiting for the disk"
        broker.kill()
        # The journal loses nothing in a power cut at its luckiest; the log loses what was not synced.
        (log,) = broker.directory.glob("data/c-0/*.log")
        assert b"two" in log.read_bytes()
        os.truncate(log, 0)
        disk.heal()
        broker.start(env=disk.env)
        assert ask(broker, "PUBLISH c two") == PUBLISHED
        assert log.read_bytes().count(b"two") == 1
        until(lambda: journalled(broker) == 1)
        broker.kill()
        broker.start(env=disk.env)
        assert ask(broker, "PUBLISH c two") == PUBLISHED
        assert log.read_bytes().count(b"two") == 1
    finally:
        broker.__exit__(None, None, None)


def test_confirmed_when_the_client_has_gone(disk: Disk) -> None:
    broker = BrokerProcess()
    broker.start(env=disk.env)
    try:
        ask(broker, "CREATE c 1")
        disk.plan("0.5")
        assert ask(broker, "PUBLISH c two") == PUBLISHED
        assert journalled(broker) == 0
        until(lambda: journalled(broker) == 1)
    finally:
        broker.__exit__(None, None, None)
