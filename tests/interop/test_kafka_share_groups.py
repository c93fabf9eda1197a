"""Share groups with Apache Kafka's own consumer and tools: nothing is lost, nothing accepted comes again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from kafka import KafkaProducer

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log
from tests.interop.java import CLIENTS, Java, Unavailable
from tests.interop.share_client import ShareClient, ShareRecord

pytestmark = pytest.mark.interop

GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"
CONFIG_TOOL = "kafka.admin.ConfigCommand"


@pytest.fixture(scope="module")
def java() -> Java:
    try:
        return Java.of(CLIENTS).compiled("ShareClient")
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def share_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    config = {"topics": {"default_partitions": 1}, "shares": {"record_lock_duration_ms": "2s"}}
    with BrokerProcess(config, tmp_path_factory.mktemp("shares")) as running:
        yield running
        assert running.stop() == 0
        check_log(running.log)


class Setting:
    """A topic with one partition, and a group that begins with its first record."""

    def __init__(self, java: Java, broker: BrokerProcess, name: str) -> None:
        self.java = java
        self.broker = broker
        self.topic = f"topic-{name}"
        self.group = f"group-{name}"
        self.configure(self.group)

    def produce(self, *values: str) -> None:
        """Send records, each in a batch of its own."""
        producer = KafkaProducer(bootstrap_servers=self.broker.kafka)
        for value in values:
            producer.send(self.topic, value.encode(), partition=0).get(10)
        producer.close()

    def consumer(self, mode: str = "explicit", group: str = "", **configs: str) -> ShareClient:
        return ShareClient(
            self.java,
            self.broker.kafka,
            self.topic,
            group or self.group,
            share_acknowledgement_mode=mode,
            **configs,
        )

    def configure(self, group: str, **configs: str) -> None:
        """Have a group begin with the first record and set more configurations, underscores for dots."""
        configs["share_auto_offset_reset"] = "earliest"
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in configs.items()
        ]
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
        admin = AdminClient({"bootstrap.servers": self.broker.kafka})
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(10)


@pytest.fixture
def setting(java: Java, share_broker: BrokerProcess, unique: Callable[[str], str]) -> Iterator[Setting]:
    before = len(share_broker.log)
    yield Setting(java, share_broker, unique("share"))
    check_log(share_broker.log[before:])


def values(records: list[ShareRecord]) -> list[tuple[str, int]]:
    return [(one.value, one.deliveries) for one in records]


def test_every_kind_of_acknowledgement_through_kill_9(setting: Setting) -> None:
    """Accepted and rejected records never come again, released and forgotten ones do, whatever happens."""
    setting.produce(*"abcde")
    with setting.consumer() as consumer:
        found = consumer.poll_for(1)
        while len(found) < 5:
            consumer.acknowledge("RELEASE", *found)
            consumer.commit()
            found = consumer.poll()
        deliveries = [one.deliveries for one in found]
        assert [one.value for one in found] == list("abcde")
        assert consumer.acknowledge("ACCEPT", found[0], found[3]) == []
        assert consumer.acknowledge("RELEASE", found[1]) == []
        assert consumer.acknowledge("REJECT", found[2]) == []
        assert consumer.acknowledge("RENEW", found[4]) == []
        assert consumer.commit() == {0: "-"}
        setting.broker.kill()
        consumer.kill()
    setting.broker.start()
    with setting.consumer("implicit") as consumer:
        assert values(consumer.poll_for(2)) == [("b", deliveries[1] + 1), ("e", deliveries[4])]
        assert consumer.commit() == {0: "-"}
        consumer.close()
    setting.broker.kill()
    setting.broker.start()
    setting.produce("f")
    with setting.consumer() as consumer:
        assert values(consumer.poll_for(1)) == [("f", 1)]


def test_two_consumers_share_a_partition(setting: Setting) -> None:
    expected = {f"v{number}" for number in range(600)}
    with (
        setting.consumer("implicit", max_poll_records="20") as one,
        setting.consumer("implicit", max_poll_records="20") as two,
    ):
        found: dict[str, list[ShareRecord]] = {"one": one.poll(1), "two": two.poll(1)}
        producer = KafkaProducer(bootstrap_servers=setting.broker.kafka, batch_size=1000)
        for value in sorted(expected):
            producer.send(setting.topic, value.encode(), partition=0)
        producer.close()
        deadline = time.monotonic() + 40
        while sum(map(len, found.values())) < 600 and time.monotonic() < deadline:
            found["one"] += one.poll(0.5)
            found["two"] += two.poll(0.5)
        everything = found["one"] + found["two"]
        assert sorted(one.value for one in everything) == sorted(expected)
        assert {one.deliveries for one in everything} == {1}
        assert min(map(len, found.values())) > 0
        one.close()
        two.close()


def test_locks_time_out_and_a_record_comes_no_more_often_than_allowed(setting: Setting) -> None:
    setting.produce("a")
    with setting.consumer() as slow, setting.consumer("implicit") as quick:
        [record] = slow.poll_for(1)
        assert quick.poll(1) == []
        assert values(quick.poll_for(1)) == [("a", 2)]
        slow.acknowledge("ACCEPT", record)
        assert slow.commit() == {0: "InvalidRecordStateException"}
        assert quick.commit() == {0: "-"}
    setting.produce("poison")
    with setting.consumer() as consumer:
        counts = []
        for _ in range(8):
            for record in consumer.poll(1):
                counts.append(record.deliveries)
                consumer.acknowledge("RELEASE", record)
            consumer.commit()
        assert counts == [1, 2, 3, 4, 5]


def test_a_member_that_vanishes_leaves_its_records(setting: Setting) -> None:
    setting.produce("a")
    with setting.consumer() as gone, setting.consumer("implicit") as other:
        assert values(gone.poll_for(1)) == [("a", 1)]
        gone.kill()
        began = time.monotonic()
        assert values(other.poll_for(1)) == [("a", 2)]
        assert time.monotonic() - began < 5
        other.close()


def test_no_more_than_asked_for_though_it_is_one_compressed_batch(setting: Setting) -> None:
    """KIP-1206: with strict limits two consumers divide a single batch."""
    producer = Producer(
        {"bootstrap.servers": setting.broker.kafka, "linger.ms": 500, "compression.type": "lz4"}
    )
    for number in range(40):
        producer.produce(setting.topic, b"%d" % number, partition=0)
    assert producer.flush(20) == 0
    limits = {"max_poll_records": "10", "share_acquire_mode": "record_limit"}
    with setting.consumer(**limits) as one, setting.consumer(**limits) as two:
        found = [one.poll_for(10), two.poll_for(10)]
        for consumer, records in ((one, found[0]), (two, found[1])):
            assert consumer.acknowledge("ACCEPT", *records) == []
            assert consumer.commit() == {0: "-"}
        found += [one.poll_for(10), two.poll_for(10)]
    assert [len(records) for records in found] == [10] * 4
    assert sorted(record.offset for records in found for record in records) == list(range(40))


def test_transactions(setting: Setting) -> None:
    """What is aborted is not delivered to a group that reads what is committed."""
    setting.produce("plain")
    producer = Producer({"bootstrap.servers": setting.broker.kafka, "transactional.id": setting.topic})
    producer.init_transactions(20)
    for value, commit in (("aborted", False), ("committed", True)):
        producer.begin_transaction()
        producer.produce(setting.topic, value.encode(), partition=0)
        producer.flush(20)
        if commit:
            producer.commit_transaction(20)
        else:
            producer.abort_transaction(20)
    other = f"{setting.group}-committed"
    setting.configure(other, share_isolation_level="read_committed")
    with setting.consumer("implicit", other) as committed, setting.consumer("implicit") as everything:
        assert [one.value for one in committed.poll_for(2)] == ["plain", "committed"]
        assert [one.value for one in everything.poll_for(3)] == ["plain", "aborted", "committed"]
        committed.close()
        everything.close()


def test_the_tools(setting: Setting, java_tools: Java) -> None:
    setting.produce(*[f"v{number}" for number in range(10)])
    server = ("--bootstrap-server", setting.broker.kafka)
    topic, group = setting.topic, setting.group

    def run(tool: str, *arguments: str) -> str:
        done = java_tools.run(tool, *server, *arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def offset() -> list[str]:
        [row] = rows(run(GROUP_TOOL, "--describe", "--group", group))
        return row

    entity = ("--entity-type", "groups", "--entity-name", group)
    run(CONFIG_TOOL, "--alter", *entity, "--add-config", "share.delivery.count.limit=4")
    assert "share.delivery.count.limit=4" in run(CONFIG_TOOL, "--describe", *entity)
    shown = run(
        "org.apache.kafka.tools.consumer.ConsoleShareConsumer",
        *("--topic", topic, "--group", group, "--max-messages", "4", "--timeout-ms", "15000"),
    )
    assert shown.startswith("v0\nv1\nv2\nv3\n")
    assert offset() == [group, topic, "0", "4", "6"]
    run(GROUP_TOOL, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
    told = run(
        "org.apache.kafka.tools.VerifiableShareConsumer",
        *("--topic", topic, "--group-id", group, "--max-messages", "10", "--acknowledgement-mode", "sync"),
    )
    events = [json.loads(line) for line in told.splitlines()]
    assert sum(one["count"] for one in events if one["name"] == "records_consumed") == 10
    assert sum(one["count"] for one in events if one["name"] == "offsets_acknowledged") == 10
    assert offset() == [group, topic, "0", "10", "0"]
    assert [group, "Empty"] in rows(run(GROUP_TOOL, "--list", "--state"))
    run(GROUP_TOOL, "--delete", "--group", group)


def rows(shown: str) -> list[list[str]]:
    return [line.split() for line in shown.splitlines() if line.strip() and not line.startswith("GROUP")]
