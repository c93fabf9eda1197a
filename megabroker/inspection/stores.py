"""What is not a log: the metadata store, the deduplication journals and the sync journals.

Owns the judgement of these files. The metadata is read in a copy, for SQLite changes files beside a database
even when it only reads it.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from megabroker.core.topics import TOPICS_TABLE, topic_from_row
from megabroker.errors import StorageError
from megabroker.inspection.findings import Finding, Kind
from megabroker.model import Topic
from megabroker.storage.files import Files
from megabroker.storage.journal import Entry, JournalError, read_frames
from megabroker.storage.metadata.database import (
    METADATA_FILE,
    SCHEMA_VERSION,
    SET_ASIDE,
    UNCHECKED_VERSION,
    add_checks,
)
from megabroker.storage.metadata.rows import read_value
from megabroker.storage.segment import file_name
from megabroker.storage.wal import damaged_at
from megabroker.storage.window import damaged_entries, slice_files

__all__ = ["Metadata", "dedup_findings", "journal_findings", "read_metadata"]

_SHOWN: Final = 10
_RESTORE: Final = "restore a backup of it: it cannot be made from anything else"


@attrs.frozen
class Metadata:
    """What the metadata store says.

    Attributes:
        topics: by name.
        rows: how many rows there are by table.
        damaged_rows: table and key of those that are not what was written.
        is_sound: whether it can be read apart from these.
    """

    topics: Mapping[str, Topic]
    rows: Mapping[str, int]
    damaged_rows: list[tuple[bytes, bytes]]
    is_sound: bool
    findings: list[Finding]


def read_metadata(directory: str) -> Metadata | None:
    """Read and check the metadata of a main directory; None if there is none. Raises OSError."""
    path = pathlib.Path(directory) / METADATA_FILE
    if not path.exists():
        return None
    findings: list[Finding] = []
    damaged = damaged_at(f"{path}-wal")
    if damaged is not None:
        position, commits = damaged
        findings.append(
            Finding(
                Kind.LOST if commits > 1 else Kind.TORN,
                f"{path}-wal",
                "its checksums are wrong from here on",
                "more than one commit is not read any more; " + _RESTORE
                if commits > 1
                else "the last commit is not read; if the power was cut, it was never acknowledged",
                position=position,
            )
        )
    rows: list[tuple[bytes, bytes, bytes]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="megabroker-fsck-") as place:
            copy = pathlib.Path(place) / METADATA_FILE
            for suffix in ("", "-wal"):
                if os.path.exists(f"{path}{suffix}"):
                    shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
            connection = sqlite3.connect(copy, isolation_level=None)
            try:
                findings += _integrity(connection, str(path))
                connection.text_factory = bytes
                rows = connection.execute("SELECT tbl, key, value FROM rows").fetchall()
            finally:
                connection.close()
    except sqlite3.Error as error:
        findings.append(Finding(Kind.LOST, str(path), f"SQLite says: {error}", _RESTORE))
    is_sound = not any(one.kind is Kind.LOST for one in findings)
    found = Metadata({}, {}, [], is_sound, findings)
    counts: Counter[str] = Counter()
    topics: dict[str, Topic] = {}
    for raw in rows:
        table, key, text = (one.decode("utf-8", "replace") for one in raw)
        if table.startswith(SET_ASIDE):
            what = f"row {key!r} of {table.removeprefix(SET_ASIDE)} is damaged"
            findings.append(Finding(Kind.NOTE, str(path), what, "that is known; it is set aside"))
            continue
        counts[table] += 1
        try:
            row = read_value(table, key, text)
            if table == TOPICS_TABLE:
                topics[key] = topic_from_row(key, row)
        except (ValueError, StorageError) as error:
            found.damaged_rows.append(raw[:2])
            findings.append(
                Finding(
                    Kind.LOST,
                    str(path),
                    f"row {key!r} of {table} cannot be read: {error}",
                    "a start refuses it; a repair sets it aside, as if it had never been",
                )
            )
    return attrs.evolve(found, topics=topics, rows=counts)


def _integrity(connection: sqlite3.Connection, path: str) -> Iterator[Finding]:
    """Look into a copy, which is brought to the present version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == UNCHECKED_VERSION:
        add_checks(connection)
        what = "it is from before rows had checks"
        yield Finding(Kind.NOTE, path, what, "the next start of a broker adds them")
    elif version != SCHEMA_VERSION:
        yield Finding(
            Kind.REFUSED if version > SCHEMA_VERSION else Kind.LOST,
            path,
            f"it has schema version {version}",
            f"this program knows {SCHEMA_VERSION}",
        )
    for (verdict,) in connection.execute(f"PRAGMA integrity_check({_SHOWN})"):
        if verdict != "ok":
            yield Finding(Kind.LOST, path, f"SQLite says: {verdict}", _RESTORE)


def dedup_findings(directory: pathlib.Path) -> Iterator[Finding]:
    """Check a deduplication journal, and those of several processes in it. Raises OSError."""
    if not directory.is_dir():
        return
    for path, positions, odd_bytes in ((path, *damaged_entries(path)) for path in slice_files(directory)):
        if positions:
            yield Finding(
                Kind.LOST,
                str(path),
                f"{len(positions)} entries are not what was written",
                "they are skipped: a repeated message may be stored twice",
                position=positions[0],
            )
        if odd_bytes:
            yield Finding(
                Kind.TORN,
                str(path),
                f"{odd_bytes} bytes at the end are no entry",
                "they are cut off when the file is written next",
            )
    for below in sorted(one for one in directory.iterdir() if one.is_dir()):
        yield from dedup_findings(below)


def journal_findings(
    files: Files,
    path: str,
    directory_of: Callable[[str], str | None],
    points: Mapping[str, int],
    pending: dict[str, list[tuple[int, int]]],
) -> Iterator[Finding]:
    """Check a sync journal; collect in ``pending`` what the logs' own files lack of it. Raises OSError."""
    fd = files.open(path, create=False)
    lacking = missing = 0
    try:
        for frames, gaps in read_frames(files, fd):
            missing += gaps
            for entry in (entry for frame in frames for entry in frame.entries):
                log = directory_of(entry.name)
                if log is None or entry.end_offset <= points.get(entry.name, 0):
                    continue
                lacking += _lacking(files, f"{log}/{file_name(entry.segment, '.log')}", entry, pending)
    except JournalError as error:
        yield Finding(
            Kind.REFUSED,
            path,
            f"{error}",
            "the broker does not start with it; without it the logs are opened as their own files are",
        )
    finally:
        files.close(fd)
    if missing:
        yield Finding(
            Kind.LOST,
            path,
            f"{missing} rounds of syncs cannot be read",
            "what they held is in the logs' own files, unless the power had failed",
        )
    if lacking:
        yield Finding(
            Kind.NOTE,
            path,
            f"{lacking} bytes of it are not in the logs' own files",
            "the next start writes them",
        )


def _lacking(files: Files, path: str, entry: Entry, pending: dict[str, list[tuple[int, int]]]) -> int:
    if files.read_size(path) is None:
        return 0
    fd = files.open(path, create=False)
    try:
        if files.pread(fd, len(entry.data), entry.position) == entry.data:
            return 0
    finally:
        files.close(fd)
    start, end = entry.position, entry.position + len(entry.data)
    stretches = pending.setdefault(path, [])
    if stretches and stretches[-1][1] == start:
        start = stretches.pop()[0]
    stretches.append((start, end))
    return len(entry.data)
