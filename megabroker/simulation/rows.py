"""The metadata store, with SQLite's promises in place of SQLite.

Owns the rows as the simulated disk holds them. SQLite is not simulated, its promises are: a commit is whole
or not at all; with ``synchronous=FULL``, which a commit that raises a number always has, one that returned is
on the disk, and all before it; with ``NORMAL`` the last ones may go with the power, never one without all
after it; one whose sync failed is taken back, but stays in the write-ahead log until the next one, so that a
restart before that may find it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from megabroker.errors import ErrorCode, StorageError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change, Durability
from megabroker.simulation.files import SimulatedFiles
from megabroker.storage.files import storage_error
from megabroker.storage.metadata.rows import Pending, Row, decoded, to_rows

__all__ = ["Database", "SimulatedMetadataStore"]

_NAME: Final = "metadata.sqlite"
_COMMIT_SECONDS: Final = 0.004
_UNSYNCED_COMMITS: Final = 30


class Database:
    """What the disk holds: rows by table and key, as JSON text.

    Attributes:
        unsynced: commits that a cut of the power may take, oldest first.
        ghost: a commit that was taken back and may come again.
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, str]] = {}
        self.unsynced: list[list[Row]] = []
        self.ghost: list[Row] | None = None
        self._stable: dict[str, dict[str, str]] = {}

    def apply(self, rows: list[Row]) -> None:
        """Commit; not synced yet."""
        self.ghost = None
        _apply(self.tables, rows)
        self.unsynced.append(rows)

    def sync(self, keep: int = 0) -> None:
        """Make all commits stable, except the last ``keep``."""
        while len(self.unsynced) > keep:
            _apply(self._stable, self.unsynced.pop(0))

    def take_back(self) -> None:
        """Undo the last commit, whose sync failed."""
        rows = self.unsynced.pop()
        self.tables = {table: dict(found) for table, found in self._stable.items()}
        for one in self.unsynced:
            _apply(self.tables, one)
        self.ghost = rows

    def reopen(self, dice: Random) -> None:
        """A process opens it again: what was taken back may be there."""
        if self.ghost is not None and dice.random() < 0.5:
            self.apply(self.ghost)
        self.ghost = None

    def lose_power(self, dice: Random) -> None:
        """Hold what the disk may hold."""
        self.sync(dice.randrange(len(self.unsynced) + 1))
        self.unsynced.clear()
        self.tables = {table: dict(found) for table, found in self._stable.items()}


def _apply(tables: dict[str, dict[str, str]], rows: list[Row]) -> None:
    for table, key, value in rows:
        if value is None:
            tables.get(table, {}).pop(key, None)
        else:
            tables.setdefault(table, {})[key] = value


@implementer(IMetadataStore)
class SimulatedMetadataStore:
    """One process's connection to it; see ``IMetadataStore``.

    Args:
        files: whose faults meet commits too.
        reactor: of the process; ``from_outside`` is where the committing thread is.
    """

    def __init__(
        self, database: Database, files: SimulatedFiles, durability: Durability, reactor: Any
    ) -> None:
        self._database = database
        self._files = files
        self._durability = durability
        self._reactor = reactor
        self._pending: list[Pending] = []
        self._committing = False
        self._opened = False
        self._closing: list[Deferred[None]] = []

    def open(self) -> None:
        """Open. Raises StorageError."""
        self._database.reopen(self._files.faults.dice)
        self._opened = True

    def rows(self, table: str, keys: Collection[str] | None = None) -> Mapping[str, Any]:
        """Return the committed rows of a table, or those of them with ``keys``. Raises StorageError."""
        if not self._opened:
            raise _closed()
        try:
            self._files.enter("rows", _NAME)
        except OSError as caught:
            raise storage_error("cannot read", _NAME, caught) from caught
        return decoded(self._database.tables.get(table, {}), keys)

    def write(self, changes: Sequence[Change]) -> Deferred[None]:
        """Apply changes atomically; fires when they are committed, fails with StorageError."""
        return self._add(to_rows(changes), None)

    def advance(self, table: str, key: str, count: int) -> Deferred[int]:
        """Raise a number by ``count``; fires with what it was."""
        return self._add([], (table, key, count))

    def _add(self, rows: list[Row], counter: tuple[str, str, int] | None) -> Deferred[Any]:
        if not self._opened or self._closing:
            return fail(_closed())
        done: Deferred[Any] = Deferred()
        self._pending.append(Pending(rows, counter, done))
        self._next()
        return done

    def _next(self) -> None:
        if self._committing:
            return
        if self._pending:
            self._committing = True
            self._reactor.from_outside(self._files.faults.dice.random() * _COMMIT_SECONDS, self._commit)
        elif self._closing:
            self._opened = False
            waiting, self._closing = self._closing, []
            for done in waiting:
                done.callback(None)

    def _commit(self) -> None:
        """The thread that commits: all that waits, in one transaction."""
        batch, self._pending = self._pending, []
        error: StorageError | None = None
        results: list[int | None] = []
        try:
            self._try(batch, results)
        except OSError as caught:
            error = storage_error("cannot write", _NAME, caught)
        self._reactor.callFromThread(self._committed, batch, results, error)

    def _try(self, batch: list[Pending], results: list[int | None]) -> None:
        files, database = self._files, self._database
        files.enter("commit", _NAME)
        if files.disk.full:
            raise files.no_room(_NAME)
        rows: list[Row] = []
        for one in batch:
            rows += one.rows
            results.append(None if one.counter is None else self._raise(rows, *one.counter))
        database.apply(rows)
        if self._durability is Durability.OS and all(one.counter is None for one in batch):
            database.sync(_UNSYNCED_COMMITS)
        else:
            try:
                files.enter("commit_sync", _NAME)
            except OSError:
                database.take_back()
                raise
            database.sync()
        files.leave()

    def _raise(self, rows: list[Row], table: str, key: str, count: int) -> int:
        former = self._database.tables.get(table, {}).get(key, "0")
        for one in rows:
            if one[:2] == (table, key):
                former = one[2] or "0"
        rows.append((table, key, str(int(former) + count)))
        return int(former)

    def _committed(self, batch: list[Pending], results: list[int | None], error: StorageError | None) -> None:
        self._committing = False
        for number, one in enumerate(batch):
            if error is not None:
                one.done.errback(error)
            else:
                one.done.callback(results[number])
        self._next()

    def close(self) -> Deferred[None]:
        """Commit what is pending and close; never fails."""
        if not self._opened:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        self._next()
        return done


def _closed() -> StorageError:
    return StorageError(ErrorCode.STORAGE, "the metadata store is closed")
