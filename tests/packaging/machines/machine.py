"""A small Debian in a directory, and booted: with systemd, in a container without a network."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import time

__all__ = ["Machine", "copy_tree", "debian", "remove_tree"]

_ROOT = pathlib.Path(__file__).parents[3]
_INCLUDED = "systemd,systemd-sysv,dbus,python3,ca-certificates,iproute2,procps"
_MIRROR = os.environ.get("MEGABROKER_PACKAGES_MIRROR", "http://deb.debian.org/debian")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def debian(place: pathlib.Path) -> pathlib.Path:
    """Make a tree of Debian 12, if it is not there."""
    if place.exists():
        return place
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={_INCLUDED}",
        "bookworm",
        str(place),
        _MIRROR,
    ]
    subprocess.run(command, check=True, timeout=600)
    (place / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    return place


def copy_tree(place: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    """Copy a tree, devices as devices, in place of an older copy."""
    remove_tree(copy)
    subprocess.run(["cp", "-a", str(place), str(copy)], check=True, timeout=300)
    return copy


def remove_tree(place: pathlib.Path) -> None:
    """Remove a tree of files."""
    shutil.rmtree(place, ignore_errors=True)


class Machine:
    """A tree that is booted.

    Args:
        root: where it is.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self._container: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Boot, and wait until systemd has started what it starts."""
        name = f"megabroker-{os.getpid()}"
        command = [
            "systemd-nspawn",
            "--quiet",
            "-D",
            str(self.root),
            "--boot",
            "--private-network",
            "--register=no",
        ]
        command += ["--keep-unit", f"--machine={name}", "--console=read-only"]
        log = self.root.with_suffix(".log").open("wb")
        self._container = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, self.root.with_suffix(".log").read_text(errors="replace")
            time.sleep(0.2)
            self._init = self._child()
            if self._init:
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return

    def _child(self) -> int:
        """Return the number of the container's first process, 0 if there is none yet."""
        assert self._container is not None
        own = pathlib.Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children")
        for child in map(int, own.read_text().split()):
            if os.readlink(f"/proc/{child}/ns/pid") != os.readlink("/proc/self/ns/pid"):
                return child
        return 0

    def run(
        self, *command: str, check: bool = True, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as root."""
        entered = ["nsenter", f"--target={self._init}", "--all", "--", *command]
        done = subprocess.run(
            entered,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=_ENVIRONMENT,
            check=False,
            errors="replace",
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def run_here(self, *command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of this system on the network of the machine, where nothing else can be reached."""
        entered = ["nsenter", f"--target={self._init}", "--net", "--", *command]
        done = subprocess.run(
            entered, capture_output=True, text=True, timeout=seconds, cwd=_ROOT, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def fetch(self, address: str) -> str:
        """Return what an address of HTTP in the machine has."""
        program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=30).read().decode())"
        return self.run("python3", "-c", program, address).stdout

    def property(self, unit: str, name: str) -> str:
        """Return what systemd says of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def copy_in(self, path: pathlib.Path) -> str:
        """Copy a file into the machine; return where it is there."""
        place = self.root / "root" / path.name
        shutil.copy(path, place)
        return f"/root/{path.name}"

    def shut_down(self) -> None:
        """Shut the machine down, and see that it is."""
        if self._container is None:
            return
        self._container.send_signal(signal.SIGTERM)
        try:
            self._container.wait(60)
        except subprocess.TimeoutExpired:
            self._container.kill()
            self._container.wait()
        self._container = None
