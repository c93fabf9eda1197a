"""Retention, enforced now and then for all partitions, in slices so that nobody waits long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from megabroker.core.partitions import PartitionService

__all__ = ["RetentionSweeps"]

_log = Logger()

_SLICE: Final = 32


class RetentionSweeps:
    """Goes through the partitions.

    Args:
        serving: returns all of them that there are.
        now_ms: the time in epoch milliseconds.
    """

    def __init__(
        self, serving: Callable[[], Sequence[PartitionService]], reactor: Any, now_ms: Callable[[], int]
    ) -> None:
        self._serving = serving
        self._reactor = reactor
        self._now_ms = now_ms
        self._sweeping = LoopingCall(self._start)
        self._sweeping.clock = reactor
        self._slice: Any = None

    def start(self, interval_seconds: float) -> Deferred[LoopingCall]:
        """Begin; the first sweep is after one interval. Fails with what ended it."""
        return self._sweeping.start(interval_seconds, now=False)

    def stop(self) -> None:
        """Begin no further sweep nor slice."""
        if self._sweeping.running:
            self._sweeping.stop()
        if self._slice is not None and self._slice.active():
            self._slice.cancel()

    def _start(self) -> None:
        if self._slice is None or not self._slice.active():
            self._sweep(iter(self._serving()))

    def _sweep(self, partitions: Iterator[PartitionService]) -> None:
        now_ms = self._now_ms()
        batch = list(islice(partitions, _SLICE))
        for partition in batch:
            try:
                partition.sweep(now_ms)
            except Exception:  # noqa: BLE001 - one bad log must not end retention for the others
                _log.failure("retention-failed", partition=str(partition.topic_partition))
        if len(batch) == _SLICE:
            self._slice = self._reactor.callLater(0, self._sweep, partitions)
