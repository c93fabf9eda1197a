"""How much the broker takes in at once: connections, and bytes of requests not yet answered.

Owns two counts shared by all listeners of a process. ``Admission.charge`` never refuses; it says whether
the budget is overdrawn, and a connection that hears so stops reading until ``when_room`` calls it back.
The overdraft is therefore at most one received chunk per connection.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

__all__ = ["Admission"]


class Admission:
    """Counts of connections and of request bytes in memory.

    Args:
        max_connections: connections at the same time, all listeners together.
        max_connections_per_address: the same for one peer address.
        in_flight_bytes: request bytes received and not answered before reading stops.
    """

    def __init__(self, max_connections: int, max_connections_per_address: int, in_flight_bytes: int) -> None:
        self.max_connections = max_connections
        self.max_connections_per_address = max_connections_per_address
        self.in_flight_bytes = in_flight_bytes
        self.charged_bytes = 0
        self.connections = 0
        self.refused_connections = 0
        self._by_address: Counter[str] = Counter()
        self._waiting: deque[Callable[[], None]] = deque()

    def admit(self, address: str) -> str | None:
        """Count a new connection in; return why not when it is one too many."""
        if self.connections >= self.max_connections:
            self.refused_connections += 1
            return f"limits.max_connections is {self.max_connections}"
        if self._by_address[address] >= self.max_connections_per_address:
            self.refused_connections += 1
            return f"limits.max_connections_per_address is {self.max_connections_per_address}"
        self.connections += 1
        self._by_address[address] += 1
        return None

    def dismiss(self, address: str) -> None:
        """Count a connection out."""
        self.connections -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    @property
    def has_room(self) -> bool:
        """Whether the byte budget has something left."""
        return self.charged_bytes < self.in_flight_bytes

    def charge(self, difference: int) -> bool:
        """Add to (or, negative, take from) the bytes in flight; return whether there still is room."""
        self.charged_bytes += difference
        if difference < 0 and self._waiting and self.has_room:
            waiting = self._waiting
            self._waiting = deque()
            for callback in waiting:
                callback()
        return self.charged_bytes < self.in_flight_bytes

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when the byte budget has something left again."""
        self._waiting.append(callback)
