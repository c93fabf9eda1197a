"""The small files beside the logs: their names, and how several processes have theirs apart.

Owns where these files lie, and that they come together again. One process keeps them in each data directory
itself, as Kafka does. Of several, each keeps those of its own partitions in ``<directory>/workers/<name>/``,
so that none writes another's and the end of one tells nothing of the others. The process that started them
has dealt them out (``DataDirectories.deal``) and gathers them when all have ended, or the next start does:
how many there are may then change.

Gathering and dealing write before they remove. So that they can be done on a disk that is full, a file keeps
the room for it, and for what SQLite needs meanwhile. It is there but for the time from the beginning of a
start until all serve; it is not made where the disk is nearly full then, but after the end whatever there is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from twisted.logger import Logger

from megabroker.model import TopicPartition
from megabroker.storage.checkpoints import decode_offsets, encode_offsets
from megabroker.storage.files import Files
from megabroker.storage.journal import JOURNAL

__all__ = [
    "CHECKPOINTS",
    "CLEAN",
    "CLEANED_OFFSETS",
    "ROOM",
    "WORKERS",
    "Share",
    "gather",
    "keep_room",
    "read_offsets",
]

_log = Logger()

WORKERS: Final = "workers"
"""The directory, in each data directory, for what each of several processes keeps."""

ROOM: Final = "workers-room"
"""The file, in each data directory, that keeps room for gathering and dealing out."""

CLEAN: Final = ".kafka_cleanshutdown"
CLEANED_OFFSETS: Final = "cleaner-offset-checkpoint"
CHECKPOINTS: Final = (
    "log-start-offset-checkpoint",
    "recovery-point-offset-checkpoint",
    CLEANED_OFFSETS,
)

_ROOM_BYTES: Final = 512 * 1024
_SHARE_BYTES: Final = 64 * 1024  # for the small files of one share, of which each takes a block at least
_LEAST_FREE: Final = 4


def read_offsets(files: Files, path: str) -> dict[TopicPartition, int]:
    """Return what a checkpoint file says; nothing if it is damaged, which is logged. Raises OSError."""
    data = files.read_bytes(path)
    offsets = decode_offsets(data)
    if data == b"":
        _log.warn(
            "checkpoint-empty: {path} is empty, as Apache Kafka creates it, and counts as absent", path=path
        )
    elif data is not None and offsets is None:
        _log.error("checkpoint-damaged: {path} cannot be read and counts as absent", path=path)
    return offsets or {}


class Share(NamedTuple):
    """What one of several processes has of the directories.

    Attributes:
        name: no other's; a part of a path.
        has: whether a partition is its own.
    """

    name: str
    has: Callable[[TopicPartition], bool]

    def place(self, path: str) -> str:
        """Return where it keeps its small files of a data directory."""
        return f"{path}/{WORKERS}/{self.name}"


def gather(files: Files, paths: Sequence[str]) -> None:
    """Bring together what several processes have left, as one would have left it. Raises OSError.

    A journal comes into the first directory under a name of its own, to be replayed there. The directories
    count as closed in order if every one of them was. A crash in between leaves some checkpoints in both
    places, alike, and never a clean marker that is not true.
    """
    left = [path for path in paths if os.path.isdir(f"{path}/{WORKERS}")]
    shares = {
        path: [f"{path}/{WORKERS}/{name}" for name in files.subdirectories(f"{path}/{WORKERS}")]
        for path in left
    }
    clean = all(
        places and all(files.read_size(f"{place}/{CLEAN}") is not None for place in places)
        for places in shares.values()
    )
    if not clean:
        for place in (place for places in shares.values() for place in places):
            files.unlink(f"{place}/{CLEAN}")
            files.sync_dir(place)
    for path, places in shares.items():
        for name in CHECKPOINTS:
            offsets: dict[TopicPartition, int] = {}
            for place in (path, *places):
                offsets.update(read_offsets(files, f"{place}/{name}"))
            if offsets:
                files.write_whole(f"{path}/{name}", encode_offsets(offsets), sync=True)
    for places in shares.values():
        for place in places:
            if files.read_size(f"{place}/{JOURNAL}") is not None:
                files.rename(f"{place}/{JOURNAL}", f"{paths[0]}/{JOURNAL}-{os.path.basename(place)}")
                files.sync_dir(paths[0])
    for path in left:
        files.rmtree(f"{path}/{WORKERS}")
        files.sync_dir(path)
        if clean:
            files.write_whole(f"{path}/{CLEAN}", b"", sync=True)


def keep_room(files: Files, paths: Sequence[str], count: int, *, sparing: bool) -> None:
    """Keep the room that so many shares take to be gathered and dealt out; as much of it as there is.

    Args:
        sparing: leave it where four times as much is not free.
    """
    for path in paths:
        try:
            size = _room_bytes(files, path, count)
            if not sparing or files.free_bytes(path) >= _LEAST_FREE * size:
                files.fill(f"{path}/{ROOM}", size)
        except OSError as caught:
            _log.info(
                "no space is reserved in {path} for a start on a full disk: {error}", path=path, error=caught
            )


def _room_bytes(files: Files, path: str, count: int) -> int:
    """Return how much room so many shares of a data directory take. Raises OSError."""
    try:
        shares = [f"{path}/{WORKERS}/{name}" for name in files.subdirectories(f"{path}/{WORKERS}")]
    except FileNotFoundError:
        shares = []
    sizes = (files.read_size(f"{place}/{name}") for place in (path, *shares) for name in CHECKPOINTS)
    return _ROOM_BYTES + count * _SHARE_BYTES + 2 * sum(one for one in sizes if one is not None)
