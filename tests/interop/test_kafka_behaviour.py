"""How the broker behaves towards Kafka clients: waiting, sizes, topics that come and go."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, create_topic
from tests.interop.test_kafka_confluent import consumer, produce, read

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]
_SECONDS = 15


@pytest.fixture(scope="module")
def strict_broker() -> Iterator[BrokerProcess]:
    """A broker that creates no topics by itself."""
    with BrokerProcess({"durability": "os", "topics": {"auto_create": False}}) as broker:
        yield broker
        assert broker.stop() == 0
        check_log(broker.log)


def delete_topic(kafka: str, topic: str) -> None:
    """Delete a topic and wait for it."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(10)


def first_error(source: Any, seconds: float = _SECONDS) -> int:
    """Poll until an error comes; return its code."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = source.poll(0.1)
        if message is not None and message.error() is not None:
            return int(message.error().code())
    raise AssertionError("no error came")


def test_a_waiting_consumer_gets_a_message_at_once(kafka: str, new_topic: New) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0})
    produce(kafka, topic, [b"warm up"])
    latencies = []
    with consumer(kafka, fetch_wait_max_ms=10_000) as source:
        source.assign([TopicPartition(topic, 0, 0)])
        read(source, 1)
        producer.list_topics(topic, timeout=5)
        for number in range(10):
            time.sleep(0.05)
            began = time.monotonic()
            producer.produce(topic, b"%d" % number)
            producer.poll(0)
            message = source.poll(9)
            latencies.append(time.monotonic() - began)
            assert message is not None
            assert message.value() == b"%d" % number
        producer.flush(5)
    assert sorted(latencies)[5] < 0.1, latencies
    assert max(latencies) < 1, latencies


def test_an_empty_fetch_waits_as_long_as_it_was_asked_to(kafka: str, new_topic: New) -> None:
    topic = new_topic()
    with consumer(kafka, fetch_wait_max_ms=300, enable_partition_eof=True) as source:
        source.assign([TopicPartition(topic, 0, 0)])
        began = time.monotonic()
        message = source.poll(5)
        waited = time.monotonic() - began
    assert message is not None
    assert message.error().code() == KafkaError._PARTITION_EOF
    assert 0.25 < waited < 2


def test_producing_creates_the_topic(kafka: str, unique: Unique) -> None:
    topic = unique("auto")
    produce(kafka, topic, [b"first"])
    with consumer(kafka) as source:
        assert len(source.list_topics(topic, timeout=5).topics[topic].partitions) == 3
        source.assign([TopicPartition(topic, 0, 0)])
        assert read(source, 1)[0].value() == b"first"


def test_looking_at_a_topic_without_leave_to_create_does_not(kafka: str, unique: Unique) -> None:
    topic = unique("looked-at")
    with consumer(kafka, allow_auto_create_topics=False) as source:
        source.subscribe([topic])
        assert first_error(source) == KafkaError.UNKNOWN_TOPIC_OR_PART
        assert topic not in source.list_topics(timeout=5).topics


def test_unknown_topic_where_none_are_created(strict_broker: BrokerProcess) -> None:
    errors: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": strict_broker.kafka,
            "topic.metadata.propagation.max.ms": 200,
            "topic.metadata.refresh.fast.interval.ms": 50,
            "message.timeout.ms": 5000,
        }
    )
    producer.produce("missing", b"x", on_delivery=lambda error, _: errors.append(error.code()))
    assert producer.flush(_SECONDS) == 0
    assert errors in ([KafkaError._UNKNOWN_TOPIC], [KafkaError.UNKNOWN_TOPIC_OR_PART])
    with consumer(strict_broker.kafka) as source:
        source.subscribe(["missing"])
        assert first_error(source) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_consumer_of_a_deleted_topic_sees_an_error(kafka: str, new_topic: New, unique: Unique) -> None:
    topic = new_topic()
    produce(kafka, topic, [b"x"])
    options = {
        "topic_metadata_refresh_interval_ms": 200,
        "topic_metadata_propagation_max_ms": 100,
        "allow_auto_create_topics": False,
        "fetch_wait_max_ms": 20_000,
    }
    # Only subscribers are told by librdkafka; for assigned partitions it waits for the topic to come back.
    with consumer(kafka, unique("group"), **options) as source:
        source.subscribe([topic])
        read(source, 1)
        assert source.poll(0.3) is None
        began = time.monotonic()
        delete_topic(kafka, topic)
        assert first_error(source) == KafkaError.UNKNOWN_TOPIC_OR_PART
        assert time.monotonic() - began < 5


def test_a_topic_made_again_begins_empty(kafka: str, new_topic: New) -> None:
    topic = new_topic()
    produce(kafka, topic, [b"old"] * 3)
    delete_topic(kafka, topic)
    create_topic(kafka, topic)
    produce(kafka, topic, [b"new"])
    with consumer(kafka) as source:
        source.assign([TopicPartition(topic, 0, 0)])
        assert [(row.offset(), row.value()) for row in read(source, 1)] == [(0, b"new")]
        assert source.get_watermark_offsets(TopicPartition(topic, 0), timeout=5) == (0, 1)


@pytest.mark.parametrize("options", [{}, {"enable.idempotence": True}], ids=["plain", "idempotent"])
def test_a_batch_beyond_max_message_bytes_is_refused(
    options: dict[str, Any], kafka: str, new_topic: New
) -> None:
    topic = new_topic(1, {"max.message.bytes": "10000"})
    outcomes: list[int | None] = []
    settings = {"bootstrap.servers": kafka, "message.max.bytes": 2_000_000, "linger.ms": 0, **options}
    producer = Producer(settings)

    def report(error: Any, message: Any) -> None:
        outcomes.append(error.code() if error else None)

    producer.produce(topic, b"x" * 20_000, on_delivery=report)
    assert producer.flush(_SECONDS) == 0
    producer.produce(topic, b"x" * 9000, on_delivery=report)
    assert producer.flush(_SECONDS) == 0
    assert outcomes == [KafkaError.MSG_SIZE_TOO_LARGE, None]


def test_large_messages_are_intact(kafka: str, new_topic: New) -> None:
    topic = new_topic()
    values = [hashlib.sha256(b"%d" % number).digest() * (900 * 1024 // 32) for number in range(12)]
    produce(kafka, topic, values)
    with consumer(kafka, fetch_message_max_bytes=100_000) as source:
        source.assign([TopicPartition(topic, 0, 0)])
        got = read(source, len(values))
    assert [message.offset() for message in got] == list(range(len(values)))
    assert all(message.value() == value for message, value in zip(got, values, strict=True))


def test_a_hundred_thousand_small_messages_are_intact(kafka: str, new_topic: New) -> None:
    topic, count = new_topic(2), 100_000
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "linger.ms": 5,
            "queue.buffering.max.messages": count + 1,
            "enable.idempotence": True,
        }
    )
    failed: list[Any] = []
    for number in range(count):
        producer.produce(
            topic,
            b"%d" % number,
            partition=number % 2,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        if not number % 5000:
            producer.poll(0)
    assert producer.flush(60) == 0
    assert failed == []
    next_of = [0, 1]
    seen = 0
    with consumer(kafka) as source:
        source.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])
        deadline = time.monotonic() + 60
        while seen < count and time.monotonic() < deadline:
            for message in source.consume(10_000, 0.2):
                assert message.error() is None
                part = message.partition()
                assert int(message.value()) == next_of[part]
                assert message.offset() == next_of[part] // 2
                next_of[part] += 2
                seen += 1
    assert seen == count


def test_one_slow_fetch_delays_nobody_else(kafka: str, new_topic: New) -> None:
    topic, quiet = new_topic(), new_topic()
    with consumer(kafka, fetch_wait_max_ms=20_000) as waiting:
        waiting.assign([TopicPartition(quiet, 0, 0)])
        assert waiting.poll(0.3) is None
        began = time.monotonic()
        thread = threading.Thread(target=produce, args=(kafka, topic, [b"x"] * 100))
        thread.start()
        thread.join(10)
        with consumer(kafka) as source:
            source.assign([TopicPartition(topic, 0, 0)])
            read(source, 100)
        assert time.monotonic() - began < 5


def test_log_append_time_is_the_brokers(kafka: str, new_topic: New) -> None:
    topic = new_topic(1, {"message.timestamp.type": "LogAppendTime"})
    before_ms = int(time.time() * 1000)
    produce(kafka, topic, [b"a", b"b"], **{"compression.type": "lz4"})
    after_ms = int(time.time() * 1000)
    with consumer(kafka, check_crcs=True) as source:
        source.assign([TopicPartition(topic, 0, 0)])
        for message in read(source, 2):
            kind, stamp = message.timestamp()
            assert kind == TIMESTAMP_LOG_APPEND_TIME
            assert before_ms <= stamp <= after_ms
        found = source.offsets_for_times([TopicPartition(topic, 0, before_ms)], timeout=5)
        assert found[0].offset == 0


def test_a_topic_of_many_partitions(kafka: str, new_topic: New) -> None:
    count = 200
    topic = new_topic(count)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
    for index in range(count):
        producer.produce(topic, b"%d" % index, partition=index)
    assert producer.flush(_SECONDS) == 0
    with consumer(kafka) as source:
        source.assign([TopicPartition(topic, index, 0) for index in range(count)])
        got = read(source, count)
    assert sorted((row.partition(), row.value()) for row in got) == [(n, b"%d" % n) for n in range(count)]
