"""Requests of each wire, ready to be sent, and how many records a server has afterwards."""

from __future__ import annotations

import json
import socket
import time

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from bench.wire import framed
from megabroker.codec.records import build
from megabroker.protocols.kafka.schema import fetch, produce

__all__ = [
    "NATS_GREETING",
    "create_topic",
    "fetch_request",
    "kafka_count",
    "nats_count",
    "nats_create",
    "nats_publish",
    "produce_request",
    "record_batch",
    "redis_count",
    "redis_xadd",
]

_PRODUCE_VERSION, _FETCH_VERSION = 9, 11
_STREAM = "bench"
_SECONDS = 60
_AT_ONCE = 2000  # partitions; Apache Kafka takes fewer than 10,000
_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


# --- Kafka's wire -------------------------------------------------------------------------------------


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def create_topic(bootstrap: str, name: str, partitions: int = 1, **configs: str) -> None:
    """Create a topic and wait for it; configuration names have underscores for dots."""
    admin = _admin(bootstrap)
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    new = NewTopic(name, min(partitions, _AT_ONCE), 1, config=settings)
    admin.create_topics([new], request_timeout=_SECONDS)[name].result(_SECONDS)
    for made in range(2 * _AT_ONCE, partitions + _AT_ONCE, _AT_ONCE):
        grown = NewPartitions(name, min(made, partitions))
        admin.create_partitions([grown], request_timeout=_SECONDS)[name].result(_SECONDS)
    deadline = time.monotonic() + _SECONDS + partitions / 50
    while True:  # Apache Kafka knows a partition before its leader takes anything
        try:
            kafka_count(bootstrap, name, partitions)
            return
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def record_batch(records: int, record_bytes: int, codec: str = "none") -> bytes:
    """Return a batch of records whose values are half repetitive, as text is."""
    value = (b"0123456789abcdef" * (record_bytes // 32 + 1))[: record_bytes // 2]
    value += bytes(range(256)) * (record_bytes // 256 + 1)
    now_ms = time.time_ns() // 1_000_000
    compression = _CODECS.index(codec)
    return bytes(build([(None, value[:record_bytes], (), now_ms)] * records, compression=compression))


def produce_request(topic: str, partition: int, batch: bytes, acks: int) -> bytes:
    """Return a whole Produce request of one batch."""
    topics = produce.Request.Topic(
        name=topic, partition_data=[produce.Request.Topic.Partition(index=partition, records=batch)]
    )
    return framed(produce.Request(acks=acks, timeout_ms=30_000, topic_data=[topics]), _PRODUCE_VERSION, 1)


def fetch_request(topic: str, partition: int, offset: int, max_bytes: int) -> bytes:
    """Return a whole Fetch request outside any session."""
    wanted = fetch.Request.Topic.Partition(
        partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes
    )
    request = fetch.Request(
        max_wait_ms=100,
        min_bytes=1,
        max_bytes=max_bytes,
        topics=[fetch.Request.Topic(topic=topic, partitions=[wanted])],
    )
    return framed(request, _FETCH_VERSION, 1)


def kafka_count(bootstrap: str, topic: str, partitions: int) -> int:
    """Return how many offsets a topic has given out and still has."""
    admin = _admin(bootstrap)
    places = [TopicPartition(topic, index) for index in range(partitions)]
    first, last = (
        sum(answer.result(_SECONDS).offset for answer in admin.list_offsets(asked).values())
        for asked in (
            {place: OffsetSpec.earliest() for place in places},
            {place: OffsetSpec.latest() for place in places},
        )
    )
    return last - first


# --- Redis --------------------------------------------------------------------------------------------


def redis_xadd(value: bytes) -> bytes:
    """Return an XADD of one record."""
    return _resp(b"XADD", _STREAM.encode(), b"*", b"v", value)


def redis_count(port: int) -> int:
    """Return how many records the stream has."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as connection:
        connection.sendall(_resp(b"XLEN", _STREAM.encode()))
        return int(connection.makefile("rb").readline()[1:])


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


# --- NATS JetStream -----------------------------------------------------------------------------------

NATS_GREETING = b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB acks.@@@@@@@@ 1\r\n'


def nats_publish(value: bytes) -> bytes:
    """Return a publish that JetStream acknowledges to the connection's own inbox."""
    return b"PUB %s acks.@@@@@@@@ %d\r\n%s\r\n" % (_STREAM.encode(), len(value), value)


def nats_create(port: int) -> None:
    """Create the stream."""
    config = {"name": _STREAM, "subjects": [_STREAM], "storage": "file", "num_replicas": 1}
    _nats_ask(port, f"$JS.API.STREAM.CREATE.{_STREAM}", json.dumps(config).encode())


def nats_count(port: int) -> int:
    """Return how many records the stream has."""
    answer = _nats_ask(port, f"$JS.API.STREAM.INFO.{_STREAM}", b"")
    return int(answer["state"]["messages"])


def _nats_ask(port: int, subject: str, payload: bytes) -> dict[str, dict[str, int]]:
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as connection:
        stream = connection.makefile("rb")
        connection.sendall(b'CONNECT {"verbose":false}\r\nSUB answers 1\r\n')
        connection.sendall(f"PUB {subject} answers {len(payload)}\r\n".encode() + payload + b"\r\n")
        while line := stream.readline():
            if line.startswith(b"PING"):
                connection.sendall(b"PONG\r\n")
            elif line.startswith(b"MSG"):
                answer = json.loads(stream.read(int(line.split()[-1])))
                assert "error" not in answer, answer
                return dict(answer)
    raise AssertionError("nats-server closed the connection")
