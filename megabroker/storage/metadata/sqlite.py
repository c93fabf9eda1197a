"""Rows in an SQLite file that stays open."""

from __future__ import annotations

import os
import pathlib
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.errors import ErrorCode, StorageError
from megabroker.interfaces import IMetadataStore
from megabroker.latency import Latency
from megabroker.model import Change, Durability
from megabroker.storage.metadata.database import (
    ALL_ROWS,
    CREATE,
    OURS,
    PUT,
    ROOM,
    SCHEMA_VERSION,
    UNCHECKED_VERSION,
    add_checks,
)
from megabroker.storage.metadata.rows import Pending, Row, checked, closed_error, read_value, to_rows
from megabroker.storage.metadata.worker import Turns, Worker, WorkerThread
from megabroker.storage.wal import damaged_at

__all__ = ["SqliteMetadataStore"]

_log = Logger()

_ROOM_BYTES: Final = 256 * 1024
_TURN_SECONDS: Final = 0.001
_SYNCED: Final = "PRAGMA synchronous=FULL"
_UNSYNCED: Final = "PRAGMA synchronous=NORMAL"
_DELETE = "DELETE FROM rows WHERE tbl = ? AND key = ?"
_ONE = "SELECT key, value FROM rows WHERE tbl = ? AND key = ?"


@implementer(IMetadataStore)
class SqliteMetadataStore:
    """Rows in an SQLite file.

    Args:
        path: the database; two files named ``-wal`` and ``-shm`` stand beside it while it is open.
        durability: whether a commit waits for the disk; one that raises a number always does.
        reactor: ends turns and takes completions back from the worker.
        worker: runs the commits; a thread of its own by default.
        busy_timeout_seconds: how long a commit waits for another process that locks the file.
        shared: whether other processes have it open, so that what it looks like says nothing about its end.

    Attributes:
        commits: transactions committed, of ``writes`` calls of ``write`` and ``advance``.
        failed_commits: transactions that were not.
        last_failure: when (monotonic) the last was not, and why; None if it was.
        commit_latency: how long each took.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        durability: Durability,
        reactor: Turns,
        *,
        worker: Worker | None = None,
        busy_timeout_seconds: float = 5.0,
        shared: bool = False,
    ) -> None:
        self.path = pathlib.Path(path)
        self.failed_commits = 0
        self.last_failure: tuple[float, str] | None = None
        self.commits = 0
        self.writes = 0
        self.commit_latency = Latency()
        self._durability = durability
        self._reactor = reactor
        self._worker: Worker = WorkerThread("megabroker-metadata") if worker is None else worker
        self._busy_timeout_seconds = busy_timeout_seconds
        self._shared = shared
        self._connection: sqlite3.Connection | None = None
        self._pending: list[Pending] = []
        self._scheduled = False
        self._committing = False
        self._closing: list[Deferred[None]] | None = None

    def open(self) -> None:
        """Open or create the file. Blocking.

        Raises:
            StorageError: it cannot be used; the message says what to do.
        """
        self._connection = self._opened()
        self._closing = None
        self._worker.start()

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            unclean = not self._shared and _size(f"{self.path}-wal") > 0
            if unclean:
                self._check_log()
            self.path.with_name(ROOM).unlink(missing_ok=True)
            connection = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            self._prepare(connection, unclean)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._unusable(error) from error
            raise
        return connection

    def _check_log(self) -> None:
        """Refuse a write-ahead log of which SQLite would pass over commits in silence. Raises OSError."""
        damaged = damaged_at(f"{self.path}-wal")
        if damaged is None:
            return
        position, commits = damaged
        if commits > 1:
            raise StorageError(
                ErrorCode.STORAGE,
                f"{self.path}-wal is damaged at byte {position}, and commits follow that would be lost:"
                f" restore a backup of it, or move it away to go on with what {self.path} holds",
                retriable=False,
            )
        _log.error(
            "metadata-commit-lost: {path}-wal is damaged at byte {position}: its last commit is not read",
            path=str(self.path),
            position=position,
        )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=self._busy_timeout_seconds, isolation_level=None, check_same_thread=False
        )

    def _prepare(self, connection: sqlite3.Connection, unclean: bool) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StorageError(
                ErrorCode.STORAGE,
                f"{self.path} has schema version {version}, this program knows {SCHEMA_VERSION}: it was"
                " written by a newer megabroker; run that one, or restore a backup",
                retriable=False,
            )
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StorageError(
                ErrorCode.STORAGE,
                f"{self.path} cannot be in WAL mode on this file system (SQLite says {mode}): put data_dir on"
                " a local disk",
                retriable=False,
            )
        connection.execute(_SYNCED if self._durability is Durability.FSYNC else _UNSYNCED)
        if version == 0:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
                raise sqlite3.DatabaseError("it holds tables of another program")
            os.chmod(self.path, OURS)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(CREATE)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
        elif unclean:
            # Reads the whole file, so only after a crash; a clean close leaves no write-ahead log.
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        if version == UNCHECKED_VERSION:
            add_checks(connection)
        connection.execute("SELECT 1 FROM rows LIMIT 1").fetchone()
        connection.execute("PRAGMA busy_timeout=0")  # ``_begin`` waits

    def prepare(self) -> None:
        """Make or check the file for other processes, not opening it here. Blocking; raises as ``open``."""
        self._opened().close()

    def _unusable(self, error: Exception) -> StorageError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            advice = "another process locks it; stop that process"
        elif isinstance(error, OSError) or name.startswith(
            ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR")
        ):
            advice = (
                "check that the directory exists, is writable and its disk is in order, with 256 KiB free"
            )
        else:
            advice = "it is damaged or not ours; restore a backup of it, or move it and its -wal file away"
        code = ErrorCode.DISK_FULL if name == "SQLITE_FULL" else ErrorCode.STORAGE
        return StorageError(code, f"cannot open {self.path}: {error}: {advice}", retriable=False)

    def rows(self, table: str, keys: Collection[str] | None = None) -> Mapping[str, Any]:
        """Return the committed rows of a table, or those of them with ``keys``. Blocking.

        Raises:
            StorageError: the file could not be read, or a row of it not understood.
        """
        if self._connection is None:
            raise closed_error()
        try:
            connection = self._connect()
            try:
                found = (
                    connection.execute(ALL_ROWS, (table,)) if keys is None else _some(connection, table, keys)
                )
                return {key: read_value(table, key, value) for key, value in found}
            finally:
                connection.close()
        except (sqlite3.Error, ValueError) as error:
            message = f"cannot read table {table} of {self.path}: {error}"
            raise StorageError(ErrorCode.STORAGE, message) from error

    def write(self, changes: Sequence[Change]) -> Deferred[None]:
        """Apply changes atomically; fires when they are committed, fails with StorageError."""
        return self._add(to_rows(changes), None)

    def advance(self, table: str, key: str, count: int) -> Deferred[int]:
        """Raise a number by ``count`` for all processes; see ``IMetadataStore.advance``."""
        return self._add([], (table, key, count))

    def _add(self, rows: list[Row], counter: tuple[str, str, int] | None) -> Deferred[Any]:
        if self._connection is None or self._closing is not None:
            return fail(closed_error())
        done: Deferred[Any] = Deferred()
        self._pending.append(Pending(rows, counter, done))
        if not self._scheduled and not self._committing:
            self._scheduled = True
            self._reactor.callLater(0, self._turn_ended)
        return done

    def _turn_ended(self) -> None:
        self._scheduled = False
        if not self._committing:
            self._next()

    def _next(self) -> None:
        """Start the next commit, or finish closing when nothing is left."""
        if self._pending:
            self._committing = True
            batch, self._pending = self._pending, []
            self._worker.submit(lambda: self._commit(batch))
        elif self._closing is not None:
            self._committing = True
            self._worker.submit(self._close_in_worker)

    def _commit(self, batch: list[Pending]) -> None:
        """Worker: commit the rows of many writes in one transaction, and send the outcome back."""
        connection = self._connection
        assert connection is not None
        error: Exception | None = None
        results: list[int | None] = []
        began = time.monotonic()
        # What was claimed once must never be claimed again, whoever still holds it after a power failure.
        once = self._durability is not Durability.FSYNC and any(one.counter is not None for one in batch)
        try:
            if once:
                connection.execute(_SYNCED)  # has no effect within a transaction
            _begin(connection, self._busy_timeout_seconds)
            for rows, counter, _ in batch:
                for table, key, value in rows:
                    if value is None:
                        connection.execute(_DELETE, (table, key))
                    else:
                        connection.execute(PUT, (table, key, checked(table, key, value)))
                results.append(None if counter is None else _raise(connection, *counter))
            connection.execute("COMMIT")
        except Exception as failure:  # noqa: BLE001 - whatever it is, the writers must hear of it
            error = failure
            _roll_back(connection)
        if once:
            _sync_no_more(connection)
        self.commit_latency.observe(time.monotonic() - began)
        self._reactor.callFromThread(self._committed, batch, results, error)

    def _committed(self, batch: list[Pending], results: list[int | None], error: Exception | None) -> None:
        if error is not None:
            self.failed_commits += 1
            self.last_failure = time.monotonic(), str(error)
            _log.error("metadata commit failed: {writes} writes: {error}", writes=len(batch), error=error)
            for one in batch:
                one.done.errback(_commit_error(error, self.path))
        else:
            self.commits += 1
            self.last_failure = None
            self.writes += len(batch)
            for one, result in zip(batch, results, strict=True):
                one.done.callback(result)
        self._committing = False
        self._next()

    def close(self) -> Deferred[None]:
        """Commit what is pending and close; fires when the file is closed, never fails."""
        if self._connection is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if self._closing is not None:
            self._closing.append(done)
            return done
        self._closing = [done]
        if not self._committing:
            self._next()
        return done

    def _close_in_worker(self) -> None:
        connection = self._connection
        assert connection is not None
        error: Exception | None = None
        try:
            connection.close()
            self._keep_room()
        except sqlite3.Error as failure:
            error = failure
        self._reactor.callFromThread(self._closed, error)

    def _keep_room(self) -> None:
        """Keep the room that SQLite has just given back, or as much of it as there is."""
        if not self._shared:
            try:
                self.path.with_name(ROOM).write_bytes(bytes(_ROOM_BYTES))
            except OSError:
                pass  # the disk is fuller than that, or the directory is gone

    def _closed(self, error: Exception | None) -> None:
        if error is not None:
            _log.error("closing {path} failed: {error}", path=str(self.path), error=error)
        self._worker.stop()
        self._connection = None
        self._committing = False
        waiting, self._closing = self._closing or [], None
        for done in waiting:
            done.callback(None)


def _some(connection: sqlite3.Connection, table: str, keys: Collection[str]) -> list[tuple[str, str]]:
    return [row for key in keys for row in connection.execute(_ONE, (table, key))]


def _begin(connection: sqlite3.Connection, patience_seconds: float) -> None:
    """Begin to write, when no other process does; raises sqlite3.OperationalError if one always does."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(_TURN_SECONDS)


def _raise(connection: sqlite3.Connection, table: str, key: str, count: int) -> int:
    """Raise a number within a transaction; return what it was."""
    found = _some(connection, table, [key])
    former = read_value(table, key, found[0][1]) if found else 0
    if not isinstance(former, int):
        raise sqlite3.DataError(f"row {table}/{key} holds no number")
    connection.execute(PUT, (table, key, checked(table, key, str(former + count))))
    return former


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        pass


def _sync_no_more(connection: sqlite3.Connection) -> None:
    try:
        connection.execute(_UNSYNCED)
    except sqlite3.Error:
        pass  # a transaction that cannot be rolled back; commits stay synced until the next time


def _commit_error(error: Exception, path: pathlib.Path) -> StorageError:
    full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
    code = ErrorCode.DISK_FULL if full else ErrorCode.STORAGE
    return StorageError(code, f"cannot write {path}: {error}")
