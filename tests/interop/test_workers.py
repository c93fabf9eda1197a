"""Several worker processes as one broker, with real clients."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import kafka
import kafka.admin
import pytest
import trustme
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tests.interop.plain_client import PlainClient
from tests.interop.wires import until
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

KAFKA_ONLY = {"protocols": {"mega": {"enabled": False}, "cursus": {"enabled": False}}}
_SECONDS = 20


@pytest.fixture(scope="module")
def broker() -> Iterator[WorkersProcess]:
    with WorkersProcess(2, {**KAFKA_ONLY, "durability": "os"}) as started:
        assert isinstance(started, WorkersProcess)
        yield started


def admin(address: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": address, "socket.timeout.ms": 20_000})


def create(address: str, topic: str, partitions: int = 4) -> None:
    client = admin(address)
    client.create_topics([NewTopic(topic, partitions, 1)])[topic].result(_SECONDS)


def delete(address: str, topic: str) -> None:
    client = admin(address)
    client.delete_topics([topic])[topic].result(_SECONDS)


def described(address: str, kind: Any, name: str, entry: str) -> str:
    client = admin(address)
    [found] = client.describe_configs([ConfigResource(kind, name)]).values()
    value: str = found.result(_SECONDS)[entry].value
    return value


def set_config(address: str, kind: Any, name: str, entry: str, value: str) -> None:
    client = admin(address)
    change = ConfigEntry(entry, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(kind, name, incremental_configs=[change])
    [done] = client.incremental_alter_configs([resource]).values()
    done.result(_SECONDS)


def produce(address: str, topic: str, count: int, partitions: int = 4) -> None:
    producer = Producer({"bootstrap.servers": address, "acks": "all", "enable.idempotence": True})
    failed: list[Any] = []
    for number in range(count):
        producer.produce(
            topic,
            b"%d" % number,
            partition=number % partitions,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(_SECONDS) == 0
    assert not failed, failed[:3]


def consume(address: str, topic: str, count: int, group: str = "readers") -> Counter[bytes]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: Counter[bytes] = Counter()
    deadline = time.monotonic() + _SECONDS
    while sum(found.values()) < count and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None, message.error()
            found[message.value()] += 1
    consumer.commit(asynchronous=False)
    consumer.close()
    return found


def numbers(count: int) -> Counter[bytes]:
    return Counter(b"%d" % number for number in range(count))


# --- serving --------------------------------------------------------------------------------------


def test_each_worker_leads_its_share_and_a_group_reads_of_all(broker: WorkersProcess) -> None:
    create(broker.nodes[0], "shared")
    metadata = admin(broker.nodes[1]).list_topics("shared", 10)
    assert sorted(metadata.brokers) == [1, 2]
    assert [f"{one.host}:{one.port}" for _, one in sorted(metadata.brokers.items())] == broker.nodes
    leaders = {index: one.leader for index, one in metadata.topics["shared"].partitions.items()}
    assert sorted(leaders.values()) == [1, 1, 2, 2]
    produce(broker.kafka, "shared", 2000)
    assert consume(broker.nodes[1], "shared", 2000) == numbers(2000)
    assert not behind(broker.nodes[0], "shared", 4)


def test_kafka_python_finds_its_way(broker: WorkersProcess) -> None:
    made = kafka.KafkaAdminClient(bootstrap_servers=broker.nodes[1])
    made.create_topics([kafka.admin.NewTopic("python", 4, 1)])
    made.close()
    producer = kafka.KafkaProducer(bootstrap_servers=broker.nodes[1], acks="all")
    sent = [producer.send("python", b"%d" % number, partition=number % 4) for number in range(200)]
    for one in sent:
        one.get(_SECONDS)
    producer.close()
    consumer = kafka.KafkaConsumer(
        "python",
        bootstrap_servers=broker.nodes[1],
        group_id="python",
        auto_offset_reset="earliest",
        consumer_timeout_ms=_SECONDS * 1000,
    )
    found: Counter[bytes] = Counter()
    for message in consumer:
        found[message.value] += 1
        if sum(found.values()) == 200:
            break
    consumer.close()
    assert found == numbers(200)


def test_any_worker_takes_what_administrators_want(broker: WorkersProcess) -> None:
    second = admin(broker.nodes[1])
    create(broker.nodes[1], "managed", 2)
    for address in broker.nodes:
        assert len(admin(address).list_topics("managed", 10).topics["managed"].partitions) == 2
    produce(broker.kafka, "managed", 100, 2)
    second.create_partitions([NewPartitions("managed", 6)])["managed"].result(_SECONDS)
    produce(broker.kafka, "managed", 600, 6)
    set_config(broker.nodes[1], ConfigResource.Type.TOPIC, "managed", "retention.ms", "1234567")
    for address in broker.nodes:
        assert described(address, ConfigResource.Type.TOPIC, "managed", "retention.ms") == "1234567"
    delete(broker.nodes[1], "managed")
    left = list((broker.directory / "data").glob("managed-*"))
    assert not left
    for address in broker.nodes:
        assert "managed" not in admin(address).list_topics(timeout=10).topics


def test_a_topic_deleted_is_made_again_at_once_and_is_empty(broker: WorkersProcess) -> None:
    for round_ in range(3):
        address = broker.nodes[round_ % 2]
        create(address, "again", 4)
        produce(broker.kafka, "again", 40)
        assert sum(consume(broker.kafka, "again", 40, f"again-{round_}").values()) == 40
        delete(address, "again")


def test_a_topic_that_is_asked_for_is_made_by_whomever_is_asked(broker: WorkersProcess) -> None:
    for index, address in enumerate(broker.nodes):
        found = admin(address).list_topics(f"asked-{index}", 10).topics[f"asked-{index}"]
        assert found.error is None
        assert len(found.partitions) == 4
        produce(broker.kafka, f"asked-{index}", 40)


def test_what_is_set_on_a_broker_holds_for_it_or_for_all(broker: WorkersProcess) -> None:
    kind, name = ConfigResource.Type.BROKER, "log.retention.ms"

    def told() -> list[str]:
        return [described(broker.kafka, kind, str(node), name) for node in (1, 2)]

    with PlainClient(broker.nodes[1]) as second:
        entry = {"name": name, "config_operation": 0, "value": "7000000"}
        resource = {"resource_type": 4, "resource_name": "", "configs": [entry]}
        answer = second.ask("IncrementalAlterConfigs", 1, {"resources": [resource]})
        assert answer["responses"][0]["error_code"] == 0, answer
    assert told() == ["7000000", "7000000"]
    set_config(broker.kafka, kind, "2", name, "8000000")
    assert told() == ["7000000", "8000000"]


def test_the_controller_counts_what_is_changed_through_others(broker: WorkersProcess) -> None:
    def limit(rate: float | None) -> None:
        op = {"key": "controller_mutation_rate", "value": rate or 0.0, "remove": rate is None}
        entity = [{"entity_type": "client-id", "entity_name": "plain"}]
        answer = second.ask("AlterClientQuotas", 1, {"entries": [{"entity": entity, "ops": [op]}]})
        assert answer["entries"][0]["error_code"] == 0, answer

    with PlainClient(broker.nodes[1]) as second:
        limit(1.0)
        outcomes = []
        for number in range(30):
            topic = {"name": f"counted-{number}", "num_partitions": 10, "replication_factor": 1}
            answer = second.ask("CreateTopics", 7, {"topics": [topic]})
            outcomes.append(answer["topics"][0]["error_code"])
            if outcomes[-1]:
                break
        assert outcomes[0] == 0
        assert outcomes[-1] == 89, outcomes  # THROTTLING_QUOTA_EXCEEDED
        assert answer["throttle_time_ms"] > 0
    with PlainClient(broker.nodes[1]) as second:  # the other connection is muted
        limit(None)


def test_every_line_of_the_log_says_which_node(broker: WorkersProcess) -> None:
    before = len(broker.log)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    until(lambda: broker.log[before:].count("configuration reloaded") == 3, 10, "all have reloaded")
    lines = [line for line in broker.log[before:].splitlines() if "configuration reloaded" in line]
    assert sorted(line.rpartition("node=")[2] for line in lines)[:2] == ["1", "2"]


def test_each_worker_has_its_own_port_with_tls_and_of_ipv6(tmp_path: pathlib.Path) -> None:
    authority, keys = trustme.CA(), tmp_path / "keys.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(keys)
    endpoint = f"ssl:0:privateKey={keys}:certKey={keys}:interface=127.0.0.1"
    secret = {"name": "secret", "endpoint": endpoint, "advertised_host": "localhost"}
    listeners = [secret, {"name": "six", "endpoint": "tcp:0:interface=\\:\\:1"}]
    config = {"protocols": {**KAFKA_ONLY["protocols"], "kafka": {"listeners": listeners}}, "durability": "os"}
    with WorkersProcess(2, config, tmp_path) as broker:
        assert isinstance(broker, WorkersProcess)
        tls = {
            "bootstrap.servers": broker.nodes[2],
            "broker.address.family": "v4",
            "security.protocol": "ssl",
            "ssl.ca.pem": authority.cert_pem.bytes().decode(),
        }
        for topic, client in (
            ("tls", tls),
            ("six", {"bootstrap.servers": broker.nodes[1].replace("::1", "[::1]")}),
        ):
            producer = Producer({**client, "log_level": 0})
            producer.list_topics(topic, _SECONDS)
            for index in range(4):
                producer.produce(topic, b"over it", partition=index)
            assert producer.flush(_SECONDS) == 0


# --- ends -----------------------------------------------------------------------------------------


class Load:
    """Producers that go on whatever happens; ``acknowledged`` counts."""

    def __init__(self, address: str, topic: str, partitions: int = 4) -> None:
        self.acknowledged: list[bytes] = []
        self.failed: list[str] = []
        self._running = True
        self._thread = threading.Thread(target=self._run, args=(address, topic, partitions))
        self._thread.start()

    def _run(self, address: str, topic: str, partitions: int) -> None:
        producer = Producer(
            {
                "bootstrap.servers": address,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": 30_000,
                "log_level": 0,
            }
        )

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                self.acknowledged.append(message.value())
            else:
                self.failed.append(str(error))

        number = 0
        while self._running:
            producer.produce(topic, b"%d" % number, partition=number % partitions, on_delivery=delivered)
            number += 1
            producer.poll(0)
            if number % 200 == 0:
                time.sleep(0.01)
        self.left = producer.flush(30)

    def stop(self) -> None:
        self._running = False
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.left == 0
        assert not self.failed, self.failed[:3]


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_no_acknowledged_record_is_lost_when_workers_are_killed(
    durability: str, tmp_path: pathlib.Path
) -> None:
    with WorkersProcess(2, {**KAFKA_ONLY, "durability": durability}, tmp_path) as broker:
        assert isinstance(broker, WorkersProcess)
        create(broker.kafka, "kept")
        load = Load(broker.kafka, "kept")
        for node_id in (2, 1):
            until(lambda: len(load.acknowledged) > 500, 20, "records are acknowledged")
            pid = broker.pids()[node_id]
            os.kill(pid, signal.SIGKILL)
            broker.until_serving(node_id, pid)
            load.acknowledged, seen = [], load.acknowledged
            until(lambda: len(load.acknowledged) > 500, 20, "records are acknowledged again")
            load.acknowledged += seen
        load.stop()
        assert "by SIGKILL" in broker.log
        found = consume(broker.kafka, "kept", len(load.acknowledged))
        assert Counter(load.acknowledged) == found  # neither lost nor twice
        assert broker.process is not None
        for pid in [broker.process.pid, *broker.pids().values()]:
            os.kill(pid, signal.SIGKILL)
        broker.process.wait()
        broker.config["workers"] = 1
        broker.start()
        assert Counter(load.acknowledged) == consume(broker.kafka, "kept", len(load.acknowledged), "alone")


def test_a_topic_is_made_and_one_deleted_while_a_worker_is_away(tmp_path: pathlib.Path) -> None:
    with WorkersProcess(2, {**KAFKA_ONLY, "durability": "os"}, tmp_path) as broker:
        assert isinstance(broker, WorkersProcess)
        create(broker.kafka, "old")
        produce(broker.kafka, "old", 100)
        pid = broker.pids()[2]
        os.kill(pid, signal.SIGSTOP)  # away, and has not ended yet
        controller = admin(broker.nodes[0])
        deleted = controller.delete_topics(["old"])["old"]
        created = controller.create_topics([NewTopic("new", 4, 1)])["new"]
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        broker.until_serving(2, pid)
        deleted.result(_SECONDS)
        created.result(_SECONDS)
        produce(broker.kafka, "new", 100)
        assert consume(broker.kafka, "new", 100) == numbers(100)
        until(
            lambda: not list((tmp_path / "data").glob("old-*")), 10, "the logs of the deleted topic are gone"
        )
        create(broker.kafka, "old")
        produce(broker.kafka, "old", 10)
        assert consume(broker.kafka, "old", 10, "others") == numbers(10)


def test_workers_end_with_their_supervisor_and_their_number_may_change(tmp_path: pathlib.Path) -> None:
    config = {**KAFKA_ONLY, "durability": "os"}
    with WorkersProcess(2, config, tmp_path) as broker:
        assert isinstance(broker, WorkersProcess)
        create(broker.kafka, "moved", 6)
        produce(broker.kafka, "moved", 600, 6)
        assert consume(broker.kafka, "moved", 600) == numbers(600)
        workers = broker.pids()
        broker.kill()
        for count in (3, 1):
            broker.config["workers"] = count
            broker.start()  # waits for workers of before
            assert not any(_runs(pid) for pid in workers.values())
            leaders = {
                one.leader
                for one in admin(broker.kafka).list_topics("moved", 10).topics["moved"].partitions.values()
            }
            assert leaders == set(range(1, count + 1))
            assert sum(consume(broker.kafka, "moved", 600, f"of-{count}").values()) == 600
            assert not behind(broker.kafka, "moved", 6)
            assert broker.stop() == 0
            assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()
            assert not (tmp_path / "data" / "workers").exists()


def behind(address: str, topic: str, partitions: int) -> list[int]:
    """Return the partitions of which the usual group has something to read."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "readers"})
    asked = [TopicPartition(topic, index) for index in range(partitions)]
    committed = consumer.committed(asked, 10)
    found = [one.partition for one in committed if one.offset < consumer.get_watermark_offsets(one, 10)[1]]
    consumer.close()
    return found


def _runs(pid: int) -> bool:
    """Tell whether a process has not ended; one that nobody has asked how it ended has, too."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"


def taken_after_a_free_one() -> socket.socket:
    """Return a socket on a port whose neighbour below nobody has."""
    while True:
        taken = socket.create_server(("127.0.0.1", 0))
        try:
            socket.create_server(("127.0.0.1", taken.getsockname()[1] - 1)).close()
        except OSError:
            taken.close()
        else:
            return taken


def test_a_worker_that_cannot_start_is_told_of(tmp_path: pathlib.Path) -> None:
    with taken_after_a_free_one() as taken:
        port = taken.getsockname()[1]
        listener = {"endpoint": f"tcp:{port - 1}:interface=127.0.0.1"}
        config = {"protocols": {**KAFKA_ONLY["protocols"], "kafka": {"listeners": [listener]}}}
        broker = WorkersProcess(2, config, tmp_path)
        with pytest.raises(AssertionError, match=rf"protocols.kafka: endpoint tcp:port={port}:.*in use"):
            broker.start()
    assert broker.process is not None
    assert broker.process.returncode == 1


def test_two_brokers_do_not_share_a_data_directory(broker: WorkersProcess) -> None:
    other = WorkersProcess(2, {**KAFKA_ONLY, "data_dir": str(broker.directory / "data")})
    with pytest.raises(AssertionError, match="in use by another broker"):
        other.start()
