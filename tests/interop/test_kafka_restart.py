"""Kafka clients over restarts and kill -9 of the broker, with both durabilities."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, create_topic
from tests.interop.test_kafka_confluent import consumer, produce, read

pytestmark = pytest.mark.interop

_SECONDS = 15
_PARTITIONS = 2
_FAST_RETRY = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 100,
    "message.timeout.ms": 60_000,
    "message.send.max.retries": 1_000_000,
}


@pytest.fixture(params=["os", "fsync"])
def own_broker(request: pytest.FixtureRequest) -> Iterator[BrokerProcess]:
    """A broker of the test's own, to be stopped and killed."""
    with BrokerProcess({"durability": request.param}) as broker:
        yield broker
        check_log(broker.log)


class Writer(threading.Thread):
    """Produces numbered records until told to stop; knows which of them were acknowledged and where.

    Record ``n`` has key ``n % 8`` and goes to partition ``n % 2``; its value is ``n`` and, if ``filling`` has
    any lengths, a bar and as many random bytes as one of them says.
    """

    def __init__(self, kafka: str, topic: str, filling: Sequence[int] = (), **options: Any) -> None:
        super().__init__(daemon=True)
        self.topic = topic
        self.filling = filling
        self.producer = Producer({"bootstrap.servers": kafka, "linger.ms": 1, **_FAST_RETRY, **options})
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.failed: list[Any] = []
        self.sent = 0
        self.stopping = False

    def run(self) -> None:
        random = Random(1)
        while not self.stopping:
            number = self.sent
            value = b"%d" % number
            if self.filling:
                value += b"|" + random.randbytes(random.choice(self.filling))
            try:
                self.producer.produce(
                    self.topic,
                    value,
                    key=b"%d" % (number % 8),
                    partition=number % _PARTITIONS,
                    on_delivery=self._report(number),
                )
            except BufferError:
                self.producer.poll(0.05)
                continue
            self.sent += 1
            if self.sent % 20 == 0:
                self.producer.poll(0)
                time.sleep(0.001)

    def _report(self, number: int) -> Any:
        def done(error: Any, message: Any) -> None:
            if error is None:
                self.acknowledged[number] = (message.partition(), message.offset())
            else:
                self.failed.append((number, error))

        return done

    def wait_for(self, more: int) -> None:
        """Wait until so many more records are acknowledged."""
        goal = len(self.acknowledged) + more
        deadline = time.monotonic() + 2 * _SECONDS
        while len(self.acknowledged) < goal:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} of {goal}; {self.failed[:3]}"
            time.sleep(0.005)

    def finish(self) -> None:
        """Stop and wait for every record sent."""
        self.stopping = True
        self.join(_SECONDS)
        assert self.producer.flush(4 * _SECONDS) == 0


def stored(broker: BrokerProcess, topic: str) -> dict[int, list[int]]:
    """Return the numbers in each partition, in order."""
    found: dict[int, list[int]] = defaultdict(list)
    with consumer(broker.kafka) as source:
        places = [TopicPartition(topic, index) for index in range(_PARTITIONS)]
        count = 0
        for place in places:
            low, high = source.get_watermark_offsets(place, timeout=_SECONDS)
            assert low == 0
            count += high
        source.assign([TopicPartition(topic, place.partition, 0) for place in places])
        for message in read(source, count):
            assert message.offset() == len(found[message.partition()])
            found[message.partition()].append(int(message.value().partition(b"|")[0]))
    return found


def check_acknowledged(writer: Writer, found: dict[int, list[int]]) -> None:
    """Every acknowledged record is where the broker said it is."""
    for number, (partition, offset) in writer.acknowledged.items():
        assert partition == number % _PARTITIONS
        if offset >= 0:
            assert found[partition][offset] == number
        else:
            assert number in found[partition]


def test_restart_keeps_records_offsets_topics_and_configs(own_broker: BrokerProcess) -> None:
    broker = own_broker
    topic = create_topic(broker.kafka, "kept", 2, {"retention.ms": "7654321"})
    produce(broker.kafka, topic, [b"%d" % number for number in range(20)])
    with consumer(broker.kafka, "group") as source:
        source.subscribe([topic])
        source.commit(message=read(source, 8)[-1], asynchronous=False)
    broker.restart()
    with consumer(broker.kafka, "group") as source:
        source.subscribe([topic])
        got = read(source, 12)
        assert [(row.offset(), row.value()) for row in got] == [(n, b"%d" % n) for n in range(8, 20)]
        assert [row.timestamp()[1] for row in got] == [1000 * (n + 1) for n in range(8, 20)]
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    assert admin.describe_configs([resource])[resource].result(10)["retention.ms"].value == "7654321"
    assert len(admin.list_topics(timeout=5).topics[topic].partitions) == 2
    produce(broker.kafka, topic, [b"after"])
    with consumer(broker.kafka) as source:
        source.assign([TopicPartition(topic, 0, 20)])
        assert read(source, 1)[0].value() == b"after"


def test_a_member_goes_on_after_a_restart(own_broker: BrokerProcess) -> None:
    broker = own_broker
    topic = create_topic(broker.kafka, "topic")
    produce(broker.kafka, topic, [b"0", b"1"])
    quick = {"reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 100}
    with consumer(broker.kafka, "group", **quick) as source:
        source.subscribe([topic])
        source.commit(message=read(source, 2)[-1], asynchronous=False)
        broker.restart()
        produce(broker.kafka, topic, [b"2"])
        deadline = time.monotonic() + 2 * _SECONDS
        got: list[bytes] = []
        while not got and time.monotonic() < deadline:
            for message in source.consume(10, 0.1):
                error = message.error()
                if error is None:
                    got.append(message.value())
                else:
                    assert error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN), error
        assert got == [b"2"]
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                source.commit(asynchronous=False)
                break
            except Exception:
                assert time.monotonic() < deadline
                source.poll(0.1)
    with consumer(broker.kafka, "group") as source:
        assert source.committed([TopicPartition(topic, 0)], timeout=5)[0].offset == 3


def test_an_idempotent_producer_goes_on_over_a_restart(own_broker: BrokerProcess) -> None:
    broker = own_broker
    topic = create_topic(broker.kafka, "topic", _PARTITIONS)
    writer = Writer(broker.kafka, topic, **{"enable.idempotence": True})
    writer.start()
    writer.wait_for(200)
    broker.restart()
    writer.wait_for(200)
    writer.finish()
    assert writer.failed == []
    assert len(writer.acknowledged) == writer.sent
    found = stored(broker, topic)
    for partition in range(_PARTITIONS):
        assert found[partition] == list(range(partition, writer.sent, _PARTITIONS))
    check_acknowledged(writer, found)


def test_kill_loses_nothing_acknowledged_and_idempotent_records_are_there_once(
    own_broker: BrokerProcess,
) -> None:
    broker = own_broker
    codec = "lz4" if broker.config["durability"] == "fsync" else "none"
    topic = create_topic(broker.kafka, "topic", _PARTITIONS)
    writer = Writer(broker.kafka, topic, **{"enable.idempotence": True, "compression.type": codec})
    writer.start()
    for _ in range(2):
        writer.wait_for(300)
        broker.kill()
        broker.start()
    writer.wait_for(100)
    writer.finish()
    assert writer.failed == []
    found = stored(broker, topic)
    for partition in range(_PARTITIONS):
        assert found[partition] == list(range(partition, writer.sent, _PARTITIONS))
    check_acknowledged(writer, found)


def test_kill_loses_nothing_acknowledged_to_a_plain_producer(own_broker: BrokerProcess) -> None:
    broker = own_broker
    topic = create_topic(broker.kafka, "topic", _PARTITIONS)
    writer = Writer(broker.kafka, topic, **{"acks": "all", "max.in.flight": 1})
    writer.start()
    writer.wait_for(300)
    broker.kill()
    broker.start()
    writer.wait_for(100)
    writer.finish()
    assert writer.failed == []
    found = stored(broker, topic)
    check_acknowledged(writer, found)
    for partition in range(_PARTITIONS):
        first_seen = list(dict.fromkeys(found[partition]))
        assert first_seen == list(range(partition, writer.sent, _PARTITIONS))


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_kill_amid_large_batches_and_many_segments(durability: str) -> None:
    segment_bytes = 200_000
    topics = {"segment_bytes": segment_bytes, "max_message_bytes": segment_bytes}
    with BrokerProcess({"durability": durability, "topics": topics}) as broker:
        topic = create_topic(broker.kafka, "topic", _PARTITIONS)
        options = {"enable.idempotence": True, "batch.size": 120_000, "queue.buffering.max.kbytes": 8000}
        writer = Writer(broker.kafka, topic, (10, 1000, 60_000), **options)
        writer.start()
        for _ in range(3):
            writer.wait_for(100)
            broker.kill()
            broker.start()
        writer.wait_for(50)
        writer.finish()
        assert writer.failed == []
        assert len(list(Path(broker.config["data_dir"]).rglob("*.log"))) > 2 * _PARTITIONS
        found = stored(broker, topic)
        for partition in range(_PARTITIONS):
            assert found[partition] == list(range(partition, writer.sent, _PARTITIONS))
        check_acknowledged(writer, found)
        check_log(broker.log)


def test_kill_keeps_committed_offsets_and_topics(own_broker: BrokerProcess) -> None:
    broker = own_broker
    topic = create_topic(broker.kafka, "topic")
    produce(broker.kafka, topic, [b"%d" % number for number in range(10)])
    with consumer(broker.kafka, "group") as source:
        source.subscribe([topic])
        source.commit(message=read(source, 6)[-1], asynchronous=False)
    broker.kill()
    broker.start()
    with consumer(broker.kafka, "group") as source:
        source.subscribe([topic])
        assert [row.value() for row in read(source, 4)] == [b"6", b"7", b"8", b"9"]
