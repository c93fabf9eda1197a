"""Share groups with librdkafka's share consumer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import AcknowledgeType, Message, Producer, ShareConsumer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

pytestmark = pytest.mark.interop


@pytest.fixture
def group(kafka: str, unique: Callable[[str], str]) -> str:
    """A group that begins with the first record."""
    name = unique("share")
    reset = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, name, incremental_configs=[reset])
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.incremental_alter_configs([resource])[resource].result(10)
    return name


@pytest.fixture
def consumer(kafka: str, group: str) -> Iterator[Callable[..., ShareConsumer]]:
    made: list[ShareConsumer] = []

    def make(topic: str, mode: str) -> ShareConsumer:
        settings = {"bootstrap.servers": kafka, "group.id": group, "share.acknowledgement.mode": mode}
        one = ShareConsumer(settings)
        made.append(one)
        one.subscribe([topic])
        return one

    yield make
    for one in made:
        one.close()


def produce(kafka: str, topic: str, count: int, **settings: str) -> list[bytes]:
    producer = Producer({"bootstrap.servers": kafka, **settings})
    values = [b"v%05d" % number for number in range(count)]
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0
    return values


def poll(*consumers: ShareConsumer, count: int) -> list[list[Message]]:
    """Poll in turn until so many records have come, all together."""
    found: list[list[Message]] = [[] for _ in consumers]
    for _ in range(100):
        for one, records in zip(consumers, found, strict=True):
            for message in one.poll(0.3):
                assert message.error() is None
                records.append(message)
        if sum(map(len, found)) >= count:
            break
    return found


def test_every_kind_of_acknowledgement(
    kafka: str, new_topic: Callable[..., str], consumer: Callable[..., ShareConsumer]
) -> None:
    topic = new_topic()
    produce(kafka, topic, 4)
    first = consumer(topic, "explicit")
    [records] = poll(first, count=4)
    assert [one.delivery_count() for one in records] == [1] * 4
    kinds = (AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT, AcknowledgeType.RELEASE)
    for record, kind in zip(records, kinds, strict=True):
        first.acknowledge(record, kind)
    assert [one.error for one in first.commit_sync()] == [None]
    [records] = poll(first, count=2)
    assert [(one.offset(), one.delivery_count()) for one in records] == [(1, 2), (3, 2)]
    for record in records:
        first.acknowledge(record)
    first.commit_sync()


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_three_consumers_share_two_partitions(
    kafka: str, new_topic: Callable[..., str], consumer: Callable[..., ShareConsumer], codec: str
) -> None:
    topic = new_topic(2)
    workers = [consumer(topic, "implicit") for _ in range(3)]
    for worker in workers:
        worker.poll(0.3)
    values = produce(kafka, topic, 3000, **{"compression.type": codec, "batch.size": "2000"})
    found = poll(*workers, count=3000)
    everything = [message for records in found for message in records]
    assert sorted(message.value() for message in everything) == values
    assert {message.delivery_count() for message in everything} == {1}
    for worker in workers:
        worker.commit_sync()
