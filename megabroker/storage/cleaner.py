"""The thread that cleans logs, one after the other, and how little it may disturb.

Owns the choice of the next log and the pace. Knows neither files nor rules: a log that can be cleaned is a
``Cleanable``. Everything the thread needs of a log's state it asks for in the reactor.

*Pace.* Cleaning is work in Python, during which the reactor does not run. After half a millisecond of it the
thread sleeps for a quarter, so that the reactor never waits longer than that for its turn. What is read and
written besides is held to ``max_bytes_per_second``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

import attrs
from twisted.logger import Logger

from megabroker.errors import StorageError
from megabroker.storage.cleaning import OffsetMap
from megabroker.storage.files import storage_error
from megabroker.storage.segment import DamageFound

__all__ = ["Cleanable", "CleanerSettings", "CleaningEnded", "LogCleaner", "Turn"]

_log = Logger()
_T = TypeVar("_T")

_WORK_SECONDS: Final = 0.0005
_REST_SECONDS: Final = 0.00025
_LOGS_AT_ONCE: Final = 64
_WAIT_SECONDS: Final = 0.05
_LONGEST_PUT_OFF_SECONDS: Final = 3600.0


class CleaningEnded(Exception):
    """The cleaning was told to stop, for the log goes or the broker ends."""


@attrs.frozen
class CleanerSettings:
    """How logs are cleaned.

    Attributes:
        enabled: whether they are at all.
        interval_ms: how long to wait when there is nothing to clean.
        max_bytes_per_second: most that is read and written together; -1 is unlimited.
        dedupe_buffer_bytes: memory for the keys of one cleaning.
    """

    enabled: bool = True
    interval_ms: int = 15_000
    max_bytes_per_second: int = -1
    dedupe_buffer_bytes: int = 128 << 20


class Cleanable(Protocol):
    """A log that can be cleaned; everything is called in the cleaner's thread."""

    @property
    def going(self) -> bool:
        """Whether the log is on its way out, so that a cleaning must end."""

    cleaning: threading.Lock
    """Held while the log is being cleaned."""

    def dirt(self, now_ms: int) -> tuple[bool, float] | None:
        """Return whether cleaning is overdue and how dirty it is, or None when it needs none yet."""

    def clean(self, turn: Turn) -> str | None:
        """Clean; return what was done as half a sentence, None for nothing.

        Raises:
            CleaningEnded, DamageFound, OSError, StorageError: it was not done.
        """

    def found_damage(self, found: DamageFound) -> None:
        """Take note of damage, in the reactor."""


class Turn:
    """One log's turn: what a cleaning may use, and where it lets others go first."""

    def __init__(self, cleaner: LogCleaner, log: Cleanable, now_ms: int) -> None:
        self.now_ms = now_ms
        self._cleaner = cleaner
        self._log = log
        self._rested = time.monotonic()
        self._window_began = self._rested
        self._window_bytes = 0
        self._map: OffsetMap | None = None

    def new_map(self) -> OffsetMap:
        """Return an empty map of the configured size, once."""
        self._map = OffsetMap(self._cleaner.settings.dedupe_buffer_bytes)
        return self._map

    def end(self) -> None:
        """Give back what was used."""
        if self._map is not None:
            self._map.free(lambda: self._cleaner.pause(_REST_SECONDS))

    def breathe(self) -> None:
        """Rest if it is time to. Raises CleaningEnded."""
        if self._cleaner.stopping or self._log.going:
            raise CleaningEnded
        if time.monotonic() - self._rested >= _WORK_SECONDS:
            if self._cleaner.threaded:
                time.sleep(_REST_SECONDS)
            self._rested = time.monotonic()

    def moved(self, size_bytes: int) -> None:
        """Wait until that much more may have been read or written. Raises CleaningEnded."""
        limit = self._cleaner.settings.max_bytes_per_second
        if limit <= 0:
            return
        self._window_bytes += size_bytes
        while (rest := self._window_began + self._window_bytes / limit - time.monotonic()) > 0:
            self.breathe()
            self._cleaner.pause(min(rest, _WAIT_SECONDS))
        if self._window_bytes > limit:
            self._window_began, self._window_bytes = time.monotonic(), 0

    def in_reactor(self, call: Callable[[], _T]) -> _T:
        """Call in the reactor thread and return what that gave or raise what it raised."""
        result: _T = self._cleaner.wait_for(
            self._log, lambda done: self._cleaner.call_from_thread(lambda: done(call))
        )
        return result

    def in_chores(self, work: Callable[[], _T]) -> _T:
        """Call in the chores thread, after all that is queued there."""
        result: _T = self._cleaner.wait_for(self._log, lambda done: self._cleaner.chore(lambda: done(work)))
        return result


class LogCleaner:
    """The thread; see the module.

    Args:
        logs: returns the logs there are; called in the thread.
        seconds: the time in seconds since the epoch.
        call_from_thread: ``reactor.callFromThread``.
        chore: runs work in the thread for small work on files.
        pump: without a thread, does what others have queued, until what it is given says: enough.

    Attributes:
        cleaned: cleanings that were finished, of which something came.
    """

    def __init__(
        self,
        settings: CleanerSettings,
        logs: Callable[[], Iterable[Cleanable]],
        seconds: Callable[[], float],
        call_from_thread: Callable[[Callable[[], None]], object],
        chore: Callable[[Callable[[], None]], object],
        pump: Callable[[Callable[[], bool]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.threaded = pump is None
        self.stopping = False
        self.cleaned = 0
        self.call_from_thread = call_from_thread
        self.chore = chore
        self._logs = logs
        self._seconds = seconds
        self.pump = pump
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._put_off: dict[int, tuple[Cleanable, int, float]] = {}  # by id: failures, until when

    def start(self) -> None:
        """Start the thread, if cleaning is enabled."""
        if self.settings.enabled and self.threaded and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="megabroker-cleaner", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; a cleaning under way is given up. Blocks for a moment."""
        self.stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """Look for dirty logs now. Any thread."""
        self._wake.set()

    def pause(self, seconds: float) -> None:
        """Sleep, unless stopping."""
        if self.threaded and not self.stopping:
            time.sleep(seconds)

    def run_once(self) -> int:
        """Clean what needs it, the dirtiest first; return how many logs that were."""
        now_ms = int(self._seconds() * 1000)
        found: list[tuple[bool, float, int, Cleanable]] = []
        for number, log in enumerate(self._logs()):
            if self.stopping:
                return 0
            if not number % _LOGS_AT_ONCE:
                self.pause(_REST_SECONDS)
            kept = self._put_off.get(id(log))
            if kept is not None and kept[2] > self._seconds():
                continue
            try:
                dirt = log.dirt(now_ms)
            except (OSError, StorageError) as caught:
                self._failed(log, caught)
                continue
            if dirt is not None:
                found.append((*dirt, len(found), log))
        found.sort(reverse=True)
        return sum(self._clean(log) for _, _, _, log in found)

    def _run(self) -> None:
        while not self.stopping:
            try:
                cleaned = self.run_once()
            except Exception:  # noqa: BLE001 - the thread has to outlive whatever was wrong with one log
                _log.failure("cleaner-failed")
                cleaned = 0
            if not cleaned:
                self._wake.wait(self.settings.interval_ms / 1000)
                self._wake.clear()

    def _clean(self, log: Cleanable) -> bool:
        if self.stopping or log.going:
            return False
        turn = Turn(self, log, int(self._seconds() * 1000))
        began = time.monotonic()
        with log.cleaning:
            try:
                done = self._attempt(turn, log)
            except CleaningEnded:
                return False
            except Exception as caught:  # noqa: BLE001 - one log's fault must not keep the others from it
                if not isinstance(caught, (OSError, StorageError)):
                    _log.failure("cleaner-failed: {log}", log=log)
                if not (self.stopping or log.going):
                    self._failed(log, caught)
                return False
            finally:
                turn.end()
        self._put_off.pop(id(log), None)
        if done is None:
            return False
        self.cleaned += 1
        _log.info(
            "log-cleaned: {log}: {done} in {milliseconds} ms",
            log=log,
            done=done,
            milliseconds=round((time.monotonic() - began) * 1000),
        )
        return True

    @staticmethod
    def _attempt(turn: Turn, log: Cleanable) -> str | None:
        """Clean a log, or take note of the damage that is met in it. Raises as ``Cleanable.clean``."""
        try:
            return log.clean(turn)
        except DamageFound as found:
            damage = found
        turn.in_reactor(lambda: log.found_damage(damage))
        return None

    def _failed(self, log: Cleanable, caught: Exception) -> None:
        """Leave a log alone for a while, each time for longer."""
        failures = self._put_off[id(log)][1] + 1 if id(log) in self._put_off else 1
        wait = min(self.settings.interval_ms / 1000 * 2**failures, _LONGEST_PUT_OFF_SECONDS)
        self._put_off = {key: row for key, row in self._put_off.items() if not row[0].going}
        self._put_off[id(log)] = (log, failures, self._seconds() + wait)
        error = storage_error("cannot clean", str(log), caught) if isinstance(caught, OSError) else caught
        _log.error(
            "log-not-cleaned: {log}: {error}; again in {seconds} s",
            log=log,
            error=str(error),
            seconds=round(wait),
        )

    def wait_for(self, log: Cleanable, ask: Callable[[Callable[[Callable[[], Any]], None]], object]) -> Any:
        """Have something called in another thread and wait for it.

        Raises:
            CleaningEnded: the wait would be in vain. What was asked for may still happen.
            Exception: whatever the call raised.
        """
        finished = threading.Event()
        outcome: list[Any] = []

        def done(call: Callable[[], Any]) -> None:
            try:
                outcome.append((True, call()))
            except Exception as caught:  # noqa: BLE001 - raised again by who asked
                outcome.append((False, caught))
            finished.set()

        ask(done)
        if self.pump is not None:
            self.pump(finished.is_set)
        while not finished.wait(_WAIT_SECONDS if self.threaded else 0):
            if self.stopping or log.going or not self.threaded:
                raise CleaningEnded
        good, result = outcome[0]
        if not good:
            raise result
        return result
