"""When the process did nothing for anybody: collections of garbage, and a reactor that came late.

Owns both measurements. Collections are timed by the interpreter's own callbacks; how late the reactor is, by
a call that is planned every second.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from megabroker.latency import Latency

__all__ = ["Pauses"]

_BEAT_SECONDS: Final = 1.0
_GENERATIONS: Final = 3


class Pauses:
    """The measurements of one process.

    Args:
        reactor: the one that is watched.

    Attributes:
        collections: how long collections took, by the generation collected.
        lag: how much later than planned the reactor called.
    """

    def __init__(self, reactor: Any) -> None:
        self.collections = [Latency() for _ in range(_GENERATIONS)]
        self.lag = Latency()
        self._reactor = reactor
        self._began = 0.0
        self._due = 0.0
        self._beat: Any = None

    def start(self) -> None:
        """Begin to measure."""
        gc.callbacks.append(self._collects)
        self._plan()

    def stop(self) -> None:
        """Measure no more; no effect where it was not begun."""
        if self._collects in gc.callbacks:
            gc.callbacks.remove(self._collects)
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._beat = None

    def _plan(self) -> None:
        self._due = self._reactor.seconds() + _BEAT_SECONDS
        self._beat = self._reactor.callLater(_BEAT_SECONDS, self._called)

    def _called(self) -> None:
        self.lag.observe(max(0.0, self._reactor.seconds() - self._due))
        self._plan()

    def _collects(self, phase: str, about: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = monotonic()
        else:
            self.collections[about["generation"]].observe(monotonic() - self._began)
