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

_STAND_IN = """
Name: enterprise-linux
Version: 9
Release: 1
Summary: Says of a tree that it has what packages of Enterprise Linux 9 are called, and provide
License: MIT
BuildArch: noarch
Provides: python3.11 = 3.11.11 /usr/bin/python3.11 /usr/bin/getent /bin/sh
Provides: libc.so.6(GLIBC_2.34)(64bit) libgcc_s.so.1()(64bit)
Provides: coreutils = 8.32 grep = 3.6 shadow-utils = 2:4.9 systemd = 252
%description
%{summary}.
%files
"""


@pytest.fixture(scope="module")
def root(system: pathlib.Path, workshop: pathlib.Path) -> pathlib.Path:
    """A tree without the tools that only Debian has."""
    tree = copy_tree(system, workshop / "rpm-machine")
    for path in ("usr/sbin/adduser", "usr/bin/deb-systemd-helper", "usr/bin/deb-systemd-invoke"):
        (tree / path).unlink(missing_ok=True)
    return tree


def rpm(root: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", "--force-debian", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_what_it_needs_is_named_as_elsewhere(
    root: pathlib.Path, previous: Built, tmp_path: pathlib.Path
) -> None:
    """Debian's files are unknown to rpm: the package is refused until something says that they are there."""
    done = rpm(root, "--install", str(previous.rpm))
    assert done.returncode != 0
    for name in ("/usr/bin/python3.11", "shadow-utils", "systemd", "libgcc_s.so.1()(64bit)"):
        assert f"\t{name} is needed by megabroker" in done.stderr
    assert not (root / "opt/megabroker").exists()
    (tmp_path / "stand-in.spec").write_text(_STAND_IN)
    define = ["--define", f"_topdir {tmp_path}", "--define", f"_dbpath {tmp_path}/db"]
    command = ["rpmbuild", "-bb", "--quiet", *define, str(tmp_path / "stand-in.spec")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (built,) = tmp_path.glob("RPMS/noarch/*.rpm")
    assert rpm(root, "--install", str(built)).returncode == 0


def test_install_and_verify(root: pathlib.Path, previous: Built) -> None:
    done = rpm(root, "--install", str(previous.rpm))
    assert (done.returncode, done.stderr) == (0, "")
    done = rpm(root, "--verify", "megabroker")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    passwd = (root / "etc/passwd").read_text()
    assert ":/var/lib/megabroker:/sbin/nologin\n" in passwd
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
    done = rpm(root, "--upgrade", str(built.rpm))
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
