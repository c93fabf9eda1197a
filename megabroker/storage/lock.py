"""The lock on a data directory: one broker at a time.

Owns ``.lock``. The lock is the kernel's and ends with the process; what the file says is only for people
and for the refusal of the next one. It is taken twice, by flock and by fcntl: the second is how Apache
Kafka locks the same file, so that neither broker opens a directory that the other has.
"""

from __future__ import annotations

import errno
import os
import socket

from megabroker.errors import DataDirectoryLocked
from megabroker.storage.files import Files, storage_error

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """Holds ``<data_dir>/.lock`` from ``take`` to ``release``.

    Attributes:
        fd: the open file, or -1. The lock by flock is held as long as any process has it open.
    """

    def __init__(self, data_dir: str, files: Files | None = None) -> None:
        self._path = os.path.join(data_dir, ".lock")
        self._files = Files() if files is None else files
        self.fd = -1

    def take(self, start: str) -> None:
        """Take the lock.

        Args:
            start: when this process started, in words.

        Raises:
            DataDirectoryLocked: somebody holds it.
            StorageError: the file cannot be made.
        """
        files = self._files
        try:
            fd = files.open(self._path, create=True)
        except OSError as caught:
            raise storage_error("cannot lock", self._path, caught) from caught
        try:
            files.lock(fd)
            files.truncate(fd, 0)
            said = f"pid {os.getpid()}\nhost {socket.gethostname()}\nstart {start}\n".encode()
            files.pwritev(fd, (said,), 0)
        except OSError as caught:
            held = caught.errno in (errno.EWOULDBLOCK, errno.EACCES)
            holder = files.pread(fd, 512, 0).decode(errors="replace") if held else ""
            files.close(fd)
            if held:
                said_by = ", ".join(holder.split("\n")[:3]).strip(", ") or "an unknown process"
                raise DataDirectoryLocked(
                    f"{os.path.dirname(self._path)} is in use by another broker ({said_by})"
                ) from None
            raise storage_error("cannot lock", self._path, caught) from caught
        self.fd = fd

    def release(self) -> None:
        """Give the lock back."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._files.close(fd)
