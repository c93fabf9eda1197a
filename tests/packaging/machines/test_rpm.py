"""The RPM, installed into a tree of its own: its files, its scripts, and the broker as systemd starts it."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from megabroker import __version__
from tests.packaging.machines.building import Built
from tests.packaging.machines.machine import Machine, copy_tree


@pytest.fixture(scope="module")
def root(system: pathlib.Path, workshop: pathlib.Path) -> pathlib.Path:
    return copy_tree(system, workshop / "rpm-machine")


def rpm(root: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", "--force-debian", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_install_and_verify(root: pathlib.Path, previous: Built) -> None:
    # What it needs is there, but of Debian, and so unknown to rpm.
    done = rpm(root, "--install", "--nodeps", str(previous.rpm))
    assert (done.returncode, done.stderr) == (0, "")
    done = rpm(root, "--verify", "--nodeps", "megabroker")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    listed = rpm(root, "--query", "--list", "megabroker").stdout.splitlines()
    assert "/usr/lib/systemd/system/megabroker.service" in listed
    assert rpm(root, "--query", "--configfiles", "megabroker").stdout.split() == [
        "/etc/default/megabroker",
        "/etc/megabroker/broker.yaml",
    ]


@pytest.fixture(scope="module")
def machine(root: pathlib.Path) -> Iterator[Machine]:
    made = Machine(root)
    made.boot()
    yield made
    made.shut_down()


def clients(machine: Machine, *words: str) -> None:
    module = "tests.packaging.machines.clients"
    assert machine.run_here(sys.executable, "-m", module, *words).stdout == "done\n"


def test_the_service_upgrade_and_removal(root: pathlib.Path, machine: Machine, built: Built) -> None:
    machine.run("systemctl", "enable", "--now", "megabroker")
    clients(machine, "produce", "first")
    config = root / "etc/megabroker/broker.yaml"
    config.write_text(config.read_text().replace("default_partitions: 4", "default_partitions: 7"))
    # From outside, where rpm is: its scripts find no systemd that runs, as in the building of an image.
    done = rpm(root, "--upgrade", "--nodeps", str(built.rpm))
    assert done.returncode == 0, done.stderr
    assert "default_partitions: 7" in config.read_text()
    clients(machine, "consume", "first")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "megabroker")
    assert machine.run("megabroker", "--version").stdout == f"megabroker, version {__version__}\n"
    clients(machine, "consume", "first")
    machine.run("systemctl", "disable", "--now", "megabroker")
    done = rpm(root, "--erase", "megabroker")
    assert done.returncode == 0, done.stderr
    assert not (root / "opt/megabroker").exists()
    assert (root / "var/lib/megabroker/metadata.sqlite").exists()
