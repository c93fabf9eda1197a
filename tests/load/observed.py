"""A broker that writes down about once a second what it holds; run by ``tests.load.observing``.

    python observed.py REPORT_FILE SYNC_MS TWISTD_ARGUMENTS...

Every line of the report is a JSON object, ``tests.load.observing.Sample``. With SYNC_MS above 0 the disk is
slow: every sync takes so many milliseconds longer, and again as many for each MiB written before it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from twisted.scripts import twistd

from megabroker.net.unread import Unread
from megabroker.storage.files import Files

_TICK_SECONDS = 0.05
_TICKS = 20
_MIB = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Observer:
    """Samples this process; ``late_ms`` and ``unread_bytes`` are the most since the last sample."""

    def __init__(self, path: str) -> None:
        self._out = open(path, "a", buffering=1)  # noqa: SIM115 - open as long as the process
        self._last = time.monotonic()
        self._late_ms = 0.0
        self._ticks = 0
        self.unread_bytes = 0

    def tick(self) -> None:
        now = time.monotonic()
        self._late_ms = max(self._late_ms, (now - self._last - _TICK_SECONDS) * 1000)
        self._last = now
        self._ticks += 1
        if self._ticks % _TICKS == 0:
            self._out.write(json.dumps(self._sample()) + "\n")
            self._late_ms = 0.0
            self.unread_bytes = 0
            self._last = time.monotonic()

    def _sample(self) -> dict[str, Any]:
        loop: Any = reactor
        with open("/proc/self/statm") as statm:
            resident = int(statm.read().split()[1]) * _PAGE_BYTES
        return {
            "seconds": time.monotonic(),
            "resident_bytes": resident,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "delayed_calls": len(loop.getDelayedCalls()),
            "blocks": sys.getallocatedblocks(),
            "late_ms": round(self._late_ms, 1),
            "unread_bytes": self.unread_bytes,
        }


def slow_down(sync_ms: float) -> None:
    """Make the disk slow, as one is behind a page cache: a sync waits for it and for all that was written."""
    sync, write = Files.fdatasync, Files.pwritev
    written = [0]

    def fdatasync(self: Files, fd: int) -> None:
        waiting, written[0] = written[0], 0
        time.sleep((1 + waiting / _MIB) * sync_ms / 1000)
        sync(self, fd)

    def pwritev(self: Files, fd: int, buffers: Any, position: int) -> int:
        taken = write(self, fd, buffers, position)
        written[0] += taken
        return taken

    Files.fdatasync, Files.pwritev = fdatasync, pwritev  # type: ignore[method-assign]


def watch_unread(observer: Observer) -> None:
    """Tell the observer what the account of unread answers comes to, each time a connection is noted."""
    note = Unread.note

    def noted(self: Unread, holder: Any) -> bool:
        holds = note(self, holder)
        observer.unread_bytes = max(observer.unread_bytes, self.held_bytes)
        return holds

    Unread.note = noted  # type: ignore[method-assign]


def main() -> None:
    """Run twistd in this process, observed."""
    path, sync_ms = sys.argv[1], float(sys.argv[2])
    if sync_ms:
        slow_down(sync_ms)
    loop: Any = reactor
    loop.callWhenRunning(lambda: LoopingCall(observer.tick).start(_TICK_SECONDS))
    observer = Observer(path)
    watch_unread(observer)
    sys.argv = ["twistd", *sys.argv[3:]]
    twistd.run()


if __name__ == "__main__":
    main()
