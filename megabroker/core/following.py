"""Rows that one process writes and all follow: how the others are told, and what they then do.

Owns which tables those are. The controller writes them through a ``FollowedStore``: a write is done when it
is committed and every other process has read the rows again, or has not said so in time. One that has not is
*behind*, and is told to read everything again until it has; so is every process at first, for it may have
begun before the last change and met the controller after it.

Invariant: a process that is not behind goes by all that was committed before its last answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.errors import BrokerError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change

__all__ = ["FollowedStore", "Followers", "Following", "Rows"]

_log = Logger()

_PATIENCE_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.5

Rows = Mapping[str, Collection[str]]
"""Keys that have changed, by table."""

Follow = Callable[[Collection[str] | None], Any]
"""Reads rows again, all of the table for None, and goes by them; may return a Deferred."""


class Following:
    """What a process does when rows have changed.

    Args:
        tables: what follows each table.
    """

    def __init__(self, tables: Mapping[str, Follow]) -> None:
        self._tables = dict(tables)

    def follow(self, rows: Rows | None) -> Deferred[None]:
        """Go by what the rows say now, all rows for None; fails with BrokerError."""
        return Deferred.fromCoroutine(self._follow(rows))

    async def _follow(self, rows: Rows | None) -> None:
        for table, follow in self._tables.items():
            if rows is None:
                await maybeDeferred(follow, None)
            elif table in rows:
                await maybeDeferred(follow, rows[table])


class _Follower:
    """One other process.

    Attributes:
        behind: whether it has to read everything again.
        missed: whether something has changed since it was last told to.
        waiting: who wants to know that it is not behind.
    """

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.behind = True
        self.missed = False
        self.waiting: list[Deferred[None]] = []


class Followers:
    """The other processes, as the controller sees them.

    Args:
        node_ids: of the others.
        tell: tells one of them which rows have changed, all for None; fires when it follows.
    """

    def __init__(
        self,
        clock: IReactorTime,
        node_ids: Iterable[int],
        tell: Callable[[int, Rows | None], Deferred[None]],
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._followers = [_Follower(node_id) for node_id in node_ids]
        self._rows: dict[str, set[str]] = {}
        self._told: list[Deferred[None]] = []
        self._stopped = False

    def start(self) -> None:
        """Begin to tell; everybody is behind."""
        for one in self._followers:
            self._catch_up(one)

    def stop(self) -> None:
        """Tell nobody any more."""
        self._stopped = True

    def changed(self, rows: Rows) -> Deferred[None]:
        """Tell everybody, once a turn; fires when all follow, or have had their time. Never fails."""
        done: Deferred[None] = Deferred()
        if not self._told:
            self._clock.callLater(0, self._tell_all)
        for table, keys in rows.items():
            self._rows.setdefault(table, set()).update(keys)
        self._told.append(done)
        return done

    def _tell_all(self) -> None:
        rows, self._rows = self._rows, {}
        told, self._told = self._told, []

        def followed(_: Any) -> None:
            for done in told:
                done.callback(None)

        DeferredList([self._tell_one(one, rows) for one in self._followers]).addCallback(followed)

    def followed(self) -> Deferred[None]:
        """Fire when nobody is behind."""
        behind = [self._caught_up(one) for one in self._followers if one.behind]
        return DeferredList(behind).addCallback(lambda _: None) if behind else succeed(None)

    def _tell_one(self, one: _Follower, rows: Rows) -> Deferred[None]:
        if self._stopped:
            return succeed(None)
        if one.behind:
            one.missed = True
            waiting = self._caught_up(one)
        else:
            waiting = Deferred()
            self._tell(one.node_id, rows).addCallbacks(
                lambda _: waiting.callback(None), self._falls_behind, errbackArgs=(one, waiting)
            )
        patience = self._clock.callLater(_PATIENCE_SECONDS, waiting.cancel)

        def done(result: Any) -> None:
            if patience.active():
                patience.cancel()
            elif isinstance(result, Failure):
                _log.warn("worker-does-not-follow", node=one.node_id, seconds=_PATIENCE_SECONDS)
                if not one.behind and not self._stopped:
                    one.behind = True
                    self._catch_up(one)

        return waiting.addBoth(done)

    def _falls_behind(self, failure: Failure, one: _Follower, waiting: Deferred[None]) -> None:
        if not waiting.called:
            one.waiting.append(waiting)
        if not one.behind and not self._stopped:
            one.behind = True
            self._catch_up(one, failure)

    def _caught_up(self, one: _Follower) -> Deferred[None]:
        waiting: Deferred[None] = Deferred(lambda cancelled: one.waiting.remove(cancelled))
        one.waiting.append(waiting)
        return waiting

    def _catch_up(self, one: _Follower, why: Failure | None = None) -> None:
        if self._stopped:
            return
        if why is not None:
            _log.warn("worker-is-behind", node=one.node_id, error=why.getErrorMessage())
        one.missed = False
        self._tell(one.node_id, None).addCallbacks(
            lambda _: self._follows(one), lambda failure: self._try_again(one, failure)
        )

    def _follows(self, one: _Follower) -> None:
        if one.missed:
            self._catch_up(one)
            return
        one.behind = False
        waiting, one.waiting = one.waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def _try_again(self, one: _Follower, failure: Failure) -> None:
        if not isinstance(failure.value, BrokerError):
            _log.failure("telling worker {node}", failure, node=one.node_id)
        if not self._stopped:
            self._clock.callLater(_RETRY_SECONDS, self._catch_up, one)


@implementer(IMetadataStore)
class FollowedStore:
    """A metadata store whose writes are done when they are followed.

    Args:
        store: the real one.
        tables: those that the others follow.
    """

    def __init__(self, store: IMetadataStore, followers: Followers, tables: Collection[str]) -> None:
        self._store = store
        self._followers = followers
        self._tables = tables

    def open(self) -> None:
        """See ``IMetadataStore.open``."""
        self._store.open()

    def rows(self, table: str, keys: Collection[str] | None = None) -> Mapping[str, Any]:
        """See ``IMetadataStore.rows``."""
        return self._store.rows(table, keys)

    def write(self, changes: Sequence[Change]) -> Deferred[None]:
        """See ``IMetadataStore.write``; fires when the others follow, too."""
        rows: dict[str, set[str]] = {}
        for change in changes:
            if change.table in self._tables:
                rows.setdefault(change.table, set()).add(change.key)
        done = self._store.write(changes)
        return done.addCallback(lambda _: self._followers.changed(rows)) if rows else done

    def advance(self, table: str, key: str, count: int) -> Deferred[int]:
        """See ``IMetadataStore.advance``."""
        return self._store.advance(table, key, count)

    def close(self) -> Any:
        """See ``IMetadataStore.close``."""
        return self._store.close()
