"""Metrics as a broker has them: read in slices, written in a thread, one at a time for whoever asks.

Owns when that is done, and nothing of what they are. Reading is the reactor's, as all state is: it goes on
for some milliseconds at a time and then lets others have their turn, so that a scrape of ten thousand
partitions holds nobody up. What is read is written in a thread if it is much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from time import monotonic
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.interfaces import IMetrics
from megabroker.ops.pauses import Pauses

__all__ = ["Metrics", "Sources"]

_SLICE_SECONDS: Final = 0.004
_MANY_SAMPLES: Final = 1000
_EXPOSITION: Final = "megabroker.ops.metrics.exposition"


@attrs.define
class Sources:
    """Where metrics are read.

    Attributes:
        broker: the core.
        logs, metadata: the stores.
        factories: returns those of all listeners that have ``counts``.
        http: returns the factory of HTTP, or None.
        pauses: of the process.
        settings: returns the section ``metrics`` of the configuration.
        compiled: whether the compiled part is in use.
        recovery_seconds: how long opening everything took.
        records, records_at: what was counted when the rate was told last, and when.
        rate: what was told.
    """

    broker: Any
    logs: Any
    metadata: Any
    factories: Callable[[], list[Any]]
    http: Callable[[], Any]
    pauses: Pauses
    settings: Callable[[], Any]
    compiled: bool
    recovery_seconds: float = 0.0
    records: int = 0
    records_at: float = attrs.field(factory=monotonic)
    rate: float = 0.0


@implementer(IMetrics)
class Metrics:
    """See ``IMetrics``.

    Args:
        run: calls a function in a thread and fires with its result.
    """

    def __init__(self, sources: Sources, reactor: Any, run: Callable[..., Deferred[Any]]) -> None:
        self.sources = sources
        self._reactor = reactor
        self._run = run
        self._brought = False
        self._waiting: dict[str, list[Deferred[tuple[str, bytes]]]] = {}

    def render(self, accept: str = "") -> Deferred[tuple[str, bytes]]:
        """See ``IMetrics.render``."""
        if self._brought:
            return self._rendered(accept)
        # It takes some 40 ms to import, which the reactor need not stand still for.
        return self._run(import_module, _EXPOSITION).addCallback(lambda _: self._first(accept))

    def _first(self, accept: str) -> Deferred[tuple[str, bytes]]:
        self._brought = True
        return self._rendered(accept)

    def _rendered(self, accept: str) -> Deferred[tuple[str, bytes]]:
        from megabroker.ops.metrics.exposition import format_of

        done: Deferred[tuple[str, bytes]] = Deferred()
        form = format_of(accept)
        waiting = self._waiting.setdefault(form, [])
        waiting.append(done)
        if len(waiting) == 1:
            self._begin(form)
        return done

    def _begin(self, form: str) -> None:
        from megabroker.ops.metrics.gathering import gather

        gathered: list[Any] = []
        self._go_on(form, gather(self.sources, gathered), gathered)

    def _go_on(self, form: str, reading: Iterator[None], gathered: list[Any]) -> None:
        """Read for as long as a slice is, then let others have their turn."""
        until = monotonic() + _SLICE_SECONDS
        try:
            for _ in reading:
                if monotonic() > until:
                    self._reactor.callLater(0, self._go_on, form, reading, gathered)
                    return
        except Exception:  # noqa: BLE001 - whoever waits is told, and it is logged there
            self._end(form, Failure())  # type: ignore[no-untyped-call]
            return
        self._write(form, gathered)

    def _write(self, form: str, gathered: list[Any]) -> None:
        from megabroker.ops.metrics.exposition import written

        if sum(len(samples) for _, samples in gathered) > _MANY_SAMPLES:
            self._run(written, form, gathered).addBoth(lambda result: self._end(form, result))
            return
        try:
            self._end(form, written(form, gathered))
        except Exception:  # noqa: BLE001 - as above
            self._end(form, Failure())  # type: ignore[no-untyped-call]

    def _end(self, form: str, result: tuple[str, bytes] | Failure) -> None:
        for done in self._waiting.pop(form, ()):
            if isinstance(result, Failure):
                done.errback(result)
            else:
                done.callback(result)
