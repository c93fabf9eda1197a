"""What a suite is, and what becomes of each of its tests."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

__all__ = ["FAILED", "PASSED", "SKIPPED", "Result", "Run", "Suite", "Unavailable", "counts"]

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class Unavailable(Exception):
    """A suite cannot be had or built here; the text says why."""


@attrs.frozen
class Result:
    """One test of a suite.

    Attributes:
        outcome: PASSED, FAILED (errors and time-outs too) or SKIPPED.
        seconds: how long it took.
        detail: the end of what it said, unless it passed.
    """

    test: str
    outcome: str
    seconds: float = 0.0
    detail: str = ""


@attrs.frozen
class Run:
    """How a suite is to be run.

    Attributes:
        bootstrap: host and port of the broker, which nobody used before.
        directory: an empty one for what the run writes; kept if a test fails.
        seconds: longest time of one test.
        only: parts of names; tests that have none of them are left out. All tests if empty.
    """

    bootstrap: str
    directory: pathlib.Path
    seconds: float
    only: Sequence[str] = ()

    def wants(self, test: str) -> bool:
        """Whether this test is to run."""
        return not self.only or any(part in test for part in self.only)


class Suite:
    """The tests of one client.

    Attributes:
        name: what it is called on the command line.
        settings: of the broker, beyond those that all suites get; megabroker's configuration.
        properties: the same for Apache Kafka, as ``server.properties``.
    """

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    properties: ClassVar[Mapping[str, str]] = {}

    def prepare(self) -> str:
        """Bring and build it, unless that was done before; return its version.

        Raises:
            Unavailable: it cannot be had here.
        """
        raise NotImplementedError

    def run(self, run: Run) -> list[Result]:
        """Run it to its end."""
        raise NotImplementedError


def counts(results: Iterable[Result]) -> dict[str, int]:
    """Return how many tests had each outcome."""
    found = {PASSED: 0, FAILED: 0, SKIPPED: 0}
    for result in results:
        found[result.outcome] += 1
    return found
