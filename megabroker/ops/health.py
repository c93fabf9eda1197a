"""Whether what is stored can be stored and read: what readiness tells.

Owns the judgement. Nothing is tried for it: it is what opening logs came to, and writing in the last minute.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

import attrs
from twisted.internet.task import deferLater

__all__ = ["Health", "StorageHealth"]

_FOR_SECONDS: Final = 1.0
"""How long what was found is good for: anybody may ask, and there may be many partitions."""

_SLICE_SECONDS: Final = 0.002
_TOLD_SECONDS: Final = 60.0
"""How long a write that failed is told of if none has succeeded or failed since: there may be room again."""


@attrs.frozen
class Health:
    """What is out of order.

    Attributes:
        troubles: a sentence each, none if all is well.
        serves: whether some partition can be used, or there is none that cannot.
    """

    troubles: tuple[str, ...] = ()
    serves: bool = True


class StorageHealth:
    """Looks when it is asked, once a second at most.

    Args:
        broker: the core.
        logs, metadata: the stores; those in memory never fail.
    """

    def __init__(self, broker: Any, logs: Any, metadata: Any) -> None:
        self._broker = broker
        self._logs = logs
        self._metadata = metadata
        self._found: Health | None = None
        self._good_until = float("-inf")

    async def look(self) -> Health:
        """Return what is out of order; who asks while others look is told what was found before, if any."""
        found = self._found
        if found is None or monotonic() >= self._good_until:
            self._good_until = monotonic() + _FOR_SECONDS
            self._found = found = await self._look()
        return found

    async def _look(self) -> Health:
        broken, served = await self._count()
        troubles = []
        if broken:
            troubles.append(f"{broken} of {served} partitions cannot be used: the log says why")
        for what, store in (("records", getattr(self._logs, "disk", None)), ("metadata", self._metadata)):
            failure = getattr(store, "last_failure", None)
            if failure is not None and monotonic() - failure[0] < _TOLD_SECONDS:
                troubles.append(f"the last write of {what} failed: {failure[1]}")
        return Health(tuple(troubles), serves=not broken or served > broken)

    async def _count(self) -> tuple[int, int]:
        """Return how many partitions cannot be used, of how many here; a topic at a time."""
        topics, reactor = self._broker.topics, self._broker.reactor
        broken = served = 0
        began = monotonic()
        for name in list(topics.all_names):
            broken += topics.out_of_order(name)
            served += topics.served(name)
            if monotonic() - began > _SLICE_SECONDS:
                await deferLater(reactor, 0)
                began = monotonic()
        return broken, served
