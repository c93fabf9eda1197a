"""What every wire must bear, of the built-in protocols: by the harness that authors of others use."""

from __future__ import annotations

import pathlib
import struct

from megabroker.codec.batch import build_single
from megabroker.plugins.cursus_plugin import cursus
from megabroker.plugins.kafka_plugin import kafka
from megabroker.plugins.mega_plugin import mega
from megabroker.protocols.kafka.schema import fetch, list_offsets, produce
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.testing.protocol import ProtocolChecks, Wire

GOLDEN = pathlib.Path(__file__).parent / "golden"
TOPIC = b"harness"


def mega_produce(value: bytes, correlation_id: int = 1, topic: bytes = TOPIC) -> bytes:
    head = struct.pack(">iBi", correlation_id, 1, len(topic)) + topic
    return head + struct.pack(">qi", 1_700_000_000_000, len(value)) + value


def mega_consume(offset: int, correlation_id: int = 2, topic: bytes = TOPIC) -> bytes:
    return struct.pack(">iBi", correlation_id, 2, len(topic)) + topic + struct.pack(">qi", 0, offset)


def mega_create(topic: bytes, correlation_id: int = 3) -> bytes:
    return struct.pack(">iBi", correlation_id, 3, len(topic)) + topic + struct.pack(">q", 5)


class TestMega(ProtocolChecks):
    wire = Wire(
        plugin=mega,
        settings={"dialect": "documented", "max_payload_bytes": 64 * 1024},
        conversation=[
            mega_create(b"orders") + mega_create(b"orders", 4),
            b"".join(mega_produce(b"m%d" % n, n, b"orders") for n in range(10, 16)),
            mega_produce(b"x" * 300) + mega_consume(0),
            b"".join(mega_consume(n, n, b"orders") for n in range(8)) + mega_consume(0, 9, b"nowhere"),
        ],
        store=mega_produce,
        read=lambda n: mega_consume(n % 16, n),
        too_long=mega_produce(b"x" * (64 * 1024 + 1)),
        partial=mega_produce(b"never all of it")[:-3],
    )
    golden = (GOLDEN / "mega.golden",)


def cursus_frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def cursus_published(value: bytes, topic: bytes = TOPIC) -> bytes:
    return cursus_frame(struct.pack(">H", len(topic)) + topic + value)


class TestCursus(ProtocolChecks):
    wire = Wire(
        plugin=cursus,
        settings={"max_frame_bytes": 4096, "consume_keep_open": True},
        conversation=[
            cursus_frame(b"CREATE orders 1") + cursus_frame(b"LIST"),
            cursus_frame(b"PUBLISH orders one") + cursus_published(b"two", b"orders"),
            cursus_frame(b"HELP")
            + cursus_frame(b"CONSUME orders 0 0")
            + cursus_frame(b"CONSUME nowhere 0 0"),
            cursus_frame(b"DELETE orders") + cursus_frame(b"EXIT"),
        ],
        store=cursus_published,
        read=lambda n: cursus_frame(b"CONSUME harness 0 0"),
        too_long=struct.pack(">I", 4097),
        partial=cursus_frame(b"PUBLISH harness never all of it")[:-3],
    )
    golden = (GOLDEN / "cursus.golden",)


def kafka_frame(key: int, version: int, message: Message, correlation_id: int = 1) -> bytes:
    head = struct.pack(">hhih", key, version, correlation_id, 2) + b"me"
    head += b"\0" if version >= {0: 9, 1: 12, 2: 6}[key] else b""
    body = head + message.encode(version)
    return struct.pack(">i", len(body)) + body


def kafka_produce(value: bytes, correlation_id: int = 1, version: int = 9) -> bytes:
    data = produce.Request.Topic.Partition(index=0, records=build_single(None, value, 5))
    message = produce.Request(
        transactional_id=None,
        acks=-1,
        timeout_ms=1000,
        topic_data=[produce.Request.Topic(name="harness", partition_data=[data])],
    )
    return kafka_frame(0, version, message, correlation_id)


def kafka_fetch(offset: int, correlation_id: int = 2) -> bytes:
    rows = [fetch.Request.Topic.Partition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 16)]
    message = fetch.Request(
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=1 << 20,
        session_epoch=-1,
        topics=[fetch.Request.Topic(topic="harness", partitions=rows)],
    )
    return kafka_frame(1, 12, message, correlation_id)


def kafka_list_offsets(timestamp: int, correlation_id: int = 3) -> bytes:
    topic = list_offsets.Request.Topic
    rows = [topic.Partition(partition_index=0, timestamp=timestamp)]
    message = list_offsets.Request(replica_id=-1, topics=[topic(name="harness", partitions=rows)])
    return kafka_frame(2, 5, message, correlation_id)


class TestKafka(ProtocolChecks):
    wire = Wire(
        plugin=kafka,
        config={"limits": {"max_request_bytes": 1 << 20}},
        conversation=[
            kafka_produce(b"first") + kafka_produce(b"second", 2) + kafka_produce(b"y" * 100, 3),
            kafka_fetch(0) + kafka_list_offsets(-1) + kafka_list_offsets(-2, 4),
            kafka_fetch(2) + kafka_fetch(100, 5) + kafka_produce(b"older", 6, 3),
        ],
        store=kafka_produce,
        read=lambda n: kafka_fetch(0, n),
        too_long=struct.pack(">i", (1 << 20) + 1),
        partial=kafka_produce(b"never all of it")[:-3],
    )
    golden = (GOLDEN / "kafka.golden",)
