"""Real clients, each in a process of its own, so that what they cost is told apart from the server's cost.

``bench.client.__main__`` is the program. A client says that it is ready once it is connected, begins when it
is told to, and tells what it did.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import attrs

__all__ = ["Client", "Worked"]

_SECONDS = 200


@attrs.frozen
class Worked:
    """What a client did; times of the system's monotonic clock.

    Attributes:
        operations: transactions, or else records.
        latencies: percentiles 50, 99 and 99.9, in milliseconds; zeros if none were taken.
    """

    operations: int
    records: int
    began_ns: int
    ended_ns: int
    cpu_seconds: float
    latencies: Sequence[float]


class Client:
    """One client process; use it as a context manager.

    Args:
        role: "produce", "consume" or "transact".
        options: as the program explains them.
    """

    def __init__(self, role: str, **options: Any) -> None:
        self._command = [sys.executable, "-m", "bench.client", role, json.dumps(options)]

    def __enter__(self) -> Client:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise AssertionError(self._process.communicate()[1][-2000:])
        return self

    def begin(self) -> None:
        """Let it work."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self) -> Worked:
        """Wait until it is done. Raises AssertionError: it failed, or found something missing."""
        output, errors = self._process.communicate(timeout=_SECONDS)
        assert self._process.returncode == 0, errors[-2000:]
        return Worked(**json.loads(output))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
