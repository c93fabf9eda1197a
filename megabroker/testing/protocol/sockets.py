"""The same conversation over real sockets, with a broker in another process, comes to the same answers."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final

from megabroker.testing.protocol.conversation import TOPIC, Outcome, Wire, talk
from megabroker.testing.server import BrokerServer
from megabroker.testing.settings import merged

__all__ = ["check_sockets"]

_ANSWER_SECONDS: Final = 10.0
_RANDOM_SPLITS: Final = 3
_SEED: Final = 7

_Cut = Callable[[bytes], Sequence[bytes]]


def check_sockets(wire: Wire) -> None:
    """Have the conversation over TCP: uncut, in single bytes, and cut at random.

    The plugin has to be installed, or on Python's path, where a new process finds it.

    Raises:
        AssertionError: something else is answered than in memory.
        ServerError: the broker cannot start; says why.
    """
    expected = talk(wire)
    name = wire.plugin.name
    config = merged(wire.config, {"protocols": {name: dict(wire.settings)}})
    with BrokerServer(config, protocols=[name]) as server:
        for number, (how, cut) in enumerate(_cuts()):
            if number:
                server.clean()
            for topic, partitions in {TOPIC: 1, **wire.topics}.items():
                server.create_topic(topic, partitions)
            _compare(wire, server.ports[name], expected, how, cut)
        if "Traceback" in server.log:
            raise AssertionError(f"a failure was logged:\n{server.log}")


def _cuts() -> Iterator[tuple[str, _Cut]]:
    yield "uncut", lambda piece: (piece,)
    yield "in single bytes", lambda piece: [piece[at : at + 1] for at in range(len(piece))]
    for number in range(_RANDOM_SPLITS):
        yield f"cut at random, seed {_SEED + number}", _randomly(Random(_SEED + number))


def _randomly(dice: Random) -> _Cut:
    def cut(piece: bytes) -> Sequence[bytes]:
        inside = sorted(dice.randrange(1, max(2, len(piece))) for _ in range(5))
        return [piece[a:b] for a, b in itertools.pairwise([0, *inside, len(piece)])]

    return cut


def _compare(wire: Wire, port: int, expected: Outcome, how: str, cut: _Cut) -> None:
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pieces = (wire.opening, *wire.conversation)
        for number, (piece, wanted) in enumerate(zip(pieces, expected.answers, strict=True)):
            for chunk in cut(piece):
                connection.sendall(chunk)
            found = _received(connection, len(wanted))
            if wire.constant(found) != wire.constant(wanted):
                what = f"piece {number}" if number else "the opening"
                raise AssertionError(
                    f"{how}, over TCP the answer to {what} is {found[:80]!r} ({len(found)} bytes), in memory "
                    f"it was {wanted[:80]!r} ({len(wanted)} bytes)"
                )
        if expected.is_closed and _received(connection, 1):
            raise AssertionError(f"{how}, over TCP more is answered than in memory")


def _received(connection: socket.socket, count: int) -> bytes:
    """Receive so many bytes; fewer if no more come, or the connection ends."""
    data = bytearray()
    while len(data) < count:
        try:
            more = connection.recv(count - len(data))
        except (TimeoutError, ConnectionError):
            break
        if not more:
            break
        data += more
    return bytes(data)
