"""Transactions with real clients: what read_committed consumers see, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as AioTopicPartition
from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from kafka import KafkaProducer
from kafka import TopicPartition as PyTopicPartition
from kafka.errors import ProducerFencedError
from kafka.structs import OffsetAndMetadata

from megabroker.codec.records import build
from megabroker.protocols.kafka.schema import end_txn, init_producer_id, metadata, produce
from megabroker.protocols.kafka.schema.registry import APIS
from tests.brokers import BrokerProcess
from tests.interop.conftest import create_topic
from tests.interop.wires import receive

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:kafka"),
]

New = Callable[..., str]
Unique = Callable[[str], str]
_SECONDS = 15
_QUIET_SECONDS = 0.5
_INVALID_PRODUCER_EPOCH = 47


def producer(kafka: str, transactional_id: str, **options: Any) -> Producer:
    """A transactional producer, initialised."""
    made = Producer(
        {
            "bootstrap.servers": kafka,
            "transactional.id": transactional_id,
            **{name.replace("_", "."): value for name, value in options.items()},
        }
    )
    made.init_transactions(_SECONDS)
    return made


def transact(
    made: Producer, topic: str, values: list[bytes], partitions: int, *, commit: bool = True
) -> None:
    """Write values round robin and end the transaction."""
    made.begin_transaction()
    for number, value in enumerate(values):
        made.produce(topic, value, partition=number % partitions)
    made.flush(_SECONDS)
    if commit:
        made.commit_transaction(_SECONDS)
    else:
        made.abort_transaction(_SECONDS)


def read(kafka: str, topic: str, partitions: int, count: int, *, committed: bool = True) -> list[bytes]:
    """Return what is there, sorted: at least ``count`` values, and what else comes soon after."""
    source = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "unused",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "fetch.wait.max.ms": 50,
        }
    )
    try:
        source.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
        got: list[bytes] = []
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            found = source.consume(1000, _QUIET_SECONDS)
            for message in found:
                assert message.error() is None, message.error()
                got.append(message.value())
            if not found and len(got) >= count:
                break
        return sorted(got)
    finally:
        source.close()


def values(word: str, count: int = 6) -> list[bytes]:
    return [f"{word}-{number}".encode() for number in range(count)]


# --- librdkafka --------------------------------------------------------------------------------------


def test_confluent_commits_and_aborts(kafka: str, new_topic: New, unique: Unique) -> None:
    topic = new_topic(3)
    made = producer(kafka, unique("txn"))
    for round_ in range(3):
        transact(made, topic, values(f"good{round_}"), 3)
        transact(made, topic, values(f"bad{round_}"), 3, commit=False)
    good = sorted(one for round_ in range(3) for one in values(f"good{round_}"))
    assert read(kafka, topic, 3, 18) == good
    assert len(read(kafka, topic, 3, 36, committed=False)) == 36


def test_confluent_sees_nothing_of_an_open_transaction(kafka: str, new_topic: New, unique: Unique) -> None:
    topic = new_topic(1)
    made = producer(kafka, unique("txn"))
    made.begin_transaction()
    made.produce(topic, b"open", partition=0)
    made.flush(_SECONDS)
    plain = Producer({"bootstrap.servers": kafka})
    plain.produce(topic, b"plain", partition=0)
    plain.flush(_SECONDS)
    assert read(kafka, topic, 1, 0) == []
    assert read(kafka, topic, 1, 2, committed=False) == [b"open", b"plain"]
    made.commit_transaction(_SECONDS)
    assert read(kafka, topic, 1, 2) == [b"open", b"plain"]


def test_confluent_zombies_are_fenced(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, name = new_topic(2), unique("txn")
    zombie = producer(kafka, name)
    zombie.begin_transaction()
    zombie.produce(topic, b"zombie", partition=0)
    zombie.flush(_SECONDS)
    fresh = producer(kafka, name)
    transact(fresh, topic, values("fresh"), 2)
    with pytest.raises(KafkaException) as caught:
        zombie.commit_transaction(_SECONDS)
    assert caught.value.args[0].name() in ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")
    assert read(kafka, topic, 2, 6) == values("fresh")


def test_confluent_transaction_whose_time_is_up(kafka: str, new_topic: New, unique: Unique) -> None:
    topic = new_topic(1)
    slow = producer(kafka, unique("txn"), transaction_timeout_ms=1000)
    slow.begin_transaction()
    slow.produce(topic, b"slow", partition=0)
    slow.flush(_SECONDS)
    plain = Producer({"bootstrap.servers": kafka})
    plain.produce(topic, b"plain", partition=0)
    plain.flush(_SECONDS)
    assert read(kafka, topic, 1, 1) == [b"plain"]
    with pytest.raises(KafkaException):
        slow.commit_transaction(_SECONDS)


def test_confluent_consumes_transforms_and_produces(kafka: str, new_topic: New, unique: Unique) -> None:
    """Exactly once, with a worker that gives up in the middle of every other transaction."""
    source, sink, group, name = new_topic(2), new_topic(2), unique("group"), unique("txn")
    plain = Producer({"bootstrap.servers": kafka})
    wanted = values("in", 40)
    for number, value in enumerate(wanted):
        plain.produce(source, value, partition=number % 2)
    plain.flush(_SECONDS)

    def work(attempt: int) -> bool:
        """Move some records; return whether any were left."""
        consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "session.timeout.ms": 2000,
                "heartbeat.interval.ms": 100,
                "fetch.wait.max.ms": 50,
            }
        )
        made = producer(kafka, name)
        try:
            consumer.subscribe([source])
            found: list[Any] = []
            deadline = time.monotonic() + 4
            while not found and time.monotonic() < deadline:
                found = consumer.consume(10, 1.0)
            if not found:
                return False
            made.begin_transaction()
            for message in found:
                made.produce(sink, message.value(), partition=message.partition())
            made.send_offsets_to_transaction(
                consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), _SECONDS
            )
            made.flush(_SECONDS)
            if attempt % 2:
                made.commit_transaction(_SECONDS)
            return True
        finally:
            consumer.close()

    attempt = 0
    while work(attempt) and attempt < 30:
        attempt += 1
    assert Counter(read(kafka, sink, 2, 40)) == Counter(wanted)


def test_confluent_admin_describes(kafka: str, new_topic: New, unique: Unique) -> None:
    """What librdkafka's administrators can ask: offsets before and after an open transaction."""
    topic = new_topic(1)
    made = producer(kafka, unique("txn"))
    made.begin_transaction()
    made.produce(topic, b"open", partition=0)
    made.flush(_SECONDS)
    admin = AdminClient({"bootstrap.servers": kafka})
    where = TopicPartition(topic, 0)
    for level, offset in ((IsolationLevel.READ_COMMITTED, 0), (IsolationLevel.READ_UNCOMMITTED, 1)):
        asked = admin.list_offsets({where: OffsetSpec.latest()}, isolation_level=level)
        assert asked[where].result(_SECONDS).offset == offset
    made.abort_transaction(_SECONDS)


# --- kafka-python and aiokafka -----------------------------------------------------------------------


def python_producer(kafka: str, transactional_id: str) -> Any:
    made = KafkaProducer(bootstrap_servers=kafka, transactional_id=transactional_id, acks="all")
    made.init_transactions()
    return made


def test_kafka_python(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(2), unique("group")
    made = python_producer(kafka, unique("txn"))
    try:
        for word, commit in (("good", True), ("bad", False), ("better", True)):
            made.begin_transaction()
            for number, value in enumerate(values(word)):
                made.send(topic, value, partition=number % 2)
            made.send_offsets_to_transaction(
                {PyTopicPartition(topic, 0): OffsetAndMetadata(len(word), "", -1)}, group
            )
            made.flush(_SECONDS)
            (made.commit_transaction if commit else made.abort_transaction)()
        assert read(kafka, topic, 2, 12) == sorted(values("good") + values("better"))
        assert len(read(kafka, topic, 2, 18, committed=False)) == 18
    finally:
        made.close(5)
    assert committed(kafka, group, topic) == len("better")


def committed(kafka: str, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    try:
        [found] = consumer.committed([TopicPartition(topic, 0)], _SECONDS)
        assert found.error is None
        return int(found.offset)
    finally:
        consumer.close()


def test_kafka_python_zombies_are_fenced(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, name = new_topic(1), unique("txn")
    zombie = python_producer(kafka, name)
    fresh = None
    try:
        zombie.begin_transaction()
        zombie.send(topic, b"zombie", partition=0).get(_SECONDS)
        fresh = python_producer(kafka, name)
        fresh.begin_transaction()
        fresh.send(topic, b"fresh", partition=0)
        fresh.commit_transaction()
        with pytest.raises(ProducerFencedError):
            zombie.commit_transaction()
        assert read(kafka, topic, 1, 1) == [b"fresh"]
    finally:
        for made in (zombie, fresh):
            if made is not None:
                made.close(1)


def test_aiokafka(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group, name = new_topic(2), unique("group"), unique("txn")

    async def main() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=name) as made:
            for word, commit in (("good", True), ("bad", False), ("better", True)):
                await made.begin_transaction()
                for number, value in enumerate(values(word)):
                    await made.send_and_wait(topic, value, partition=number % 2)
                await made.send_offsets_to_transaction({AioTopicPartition(topic, 0): len(word)}, group)
                await (made.commit_transaction() if commit else made.abort_transaction())

    asyncio.run(asyncio.wait_for(main(), _SECONDS))
    assert read(kafka, topic, 2, 12) == sorted(values("good") + values("better"))
    assert committed(kafka, group, topic) == len("better")


# --- the second kind of transactions, which no client written in Python speaks ------------------------


class Wire:
    """A connection that says what a producer of KIP-890 says."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), _SECONDS)

    def ask(self, request: Any, version: int) -> Any:
        """Send a request of a flexible version and return the answer."""
        key = type(request).__schema__.key
        head = struct.pack(">hhih4sb", key, version, 1, 4, b"test", 0)
        body = head + request.encode(version)
        self.socket.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", receive(self.socket, 4))
        answer = receive(self.socket, size)
        return APIS[key].response.decode(answer[5:], version)[0]

    def produce(self, topic_id: bytes, partitions: int, identity: tuple[int, int], value: bytes) -> set[int]:
        """Write a first batch to every partition by one request; return the codes."""
        rows = [
            produce.Request.Topic.Partition(
                index=index,
                records=build(
                    [(None, value, (), 1000)],
                    producer_id=identity[0],
                    producer_epoch=identity[1],
                    base_sequence=0,
                    attributes=16,
                ),
            )
            for index in range(partitions)
        ]
        topic = produce.Request.Topic(topic_id=topic_id, partition_data=rows)
        request = produce.Request(transactional_id="v2", acks=-1, timeout_ms=1000, topic_data=[topic])
        answer = self.ask(request, 13)
        return {row.error_code for one in answer.responses for row in one.partition_responses}

    def end(self, identity: tuple[int, int], commit: bool) -> tuple[int, int, int]:
        answer = self.ask(
            end_txn.Request(
                transactional_id="v2", producer_id=identity[0], producer_epoch=identity[1], committed=commit
            ),
            5,
        )
        return answer.error_code, answer.producer_id, answer.producer_epoch


def test_second_kind_over_a_kill(mortal: BrokerProcess) -> None:
    partitions = 3
    topic = create_topic(mortal.kafka, "t", partitions)
    wire = Wire(mortal.kafka)
    asked = metadata.Request(topics=[metadata.Request.Topic(name=topic)])
    topic_id = bytes(wire.ask(asked, 12).topics[0].topic_id)
    given = wire.ask(init_producer_id.Request(transactional_id="v2", transaction_timeout_ms=30_000), 5)
    identity = (given.producer_id, given.producer_epoch)
    wanted = []
    for number, commit in enumerate((True, False, True)):
        value = b"%d" % number
        assert wire.produce(topic_id, partitions, identity, value) == {0}
        if number == 2:
            mortal.kill()
            mortal.start()
            wire = Wire(mortal.kafka)
        ended = wire.end(identity, commit)
        assert ended == (0, identity[0], identity[1] + 1)
        assert wire.end(identity, commit) == ended
        assert wire.produce(topic_id, partitions, identity, b"late") == {_INVALID_PRODUCER_EPOCH}
        identity = ended[1:]
        if commit:
            wanted += [value] * partitions
    assert read(mortal.kafka, topic, partitions, len(wanted)) == wanted
    wire.socket.close()


# --- a broker that dies -------------------------------------------------------------------------------


@pytest.fixture
def mortal() -> Iterator[BrokerProcess]:
    """A broker of the test's own, with everything on the disk before it is answered."""
    with BrokerProcess() as broker:
        yield broker


def test_an_open_transaction_outlives_a_kill(mortal: BrokerProcess) -> None:
    topic = create_topic(mortal.kafka, "t", 3)
    made = producer(mortal.kafka, "x")
    made.begin_transaction()
    for number, value in enumerate(values("one")):
        made.produce(topic, value, partition=number % 3)
    made.flush(_SECONDS)
    mortal.kill()
    mortal.start()
    assert read(mortal.kafka, topic, 3, 0) == []
    made.commit_transaction(_SECONDS)
    assert read(mortal.kafka, topic, 3, 6) == values("one")


def test_one_that_nobody_goes_on_with_is_aborted(mortal: BrokerProcess) -> None:
    topic = create_topic(mortal.kafka, "t", 2)
    lost = producer(mortal.kafka, "x", transaction_timeout_ms=3000)
    lost.begin_transaction()
    for number, value in enumerate(values("lost")):
        lost.produce(topic, value, partition=number % 2)
    lost.flush(_SECONDS)
    mortal.kill()
    mortal.start()
    plain = Producer({"bootstrap.servers": mortal.kafka})
    for index in range(2):
        plain.produce(topic, b"plain", partition=index)
    plain.flush(_SECONDS)
    assert read(mortal.kafka, topic, 2, 2) == [b"plain", b"plain"]


def test_all_or_nothing_of_every_transaction_under_kills(mortal: BrokerProcess) -> None:
    """A producer commits over eight partitions and a group's offset while the broker dies again and again."""
    partitions = 8
    topic = create_topic(mortal.kafka, "t", partitions)
    certain: list[int] = []
    failed: list[BaseException] = []
    stopping = threading.Event()

    def write() -> None:
        try:
            # Otherwise it can wait for ever for a coordinator that it has dropped (docs/guarantees.md).
            made = producer(mortal.kafka, "x", metadata_recovery_strategy="none")
            group = Consumer({"bootstrap.servers": mortal.kafka, "group.id": "g"}).consumer_group_metadata()
            number = 0
            while not stopping.is_set():
                made.begin_transaction()
                for index in range(partitions):
                    made.produce(topic, b"%d" % number, partition=index)
                made.send_offsets_to_transaction([TopicPartition(topic, 0, number + 1)], group, 60)
                made.commit_transaction(60)
                certain.append(number)
                number += 1
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        for pause in (0.6, 0.45, 0.73):
            time.sleep(pause)
            mortal.kill()
            mortal.start()
        time.sleep(1)
    finally:
        stopping.set()
        writer.join(90)
    assert not failed, failed
    assert not writer.is_alive()
    assert certain
    counted = Counter(
        int(value) for value in read(mortal.kafka, topic, partitions, partitions * len(certain))
    )
    assert set(counted.values()) == {partitions}, {n: c for n, c in counted.items() if c != partitions}
    assert set(counted) == set(certain)
    assert committed(mortal.kafka, "g", topic) == len(certain)
