"""The process of a ``BrokerServer``: an ``EmbeddedBroker`` that does what its parent says.

    python -m megabroker.testing.child DESCRIPTOR

The descriptor is of a socket that the parent made, the only way to talk to this process: lines of JSON, a
request with ``do`` and its arguments, answered by one with ``result`` or ``error``. When the socket ends,
however the parent has, this process stops.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from megabroker.ops.tls import leave_out_tls

__all__ = ["main"]

_LONGEST_LINE_BYTES = 1 << 24


class _Commands:
    """What the parent can ask for; arguments are the keys of its request."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        from megabroker.testing.embedded import EmbeddedBroker

        self.broker = EmbeddedBroker(request["config"], protocols=request["protocols"])

    async def start(self) -> Any:
        await self.broker.start()
        return self._where()

    async def reset(self) -> Any:
        await self.broker.reset()
        return self._where()

    def _where(self) -> Any:
        return {"ports": dict(self.broker.ports), "bootstrap": self.broker.bootstrap}

    async def inject(self, fault: Mapping[str, Any], seed: int) -> Any:
        return self.broker.inject(seed=seed, **fault)

    async def create_topic(self, name: str, partitions: int) -> Any:
        await self.broker.create_topic(name, partitions)

    async def heal(self) -> Any:
        self.broker.heal()

    async def met(self) -> Any:
        return self.broker.met()


def main(descriptor: int) -> None:
    """Serve the parent until it goes."""
    gc.disable()  # what is imported stays, and looking through it takes a tenth of the start; that enables it
    channel = socket.socket(fileno=descriptor)
    buffer = bytearray()
    request = json.loads(_read_line(channel, buffer))
    if request["without_tls"]:
        leave_out_tls()
    # The end of the process is the parent's to say; a terminal's Ctrl-C reaches it as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.protocol import Factory, connectionDone
    from twisted.logger import globalLogBeginner
    from twisted.protocols.basic import LineOnlyReceiver
    from twisted.python.failure import Failure

    from megabroker.ops.logs import LogThreshold, make_observer

    globalLogBeginner.beginLoggingTo(
        [make_observer(None, False, LogThreshold())], redirectStandardIO=False, discardBuffer=True
    )
    commands = _Commands(request)
    reactor: Any = importlib.import_module("twisted.internet.reactor")

    class Channel(LineOnlyReceiver):
        """The parent."""

        delimiter = b"\n"
        MAX_LENGTH = _LONGEST_LINE_BYTES

        def connectionMade(self) -> None:
            self.lineReceived(b'{"do": "start"}')

        def lineReceived(self, line: bytes) -> None:
            asked = json.loads(line)
            command: Callable[..., Any] = getattr(commands, asked.pop("do"))
            ensureDeferred(_called(command, asked)).addBoth(self.answer)

        def answer(self, result: Any) -> None:
            if isinstance(result, Failure):
                kind = "value" if isinstance(result.value, (ValueError, TypeError)) else "broker"
                told = {"error": result.getErrorMessage(), "kind": kind}
            else:
                told = {"result": result}
            self.sendLine(json.dumps(told).encode())  # type: ignore[no-untyped-call]

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            commands.broker.stop().addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(
        reactor.adoptStreamConnection, channel.fileno(), socket.AF_UNIX, Factory.forProtocol(Channel)
    )
    reactor.run(installSignalHandlers=False)


async def _called(command: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    return await command(**arguments)


def _read_line(channel: socket.socket, buffer: bytearray) -> bytes:
    while b"\n" not in buffer:
        data = channel.recv(1 << 16)
        if not data:
            raise SystemExit(0)
        buffer += data
    line, _, rest = bytes(buffer).partition(b"\n")
    assert not rest  # the parent waits for the answer
    return line


if __name__ == "__main__":
    main(int(sys.argv[1]))
    # Nothing is left to be written; interpreter shutdown would take as long as the start has.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
