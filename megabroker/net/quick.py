"""The compiled part, if it is there and wanted: a nested epoll that is read by one call a turn.

``compiled.Turn`` takes produce requests that repeat; all else is read as ``NestedEpoll`` reads it. Which of
the two is used can be seen in nothing but the time it takes.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from twisted.internet import main
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.net.polling import NestedEpoll, available
from megabroker.net.turns import Turns

__all__ = ["VARIABLE", "CompiledEpoll", "compiled", "describe", "make_polling"]

_log = Logger()

VARIABLE = "MEGABROKER_COMPILED"
"""Environment variable; "0" has the broker do without the compiled part although it is there."""


def compiled() -> ModuleType | None:
    """Return the compiled part; None if this installation has none or it is switched off."""
    if os.environ.get(VARIABLE) == "0":
        return None
    try:
        from megabroker.net import compiled as module
    except ImportError:
        return None
    return module


def describe() -> str:
    """Say whether the compiled part is used, for the line that says that the broker is ready."""
    if compiled() is not None:
        return "compiled part in use" if available() else "compiled part without epoll not in use"
    return "compiled part switched off" if os.environ.get(VARIABLE) == "0" else "no compiled part"


class CompiledEpoll(NestedEpoll):
    """Reads many connections in one event of the reactor and, as far as may be, in one call.

    Args:
        module: ``compiled``.
        scratch: receives what comes; also used by connections that are read one by one.
    """

    expects = True

    def __init__(self, reactor: Any, turns: Turns, module: Any, scratch: memoryview) -> None:
        super().__init__(reactor, turns)
        self._module = module
        self.turn = module.Turn(
            self._epoll.fileno(),
            self._connections,
            scratch,
            self._read,
            self._take,
            self._ended,
            self._failed,
            self.turn_seconds,
        )

    def expect(self, transport: Any, *shape: Any) -> None:
        """Have ``turn`` take requests of a shape from a connection, beside those it is to take already.

        Args:
            shape: as for ``compiled.Shape``.
        """
        if transport.quick is None:
            transport.quick = self._module.Connection(transport, transport.protocol)
        transport.quick.expect(self._module.Shape(*shape))

    def doRead(self) -> None:
        """IReadDescriptor: read every connection that is ready, and do what they ask for."""
        self._turns.run(self.turn.take, self.turn_seconds)

    def _read(self, connection: Any) -> None:
        why = connection.doRead()
        if why is not None:
            self._lost(connection, why)

    def _take(self, connection: Any, data: memoryview) -> None:
        connection.protocol.dataReceived(data)

    def _failed(self, connection: Any, error: Exception) -> None:
        """The connection edge: logged, and the others go on."""
        _log.failure("reading a connection", Failure(error))  # type: ignore[no-untyped-call]
        self._lost(connection, error)

    def _ended(self, connection: Any, by_peer: bool) -> None:
        self._lost(connection, main.CONNECTION_DONE if by_peer else main.CONNECTION_LOST)


def make_polling(reactor: Any, turns: Turns, scratch: memoryview) -> NestedEpoll | None:
    """Return what reads all connections, or None where there is no epoll."""
    if not available():
        return None
    module = compiled()
    if module is None:
        return NestedEpoll(reactor, turns)
    return CompiledEpoll(reactor, turns, module, scratch)
