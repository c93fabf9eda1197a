"""confluent-kafka with ``group.protocol: consumer`` (KIP-848): members, rebalances, restarts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupType, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, create_topic

pytestmark = pytest.mark.interop

_SECONDS = 15
_SESSION_MS = 3000

Unique = Callable[[str], str]

_OTHER = """
import sys, confluent_kafka
servers, group, topic = sys.argv[1:]
consumer = confluent_kafka.Consumer(
    {"bootstrap.servers": servers, "group.id": group, "group.protocol": "consumer"}
)
consumer.subscribe([topic])
while True:
    consumer.poll(0.1)
"""


@pytest.fixture(scope="module")
def own_broker() -> Iterator[BrokerProcess]:
    """A broker with short heartbeats, which some tests restart."""
    config = {
        "durability": "os",
        "groups": {"consumer_heartbeat_interval_ms": 100, "consumer_session_timeout_ms": _SESSION_MS},
    }
    with BrokerProcess(config) as broker:
        yield broker
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


class Members:
    """Consumers of one group, polled together; what each has and has read, by its name."""

    def __init__(self, broker: BrokerProcess, group: str) -> None:
        self.broker = broker
        self.group = group
        self.consumers: dict[str, Any] = {}
        self.read: dict[str, list[tuple[str, int, int]]] = {}
        self.lost: list[str] = []

    def join(self, name: str, *topics: str, **options: Any) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.kafka,
                "group.id": self.group,
                "group.protocol": "consumer",
                "client.id": name,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 200,
                "topic.metadata.refresh.interval.ms": 500,
                **{key.replace("_", "."): value for key, value in options.items()},
            }
        )
        consumer.subscribe(list(topics), on_lost=lambda *_: self.lost.append(name))
        self.consumers[name] = consumer
        self.read[name] = []

    def leave(self, name: str) -> None:
        self.consumers.pop(name).close()

    def close(self) -> None:
        for name in list(self.consumers):
            self.leave(name)

    def has(self, name: str) -> set[tuple[str, int]]:
        return {(one.topic, one.partition) for one in self.consumers[name].assignment()}

    def shares(self) -> list[int]:
        return sorted(len(self.has(name)) for name in self.consumers)

    def poll(self) -> None:
        for name, consumer in self.consumers.items():
            for message in consumer.consume(100, 0.01):
                if message.error() is None:
                    self.read[name].append((message.topic(), message.partition(), message.offset()))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self.shares(), self.broker.log[-3000:])
            self.poll()

    def hold(self, shares: list[int]) -> None:
        """Wait until members have so many partitions, no partition two members."""
        self.until(lambda: self.shares() == shares)
        everything = [place for name in self.consumers for place in self.has(name)]
        assert len(everything) == len(set(everything))


@pytest.fixture
def members(own_broker: BrokerProcess, unique: Unique) -> Iterator[Members]:
    with ExitStack() as stack:
        made = Members(own_broker, unique("group"))
        stack.callback(made.close)
        yield made


@pytest.fixture
def topic(own_broker: BrokerProcess, unique: Unique) -> str:
    return create_topic(own_broker.kafka, unique("topic"), 6)


def produce(broker: BrokerProcess, topic: str, count: int, partitions: int = 6) -> None:
    producer = Producer({"bootstrap.servers": broker.kafka})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=number % partitions)
    assert producer.flush(_SECONDS) == 0


def described(members: Members) -> list[Any]:
    admin = AdminClient({"bootstrap.servers": members.broker.kafka})
    return admin.describe_consumer_groups([members.group])[members.group].result(_SECONDS).members


def listed(broker: BrokerProcess, group: str) -> Any:
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    [found] = [one for one in admin.list_consumer_groups().result(_SECONDS).valid if one.group_id == group]
    return found


def test_two_and_three_members_share_and_read_everything_once(members: Members, topic: str) -> None:
    produce(members.broker, topic, 60)
    members.join("one", topic)
    members.hold([6])
    members.until(lambda: len(members.read["one"]) == 60)
    members.consumers["one"].commit(asynchronous=False)
    members.join("two", topic)
    members.hold([3, 3])
    members.join("three", topic)
    members.hold([2, 2, 2])
    produce(members.broker, topic, 60)
    members.until(lambda: sum(map(len, members.read.values())) == 120)
    everything = [place for read in members.read.values() for place in read]
    assert len(set(everything)) == 120
    assert all(members.read[name] for name in ("two", "three"))
    group = listed(members.broker, members.group)
    assert (group.state, group.type) == (ConsumerGroupState.STABLE, ConsumerGroupType.CONSUMER)
    members.leave("one")
    members.hold([3, 3])
    assert members.lost == []


def test_a_member_that_dies_is_replaced_after_its_session(members: Members, topic: str) -> None:
    members.join("one", topic)
    members.hold([6])
    other = subprocess.Popen([sys.executable, "-c", _OTHER, members.broker.kafka, members.group, topic])
    try:
        members.until(lambda: members.shares() == [3])
        assert len(described(members)) == 2
    finally:
        other.kill()
        other.wait()
    members.hold([6])
    assert len(described(members)) == 1


def test_a_static_member_comes_back_to_what_it_had(members: Members, topic: str) -> None:
    members.join("one", topic, group_instance_id="first")
    members.join("two", topic, group_instance_id="second")
    members.hold([3, 3])
    had, other = members.has("one"), members.has("two")
    members.leave("one")
    members.join("one", topic, group_instance_id="first")
    members.hold([3, 3])
    assert members.has("one") == had
    assert members.has("two") == other


def test_partitions_and_topics_that_come_later(members: Members, topic: str, unique: Unique) -> None:
    members.join("one", f"^{topic}.*")
    members.join("two", f"^{topic}.*")
    members.hold([3, 3])
    admin = AdminClient({"bootstrap.servers": members.broker.kafka})
    admin.create_partitions([NewPartitions(topic, 8)])[topic].result(_SECONDS)
    members.hold([4, 4])
    create_topic(members.broker.kafka, f"{topic}-more", 2)
    members.hold([5, 5])


def test_members_outlive_a_restart_of_the_broker(members: Members, topic: str) -> None:
    produce(members.broker, topic, 60)
    members.join("one", topic)
    members.join("two", topic)
    members.hold([3, 3])
    members.until(lambda: sum(map(len, members.read.values())) == 60)
    for consumer in members.consumers.values():
        consumer.commit(asynchronous=False)
    before = {name: members.has(name) for name in ("one", "two")}
    members.broker.restart()
    produce(members.broker, topic, 60)
    members.until(lambda: sum(map(len, members.read.values())) >= 120)
    for consumer in members.consumers.values():
        consumer.commit(asynchronous=False)
    assert {name: members.has(name) for name in ("one", "two")} == before
    assert members.lost == []
    assert sum(map(len, members.read.values())) == 120


def test_a_classic_group_is_continued(members: Members, topic: str) -> None:
    produce(members.broker, topic, 60)
    members.join("old", topic, group_protocol="classic")
    members.hold([6])
    members.until(lambda: len(members.read["old"]) == 60)
    members.consumers["old"].commit(asynchronous=False)
    members.leave("old")
    assert listed(members.broker, members.group).type == ConsumerGroupType.CLASSIC
    members.join("new", topic)
    members.hold([6])
    produce(members.broker, topic, 6)
    members.until(lambda: len(members.read["new"]) == 6)
    assert listed(members.broker, members.group).type == ConsumerGroupType.CONSUMER
    committed = members.consumers["new"].committed([TopicPartition(topic, 0)], _SECONDS)
    assert committed[0].offset == 10
    members.leave("new")
    members.join("old", topic, group_protocol="classic")
    members.hold([6])
