"""Changes of topics: those of one topic happen one after the other, in the order of asking."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred

from megabroker.core.topics.rows import metric_name

__all__ = ["TopicTurns"]


class TopicTurns:
    """Whose turn it is with each topic; those that are alike in names of metrics share their turns."""

    def __init__(self) -> None:
        self._locks: dict[str, DeferredLock] = {}

    def run(self, name: str, change: Callable[[], Coroutine[Any, Any, Any]]) -> Deferred[Any]:
        """Make a change when those before it are made; fires and fails as it does."""
        name = metric_name(name)
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = DeferredLock()

        def forget(result: Any) -> Any:
            if not lock.locked and self._locks.get(name) is lock:
                del self._locks[name]
            return result

        return lock.run(lambda: ensureDeferred(change())).addBoth(forget)
