"""Packages from registries, by name, into ``.cache/suites``; each is brought and built once."""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.suites.results import Unavailable

__all__ = ["CACHE", "command", "need", "npm_package", "once", "python_environment", "source_distribution"]

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "suites"
_FETCH_SECONDS = 300


def need(program: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        Unavailable: it is not installed; the text names Debian's package.
    """
    found = shutil.which(program)
    if found is None:
        raise Unavailable(f"{program} is not installed (Debian: apt-get install {package})")
    return found


def once(name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Return the directory of this name, filled by ``make`` the first time.

    What was begun and not finished is begun again; two processes do not fill it at once.
    """
    target = CACHE / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f"{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / ".complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            make(target)
            (target / ".complete").touch()
    return target


def command(
    words: Sequence[object],
    directory: pathlib.Path,
    seconds: float = _FETCH_SECONDS,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command that brings or builds something and return its output.

    Raises:
        Unavailable: it failed or took too long; the text has the end of what it said.
    """
    try:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=directory,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{words[0]} {words[1]} took longer than {seconds:.0f} s") from None
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, words[:4]))} failed: {done.stdout.strip()[-1000:]}")
    return done.stdout


def source_distribution(requirement: str, target: pathlib.Path) -> None:
    """Unpack a source distribution from the Python package index into the directory."""
    words = ["-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps", "-d", target, requirement]
    command([sys.executable, *words], target)
    (archive,) = target.glob("*.tar.gz")
    unpack(archive, target)
    archive.unlink()


def unpack(archive: pathlib.Path, target: pathlib.Path) -> None:
    """Unpack an archive into the directory."""
    # Python before 3.11.4, which Debian 12 has, knows no filters. What is in the archive is run anyway.
    careful: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as packed:
        packed.extractall(target, **careful)


def python_environment(target: pathlib.Path, requirements: Sequence[str]) -> None:
    """Make a virtual environment with these packages in the directory."""
    command([sys.executable, "-m", "venv", target], target)
    command([target / "bin" / "pip", "install", "-q", *requirements], target)


def npm_package(requirements: Sequence[str], target: pathlib.Path, build_seconds: float) -> None:
    """Install packages of npm, building what they build, into the directory."""
    npm = need("npm", "npm")
    words = [npm, "install", "--no-audit", "--no-fund", "--prefix", target, *requirements]
    command(words, target, build_seconds)
