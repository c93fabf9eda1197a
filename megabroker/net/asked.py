"""One request of a client's, from when it came until it is answered: how long each part of that took.

Made for requests that take some tens of microseconds and more; cheaper ones are counted in groups
(``net.turns``), and there it is made only where somebody wants to know of single ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from megabroker.net.output import Part, total_length

if TYPE_CHECKING:
    from megabroker.net.connection import BrokerConnection

__all__ = ["Asked"]


class Asked:
    """A request that is being carried out.

    Args:
        api: what the wire calls it.
        version: of the request; -1 where there is none.
        since: when it came, by the monotonic clock; by default it is the one in hand.
    Attributes:
        size_bytes: how long it is.
    """

    __slots__ = ("_api", "_began", "_connection", "_since", "_version", "_waits", "size_bytes")

    def __init__(
        self, connection: BrokerConnection, api: str, version: int, size_bytes: int, since: float = 0.0
    ) -> None:
        self._connection = connection
        self._api = api
        self._version = version
        # As ``BrokerConnection.since``, of which a call would be seen.
        since = since or connection._offered_since or connection.turns.began or monotonic()
        self._since = since
        self._began = since if connection.counts.notes is None else monotonic()
        self._waits = 0.0
        self.size_bytes = size_bytes

    def waits(self) -> None:
        """From now on it waits for something else than its turn: the disk, other clients, or data."""
        self._waits = monotonic()

    def answered(self, parts: Sequence[Part], count: int = 1) -> None:
        """Count it, or so many that were gathered and are answered together."""
        counts = self._connection.counts
        latency = counts.latencies.get(self._api) or counts.latency(self._api)
        turns = self._connection.turns
        if turns.since == self._since and turns.kind is latency:
            turns.alike += count
        else:
            turns.answered(latency, self._since, count)
        if counts.notes is not None:
            self.note(parts)

    def note(self, parts: Sequence[Part]) -> None:
        """Tell of it, without counting it."""
        connection = self._connection
        notes = connection.counts.notes
        if notes is None:
            return
        now = monotonic()
        waits = self._waits or now
        notes.note(
            connection.factory.listener.protocol,
            self._api,
            connection,
            now - self._since,
            version=self._version,
            request_bytes=self.size_bytes,
            answer_bytes=total_length(parts),
            queued_ms=round((self._began - self._since) * 1000, 3),
            worked_ms=round((waits - self._began) * 1000, 3),
            waited_ms=round((now - waits) * 1000, 3),
        )
