"""The system calls of one process on a simulated disk, and what can go wrong with each.

Owns the process's descriptors. Every call is a place where the process may be killed, before it or after it
or, when it writes, within; and where it may be told that the disk failed. ``Faults`` is the plan of that.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import Any, Final

from megabroker.model import Buffer
from megabroker.simulation.clock import ProcessEnded
from megabroker.simulation.disk import Directory, Disk, File
from megabroker.storage.files import Files

__all__ = ["CHANGING", "Faults", "SimulatedFiles"]

CHANGING: Final = (
    "open",
    "pwritev",
    "fdatasync",
    "truncate",
    "rename",
    "unlink",
    "sync_dir",
    "mkdir",
    "commit",
)
"""Calls that are made to fail."""

_SYNC_SECONDS: Final = 0.004


class Faults:
    """What is planned to go wrong with a process's system calls, and what has.

    Attributes:
        calls: how many there were.
        injected: faults by kind.
        sync_failed: called when a sync is about to fail.
    """

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.calls = 0
        self.injected: Counter[str] = Counter()
        self.sync_failed: Callable[[], None] = lambda: None
        self._end: Callable[[], None] | None = None
        self._end_at = 0
        self._end_after = False
        self._errors: list[tuple[str, int, int]] = []  # call, errno, how many good ones before

    def end_within(self, calls: int, end: Callable[[], None]) -> None:
        """Have ``end`` called at one of the next so many calls; the process must then be dead."""
        self._end = end
        self._end_at = self.calls + self.dice.randrange(calls) + 1
        self._end_after = self.dice.random() < 0.5

    def fail(self, call: str, code: int, skip: int) -> None:
        """Have a call fail once, after ``skip`` good ones."""
        self._errors.append((call, code, skip))

    def heal(self) -> None:
        """Plan nothing any more."""
        self._end = None
        self._errors.clear()

    @property
    def is_last(self) -> bool:
        """Whether the process ends at this very call."""
        return self._end is not None and self.calls >= self._end_at

    def before(self, call: str, path: str) -> None:
        """A call begins. Raises OSError, ProcessEnded."""
        self.calls += 1
        if self._end is not None and self.calls >= self._end_at and not self._end_after:
            self.strike()
        for at, (name, code, skip) in enumerate(self._errors):
            if name != call:
                continue
            if skip:
                self._errors[at] = name, code, skip - 1
                continue
            del self._errors[at]
            self.injected[f"{call} {errno.errorcode[code]}"] += 1
            raise OSError(code, os.strerror(code), path)

    def after(self) -> None:
        """A call has been carried out. Raises ProcessEnded."""
        if self._end is not None and self.calls >= self._end_at:
            self.strike()

    def strike(self) -> None:
        """End the process. Raises ProcessEnded."""
        end, self._end = self._end, None
        if end is not None:
            end()
        raise ProcessEnded


class SimulatedFiles(Files):
    """See the module.

    Attributes:
        dead: whether the process has ended.
        wait: lets so many seconds of true time pass, while the thread that called waits for the disk.
    """

    tells_cached = True

    def __init__(self, disk: Disk, faults: Faults, seconds: Callable[[], float]) -> None:
        self.disk = disk
        self.faults = faults
        self.dead = False
        self.wait: Callable[[float], None] = lambda seconds: None
        self._seconds = seconds
        self._open: dict[int, tuple[str, File]] = {}
        self._last_fd = 2

    def enter(self, call: str, path: str) -> None:
        """Begin a call. Raises OSError, ProcessEnded."""
        if self.dead:
            raise ProcessEnded
        self.faults.before(call, path)

    def leave(self) -> None:
        """End a call. Raises ProcessEnded."""
        if self.dead:
            raise ProcessEnded
        self.faults.after()

    def no_room(self, path: str) -> OSError:
        """Count and return the error of a full disk."""
        self.faults.injected["disk full"] += 1
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    # --- descriptors ---

    def open(self, path: str, *, create: bool) -> int:
        self.enter("open", path)
        node = self.disk.find(path)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if self.disk.full:
                raise self.no_room(path)
            node = File(self._seconds())
            self.disk.name(path, node)
        elif isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._last_fd += 1
        self._open[self._last_fd] = path, node
        self.leave()
        return self._last_fd

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)  # nothing of the world changes by it, so nothing goes wrong

    def pread(self, fd: int, length: int, position: int) -> bytes:
        path, node = self._open[fd]
        self.enter("pread", path)
        return bytes(memoryview(node.data)[position : position + length])

    def pread_cached(self, fd: int, length: int, position: int) -> Buffer | None:
        return self.pread(fd, length, position)

    def is_cached(self, fd: int, position: int, length: int) -> bool:
        return True

    def warm(self, fd: int, position: int, length: int, ahead: int) -> None:
        pass

    def read_ahead(self, fd: int, position: int, length: int) -> None:
        pass

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        path, node = self._open[fd]
        data = b"".join(buffers)
        self.enter("pwritev", path)
        faults = self.faults
        if self.disk.full and position + len(data) > len(node.data):
            room = max(0, len(node.data) - position)
            if not room:
                raise self.no_room(path)
            data = data[:room]
        elif len(data) > 1 and faults.dice.random() < 0.01:
            faults.injected["short write"] += 1
            data = data[: faults.dice.randrange(1, len(data))]
        if faults.is_last and len(data) > 1 and faults.dice.random() < 0.5:
            faults.injected["killed within a write"] += 1
            data = data[: faults.dice.randrange(len(data))]
        node.change(position, data, self._seconds())
        self.leave()
        return len(data)

    def fdatasync(self, fd: int) -> None:
        path, node = self._open[fd]
        self.wait(self.faults.dice.random() * _SYNC_SECONDS)
        try:
            self.enter("fdatasync", path)
        except OSError:
            self.faults.sync_failed()
            node.fail_sync(self.faults.dice)
            raise
        node.sync()
        self.leave()

    def truncate(self, fd: int, length: int) -> None:
        path, node = self._open[fd]
        self.enter("truncate", path)
        node.change(length, None, self._seconds())
        self.leave()

    def map(self, fd: int, length: int) -> AbstractContextManager[Any]:
        return self._mapped(fd, length)

    @contextmanager
    def _mapped(self, fd: int, length: int) -> Iterator[bytes]:
        yield self.pread(fd, length, 0)

    def lock(self, fd: int) -> None:
        self.enter("lock", self._open[fd][0])

    def size(self, fd: int) -> int:
        if self.dead:
            raise ProcessEnded
        return len(self._open[fd][1].data)

    # --- paths ---

    def read_size(self, path: str) -> int | None:
        if self.dead:
            raise ProcessEnded
        node = self.disk.find(path)
        return len(node.data) if isinstance(node, File) else None if node is None else 0

    def is_directory(self, path: str) -> bool:
        return isinstance(self.disk.find(path), Directory)

    def is_writable(self, path: str) -> bool:
        return True

    def device(self, path: str) -> int:
        return 1

    def free_bytes(self, path: str) -> int:
        return 1 << 60  # that it is full is a fault

    def sync_dir(self, path: str) -> None:
        self.wait(self.faults.dice.random() * _SYNC_SECONDS)
        try:
            self.enter("sync_dir", path)
        except OSError:
            self.faults.sync_failed()
            raise
        self.disk.directory(path).sync()
        self.leave()

    def sync_file_system(self, path: str) -> bool:
        self.enter("sync_file_system", path)
        self.disk.sync_all()
        self.leave()
        return True

    def rename(self, old: str, new: str) -> None:
        self.enter("rename", old)
        node = self.disk.find(old)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self.disk.name(new, node, former=old)
        self.leave()

    def unlink(self, path: str) -> None:
        self.enter("unlink", path)
        if isinstance(self.disk.find(path), File):
            self.disk.name(path, None)
        self.leave()

    def mkdir(self, path: str) -> bool:
        self.enter("mkdir", path)
        if self.disk.find(path) is not None:
            return False
        self.disk.name(path, Directory())
        self.leave()
        return True

    def rmtree(self, path: str) -> None:
        for name in sorted(self.disk.directory(path).entries):
            child = f"{path}/{name}"
            if self.is_directory(child):
                self.rmtree(child)
            else:
                self.unlink(child)
        self.enter("unlink", path)
        self.disk.name(path, None)
        self.leave()

    def listdir(self, path: str) -> list[tuple[str, int, float]]:
        self.enter("listdir", path)
        entries = self.disk.directory(path).entries
        return [
            (name, len(node.data), node.changed) for name, node in entries.items() if isinstance(node, File)
        ]

    def subdirectories(self, path: str) -> list[str]:
        self.enter("listdir", path)
        entries = self.disk.directory(path).entries
        return [name for name, node in entries.items() if isinstance(node, Directory)]

    def read_bytes(self, path: str) -> bytes | None:
        self.enter("pread", path)
        node = self.disk.find(path)
        return bytes(node.data) if isinstance(node, File) else None
