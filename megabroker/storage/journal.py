"""A file in which what many logs have written is made durable by one sync, before their own files are.

Owns the file, its layout and which of it is still needed; never the logs. One *frame* holds what a round of
syncs would have synced: for each log the bytes, and where in which segment they are. The segments were
written before, into the page cache, and are synced later and elsewhere; until that is done (``settled``)
their entries stay.

    0     header   "MBSJ" | version u32 | key 16 | bytes of a half u64 | CRC-32C u32 of these, in a block
                   of its own
    4096  half, half: frames, each at a multiple of 4096, so that none shares a block with another

    frame    "MBSF" | CRC-32C u32 of what follows | bytes u32 | entries u32 | key 16 | generation u64
             | number u64, then the entries
    entry    topic id 16 | name bytes u16 | name of the log's directory | segment's base offset i64
             | position i64 | offset after the last record i64 | bytes u32 | bytes

Rounds fill one half while the logs of the other are being synced. A half is begun anew, in the next
generation, only when every log in it is settled: its frames of an older generation mean nothing then. Where
there are such, the new generation begins with a frame without entries, synced by itself: it is within one
sector, so it is there or what it replaces is, and what a crash leaves of the next never looks like damage to
the older ones.

The key is made by chance with the file: what a client has had stored never looks like a frame.

All blocks are written once when the file is made, so that a later sync waits for data alone. The file is made
when it is first of use and removed when all logs are closed in order; who finds one replays it (``replay``).
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import attrs
from crc32c import crc32c

from megabroker.model import Buffer
from megabroker.storage.files import Files

__all__ = [
    "HALF_BYTES",
    "JOURNAL",
    "MAX_FRAME_BYTES",
    "Entry",
    "Frame",
    "Journal",
    "JournalError",
    "encode_entry",
    "entry_key",
    "read_frames",
]

JOURNAL: Final = "sync-journal"
"""Its file name; with a suffix, one that another process has left."""

HALF_BYTES: Final = 32 << 20
MAX_FRAME_BYTES: Final = 4 << 20
_BLOCK: Final = 4096
_VERSION: Final = 2
_HEADER: Final = struct.Struct(">4sI16sQ")
_HEADER_CRC: Final = struct.Struct(">I")
_HEADER_MAGIC: Final = b"MBSJ"
_FRAME: Final = struct.Struct(">4sIII16sQQ")
_FRAME_MAGIC: Final = b"MBSF"
_KEY: Final = struct.Struct(">16sH")
_PLACE: Final = struct.Struct(">qqqI")
_CRC_START: Final = 8
_FILL_BYTES: Final = 1 << 20
_LEAST_FREE: Final = 4
"""So many times its size must be free for it to be made."""


class JournalError(Exception):
    """A file is no journal, or none that this version can read."""


class Entry(NamedTuple):
    """Bytes of one log.

    Attributes:
        name: the log's directory, without the path.
        segment: base offset of the segment they are in.
        end_offset: the offset after their last record.
    """

    topic_id: bytes
    name: str
    segment: int
    position: int
    end_offset: int
    data: bytes


class Frame(NamedTuple):
    """One round; ``number`` counts those of a generation from 0."""

    generation: int
    number: int
    entries: list[Entry]


def entry_key(topic_id: bytes, name: str) -> bytes:
    """Return what begins every entry of a log."""
    encoded = name.encode()
    return _KEY.pack(topic_id, len(encoded)) + encoded


def encode_entry(
    key: bytes, segment: int, position: int, end_offset: int, data: Sequence[Buffer]
) -> list[Buffer]:
    """Return an entry in parts."""
    return [key, _PLACE.pack(segment, position, end_offset, sum(map(len, data))), *data]


def _encode_frame(key: bytes, generation: int, number: int, count: int, parts: Sequence[Buffer]) -> bytearray:
    """Return a frame, filled up to whole blocks."""
    frame = bytearray(_FRAME.size)
    for part in parts:
        frame += part
    length = len(frame)
    _FRAME.pack_into(frame, 0, _FRAME_MAGIC, 0, length, count, key, generation, number)
    struct.pack_into(">I", frame, 4, crc32c(memoryview(frame)[_CRC_START:length]))
    frame += bytes(-length % _BLOCK)
    return frame


def _decode_entries(body: bytes, count: int) -> list[Entry]:
    """Raises struct.error, UnicodeError and ValueError: it is no row of entries."""
    entries: list[Entry] = []
    at = 0
    for _ in range(count):
        topic_id, name_bytes = _KEY.unpack_from(body, at)
        at += _KEY.size
        name = body[at : at + name_bytes].decode()
        at += name_bytes
        segment, position, end_offset, length = _PLACE.unpack_from(body, at)
        at += _PLACE.size
        if at + length > len(body) or min(segment, position, end_offset) < 0:
            raise ValueError("an entry reaches beyond its frame")
        entries.append(Entry(topic_id, name, segment, position, end_offset, body[at : at + length]))
        at += length
    if at != len(body):
        raise ValueError("bytes after the last entry")
    return entries


def _read_frame(files: Files, fd: int, key: bytes, at: int, stop: int) -> tuple[Frame, int] | None:
    """Return the frame at a position and its length, or None when there is none. Raises OSError."""
    head = files.pread(fd, _FRAME.size, at)
    if len(head) < _FRAME.size:
        return None
    magic, crc, length, count, found, generation, number = _FRAME.unpack(head)
    if magic != _FRAME_MAGIC or found != key or not _FRAME.size <= length <= stop - at:
        return None
    data = files.pread(fd, length, at)
    if len(data) < length or crc32c(memoryview(data)[_CRC_START:]) != crc:
        return None
    try:
        return Frame(generation, number, _decode_entries(data[_FRAME.size :], count)), length
    except (struct.error, ValueError):
        return None


def read_frames(files: Files, fd: int) -> Iterator[tuple[Iterator[Frame], int]]:
    """Yield the frames of each half's newest generation, the older half first, and how many are missing.

    A frame that is missing between others was synced and cannot be read any more; what the last write had
    begun is not counted. One frame at a time is in memory.

    Raises:
        OSError: it cannot be read.
        JournalError: it is no journal of this version.
    """
    size = _HEADER.size
    header = files.pread(fd, size + _HEADER_CRC.size, 0)
    if len(header) < size + _HEADER_CRC.size:
        raise JournalError("it is too short")
    magic, version, key, half_bytes = _HEADER.unpack_from(header)
    if magic == _HEADER_MAGIC and version != _VERSION:
        raise JournalError(f"it has version {version}; expected {_VERSION}")
    if magic != _HEADER_MAGIC or header[size:] != _HEADER_CRC.pack(crc32c(header[:size])):
        raise JournalError("its header is damaged")
    halves = [_find_frames(files, fd, key, start, half_bytes) for start in (_BLOCK, _BLOCK + half_bytes)]
    for half in sorted(filter(None, halves), key=lambda half: half[0].generation):
        yield _frames_at(files, fd, key, half), half[-1].number + 1 - len(half)


class _Found(NamedTuple):
    """Where a frame is."""

    generation: int
    number: int
    at: int
    stop: int


def _find_frames(files: Files, fd: int, key: bytes, start: int, half_bytes: int) -> list[_Found]:
    found: list[_Found] = []
    at, stop = start, min(start + half_bytes, files.size(fd))
    while at < stop:
        read = _read_frame(files, fd, key, at, stop)
        if read is None:
            at += _BLOCK
            continue
        frame, length = read
        one = _Found(frame.generation, frame.number, at, at + length)
        at += length + -length % _BLOCK
        if found and one.generation > found[0].generation:
            found = []
        if not found or one.generation == found[0].generation:
            found.append(one)
    return found


def _frames_at(files: Files, fd: int, key: bytes, places: Sequence[_Found]) -> Iterator[Frame]:
    for place in places:
        read = _read_frame(files, fd, key, place.at, place.stop)
        if read is None:
            raise OSError(errno.EIO, "a frame of the journal reads otherwise than just before")
        yield read[0]


@attrs.define(eq=False)
class _Half:
    """One half of the file.

    Attributes:
        start: where it begins.
        used: bytes that frames have.
        held: by log, the offset up to which its bytes here are not known to be on the disk elsewhere.
    """

    start: int
    generation: int = 0
    number: int = 0
    used: int = 0
    held: dict[Any, int] = attrs.field(factory=dict)


class Journal:
    """See the module. ``append`` is called by one thread, the rest by any.

    Attributes:
        is_there: whether there is a file of it.
        ready: whether it can be appended to.
        turned: set when a half is full: the logs in the other one than the current are due.
    """

    def __init__(self, files: Files, path: str, half_bytes: int = HALF_BYTES) -> None:
        self.path = path
        self.is_there = False
        self.ready = False
        self.turned = False
        self._files = files
        self._half_bytes = half_bytes
        self._fd = -1
        self._key = b""
        self._halves = [_Half(_BLOCK), _Half(_BLOCK + half_bytes)]
        self._lock = threading.Lock()

    def make(self) -> None:
        """Make the file, every block of it written, which takes a while.

        Raises:
            OSError: there is none. ENOSPC too where it would leave the logs little room.
        """
        files = self._files
        size, place = _BLOCK + 2 * self._half_bytes, os.path.dirname(self.path)
        if files.free_bytes(place) < _LEAST_FREE * size:
            raise OSError(errno.ENOSPC, f"less than {_LEAST_FREE * size} bytes are free", place)
        key = os.urandom(16)
        temporary = self.path + ".tmp"
        fd = files.open(temporary, create=True)
        try:
            files.truncate(fd, 0)
            # Synced bit by bit: all at once would hold up whoever else waits for the file system meanwhile.
            for at in range(_BLOCK, size, _FILL_BYTES):
                self._write(fd, bytes(min(_FILL_BYTES, size - at)), at)
                files.fdatasync(fd)
            header = _HEADER.pack(_HEADER_MAGIC, _VERSION, key, self._half_bytes)
            header += _HEADER_CRC.pack(crc32c(header))
            self._write(fd, header.ljust(_BLOCK, b"\0"), 0)
            files.fdatasync(fd)
            files.rename(temporary, self.path)
            files.sync_dir(place)
        except OSError:
            files.close(fd)
            files.unlink(temporary)
            raise
        self._fd, self._key = fd, key
        self.is_there = True
        self._halves[0].generation = 1
        self._halves[1].generation = 0
        self.ready = True

    def _write(self, fd: int, data: Buffer, position: int) -> None:
        view = memoryview(data)
        while view:
            taken = self._files.pwritev(fd, [view], position)
            view = view[taken:]
            position += taken

    def append(self, parts: Sequence[Buffer], count: int, logs: dict[Any, int]) -> bool:
        """Write a frame and sync it.

        Args:
            parts: of the entries.
            count: how many entries there are.
            logs: the offset after each log's last record in it.

        Returns:
            False if there is no room until the logs of the other half are settled.

        Raises:
            OSError: nobody knows what the file holds of it; the journal must not be appended to again.
        """
        current, other = self._halves
        frame = _encode_frame(self._key, current.generation, current.number, count, parts)
        if current.used + len(frame) > self._half_bytes:
            with self._lock:
                self.turned = True
                if other.held or _BLOCK + len(frame) > self._half_bytes:
                    return False
                self._halves = [other, current]
            self._begin(other, current.generation + 1)
            current = other
            frame = _encode_frame(self._key, current.generation, current.number, count, parts)
        self._write(self._fd, frame, current.start + current.used)
        self._files.fdatasync(self._fd)
        current.used += len(frame)
        current.number += 1
        with self._lock:
            current.held.update(logs)
        return True

    def _begin(self, half: _Half, generation: int) -> None:
        """Begin a half anew. Raises OSError."""
        former, half.generation = half.generation, generation
        half.number = half.used = 0
        if former:
            mark = _encode_frame(self._key, generation, 0, 0, ())
            # Not the whole block: of that, a power cut may leave any sectors.
            self._write(self._fd, memoryview(mark)[: _FRAME.size], half.start)
            self._files.fdatasync(self._fd)
            half.number, half.used = 1, _BLOCK

    def held(self, *, all_of_it: bool) -> dict[Any, int]:
        """Return which logs have entries that are needed, and up to where: of the full half, or of both."""
        self.turned = False
        with self._lock:
            return {**self._halves[1].held, **(self._halves[0].held if all_of_it else {})}

    def settled(self, log: Any, offset: int) -> None:
        """Everything of a log below ``offset`` is on the disk in its own files, or is not needed any more."""
        with self._lock:
            for half in self._halves:
                if half.held.get(log, offset + 1) <= offset:
                    del half.held[log]

    def close(self) -> None:
        """Append no more; what is in the file stays."""
        self.ready = False
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._files.close(fd)

    def remove(self) -> None:
        """Remove the file: all that it holds is on the disk elsewhere. Raises OSError."""
        self.close()
        if self.is_there:
            self._files.unlink(self.path)
            self._files.sync_dir(os.path.dirname(self.path))
            self.is_there = False
