"""cursus over real sockets: every command, streaming, deduplication, back-pressure, bad input."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import struct
import threading
from typing import Any

import attrs
from twisted.internet.task import deferLater

from megabroker.codec.compression import LZ4, SNAPPY, compress
from megabroker.codec.fnv import fnv1a_64
from megabroker.config.schema import Config
from megabroker.core.partitions import PartitionSettings
from megabroker.protocols.cursus.codec import Reply, encode_frame
from megabroker.protocols.cursus.settings import CursusSettings
from tests.interop.small_broker import BrokerCase, reactor, with_limits
from tests.interop.test_mega_client import receive, receive_all


def envelope(payload: bytes, topic: bytes = b"x") -> bytes:
    return encode_frame(struct.pack(">H", len(topic)) + topic + payload)


class Client:
    """A cursus client as simple as can be."""

    def __init__(self, port: int, squeeze: Any = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.squeeze = squeeze or (lambda body: body)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, payload: bytes, topic: bytes = b"x") -> None:
        self.socket.sendall(encode_frame(self.squeeze(struct.pack(">H", len(topic)) + topic + payload)))

    def frame(self) -> bytes:
        return receive(self.socket, int.from_bytes(receive(self.socket, 4), "big"))

    def ask(self, payload: str, topic: bytes = b"x") -> str:
        self.send(payload.encode(), topic)
        return self.frame().decode()

    def rest(self) -> list[bytes]:
        data = memoryview(receive_all(self.socket))
        frames = []
        while data:
            end = 4 + int.from_bytes(data[:4], "big")
            assert len(data) >= end
            frames.append(bytes(data[4:end]))
            data = data[end:]
        return frames


class CursusCase(BrokerCase):
    squeeze: Any = None

    def client(self) -> Client:
        return Client(self.cursus_port, self.squeeze)

    def consume(self, topic: str, partition: int, offset: int) -> list[bytes]:
        with self.client() as client:
            client.send(f"CONSUME {topic} {partition} {offset}".encode())
            return client.rest()

    def everything(self, topic: str, partitions: int) -> list[list[bytes]]:
        return [self.consume(topic, index, 0) for index in range(partitions)]


class CommandTests(CursusCase):
    """The seven commands and the direct publish."""

    async def test_session(self) -> None:
        def run() -> None:
            with self.client() as client:
                for command, reply in [
                    ("LIST", "(no topics)"),
                    ("CREATE orders 8", "✅ Topic 'orders' now has 8 partitions"),
                    ("CREATE orders 2", "✅ Topic 'orders' now has 8 partitions"),
                    ("create orders 9", "✅ Topic 'orders' now has 9 partitions"),
                    ("CREATE alpha", "✅ Topic 'alpha' now has 4 partitions"),
                    ("CREATE", "ERROR: missing topic name"),
                    ("CREATE a -1", "ERROR: partitions must be a positive integer"),
                    ("LIST", "alpha, orders"),
                    ("SUBSCRIBE orders", "✅ Subscribed to 'orders'"),
                    ("SUBSCRIBE nope", "ERROR: topic 'nope' does not exist"),
                    ('PUBLISH orders {"id": 1}', "📤 Published to 'orders'"),
                    ("PUBLISH orders", Reply.INVALID_PUBLISH),
                    ("PUBLISH nope x", "ERROR: topic 'nope' does not exist"),
                    ("CONSUME orders", Reply.INVALID_CONSUME),
                    ("HELP", Reply.HELP),
                    ("DELETE nope", "ERROR: topic 'nope' not found"),
                    ("DELETE alpha", "🗑️ Topic 'alpha' deleted"),
                    ("LIST", "orders"),
                ]:
                    self.assertEqual(client.ask(command), reply)
                self.assertTrue(client.ask("CREATE bad/name 2").startswith("ERROR: invalid topic name"))
                self.assertEqual(client.ask("hello", b"orders"), "OK")
                self.assertEqual(client.ask("hello", b"nope"), "ERROR: topic 'nope' does not exist")
                self.assertEqual(client.ask("FOO", b""), "ERROR: unknown command: FOO")
                self.assertEqual(client.ask("", b""), "ERROR: empty command")
                client.socket.sendall(encode_frame("LIST"))
                self.assertEqual(client.frame(), b"orders")
                client.socket.sendall(encode_frame("EXIT"))
                self.assertEqual(receive_all(client.socket), b"")

        await self.aside(run)
        self.assertEqual([len(factory.connections) for factory in self.factories], [0, 0])

    async def test_context(self) -> None:
        def run() -> Client:
            client = self.client()
            client.ask("CREATE a")
            client.ask("SUBSCRIBE a")
            return client

        client = await self.aside(run)
        (connection,) = self.factories[1].connections
        self.assertEqual(connection.context.consumer_group, "tcp-group")
        self.assertEqual(connection.context.current_topics, {"a"})
        self.assertEqual(connection.context.consumer_id, 1)
        client.socket.close()

    async def test_routing_and_consuming(self) -> None:
        messages = [b"message %d" % i for i in range(200)] + [b"\xff\x00 bytes"]

        def run() -> list[list[bytes]]:
            with self.client() as client:
                client.ask("CREATE t 3")
                for i, message in enumerate(messages):
                    client.send(b"PUBLISH t " + message) if i % 2 else client.send(message, b"t")
                for i in range(len(messages)):
                    self.assertEqual(client.frame().decode(), "📤 Published to 't'" if i % 2 else "OK")
            return self.everything("t", 3)

        for index, stored in enumerate(await self.aside(run)):
            self.assertEqual(stored, [m for m in messages if fnv1a_64(m) % 3 == index])

    async def test_consume_from_an_offset_and_its_errors(self) -> None:
        await self.topics.create("one", 1)
        await self.write_batch("one", [b"a", b"b", None, b"d"], compression=3)

        def run() -> None:
            self.assertEqual(self.consume("one", 0, 0), [b"a", b"b", b"", b"d"])
            self.assertEqual(self.consume("one", 0, 3), [b"d"])
            self.assertEqual(self.consume("one", 0, 4), [])
            self.assertEqual(self.consume("one", 0, 10**12), [])
            for command, reply in {
                b"CONSUME one x 0": b"ERROR: invalid partition ID",
                b"CONSUME one 0 x": b"ERROR: invalid offset",
                b"CONSUME one 1 0": b"ERROR: failed to get disk handler",
                b"CONSUME nope 0 0": b"ERROR: failed to get disk handler",
            }.items():
                with self.client() as client:
                    client.send(command)
                    (answer,) = client.rest()
                    self.assertEqual(answer[: len(reply)], reply)

        await self.aside(run)

    async def test_pipelined_commands_run_one_after_the_other(self) -> None:
        def run() -> list[bytes]:
            with self.client() as client:
                client.socket.sendall(
                    b"".join(
                        envelope(text)
                        for text in [
                            b"CREATE p 1",
                            b"PUBLISH p one",
                            b"PUBLISH p one",
                            b"PUBLISH p two",
                            b"DELETE p",
                            b"PUBLISH p three",
                            b"CREATE p 1",
                            b"LIST",
                            b"PUBLISH p one",
                            b"PUBLISH p four",
                            b"CONSUME p 0 0",
                            b"LIST",
                        ]
                    )
                )
                client.socket.shutdown(socket.SHUT_WR)
                return client.rest()

        published = "📤 Published to 'p'".encode()
        self.assertEqual(
            await self.aside(run),
            [
                "✅ Topic 'p' now has 1 partitions".encode(),
                published,
                published,
                published,
                "🗑️ Topic 'p' deleted".encode(),
                b"ERROR: topic 'p' does not exist",
                "✅ Topic 'p' now has 1 partitions".encode(),
                b"p",
                published,
                published,
                b"one",
                b"four",
            ],
        )

    async def test_repeats_are_stored_once(self) -> None:
        def run() -> None:
            with self.client() as one, self.client() as two:
                one.ask("CREATE d 2")
                for _ in range(3):
                    for client in (one, two):
                        client.socket.sendall(envelope(b"PUBLISH d same") * 3 + envelope(b"same", b"d"))
                for client in (one, two):
                    for _ in range(3):
                        replies = [client.frame().decode() for _ in range(4)]
                        self.assertEqual(replies, ["📤 Published to 'd'"] * 3 + ["OK"])
            self.assertEqual([m for part in self.everything("d", 2) for m in part], [b"same"])

        await self.aside(run)

    async def test_at_most_8192_messages(self) -> None:
        await self.topics.create("many", 1)
        for first in range(0, 9000, 1000):
            await self.write_batch("many", [b"%d" % i for i in range(first, first + 1000)])
        frames = await self.aside(self.consume, "many", 0, 5)
        self.assertEqual(frames, [b"%d" % i for i in range(5, 5 + 8192)])

    async def test_bad_frames(self) -> None:
        def run() -> None:
            with self.client() as other:
                other.ask("CREATE ok 1")
                for data in (
                    struct.pack(">I", (16 << 20) + 1),
                    struct.pack(">I", 0xFFFFFFFF),
                    encode_frame(b"\x00"),
                    encode_frame(b"\x00\x09abc"),
                    b"GET / HTTP/1.1\r\n\r\n",
                ):
                    with self.client() as client:
                        client.socket.sendall(envelope(b"LIST") + data)
                        self.assertEqual(client.frame(), b"ok")
                        self.assertTrue(client.frame().startswith(b"ERROR: "), data)
                        self.assertEqual(receive_all(client.socket), b"")
                for _ in range(20):
                    with self.client() as client, contextlib.suppress(OSError):
                        client.socket.sendall(os.urandom(2000))
                        client.socket.shutdown(socket.SHUT_WR)
                        receive_all(client.socket)
                self.assertEqual(other.ask("LIST"), "ok")

        await self.aside(run)

    async def test_large_message(self) -> None:
        message = os.urandom(3 << 19)

        def run() -> None:
            with self.client() as client:
                client.ask("CREATE large 1")
                client.send(message, b"large")
                self.assertEqual(client.frame(), b"OK")
            self.assertTrue(self.consume("large", 0, 0) == [message])

        await self.aside(run)


class StockTransportTests(CommandTests):
    """The same over Twisted's own transport."""

    direct = False


class StreamTests(CursusCase):
    """Slow consumers."""

    config = with_limits(output_buffer_bytes=256 * 1024)

    async def test_a_slow_consumer_is_not_buffered_for(self) -> None:
        await self.topics.create("bulk", 1)
        value = b"v" * 500_000
        for _ in range(60):
            await self.write_batch("bulk", [value, value], compression=1)

        def begin() -> Client:
            client = self.client()
            client.send(b"CONSUME bulk 0 0")
            return client

        client = await self.aside(begin)
        await deferLater(reactor, 0.3, lambda: None)
        (connection,) = self.factories[1].connections
        self.assertTrue(connection.output_is_full)
        self.assertLess(connection._output.pending_bytes, 2_000_000)
        frames = await self.aside(client.rest)
        self.assertEqual(len(frames), 120)
        self.assertTrue(all(frame == value for frame in frames))
        client.socket.close()

    async def test_stopping_lets_a_stream_come_to_its_end(self) -> None:
        await self.topics.create("last", 1)
        value = b"v" * 500_000
        for _ in range(30):
            await self.write_batch("last", [value, value], compression=1)

        def begin() -> Client:
            client = self.client()
            client.send(b"CONSUME last 0 0")
            receive(client.socket, 1)
            return client

        client = await self.aside(begin)
        drained = self.factories[1].drain(20)
        rest = await self.aside(receive_all, client.socket)
        self.assertEqual(len(rest) + 1, 60 * 500_004)
        await drained
        self.factories.pop()
        client.socket.close()


class SlowStockTests(StreamTests):
    """The same over Twisted's own transport."""

    direct = False


class PushTests(CursusCase):
    """``subscribe_push`` and ``consume_keep_open``."""

    cursus_settings = CursusSettings(subscribe_push=True, consume_keep_open=True)
    config = attrs.evolve(with_limits(output_buffer_bytes=64 * 1024), consumer_channel_buffer_size=10)

    async def test_messages_are_pushed(self) -> None:
        def run() -> None:
            with self.client() as subscriber, self.client() as publisher:
                publisher.ask("CREATE s 2")
                publisher.ask("PUBLISH s before")
                self.assertEqual(subscriber.ask("SUBSCRIBE s"), "✅ Subscribed to 's'")
                sent = [b"m%d" % i for i in range(100)]
                for message in sent:
                    publisher.send(message, b"s")
                for _ in sent:
                    self.assertEqual(publisher.frame(), b"OK")
                got = [subscriber.frame() for _ in sent]
                self.assertEqual(sorted(got), sorted(sent))
                for index in (0, 1):
                    mine = [m for m in sent if fnv1a_64(m) % 2 == index]
                    self.assertEqual([m for m in got if m in mine], mine)
                self.assertEqual(subscriber.ask("PUBLISH s own"), "📤 Published to 's'")
                self.assertEqual(subscriber.frame(), b"own")
                publisher.ask("CREATE s 3")
                late = next(b"l%d" % i for i in range(100) if fnv1a_64(b"l%d" % i) % 3 == 2)
                publisher.send(late, b"s")
                self.assertEqual(subscriber.frame(), late)

        await self.aside(run)

    async def test_a_slow_subscriber_is_paused_and_loses_nothing(self) -> None:
        sent = [b"%05d" % i + b"z" * 200_000 for i in range(80)]

        def run() -> Client:
            subscriber = self.client()
            with self.client() as publisher:
                publisher.ask("CREATE slow 1")
                subscriber.ask("SUBSCRIBE slow")
                for message in sent:
                    publisher.send(message, b"slow")
                    self.assertEqual(publisher.frame(), b"OK")
            return subscriber

        subscriber = await self.aside(run)
        (connection,) = [one for one in self.factories[1].connections if one.context.current_topics]
        self.assertGreater(connection._output.pending_bytes, 0)
        self.assertLess(connection._output.pending_bytes, 12 * 200_100)

        def drain() -> None:
            for message in sent:
                self.assertTrue(subscriber.frame() == message)
            subscriber.socket.close()

        await self.aside(drain)

    async def test_consume_keeps_the_connection(self) -> None:
        def run() -> None:
            with self.client() as client:
                client.ask("CREATE k 1")
                client.ask("PUBLISH k a")
                client.ask("PUBLISH k b")
                client.send(b"CONSUME k 0 0")
                client.send(b"CONSUME k 0 x")
                client.send(b"LIST")
                self.assertEqual(
                    [client.frame() for _ in range(4)], [b"a", b"b", b"ERROR: invalid offset", b"k"]
                )

        await self.aside(run)


class GzipTests(CursusCase):
    """``enable_gzip``."""

    config = Config(enable_gzip=True)
    squeeze = staticmethod(gzip.compress)

    async def test_compressed_requests(self) -> None:
        def run() -> None:
            with self.client() as client:
                self.assertEqual(client.ask("CREATE z 1"), "✅ Topic 'z' now has 1 partitions")
                self.assertEqual(client.ask("PUBLISH z hello"), "📤 Published to 'z'")
                client.socket.sendall(encode_frame(gzip.compress(b"LIST")))
                self.assertEqual(client.frame(), b"z")
                client.socket.sendall(envelope(b"LIST"))
                self.assertTrue(client.frame().startswith(b"ERROR: "))
                self.assertEqual(receive_all(client.socket), b"")
            self.assertEqual(self.consume("z", 0, 0), [b"hello"])
            with self.client() as client:
                client.send(bytes(20_000_000))
                self.assertTrue(client.frame().startswith(b"ERROR: "))
                self.assertEqual(receive_all(client.socket), b"")

        await self.aside(run)


class SnappyTests(CursusCase):
    """``compression: snappy``."""

    cursus_settings = CursusSettings(compression="snappy")
    squeeze = staticmethod(lambda body: compress(SNAPPY, body))

    async def test_compressed_requests(self) -> None:
        def run() -> None:
            with self.client() as client:
                self.assertEqual(client.ask("CREATE z 1"), "✅ Topic 'z' now has 1 partitions")

        await self.aside(run)


class Lz4Tests(SnappyTests):
    """``compression: lz4``."""

    cursus_settings = CursusSettings(compression="lz4")
    squeeze = staticmethod(lambda body: compress(LZ4, body))


class FullQueueTests(CursusCase):
    """A queue of two messages: nothing is lost, nothing is refused."""

    partition_settings = PartitionSettings(partition_channel_buffer_size=2)
    config = Config(partition_channel_buffer_size=2)
    cursus_settings = CursusSettings(acks="all")

    async def test_back_pressure(self) -> None:
        def run() -> list[bytes]:
            with self.client() as client:
                client.ask("CREATE narrow 1")
                stream = b"".join(envelope(b"%d" % i, b"narrow") for i in range(300))
                sender = threading.Thread(target=client.socket.sendall, args=(stream,))
                sender.start()
                for _ in range(300):
                    self.assertEqual(client.frame(), b"OK")
                sender.join()
            return self.consume("narrow", 0, 0)

        self.assertEqual(await self.aside(run), [b"%d" % i for i in range(300)])
        self.assertGreater(self.topics.partition("narrow", 0).waited_for_room, 0)


class UnackedTests(CursusCase):
    """``acks: 0``."""

    cursus_settings = CursusSettings(acks="0")

    async def test_replies_do_not_wait(self) -> None:
        def run() -> list[bytes]:
            with self.client() as client:
                client.ask("CREATE u 1")
                for _ in range(2):
                    self.assertEqual(client.ask("PUBLISH u x"), "📤 Published to 'u'")
                client.send(b"CONSUME u 0 0")
                return client.rest()

        self.assertEqual(await self.aside(run), [b"x"])
