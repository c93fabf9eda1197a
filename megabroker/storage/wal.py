"""SQLite's write-ahead log, as far as finding damage in it goes: SQLite itself passes over it in silence.

Owns the check, not the file. SQLite reads frames until one fails its checksum and takes that for the end of
what was written. What follows in the current generation (same salts) was written later. One commit of it may
be what a power cut has torn, for it was not acknowledged; where there are two, the first was, before the
second began.

    header  magic u32, odd: checksums are big-endian | version | page size | number | salt 8 | checksum 8
    frame   page u32 | pages after commit u32 | salt 8 | checksum 8 | page

The checksum goes on from frame to frame. Source: "The SQLite Database File Format", section 4.
"""

from __future__ import annotations

import os
import struct
from array import array
from typing import BinaryIO, Final

__all__ = ["damaged_at"]

_HEADER: Final = struct.Struct(">4I8sII")
_FRAME: Final = struct.Struct(">II8sII")
_MAGIC: Final = 0x377F0682
_MASK: Final = 0xFFFFFFFF
_MANY: Final = 1 << 30


def damaged_at(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return where reading ends too early, and how many commits are from there on; None if it does not.

    Blocking, seconds for some megabytes; a file that is absent or empty has no damage. Raises OSError.
    """
    try:
        with open(path, "rb") as file:
            return _damaged_at(file)
    except FileNotFoundError:
        return None


def _damaged_at(file: BinaryIO) -> tuple[int, int] | None:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, _, page_bytes, _, salt, first, second = _HEADER.unpack(header)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or _sum(header[:24], order, 0, 0) != (first, second):
        return 0, _MANY
    sums = (first, second)
    bad, commits = -1, 0
    position = _HEADER.size
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        _, pages, found, *wanted = _FRAME.unpack(head)
        page = file.read(page_bytes)
        if len(page) < page_bytes:
            break
        if bad < 0:
            sums = _sum(page, order, *_sum(head[:8], order, *sums))
            if sums != tuple(wanted) or found != salt:
                bad = position
        if bad >= 0 and pages and (found == salt or position == bad):
            commits += found == salt or sums == tuple(wanted)
        position += _FRAME.size + page_bytes
    return (bad, commits) if commits else None


def _sum(data: bytes, order: str, first: int, second: int) -> tuple[int, int]:
    words = array("I", data)
    if (order == ">") != (struct.pack("=H", 1) == b"\x00\x01"):
        words.byteswap()
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & _MASK
        second = (second + words[at + 1] + first) & _MASK
    return first, second
