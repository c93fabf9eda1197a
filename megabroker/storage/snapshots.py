"""The snapshots of producers beside a log: which are kept."""

from __future__ import annotations

from typing import Final

from megabroker.storage.files import Files
from megabroker.storage.segment import file_name, first_offset

__all__ = ["save_snapshot"]

_KEPT: Final = 2


def save_snapshot(files: Files, directory: str, offset: int, snapshot: bytes, recovery_point: int) -> None:
    """Write the snapshot of the producers before ``offset``, and remove old ones. Chores thread.

    Args:
        recovery_point: recovery begins there; the snapshot that it would begin with is kept.

    Raises:
        OSError: it could not be written, or an old one not removed.
    """
    files.write_whole(f"{directory}/{file_name(offset, '.snapshot')}", snapshot)
    found = [first_offset(name, ".snapshot") for name, _, _ in files.listdir(directory)]
    offsets = sorted((at for at in found if at is not None), reverse=True)
    needed = next((at for at in offsets if at <= recovery_point), None)
    for at in offsets[_KEPT:]:
        if needed is not None and at < needed:
            files.unlink(f"{directory}/{file_name(at, '.snapshot')}")
