"""The two C programs of the benchmarks, compiled when first asked for.

``load`` sends prepared requests and counts answers, so that the client costs little beside what it
measures; ``limit`` does what a broker must do and nothing else. Each explains itself in the first comment of
its source.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

import attrs

__all__ = ["Loaded", "Missing", "program", "run_load"]

_SOURCES = pathlib.Path(__file__).parent
_CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "bench"
_SECONDS = 300


class Missing(Exception):
    """Something that is not installed here; the text says what, and what would bring it."""


def program(name: str) -> pathlib.Path:
    """Return a compiled program.

    Raises:
        Missing: there is no C compiler.
    """
    source = _SOURCES / f"{name}.c"
    target = _CACHE / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise Missing("a C compiler (Debian: apt-get install gcc libc6-dev)")
        _CACHE.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".fresh")
        flags = ["-O2", "-msse4.2", "-Wall", "-Wextra"]
        subprocess.run([compiler, *flags, "-o", str(fresh), str(source)], check=True)
        fresh.rename(target)
    return target


@attrs.frozen
class Loaded:
    """What ``load`` measured; times in seconds, latencies in milliseconds."""

    answered: int
    seconds: float
    cpu_seconds: float
    bytes_in: int
    bytes_out: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def run_load(
    port: int,
    requests: Sequence[bytes],
    *,
    count: int,
    connections: int = 1,
    depth: int = 1,
    kind: str = "length32",
    rate: float = 0,
    greeting: bytes = b"",
) -> Loaded:
    """Send ``count`` requests, going round ``requests``, and return what was measured.

    Args:
        depth: requests unanswered on a connection at most.
        rate: requests a second, all connections together; 0 for as many as can be.
        greeting: sent first on every connection.

    Raises:
        AssertionError: the server closed, answered an error, or did not answer.
    """
    with tempfile.TemporaryDirectory(prefix="megabroker-bench-") as directory:
        file = pathlib.Path(directory) / "requests"
        file.write_bytes(b"".join(struct.pack(">i", len(one)) + one for one in requests))
        command: list[Any] = [program("load"), "127.0.0.1", port, connections, depth, count, kind, rate, file]
        if greeting:
            (pathlib.Path(directory) / "greeting").write_bytes(greeting)
            command.append(pathlib.Path(directory) / "greeting")
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    assert done.returncode == 0, f"load: {done.stderr.strip()}"
    return Loaded(**json.loads(done.stdout))
