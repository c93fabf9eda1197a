"""A broker that reads its closed segments again notices a bit that changes under it."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.brokers import BrokerProcess

pytestmark = pytest.mark.interop

_SECONDS = 10
_RECORDS = 60


def test_a_bit_that_changes_while_the_broker_runs() -> None:
    with BrokerProcess({"scrub_bytes_per_second": "1MiB"}) as broker:
        config = {"internal.segment.bytes": "3000"}
        topic = NewTopic("t", 1, 1, config=config)
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([topic])["t"].result(_SECONDS)
        producer = Producer({"bootstrap.servers": broker.kafka, "linger.ms": 0})
        for number in range(_RECORDS):
            producer.produce("t", b"%d" % number * 100, partition=0)
            assert producer.flush(_SECONDS) == 0
        path = sorted((broker.directory / "data/t-0").glob("*.log"))[1]
        hit = int(path.stem)
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
        deadline = time.monotonic() + _SECONDS
        while "log-damaged" not in broker.log and time.monotonic() < deadline:
            time.sleep(0.05)
        assert f"offsets {hit} to {hit + 1} may be lost" in broker.log
        reader = Consumer({"bootstrap.servers": broker.kafka, "group.id": "g", "enable.partition.eof": True})
        reader.assign([TopicPartition("t", 0, hit)])
        message = reader.poll(_SECONDS)
        assert message is not None
        assert message.error() is not None
        assert message.error().code() == KafkaError.INVALID_MSG  # CORRUPT_MESSAGE
        reader.assign([TopicPartition("t", 0, hit + 1)])
        values = [message.value() for message in reader.consume(_RECORDS - hit, 2) if message.error() is None]
        assert values == [b"%d" % number * 100 for number in range(hit + 1, _RECORDS)]
        reader.close()
        assert broker.stop() == 0
        assert "Traceback" not in broker.log
