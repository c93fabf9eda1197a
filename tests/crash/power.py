"""A file system that can lose its power: what was not synced is gone, there, or torn, as chance has it.

The files are real ones in a directory; beside them is kept what the disk is certain to have. A write is on
the disk when its file was synced after it, a name when its directory was. At ``lose_power`` the directory
becomes what a disk could hold then: of each file's unsynced writes, in sectors, some have arrived and some
have not, across all files; of the changes of names, which a journaling file system keeps in order, the first.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Sequence

from megabroker.model import Buffer
from megabroker.storage.files import Files

_SECTOR = 512


class Node:
    """A file: what is certain, and what was done since."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.pending: list[tuple[int, bytes] | int] = []  # a write, or a new length

    def settle(self) -> None:
        for change in self.pending:
            self._apply(change)
        self.pending.clear()

    def _apply(self, change: tuple[int, bytes] | int) -> None:
        if isinstance(change, int):
            del self.content[change:]
            self.content.extend(bytes(change - len(self.content)))
        else:
            position, data = change
            self.content.extend(bytes(max(0, position - len(self.content))))
            self.content[position : position + len(data)] = data

    def guess(self, dice: random.Random) -> bytes:
        """Return what the disk may hold of it."""
        for change in self.pending:
            fate = dice.random()
            if isinstance(change, int):
                if fate < 0.5:
                    self._apply(change)
                continue
            position, data = change
            if fate < 0.3:
                continue
            if fate < 0.5:  # the new length has arrived, of the data some sectors
                self.content.extend(bytes(max(0, position + len(data) - len(self.content))))
                at = 0
                while at < len(data):
                    stop = min(len(data), at + _SECTOR - (position + at) % _SECTOR)
                    if dice.random() < 0.5:
                        self.content[position + at : position + stop] = data[at:stop]
                    at = stop
                continue
            self._apply(change)
        return bytes(self.content)


class PowerFiles(Files):
    """See the module. ``changes_left`` changes are made; then all fail.

    Attributes:
        skipped_syncs: how the names end of files that are not synced when they should be.
    """

    def __init__(self, root: str, changes_left: float = float("inf")) -> None:
        self.root = root
        self.changes_left = changes_left
        self.changes = 0
        self.skipped_syncs: tuple[str, ...] = ()
        self._names: dict[str, Node | None] = {}  # certain; None is a directory
        self._live: dict[str, Node | None] = {}
        self._renamings: list[
            tuple[str, str, Node | bool | None]
        ] = []  # directory, path, what (False: nothing)
        self._open: dict[int, Node] = {}
        for directory, directories, names in os.walk(root):
            self._live.update({f"{directory}/{name}": None for name in directories})
            for name in names:
                with open(f"{directory}/{name}", "rb") as file:
                    self._live[f"{directory}/{name}"] = Node(file.read())
        self._names.update(self._live)

    def _change(self) -> None:
        self.changes += 1
        self.changes_left -= 1
        if self.changes_left < 0:
            raise OSError(errno.EIO, "no power")

    def _set(self, path: str, what: Node | bool | None) -> None:
        if what is False:
            self._live.pop(path, None)
        else:
            assert not isinstance(what, bool)
            self._live[path] = what
        self._renamings.append((os.path.dirname(path), path, what))

    def _apply(self, path: str, what: Node | bool | None) -> None:
        if what is False:
            self._names.pop(path, None)
        else:
            assert not isinstance(what, bool)
            self._names[path] = what

    # --- Files ----------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool) -> int:
        if path not in self._live and create:
            self._change()
            self._set(path, Node())
        fd = super().open(path, create=create)
        node = self._live[path]
        assert node is not None
        self._open[fd] = node
        return fd

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)
        super().close(fd)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self._change()
        self._open[fd].pending.append((position, b"".join(buffers)))
        return super().pwritev(fd, buffers, position)

    def truncate(self, fd: int, length: int) -> None:
        self._change()
        self._open[fd].pending.append(length)
        super().truncate(fd, length)

    def fdatasync(self, fd: int) -> None:
        self._change()
        if not os.readlink(f"/proc/self/fd/{fd}").endswith(self.skipped_syncs or ("/",)):
            self._open[fd].settle()

    def sync_dir(self, path: str) -> None:
        self._change()
        rest = []
        for directory, name, what in self._renamings:
            if directory == path:
                self._apply(name, what)
            else:
                rest.append((directory, name, what))
        self._renamings = rest

    def sync_file_system(self, path: str) -> bool:
        self._change()
        for _, name, what in self._renamings:
            self._apply(name, what)
        self._renamings.clear()
        for node in self._names.values():
            if node is not None:
                node.settle()
        return True

    def rename(self, old: str, new: str) -> None:
        self._change()
        super().rename(old, new)
        moved = [
            (path, what) for path, what in self._live.items() if path == old or path.startswith(f"{old}/")
        ]
        for path, what in moved:
            self._set(path, False)
            self._set(new + path[len(old) :], what)
            if path != old:  # what is in a directory goes with it, in one change
                for at in (-1, -2):
                    self._renamings[at] = (os.path.dirname(new), *self._renamings[at][1:])

    def unlink(self, path: str) -> None:
        if path in self._live:
            self._change()
            super().unlink(path)
            self._set(path, False)

    def mkdir(self, path: str) -> bool:
        if path in self._live:
            return False
        self._change()
        self._set(path, None)
        return super().mkdir(path)

    def rmtree(self, path: str) -> None:
        self._change()
        super().rmtree(path)
        for one in [one for one in self._live if one == path or one.startswith(f"{path}/")]:
            self._set(one, False)

    # --- the end --------------------------------------------------------------------------------

    def lose_power(self, seed: int) -> None:
        """Make the directory what the disk may hold."""
        dice = random.Random(seed)
        for _, path, what in self._renamings[: dice.randrange(len(self._renamings) + 1)]:
            self._apply(path, what)
        shutil.rmtree(self.root)
        os.mkdir(self.root)
        for path in sorted(path for path, node in self._names.items() if node is None):
            os.makedirs(path, exist_ok=True)
        for path, node in self._names.items():
            if node is not None and os.path.isdir(os.path.dirname(path)):
                with open(path, "wb") as file:
                    file.write(node.guess(dice))
