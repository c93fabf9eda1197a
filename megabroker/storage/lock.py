"""The lock on a data directory: one broker at a time.

Owns ``.lock``. The lock is the kernel's and ends with the process; what the file says is only for people
and for the refusal of the next one. It is taken twice, by flock and by fcntl: the second is how Apache
Kafka locks the same file, so that neither broker opens a directory that the other has.

The first may outlive who took it: processes that it has started have the file open, too, and end soon after
it. They are waited for.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from typing import Final

from megabroker.errors import DataDirectoryLocked
from megabroker.storage.files import Files, storage_error

__all__ = ["DirectoryLock"]

_RETRY_SECONDS: Final = 0.05
_HOLDER: Final = re.compile(r"pid ([0-9]{1,10})\nhost (.*)\n")


class DirectoryLock:
    """Holds ``<data_dir>/.lock`` from ``take`` to ``release``.

    Args:
        patience_seconds: how long those are waited for whose parent has ended.

    Attributes:
        fd: the open file, or -1. The lock by flock is held as long as any process has it open.
    """

    def __init__(self, data_dir: str, files: Files | None = None, *, patience_seconds: float = 20.0) -> None:
        self._patience_seconds = patience_seconds
        self._path = os.path.join(data_dir, ".lock")
        self._files = Files() if files is None else files
        self.fd = -1

    def take(self, start: str) -> None:
        """Take the lock. Blocking, as long as processes are about to end whose parent has.

        Args:
            start: when this process started, in words.

        Raises:
            DataDirectoryLocked: somebody holds it.
            StorageError: the file cannot be made.
        """
        deadline = time.monotonic() + self._patience_seconds
        while (holder := self._try(start)) is not None:
            ended = _has_ended(holder)
            if not ended or time.monotonic() > deadline:
                said = ", ".join(holder.split("\n")[:3]).strip(", ") or "an unknown process"
                whose = "workers of a broker that has ended" if ended else "another broker"
                raise DataDirectoryLocked(f"{os.path.dirname(self._path)} is in use by {whose} ({said})")
            time.sleep(_RETRY_SECONDS)

    def _try(self, start: str) -> str | None:
        """Take the lock; return what its holder says of itself if there is one."""
        files = self._files
        try:
            fd = files.open(self._path, create=True)
        except OSError as caught:
            raise storage_error("cannot lock", self._path, caught) from caught
        try:
            files.lock(fd)
            self._say(fd, f"pid {os.getpid()}\nhost {socket.gethostname()}\nstart {start}\n".encode())
        except OSError as caught:
            held = caught.errno in (errno.EWOULDBLOCK, errno.EACCES)
            holder = files.pread(fd, 512, 0).decode(errors="replace") if held else ""
            files.close(fd)
            if held:
                return holder
            raise storage_error("cannot lock", self._path, caught) from caught
        self.fd = fd
        return None

    def _say(self, fd: int, text: bytes) -> None:
        """Write who has it. Raises OSError, but not for a disk that is full: what is there can be served."""
        try:
            self._files.truncate(fd, 0)
            self._files.pwritev(fd, (text,), 0)
        except OSError as caught:
            if caught.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

    def release(self) -> None:
        """Give the lock back."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._files.close(fd)


def _has_ended(holder: str) -> bool:
    """Whether the process that calls itself so was one of this machine and is no more."""
    found = _HOLDER.match(holder)
    if found is None or found[2] != socket.gethostname():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return _is_zombie(found[1])


def _is_zombie(pid: str) -> bool:
    """Whether a process has ended and its parent has not asked how."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b") ")[2][:1] == b"Z"
    except OSError:
        return False
