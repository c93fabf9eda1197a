"""Five Kafka clients with one face: write records with a codec, read topics from the beginning.

Every writer returns the records as they should be found, with the offsets it was told, in the order written;
every reader returns what it got, sorted by topic, partition and offset. What a client cannot express is
listed with it: its codecs, and ``expected``, which turns a record into what it can see of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import aiokafka
import attrs
import confluent_kafka
import kafka

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_READ_SECONDS = 30

Headers = tuple[tuple[str, bytes | None], ...]


@attrs.frozen(order=True)
class Found:
    """One record as a client sees it.

    Attributes:
        timestamp_ms: None where the writer cannot choose it.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def sample(topic: str, partitions: int = 2, start_ms: int = 1_700_000_000_000) -> list[Found]:
    """Return records of all shapes for a fresh topic, in the order to be written, with their offsets.

    Keys and values null, empty, binary and long; headers none, null, empty, repeated and not ASCII;
    timestamps that go back.
    """
    shapes: list[tuple[bytes | None, bytes | None, Headers]] = [
        (b"key", b"value", ()),
        (None, b"no key", ()),
        (b"", b"empty key", ()),
        (b"tombstone", None, ()),
        (b"empty value", b"", ()),
        (bytes(range(256)), bytes(reversed(range(256))), ()),
        ("schlüssel".encode(), "wert \N{SNOWMAN}".encode(), (("größe", "ö".encode()),)),
        (b"headers", b"v", (("a", b"1"), ("b", b"\x00\xff"), ("a", b"2"))),
        (b"header values", b"v", (("null", None), ("empty", b""))),
        (b"long", b"0123456789" * 2000, ()),
        (b"k" * 300, b"long key", ()),
    ]
    rows = []
    counts: dict[int, int] = defaultdict(int)
    for number, (key, value, headers) in enumerate(shapes * 2):
        partition = number % partitions
        stamp = start_ms + (number * 7919) % 1000
        rows.append(Found(topic, partition, counts[partition], stamp, key, value, headers))
        counts[partition] += 1
    return rows


def totals(rows: Sequence[Found]) -> dict[tuple[str, int], int]:
    """Return how many records each partition has."""
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for row in rows:
        counts[row.topic, row.partition] += 1
    return dict(counts)


def codecs_of(module: Any) -> tuple[str, ...]:
    """Return the codecs whose packages are installed, as a client's codec module sees it."""
    return tuple(codec for codec in CODECS if codec == "none" or getattr(module, f"has_{codec}")())


class Client:
    """A client library: what it can do, and doing it."""

    name: ClassVar[str]
    write_codecs: ClassVar[Sequence[str]] = CODECS
    read_codecs: ClassVar[Sequence[str]] = CODECS

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def writable(self, row: Found) -> Found | None:
        """Return what becomes of the record when this client writes it; None if it cannot."""
        return row

    def expected(self, row: Found) -> Found:
        """Return the record as this client shows it."""
        return row

    def write(self, rows: Sequence[Found], codec: str) -> list[int]:
        """Write the records; return the offsets the broker told, in the same order."""
        raise NotImplementedError

    def read(self, counts: Mapping[tuple[str, int], int]) -> list[Found]:
        """Read so many records of each partition from its beginning."""
        raise NotImplementedError


class Confluent(Client):
    """confluent-kafka: librdkafka."""

    name = "confluent-kafka"

    def write(self, rows: Sequence[Found], codec: str) -> list[int]:
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self.bootstrap, "compression.type": codec, "linger.ms": 20}
        )
        offsets: dict[int, int] = {}

        def report(index: int) -> Any:
            def done(error: Any, message: Any) -> None:
                assert error is None, error
                offsets[index] = message.offset()

            return done

        for index, row in enumerate(rows):
            producer.produce(
                row.topic,
                key=row.key,
                value=row.value,
                partition=row.partition,
                headers=list(row.headers),
                timestamp=row.timestamp_ms,
                on_delivery=report(index),
            )
        assert producer.flush(30) == 0
        return [offsets[index] for index in range(len(rows))]

    def read(self, counts: Mapping[tuple[str, int], int]) -> list[Found]:
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "never-used",
                "enable.auto.commit": False,
                "check.crcs": True,
            }
        )
        try:
            consumer.assign([confluent_kafka.TopicPartition(topic, index, 0) for topic, index in counts])
            found: list[Found] = []
            deadline = time.monotonic() + _READ_SECONDS
            while len(found) < sum(counts.values()) and time.monotonic() < deadline:
                for message in consumer.consume(1000, 0.2):
                    assert message.error() is None, message.error()
                    found.append(_confluent_found(message))
            return sorted(found, key=_place)
        finally:
            consumer.close()


def _place(row: Found) -> tuple[str, int, int]:
    return row.topic, row.partition, row.offset


def _confluent_found(message: Any) -> Found:
    kind, stamp = message.timestamp()
    assert kind == confluent_kafka.TIMESTAMP_CREATE_TIME
    return Found(
        message.topic(),
        message.partition(),
        message.offset(),
        stamp,
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


class KafkaPython(Client):
    """kafka-python, in pure Python; snappy needs python-snappy, lz4 lz4, zstd zstandard."""

    name = "kafka-python"
    write_codecs = read_codecs = codecs_of(kafka.codec)

    def writable(self, row: Found) -> Found | None:
        """It refuses null header values."""
        return None if any(value is None for _, value in row.headers) else row

    def write(self, rows: Sequence[Found], codec: str) -> list[int]:
        producer = kafka.KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            linger_ms=20,
        )
        try:
            sent = [
                producer.send(
                    row.topic,
                    value=row.value,
                    key=row.key,
                    headers=list(row.headers),
                    partition=row.partition,
                    timestamp_ms=row.timestamp_ms,
                )
                for row in rows
            ]
            producer.flush(30)
            return [future.get(10).offset for future in sent]
        finally:
            producer.close(timeout=5)

    def read(self, counts: Mapping[tuple[str, int], int]) -> list[Found]:
        consumer = kafka.KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        try:
            places = [kafka.TopicPartition(topic, index) for topic, index in counts]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            found: list[Found] = []
            deadline = time.monotonic() + _READ_SECONDS
            while len(found) < sum(counts.values()) and time.monotonic() < deadline:
                for records in consumer.poll(timeout_ms=1000).values():
                    found.extend(_python_found(record) for record in records)
            return sorted(found, key=_place)
        finally:
            consumer.close()


def _python_found(record: Any) -> Found:
    assert record.timestamp_type == 0
    return Found(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
    )


class AioKafka(Client):
    """aiokafka, on asyncio; snappy, lz4 and zstd need cramjam."""

    name = "aiokafka"
    write_codecs = read_codecs = codecs_of(aiokafka.codec)

    def write(self, rows: Sequence[Found], codec: str) -> list[int]:
        async def run() -> list[int]:
            async with aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                compression_type=None if codec == "none" else codec,
                linger_ms=20,
                acks="all",
            ) as producer:
                sent = [
                    await producer.send(
                        row.topic,
                        value=row.value,
                        key=row.key,
                        headers=list(row.headers),
                        partition=row.partition,
                        timestamp_ms=row.timestamp_ms,
                    )
                    for row in rows
                ]
                return [done.offset for done in await asyncio.wait_for(asyncio.gather(*sent), 30)]

        return asyncio.run(run())

    def read(self, counts: Mapping[tuple[str, int], int]) -> list[Found]:
        async def run() -> list[Found]:
            found: list[Found] = []
            async with aiokafka.AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as consumer:
                places = [aiokafka.TopicPartition(topic, index) for topic, index in counts]
                consumer.assign(places)
                await consumer.seek_to_beginning(*places)
                deadline = time.monotonic() + _READ_SECONDS
                while len(found) < sum(counts.values()) and time.monotonic() < deadline:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found.extend(_python_found(record) for record in records)
            return sorted(found, key=_place)

        return asyncio.run(run())


class Kcat(Client):
    """kcat, driven by its command line."""

    name = "kcat"
    _FORMAT = "%t %p %o %T %K %S\n%k%s\n%h\n"

    def __init__(self, bootstrap: str, path: str) -> None:
        super().__init__(bootstrap)
        self.path = path

    def writable(self, row: Found) -> Found | None:
        """It reads text lines from standard input, and stamps them itself."""
        plain = all(
            text is None or (b"\n" not in text and b"\t" not in text) for text in (row.key, row.value)
        )
        if not plain or row.headers or b"" in (row.key, row.value) or row.key is None:
            return None
        return attrs.evolve(row, timestamp_ms=None)

    def expected(self, row: Found) -> Found:
        """It prints all headers as one text, each up to its first NUL."""
        text = b",".join(
            name.encode() + b"=" + (b"NULL" if value is None else value.partition(b"\0")[0])
            for name, value in row.headers
        )
        return attrs.evolve(row, headers=(("", text),))

    def write(self, rows: Sequence[Found], codec: str) -> list[int]:
        by_partition: dict[tuple[str, int], list[Found]] = defaultdict(list)
        for row in rows:
            by_partition[row.topic, row.partition].append(row)
        for (topic, partition), chosen in by_partition.items():
            lines = [(row.key or b"") + b"\t" + (row.value or b"") for row in chosen]
            options = ["-t", topic, "-p", str(partition), "-z", codec, "-K", "\t", "-Z"]
            self.run("-P", *options, text=b"\n".join(lines))
        return [row.offset for row in rows]

    def read(self, counts: Mapping[tuple[str, int], int]) -> list[Found]:
        found = []
        for topic in sorted({topic for topic, _ in counts}):
            output = self.run(
                "-C",
                "-t",
                topic,
                "-o",
                "beginning",
                "-e",
                "-q",
                "-f",
                self._FORMAT,
                "-X",
                "fetch.wait.max.ms=50",
            )
            found.extend(self._parse(output))
        return sorted(found, key=_place)

    def run(self, *options: str, text: bytes = b"") -> bytes:
        """Run it to its end and return its output."""
        command = [self.path, "-b", self.bootstrap, *options]
        done = subprocess.run(command, input=text, capture_output=True, timeout=_READ_SECONDS, check=False)
        assert done.returncode == 0, (command, done.stderr.decode(errors="replace"))
        return done.stdout

    @staticmethod
    def _parse(output: bytes) -> list[Found]:
        rows = []
        position = 0
        while position < len(output):
            end = output.index(b"\n", position)
            topic, *numbers = output[position:end].decode().split()
            partition, offset, stamp, key_size, value_size = map(int, numbers)
            start = end + 1
            key = None if key_size < 0 else output[start : start + key_size]
            start += max(key_size, 0)
            value = None if value_size < 0 else output[start : start + value_size]
            start += max(value_size, 0)
            assert output[start : start + 1] == b"\n"
            end = output.index(b"\n", start + 1)
            headers = (("", output[start + 1 : end]),)
            rows.append(Found(topic, partition, offset, stamp, key, value, headers))
            position = end + 1
        return rows


class KafkaJs(Client):
    """kafkajs, through node; it has gzip built in and no other codec."""

    name = "kafkajs"
    write_codecs = ("none", "gzip")
    read_codecs = ("none", "gzip")
    _DRIVER = pathlib.Path(__file__).with_name("kafkajs_driver.js")

    def __init__(self, bootstrap: str, modules: pathlib.Path) -> None:
        super().__init__(bootstrap)
        self.modules = modules

    def writable(self, row: Found) -> Found | None:
        """It has no null header values, and headers are an object: names in order of first use."""
        if any(value is None for _, value in row.headers):
            return None
        return attrs.evolve(row, headers=_grouped(row.headers))

    def expected(self, row: Found) -> Found:
        """Headers are an object here too."""
        return attrs.evolve(row, headers=_grouped(row.headers))

    def write(self, rows: Sequence[Found], codec: str) -> list[int]:
        messages = [
            {
                "topic": row.topic,
                "partition": row.partition,
                "timestamp": str(row.timestamp_ms),
                "key": _encoded(row.key),
                "value": _encoded(row.value),
                "headers": [[name, _encoded(value)] for name, value in row.headers],
            }
            for row in rows
        ]
        bases: dict[tuple[str, int], int] = {}
        for answer in self.run("produce", codec=codec, messages=messages):
            bases[answer["topicName"], answer["partition"]] = int(answer["baseOffset"])
        offsets = []
        for row in rows:
            offsets.append(bases[row.topic, row.partition])
            bases[row.topic, row.partition] += 1
        return offsets

    def read(self, counts: Mapping[tuple[str, int], int]) -> list[Found]:
        topics = sorted({topic for topic, _ in counts})
        group = f"kafkajs-{time.monotonic_ns()}"
        rows = self.run("consume", topics=topics, count=sum(counts.values()), group=group)
        found = [
            Found(
                row["topic"],
                row["partition"],
                int(row["offset"]),
                int(row["timestamp"]),
                _decoded(row["key"]),
                _decoded(row["value"]),
                tuple((name, _decoded(value)) for name, value in row["headers"]),
            )
            for row in rows
        ]
        return sorted(found, key=_place)

    def run(self, action: str, **arguments: Any) -> Any:
        """Run one action of the driver and return its result."""
        request = json.dumps({"action": action, "bootstrap": self.bootstrap, **arguments})
        done = subprocess.run(
            ["node", str(self._DRIVER)],
            input=request,
            capture_output=True,
            text=True,
            timeout=2 * _READ_SECONDS,
            check=False,
            env={**os.environ, "NODE_PATH": str(self.modules / "node_modules")},
        )
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
        return json.loads(done.stdout)


def _grouped(headers: Headers) -> Headers:
    by_name: dict[str, list[bytes | None]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(value)
    return tuple((name, value) for name, values in by_name.items() for value in values)


def _encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
