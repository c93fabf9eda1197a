"""MEGA over real sockets: the client library, raw bytes of both dialects, bad input."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import sys
import threading
import time
from typing import Any
from unittest import mock

from megabroker.client import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    MessageClient,
    NotConnected,
    RequestTimedOut,
)
from megabroker.config.schema import Config
from megabroker.core.partitions import PartitionSettings
from megabroker.model import Acks
from megabroker.protocols.mega.codec import Dialect
from megabroker.protocols.mega.settings import MegaSettings
from tests.interop.small_broker import BrokerCase

# The usage example that every user of the protocol's documentation begins with.
EXAMPLE = """
from message_client import MessageClient

def example_usage():
    client = MessageClient(host='localhost', port=8080)

    try:
        # Connect to broker
        client.connect()

        # Create a topic
        create_response = client.create_topic("test-topic")
        print(f"Topic created: {create_response}")

        # Produce a message
        produce_response = client.produce("test-topic", "Hello, MEGA!")
        print(f"Message produced at offset: {produce_response['offset']}")

        # Consume the message
        consume_response = client.consume("test-topic", 0)
        print(f"Consumed message: {consume_response['payload']}")

    finally:
        client.close()
"""


def receive(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise EOFError(bytes(data))
        data += chunk
    return bytes(data)


def receive_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while chunk := connection.recv(65536):
        data += chunk
    return bytes(data)


def head(kind: int, topic: bytes, correlation_id: int = 1, timestamp_ms: int = 123) -> bytes:
    return struct.pack(">iBi", correlation_id, kind, len(topic)) + topic + struct.pack(">q", timestamp_ms)


def produce(topic: bytes, payload: bytes, correlation_id: int = 1) -> bytes:
    return head(1, topic, correlation_id) + struct.pack(">i", len(payload)) + payload


def consume(topic: bytes, offset: int, correlation_id: int = 1) -> bytes:
    return head(2, topic, correlation_id) + struct.pack(">i", offset)


def error(correlation_id: int, code: int) -> bytes:
    return struct.pack(">iBB", correlation_id, 0, code)


class MegaCase(BrokerCase):
    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.mega_port), 20)

    def client(self, **options: Any) -> MessageClient:
        return MessageClient("127.0.0.1", self.mega_port, timeout=20, **options)

    def exchange(self, request: bytes, count: int) -> bytes:
        with self.connect() as connection:
            connection.sendall(request)
            return receive(connection, count)


class ClientTests(MegaCase):
    """``MessageClient`` against the broker."""

    async def test_the_usage_example_unmodified(self) -> None:
        real = socket.create_connection
        seen = []

        def redirect(address: tuple[str, int], *args: Any) -> socket.socket:
            seen.append(address)
            return real(("127.0.0.1", self.mega_port), *args)

        def run() -> str:
            names: dict[str, Any] = {}
            exec(compile(EXAMPLE, "example", "exec"), names)
            with (
                mock.patch("socket.create_connection", redirect),
                contextlib.redirect_stdout(io.StringIO()) as out,
            ):
                names["example_usage"]()
            return out.getvalue()

        lines = (await self.aside(run)).splitlines()
        self.assertEqual(seen, [("localhost", 8080)])
        self.assertIn("'success': True", lines[0])
        self.assertIn("'topic': 'test-topic'", lines[0])
        self.assertEqual(lines[1:], ["Message produced at offset: 0", "Consumed message: Hello, MEGA!"])

    def test_arguments_that_are_none(self) -> None:
        client = self.client()
        for ask, words in (
            (lambda: client.consume("orders", "0"), "offset: expected an int, not str '0'"),  # type: ignore[arg-type]
            (lambda: client.consume("orders", 1.5), "offset: expected an int, not float 1.5"),  # type: ignore[arg-type]
            (lambda: client.consume(b"orders", 0), "topic_name: expected a str, not bytes b'orders'"),  # type: ignore[arg-type]
            (lambda: client.produce("orders", 5), "payload: expected a str or bytes, not int 5"),  # type: ignore[arg-type]
            (lambda: client.create_topic("orders", None), "correlation_id: expected an int"),  # type: ignore[arg-type]
        ):
            with self.assertRaises(TypeError) as caught:
                ask()
            self.assertIn(words, str(caught.exception))
        with self.assertRaisesRegex(ValueError, "offset: expected a number of 32 bits, not 2147483648"):
            client.consume("orders", 2**31)

    async def test_a_port_that_speaks_something_else(self) -> None:
        def run() -> None:
            with (
                self.assertRaisesRegex(
                    (ConnectionLost, BadResponse), rf"\(127.0.0.1:{self.cursus_port}: is that a MEGA port\?"
                ),
                MessageClient("127.0.0.1", self.cursus_port, timeout=20) as client,
            ):
                client.produce("orders", "x")
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = server.getsockname()[1]

                def serve() -> None:
                    with server.accept()[0] as connection:
                        connection.recv(1000)
                        connection.sendall(bytes.fromhex("15030300020246"))  # as some answer what is no TLS

                threading.Thread(target=serve).start()
                with (
                    self.assertRaisesRegex(BadResponse, f"127.0.0.1:{port} speaks TLS"),
                    MessageClient("127.0.0.1", port, timeout=20) as client,
                ):
                    client.produce("orders", "x")

        await self.aside(run)

    async def test_results(self) -> None:
        def run() -> None:
            before = time.time_ns() // 1_000_000
            with self.client() as client:
                created = client.create_topic("t", 7)
                self.assertEqual(set(created), {"correlation_id", "success", "timestamp", "topic"})
                self.assertEqual((created["correlation_id"], created["topic"]), (7, "t"))
                self.assertEqual(
                    client.create_topic("t", 8),
                    {"correlation_id": 8, "success": False, "error_code": "TOPIC_ALREADY_EXISTS"},
                )
                self.assertEqual(client.produce("t", "zero")["offset"], 0)
                self.assertEqual(client.produce("t", b"\xff\x00")["offset"], 1)
                self.assertEqual(client.produce("t", "")["offset"], 2)
                first = client.consume("t", 0, -5)
                self.assertEqual(
                    (first["payload"], first["next_offset"], first["correlation_id"]), ("zero", 1, -5)
                )
                self.assertTrue(before <= first["timestamp"] <= before + 60_000)
                self.assertEqual(client.consume("t", 1)["payload"], b"\xff\x00")
                self.assertEqual(client.consume("t", 2)["payload"], "")
                for offset in (3, -1, 2**31 - 1):
                    self.assertEqual(client.consume("t", offset)["error_code"], "INVALID_OFFSET")
                self.assertEqual(client.produce("nope", "x")["error_code"], "TOPIC_NOT_FOUND")
                self.assertEqual(client.consume("nope", 0)["error_code"], "TOPIC_NOT_FOUND")
                for name in ("", "a b", "ä", "x" * 256, "."):
                    self.assertEqual(client.create_topic(name)["error_code"], "INVALID_REQUEST", name)

        await self.aside(run)

    async def test_largest_payload_and_one_more(self) -> None:
        def run() -> None:
            with self.client() as client:
                client.create_topic("big")
                payload = os.urandom(1 << 20)
                self.assertEqual(client.produce("big", payload)["offset"], 0)
                self.assertEqual(client.produce("big", payload + b"x")["error_code"], "MESSAGE_TOO_LARGE")
                self.assertEqual(client.produce("big", "after")["offset"], 1)
                self.assertEqual(client.consume("big", 0)["payload"], payload)
                self.assertEqual(client.consume("big", 1)["payload"], "after")

        await self.aside(run)

    async def test_offsets_are_those_of_the_log(self) -> None:
        await self.topics.create("shared", 3)
        await self.write_batch("shared", [b"a", None, b"c"], compression=1)

        def run() -> list[Any]:
            with self.client() as client:
                client.produce("shared", "d")
                return [client.consume("shared", offset)["payload"] for offset in range(4)]

        self.assertEqual(await self.aside(run), ["a", "", "c", "d"])

    async def test_control_records_are_passed_over(self) -> None:
        await self.topics.create("txn", 1)
        await self.write_batch("txn", [b"a"])
        await self.write_batch("txn", [b"marker"], attributes=48, producer_id=5, producer_epoch=0)
        await self.write_batch("txn", [b"c"])

        def run() -> Any:
            with self.client() as client:
                return client.consume("txn", 1)

        answer = await self.aside(run)
        self.assertEqual((answer["payload"], answer["next_offset"]), ("c", 3))

    async def test_large_compressed_batch_message_by_message(self) -> None:
        await self.topics.create("packed", 1)
        values: list[bytes | None] = [b"%06d" % i + b"x" * 500 for i in range(4000)]
        await self.write_batch("packed", values, compression=1)

        def run() -> float:
            begun = time.monotonic()
            with self.client() as client:
                for offset, value in enumerate(values):
                    self.assertEqual(client.consume("packed", offset)["payload"].encode(), value)
            return time.monotonic() - begun

        # Decompressing 2 MB for each of 4000 messages would take above 10 s.
        self.assertLess(await self.aside(run), 8)


class WireTests(MegaCase):
    """Raw bytes."""

    async def test_both_dialects_on_one_port(self) -> None:
        def run() -> None:
            created = bytes.fromhex("00000005 01 000000000000007b 0003 616263")
            with self.connect() as documented, self.connect() as original:
                documented.sendall(head(3, b"abc", 5))
                self.assertEqual(receive(documented, len(created)), created)
                original.sendall(head(3, b"abd", 5) + bytes(4))
                self.assertEqual(receive(original, len(created)), created[:-1] + b"d")
                for connection, tail in ((documented, b""), (original, bytes(4))):
                    for correlation_id in (0, 1 << 24, -1):
                        connection.sendall(produce(b"abc", b"hi", correlation_id))
                        self.assertEqual(receive(connection, 17)[:5], struct.pack(">iB", correlation_id, 1))
                        connection.sendall(consume(b"abc", 0, correlation_id) + tail)
                        self.assertEqual(
                            receive(connection, 23),
                            struct.pack(">iBqii", correlation_id, 1, 123, 1, 2) + b"hi",
                        )

        await self.aside(run)

    async def test_pipelined_requests_are_answered_in_order(self) -> None:
        def run() -> None:
            count = 3000
            stream = head(3, b"p", 1) + head(3, b"q", 2)
            expected = struct.pack(">iBqH", 1, 1, 123, 1) + b"p" + struct.pack(">iBqH", 2, 1, 123, 1) + b"q"
            for i in range(count):
                topic = b"p" if i % 3 else b"q"
                stream += produce(topic, b"%d" % i, i)
                offset = i // 3 if i % 3 == 0 else i - 1 - i // 3
                expected += struct.pack(">iBqi", i, 1, 123, offset)
                if i % 100 == 99:
                    stream += produce(b"none", b"", -i) + consume(b"p", 0, -i) + consume(b"p", 1 << 30, -i)
                    expected += error(-i, 4)
                    expected += struct.pack(">iBqii", -i, 1, 123, 1, 1) + b"1" + error(-i, 6)
            with self.connect() as connection:
                sender = threading.Thread(target=connection.sendall, args=(stream,))
                sender.start()
                self.assertEqual(receive(connection, len(expected)), expected)
                sender.join()

        await self.aside(run)
        batches = self.topics.partition("p", 0).log.size_bytes / 2000
        self.assertLess(batches, 60, "messages that arrive together share batches")

    async def test_half_close_still_gets_every_answer(self) -> None:
        def run() -> bytes:
            with self.connect() as connection:
                connection.sendall(
                    head(3, b"h", 1) + produce(b"h", b"x", 2) + consume(b"h", 0, 3) + consume(b"h", 1, 4)
                )
                connection.shutdown(socket.SHUT_WR)
                return receive_all(connection)

        self.assertEqual(
            await self.aside(run),
            struct.pack(">iBqH", 1, 1, 123, 1) + b"h"
            + struct.pack(">iBqi", 2, 1, 123, 0)
            + struct.pack(">iBqii", 3, 1, 123, 1, 1) + b"x"
            + error(4, 6),
        )  # fmt: skip

    async def test_bad_input(self) -> None:
        await self.topics.create("t", 1)

        def run() -> None:
            fatal = {
                struct.pack(">iB", 9, 77): error(9, 2),
                struct.pack(">iBi", 9, 1, -1): error(9, 1),
                struct.pack(">iBi", 9, 1, 1 << 30): error(9, 1),
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n": struct.pack(">4sBB", b"GET ", 0, 2),
            }
            with self.connect() as other:
                for data, answer in fatal.items():
                    with self.connect() as connection:
                        connection.sendall(produce(b"t", b"before", 4) + data)
                        self.assertEqual(receive(connection, 17)[:5], struct.pack(">iB", 4, 1))
                        self.assertEqual(receive_all(connection), answer)
                for data, answer in {
                    head(1, b"t", 5) + struct.pack(">i", -7): error(5, 1),
                    produce(b"t", b"x" * ((1 << 20) + 1), 6): error(6, 3),
                    produce(b"bad name", b"x", 7): error(7, 1),
                    consume(b"\xff\xfe", 1, 8): error(8, 1),
                }.items():
                    with self.connect() as connection:
                        connection.sendall(data + produce(b"t", b"after", 99))
                        self.assertEqual(receive(connection, 6), answer)
                        self.assertEqual(receive(connection, 17)[:5], struct.pack(">iB", 99, 1))
                for _ in range(20):
                    with self.connect() as connection, contextlib.suppress(OSError):
                        connection.sendall(os.urandom(2000))
                        connection.shutdown(socket.SHUT_WR)
                        receive_all(connection)
                other.sendall(produce(b"t", b"fine", 1))
                self.assertEqual(receive(other, 17)[:5], struct.pack(">iB", 1, 1))

        await self.aside(run)

    async def test_timestamps_that_are_none(self) -> None:
        await self.topics.create("times", 1, {"message.timestamp.after.max.ms": str(2**63 - 1)})

        def run() -> None:
            times = [-5, 2**63 - 1, -(2**63), 0, 1_700_000_000_000]
            with self.connect() as connection:
                for i, when in enumerate(times):
                    connection.sendall(head(1, b"times", i, when) + struct.pack(">i", 1) + b"m")
                for i, when in enumerate(times):
                    self.assertEqual(receive(connection, 17), struct.pack(">iBqi", i, 1, when, i))
                for i, when in enumerate(times):
                    connection.sendall(consume(b"times", i, i))
                    self.assertEqual(
                        receive(connection, 22), struct.pack(">iBqii", i, 1, max(when, -1), i + 1, 1) + b"m"
                    )

        await self.aside(run)

    async def test_one_refused_message_does_not_harm_its_neighbours(self) -> None:
        await self.topics.create("strict", 1)

        def run() -> bytes:
            far = head(1, b"strict", 2, 2**62) + struct.pack(">i", 1) + b"m"
            return self.exchange(produce(b"strict", b"a", 1) + far + produce(b"strict", b"c", 3), 40)

        self.assertEqual(
            await self.aside(run),
            struct.pack(">iBqi", 1, 1, 123, 0) + error(2, 1) + struct.pack(">iBqi", 3, 1, 123, 1),
        )


class StockTransportTests(WireTests):
    """The same bytes over Twisted's own transport."""

    direct = False


class FullQueueTests(MegaCase):
    """A queue of two messages: nothing is lost, nothing is refused."""

    partition_settings = PartitionSettings(partition_channel_buffer_size=2)
    config = Config(partition_channel_buffer_size=2)
    mega_settings = MegaSettings(acks="all")

    async def test_back_pressure(self) -> None:
        await self.topics.create("narrow", 1)

        def run() -> None:
            with self.connect() as connection:
                stream = b"".join(produce(b"narrow", b"%d" % i, i) for i in range(300))
                sender = threading.Thread(target=connection.sendall, args=(stream,))
                sender.start()
                for i in range(300):
                    self.assertEqual(receive(connection, 17), struct.pack(">iBqi", i, 1, 123, i))
                sender.join()

        await self.aside(run)
        self.assertGreater(self.topics.partition("narrow", 0).waited_for_room, 0)


class SettingsTests(MegaCase):
    """acks 0, a small limit, a fixed dialect."""

    mega_settings = MegaSettings(acks="0", max_payload_bytes=10, dialect=Dialect.ORIGINAL)

    async def test_settings(self) -> None:
        self.assertIs(self.factories[0].acks, Acks.NONE)

        def run() -> None:
            with self.client() as client:
                client.create_topic("t")
                self.assertEqual(client.produce("t", "0123456789")["offset"], 0)
                self.assertEqual(client.produce("t", "0123456789a")["error_code"], "MESSAGE_TOO_LARGE")
                self.assertEqual(client.consume("t", 0)["payload"], "0123456789")

        await self.aside(run)


class OffsetLimitTests(MegaCase):
    """Offsets that no longer fit 32 bits."""

    async def test_full_topic(self) -> None:
        await self.topics.create("long", 1)
        partition = self.topics.partition("long", 0)
        real = partition.log

        class Far:
            next_offset = written_offset = 2**31 - 1

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        partition.log = Far()  # type: ignore[assignment]
        answer = await self.aside(self.exchange, produce(b"long", b"x", 3), 6)
        self.assertEqual(answer, error(3, 9))
        partition.log = real


class NetworkFailureTests(MegaCase):
    """What the client does when the network fails."""

    def serve_once(self, answer: bytes | None) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                if answer is None:
                    connection.recv(1000)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 5)
        return int(server.getsockname()[1])

    async def test_failures(self) -> None:
        def run() -> None:
            with socket.create_server(("127.0.0.1", 0)) as server:
                free = server.getsockname()[1]
            with self.assertRaises(ConnectFailed):
                MessageClient("127.0.0.1", free, connect_attempts=2).connect()
            with self.assertRaises(NotConnected):
                self.client().produce("t", "x")
            for answer, expected in {
                b"": ConnectionLost,
                b"\0\0\0\1\1\0\0": ConnectionLost,
                b"\0\0\0\2\0\4": BadResponse,
                b"HTTP/1.1 400 Bad Request": BadResponse,
                struct.pack(">iBqii", 1, 1, 0, 0, -4): BadResponse,
                None: RequestTimedOut,
            }.items():
                client = MessageClient("127.0.0.1", self.serve_once(answer), timeout=0.3)
                client.connect()
                with self.assertRaises(expected):
                    client.consume("t", 0)
                self.assertFalse(client.connected)
                self.assertIsInstance(expected("x"), OSError)
                client.close()

        await self.aside(run)

    async def test_connect_waits_for_a_broker_that_is_starting(self) -> None:
        def run() -> None:
            with socket.create_server(("127.0.0.1", 0)) as server:
                free = server.getsockname()[1]
            late: list[socket.socket] = []
            timer = threading.Timer(0.2, lambda: late.append(socket.create_server(("127.0.0.1", free))))
            timer.start()
            with MessageClient("127.0.0.1", free) as client:
                self.assertTrue(client.connected)
            timer.join()
            late[0].close()

        await self.aside(run)


def test_the_client_imports_nothing_of_the_broker() -> None:
    import subprocess

    code = "import sys, message_client; print([m for m in sys.modules if m.startswith('twisted')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
