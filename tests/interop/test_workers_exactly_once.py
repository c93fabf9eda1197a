"""Transactions and share groups over the partitions of two workers, either of which is killed by kill -9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, ShareConsumer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tests.interop.conftest import java_or_skip
from tests.interop.java import CLIENTS
from tests.interop.plain_client import PlainClient
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_KAFKA_ONLY = {"protocols": {"mega": {"enabled": False}, "cursus": {"enabled": False}}}
_SECONDS = 20
_PARTITIONS = 4


@pytest.fixture(scope="module")
def broker() -> Iterator[WorkersProcess]:
    config = {**_KAFKA_ONLY, "shares": {"record_lock_duration_ms": "2s"}}
    with WorkersProcess(2, config) as started:
        assert isinstance(started, WorkersProcess)
        yield started


def make(broker: WorkersProcess, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": broker.kafka})
    client.create_topics([NewTopic(topic, _PARTITIONS, 1)])[topic].result(_SECONDS)


class Killer(threading.Thread):
    """Kills workers in turn and waits until they are back."""

    def __init__(self, broker: WorkersProcess, nodes: list[int]) -> None:
        super().__init__(daemon=True)
        self.broker = broker
        self.nodes = nodes
        self.fault: BaseException | None = None

    def run(self) -> None:
        chance = random.Random(3)
        try:
            for node_id in self.nodes:
                time.sleep(chance.uniform(0.2, 0.5))
                pid = self.broker.pids()[node_id]
                times = self.broker.served_again(node_id) + 1
                os.kill(pid, signal.SIGKILL)
                self.broker.until_serving(node_id, but=pid, times=times)
        except BaseException as fault:
            self.fault = fault


def committed(broker: WorkersProcess, topic: str) -> list[list[str]]:
    """Return what a read_committed consumer gets of each partition, up to the end of it all."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.kafka,
            "group.id": "nobody",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, index, 0) for index in range(_PARTITIONS)])
    found: list[list[str]] = [[] for _ in range(_PARTITIONS)]
    ended = set()
    deadline = time.monotonic() + _SECONDS
    while len(ended) < _PARTITIONS:
        assert time.monotonic() < deadline, f"only {sorted(ended)} have ended"
        message = consumer.poll(0.2)
        if message is not None and message.error() is not None:
            ended.add(message.partition())
        elif message is not None:
            value = message.value()
            assert value is not None
            found[message.partition()].append(value.decode())
    consumer.close()
    return found


def transactional(broker: WorkersProcess, name: str) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": broker.kafka,
            "transactional.id": name,
            "transaction.timeout.ms": 20_000,
            "reconnect.backoff.max.ms": 200,
            "linger.ms": 0,
        }
    )
    producer.init_transactions(_SECONDS)
    return producer


def insist(step: Callable[..., Any], *args: Any) -> None:
    """Do a step of a transaction again for as long as that may help."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            step(*args)
            return
        except KafkaException as failure:
            if not failure.args[0].retriable() or time.monotonic() > deadline:
                raise


def transact(producer: Producer, topic: str, number: int) -> bool:
    """Write to all partitions in one transaction; return whether it is committed, or else aborted."""
    producer.begin_transaction()
    try:
        for index in range(_PARTITIONS):
            producer.produce(topic, f"{number}", partition=index)
        producer.flush(_SECONDS)
        if number % 5 == 4:
            insist(producer.abort_transaction, _SECONDS)
            return False
        insist(producer.commit_transaction, _SECONDS)
    except KafkaException as failure:
        if not failure.args[0].txn_requires_abort():
            raise
        insist(producer.abort_transaction, _SECONDS)
        return False
    return True


def exactly_once(broker: WorkersProcess, topic: str, stop: Callable[[], bool]) -> int:
    producer = transactional(broker, f"{topic}-writer")
    expected = []
    number = 0
    while not stop():
        if transact(producer, topic, number):
            expected.append(f"{number}")
        number += 1
    # The markers of the last one may still be on their way.
    deadline = time.monotonic() + _SECONDS
    while (found := committed(broker, topic)) != [expected] * _PARTITIONS and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found == [expected] * _PARTITIONS
    return len(expected)


def test_transactions_span_workers(broker: WorkersProcess) -> None:
    make(broker, "plain")
    end = iter(range(40))
    assert exactly_once(broker, "plain", lambda: next(end, None) is None) == 32


def test_transactions_are_whole_whichever_worker_is_killed(broker: WorkersProcess) -> None:
    make(broker, "killed")
    killer = Killer(broker, [2, 1, 2])
    killer.start()
    count = exactly_once(broker, "killed", lambda: not killer.is_alive())
    killer.join(60)
    assert killer.fault is None, killer.fault
    assert count > 3


def test_transactions_of_the_java_producer_are_whole_too(broker: WorkersProcess) -> None:
    """It adds partitions by writing to them and has an epoch of its own for each transaction (KIP-890)."""
    java = java_or_skip(CLIENTS, "Transactor")
    make(broker, "java")
    command = java.command("Transactor", broker.kafka, "java", str(_PARTITIONS), heap_mib=128)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "committed 0\n"
            killer = Killer(broker, [2, 1])
            killer.start()
            killer.join(60)
            assert killer.fault is None, killer.fault
            time.sleep(0.3)
            told, faults = process.communicate("\n", 40)
        finally:
            process.kill()
    outcomes = [line.split() for line in ("committed 0\n" + told).splitlines()]
    expected = [number for what, number in outcomes if what == "committed"]
    unknown = {number for what, number in outcomes if what == "unknown"}
    assert len(expected) > 3, faults
    assert len(unknown) <= 2, faults
    found = committed(broker, "java")
    assert found == [found[0]] * _PARTITIONS, faults
    assert [number for number in found[0] if number not in unknown] == expected, faults


def test_consume_transform_produce_over_workers(broker: WorkersProcess) -> None:
    make(broker, "source")
    make(broker, "target")
    feeder = Producer({"bootstrap.servers": broker.kafka, "enable.idempotence": True})
    for number in range(400):
        feeder.produce("source", f"{number}", partition=number % _PARTITIONS)
    assert feeder.flush(_SECONDS) == 0
    killer = Killer(broker, [2])
    killer.start()
    settings = {
        "bootstrap.servers": broker.kafka,
        "group.id": "pipeline",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "reconnect.backoff.max.ms": 200,
    }
    consumer = Consumer(settings)
    consumer.subscribe(["source"])
    producer = transactional(broker, "pipeline")
    done = 0
    deadline = time.monotonic() + 40
    while done < 400 and time.monotonic() < deadline:
        messages = [one for one in consumer.consume(20, 0.3) if one.error() is None]
        if not messages:
            continue
        producer.begin_transaction()
        try:
            for message in messages:
                producer.produce("target", message.value(), partition=message.partition())
            producer.send_offsets_to_transaction(
                consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), _SECONDS
            )
            insist(producer.commit_transaction, _SECONDS)
            done += len(messages)
        except KafkaException as failure:
            if not (failure.args[0].txn_requires_abort() or failure.args[0].retriable()):
                raise
            insist(producer.abort_transaction, _SECONDS)
            for where in consumer.committed(consumer.assignment(), _SECONDS):
                consumer.seek(TopicPartition(where.topic, where.partition, max(where.offset, 0)))
    consumer.close()
    killer.join(60)
    assert killer.fault is None, killer.fault
    found = committed(broker, "target")
    assert [sorted(map(int, values)) for values in found] == [
        list(range(index, 400, _PARTITIONS)) for index in range(_PARTITIONS)
    ]


# --- share groups ---------------------------------------------------------------------------------


def begin_with_the_first(broker: WorkersProcess, group: str) -> None:
    reset = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=[reset])
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.incremental_alter_configs([resource])[resource].result(10)


def shared(broker: WorkersProcess, topic: str, group: str, count: int) -> None:
    begin_with_the_first(broker, group)
    producer = Producer({"bootstrap.servers": broker.kafka, "batch.size": 500})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=number % _PARTITIONS)
    assert producer.flush(_SECONDS) == 0


def share_consumer(broker: WorkersProcess, group: str, topic: str) -> ShareConsumer:
    consumer = ShareConsumer(
        {
            "bootstrap.servers": broker.kafka,
            "group.id": group,
            "share.acknowledgement.mode": "explicit",
            "reconnect.backoff.max.ms": 200,
        }
    )
    consumer.subscribe([topic])
    return consumer


def offsets_of(broker: WorkersProcess, group: str) -> dict[int, tuple[int, int]]:
    """Return start offset and lag of a share group by partition, of all its topics together."""
    with PlainClient(broker.nodes[0]) as client:
        answer = client.ask("DescribeShareGroupOffsets", 1, {"groups": [{"group_id": group, "topics": None}]})
    [found] = answer["groups"]
    assert found["error_code"] == 0, found
    return {
        row["partition_index"]: (row["start_offset"], row["lag"])
        for topic in found["topics"]
        for row in topic["partitions"]
    }


def begin_elsewhere(client: PlainClient, group: str, topic: str, offsets: dict[int, int]) -> None:
    partitions = [{"partition_index": index, "start_offset": at} for index, at in offsets.items()]
    topics = [{"topic_name": topic, "partitions": partitions}]
    altered = client.ask("AlterShareGroupOffsets", 0, {"group_id": group, "topics": topics})
    assert altered["error_code"] == 0, altered


def groups(broker: WorkersProcess) -> set[str]:
    with PlainClient(broker.nodes[0]) as client:
        answer = client.ask("ListGroups", 5, {})
    return {group["group_id"] for group in answer["groups"]}


def test_a_share_group_consumes_from_all_workers(broker: WorkersProcess) -> None:
    make(broker, "shared")
    shared(broker, "shared", "sharers", 200)
    consumer = share_consumer(broker, "sharers", "shared")
    values: Counter[bytes | None] = Counter()
    deadline = time.monotonic() + _SECONDS
    while sum(values.values()) < 200 and time.monotonic() < deadline:
        for message in consumer.poll(0.3):
            assert message.error() is None
            values[message.value()] += 1
            consumer.acknowledge(message)
        consumer.commit_sync()
    consumer.close()
    assert values == Counter(b"%d" % number for number in range(200))
    assert offsets_of(broker, "sharers") == dict.fromkeys(range(_PARTITIONS), (50, 0))


def test_a_share_group_is_administered_as_one(broker: WorkersProcess) -> None:
    make(broker, "kept")
    shared(broker, "kept", "keepers", 200)
    with PlainClient(broker.nodes[0]) as client:
        begin_elsewhere(client, "keepers", "kept", {index: 10 + index for index in range(_PARTITIONS)})
        assert offsets_of(broker, "keepers") == {i: (10 + i, 40 - i) for i in range(_PARTITIONS)}
        assert "keepers" in groups(broker)
        values = {"group_id": "keepers", "topics": [{"topic_name": "kept"}]}
        deleted = client.ask("DeleteShareGroupOffsets", 0, values)
        assert [one["error_code"] for one in deleted["responses"]] == [0]
        assert offsets_of(broker, "keepers") == {}
        begin_elsewhere(client, "keepers", "kept", {0: 1, 1: 2})
        gone = client.ask("DeleteGroups", 2, {"groups_names": ["keepers"]})
        assert [one["error_code"] for one in gone["results"]] == [0]
    assert "keepers" not in groups(broker)
    assert offsets_of(broker, "keepers") == {}


def test_accepted_once_whichever_worker_is_killed(broker: WorkersProcess) -> None:
    make(broker, "accepted")
    shared(broker, "accepted", "accepters", 1200)
    killer = Killer(broker, [2, 1])
    killer.start()
    consumer = share_consumer(broker, "accepters", "accepted")
    accepted: set[tuple[int, int]] = set()
    uncertain: set[tuple[int, int]] = set()
    deadline = time.monotonic() + 45
    while len(accepted | uncertain) < 1200 and time.monotonic() < deadline:
        given: set[tuple[int, int]] = set()
        for message in consumer.poll(0.5):
            if message.error() is None:
                where = (message.partition(), message.offset())
                assert where not in accepted, f"{where} delivered again although accepted"
                consumer.acknowledge(message)
                given.add(where)
        if given:
            try:
                outcomes = consumer.commit_sync()
            except KafkaException:
                uncertain |= given
                continue
            failed = {one.partition for one in outcomes if one.error is not None}
            accepted |= {where for where in given if where[0] not in failed}
            uncertain |= {where for where in given if where[0] in failed}
    consumer.close()
    killer.join(60)
    assert killer.fault is None, killer.fault
    assert len(accepted | uncertain) == 1200
    assert len(accepted) > 300
