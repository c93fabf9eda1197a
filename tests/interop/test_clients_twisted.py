"""The clients of MEGA and cursus on Twisted: real brokers, which die meanwhile, and hostile peers."""

from __future__ import annotations

import pathlib
import struct
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate as TwistedCertificate
from twisted.internet.ssl import optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from megabroker.client import (
    BadResponse,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    NotAuthenticated,
    NotConnected,
    PartitionNotServed,
    RequestTimedOut,
    Retry,
    TooManyWaiting,
    TopicNotFound,
)
from megabroker.client.async_cursus import AsyncCursusClient
from megabroker.client.async_mega import AsyncMessageClient
from megabroker.testing.server import BrokerServer
from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.hostile_server import HostileServer, drip
from tests.interop.secured import set_password

pytestmark = pytest.mark.interop

reactor: Any = global_reactor

ONCE = Retry(attempts=1)
PATIENT = Retry(attempts=40, first_s=0.05, longest_s=0.25)


@pytest.fixture(scope="class")
def mortal(request: pytest.FixtureRequest) -> Iterator[None]:
    """A broker with files, to be killed."""
    with BrokerProcess() as broker:
        request.cls.broker = broker
        yield


def at(port: int) -> str:
    return f"tcp:127.0.0.1:{port}"


@pytest.mark.usefixtures("mortal")
class RealBrokerTests(TestCase):
    broker: BrokerProcess
    timeout = 60

    def cursus(self, **options: Any) -> AsyncCursusClient:
        return AsyncCursusClient(reactor, at(self.broker.ports["cursus"]), **{"timeout": 20, **options})

    def mega(self, **options: Any) -> AsyncMessageClient:
        return AsyncMessageClient(reactor, at(self.broker.ports["mega"]), **{"timeout": 20, **options})

    async def test_every_request_of_cursus(self) -> None:
        async with self.cursus() as client:
            assert await client.create_topic("every", 2) == 2
            assert "every" in await client.list_topics()
            await gatherResults([client.publish("every", f"{i}") for i in range(3000)])
            found = [
                message.text for partition in (0, 1) async for message in client.stream("every", partition)
            ]
            assert sorted(found) == sorted(map(str, range(3000)))
            assert "CREATE <topic>" in await client.help()
            await client.delete_topic("every")
            with pytest.raises(TopicNotFound):
                await client.publish("every", "x")
            with pytest.raises(PartitionNotServed):
                await client.stream("every").__anext__()
            with pytest.raises(ValueError, match="at least one byte"):
                await client.publish("every", "")
        with pytest.raises(NotConnected):
            await client.list_topics()

    async def test_every_request_of_mega(self) -> None:
        client = await AsyncMessageClient.connect(reactor, at(self.broker.ports["mega"]), pool_size=2)
        assert client.connected
        assert (await client.create_topic("many")).topic == "many"
        texts = [f"{i}" for i in range(1500)] + ["x" * 300_000] * 30
        stored = await gatherResults([client.produce("many", text) for text in texts])
        assert sorted(one.offset for one in stored) == list(range(len(texts)))
        messages = [message async for message in client.stream("many")]
        assert [message.offset for message in messages] == list(range(len(texts)))
        assert sorted(message.text for message in messages) == sorted(texts)
        assert (await client.consume("many", 7)).text == messages[7].text
        with pytest.raises(TopicNotFound):
            await client.produce("none", "x")
        await client.close()
        assert not client.connected

    async def test_a_stream_that_follows(self) -> None:
        async with self.cursus() as client, self.mega() as other:
            await client.create_topic("followed", 1)
            streams = [one.stream("followed", follow=True, poll_seconds=0.02) for one in (client, other)]
            for i in range(3):
                published = deferLater(reactor, 0.05, client.publish, "followed", f"{i}")
                for stream in streams:
                    assert (await stream.__anext__())[:2] == (i, f"{i}".encode())
                await published
            for stream in streams:
                await stream.aclose()  # type: ignore[attr-defined]

    async def test_a_killed_broker_loses_and_repeats_nothing_of_cursus(self) -> None:
        client = self.cursus(retry=PATIENT, timeout=5)
        await client.create_topic("killed", 1)
        texts = [f"text {i}" for i in range(3000)]

        async def publish() -> None:
            for begin in range(0, len(texts), 10):
                await gatherResults([client.publish("killed", text) for text in texts[begin : begin + 10]])

        publishing = Deferred.fromCoroutine(publish())
        await deferLater(reactor, 0.2)
        await deferToThread(self.broker.kill)
        await deferToThread(self.broker.start)
        await publishing
        found = [message.text async for message in client.stream("killed")]
        assert sorted(found) == sorted(texts)
        await client.close()

    async def test_a_killed_broker_and_an_open_stream(self) -> None:
        client = self.cursus(retry=PATIENT)
        await client.create_topic("open", 1)
        await gatherResults([client.publish("open", f"{i}" * 1000) for i in range(3000)])
        offsets = []
        async for message in client.stream("open"):
            offsets.append(message.offset)
            if len(offsets) == 100:
                await deferToThread(self.broker.kill)
                await deferToThread(self.broker.start)
        assert offsets == list(range(3000))
        await client.close()

    async def test_a_request_that_is_cancelled(self) -> None:
        async with self.mega() as client:
            await client.create_topic("cancelled")
            asked = client.produce("cancelled", "x")
            asked.cancel()
            with pytest.raises(CancelledError):
                await asked
            assert (await client.produce("cancelled", "y")).offset in (0, 1)

    async def test_more_waits_than_may(self) -> None:
        async with self.mega(max_under_way=1, max_waiting=2) as client:
            await client.create_topic("full")
            asked = [client.produce("full", "x") for _ in range(4)]
            with pytest.raises(TooManyWaiting, match=r"2 requests wait for their turn \(max_waiting\)"):
                await asked[3]
            await gatherResults(asked[:3])


class SecuredTests(TestCase):
    timeout = 60

    async def test_tls_auth_and_compression(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        certificates = Certificates(pathlib.Path(directory.name))
        listener = {"endpoint": "tcp:0:interface=127.0.0.1", "tls": certificates.tls(), "auth": "required"}
        config = {"protocols": {"cursus": {"listeners": [listener], "compression": "lz4"}}}
        root = TwistedCertificate.loadPEM(certificates.trusted.read_bytes())
        options = optionsForClientTLS("localhost", trustRootFromCertificates([root]))
        broker = BrokerProcess(config)
        await deferToThread(broker.start)
        try:
            admin = AdminClient({"bootstrap.servers": broker.kafka})
            await deferToThread(set_password, admin, "alice", "two words")
            endpoint = wrapClientTLS(
                options, TCP4ClientEndpoint(reactor, "127.0.0.1", broker.ports["cursus"])
            )
            given: dict[str, Any] = {"compression": "lz4", "user": "alice"}
            client = await AsyncCursusClient.connect(reactor, endpoint, password="two words", **given)
            await client.create_topic("t", 1)
            await client.publish("t", "hello " * 10_000)
            assert [message.text async for message in client.stream("t")] == ["hello " * 10_000]
            await client.close()
            with pytest.raises(NotAuthenticated):
                await AsyncCursusClient.connect(reactor, endpoint, password="wrong", **given)
        finally:
            await deferToThread(broker.stop)
            broker.__exit__(None, None, None)

    async def test_subscriptions_and_connections_that_stay(self) -> None:
        server = BrokerServer({"protocols": {"cursus": {"subscribe_push": True, "consume_keep_open": True}}})
        await deferToThread(server.start)
        try:
            async with AsyncCursusClient(
                reactor, at(server.ports["cursus"]), consume_keep_open=True
            ) as client:
                await client.create_topic("t", 1)
                messages = await client.subscribe("t", timeout=0.3)
                await client.publish("t", "one")
                assert await messages.__anext__() == b"one"
                with pytest.raises(RequestTimedOut):
                    await messages.__anext__()
                assert [message.text async for message in client.stream("t")] == ["one"]
                with pytest.raises(TopicNotFound):
                    await client.subscribe("none")
        finally:
            await deferToThread(server.stop)


class HostileTests(TestCase):
    timeout = 30

    async def check(self, behaviour: Any, kind: type[ClientError], ask: Any) -> None:
        with HostileServer(behaviour) as server:
            begun = time.monotonic()
            with pytest.raises(kind):
                await ask(at(server.port))
            assert time.monotonic() - begun < 3

    async def test_hostile_peers(self) -> None:
        async def list_topics(endpoint: str) -> Any:
            client = AsyncCursusClient(reactor, endpoint, timeout=0.25, retry=ONCE)
            try:
                return await client.list_topics()
            finally:
                await client.close()

        async def read(endpoint: str) -> Any:
            client = AsyncMessageClient(reactor, endpoint, timeout=0.25, retry=ONCE)
            try:
                return [message async for message in client.stream("t")]
            finally:
                await client.close()

        def sends(data: bytes) -> Any:
            return lambda connection: connection.sendall(data)

        def endless(connection: Any) -> None:
            while True:
                connection.sendall(b"\0\0\0\1x" * 1000)

        for behaviour, kind, ask in (
            (sends(b"\xff\xff\xff\xff"), BadResponse, list_topics),
            (sends(b"\0\0\0\5abc"), ConnectionLost, list_topics),
            (sends(b""), ConnectionLost, list_topics),
            (lambda _: time.sleep(1), RequestTimedOut, list_topics),
            (drip(struct.pack(">I", 60) + b"x" * 60, 0.05), RequestTimedOut, list_topics),
            (endless, BadResponse, list_topics),
            (sends(struct.pack(">iBqii", 1, 1, 0, 1, 2**31 - 1)), BadResponse, read),
            (sends(struct.pack(">iBqii", 9, 1, 0, 1, 1) + b"x"), BadResponse, read),
            (drip(struct.pack(">iBqii", 1, 1, 0, 1, 60) + b"x" * 60, 0.05), RequestTimedOut, read),
        ):
            await self.check(behaviour, kind, ask)

    async def test_a_client_that_is_closed_by_whoever_got_the_first_of_several_answers(self) -> None:
        def behave(connection: Any) -> None:
            time.sleep(0.2)  # until both were asked; both answers come at once
            connection.sendall(b"".join(struct.pack(">iBqi", number, 1, 0, number) for number in (1, 2)))

        with HostileServer(behave) as server:
            client = AsyncMessageClient(reactor, at(server.port), timeout=5, retry=ONCE, pool_size=1)
            outcomes: list[Any] = []

            def take(outcome: Any) -> Any:
                outcomes.append(getattr(outcome, "value", outcome))
                return client.close()

            await gatherResults([client.produce("t", b"%d" % number).addBoth(take) for number in (1, 2)])
        assert outcomes[0].offset == 1
        assert isinstance(outcomes[1], ConnectionLost)

    async def test_nobody_is_there(self) -> None:
        with HostileServer(lambda _: None) as server:
            port = server.port
        with pytest.raises(ConnectFailed, match=f"tcp:127.0.0.1:{port}: "):
            await AsyncMessageClient.connect(reactor, at(port), retry=Retry(3, 0.01, 0.01))

    async def test_a_stream_that_nobody_reads_is_not_taken_in(self) -> None:
        sent = 0

        def behave(connection: Any) -> None:
            nonlocal sent
            large = struct.pack(">I", 1 << 20) + bytes(1 << 20)
            for _ in range(200):
                connection.sendall(large)
                sent += 1

        with HostileServer(behave) as server:
            client = AsyncCursusClient(reactor, at(server.port), timeout=5, retry=ONCE)
            stream = client.stream("t")
            assert len((await stream.__anext__()).payload) == 1 << 20
            await deferLater(reactor, 0.5)
            assert sent < 40
            for _ in range(50):
                assert len((await stream.__anext__()).payload) == 1 << 20
            await stream.aclose()  # type: ignore[attr-defined]
            await client.close()
