"""The Debian package in the life of a machine: installed, used, killed, upgraded, removed, purged.

One machine, and tests in the order they stand in: each begins where the one before ended.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from megabroker import __version__
from tests.packaging.machines.building import Built
from tests.packaging.machines.machine import Machine, copy_tree
from tests.packaging.test_plugin_install import plugin_wheel

_UNIT = "megabroker.service"
_CONFIG = "etc/megabroker/broker.yaml"


@pytest.fixture(scope="module")
def machine(system: pathlib.Path, workshop: pathlib.Path) -> Iterator[Machine]:
    made = Machine(copy_tree(system, workshop / "debian-machine"))
    made.boot()
    yield made
    made.shut_down()


def until(found: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def clients(machine: Machine, *words: str) -> None:
    module = "tests.packaging.machines.clients"
    assert machine.run_here(sys.executable, "-m", module, *words).stdout == "done\n"


def install(machine: Machine, deb: pathlib.Path) -> str:
    done = machine.run("dpkg", "--install", machine.copy_in(deb), seconds=300)
    return done.stdout + done.stderr


def test_install_starts_the_broker(machine: Machine, previous: Built) -> None:
    install(machine, previous.deb)
    assert machine.property(_UNIT, "ActiveState") == "active"
    assert machine.property(_UNIT, "StatusText") == "serving clients"
    assert machine.run("systemctl", "is-enabled", _UNIT).stdout == "enabled\n"
    pid = machine.property(_UNIT, "MainPID")
    assert machine.run("ps", "-o", "user=", "-p", pid).stdout.strip().startswith("megabro")
    said = machine.run("stat", "-c", "%U %a", "/var/lib/megabroker").stdout
    assert said == "megabroker 750\n"
    assert "Twisted" in machine.run("twistd", "megabroker", "--version").stdout
    assert machine.run("megabroker", "--version").stdout == "megabroker, version 0.0.9\n"
    journal = machine.run("journalctl", "--unit", _UNIT, "--output=cat").stdout
    assert "megabroker 0.0.9 is ready" in journal
    assert "no compiled part" not in journal
    assert "plugin cache" not in journal


def test_all_three_wires(machine: Machine) -> None:
    clients(machine, "produce", "first")
    clients(machine, "consume", "first")
    listed = machine.run("megabroker", "topic", "list").stdout
    assert "by-cursus" in listed


def test_the_unit_as_it_is_installed(machine: Machine) -> None:
    done = machine.run("systemd-analyze", "security", "--no-pager", _UNIT)
    level = float(done.stdout.split("Overall exposure level")[1].split(": ")[1].split()[0])
    assert level < 2.0
    done = machine.run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{_UNIT}", check=False)
    # There is no man in this machine.
    told = [line for line in done.stderr.splitlines() if "Command 'man " not in line]
    assert not [line for line in told if "megabroker" in line]


def test_reload(machine: Machine) -> None:
    pid = machine.property(_UNIT, "MainPID")
    config = machine.root / _CONFIG
    text = config.read_text()
    config.write_text(text.replace("default_partitions: 4", "default_partitions: 7"))
    machine.run("systemctl", "reload", _UNIT)
    until(lambda: "configuration reloaded: topics.default_partitions" in journal(machine))
    config.write_text(text.replace("default_partitions: 4", "default_partitions: none"))
    assert machine.run("systemctl", "reload", _UNIT, check=False).returncode != 0
    until(lambda: "topics.default_partitions: 'none': expected an integer" in journal(machine))
    config.write_text(text.replace("default_partitions: 4", "default_partitions: 7"))
    assert machine.property(_UNIT, "ActiveState") == "active"
    assert machine.property(_UNIT, "MainPID") == pid


def journal(machine: Machine) -> str:
    return machine.run("journalctl", "--unit", _UNIT, "--output=cat").stdout


def test_kill_and_restart(machine: Machine) -> None:
    pid = machine.property(_UNIT, "MainPID")
    machine.run("kill", "-9", pid)
    until(lambda: machine.property(_UNIT, "MainPID") not in ("0", pid))
    until(lambda: machine.property(_UNIT, "ActiveState") == "active")
    clients(machine, "consume", "first")
    assert machine.property(_UNIT, "NRestarts") == "1"


def test_a_process_that_hangs_is_started_again(machine: Machine) -> None:
    drop_in = machine.root / "etc/systemd/system/megabroker.service.d/quick.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nWatchdogSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", _UNIT)
    pid = machine.property(_UNIT, "MainPID")
    machine.run("kill", "-STOP", pid)
    until(lambda: machine.property(_UNIT, "MainPID") not in ("0", pid))
    until(lambda: machine.property(_UNIT, "ActiveState") == "active")
    clients(machine, "consume", "first")
    shutil.rmtree(drop_in.parent)
    machine.run("systemctl", "daemon-reload")


def test_another_instance(machine: Machine) -> None:
    text = (machine.root / _CONFIG).read_text()
    for port in ("9092", "8080", "9000", "8090"):
        text = text.replace(f"tcp:{port}:", f"tcp:1{port}:")
    (machine.root / "etc/megabroker/orders.yaml").write_text(text)
    machine.run("systemctl", "enable", "--now", "megabroker@orders")
    asked = ["--brokers", "127.0.0.1:19092"]
    machine.run("megabroker", "topic", "create", "here", *asked)
    assert "here" in machine.run("megabroker", "topic", "list", *asked).stdout
    assert "here" not in machine.run("megabroker", "topic", "list").stdout
    assert (machine.root / "var/lib/megabroker-orders/metadata.sqlite").exists()
    machine.run("systemctl", "disable", "--now", "megabroker@orders")


def test_sockets_that_systemd_binds(machine: Machine) -> None:
    config = machine.root / _CONFIG
    text = config.read_text()
    machine.run("systemctl", "stop", _UNIT)
    taken = text
    for index, port in enumerate(("9092", "8080", "9000", "8090")):
        taken = taken.replace(
            f"endpoint: tcp:{port}:interface=127.0.0.1\n", f"endpoint: systemd:domain=INET:index={index}\n"
        )
    assert taken.count("systemd:domain") == 4
    config.write_text(taken)
    machine.run("systemctl", "start", "megabroker.socket")
    assert machine.property(_UNIT, "ActiveState") == "inactive"
    # The first client has it started.
    clients(machine, "consume", "first")
    assert machine.property(_UNIT, "ActiveState") == "active"
    assert "megabroker_build_info" in machine.fetch("http://127.0.0.1:8090/metrics")
    # A client waits while it is restarted.
    machine.run("systemctl", "restart", "--no-block", _UNIT)
    clients(machine, "consume", "first")
    machine.run("systemctl", "stop", "megabroker.socket", _UNIT)
    config.write_text(text)
    machine.run("systemctl", "start", _UNIT)


def test_a_plugin(machine: Machine, workshop: pathlib.Path) -> None:
    done = machine.run(
        "megabroker", "plugin", "install", machine.copy_in(plugin_wheel(workshop, "census", "1.0"))
    )
    assert done.stdout.startswith("installed census 1.0")
    assert "census 1.0" in machine.run("megabroker", "plugin", "list").stdout


def test_upgrade_keeps_everything_and_restarts_nothing(machine: Machine, built: Built) -> None:
    pid = machine.property(_UNIT, "MainPID")
    said = install(machine, built.deb)
    assert "still the version before, until restarted: megabroker.service" in said
    assert "plugin census is installed again" in said
    assert machine.property(_UNIT, "MainPID") == pid
    assert machine.property(_UNIT, "StatusText") == "serving clients, with all of this version in memory"
    assert json.loads(machine.fetch("http://127.0.0.1:8090/v1/broker"))["version"] == "0.0.9"
    assert "default_partitions: 7" in (machine.root / _CONFIG).read_text()
    clients(machine, "produce", "second")
    clients(machine, "consume", "first", "second")
    machine.run("systemctl", "restart", _UNIT)
    assert f"megabroker {__version__} is ready" in journal(machine)
    clients(machine, "consume", "first", "second")
    assert "census 1.0" in machine.run("megabroker", "plugin", "list").stdout
    assert machine.run("dpkg", "--verify", "megabroker").stdout.split() == ["??5??????", "c", f"/{_CONFIG}"]


def test_workers_are_of_one_version(machine: Machine, built: Built, previous: Built) -> None:
    config = machine.root / _CONFIG
    text = config.read_text()
    config.write_text(text.replace("workers: 1\n", "workers: 2\n"))
    machine.run("systemctl", "restart", _UNIT)
    pid = machine.property(_UNIT, "MainPID")
    # Back to the version before, which is an upgrade all the same.
    install(machine, previous.deb)
    assert machine.property(_UNIT, "MainPID") == pid
    assert machine.property(_UNIT, "StatusText") == "serving clients, with all of this version in memory"
    clients(machine, "consume", "first", "second")
    worker = machine.run("pgrep", "--parent", pid, "--oldest").stdout.strip()
    machine.run("kill", "-9", worker)
    until(lambda: machine.property(_UNIT, "MainPID") not in ("0", pid), 60)
    until(lambda: machine.property(_UNIT, "ActiveState") == "active", 60)
    assert "installed-anew" in journal(machine)
    assert "megabroker 0.0.9 with 2 workers is ready" in journal(machine)
    clients(machine, "consume", "first", "second")
    config.write_text(text)
    install(machine, built.deb)
    machine.run("systemctl", "restart", _UNIT)
    clients(machine, "consume", "first", "second")


def test_an_upgrade_that_is_to_restart(machine: Machine, built: Built) -> None:
    default = machine.root / "etc/default/megabroker"
    default.write_text(default.read_text().replace("RESTART_ON_UPGRADE=no", "RESTART_ON_UPGRADE=yes"))
    pid = machine.property(_UNIT, "MainPID")
    install(machine, built.deb)
    assert machine.property(_UNIT, "ActiveState") == "active"
    assert machine.property(_UNIT, "MainPID") != pid


def test_data_of_a_stopped_broker_is_in_order(machine: Machine) -> None:
    machine.run("systemctl", "stop", _UNIT)
    assert machine.property(_UNIT, "Result") == "success"
    done = machine.run(
        "runuser", "-u", "megabroker", "--", "megabroker", "fsck", "--quiet", "/var/lib/megabroker"
    )
    assert "closed in order: nothing is wrong" in done.stdout
    machine.run("systemctl", "start", _UNIT)


def test_removal_keeps_data(machine: Machine) -> None:
    machine.run("dpkg", "--remove", "megabroker")
    assert machine.property(_UNIT, "ActiveState") != "active"
    assert not (machine.root / "opt/megabroker").exists()
    assert not (machine.root / "usr/bin/megabroker").is_symlink()
    assert (machine.root / "var/lib/megabroker/metadata.sqlite").exists()
    assert (machine.root / _CONFIG).exists()
    assert list((machine.root / "var/opt/megabroker/plugins/census").glob("*.whl"))


def test_installed_again_everything_is_there(machine: Machine, built: Built) -> None:
    install(machine, built.deb)
    assert machine.property(_UNIT, "ActiveState") == "active"
    clients(machine, "consume", "first", "second")
    assert "census 1.0" in machine.run("megabroker", "plugin", "list").stdout


def test_purge_leaves_nothing(machine: Machine) -> None:
    machine.run("dpkg", "--purge", "megabroker")
    left = machine.run(
        "find",
        "/etc",
        "/opt",
        "/usr",
        "/var",
        "-name",
        "*megabroker*",
        "-not",
        "-path",
        "/var/log/*",
        check=False,
    ).stdout
    assert left == ""
    listed = machine.run("systemctl", "list-unit-files", "megabroker*", check=False).stdout
    assert "0 unit files listed" in listed
