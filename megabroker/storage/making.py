"""A data directory that is being made of another's files: nothing opens it before it is whole.

Owns the mark that says so, and how files get there. Such a directory begins with the mark, which keeps the
broker out, and has it until everything is there; with the mark it is emptied by whoever makes it anew.

Files are copied by the kernel (copy_file_range), which shares the blocks where the file system can.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Final

from megabroker.errors import ErrorCode, StorageError
from megabroker.storage.directories import UNFINISHED

__all__ = ["copy_file", "make_room", "sync_directory"]

_CHUNK_BYTES: Final = 64 << 20
_READ_BYTES: Final = 1 << 20


def make_room(data_dir: pathlib.Path) -> pathlib.Path:
    """Begin a directory, emptying what was left unfinished; return the mark, whose removal ends it.

    Raises:
        OSError: it cannot be written.
        StorageError: it is not empty.
    """
    mark = data_dir / UNFINISHED
    data_dir.mkdir(parents=True, exist_ok=True)
    there = list(data_dir.iterdir())
    if there and not mark.exists():
        raise StorageError(
            ErrorCode.STORAGE,
            f"{data_dir} is not empty: expected a directory that is empty or does not exist, to be made anew",
            retriable=False,
        )
    mark.touch()
    sync_directory(data_dir)
    for one in there:
        if one.is_dir():
            shutil.rmtree(one)
        elif one != mark:
            one.unlink()
    return mark


def copy_file(
    source: pathlib.Path, target: pathlib.Path, length: int | None = None, *, sync: bool = True
) -> int:
    """Copy one file with its time of change; return how much that was.

    Args:
        length: how much of it; None for as much as there is now.
        sync: whether it is on the disk when this returns.

    Raises:
        OSError: a file cannot be read or written.
        StorageError: there was less.
    """
    with open(source, "rb") as reading, open(target, "xb") as writing:
        status = os.fstat(reading.fileno())
        size_bytes = left = status.st_size if length is None else length
        while left:
            taken = _copy_some(reading.fileno(), writing.fileno(), min(left, _CHUNK_BYTES))
            if not taken:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"{source} has become shorter while it was copied: a broker is running",
                    retriable=False,
                )
            left -= taken
        os.utime(writing.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        if sync:
            os.fsync(writing.fileno())
        return size_bytes


def _copy_some(reading: int, writing: int, length: int) -> int:
    try:
        return os.copy_file_range(reading, writing, length)
    except OSError:
        # Not every pair of file systems can; then through memory.
        data = os.read(reading, min(length, _READ_BYTES))
        view = memoryview(data)
        while view:
            view = view[os.write(writing, view) :]
        return len(data)


def sync_directory(path: pathlib.Path) -> None:
    """Have the names in a directory on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
