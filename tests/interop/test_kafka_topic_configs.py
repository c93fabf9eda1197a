"""Topic configurations that decide what becomes of a produced batch, with Kafka's clients and tools."""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, create_topic
from tests.interop.java import Java

pytestmark = pytest.mark.interop

TYPES = {"uncompressed": "none", "gzip": "gzip", "snappy": "snappy", "lz4": "lz4", "zstd": "zstd"}
LEVELS = {"gzip": "1", "lz4": "12", "zstd": "-5"}
VALUES = [b"%d " % at + b"the same again " * (at % 50) for at in range(300)]


def produce(kafka: str, topic: str, **options: Any) -> list[int]:
    """Produce VALUES to partition 0; return the error codes."""
    codes: list[int] = []
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20, **options})
    for value in VALUES:
        producer.produce(
            topic,
            value,
            b"k",
            partition=0,
            on_delivery=lambda error, _: codes.append(error.code() if error else 0),
        )
    assert producer.flush(20) == 0
    return codes


def read(kafka: str, topic: str) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "reader", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    while (message := consumer.poll(10)) is not None and not message.error():
        found.append(message.value())
    consumer.close()
    return found


def test_stored_in_the_codec_of_the_topic(java_tools: Java) -> None:
    with BrokerProcess() as broker:
        topics = {}
        for name in TYPES:
            for level in {None, LEVELS.get(name)}:
                config = {"compression.type": name}
                if level is not None:
                    config[f"compression.{name}.level"] = level
                topic = create_topic(broker.kafka, f"{name}-{level}", config=config)
                topics[topic] = name
                for source in ("none", "zstd", "gzip"):
                    codes = produce(broker.kafka, topic, **{"compression.type": source})
                    assert set(codes) == {0}
                assert read(broker.kafka, topic) == VALUES * 3
                python = KafkaConsumer(
                    topic,
                    bootstrap_servers=broker.kafka,
                    auto_offset_reset="earliest",
                    consumer_timeout_ms=2000,
                )
                assert [next(python).value for _ in range(900)] == VALUES * 3
                python.close()
        assert broker.stop() == 0
        check_log(broker.log)
        data = pathlib.Path(broker.config["data_dir"])
        logs = {topic: data / f"{topic}-0" / f"{0:020d}.log" for topic in topics}
        done = java_tools.run(
            "org.apache.kafka.tools.DumpLogSegments",
            "--deep-iteration",
            "--files",
            ",".join(map(str, logs.values())),
            seconds=90,
        )
        assert done.returncode == 0, done.stderr
        for part in done.stdout.split("Dumping ")[1:]:
            topic = next(topic for topic, path in logs.items() if part.startswith(str(path)))
            assert set(re.findall(r"compresscodec: (\w+)", part)) == {TYPES[topics[topic]]}
            assert len(re.findall(r"^\| offset: ", part, re.MULTILINE)) == 900
            assert "isvalid: false" not in part


def test_too_large_in_the_codec_of_the_topic(kafka: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(config={"compression.type": "uncompressed", "max.message.bytes": "5000"})
    codes = produce(kafka, topic, **{"compression.type": "gzip"})
    assert set(codes) == {KafkaError.MSG_SIZE_TOO_LARGE}
    assert read(kafka, topic) == []


def test_times_out_of_bounds(kafka: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(config={"message.timestamp.before.max.ms": "60000"})
    errors: list[Any] = []
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 50})
    now_ms = int(time.time() * 1000)
    for age in (0, 30_000, 90_000):
        producer.produce(
            topic,
            b"x",
            timestamp=now_ms - age,
            partition=0,
            on_delivery=lambda error, _: errors.append(error),
        )
    producer.flush(10)
    # The batch is refused as a whole; which of its records are wrong only they are told.
    assert {error.code() for error in errors if error is not None} <= {
        KafkaError.INVALID_TIMESTAMP,
        KafkaError._INVALID_DIFFERENT_RECORD,
    }
    assert sum(error is not None for error in errors) == 3
    assert read(kafka, topic) == []


def test_replicas_that_are_not_there(kafka: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(config={"min.insync.replicas": "2"})
    refused = produce(kafka, topic, acks="all", **{"message.timeout.ms": 1000, "retry.backoff.ms": 50})
    assert KafkaError.NO_ERROR not in refused
    assert set(produce(kafka, topic, acks="1")) == {0}


def test_refused_by_name(kafka: str, unique: Callable[[str], str]) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    for name, value in (
        ("preallocate", "true"),
        ("remote.storage.enable", "true"),
        ("message.format.version", "2.0"),
        ("segment.bytes", "1000"),
    ):
        topic = unique("refused")
        created = admin.create_topics([NewTopic(topic, 1, 1, config={name: value})])[topic]
        with pytest.raises(KafkaException) as caught:
            created.result(10)
        assert caught.value.args[0].code() == KafkaError.INVALID_CONFIG
        assert name in caught.value.args[0].str()
