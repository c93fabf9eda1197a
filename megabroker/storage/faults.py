"""A file system that fails when told to, for tests and for drills.

Owns nothing but a plan: which call, counted from now, fails with which errno, or from which on all do, as if
the process had ended there. All else is the real ``Files``. A write may be made short before it fails, as a
full disk does it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final

from megabroker.model import Buffer
from megabroker.storage.files import Files

__all__ = ["FaultyFiles"]

_CHANGING: Final = (
    "open",
    "pwritev",
    "fdatasync",
    "sync_file_system",
    "truncate",
    "rename",
    "unlink",
    "sync_dir",
)


class FaultyFiles(Files):
    """Real files with planned failures; ``calls`` counts what was asked, by name.

    Args:
        real_sync: without, nothing is synced, which no process that goes on running can tell.
    """

    def __init__(self, *, real_sync: bool = True) -> None:
        self._real_sync = real_sync
        self.calls: dict[str, int] = {}
        self.short_write_bytes = 0
        self.changes = 0
        self._last_change: int | None = None
        self._failures_left = -1
        self._plan: dict[str, tuple[int, int, int, str]] = {}

    def fail(self, call: str, code: int, *, skip: int = 0, times: int = 1, path: str = "") -> None:
        """Fail the ``call`` after ``skip`` good ones, ``times`` times, where its path holds ``path``."""
        self._plan[call] = (code, skip, times, path)

    def end_after(self, changes: int) -> None:
        """Let so many further calls change something, and fail every other call after them."""
        self._last_change = self.changes + changes
        self._failures_left = -1

    def recover_after(self, failures: int) -> None:
        """Let calls succeed again after so many have failed."""
        self._failures_left = failures

    def heal(self) -> None:
        """Forget all planned failures."""
        self._plan.clear()
        self._last_change = None
        self.short_write_bytes = 0

    def _check(self, call: str, path: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1
        if (
            self._last_change is not None
            and self.changes >= self._last_change
            and (self._failures_left < 0 or call in _CHANGING)
        ):
            if self._failures_left:
                self._failures_left -= 1
                raise OSError(errno.EIO, "the process has ended", path)
            self._last_change = None
        self.changes += call in _CHANGING
        plan = self._plan.get(call)
        if plan is None or plan[3] not in path:
            return
        code, skip, times, part = plan
        if skip > 0:
            self._plan[call] = (code, skip - 1, times, part)
            return
        if times <= 1:
            del self._plan[call]
        else:
            self._plan[call] = (code, 0, times - 1, part)
        raise OSError(code, os.strerror(code), path)

    def _path(self, fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}")

    def sync_file_system(self, path: str) -> bool:
        self._check("sync_file_system", path)
        return super().sync_file_system(path) if self._real_sync else True

    def open(self, path: str, *, create: bool) -> int:
        self._check("open", path)
        return super().open(path, create=create)

    def pread(self, fd: int, length: int, position: int) -> bytes:
        self._check("pread", self._path(fd))
        return super().pread(fd, length, position)

    def pread_cached(self, fd: int, length: int, position: int) -> Buffer | None:
        self._check("pread", self._path(fd))
        return super().pread_cached(fd, length, position)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        short = self.short_write_bytes
        if short:
            self.short_write_bytes = 0
            return super().pwritev(fd, [b"".join(buffers)[:short]], position)
        self._check("pwritev", self._path(fd))
        return super().pwritev(fd, buffers, position)

    def fdatasync(self, fd: int) -> None:
        self._check("fdatasync", self._path(fd))
        if self._real_sync:
            super().fdatasync(fd)

    def truncate(self, fd: int, length: int) -> None:
        self._check("truncate", self._path(fd))
        super().truncate(fd, length)

    def sync_dir(self, path: str) -> None:
        self._check("sync_dir", path)
        if self._real_sync:
            super().sync_dir(path)

    def rename(self, old: str, new: str) -> None:
        self._check("rename", old)
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self._check("unlink", path)
        super().unlink(path)
