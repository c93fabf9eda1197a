"""cursus's published Python client against this broker; what it wrote is what Kafka's clients see."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import confluent_kafka
import pytest

from tests.brokers import BrokerProcess
from tests.workers import WorkersProcess

PACKAGE = "cursus-client==0.1.1"
DRIVER = pathlib.Path(__file__).with_name("cursus_sdk_driver.py")
SECONDS = 120

Ask = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A Python that has the client; skips without a registry that has it."""
    place = tmp_path_factory.mktemp("cursus-client")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    made = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(made)]
    try:
        done = subprocess.run(
            [*pip, "install", "-q", PACKAGE], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"pip install {PACKAGE} took longer than {SECONDS} s")
    if done.returncode:
        pytest.skip(f"pip install {PACKAGE} failed: {done.stderr.strip()[-300:]}")
    return made


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"], scope="module")
def process(request: pytest.FixtureRequest) -> Any:
    with BrokerProcess() if request.param == 1 else WorkersProcess(request.param) as started:
        yield started


@pytest.fixture
def ask(python: pathlib.Path, process: BrokerProcess) -> Ask:
    def run(step: str) -> dict[str, Any]:
        command = [str(python), str(DRIVER), f"127.0.0.1:{process.ports['cursus']}", step]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def records(process: BrokerProcess, topic: str, wanted: int) -> list[confluent_kafka.Message]:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": process.kafka,
            "group.id": "looks",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([confluent_kafka.TopicPartition(topic, index, 0) for index in partitions])
        found: list[confluent_kafka.Message] = []
        while len(found) < wanted:
            got = consumer.consume(wanted - len(found), timeout=20)
            assert got, f"{len(found)} of {wanted}"
            found += got
        assert not consumer.consume(1, timeout=0.3)
        return found
    finally:
        consumer.close()


@pytest.mark.interop
def test_produce_and_consume(ask: Ask, process: BrokerProcess) -> None:
    assert ask("produce") == {"acked": [500, 500]}
    assert ask("produce_async") == {"acked": 100}
    for topic in ("sdk-plain", "sdk-idempotent"):
        found = records(process, topic, 500)
        assert {record.value().decode() for record in found} == {f"message {n} ü" for n in range(500)}
        assert sum(record.key() is None for record in found) == 250
    told = ask("consume")
    assert told == {"seen": {"polling": [500, 500, True], "streaming": [500, 500, True]}, "again": 0}
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": process.kafka})
    asked = confluent_kafka.ConsumerGroupTopicPartitions("sdk-streaming")
    (future,) = admin.list_consumer_group_offsets([asked]).values()
    assert sum(one.offset for one in future.result(20).topic_partitions) == 500


@pytest.mark.interop
def test_members_share_a_group(ask: Ask, process: BrokerProcess) -> None:
    taken = ask("share")["taken"]
    assert sorted(taken["one"] + taken["two"]) == [0, 1, 2, 3]
    assert len(taken["one"]) == 2


@pytest.mark.interop
def test_event_streams(ask: Ask, process: BrokerProcess) -> None:
    assert ask("events") == {
        "conflict": "broker: ERROR: version_conflict current=20 expected=5",
        "first": [1, "Added", 2, "amount 1", '{"by": "me"}'],
        "versions": list(range(1, 21)),
        "before": True,
        "snapshot": [15, '{"sum": 120}'],
        "rest": list(range(16, 21)),
        "version": [20, 0],
    }
    found = records(process, "sdk-events", 20)
    assert [record.value().decode() for record in found] == [f"amount {n}" for n in range(1, 21)]
    assert dict(found[4].headers()) == {
        "event_type": b"Added",
        "schema_version": b"2",
        "aggregate_version": b"5",
        "metadata": b'{"by": "me"}',
        "cursus.producer": b"0:0:sdk",
    }
    (snapshot,) = records(process, "sdk-events.snapshots", 1)
    assert (snapshot.key(), snapshot.value()) == (b"order-1", b'{"sum": 120}')
