"""confluent-kafka from the classic to the consumer protocol and back, one by one, while messages flow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupType, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, create_topic

pytestmark = pytest.mark.interop

_SECONDS = 20
_PARTITIONS = 4

Unique = Callable[[str], str]


@pytest.fixture(scope="module")
def own_broker() -> Iterator[BrokerProcess]:
    config = {"durability": "os", "groups": {"consumer_heartbeat_interval_ms": 100}}
    with BrokerProcess(config) as broker:
        yield broker
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


class Flow(threading.Thread):
    """Produces until it is stopped, and remembers what was acknowledged."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        self.topic = topic
        self.stopping = threading.Event()
        self.stored: set[tuple[int, int]] = set()

    def run(self) -> None:
        number = 0
        while not self.stopping.wait(0.002):
            self.producer.produce(
                self.topic, b"%d" % number, partition=number % _PARTITIONS, on_delivery=self.delivered
            )
            self.producer.poll(0)
            number += 1
        assert self.producer.flush(_SECONDS) == 0

    def delivered(self, error: Any, message: Any) -> None:
        assert error is None, error
        self.stored.add((message.partition(), message.offset()))

    def stop(self) -> None:
        self.stopping.set()
        self.join(_SECONDS)


class Rolling:
    """The consumers of one group, each polled in turn; every message is committed after it was read."""

    def __init__(self, broker: BrokerProcess, group: str, topic: str, options: dict[str, Any]) -> None:
        self.broker = broker
        self.group = group
        self.topic = topic
        self.options = options
        self.consumers: dict[str, Any] = {}
        self.read: dict[tuple[int, int], int] = {}
        self.admin = AdminClient({"bootstrap.servers": broker.kafka})

    def start(self, name: str, protocol: str, *, static: bool) -> None:
        config = {
            "bootstrap.servers": self.broker.kafka,
            "group.id": self.group,
            "group.protocol": protocol,
            "client.id": name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
            "topic.metadata.refresh.interval.ms": 1000,
        }
        if protocol == "classic":
            config |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200, **self.options}
        if static:
            config["group.instance.id"] = name
        self.consumers[name] = Consumer(config)
        self.consumers[name].subscribe([self.topic])

    def replace(self, name: str, protocol: str, *, static: bool) -> None:
        self.consumers.pop(name).close()
        self.start(name, protocol, static=static)

    def poll(self) -> None:
        for consumer in self.consumers.values():
            for message in consumer.consume(200, 0.02):
                if message.error() is None:
                    place = message.partition(), message.offset()
                    self.read[place] = self.read.get(place, 0) + 1
            try:
                # To wait for it, while the join of this one waits for the others, would keep them from it.
                consumer.commit(asynchronous=True)
            except Exception:
                pass  # nothing to commit, or the member is to join again first

    def hold(self) -> None:
        """Wait until everybody has a share and every partition one owner."""
        deadline = time.monotonic() + _SECONDS
        while True:
            self.poll()
            has = {
                name: [one.partition for one in one_of.assignment()]
                for name, one_of in self.consumers.items()
            }
            if all(has.values()) and sorted(one for mine in has.values() for one in mine) == list(
                range(_PARTITIONS)
            ):
                return
            assert time.monotonic() < deadline, (has, self.broker.log[-3000:])

    def group_type(self) -> Any:
        [found] = [
            one
            for one in self.admin.list_consumer_groups().result(_SECONDS).valid
            if one.group_id == self.group
        ]
        return found.type


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_rolling_upgrade_and_back_loses_nothing(
    own_broker: BrokerProcess, unique: Unique, strategy: str, static: bool
) -> None:
    topic = create_topic(own_broker.kafka, unique("topic"), _PARTITIONS)
    options = {"partition.assignment.strategy": strategy}
    rolling = Rolling(own_broker, unique("group"), topic, options)
    flow = Flow(own_broker.kafka, topic)
    flow.start()
    names = ["one", "two"]
    try:
        for name in names:
            rolling.start(name, "classic", static=static)
        rolling.hold()
        assert rolling.group_type() is ConsumerGroupType.CLASSIC
        rolling.replace("one", "consumer", static=static)
        rolling.hold()
        assert rolling.group_type() is ConsumerGroupType.CONSUMER
        rolling.replace("two", "consumer", static=static)
        rolling.hold()
        rolling.replace("one", "classic", static=static)
        rolling.hold()
        assert rolling.group_type() is ConsumerGroupType.CONSUMER
        rolling.replace("two", "classic", static=static)
        rolling.hold()
        assert rolling.group_type() is ConsumerGroupType.CLASSIC
        flow.stop()
        deadline = time.monotonic() + _SECONDS
        while len(rolling.read) < len(flow.stored) and time.monotonic() < deadline:
            rolling.poll()
        assert set(rolling.read) == flow.stored
        places = [TopicPartition(topic, index) for index in range(_PARTITIONS)]
        ends = {
            index: max(offset for at, offset in flow.stored if at == index) + 1
            for index in range(_PARTITIONS)
        }
        while True:
            rolling.poll()
            committed = rolling.consumers["one"].committed(places, _SECONDS)
            if {one.partition: one.offset for one in committed} == ends:
                break
            assert time.monotonic() < deadline, (committed, ends)
    finally:
        flow.stop()
        for consumer in rolling.consumers.values():
            consumer.close()
    # Nothing is read again but what a member had read and could not commit before it lost the partition.
    repeats = sum(count - 1 for count in rolling.read.values())
    assert repeats <= len(flow.stored) // 2, (repeats, len(flow.stored))
