"""The SQLite file: what is in it, and reading and writing it while no store has it open."""

from __future__ import annotations

import json
import os
import pathlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Change
from megabroker.storage.metadata.rows import checked, read_value, to_rows

__all__ = [
    "ALL_ROWS",
    "CREATE",
    "METADATA_FILE",
    "OURS",
    "PUT",
    "ROOM",
    "SCHEMA_VERSION",
    "SET_ASIDE",
    "UNCHECKED_VERSION",
    "add_checks",
    "create_with",
    "set_aside",
    "stored_rows",
]

METADATA_FILE: Final = "metadata.sqlite"
"""Its name in a data directory."""

SCHEMA_VERSION: Final = 2

SET_ASIDE: Final = "damaged/"
"""What the table of a row begins with that is damaged and was set aside; nothing reads it."""

UNCHECKED_VERSION: Final = 1
"""The schema version of files whose rows have no checks yet."""

ROOM: Final = "metadata.sqlite-room"
"""The file that keeps room for what SQLite needs to open the other."""

OURS: Final = 0o600
"""Who may read it: what checks passwords is nobody else's business."""

CREATE: Final = (
    "CREATE TABLE rows (tbl TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (tbl, key))"
    " WITHOUT ROWID"
)
PUT: Final = (
    "INSERT INTO rows (tbl, key, value) VALUES (?, ?, ?)"
    " ON CONFLICT (tbl, key) DO UPDATE SET value = excluded.value"
)
ALL_ROWS: Final = "SELECT key, value FROM rows WHERE tbl = ?"


def create_with(path: str | os.PathLike[str], changes: Sequence[Change]) -> None:
    """Make a new file with these rows, whole and on the disk, or none. Blocking.

    Raises:
        StorageError: there is one already, or it cannot be made.
    """
    target = pathlib.Path(path)
    if target.exists():
        raise StorageError(ErrorCode.STORAGE, f"{target} is there already", retriable=False)
    fresh = target.with_name(f"{target.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        connection = sqlite3.connect(fresh, isolation_level=None)
        try:
            os.chmod(fresh, OURS)
            connection.execute("BEGIN")
            connection.execute(CREATE)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            rows = [(table, key, checked(table, key, text or "")) for table, key, text in to_rows(changes)]
            connection.executemany(PUT, rows)
            connection.execute("COMMIT")
        finally:
            connection.close()
        fresh.rename(target)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(ErrorCode.STORAGE, f"cannot make {target}: {error}", retriable=False) from error


def set_aside(path: str | os.PathLike[str], rows: Sequence[tuple[bytes, bytes]]) -> None:
    """Keep rows, by table and key, where nothing reads them, of a file that no store has open. Blocking.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                f"UPDATE rows SET tbl = '{SET_ASIDE}' || tbl"
                " WHERE tbl = CAST(? AS TEXT) AND key = CAST(? AS TEXT)",
                rows,
            )
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        message = f"cannot set rows of {path} aside: {error}"
        raise StorageError(ErrorCode.STORAGE, message, retriable=False) from error


def stored_rows(path: str | os.PathLike[str], table: str) -> Mapping[str, Any]:
    """Read a table of a file that no store has open. Blocking.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        connection = sqlite3.connect(f"file:{pathlib.Path(path).absolute()}?mode=ro", uri=True)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            found = connection.execute(ALL_ROWS, (table,)).fetchall()
        finally:
            connection.close()
        if version == UNCHECKED_VERSION:
            return {key: json.loads(value) for key, value in found}
        return {key: read_value(table, key, value) for key, value in found}
    except (sqlite3.Error, ValueError) as error:
        message = f"cannot read table {table} of {path}: {error}"
        raise StorageError(ErrorCode.STORAGE, message, retriable=False) from error


def add_checks(connection: sqlite3.Connection) -> None:
    """Bring rows that have no checks, from before there were any, to the present version."""
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("SELECT tbl, key, value FROM rows").fetchall()
    connection.executemany(PUT, [(table, key, checked(table, key, text)) for table, key, text in found])
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")
