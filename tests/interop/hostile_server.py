"""A server on a real socket that answers whatever a test wants, to see what clients make of it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["HostileServer", "drip"]

Behaviour = Callable[[socket.socket], None]


class HostileServer:
    """Waits for a request on each connection, then behaves; a context manager.

    Args:
        behaviours: of the first connection, the second and so on; the last is that of all further ones.

    Attributes:
        port: where it is.
        received: what the first chunk on each connection was.
    """

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = behaviours
        self._server = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port = int(self._server.getsockname()[1])
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A close alone does not wake who waits in accept.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._connections:
            one.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            number = min(len(self._connections), len(self._behaviours) - 1)
            self._connections.append(connection)
            threading.Thread(
                target=self._behave, args=(connection, self._behaviours[number]), daemon=True
            ).start()

    def _behave(self, connection: socket.socket, behaviour: Behaviour) -> None:
        with connection, contextlib.suppress(OSError):
            self.received.append(connection.recv(65536))
            behaviour(connection)


def drip(data: bytes, every_seconds: float) -> Behaviour:
    """Answer byte by byte."""

    def behave(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(every_seconds)

    return behave
