"""What the kernel has let go of is read again: consumers get all of it, and offsets are found by time."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from megabroker.client.mega import MessageClient
from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, create_topic
from tests.interop.wires import until

pytestmark = pytest.mark.interop

_RECORDS = 4000
_SECONDS = 30


@pytest.fixture
def cold_broker() -> Iterator[BrokerProcess]:
    """A broker that was started after its files left the page cache; topic ``cold`` has small segments."""
    with BrokerProcess({"durability": "os"}) as broker:
        create_topic(broker.kafka, "cold", 1, {"segment.bytes": str(4 << 20)})
        producer = Producer({"bootstrap.servers": broker.kafka, "linger.ms": 20})
        for at in range(_RECORDS):
            producer.produce("cold", _value(at), timestamp=1_700_000_000_000 + at)
            if at % 500 == 499:
                producer.flush(_SECONDS)
        assert not producer.flush(_SECONDS)
        assert broker.stop() == 0
        broker.start()
        forget(broker)
        yield broker
        check_log(broker.log)


def _value(at: int) -> bytes:
    return b"%08d" % at + bytes(4000)


def forget(broker: BrokerProcess) -> None:
    """Have the kernel let go of all that the log's files hold."""
    for path in pathlib.Path(broker.directory, "data", "cold-0").iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_a_consumer_gets_everything_in_order(cold_broker: BrokerProcess, isolation: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": cold_broker.kafka,
            "group.id": "cold",
            "isolation.level": isolation,
            "fetch.message.max.bytes": 1 << 20,
        }
    )
    consumer.assign([TopicPartition("cold", 0, 0)])
    found: list[bytes] = []
    until(lambda: _take(consumer, found) >= _RECORDS, _SECONDS)
    consumer.close()
    assert found == [_value(at) for at in range(_RECORDS)]


def _take(consumer: Consumer, found: list[bytes]) -> int:
    for message in consumer.consume(500, 1):
        assert message.error() is None
        found.append(message.value())
    return len(found)


def test_offsets_are_found_by_time_and_records_by_offset(cold_broker: BrokerProcess) -> None:
    consumer = Consumer({"bootstrap.servers": cold_broker.kafka, "group.id": "cold"})
    for at in (3999, 0, 2500, 1):
        wanted = TopicPartition("cold", 0, 1_700_000_000_000 + at)
        (found,) = consumer.offsets_for_times([wanted], _SECONDS)
        assert found.offset == at
        forget(cold_broker)
        with MessageClient("127.0.0.1", cold_broker.ports["mega"], timeout=_SECONDS) as client:
            assert client.consume("cold", at)["payload"] == _value(at).decode()
        forget(cold_broker)
    consumer.close()
