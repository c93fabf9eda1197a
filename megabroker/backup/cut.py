"""One moment of a broker's files, found while it writes them.

Owns the order in which files are looked at. The rows of the metadata are held still meanwhile, which takes
milliseconds, and clients go on producing and consuming. That makes the moment whole:

- Whatever a log has that a row must come before (the beginning of a transaction, its outcome, a topic), the
  row was committed before it was written, so it is among those that are held.
- Whatever a row says that a log must have (markers that are written, records below a committed offset), was
  written before that row, so before the log was looked at.
- An id in the deduplication journal is looked at before the logs, which have had its message before.

A log is looked at twice, with its files linked in between: if the same files are there both times, then so
they were at one moment. Their lengths are those of the second look; what had begun to be written is the torn
tail that a kill leaves.

A sync journal of a running broker is left out: what it holds is in the logs' files already, as any process
sees them. Only a start replays one, after a power cut, and no backup is taken before that is done.
"""

from __future__ import annotations

import os
import pathlib
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import attrs

from megabroker.backup import rows
from megabroker.backup.pins import Pins
from megabroker.errors import ErrorCode, StorageError
from megabroker.inspection.places import Places
from megabroker.inspection.reading import ReadOnlyFiles
from megabroker.model import TopicPartition
from megabroker.storage.metadata.database import METADATA_FILE
from megabroker.storage.recovery import SYNC_FAILED
from megabroker.storage.swap import CLEANED, DELETED
from megabroker.storage.window import ENTRY_BYTES

__all__ = ["Cut", "Held", "cut"]

Offsets = Mapping[TopicPartition, int]

_PARTITION: Final = re.compile(r"(.+)-(0|[1-9][0-9]{0,9})")
_LEFT_OUT: Final = (DELETED, CLEANED, ".tmp", SYNC_FAILED)
_DEDUP: Final = "dedup"
_HELD_SECONDS: Final = 3.0
"""Below what a broker waits for its turn to commit."""
_LOOKS: Final = 100


class Held(NamedTuple):
    """A file of the moment.

    Attributes:
        name: in the copy, relative to its directory.
        source: where its bytes stay for now.
    """

    name: str
    source: pathlib.Path
    size_bytes: int


@attrs.frozen
class Cut:
    """The moment.

    Attributes:
        reader: sees the rows, if the broker runs; else its files are to be copied.
        held_ms: for how long nobody could commit.
        known: what the small files said before it.
    """

    reader: sqlite3.Connection | None
    held_ms: float
    known: Places
    logs: Mapping[TopicPartition, Sequence[Held]]
    dedup: Sequence[Held]


@contextmanager
def cut(paths: Sequence[pathlib.Path], pins: Mapping[pathlib.Path, Pins], *, running: bool) -> Iterator[Cut]:
    """Find a moment; its files can be read until the context ends.

    Args:
        paths: the data directories, the main one first.
        pins: what holds the files of each.
        running: whether a broker has the directories, else the caller keeps brokers out.

    Raises:
        OSError: a file cannot be read.
        StorageError: there is no such moment: a start has not replayed its journal yet, the metadata cannot
            be held, or looking takes too long.
    """
    before = Places.read(ReadOnlyFiles(), paths)
    if running:
        _refuse_replay(paths[0], before)
    looks = _Looks(pins)
    for path in paths:
        looks.first(path)
    if not running:
        yield Cut(None, 0.0, before, looks.logs(paths, None), looks.tree(paths[0], _DEDUP))
        return
    with rows.held(paths[0] / METADATA_FILE) as reader:
        started = time.monotonic()
        try:
            dedup = looks.tree(paths[0], _DEDUP)
            logs = looks.logs(paths, started + _HELD_SECONDS)
        except BaseException:
            reader.close()
            raise
    held_ms = (time.monotonic() - started) * 1000
    try:
        yield Cut(reader, held_ms, _of_both(before, Places.read(ReadOnlyFiles(), paths)), logs, dedup)
    finally:
        reader.close()


def _of_both(before: Places, after: Places) -> Places:
    """Return the lesser offset of each log: they only grow, unless it is another log of that name."""

    def lesser(one: Offsets, other: Offsets) -> dict[TopicPartition, int]:
        return {name: min(at, other[name]) for name, at in one.items() if name in other}

    return attrs.evolve(
        before,
        points=lesser(before.points, after.points),
        starts=lesser(before.starts, after.starts),
        cleaned={**after.cleaned, **lesser(before.cleaned, after.cleaned)},
    )


def _refuse_replay(main: pathlib.Path, before: Places) -> None:
    """Refuse a journal from before the start of the broker that runs: it may not have been replayed yet."""
    started = (main / ".lock").stat().st_mtime
    for journal in before.journals:
        try:
            if os.stat(journal).st_mtime < started:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"{main}: the broker is about to replay {journal}: expected it to be ready",
                )
        except FileNotFoundError:
            continue


class _Looks:
    """Directories as they were when they were last looked at."""

    def __init__(self, pins: Mapping[pathlib.Path, Pins]) -> None:
        self._pins = pins
        self._seen: dict[pathlib.Path, dict[str, int]] = {}

    def first(self, path: pathlib.Path) -> None:
        """Look at every log of a data directory, so that there is little left to do at the moment."""
        for _, directory in _partitions(path):
            try:
                self._look(directory, self._pins[path])
            except FileNotFoundError:
                continue

    def logs(
        self, paths: Sequence[pathlib.Path], deadline: float | None
    ) -> Mapping[TopicPartition, Sequence[Held]]:
        """Return the files of all logs. Raises StorageError when the deadline has passed."""
        found: dict[TopicPartition, Sequence[Held]] = {}
        for path in paths:
            for name, directory in _partitions(path):
                try:
                    found[name] = self._still(directory, self._pins[path])
                except FileNotFoundError:
                    continue  # deleted just now
                if deadline is not None and time.monotonic() > deadline:
                    raise StorageError(
                        ErrorCode.STORAGE,
                        f"{path} could not be looked at within {_HELD_SECONDS:g} seconds, while nobody "
                        "can commit: copy it while the broker does not run, or a snapshot of its file system",
                    )
        return found

    def tree(self, path: pathlib.Path, name: str) -> Sequence[Held]:
        """Return the files below a directory of journals with entries of one length."""
        found: list[Held] = []
        for place, _, _ in os.walk(path / name):
            for one in self._still(pathlib.Path(place), self._pins[path]):
                relative = os.path.relpath(f"{place}/{one.name}", path)
                found.append(Held(relative, one.source, one.size_bytes - one.size_bytes % ENTRY_BYTES))
        return found

    def _still(self, directory: pathlib.Path, pins: Pins) -> Sequence[Held]:
        for _ in range(_LOOKS):
            before = self._seen.get(directory)
            sizes = self._look(directory, pins)
            now = self._seen[directory]
            if before == now:
                return [Held(name, pins.path(inode), sizes[name]) for name, inode in sorted(now.items())]
        raise StorageError(ErrorCode.STORAGE, f"{directory} has other files each time it is looked at")

    def _look(self, directory: pathlib.Path, pins: Pins) -> Mapping[str, int]:
        """See which files there are, and link them; return their sizes."""
        seen: dict[str, int] = {}
        sizes: dict[str, int] = {}
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(_LEFT_OUT) or not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if pins.keep(entry.path, status.st_ino):
                    seen[entry.name], sizes[entry.name] = status.st_ino, status.st_size
        self._seen[directory] = seen
        return sizes


def _partitions(path: pathlib.Path) -> Iterator[tuple[TopicPartition, pathlib.Path]]:
    for name in sorted(ReadOnlyFiles().subdirectories(str(path))):
        match = _PARTITION.fullmatch(name)
        if match is not None:
            yield TopicPartition(match[1], int(match[2])), path / name
