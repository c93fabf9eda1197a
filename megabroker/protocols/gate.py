"""Something a connection's requests can be made to wait behind.

Owns an open-or-closed state and who waits for it to open; satisfies ``megabroker.net.connection.Room``. A
protocol whose requests must not overtake one another closes its gate while one of them is being carried
out and answers ``handle`` with the gate.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Gate"]


class Gate:
    """Open when made.

    Attributes:
        closed: whether requests have to wait.
    """

    __slots__ = ("_waiting", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._waiting: list[Callable[[], None]] = []

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when the gate is opened."""
        self._waiting.append(callback)

    def close(self) -> None:
        """Make requests wait."""
        self.closed = True

    def open(self) -> None:
        """Let those who wait go on."""
        self.closed = False
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
