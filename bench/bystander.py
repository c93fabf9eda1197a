"""Somebody who wants little while others want much: how long does each small request wait?"""

from __future__ import annotations

import threading
import time
from types import TracebackType

from bench.wire import Wire, framed
from megabroker.protocols.kafka.schema import api_versions

__all__ = ["Bystander"]

_PAUSE_SECONDS = 0.0005


class Bystander:
    """Asks for the served versions again and again, in a thread; use it as a context manager.

    Attributes:
        waits_ms: how long each answer took, in milliseconds.
    """

    def __init__(self, port: int) -> None:
        self.waits_ms: list[float] = []
        self._wire = Wire(port)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._enough.set()
        self._thread.join()
        self._wire.close()

    def waits(self) -> tuple[float, float, float]:
        """Return the median of how long answers took, the 99th of a hundred, and the longest."""
        waits = sorted(self.waits_ms)
        return waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1]

    def _ask(self) -> None:
        request = framed(api_versions.Request(), 0, 1)
        while not self._enough.wait(_PAUSE_SECONDS):
            began = time.monotonic()
            self._wire.send(request)
            self._wire.receive()
            self.waits_ms.append((time.monotonic() - began) * 1000)
