"""All direct connections behind one read descriptor of the reactor: a nested epoll.

A reactor spends on every ready descriptor what a small request costs: a log context, a look-up, two checks.
Here the connections are in an epoll of their own, whose descriptor is readable while any of them is. One
event of the reactor then reads every connection that is ready, and what they have asked for meets in one
turn (``megabroker.net.turns``): one write of the log, one sync, one send each.

Only reading goes this way. A connection whose output is full waits for writability with the reactor itself.

A turn that takes long leaves the rest of those that are ready to the next, before any that became ready
later: whoever was read is answered within some milliseconds, and the reactor's other events, such as what the
disk reports, come in between.

Invariant: a connection is in here exactly while it wants to read, as it would be with the reactor.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import Any, Protocol

from twisted.internet import main
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.net.turns import Turns

__all__ = ["NestedEpoll", "available"]

_log = Logger()

_AT_ONCE = 512
_DONE = Failure(main.CONNECTION_DONE)  # type: ignore[no-untyped-call]


class _Connection(Protocol):
    """What is read: a reactor's read and write descriptor that may be closed by halves."""

    def fileno(self) -> int: ...

    def doRead(self) -> Any: ...

    def stopWriting(self) -> Any: ...

    def connectionLost(self, reason: Any) -> Any: ...

    def readConnectionLost(self, reason: Any) -> Any: ...


def available() -> bool:
    """Whether this system has epoll."""
    return hasattr(select, "epoll")


@implementer(IReadDescriptor)
class NestedEpoll:
    """Reads many connections in one event of the reactor.

    Args:
        reactor: has this as a reader while there are connections.
        turns: of that reactor; reading is one.

    Attributes:
        expects: whether connections may say what they are likely to receive (``net.quick``).
        turn_seconds: how long connections are read before those that were are answered; the next turn is the
            others'.
    """

    expects = False
    turn_seconds = 0.005

    def __init__(self, reactor: Any, turns: Turns) -> None:
        self._reactor = reactor
        self._turns = turns
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._left: list[tuple[int, int]] = []  # ready in a turn that had no time for them

    def fileno(self) -> int:
        """IFileDescriptor."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """ILoggingContext."""
        return "connections"

    def add(self, connection: _Connection) -> None:
        """Read a connection whenever it is ready."""
        descriptor = connection.fileno()
        known = self._connections.get(descriptor)
        if known is connection:
            return
        if known is not None:
            self._epoll.unregister(descriptor)
        if not self._connections:
            self._reactor.addReader(self)
        self._connections[descriptor] = connection
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, connection: _Connection) -> None:
        """Read a connection no more; no effect when it is not read."""
        descriptor = connection.fileno()
        if self._connections.get(descriptor) is connection:
            del self._connections[descriptor]
            self._epoll.unregister(descriptor)
            if not self._connections:
                self._reactor.removeReader(self)

    def doRead(self) -> None:
        """IReadDescriptor: read every connection that is ready, and do what they ask for."""
        self._turns.run(self._read_ready, self.turn_seconds)

    def _read_ready(self) -> None:
        ready = self._left or self._epoll.poll(0, _AT_ONCE)
        self._left = []
        deadline = self._turns.deadline
        for at, (descriptor, _) in enumerate(ready):
            if at and monotonic() > deadline:
                self._left = ready[at:]
                break
            connection = self._connections.get(descriptor)
            if connection is None:
                continue  # closed by one before it in this turn
            try:
                why = connection.doRead()
            except Exception as error:  # noqa: BLE001 - the connection edge: logged, and the others go on
                _log.failure("reading a connection")
                why = error
            if why is not None:
                self._lost(connection, why)

    def _lost(self, connection: _Connection, why: Any) -> None:
        """End a connection as a reactor would; nothing that raises may end what reads the others."""
        try:
            self.remove(connection)
            if isinstance(why, ConnectionDone):
                connection.readConnectionLost(_DONE)
            else:
                connection.stopWriting()
                connection.connectionLost(Failure(why))  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - the connection edge: logged, and the others go on
            _log.failure("ending a connection")

    def connectionLost(self, reason: Any) -> None:
        """IFileDescriptor: the reactor is at its end, and so are the connections."""
        for connection in list(self._connections.values()):
            connection.connectionLost(reason)
        self._epoll.close()
