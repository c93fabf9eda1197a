"""Where commits run: a thread, or nowhere until a test has them run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["ManualWorker", "Turns", "Worker", "WorkerThread"]


class Turns(Protocol):
    """What is needed of a reactor."""

    def callLater(self, delay: float, function: Callable[..., object], *args: object) -> object:
        """Call later, in the reactor thread."""

    def callFromThread(self, function: Callable[..., object], *args: object) -> object:
        """Call soon in the reactor thread, from any thread."""


class Worker(Protocol):
    """Runs jobs one after another, somewhere else."""

    def start(self) -> None:
        """Begin to take jobs."""

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job after those submitted before."""

    def stop(self) -> None:
        """Take no more jobs; called when none is left."""


class WorkerThread:
    """A named thread with a queue. A daemon: what it does must stand being killed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Queue a job."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class ManualWorker:
    """Keeps jobs until a test runs them."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def start(self) -> None:
        """Nothing to start."""

    def submit(self, job: Callable[[], None]) -> None:
        """Keep a job."""
        self.jobs.append(job)

    def stop(self) -> None:
        """Nothing to stop."""

    def run(self) -> int:
        """Run the jobs kept so far; return how many there were."""
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()
        return len(jobs)
