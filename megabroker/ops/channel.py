"""Messages between the processes of one broker: whole Python values over a pair of sockets, in order.

Owns the framing, a length and a pickle. Both ends are processes of this program that have started each other;
nothing else can reach the sockets, so that what is read is believed.
"""

from __future__ import annotations

import pickle
import signal
import socket
import struct
from typing import Any, Final

__all__ = [
    "ALIVE",
    "ASK",
    "DRAINED",
    "END",
    "IMPORT",
    "IMPORTED",
    "OPENING",
    "READY",
    "REFUSED",
    "STOP",
    "TELL_WHERE",
    "Channel",
]

READY: Final = "ready"
"""A process says that it serves, and after how many milliseconds."""

OPENING: Final = "opening"
"""A process says how many logs it has opened, and of how many."""

REFUSED: Final = "refused"
"""A process says why it cannot serve."""

STOP: Final = "stop"
"""A process is told to serve no clients any more."""

DRAINED: Final = "drained"
"""It says that it serves none, but still the other processes."""

END: Final = "end"
"""It is told to stop altogether, as no process serves clients any more."""

ASK: Final = "ask"
"""It is asked whether it still does anything."""

ALIVE: Final = "alive"
"""It does."""

IMPORT: Final = "import"
"""It is told to import all that it might need later, as its files are about to go."""

IMPORTED: Final = "imported"
"""It has."""

TELL_WHERE: Final = signal.SIGUSR1
"""The signal at which a process writes down where its threads are, whatever else it does."""

_LENGTH: Final = struct.Struct(">I")


class Channel:
    """One end. Both methods block, and may be called by different threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """Return the descriptor, -1 when closed."""
        return self._connection.fileno()

    def send(self, message: Any) -> None:
        """Send a value. Raises OSError when the other end is gone."""
        data = pickle.dumps(message)
        self._connection.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Any | None:
        """Return the next value, or None when the other end is gone."""
        head = self._exactly(_LENGTH.size)
        data = None if head is None else self._exactly(_LENGTH.unpack(head)[0])
        return None if data is None else pickle.loads(data)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                more = self._connection.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not more:
                return None
            data += more
        return bytes(data)

    def close(self) -> None:
        """Close it."""
        self._connection.close()
