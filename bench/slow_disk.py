"""A disk that is as slow as is wanted: processes that may read it at so many bytes a second and no faster.

By Linux's control groups, whose limit holds for what comes from the device, reading ahead included, and not
for what the page cache has. Needs root and the controller ``io`` (version 2) or ``blkio`` (version 1).
"""

from __future__ import annotations

import os
import pathlib
import time
from types import TracebackType

from bench.native import Missing

__all__ = ["SlowDisk"]

_GROUPS = pathlib.Path("/sys/fs/cgroup")


class SlowDisk:
    """A control group with a limit; use it as a context manager.

    Args:
        file: one that lies on the disk in question.
        bytes_per_second: what all processes of the group together may read.

    Raises:
        Missing: the system cannot do that, or not for who runs this.
    """

    def __init__(self, file: pathlib.Path, bytes_per_second: int) -> None:
        device = _device(file)
        name = f"megabroker-bench-{os.getpid()}"
        try:
            if (_GROUPS / "blkio").is_dir():
                self._group = _GROUPS / "blkio" / name
                self._group.mkdir()
                limit, text = "blkio.throttle.read_bps_device", f"{device} {bytes_per_second}"
            else:
                self._group = _GROUPS / name
                (_GROUPS / "cgroup.subtree_control").write_text("+io")
                self._group.mkdir()
                limit, text = "io.max", f"{device} rbps={bytes_per_second}"
            (self._group / limit).write_text(text)
        except OSError as error:
            self._remove()
            raise Missing(f"a limit for what is read from a disk (root and cgroups): {error}") from None

    def hold(self, pid: int) -> None:
        """Have the limit hold for a process and all its threads, for as long as this is open."""
        self._add(self._group, pid)

    def __enter__(self) -> SlowDisk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pid in (self._group / "cgroup.procs").read_text().split():
            self._add(self._group.parent, int(pid))
        self._remove()

    @staticmethod
    def _add(group: pathlib.Path, pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))

    def _remove(self) -> None:
        for _ in range(50):
            try:
                self._group.rmdir()
            except FileNotFoundError:
                return
            except OSError:  # a process that has just ended is in it for a moment yet
                time.sleep(0.02)
            else:
                return


def _device(file: pathlib.Path) -> str:
    """Return the numbers of the whole disk that a file lies on. Raises Missing."""
    number = os.stat(file).st_dev
    entry = pathlib.Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not entry.exists():
        raise Missing(f"{file} on a disk: what it lies on is no block device")
    entry = entry.resolve()
    whole = entry.parent if (entry / "partition").exists() else entry
    return (whole / "dev").read_text().strip()
