"""Threads that bring into memory what the reactor must not wait for.

Owns the threads and what they are at; the reactor asks again once they have read, and then finds what it
wants in the page cache. Invariants:

- No stretch is read twice at a time: who asks for one that is being read already waits for that reading.
- At most ``_MAX_READINGS`` readings are queued. Who asks beyond them waits for the last one and asks again.
- What is missing again right after it was read (memory is short, or the disk fails) is not read here again:
  ``None`` says so, and the one who asks waits for the disk itself and learns what is wrong.

A file read on where the last reading ended is read ahead too, twice as far each time, and on again when half
of that is used, so that whoever reads a log from end to end keeps the disk busy while it is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from twisted.logger import Logger

from megabroker.errors import Cold
from megabroker.latency import Latency
from megabroker.storage.files import Files, LogFile

__all__ = ["Warmer"]

_log = Logger()

_THREADS = 4
_MAX_READINGS = 256
_LEAST_BYTES = 128 * 1024
_FIRST_AHEAD_BYTES = 1 << 20
_MAX_AHEAD_BYTES = 8 << 20
_AGAIN_SECONDS = 5.0
_MAX_FINISHED = 256


class Stretch(Protocol):
    """What is read once, and looked at meanwhile; any thread."""

    def stretch(self) -> tuple[LogFile, int, int]:
        """Return the file, the position and the length."""

    def run(self) -> Stretch:
        """Do it. Raises OSError."""


class Warmer:
    """See the module; all methods are called in the reactor thread.

    Args:
        files: the file system.
        call_from_thread: ``reactor.callFromThread``.

    Attributes:
        hits: how often what a reader wanted was in memory; counted by the files.
        readings: how many were begun.
        crowded: how often somebody had to wait for another's reading, as ``_MAX_READINGS`` were queued.
        given_up: how often what is missing again was left to who asked, to wait for the disk itself.
        latency: how long readings took, waiting for a thread included.
    """

    def __init__(self, files: Files, call_from_thread: Callable[[Callable[[], None]], object]) -> None:
        self._files = files
        self._call_from_thread = call_from_thread
        self._readings: dict[Hashable, Cold] = {}
        self._finished: dict[Hashable, float] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._stopped = False
        self.hits = 0
        self.readings = 0
        self.crowded = 0
        self.given_up = 0
        self.latency = Latency()

    def warm(self, file: LogFile, position: int, length: int) -> Cold | None:
        """Bring a stretch of a file into the page cache."""
        size = max(length, _LEAST_BYTES)

        def begin() -> Callable[[], Any]:
            start = position
            if file.warmed - file.ahead - size <= start <= file.warmed:
                file.ahead = min(max(2 * file.ahead, _FIRST_AHEAD_BYTES), _MAX_AHEAD_BYTES)
            else:
                file.ahead = 0
            file.warmed = start + size + file.ahead
            return partial(self._warm, file, start, size, file.ahead)

        # With the size: the whole of a stretch whose beginning was read just now has not been read before.
        return self._begin((id(file), position, size), begin, None)

    def read_on(self, file: LogFile) -> None:
        """Begin to read what comes after what was read ahead; nobody waits for it."""

        def begin() -> Callable[[], Any]:
            start = file.warmed
            file.ahead = min(2 * file.ahead, _MAX_AHEAD_BYTES)
            file.warmed = start + file.ahead
            return partial(self._read_ahead, file, start, file.ahead)

        self._begin(("ahead", id(file)), begin, None, again=True)

    def work(self, key: Hashable, call: Callable[[], Any], done: Callable[[Any], None]) -> Cold | None:
        """Call what reads something else, then ``done`` with the result in the reactor."""
        return self._begin(key, lambda: call, done)

    def check(self, key: Hashable, check: Stretch, done: Callable[[Any], None]) -> Cold | None:
        """Run ``check``, beginning to read beyond its stretch, then call ``done`` with it in the reactor."""

        def call() -> Stretch:
            file, position, length = check.stretch()
            self._files.read_ahead(file.fileno(), position, 2 * length)
            return check.run()

        return self._begin(key, lambda: call, done)

    def stop(self) -> None:
        """Let what is being read be finished, and read nothing more. Blocks that long."""
        self._stopped = True
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(cancel_futures=True)

    def _begin(
        self,
        key: Hashable,  # of what exists while it is read; no reference to it is kept here
        begin: Callable[[], Callable[[], Any]],
        done: Callable[[Any], None] | None,
        *,
        again: bool = False,
    ) -> Cold | None:
        readings = self._readings
        cold = readings.get(key)
        if cold is not None:
            return cold
        now = time.monotonic()
        finished = self._finished.pop(key, now - _AGAIN_SECONDS)
        if self._stopped or (now - finished < _AGAIN_SECONDS and not again):
            self.given_up += 1
            return None
        if len(readings) >= _MAX_READINGS:
            self.crowded += 1
            return readings[next(reversed(readings))]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, "megabroker-read")
        readings[key] = cold = Cold()
        self.readings += 1
        self._threads.submit(self._run, key, begin(), done, now)
        return cold

    def _read_ahead(self, file: LogFile, position: int, length: int) -> None:
        self._files.read_ahead(file.fileno(), position, length)

    def _warm(self, file: LogFile, position: int, length: int, ahead: int) -> None:
        self._files.warm(file.fileno(), position, length, ahead)

    @property
    def queued(self) -> int:
        """How many readings are under way or wait for a thread."""
        return len(self._readings)

    def _run(
        self, key: Hashable, call: Callable[[], Any], done: Callable[[Any], None] | None, began: float
    ) -> None:
        try:
            result = call()
        except Exception:  # noqa: BLE001 - who asks again waits for the disk itself, and says what is wrong
            done = result = None
        self._call_from_thread(lambda: self._over(key, result, done, began))

    def _over(self, key: Hashable, result: Any, done: Callable[[Any], None] | None, began: float) -> None:
        cold = self._readings.pop(key)
        self._finished[key] = now = time.monotonic()
        self.latency.observe(now - began)
        if len(self._finished) > _MAX_FINISHED:
            del self._finished[next(iter(self._finished))]
        for callback in (partial(done, result) if done is not None else None, *cold.over()):
            if callback is not None:
                try:
                    callback()
                except Exception:  # noqa: BLE001 - who else waits is called back too
                    _log.failure("reading-report-failed")
