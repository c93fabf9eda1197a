"""The deduplication window on disk: a journal of message ids, one file per slice of time.

Owns the directory ``dedup``; of several processes each has one of its own, ``dedup/<node id>``, and reads
those of the others at its start. A file is named by its slice, ``<start ms>-<width ms>.ids``, and holds
entries whose time lies in it, in the order they were confirmed::

    0        8        16       24       28
    | scope  | id     | time   | CRC  |     big-endian: u64, u64, i64 epoch milliseconds, CRC-32C u32

Never rewrites a file: expiry unlinks whole slices. The invariant: once ``append`` returns, its entries
survive kill -9; they are not fsynced, and what a power cut leaves of them is recognised by its length or its
check. A damaged journal costs at worst a repeat stored twice: damage is reported and never stops the broker.
"""

from __future__ import annotations

import errno
import os
import pathlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from crc32c import crc32c
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.errors import ErrorCode, StorageError
from megabroker.interfaces import IWindowStore

__all__ = ["ENTRY_BYTES", "FileWindowStore", "MemoryWindowStore", "damaged_entries", "slice_files"]

_log = Logger()

_ENTRY: Final = struct.Struct(">QQqI")
ENTRY_BYTES: Final = _ENTRY.size
_BODY: Final = struct.Struct(">QQq")
_SLICES_PER_WINDOW: Final = 6
_NARROWEST_MS: Final = 1000
_READ_BYTES: Final = 4096 * _ENTRY.size
_NAME = re.compile(r"([0-9]{1,18})-([1-9][0-9]{0,14})\.ids")

Entry = tuple[int, int, int]


class _Slice(NamedTuple):
    start_ms: int
    width_ms: int

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.width_ms

    @property
    def name(self) -> str:
        return f"{self.start_ms}-{self.width_ms}.ids"


@implementer(IWindowStore)
class FileWindowStore:
    """The journal in files.

    Args:
        directory: where the files are; created when first needed.
        window_ms: the window, of which a file covers one sixth; files of another width are read as well.
        beside: journals of other processes, there may be some by these names; they are read, and rid of
            what has expired, and never written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        window_ms: int,
        beside: Callable[[], Iterable[pathlib.Path]] = tuple,
    ) -> None:
        self.directory = pathlib.Path(directory)
        self._beside = beside
        self.damaged_entries = 0
        self._width_ms = max(_NARROWEST_MS, window_ms // _SLICES_PER_WINDOW)
        self._slices: set[_Slice] | None = None
        self._descriptor: int | None = None
        self._open_slice: _Slice | None = None

    def load(self, since_ms: int) -> Iterable[Entry]:
        """Yield entries not older than ``since_ms``, slice by slice. Blocking.

        Raises:
            StorageError: the directory cannot be read.
        """
        pieces = [(piece, self.directory) for piece in self._known()]
        for directory in self._beside():
            pieces += [(piece, directory) for piece in _slices(directory)]
        for piece, directory in sorted(pieces):
            if piece.end_ms > since_ms:
                yield from self._read(directory / piece.name, piece, since_ms)

    def _known(self) -> set[_Slice]:
        if self._slices is None:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._slices = _slices(self.directory)
            except OSError as error:
                raise _storage_error(self.directory, error) from error
        return self._slices

    def _read(self, path: pathlib.Path, piece: _Slice, since_ms: int) -> Iterator[Entry]:
        damaged = 0
        try:
            with open(path, "rb", buffering=0) as file:
                held = b""
                while chunk := file.read(_READ_BYTES):
                    held += chunk
                    whole = len(held) - len(held) % _ENTRY.size
                    for _, entry, is_sound in _entries(held[:whole], piece):
                        if not is_sound:
                            damaged += 1
                        elif entry[2] >= since_ms:
                            yield entry
                    held = held[whole:]
        except OSError as error:
            _log.error("deduplication journal {path} cannot be read: {error}", path=str(path), error=error)
        if damaged:
            self.damaged_entries += damaged
            _log.error(
                "deduplication journal {path} is damaged: {count} entries ignored",
                path=str(path),
                count=damaged,
            )

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries with one write, or one per slice when they straddle a boundary.

        Raises:
            StorageError: they could not be written; none of the failing slice is in the file.
        """
        by_slice: dict[int, bytearray] = {}
        for entry in entries:
            start_ms = entry[2] - entry[2] % self._width_ms
            data = by_slice.setdefault(start_ms, bytearray())
            body = _BODY.pack(*entry)
            data += body
            data += crc32c(body).to_bytes(4, "big")
        for start_ms in sorted(by_slice):
            piece = _Slice(start_ms, self._width_ms)
            try:
                self._write(self._opened(piece), by_slice[start_ms])
            except OSError as error:
                self._close_file()
                raise _storage_error(self.directory / piece.name, error) from error

    def _opened(self, piece: _Slice) -> int:
        """Return the descriptor of a slice's file, its end on an entry's boundary."""
        if self._descriptor is not None and self._open_slice == piece:
            return self._descriptor
        self._close_file()
        known = self._known()
        path = self.directory / piece.name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._descriptor, self._open_slice = descriptor, piece
        known.add(piece)
        size = os.fstat(descriptor).st_size
        if size % _ENTRY.size:
            os.ftruncate(descriptor, size - size % _ENTRY.size)
        return descriptor

    def _write(self, descriptor: int, data: bytearray) -> None:
        written = os.write(descriptor, data)
        if written == len(data):
            return
        # A short write means a full disk; the file goes back to where it was.
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def expire(self, before_ms: int) -> None:
        """Unlink slices that end at or before ``before_ms``; a file that cannot be is reported once."""
        for piece in [known for known in self._known() if known.end_ms <= before_ms]:
            if piece == self._open_slice:
                self._close_file()
            _unlink(self.directory / piece.name)
            self._known().discard(piece)
        for directory in self._beside():
            for piece in _slices(directory):
                if piece.end_ms <= before_ms:
                    _unlink(directory / piece.name)

    def close(self) -> None:
        """Close the file being written; the store may be used again."""
        self._close_file()
        self._slices = None

    def _close_file(self) -> None:
        descriptor, self._descriptor, self._open_slice = self._descriptor, None, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError as error:
                _log.error("closing a deduplication journal failed: {error}", error=error)


def slice_files(directory: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of a journal, the oldest slice first. Raises OSError."""
    return [directory / piece.name for piece in sorted(_slices(directory))]


def damaged_entries(path: pathlib.Path) -> tuple[list[int], int]:
    """Return where in a file of ``slice_files`` entries are damaged, and how many bytes at its end are none.

    Raises:
        OSError: it cannot be read.
    """
    found = _NAME.fullmatch(path.name)
    assert found is not None
    piece = _Slice(int(found[1]), int(found[2]))
    data = path.read_bytes()
    whole = len(data) - len(data) % _ENTRY.size
    positions = [position for position, _, is_sound in _entries(data[:whole], piece) if not is_sound]
    return positions, len(data) - whole


def _entries(data: bytes, piece: _Slice) -> Iterator[tuple[int, Entry, bool]]:
    """Yield the position of each entry, the entry, and whether it is what was written."""
    for at, (scope, message_id, time_ms, crc) in enumerate(_ENTRY.iter_unpack(data)):
        position = at * _ENTRY.size
        right = crc32c(memoryview(data)[position : position + _BODY.size])
        sound = right == crc and piece.start_ms <= time_ms < piece.end_ms
        yield position, (scope, message_id, time_ms), sound


def _slices(directory: pathlib.Path) -> set[_Slice]:
    """Return the slices in a directory. Raises OSError."""
    matches = (_NAME.fullmatch(name) for name in os.listdir(directory))
    return {_Slice(int(found[1]), int(found[2])) for found in matches if found}


def _unlink(path: pathlib.Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.error("deduplication journal {path} cannot be deleted: {error}", path=str(path), error=error)


def _storage_error(path: pathlib.Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = ErrorCode.DISK_FULL if full else ErrorCode.STORAGE
    return StorageError(code, f"deduplication journal {path}: {error.strerror or error}")


@implementer(IWindowStore)
class MemoryWindowStore:
    """The journal in memory, for ``storage: memory`` and for tests; it outlives ``close`` only."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def load(self, since_ms: int) -> Iterable[Entry]:
        """Yield entries not older than ``since_ms``."""
        return [entry for entry in self._entries if entry[2] >= since_ms]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries."""
        self._entries.extend(entries)

    def expire(self, before_ms: int) -> None:
        """Forget entries older than ``before_ms``."""
        self._entries = [entry for entry in self._entries if entry[2] >= before_ms]

    def close(self) -> None:
        """Nothing to release."""
