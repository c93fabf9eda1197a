"""Blocking clients for tests, as small as they can be: raw sockets for each wire, and one that keeps at it.

Owns no broker. ``Bystanders`` is a connection of each protocol that produces and consumes from a thread
until it is told to stop, and then says whether anything ever went wrong and whether all of it is there.
"""

from __future__ import annotations

import contextlib
import pathlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from megabroker.client.mega import MessageClient

__all__ = [
    "MEGA_CONSUME",
    "MEGA_CREATE",
    "MEGA_PRODUCE",
    "Bystanders",
    "CursusWire",
    "cursus_request",
    "kafka_read",
    "kafka_request",
    "mega_request",
    "receive",
    "receive_all",
    "resident_kib",
    "until",
]

MEGA_PRODUCE, MEGA_CONSUME, MEGA_CREATE = 1, 2, 3


def until(condition: Callable[[], Any], seconds: float = 10, what: str = "") -> Any:
    """Wait until ``condition`` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def receive(connection: socket.socket, count: int) -> bytes:
    """Receive exactly ``count`` bytes."""
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise ConnectionError(f"closed after {len(data)} of {count} bytes: {bytes(data)!r}")
        data += chunk
    return bytes(data)


def receive_all(connection: socket.socket) -> bytes:
    """Receive until the peer closes, whether in order or by a reset."""
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            data += chunk
    return bytes(data)


def mega_request(kind: int, topic: str, rest: bytes = b"", correlation_id: int = 1) -> bytes:
    """Encode a MEGA request; ``rest`` is what follows the timestamp."""
    name = topic.encode()
    head = struct.pack(">ibi", correlation_id, kind, len(name)) + name
    return head + struct.pack(">q", time.time_ns() // 1_000_000) + rest


def cursus_request(topic: str, payload: bytes) -> bytes:
    """Encode a cursus request."""
    name = topic.encode()
    body = struct.pack(">H", len(name)) + name + payload
    return struct.pack(">I", len(body)) + body


def kafka_request(key: int, version: int, body: bytes, correlation_id: int = 1) -> bytes:
    """Encode a Kafka request with header version 1."""
    data = struct.pack(">hhi", key, version, correlation_id) + struct.pack(">h", 4) + b"test" + body
    return struct.pack(">i", len(data)) + data


class CursusWire:
    """One cursus connection."""

    def __init__(self, port: int, timeout: float = 30) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)

    def send(self, topic: str, payload: bytes) -> None:
        self.socket.sendall(cursus_request(topic, payload))

    def reply(self) -> bytes:
        return receive(self.socket, struct.unpack(">I", receive(self.socket, 4))[0])

    def ask(self, text: str, topic: str = "") -> str:
        self.send(topic, text.encode())
        return self.reply().decode()

    def consume(self, topic: str, partition: int, offset: int) -> Iterator[bytes]:
        """Yield what a CONSUME streams, until the broker closes the connection."""
        self.send("", f"CONSUME {topic} {partition} {offset}".encode())
        while True:
            head = self.socket.recv(4, socket.MSG_WAITALL)
            if not head:
                return
            yield receive(self.socket, struct.unpack(">I", head)[0])

    def __enter__(self) -> CursusWire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def kafka_read(
    bootstrap: str, topic: str, count: int, partitions: int = 1, seconds: float = 20
) -> list[tuple[int, int, bytes]]:
    """Read ``count`` records from the beginning; return (partition, offset, value), sorted."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    found: list[tuple[int, int, bytes]] = []
    try:
        consumer.assign([TopicPartition(topic, index, OFFSET_BEGINNING) for index in range(partitions)])
        deadline = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.2):
                assert message.error() is None, message.error()
                found.append((message.partition() or 0, message.offset() or 0, message.value() or b""))
    finally:
        consumer.close()
    assert len(found) >= count, f"{len(found)} records of {count} in {topic}"
    return sorted(found)


class Bystanders:
    """A well-behaved connection of each protocol, at work in a thread of its own.

    Leaving the ``with`` block stops them and asserts that no request failed and that each stored something
    between entering and leaving.
    """

    def __init__(self, ports: Mapping[str, int], pause: float = 0.01) -> None:
        self._ports = ports
        self._pause = pause
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.counts: dict[str, int] = {}
        self.slowest: dict[str, float] = {}
        self.faults: list[str] = []

    def __enter__(self) -> Bystanders:
        work = {"mega": self._mega, "cursus": self._cursus, "kafka": self._kafka}
        for name in self._ports:
            self.counts[name] = 0
            thread = threading.Thread(target=self._run, args=(name, work[name]), daemon=True)
            self._threads.append(thread)
            thread.start()
        until(lambda: self.faults or all(self.counts.values()), 15, "the bystanders at work")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        before = dict(self.counts)
        if error is None and not self.faults:
            until(
                lambda: self.faults or all(self.counts[name] > before[name] for name in before),
                15,
                f"the bystanders still at work ({before})",
            )
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        if error is None:
            assert not self.faults, self.faults

    def _run(self, name: str, work: Callable[[Callable[[], bool]], None]) -> None:
        began = time.monotonic()

        def done_one() -> bool:
            nonlocal began
            now = time.monotonic()
            self.slowest[name] = max(self.slowest.get(name, 0), now - began)
            self.counts[name] += 1
            self._stop.wait(self._pause)
            began = time.monotonic()
            return not self._stop.is_set()

        try:
            work(done_one)
        except Exception as error:
            self.faults.append(f"{name} after {self.counts[name]}: {type(error).__name__}: {error}")

    def _mega(self, done_one: Callable[[], bool]) -> None:
        with MessageClient("127.0.0.1", self._ports["mega"]) as client:
            client.create_topic("by-mega")
            going, offset = True, None
            while going:
                text = f"bystander {self.counts['mega']}"
                answer = client.produce("by-mega", text)
                assert answer["success"], answer
                assert offset is None or answer["offset"] == offset + 1, (answer, offset)
                offset = answer["offset"]
                assert client.consume("by-mega", offset)["payload"] == text
                going = done_one()

    def _cursus(self, done_one: Callable[[], bool]) -> None:
        with CursusWire(self._ports["cursus"]) as wire:
            wire.ask("CREATE by-cursus 1")
            started, going, number = time.time_ns(), True, 0
            while going:
                reply = wire.ask(f"{started} {number}", "by-cursus")
                assert reply == "OK", reply
                number += 1
                going = done_one()
        mine: list[bytes] = []
        offset = 0
        while found := self._cursus_from(offset):  # a CONSUME gives so many at most
            offset += len(found)
            mine += [message for message in found if message.startswith(b"%d " % started)]
        expected = [b"%d %d" % (started, i) for i in range(number)]
        assert mine == expected, (len(mine), number)

    def _cursus_from(self, offset: int) -> list[bytes]:
        with CursusWire(self._ports["cursus"]) as wire:
            return list(wire.consume("by-cursus", 0, offset))

    def _kafka(self, done_one: Callable[[], bool]) -> None:
        config = {
            "bootstrap.servers": f"127.0.0.1:{self._ports['kafka']}",
            "error_cb": self._kafka_error,
            "linger.ms": 0,
            "log_level": 3,
        }
        with MessageClient("127.0.0.1", self._ports["mega"]) as client:
            client.create_topic("by-kafka")
        producer = Producer(config)
        consumer = Consumer({**config, "group.id": "bystander", "enable.auto.commit": False})
        failures: list[Any] = []
        offsets: list[int] = []

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                failures.append(error)
            else:
                offsets.append(message.offset())

        going, number = True, 0
        try:
            while going:
                text = b"bystander %d" % number
                producer.produce("by-kafka", text, on_delivery=delivered)
                assert producer.flush(30) == 0, "not delivered within 30 s"
                assert not failures, failures
                if number == 0:
                    consumer.assign([TopicPartition("by-kafka", 0, offsets[0])])
                message = consumer.poll(30)
                assert message is not None, "nothing fetched within 30 s"
                assert message.error() is None, message.error()
                assert message.value() == text, (message.value(), text)
                number += 1
                going = done_one()
        finally:
            consumer.close()

    def _kafka_error(self, error: KafkaError) -> None:
        self.faults.append(f"kafka client: {error}")
