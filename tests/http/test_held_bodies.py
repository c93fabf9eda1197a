"""How long the body of a request counts as held."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from megabroker.testing import EmbeddedBroker

_BODY = b"{" + b" " * 100_000 + b"}"  # enough to be read in a thread
_HEAD = (
    b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(_BODY)
)


async def until(condition: Callable[[], bool]) -> None:
    reactor: Any = _reactor
    deadline = reactor.seconds() + 20
    while not condition():
        assert reactor.seconds() < deadline
        await deferLater(reactor, 0.01)


class HeldBodiesTests(TestCase):
    async def test_a_body_counts_while_it_is_read_though_who_sent_it_is_gone(self) -> None:
        reactor: Any = _reactor
        async with EmbeddedBroker(
            {"http": {"enabled": True, "endpoint": "tcp:0:interface=127.0.0.1"}}
        ) as broker:
            assert broker._service is not None
            listeners = broker._service._listeners
            http: Any = listeners.http
            (listener,) = listeners.told_http()
            free = threading.Event()
            waiting = [deferToThread(free.wait, 20) for _ in range(reactor.getThreadPool().max)]
            try:
                endpoint = TCP4ClientEndpoint(reactor, listener.address.host, listener.address.port)
                client: Any = await endpoint.connect(Factory.forProtocol(Protocol))
                client.transport.write(_HEAD + _BODY)
                await until(lambda: http.held_bytes == len(_BODY))
                client.transport.loseConnection()
                await until(lambda: not http.connections)
                self.assertEqual(http.held_bytes, len(_BODY))
            finally:
                free.set()
            await until(lambda: http.held_bytes == 0)
            await gatherResults(waiting)
