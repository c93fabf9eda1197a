"""Files on a disk that reads when it is told to."""

from __future__ import annotations

import os
import threading

from megabroker.model import Buffer
from megabroker.storage.files import Files

__all__ = ["SlowFiles"]

_PATIENCE_SECONDS = 30


class SlowFiles(Files):
    """Real files of which nothing counts as being in memory before it was read through by ``warm``.

    Attributes:
        reading: set once somebody waits for the disk.
        go: set it to let the disk read.
        readings: how often it has read.
    """

    def __init__(self) -> None:
        self.reading = threading.Event()
        self.go = threading.Event()
        self.readings = 0
        self._warm: list[tuple[str, int, int]] = []

    def freeze(self) -> None:
        """Let nothing be in memory any more, and the disk wait again."""
        self._warm.clear()
        self.reading.clear()
        self.go.clear()

    def is_cached(self, fd: int, position: int, length: int) -> bool:
        stop = min(position + length, self.size(fd))
        path = _path(fd)
        return any(path == one and start <= position and stop <= end for one, start, end in self._warm)

    def pread_cached(self, fd: int, length: int, position: int) -> Buffer | None:
        return self.pread(fd, length, position) if self.is_cached(fd, position, length) else None

    def warm(self, fd: int, position: int, length: int, ahead: int) -> None:
        self.reading.set()
        assert self.go.wait(_PATIENCE_SECONDS)
        super().warm(fd, position, length, ahead)
        self.readings += 1
        self._warm.append((_path(fd), position, position + length))


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")
