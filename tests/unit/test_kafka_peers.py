"""Asking other processes over Unix sockets: answers, order, time, loss and coming back."""

from __future__ import annotations

import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from megabroker.codec.framing import FrameReader
from megabroker.errors import BrokerError, ErrorCode, PeerError, ProtocolError
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.peers import Peers, encode_request
from megabroker.protocols.kafka.schema import api_versions, find_coordinator
from megabroker.protocols.kafka.schema.headers import read_request_header

reactor: Any = global_reactor

_FIND = 10


class _Worker(Protocol):
    """Answers FindCoordinator by its key: with it, late, never, wrongly, or by hanging up."""

    def __init__(self, worker: WorkerPort) -> None:
        self.worker = worker
        self.reader = FrameReader(1 << 20)
        self.silent = False

    def connectionMade(self) -> None:
        self.worker.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.reader.feed(data)
        while (frame := self.reader.next()) is not None:
            header, pos = read_request_header(frame, 0, len(frame))
            api_version = header.request_api_version
            if header.request_api_key == 18:
                self.reply(18, api_version, header.correlation_id, api_versions.Response(error_code=0))
                continue
            key = find_coordinator.Request.decoder(api_version)(frame, pos, len(frame))[0].key
            self.worker.asked.append(key)
            answer = find_coordinator.Response(error_code=0, node_id=7, host=key, port=1)
            if key == "hang up" or (key == "hang up once" and self.worker.asked.count(key) == 1):
                self.transport.abortConnection()
            elif key == "hang up late":
                reactor.callLater(0.05, self.transport.abortConnection)
            elif key == "garbage":
                self.transport.write(struct.pack(">iii", 8, header.correlation_id + 5, 0))
            elif key.startswith("late"):
                reactor.callLater(0.2, self.reply, _FIND, api_version, header.correlation_id, answer)
            elif key == "never" or self.silent:
                self.silent = True
            else:
                self.reply(_FIND, api_version, header.correlation_id, answer)
        self.reader.release()

    def reply(self, key: int, version: int, correlation_id: int, answer: Any) -> None:
        self.transport.write(b"".join(map(bytes, encode_answer(answer, key, version, correlation_id))))


class WorkerPort:
    """A process that can be asked, until it is closed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connections: list[_Worker] = []
        self.asked: list[str] = []
        self.port: Any = None

    async def open(self) -> None:
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: _Worker(self)  # type: ignore[method-assign]
        self.port = await UNIXServerEndpoint(reactor, self.path).listen(factory)

    async def close(self) -> None:
        port, self.port = self.port, None
        if port is not None:
            await port.stopListening()
        for connection in self.connections:
            connection.transport.abortConnection()
        self.connections.clear()
        await deferLater(reactor, 0.02)


class PeersCase(TestCase):
    async def setUp(self) -> None:
        place = TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.worker = WorkerPort(str(Path(place.name) / "1.sock"))
        self.peers = Peers(
            reactor, lambda _: UNIXClientEndpoint(reactor, self.worker.path, timeout=5), 1 << 20
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(self.worker.close()))
        self.addCleanup(self.peers.stop)
        await self.worker.open()

    def find(self, key: str, **more: Any) -> Deferred[Any]:
        return self.peers.ask(1, _FIND, 3, find_coordinator.Request(key=key), **more)

    async def error(self, asked: Deferred[Any]) -> BrokerError:
        return await self.assertFailure(asked, BrokerError)

    async def test_requests_overtake_each_other(self) -> None:
        heard: list[str] = []
        late, soon = self.find("late"), self.find("soon")
        for one in (late, soon):
            one.addCallback(lambda answer: heard.append(answer.host))
        await gatherResults([late, soon])
        self.assertEqual(heard, ["soon", "late"])

    async def test_connections_are_used_again_and_bounded(self) -> None:
        await gatherResults([self.find(f"late {n}") for n in range(40)])
        self.assertEqual((len(self.worker.connections), len(self.worker.asked)), (32, 40))
        await self.find("soon")
        self.assertEqual(len(self.worker.connections), 32)

    async def test_what_clients_want_done_holds_up_nothing_else(self) -> None:
        waiting = [self.find("never", for_client=True) for _ in range(40)]
        self.assertEqual((await self.find("soon")).host, "soon")
        self.peers.stop()
        for one in waiting:
            await self.error(one)

    async def test_an_answer_in_time_or_an_error(self) -> None:
        error = await self.error(self.find("never", timeout_seconds=0.05))
        self.assertIsInstance(error, PeerError)
        self.assertEqual((error.code, error.sent), (ErrorCode.TIMED_OUT, True))  # type: ignore[attr-defined]
        self.assertEqual((await self.find("next")).host, "next")

    async def test_a_lost_connection_says_that_it_may_have_been_done(self) -> None:
        error = await self.error(self.find("hang up"))
        self.assertEqual((error.code, error.sent), (ErrorCode.UNREACHABLE, True))  # type: ignore[attr-defined]

    async def test_what_may_be_repeated_is(self) -> None:
        self.assertEqual((await self.find("hang up once", repeat=True)).host, "hang up once")
        self.assertEqual(self.worker.asked, ["hang up once"] * 2)

    async def test_a_repeated_request_keeps_to_its_time(self) -> None:
        error = await self.error(self.find("hang up late", repeat=True, timeout_seconds=0.2))
        self.assertIsInstance(error, PeerError)
        self.assertGreater(len(self.worker.asked), 1)

    async def test_what_ends_every_connection_is_repeated_a_few_times(self) -> None:
        error = await self.error(self.find("hang up", repeat=True))
        self.assertEqual((error.code, error.sent), (ErrorCode.UNREACHABLE, True))  # type: ignore[attr-defined]
        self.assertEqual(len(self.worker.asked), 6)

    async def test_an_answer_that_was_not_asked_ends_the_connection(self) -> None:
        await self.assertFailure(self.find("garbage"), ProtocolError)
        self.assertEqual((await self.find("next")).host, "next")

    async def test_who_is_away_is_waited_for(self) -> None:
        await self.worker.close()
        asked = self.find("back")
        await deferLater(reactor, 0.1)
        await self.worker.open()
        self.assertEqual((await asked).host, "back")

    async def test_who_stays_away_is_waited_for_no_longer_than_said(self) -> None:
        await self.worker.close()
        error = await self.error(self.find("away", timeout_seconds=0.1))
        self.assertEqual((error.code, error.sent), (ErrorCode.UNREACHABLE, False))  # type: ignore[attr-defined]

    async def test_who_gives_up_leaves_nothing_behind(self) -> None:
        asked = self.find("never")
        await self.find("soon")
        asked.addErrback(lambda _: None)
        asked.cancel()
        await deferLater(reactor, 0.05)
        self.assertEqual((await self.find("next")).host, "next")

    async def test_stopping_tells_who_waits(self) -> None:
        asked = [self.find("never") for _ in range(20)]
        await deferLater(reactor, 0.05)
        self.peers.stop()
        for one in asked:
            self.assertEqual((await self.error(one)).code, ErrorCode.UNREACHABLE)
        self.assertEqual((await self.error(self.find("later"))).code, ErrorCode.UNREACHABLE)

    # --- in order ---

    def along(self, key: str, told: list[Any], timeout_seconds: float = 5.0) -> None:
        parts = encode_request(_FIND, 3, find_coordinator.Request(key=key))
        self.peers.lane(1).send(
            parts, timeout_seconds, lambda frame, error: told.append((key, None if error is None else error))
        )

    async def test_a_lane_keeps_the_order(self) -> None:
        told: list[Any] = []
        for n in range(100):
            self.along(f"n {n}", told)
        self.assertEqual(told, [])
        await deferLater(reactor, 0.1)
        self.assertEqual(told, [(f"n {n}", None) for n in range(100)])
        self.assertEqual(len(self.worker.connections), 1)

    async def test_a_lane_that_breaks_fails_what_was_under_way_and_goes_on(self) -> None:
        told: list[Any] = []
        self.along("first", told)
        self.along("never", told)
        self.along("behind", told)
        await deferLater(reactor, 0.05)
        await self.worker.close()
        self.along("after", told)
        await deferLater(reactor, 0.05)
        await self.worker.open()
        await deferLater(reactor, 0.3)
        self.assertEqual([key for key, _ in told], ["first", "never", "behind", "after"])
        self.assertEqual([error is None for _, error in told], [True, False, False, True])
        self.assertTrue(told[1][1].sent)

    async def test_a_lane_keeps_to_the_time(self) -> None:
        told: list[Any] = []
        self.along("never", told, 0.1)
        self.along("behind", told, 5.0)
        await deferLater(reactor, 0.3)
        self.assertEqual([error.code for _, error in told], [ErrorCode.TIMED_OUT] * 2)
        await self.worker.close()
        self.along("away", told, 0.1)
        await deferLater(reactor, 0.3)
        self.assertEqual((told[2][1].code, told[2][1].sent), (ErrorCode.UNREACHABLE, False))

    async def test_a_lane_is_bounded_and_says_when_there_is_room(self) -> None:
        told: list[Any] = []
        lane = self.peers.lane(1)
        called: list[str] = []
        count = 0
        while lane.has_room:
            self.along(f"n {count}", told)
            count += 1
        self.assertEqual(count, 1024)
        lane.when_room(lambda: called.append("a"))
        lane.when_room(lambda: called.append("b"))
        self.assertFalse(lane.has_room)
        await deferLater(reactor, 0.2)
        self.assertEqual((called, len(told), lane.has_room), (["a", "b"], 1024, True))
