"""The metadata of a broker that may be running: held still, and copied as it was then.

Owns the use of SQLite for that. While rows are held no process can commit any; the kernel lets go of them
when this process ends, however it ends.
"""

from __future__ import annotations

import pathlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from megabroker.errors import ErrorCode, StorageError

__all__ = ["copy", "held"]

_PATIENCE_SECONDS: Final = 10.0
_TURN_SECONDS: Final = 0.001


@contextmanager
def held(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """Let nobody commit; yield a connection that goes on to read what there is now, after the context too.

    Whoever gets it closes it.

    Raises:
        StorageError: it cannot be opened, or others commit all the time.
    """
    try:
        holder, reader = _connected(path), _connected(path)
        try:
            _begin(holder)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on it sees no more
            yield reader
        finally:
            holder.close()
    except sqlite3.Error as error:
        raise _refusal(f"cannot hold {path}: {error}") from error


def copy(reader: sqlite3.Connection, path: pathlib.Path) -> None:
    """Copy what a connection sees into a new file. Raises StorageError."""
    try:
        target = sqlite3.connect(path, isolation_level=None)
        try:
            path.chmod(0o600)
            reader.backup(target)
        finally:
            target.close()
    except (OSError, sqlite3.Error) as error:
        raise _refusal(f"cannot copy the metadata to {path}: {error}") from error


def _connected(path: pathlib.Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path.absolute()}?mode=rw", uri=True, timeout=0, isolation_level=None)


def _begin(holder: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            holder.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(_TURN_SECONDS)


def _refusal(message: str) -> StorageError:
    return StorageError(ErrorCode.STORAGE, message, retriable=False)
