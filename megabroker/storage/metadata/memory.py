"""Rows in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from megabroker.interfaces import IMetadataStore
from megabroker.model import Change
from megabroker.storage.metadata.rows import Pending, Row, closed_error, decoded, to_rows
from megabroker.storage.metadata.worker import Turns

__all__ = ["MemoryMetadataStore"]


@implementer(IMetadataStore)
class MemoryMetadataStore:
    """Rows in memory, for ``storage: memory`` and for tests; they outlive ``close`` but not the object.

    Args:
        reactor: a write is committed at the end of its turn, as the real store never does it within the call.
    """

    def __init__(self, reactor: Turns) -> None:
        self._reactor = reactor
        self._tables: dict[str, dict[str, str]] = {}
        self._pending: list[Pending] = []
        self._opened = False

    def open(self) -> None:
        """Nothing to open."""
        self._opened = True

    def rows(self, table: str, keys: Collection[str] | None = None) -> Mapping[str, Any]:
        """Return the committed rows of a table, or those of them with ``keys``."""
        if not self._opened:
            raise closed_error()
        return decoded(self._tables.get(table, {}), keys)

    def write(self, changes: Sequence[Change]) -> Deferred[None]:
        """Apply changes at the end of the turn."""
        return self._add(to_rows(changes), None)

    def advance(self, table: str, key: str, count: int) -> Deferred[int]:
        """Raise a number by ``count`` at the end of the turn."""
        return self._add([], (table, key, count))

    def _add(self, rows: list[Row], counter: tuple[str, str, int] | None) -> Deferred[Any]:
        if not self._opened:
            return fail(closed_error())
        done: Deferred[Any] = Deferred()
        if not self._pending:
            self._reactor.callLater(0, self._commit)
        self._pending.append(Pending(rows, counter, done))
        return done

    def _commit(self) -> None:
        batch, self._pending = self._pending, []
        results: list[int | None] = []
        for rows, counter, _ in batch:
            for table, key, value in rows:
                if value is None:
                    self._tables.get(table, {}).pop(key, None)
                else:
                    self._tables.setdefault(table, {})[key] = value
            results.append(None if counter is None else self._raise(*counter))
        for one, result in zip(batch, results, strict=True):
            one.done.callback(result)

    def _raise(self, table: str, key: str, count: int) -> int:
        values = self._tables.setdefault(table, {})
        former = int(values.get(key, "0"))
        values[key] = str(former + count)
        return former

    def close(self) -> Deferred[None]:
        """Commit what is pending."""
        self._opened = False
        self._commit()
        return succeed(None)
