"""A broker process that is observed from within, and what of it grew."""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tests.brokers import BrokerProcess

__all__ = ["ObservedBroker", "Sample", "growth"]


@attrs.frozen
class Sample:
    """What a broker held at a moment.

    Attributes:
        seconds: of a steady clock.
        resident_bytes: memory.
        descriptors: open files and sockets.
        delayed_calls: what the reactor has planned.
        blocks: pieces of memory that Python has given out; steadier than ``resident_bytes``.
        late_ms: how late the reactor was at most since the sample before.
        unread_bytes: the most that answers came to which their peers had not read, since then.
    """

    seconds: float
    resident_bytes: int
    descriptors: int
    delayed_calls: int
    blocks: int
    late_ms: float
    unread_bytes: int


class ObservedBroker(BrokerProcess):
    """A broker with samples of what it holds.

    Args:
        sync_ms: how slow its disk is (``tests.load.observed``).
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        directory: pathlib.Path | None = None,
        sync_ms: float = 0,
    ) -> None:
        super().__init__(config, directory)
        self._sync_ms = sync_ms
        self._report = self.directory / "samples.jsonl"

    def command(self, config_file: pathlib.Path) -> list[str]:  # type: ignore[override]
        """The same broker within ``tests.load.observed``."""
        observed = pathlib.Path(__file__).with_name("observed.py")
        own = [sys.executable, str(observed), str(self._report), str(self._sync_ms)]
        return [*own, *super().command(config_file)[2:]]

    @property
    def samples(self) -> list[Sample]:
        """All so far."""
        if not self._report.exists():
            return []
        return [
            Sample(**json.loads(line))
            for line in self._report.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]


def growth(values: Sequence[float]) -> float:
    """Return by how much the median of the last quarter is above that of the second.

    The first is left out: caches fill in it.
    """
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter])
