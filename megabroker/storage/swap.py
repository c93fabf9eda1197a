"""New segments in the place of old ones, without a moment at which a crash would lose either.

Owns the names that files have on their way, Kafka's, and what is made of them when a log is opened:

    <offset>.log.cleaned      being written; its log is still wholly in the old segments
    <offset>.log.swap         whole and on the disk: from now on it counts, and the old segments do not
    <offset>.log.deleted      an old segment that is not needed any more

The steps, each on the disk before the next: ``commit`` renames .cleaned to .swap, .log last; ``retire``
renames the old segments to .deleted; ``settle`` renames .swap to the name proper, .log last. Wherever that
ends, ``complete`` finishes it: a .log.swap replaces every segment that begins in its range of offsets, and
its index is made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.logger import Logger

from megabroker.storage.checking import Check
from megabroker.storage.files import Files, OpenFiles
from megabroker.storage.segment import Segment, file_name, first_offset

__all__ = ["CLEANED", "DELETED", "LEFTOVERS", "SUFFIXES", "commit", "complete", "discard", "retire", "settle"]

_log = Logger()

CLEANED: Final = ".cleaned"
DELETED: Final = ".deleted"
SWAP: Final = ".swap"
LEFTOVERS: Final = (DELETED, ".tmp", CLEANED, SWAP)
"""Ends of file names that mean nothing once ``complete`` has been called."""
SUFFIXES: Final = (".index", ".timeindex", ".txnindex", ".log")
"""A segment's files; the log is the last, since it is the one that counts."""


def commit(files: Files, segment: Segment) -> None:
    """Make a cleaned segment the one that counts; it is whole and synced. Any thread but the reactor's.

    Raises:
        OSError: it may count at the next opening, or not: it has to be discarded before the log changes.
    """
    _rename(files, segment, SWAP)
    files.sync_dir(segment.directory)


def retire(files: Files, directory: str, old: Sequence[Segment]) -> list[str]:
    """Take old segments' files out of the way of ``settle``; return where they are now.

    Raises:
        OSError: some are still there.
    """
    paths = [path for segment in old for path in map(segment.path, SUFFIXES)]
    there = [path for path in paths if files.read_size(path) is not None]
    for path in there:
        files.rename(path, path + DELETED)
    files.sync_dir(directory)
    return [path + DELETED for path in there]


def settle(files: Files, segment: Segment) -> None:
    """Give a swapped segment its proper names, once nothing else has them.

    Raises:
        OSError: what could not be renamed will be at the next opening; until then the segment is read under
            the names it has.
    """
    _rename(files, segment, "")


def discard(files: Files, segment: Segment) -> None:
    """Remove a segment that is not needed, however far it has come on its way.

    Raises:
        OSError: it may count at the next opening, so that the log must not change any more until then.
    """
    stem = f"{segment.directory}/{file_name(segment.base_offset, '')}"
    counts = files.read_size(f"{stem}.log{SWAP}") is not None
    for suffix in reversed(SUFFIXES):
        files.unlink(f"{stem}{suffix}{SWAP}")
        files.unlink(f"{stem}{suffix}{CLEANED}")
    if counts:
        files.sync_dir(segment.directory)


def complete(open_files: OpenFiles, directory: str) -> list[tuple[str, int, float]]:
    """Finish what a crash has cut short; afterwards every file whose name ends so is a leftover.

    Returns:
        The files there are then, as ``Files.listdir`` tells them.

    Raises:
        OSError: it cannot be finished now.
    """
    files = open_files.files
    found = files.listdir(directory)
    ends = f".log{SWAP}"
    swapped = sorted(name for name, _, _ in found if name.endswith(ends))
    if not swapped:
        return found
    names = {name: size for name, size, _ in found}
    for name in swapped:
        base = first_offset(name, ends)
        if base is None:
            continue
        segment = Segment(open_files, directory, base, names[name])
        segment.stage = SWAP
        segment.next_base = _INFINITE
        end = _end_of(segment)
        open_files.drop(segment)
        for other in names:
            offset = first_offset(other, ".log")
            if offset is not None and base < offset < end:
                for suffix in SUFFIXES:
                    files.unlink(f"{directory}/{file_name(offset, suffix)}")
        for suffix in SUFFIXES[:-1]:
            files.unlink(f"{directory}/{file_name(base, suffix)}")
        files.rename(f"{directory}/{name}", f"{directory}/{file_name(base, '.log')}")
        files.sync_dir(directory)
        _log.info(
            "cleaning-completed: {directory}: offsets {base} to {end} were cleaned when the broker ended",
            directory=directory,
            base=base,
            end=end,
        )
    return files.listdir(directory)


_INFINITE: Final = 2**63 - 1


def _end_of(segment: Segment) -> int:
    check = Check(segment, 0, segment.base_offset, whole=False)
    check.run()  # what is readable replaces what was before it; the rest is found when the log is opened
    return check.expected_offset


def _rename(files: Files, segment: Segment, stage: str) -> None:
    """Rename a segment's files from its stage to another, .log last, and the segment with them."""
    for suffix in SUFFIXES:
        old = segment.path(suffix)
        if suffix == ".log" or files.read_size(old) is not None:
            files.rename(old, f"{segment.directory}/{file_name(segment.base_offset, suffix)}{stage}")
    segment.stage = stage
