"""Hard links that keep files from going while they are copied.

Owns the directory ``backup-pins`` in a data directory, whose files are named by their inode: retention and
compaction may remove a file, or put another one in its place, and the bytes are still here. The broker
passes it over. It goes with the backup; what a backup that was killed has left, the next one removes.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from megabroker.errors import ErrorCode, StorageError

__all__ = ["Pins"]

_NAME: Final = "backup-pins"


class Pins:
    """The links in one data directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory / _NAME
        self._held: set[int] = set()

    @classmethod
    @contextmanager
    def at(cls, directory: pathlib.Path) -> Iterator[Pins]:
        """Keep links in a data directory until the context ends.

        Raises:
            OSError: no directory can be made there.
            StorageError: another backup is made of it.
        """
        pins = cls(directory)
        pins._directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(pins._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _refusal(f"another backup of {directory} is being made") from None
            for left in pins._directory.iterdir():
                left.unlink()
            try:
                yield pins
            finally:
                shutil.rmtree(pins._directory, ignore_errors=True)
        finally:
            os.close(fd)

    def keep(self, path: str, inode: int) -> bool:
        """Link a file, unless it is already; return whether it still was that file.

        Raises:
            OSError: it cannot be linked.
            StorageError: the file system has no hard links.
        """
        if inode in self._held:
            return True
        pin = self.path(inode)
        try:
            os.link(path, pin)
        except FileNotFoundError:
            return False
        except PermissionError as error:
            raise _refusal(
                f"{path} cannot be linked ({error.strerror}): expected to run as the user that the broker "
                "runs as, on a file system with hard links"
            ) from error
        if os.stat(pin).st_ino != inode:
            pin.unlink()
            return False
        self._held.add(inode)
        return True

    def path(self, inode: int) -> pathlib.Path:
        """Return where a file that is kept can be read."""
        return self._directory / str(inode)


def _refusal(message: str) -> StorageError:
    return StorageError(ErrorCode.STORAGE, message, retriable=False)
