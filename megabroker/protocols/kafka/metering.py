"""What a request of a client with quotas costs the client, and the wait that it is told.

Owns the time spent on one request; the counting is ``core.quotas``'s. As in Apache Kafka the answer is sent
at once, says how long the client has to wait (``throttle_time_ms``), and the connection is not read for
that long (KIP-219). Time is the reactor's: decoding, handling, encoding; not what passes while a request
waits for the disk or for others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

from megabroker.interfaces import IMeter, IMutations
from megabroker.net.output import part_length

__all__ = ["Metered", "records_bytes"]

_STRICT_SINCE: Final = {19: 6, 20: 5, 37: 3}
"""By API that changes topics: the first version whose clients know the error of KIP-599."""


def records_bytes(rows: Iterable[Any]) -> int:
    """Return the bytes of records in the rows of an answer to a fetch of either kind."""
    size = 0
    for row in rows:
        if row.records is not None:
            size += part_length(row.records)
    return size


class _Mutable(Protocol):
    def mute(self, milliseconds: int) -> None:
        """Hear the client no more for so long."""


class Metered:
    """One request; its time begins to count when this is made.

    Attributes:
        meter: the quotas that hold for the client.
        mutations: what counts the changes of topics that it makes; None if nothing limits them.
    """

    __slots__ = ("_connection", "_seconds", "_since", "meter", "mutations")

    def __init__(self, connection: _Mutable, meter: IMeter, key: int, version: int) -> None:
        self.meter = meter
        self.mutations: IMutations | None = None
        if key in _STRICT_SINCE:
            self.mutations = meter.mutations(strict=version >= _STRICT_SINCE[key])
        self._connection = connection
        self._seconds = 0.0
        self._since = time.perf_counter()

    def pause(self) -> None:
        """The request waits for something."""
        self._seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        """It is worked on again."""
        self._since = time.perf_counter()

    def settle(self, throttle_ms: int = 0) -> int:
        """Count the time spent; return how long the client has to wait, and mute its connection for it.

        Args:
            throttle_ms: for how long it has to wait anyhow.
        """
        self.pause()
        throttle_ms = max(throttle_ms, self.meter.worked(self._seconds))
        self._seconds = 0.0
        if self.mutations is not None:
            throttle_ms = max(throttle_ms, self.mutations.throttle_ms)
        if throttle_ms:
            self._connection.mute(throttle_ms)
        return throttle_ms

    def settle_unanswered(self, throttle_ms: int) -> None:
        """Mute the connection after a request without an answer, whose time is not counted."""
        if throttle_ms:
            self._connection.mute(throttle_ms)
