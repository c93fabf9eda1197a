"""Answers in pieces: sent as they come, no faster than they are taken, and ended with their client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import treq
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from megabroker.config.http import HttpSettings
from megabroker.http.listening import HttpFactory
from megabroker.http.routes import Answer, Call, Route
from megabroker.http.site import Site

reactor: Any = global_reactor


class _Admission:
    """Admits everybody."""

    def admit(self, host: str) -> None:
        """See ``Admission``."""

    def dismiss(self, host: str) -> None:
        """See ``Admission``."""


class StreamCase(TestCase):
    """A server with one route that answers in pieces."""

    async def serve(self, pieces: Callable[[], AsyncIterator[bytes]]) -> str:
        broker = SimpleNamespace(reactor=reactor, admission=_Admission(), authentication=None)
        inside: Any = SimpleNamespace(broker=broker)
        self.factory = HttpFactory(
            inside, HttpSettings(request_seconds=1), authenticates=False, serves_all=True
        )

        def get_stream(call: Call) -> Answer:
            return Answer(body=pieces(), content_type="text/event-stream")

        from megabroker.http.channel import Channel

        route = Route("GET", "/stream", get_stream, "A stream.", waits=True)
        self.factory._site, self.factory._make = Site(self.factory, [route]), Channel
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.factory.listens(port)
        self.addCleanup(port.stopListening)
        self.addCleanup(lambda: self.factory.drain(0.1))
        return f"http://127.0.0.1:{port.getHost().port}/stream"

    async def test_pieces_come_one_by_one(self) -> None:
        more: Deferred[None] = Deferred()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            await more
            yield b"two"

        answer = await treq.get(await self.serve(pieces), persistent=False)
        came: list[bytes] = []

        def take(piece: bytes) -> None:
            came.append(piece)
            if not more.called:
                self.assertEqual(came, [b"one"])
                more.callback(None)

        await treq.collect(answer, take)
        self.assertEqual(b"".join(came), b"onetwo")

    async def test_they_end_with_their_client(self) -> None:
        ended: Deferred[None] = Deferred()

        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"tick"
                    await deferLater(reactor, 0.01)
            finally:
                ended.callback(None)

        answer = await treq.get(await self.serve(pieces), persistent=False)
        collecting = treq.collect(answer, lambda piece: collecting_done())

        def collecting_done() -> None:
            answer.original._transport.abortConnection()

        collecting.addErrback(lambda _: None)
        await ended
        await collecting

    async def test_a_stop_ends_them(self) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"tick"
            await Deferred()

        answer = await treq.get(await self.serve(pieces), persistent=False)
        collecting = treq.collect(answer, lambda piece: None)
        collecting.addErrback(lambda _: None)
        began = reactor.seconds()
        await deferLater(reactor, 0.05)
        await self.factory.drain(5)
        self.assertLess(reactor.seconds() - began, 2)
        await collecting

    async def test_who_takes_nothing_gets_no_more(self) -> None:
        made = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal made
            while True:
                made += 1
                yield b"x" * 100_000

        url = await self.serve(pieces)
        answer = await treq.get(url, persistent=False, unbuffered=True)
        answer.original._transport.pauseProducing()
        while self.factory.connections:
            await deferLater(reactor, 0.05)
        self.assertLess(made, 300)  # of 100 kB: what the sockets of both sides hold
