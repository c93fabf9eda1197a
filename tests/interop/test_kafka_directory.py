"""What a real Apache Kafka wrote is served by us: records, offsets, topic ids, configurations, groups."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import attrs
import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from megabroker.errors import StorageError
from megabroker.inspection.directories import check
from megabroker.inspection.repair import repair
from megabroker.protocols.kafka.schema import produce
from tests.brokers import BrokerProcess
from tests.interop.apache_kafka import ApacheKafka
from tests.interop.conftest import check_log
from tests.interop.java import Unavailable
from tests.interop.kafka_contents import Contents, contents_of, fill, leave_open
from tests.interop.secured import addresses, listener, set_password
from tests.interop.test_kafka_quotas import alter, describe
from tests.interop.wires import kafka_request, receive

pytestmark = pytest.mark.interop

_SECONDS = 30


QUOTA_OF = (("user", None), ("client-id", "app"))
QUOTA_TOLD = [("client-id", "app"), ("user", "")]


@attrs.frozen
class Killed:
    """A Kafka that was killed, what it held, and a producer that was connected to it."""

    kafka: ApacheKafka
    contents: Contents
    idempotent: Producer

    def copy(self, target: pathlib.Path) -> pathlib.Path:
        """Copy everything; return the server.properties of the copy."""
        shutil.copytree(self.kafka.directory, target)
        properties = target / "server.properties"
        properties.write_text(properties.read_text().replace(str(self.kafka.directory), str(target)))
        return properties


class InPlace(BrokerProcess):
    """A broker of ours on the directories of Kafka, started with its server.properties."""

    def __init__(self, properties: pathlib.Path) -> None:
        super().__init__(directory=properties.parent)
        self.properties = properties

    def command(self, config_file: pathlib.Path) -> list[str]:  # type: ignore[override]
        """Return the command line that runs it."""
        *start, _, _ = BrokerProcess.command(config_file)
        return [*start, "--kafka-properties", str(self.properties)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """Kafka with two log directories, killed while a transaction was open."""
    directory = tmp_path_factory.mktemp("kafka")
    properties = {
        "log.dirs": f"{directory / 'data'},{directory / 'more'}",
        "log.cleaner.backoff.ms": "200",
        "log.index.size.max.bytes": "65536",
        "log.flush.start.offset.checkpoint.interval.ms": "100",
        "log.initial.task.delay.ms": "100",
    }
    try:
        kafka = ApacheKafka(properties, directory)
    except Unavailable as missing:
        pytest.skip(str(missing))
    with kafka:
        fill(kafka.kafka)
        open_one, idempotent = leave_open(kafka.kafka)
        assert alter(kafka.kafka, QUOTA_OF, ("producer_byte_rate", 1e6)) == 0
        set_password(AdminClient({"bootstrap.servers": kafka.kafka}), "alice", "kept by Kafka")
        contents = contents_of(kafka.kafka)
        refused = run_import(kafka, directory / "refused")
        assert refused.returncode == 1
        assert "is in use by a running broker: stop it first" in refused.stderr
        assert not (directory / "refused").exists()
        kafka.kill()
        del open_one
        yield Killed(kafka, contents, idempotent)


def test_fsck_finds_nothing_wrong_with_it(killed: Killed) -> None:
    before = digests(killed.kafka)
    report = check(killed.kafka.log_dirs, deep=True)
    assert report.faults == []
    assert sum(one.batches for one in report.logs.values()) > 50
    with pytest.raises(StorageError, match="not a directory of megabroker"):
        repair(report, print)
    assert digests(killed.kafka) == before


def run_import(kafka: ApacheKafka, target: pathlib.Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = pathlib.Path(sys.executable).with_name("megabroker")
    return subprocess.run(
        [str(command), "import-kafka", *map(str, kafka.log_dirs), "--data-dir", str(target), *more],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def digests(kafka: ApacheKafka) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for directory in kafka.log_dirs
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def check_same(found: Contents, wanted: Contents) -> None:
    """Everything is as Kafka told it; only the open transaction has been aborted."""
    assert found.ids == wanted.ids
    assert found.configs == wanted.configs
    assert found.broker == wanted.broker == {"log.retention.ms": "987654321"}
    assert found.groups == wanted.groups
    assert found.rows == wanted.rows
    assert found.committed == wanted.committed
    marker = {("transactional", 0): 1}
    assert found.ends == {where: end + marker.get(where, 0) for where, end in wanted.ends.items()}


def test_import(killed: Killed, tmp_path: pathlib.Path) -> None:
    before = digests(killed.kafka)
    done = run_import(killed.kafka, tmp_path / "data", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["imported"], told["partitions"], told["aborted_transactions"]) == (True, 10, ["open"])
    listeners = [listener("passwords", sasl=["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), listener("open")]
    config = {"data_dir": str(tmp_path / "data"), "protocols": {"kafka": {"listeners": listeners}}}
    with BrokerProcess(config) as broker:
        check_passwords(addresses(broker)[0])
        check_same(contents_of(broker.kafka), killed.contents)
        assert describe(broker.kafka) == (0, [(QUOTA_TOLD, [("producer_byte_rate", 1e6)])])
        check_fencing(broker.kafka)
        check_group_goes_on(broker.kafka)
        ids = new_producer_ids(broker, 2)
        assert min(ids) >= told["next_producer_id"] > 0
        broker.restart()
        assert contents_of(broker.kafka).ids == killed.contents.ids
        assert broker.stop() == 0
        check_log(broker.log)
    assert digests(killed.kafka) == before


def check_passwords(bootstrap: str) -> None:
    """Who had a password has it still, and no other."""
    settings = {"security.protocol": "sasl_plaintext", "sasl.username": "alice", "log_level": 0}
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        own = {**settings, "bootstrap.servers": bootstrap, "sasl.mechanism": mechanism}
        admin = AdminClient({**own, "sasl.password": "kept by Kafka"})
        assert "plain" in admin.list_topics(timeout=10).topics
        with pytest.raises(KafkaException):
            AdminClient({**own, "sasl.password": "another"}).list_topics(timeout=0.5)


def check_fencing(bootstrap: str) -> None:
    """A transactional id is taken over from the producer before, with the next epoch of the same id."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "open", "log_level": 0})
    producer.init_transactions(_SECONDS)
    producer.begin_transaction()
    producer.produce("transactional", b"anew", partition=0)
    producer.commit_transaction(_SECONDS)


def check_group_goes_on(bootstrap: str) -> None:
    """A member of the group reads from where the group was."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": "group",
        "auto.offset.reset": "error",
        "log_level": 0,
    }
    consumer = Consumer(settings)
    consumer.subscribe(
        ["plain"], on_assign=lambda c, found: c.assign([one for one in found if one.partition < 2])
    )
    first: dict[int, int] = {}
    while len(first) < 2:
        message = consumer.poll(_SECONDS)
        assert message is not None
        assert message.error() is None
        first.setdefault(message.partition(), message.offset())
    consumer.close()
    assert first == {0: 7, 1: 11}


def new_producer_ids(broker: BrokerProcess, count: int) -> list[int]:
    """Return the producer ids that fresh idempotent producers write under."""
    for _ in range(count):
        producer = Producer({"bootstrap.servers": broker.kafka, "enable.idempotence": True, "log_level": 0})
        producer.produce("empty", b"x", partition=0)
        assert producer.flush(_SECONDS) == 0
    data = (pathlib.Path(broker.config["data_dir"]) / "empty-0" / "00000000000000000000.log").read_bytes()
    ids = [int.from_bytes(data[at + 43 : at + 51], "big", signed=True) for at, _ in batches(data)]
    assert len(set(ids)) == count
    return ids


def test_opened_in_place(killed: Killed, tmp_path: pathlib.Path) -> None:
    with InPlace(killed.copy(tmp_path / "kafka")) as broker:
        assert broker.kafka == killed.kafka.kafka
        check_same(contents_of(broker.kafka), killed.contents)
        check_repeat_is_recognised(broker)
        check_producer_goes_on(killed.idempotent, killed.contents.ends["plain", 0])
        check_fencing(broker.kafka)
        check_group_goes_on(broker.kafka)
        broker.kill()
        broker.start()
        again = contents_of(broker.kafka)
        assert again.ids == killed.contents.ids
        assert len(again.rows["plain", 0]) == len(killed.contents.rows["plain", 0]) + 5
        assert broker.stop() == 0
        check_log(broker.log)
        metadata = broker.directory / "data" / "__cluster_metadata-0"
        newest = max(metadata.glob("*.log"))
        newest.write_bytes(newest.read_bytes() + batch_after(newest))
        with pytest.raises(AssertionError, match=r"Apache Kafka has run on .* since megabroker opened it"):
            broker.start()


def test_kafka_directory_without_its_properties(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data" / "__cluster_metadata-0").mkdir(parents=True)
    with pytest.raises(AssertionError, match="is a directory of Apache Kafka: expected --kafka-properties"):
        BrokerProcess(directory=tmp_path).start()


def check_producer_goes_on(producer: Producer, end: int) -> None:
    """An idempotent producer that was connected to Kafka writes on, after its last offset."""
    offsets: list[int] = []

    def delivered(error: object, message: Message) -> None:
        assert error is None
        offsets.append(message.offset())

    for number in range(5):
        producer.produce("plain", f"on {number}".encode(), partition=0, on_delivery=delivered)
    assert producer.flush(_SECONDS) == 0
    assert offsets == list(range(end, end + 5))


def check_repeat_is_recognised(broker: BrokerProcess) -> None:
    """The last batch of Kafka's idempotent producer, sent again, has the offset it had."""
    data = (broker.directory / "data" / "plain-0" / "00000000000000000000.log").read_bytes()
    *_, (position, size) = batches(data)
    batch = data[position : position + size]
    assert int.from_bytes(batch[43:51], "big", signed=True) >= 0
    partition = produce.Request.Topic.Partition(index=0, records=batch)
    topic = produce.Request.Topic(name="plain", partition_data=[partition])
    request = produce.Request(acks=-1, timeout_ms=1000, topic_data=[topic]).encode(8)
    with socket.create_connection(("127.0.0.1", broker.ports["kafka"]), _SECONDS) as connection:
        connection.sendall(kafka_request(0, 8, request))
        answer = receive(connection, int.from_bytes(receive(connection, 4), "big"))
    (row,) = produce.Response.decode(answer, 8, 4)[0].responses[0].partition_responses
    assert (row.error_code, row.base_offset) == (0, int.from_bytes(batch[:8], "big"))


def batches(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (position, size) of each batch."""
    position = 0
    while position < len(data):
        size = 12 + int.from_bytes(data[position + 8 : position + 12], "big")
        yield position, size
        position += size


def batch_after(file: pathlib.Path) -> bytes:
    """Return a batch that goes on after the last one of a log: what a Kafka that ran again would leave."""
    data = file.read_bytes()
    *_, (position, size) = batches(data)
    last = data[position : position + size]
    after = int.from_bytes(last[:8], "big") + int.from_bytes(last[23:27], "big") + 1
    return after.to_bytes(8, "big") + last[8:]
