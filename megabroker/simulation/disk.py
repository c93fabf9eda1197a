"""A disk that knows what is synced, and so what it may hold after its power was cut.

Owns files and directories in memory. What a process sees is what it wrote; what is *stable* is what was
there at the last sync; between the two lie the changes since then. A cut of the power keeps of these what
chance has it: of a file's, each write or truncation wholly, not at all, or some sectors of it with zeros
for the others; of a directory's, either the first so many of all, as a journaling file system has it, or
each by itself.

A sync that failed may have lost what it should have written: it is still seen, and will never be stable
(Linux marks the pages clean).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from random import Random
from typing import Final

__all__ = ["Directory", "Disk", "File"]

SECTOR_BYTES: Final = 512


class File:
    """Content, as seen and as stable; a change is a write (position, bytes) or a length (length, None)."""

    __slots__ = ("changed", "data", "pending", "stable")

    def __init__(self, now: float) -> None:
        self.data = bytearray()
        self.stable = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []
        self.changed = now

    def change(self, at: int, data: bytes | None, now: float) -> None:
        """Write, or cut or extend."""
        _apply(self.data, at, data)
        self.pending.append((at, data))
        self.changed = now

    def sync(self) -> None:
        """Make what is pending stable."""
        for at, data in self.pending:
            _apply(self.stable, at, data)
        self.pending.clear()

    def fail_sync(self, dice: Random) -> None:
        """Forget for good some of what is pending."""
        self.pending = [change for change in self.pending if dice.random() < 0.5]

    def lose_power(self, dice: Random) -> None:
        """Hold what the disk may hold."""
        for at, data in self.pending:
            fate = dice.random()
            if fate < 0.35:
                _apply(self.stable, at, data)
            elif fate < 0.7 and data is not None:
                _tear(self.stable, at, data, dice)
        self.pending.clear()
        self.data = bytearray(self.stable)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    end = at if data is None else at + len(data)
    if data is None:
        del content[at:]
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is not None:
        content[at:end] = data


def _tear(content: bytearray, at: int, data: bytes, dice: Random) -> None:
    """Apply some sectors of a write, or only its beginning."""
    if dice.random() < 0.5:
        _apply(content, at, data[: dice.randrange(len(data) + 1)])
        return
    end = at + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    place = at
    while place < end:
        stop = min(end, place - place % SECTOR_BYTES + SECTOR_BYTES)
        if dice.random() < 0.5:
            content[place:stop] = data[place - at : stop - at]
        place = stop


class Directory:
    """Names, as seen and as stable. A change gives or takes (None) a name; a renaming does both at once."""

    __slots__ = ("entries", "pending", "stable")

    def __init__(self) -> None:
        self.entries: dict[str, File | Directory] = {}
        self.stable: dict[str, File | Directory] = {}
        self.pending: list[tuple[int, str | None, str | None, File | Directory | None]] = []

    def sync(self) -> None:
        """Make the names stable."""
        self.stable = dict(self.entries)
        self.pending.clear()

    def lose_power(self, dice: Random, kept: float) -> None:
        """Hold what the disk may hold; of name changes those numbered below ``kept``, else some."""
        for number, gone, come, node in self.pending:
            if (number < kept) if kept >= 0 else (dice.random() < 0.5):
                _rename(self.stable, gone, come, node)
        self.pending.clear()
        self.entries = dict(self.stable)
        for node in self.entries.values():
            if isinstance(node, File):
                node.lose_power(dice)
            else:
                node.lose_power(dice, kept)


def _rename(
    names: dict[str, File | Directory], gone: str | None, come: str | None, node: File | Directory | None
) -> None:
    if gone is not None:
        names.pop(gone, None)
    if come is not None and node is not None:
        names[come] = node


class Disk:
    """A file system.

    Attributes:
        full: whether there is no room for anything more.
    """

    def __init__(self) -> None:
        self.root = Directory()
        self.full = False
        self._changes = 0

    def find(self, path: str) -> File | Directory | None:
        """Return what is at a path."""
        node: File | Directory | None = self.root
        for name in path.split("/"):
            if name:
                if not isinstance(node, Directory):
                    return None
                node = node.entries.get(name)
        return node

    def directory(self, path: str) -> Directory:
        """Return a directory. Raises FileNotFoundError, NotADirectoryError."""
        found = self.find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if isinstance(found, File):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found

    def name(self, path: str, node: File | Directory | None, former: str | None = None) -> None:
        """Give a name to something or, with None, take it away; ``former`` is a name it loses."""
        parent, _, name = path.rpartition("/")
        directory = self.directory(parent)
        old = None if former is None else former.rpartition("/")[2]
        come, gone = (None, name) if node is None else (name, old)
        _rename(directory.entries, gone, come, node)
        self._changes += 1
        directory.pending.append((self._changes, gone, come, node))

    def sync_all(self) -> None:
        """Make everything stable."""
        for directory in self.directories():
            directory.sync()
            for node in directory.entries.values():
                if isinstance(node, File):
                    node.sync()

    def lose_power(self, dice: Random) -> None:
        """Become what the disk may hold."""
        kept = -1.0
        if dice.random() < 0.5:
            numbers = sorted(change[0] for one in self.directories() for change in one.pending)
            kept = dice.choice([0, *(number + 1 for number in numbers)])
        self.root.lose_power(dice, kept)

    def directories(self) -> Iterator[Directory]:
        """Yield every directory there is or may be."""
        seen: dict[int, Directory] = {id(self.root): self.root}
        queue = [self.root]
        while queue:
            one = queue.pop()
            yield one
            changed = [change[3] for change in one.pending]
            for node in (*one.entries.values(), *one.stable.values(), *changed):
                if isinstance(node, Directory) and id(node) not in seen:
                    seen[id(node)] = node
                    queue.append(node)

    def files(self) -> Iterator[tuple[str, File]]:
        """Yield every file as seen, by path, in the order of the names."""
        queue: list[tuple[str, Directory]] = [("", self.root)]
        while queue:
            path, directory = queue.pop()
            for name in sorted(directory.entries):
                node = directory.entries[name]
                if isinstance(node, File):
                    yield f"{path}/{name}", node
                else:
                    queue.append((f"{path}/{name}", node))
