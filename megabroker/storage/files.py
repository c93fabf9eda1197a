"""The seam between the log and the file system.

Owns every system call that storage makes, so that a test or a simulator can stand in for the disk and
fail any one of them. Knows nothing of logs. ``Files`` only passes on; every method raises ``OSError``.

What is in the page cache can be read without waiting for the disk, and only that: ``is_cached``,
``pread_cached``. Where the system cannot tell, all counts as cached.

``LogFile`` is one open descriptor, closed when nobody holds the object any more: a range handed to a
slow reader keeps its file open even after the log has deleted or forgotten it. Whoever uses ``fileno()`` must
hold the object meanwhile, since another thread may make ``OpenFiles`` let go of it. ``OpenFiles`` bounds how
many descriptors the logs themselves keep, and gives some back when the process has none left: connections
share them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import mmap
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from random import randrange
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from megabroker.errors import Cold, ErrorCode, StorageError
from megabroker.model import Buffer
from megabroker.storage.index import LoadedIndexes

if TYPE_CHECKING:
    from megabroker.storage.warming import Warmer

__all__ = ["Files", "Holder", "LogFile", "OpenFiles", "storage_error"]

_READ_WRITE = os.O_RDWR | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_NO_SUCH_READ = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_PROBE_BYTES: Final = 256 * 1024
_PROBE: Final = (bytearray(1),)
_ADVICE_BYTES: Final = 1 << 20
_FILL_BYTES: Final = 1 << 16
_CAN_ADVISE: Final = hasattr(os, "posix_fadvise")
_LOCKS_MEET: Final = sys.platform == "darwin"
"""Whether a lock of flock keeps from one of fcntl, its own process too; elsewhere neither knows the other."""

_T = TypeVar("_T")


def storage_error(what: str, path: str, error: OSError) -> StorageError:
    """Return the StorageError for a failed system call: DISK_FULL or STORAGE, naming errno and path."""
    code = ErrorCode.DISK_FULL if error.errno in _FULL else ErrorCode.STORAGE
    name = errno.errorcode.get(error.errno or 0, "?")
    return StorageError(code, f"{what} {path}: {name}: {error.strerror or error}")


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    """Return the C library's syncfs, which Python does not offer."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    return found


def _full_fsync(fd: int) -> None:
    """Wait for the disk where fsync only waits for the drive to have the data (macOS, fsync(2))."""
    try:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined]
    except OSError as caught:
        if caught.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
            raise
        os.fsync(fd)  # a file system that has nothing better


def _data_sync() -> Callable[[int], None]:
    """Return what makes a file's data durable on this system; not all have fdatasync."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        return _full_fsync
    return getattr(os, "fdatasync", os.fsync)


_sync_data: Final = _data_sync()


class Files:
    """The real file system.

    Attributes:
        tells_cached: whether the system can tell what is in the page cache, as far as is known.
    """

    tells_cached = bool(_NOWAIT)

    def open(self, path: str, *, create: bool) -> int:
        """Open for reading and writing; with ``create`` a missing file is made, empty."""
        return os.open(path, _READ_WRITE | (os.O_CREAT if create else 0), 0o644)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def pread(self, fd: int, length: int, position: int) -> bytes:
        """Read up to ``length`` bytes; fewer only at the end of the file."""
        data = os.pread(fd, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        missing = length - len(data)
        while missing:
            position += len(data)
            data = os.pread(fd, missing, position)
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def pread_cached(self, fd: int, length: int, position: int) -> Buffer | None:
        """Read as ``pread`` does, or return None if that would wait for the disk."""
        if not self.tells_cached:
            return self.pread(fd, length, position)
        data = bytearray(length)
        try:
            count = os.preadv(fd, (data,), position, _NOWAIT)
        except BlockingIOError:
            return None
        except OSError as caught:
            if caught.errno not in _NO_SUCH_READ:
                raise
            self.tells_cached = False
            return self.pread(fd, length, position)
        if count < length:
            if position + count < self.size(fd):
                return None
            del data[count:]
        return data

    def is_cached(self, fd: int, position: int, length: int) -> bool:
        """Return whether a stretch is in the page cache, as far as a look here and there can tell.

        The kernel fills and empties its cache by stretches; what a hole costs is one wait.
        """
        if not self.tells_cached:
            return True
        last = position + length - 1
        try:
            for at in range(position, last, _PROBE_BYTES):
                os.preadv(fd, _PROBE, at, _NOWAIT)
            os.preadv(fd, _PROBE, last, _NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            # Whatever it is, who reads will be told.
            pass
        return True

    def warm(self, fd: int, position: int, length: int, ahead: int) -> None:
        """Wait until a stretch is in the page cache, having begun with ``ahead`` bytes after it too."""
        self.read_ahead(fd, position, length + ahead)
        stop = position + length
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # Waits for the pages and copies none of them.
            while position < stop and (count := os.sendfile(null, fd, position, stop - position)):
                position += count
        finally:
            os.close(null)

    def read_ahead(self, fd: int, position: int, length: int) -> None:
        """Begin to read a stretch into the page cache, and do not wait for it; without effect on macOS."""
        if not _CAN_ADVISE:
            return
        for at in range(position, position + length, _ADVICE_BYTES):
            # The kernel cuts each down to what a device takes at once.
            os.posix_fadvise(fd, at, min(_ADVICE_BYTES, position + length - at), os.POSIX_FADV_WILLNEED)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        """Write once; return how many bytes were taken, possibly fewer than given."""
        return os.pwritev(fd, buffers, position)

    def fdatasync(self, fd: int) -> None:
        """Wait until the file's data, and the metadata needed to read it, are on the disk."""
        _sync_data(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Cut the file to ``length`` bytes."""
        os.ftruncate(fd, length)

    def map(self, fd: int, length: int) -> AbstractContextManager[Any]:
        """Return the beginning of a file as memory, for reading, until the context ends."""
        return mmap.mmap(fd, length, prot=mmap.PROT_READ)

    def lock(self, fd: int) -> None:
        """Lock the file for this process by flock and by fcntl; EWOULDBLOCK or EACCES if another has it."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _LOCKS_MEET:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def size(self, fd: int) -> int:
        """Return the file's length in bytes."""
        return os.fstat(fd).st_size

    def read_size(self, path: str) -> int | None:
        """Return the length in bytes of the file at ``path``, or None when there is none."""
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return None

    def is_directory(self, path: str) -> bool:
        """Return whether there is a directory of that name."""
        return os.path.isdir(path)

    def is_writable(self, path: str) -> bool:
        """Return whether files can be made in a directory, as far as permissions go."""
        return os.access(path, os.R_OK | os.W_OK | os.X_OK)

    def device(self, path: str) -> int:
        """Return a number that two paths share if they are on one file system."""
        return os.stat(path).st_dev

    def free_bytes(self, path: str) -> int:
        """Return how much may still be written to the file system of ``path``."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def sync_dir(self, path: str) -> None:
        """Wait until the directory's entries are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_file_system(self, path: str) -> bool:
        """Wait until all that was ever written to the file system of ``path`` is on the disk.

        Returns:
            False where the system has no such call (syncfs, Linux).
        """
        call = _syncfs()
        if call is None:
            return False
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if call(fd):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(fd)
        return True

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing ``new``."""
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        """Remove a file; one that is already gone is no error."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def fill(self, path: str, size: int) -> None:
        """Make a file of zeros that takes so many bytes of the disk, or as many as there are."""
        with open(path, "wb", buffering=0) as file:
            for at in range(0, size, _FILL_BYTES):
                file.write(bytes(min(_FILL_BYTES, size - at)))

    def mkdir(self, path: str) -> bool:
        """Make a directory; return whether it was new."""
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return False
        return True

    def rmtree(self, path: str) -> None:
        """Remove a directory and all that is in it."""
        shutil.rmtree(path)

    def listdir(self, path: str) -> list[tuple[str, int, float]]:
        """Return (name, size in bytes, time of last change in seconds) of every regular file."""
        found = []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append((entry.name, status.st_size, status.st_mtime))
        return found

    def subdirectories(self, path: str) -> list[str]:
        """Return the names of the directories in ``path``."""
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def read_bytes(self, path: str) -> bytes | None:
        """Return a whole small file, or None when there is none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            data = os.read(fd, 1 << 16)
            if len(data) < 1 << 16:
                return data
            return data + self.pread(fd, max(0, self.size(fd) - len(data)), len(data))
        finally:
            os.close(fd)

    def write_whole(self, path: str, data: Buffer, *, sync: bool = False) -> None:
        """Replace a small file at once: readers see the old content or the new, never a part."""
        temporary = path + ".tmp"
        fd = self.open(temporary, create=True)
        try:
            self.truncate(fd, 0)
            position = 0
            view = memoryview(data)
            while position < len(view):
                position += self.pwritev(fd, [view[position:]], position)
            if sync:
                self.fdatasync(fd)
        finally:
            self.close(fd)
        self.rename(temporary, path)
        if sync:
            self.sync_dir(os.path.dirname(path))


class LogFile:
    """One open file; closes itself when the last holder lets go.

    Attributes:
        warmed: where the last stretch read into the page cache ended, with what was read ahead.
        ahead: how many bytes of it were read ahead.
    """

    __slots__ = ("__weakref__", "_fd", "_files", "_warmer", "ahead", "path", "warmed")

    def __init__(self, files: Files, path: str, *, create: bool, warmer: Warmer | None = None) -> None:
        self._fd = -1
        self._files = files
        self._warmer = warmer
        self.path = path
        self.warmed = 0
        self.ahead = 0
        self._fd = files.open(path, create=create)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def read(self, position: int, length: int) -> bytes:
        """See ``OpenFile``."""
        return self._files.pread(self._fd, length, position)

    def cold(self, position: int, length: int) -> Cold | None:
        """See ``OpenFile``. Reactor thread."""
        warmer = self._warmer
        if warmer is None:
            return None
        if not self._files.is_cached(self._fd, position, length):
            return warmer.warm(self, position, length)
        warmer.hits += 1
        if self.ahead and self.warmed - self.ahead // 2 < position + length <= self.warmed:
            warmer.read_on(self)
        return None

    def read_cached(self, position: int, length: int) -> Buffer:
        """See ``OpenFile``. Reactor thread."""
        warmer = self._warmer
        if warmer is not None:
            data = self._files.pread_cached(self._fd, length, position)
            if data is not None:
                warmer.hits += 1
                return data
            cold = warmer.warm(self, position, length)
            if cold is not None:
                raise cold
        return self._files.pread(self._fd, length, position)

    def __del__(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                self._files.close(fd)
            except OSError:
                pass


class Holder(Protocol):
    """Whoever keeps a ``LogFile``; ``touched`` is set at each use, a ``created`` file is never made anew.

    ``gone``, once set, stays set: the holder was dropped, and its file is never kept again.
    """

    file: LogFile | None
    touched: bool
    created: bool
    gone: bool

    def path(self) -> str:
        """Return where the file is."""


class OpenFiles:
    """Gives holders their file and takes it back from one that did not use it lately.

    Which one is a matter of chance: whoever comes round to a few files more than may be open would find each
    one gone if the first were taken always. Those used since they were last looked at are passed over once.
    Any thread may call, and asks here at each use, or it would not be known which files are in use.

    Attributes:
        indexes: the account of which segments' indexes are in memory, of the same logs.
    """

    def __init__(self, files: Files, limit: int = 2048, warmer: Warmer | None = None) -> None:
        self.files = files
        self.warmer = warmer
        self.indexes = LoadedIndexes()
        self.limit = max(1, limit)
        self._holders: list[Holder] = []
        self._places: dict[int, int] = {}  # where each is in the list, by its id
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._holders)

    def get(self, holder: Holder) -> LogFile:
        """Return the holder's file, opening it if need be."""
        holder.touched = True
        file = holder.file
        if file is not None:
            return file
        with self._lock:
            if holder.file is not None:
                return holder.file
            while len(self._holders) >= self.limit:
                self._evict()
            file = self.with_room(
                lambda: LogFile(self.files, holder.path(), create=not holder.created, warmer=self.warmer)
            )
            if not holder.gone:
                holder.file = file
                holder.touched = False  # used once is not in use: those used again stay before it
                self._places[id(holder)] = len(self._holders)
                self._holders.append(holder)
            return file

    def with_room(self, call: Callable[[], _T]) -> _T:
        """Call what needs a descriptor, letting go of files one by one while there is none left."""
        while True:
            try:
                return call()
            except OSError as caught:
                if caught.errno not in _NO_DESCRIPTORS or not self._evict():
                    raise

    def _evict(self) -> bool:
        """Let go of a file not used since it was last looked at; return whether there was any."""
        with self._lock:
            holders = self._holders
            if not holders:
                return False
            place = randrange(len(holders))
            while (other := holders[place]).touched:
                other.touched = False
                place = (place + 1) % len(holders)
            self._take_back(other)
            return True

    def _take_back(self, holder: Holder) -> None:
        holder.file = None
        place = self._places.pop(id(holder), None)
        if place is not None:
            last = self._holders.pop()
            if last is not holder:
                self._holders[place] = last
                self._places[id(last)] = place

    def drop(self, holder: Holder) -> None:
        """Forget a holder's file, for good; ranges handed out keep it open."""
        with self._lock:
            holder.gone = True
            self._take_back(holder)

    def close(self) -> None:
        """Forget every holder's file."""
        with self._lock:
            for holder in self._holders:
                holder.file = None
            self._holders.clear()
            self._places.clear()
