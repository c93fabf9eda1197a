"""The lock on a data directory: one broker at a time.

Owns ``.lock``. The lock is the kernel's and ends with the process; what the file says is only for people
and for the refusal of the next one. It is taken twice, by flock and by fcntl: the second is how Apache
Kafka locks the same file, so that neither broker opens a directory that the other has.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket

from megabroker.errors import DataDirectoryLocked
from megabroker.storage.files import storage_error

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """Holds ``<data_dir>/.lock`` from ``take`` to ``release``.

    Attributes:
        fd: the open file, or -1. The lock by flock is held as long as any process has it open.
    """

    def __init__(self, data_dir: str) -> None:
        self._path = os.path.join(data_dir, ".lock")
        self.fd = -1

    def take(self, start: str) -> None:
        """Take the lock.

        Args:
            start: when this process started, in words.

        Raises:
            DataDirectoryLocked: somebody holds it.
            StorageError: the file cannot be made.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as caught:
            raise storage_error("cannot lock", self._path, caught) from caught
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"pid {os.getpid()}\nhost {socket.gethostname()}\nstart {start}\n".encode(), 0)
        except OSError as caught:
            held = caught.errno in (errno.EWOULDBLOCK, errno.EACCES)
            holder = os.pread(fd, 512, 0).decode(errors="replace") if held else ""
            os.close(fd)
            if held:
                said = ", ".join(holder.split("\n")[:3]).strip(", ") or "an unknown process"
                raise DataDirectoryLocked(
                    f"{os.path.dirname(self._path)} is in use by another broker ({said})"
                ) from None
            raise storage_error("cannot lock", self._path, caught) from caught
        self.fd = fd

    def release(self) -> None:
        """Give the lock back."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
