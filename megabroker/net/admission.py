"""How much the broker takes in at once: connections, and bytes of requests not yet answered.

Owns the counts shared by all listeners of a process (``Admission``) and each connection's part in them
(``Share``). The byte budget is ``limits.in_flight_bytes``, and it is spent in two ways:

- A frame longer than 64 KiB that has begun to come *reserves* its whole length before more of it is read.
  What does not fit waits, in order of asking; if nothing is reserved and the budget not overdrawn, the first
  always fits. So whoever was let begin can always finish, and the budget cannot be used up by frames none of
  which can be completed.
- What has been read and not answered is *charged*, there being no choice. A connection that is itself
  charged more than 64 KiB stops reading while the budget is overdrawn; it goes on when it is not. What is
  charged is given back by the broker's own work, whatever any peer does.

Invariant: a connection with little in flight is never held up by the budget, however much others have.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from time import monotonic

from megabroker.net.unread import Unread

__all__ = ["FREE_BYTES", "Admission", "Share"]

_UNLIMITED = 1 << 62

FREE_BYTES = 64 * 1024
"""What a connection may have in flight without regard to the budget."""


class Admission:
    """Counts of connections and of request bytes in memory.

    Args:
        max_connections: connections at the same time, all listeners together.
        max_connections_per_address: the same for one peer address.
        in_flight_bytes: request bytes received and not answered before reading stops.
        unread: the account of answers that wait; by default without a limit.

    Attributes:
        limits_met: how often each of these limits was, by its key in the configuration.
    """

    def __init__(
        self,
        max_connections: int,
        max_connections_per_address: int,
        in_flight_bytes: int,
        unread: Unread | None = None,
    ) -> None:
        self.max_connections = max_connections
        self.max_connections_per_address = max_connections_per_address
        self.in_flight_bytes = in_flight_bytes
        self.unread = Unread(_UNLIMITED, monotonic) if unread is None else unread
        self.charged_bytes = 0
        self.reserved_bytes = 0
        self.connections = 0
        self.limits_met: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()
        self._asking: deque[Share] = deque()
        self._waiting: deque[Share] = deque()

    def admit(self, address: str) -> str | None:
        """Count a new connection in; return why not when it is one too many."""
        if self.connections >= self.max_connections:
            self.met("limits.max_connections")
            return f"limits.max_connections is {self.max_connections}"
        if self._by_address[address] >= self.max_connections_per_address:
            self.met("limits.max_connections_per_address")
            return f"limits.max_connections_per_address is {self.max_connections_per_address}"
        self.connections += 1
        self._by_address[address] += 1
        return None

    def met(self, key: str) -> None:
        """A limit has been met."""
        self.limits_met[key] += 1

    def dismiss(self, address: str) -> None:
        """Count a connection out."""
        self.connections -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    @property
    def is_overdrawn(self) -> bool:
        """Whether more is in flight than the budget allows."""
        return self.charged_bytes + self.reserved_bytes > self.in_flight_bytes

    def discharge(self, size_bytes: int) -> None:
        """Take back what was added to ``charged_bytes`` for requests that were read together."""
        self.charged_bytes -= size_bytes
        if self._asking or self._waiting:
            self._given_back()

    def _fits(self, size_bytes: int) -> bool:
        if not self.reserved_bytes and not self.is_overdrawn:
            return True
        return self.charged_bytes + self.reserved_bytes + size_bytes <= self.in_flight_bytes

    def _given_back(self) -> None:
        """Let those go on who now may."""
        while self._asking and self._fits(self._asking[0].wanted_bytes):
            self._asking.popleft().granted()
        if self._waiting and not self.is_overdrawn:
            waiting, self._waiting = self._waiting, deque()
            for share in waiting:
                share.resumed()


def _nothing() -> None:
    pass


class Share:
    """One connection's part in the byte budget.

    Args:
        go_on: called once after ``settle`` returned False, when reading may go on; never from within a
            call of this connection's own.

    Attributes:
        charged_bytes: what it was last charged.
        wanted_bytes: what it waits to reserve, or 0.
    """

    __slots__ = ("_admission", "_go_on", "_reserved", "_waits", "charged_bytes", "wanted_bytes")

    def __init__(self, admission: Admission, go_on: Callable[[], None]) -> None:
        self._admission = admission
        self._go_on = go_on
        self.charged_bytes = 0
        self._reserved = 0
        self._waits = False
        self.wanted_bytes = 0

    def settle(self, held_bytes: int, announced_bytes: int) -> bool:
        """Bring the books up to date.

        Args:
            held_bytes: of what was read and is not answered.
            announced_bytes: length of the unfinished frame, or 0.

        Returns:
            Whether reading may go on.
        """
        admission = self._admission
        wanted = announced_bytes if announced_bytes > FREE_BYTES else 0
        less = held_bytes < self.charged_bytes or wanted < self._reserved
        admission.charged_bytes += held_bytes - self.charged_bytes
        self.charged_bytes = held_bytes
        if wanted != (self._reserved or self.wanted_bytes):
            self._reserve(wanted)
        if less:
            admission._given_back()
        if self.wanted_bytes:
            return False
        if held_bytes > FREE_BYTES and admission.is_overdrawn:
            if not self._waits:
                self._waits = True
                admission.met("limits.in_flight_bytes")
                admission._waiting.append(self)
            return False
        return True

    def _reserve(self, wanted: int) -> None:
        admission = self._admission
        self._withdraw()
        admission.reserved_bytes -= self._reserved
        self._reserved = 0
        if not wanted:
            return
        if not admission._asking and admission._fits(wanted):
            admission.reserved_bytes += wanted
            self._reserved = wanted
        else:
            self.wanted_bytes = wanted
            admission.met("limits.in_flight_bytes")
            admission._asking.append(self)

    def _withdraw(self) -> None:
        if self.wanted_bytes:
            self._admission._asking.remove(self)
            self.wanted_bytes = 0

    def granted(self) -> None:
        """For ``Admission``: what was asked for fits."""
        self._reserved, self.wanted_bytes = self.wanted_bytes, 0
        self._admission.reserved_bytes += self._reserved
        self._go_on()

    def resumed(self) -> None:
        """For ``Admission``: the budget is not overdrawn any more."""
        self._waits = False
        self._go_on()

    def give_back(self) -> None:
        """The connection is gone."""
        self.settle(0, 0)
        if self._waits:
            self._waits = False
            self._admission._waiting.remove(self)
        # No cycle is left behind: the connection's buffers go with the connection, not at some collection.
        self._go_on = _nothing
