"""Go for tests: our scenarios with Go's Kafka clients, built once.

The program goes to ``.cache/go``, named by its sources. Where it cannot be built ``Unavailable`` says what is
missing, and the fixture skips by that name.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
from typing import Final

__all__ = ["Unavailable", "scenarios"]

_SOURCES: Final = pathlib.Path(__file__).with_name("go")
_CACHE: Final = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "go"
_MODULES_SECONDS: Final = 180
_BUILD_SECONDS: Final = 300


class Unavailable(Exception):
    """Go or a module cannot be had here; the text says which."""


def scenarios() -> pathlib.Path:
    """Return the program; build it at first use and after changes of its sources.

    Raises:
        Unavailable: no Go, or the modules cannot be had.
        AssertionError: it does not build; the message has what the compiler says.
    """
    files = sorted(_SOURCES.iterdir())
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in files)).hexdigest()[:16]
    program = _CACHE / digest
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Unavailable("go is not installed (Debian: apt-get install golang)")
    _CACHE.mkdir(parents=True, exist_ok=True)
    try:
        modules = _go("mod", "download", seconds=_MODULES_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"go mod download took longer than {_MODULES_SECONDS} s") from None
    if modules.returncode:
        raise Unavailable(f"go mod download failed: {modules.stderr.strip()[-300:]}")
    fresh = program.with_name(f"{digest}.{os.getpid()}")
    built = _go("build", "-o", str(fresh), ".", seconds=_BUILD_SECONDS)
    assert built.returncode == 0, f"go build failed:\n{built.stderr}"
    fresh.rename(program)
    return program


def _go(*args: str, seconds: float) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"}
    return subprocess.run(
        ["go", *args],
        cwd=_SOURCES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
