"""Compaction as Kafka clients see it: newest values at unchanged offsets, also after kill -9; and its files
as Apache Kafka's own tool reads them.
"""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from megabroker.client.mega import MessageClient
from tests.brokers import BrokerProcess
from tests.interop.apache_kafka import ApacheKafka
from tests.interop.conftest import check_log, create_topic
from tests.interop.java import Java
from tests.interop.wires import CursusWire, until

pytestmark = pytest.mark.interop

TOPIC = {
    "cleanup.policy": "compact",
    "internal.segment.bytes": "8192",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "300",
    "file.delete.delay.ms": "0",
}
KEYS = 40
Newest = dict[bytes, tuple[int, bytes | None]]


@pytest.fixture
def cleaning_broker() -> Iterator[BrokerProcess]:
    """A broker of the test's own that looks for something to compact all the time."""
    with BrokerProcess({"cleaner": {"interval_ms": 20}}) as broker:
        yield broker
        check_log(broker.log)


class Keeper:
    """Produces and remembers the newest record of each key that was acknowledged."""

    def __init__(self, kafka: str, topic: str, **options: Any) -> None:
        self.topic = topic
        self.dice = Random(topic)
        self.producer = Producer(
            {"bootstrap.servers": kafka, "linger.ms": 5, "batch.num.messages": 20, **options}
        )
        self.newest: Newest = {}
        self.uncertain: set[bytes] = set()
        self.stored = 0

    def delivered(self, error: KafkaError | None, message: Any) -> None:
        key = message.key()
        if error is not None:
            self.uncertain.add(key)
            return
        self.stored += 1
        if message.offset() > self.newest.get(key, (-1, None))[0]:
            self.newest[key] = (message.offset(), message.value() or None)

    def put(self, key: bytes, value: bytes | None) -> None:
        self.producer.produce(self.topic, value, key, partition=0, on_delivery=self.delivered)
        self.producer.poll(0)

    def churn(self, count: int) -> None:
        for at in range(count):
            key = b"key-%d" % self.dice.randrange(KEYS)
            deleted = self.dice.random() < 0.1
            self.put(key, None if deleted else b"%d " % at + self.dice.randbytes(20).hex().encode())
        self.producer.flush(20)

    def living(self) -> Newest:
        return {key: row for key, row in self.newest.items() if row[1] is not None}


def read_all(
    kafka: str, topic: str, level: str = "read_committed", first: int = 0
) -> list[tuple[int, bytes, bytes | None]]:
    """Return (offset, key, value) of everything there is, in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": level,
            "auto.offset.reset": "error",
        }
    )
    consumer.assign([TopicPartition(topic, 0, first)])
    rows = []
    try:
        while True:
            message = consumer.poll(10)
            assert message is not None, "the end was not reached"
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                return rows
            rows.append((message.offset(), message.key(), message.value()))
    finally:
        consumer.close()


def newest(rows: list[tuple[int, bytes, bytes | None]]) -> Newest:
    found: Newest = {}
    for offset, key, value in rows:
        found[key] = (offset, value)
    return {key: row for key, row in found.items() if row[1] is not None}


def settle(broker: BrokerProcess, keeper: Keeper) -> int:
    """Let all that was produced be compacted, by filling segments behind it; return where that ends."""
    producer = Producer({"bootstrap.servers": broker.kafka})
    end = 0
    for at in range(3):

        def delivered(error: Any, message: Any) -> None:
            nonlocal end
            assert error is None
            end = max(end, message.offset())

        producer.produce(keeper.topic, bytes(8000), b"filler-%d" % at, partition=0, on_delivery=delivered)
        producer.flush(10)
    data_dir = pathlib.Path(broker.config["data_dir"])
    until(lambda: checkpoint(data_dir, keeper.topic) >= end - 1, 30, "the compaction")
    return end - 1


@pytest.mark.parametrize(
    "options", [{}, {"compression.type": "zstd"}, {"enable.idempotence": True, "compression.type": "lz4"}]
)
def test_the_newest_values_at_their_offsets(cleaning_broker: BrokerProcess, options: dict[str, Any]) -> None:
    topic = create_topic(cleaning_broker.kafka, "keys", config=TOPIC)
    keeper = Keeper(cleaning_broker.kafka, topic, **options)
    for _ in range(4):
        keeper.churn(500)
    end = settle(cleaning_broker, keeper)
    rows = [row for row in read_all(cleaning_broker.kafka, topic) if not row[1].startswith(b"filler")]
    assert newest(rows) == keeper.living()
    below = [row[1] for row in rows if row[0] < end]
    assert len(below) == len(set(below)), "a key is there more than once"
    assert len(rows) <= KEYS < keeper.stored
    time.sleep(0.4)
    end = settle(cleaning_broker, keeper)
    rows = [row for row in read_all(cleaning_broker.kafka, topic) if row[0] < end]
    assert not [row for row in rows if row[2] is None], "a tombstone outlived its retention"
    assert cleaning_broker.restart()
    rows = [row for row in read_all(cleaning_broker.kafka, topic) if not row[1].startswith(b"filler")]
    assert newest(rows) == keeper.living()


def test_transactions(cleaning_broker: BrokerProcess) -> None:
    kafka = cleaning_broker.kafka
    topic = create_topic(kafka, "transactions", config=TOPIC)
    keeper = Keeper(kafka, topic)
    keeper.churn(200)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": "till"})
    producer.init_transactions(10)
    for turn in range(12):
        producer.begin_transaction()
        rows: Newest = {}

        def delivered(error: Any, message: Any, rows: Newest = rows) -> None:
            assert error is None
            rows[message.key()] = (message.offset(), message.value())

        for at in range(10):
            producer.produce(
                topic, b"%d" % turn + bytes(200), b"key-%d" % (at * 3), partition=0, on_delivery=delivered
            )
        producer.flush(10)
        if turn % 3:
            producer.commit_transaction(10)
            keeper.newest.update(rows)
        else:
            producer.abort_transaction(10)
    end = settle(cleaning_broker, keeper)
    for level in ("read_committed", "read_uncommitted"):
        rows_read = [row for row in read_all(kafka, topic, level) if not row[1].startswith(b"filler")]
        assert newest(rows_read) == keeper.living()
        below = [row[1] for row in rows_read if row[0] < end]
        assert len(below) == len(set(below))


def test_kill_while_compacting(cleaning_broker: BrokerProcess) -> None:
    broker = cleaning_broker
    topic = create_topic(broker.kafka, "killed", config=TOPIC)
    keeper = Keeper(
        broker.kafka,
        topic,
        **{"enable.idempotence": True, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20},
    )
    dice = Random(5)
    for _ in range(4):
        keeper.churn(600)
        time.sleep(dice.random() * 0.2)
        broker.kill()
        broker.start()
        rows = [row for row in read_all(broker.kafka, topic) if not row[1].startswith(b"filler")]
        found = newest(rows)
        assert not keeper.uncertain
        assert found == keeper.living()
    settle(broker, keeper)
    assert "log-damaged" not in broker.log
    rows = [row for row in read_all(broker.kafka, topic) if not row[1].startswith(b"filler")]
    assert newest(rows) == keeper.living()


def test_with_deletion_and_deleted_records(cleaning_broker: BrokerProcess) -> None:
    kafka = cleaning_broker.kafka
    topic = create_topic(kafka, "both", config={**TOPIC, "cleanup.policy": "compact,delete"})
    keeper = Keeper(kafka, topic)
    keeper.churn(600)
    end = settle(cleaning_broker, keeper)
    before = sorted(offset for offset, _ in keeper.living().values())[KEYS // 4]
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_records([TopicPartition(topic, 0, before)])[TopicPartition(topic, 0, before)].result(10)
    rest = {key: row for key, row in keeper.living().items() if row[0] >= before}
    found = newest([row for row in read_all(kafka, topic, first=before) if row[1].startswith(b"key")])
    assert found == rest
    assert end > before


def test_apache_kafka_reads_the_files(cleaning_broker: BrokerProcess, java_tools: Java) -> None:
    topic = create_topic(cleaning_broker.kafka, "dumped", config=TOPIC)
    for options in (
        {},
        {"compression.type": "gzip"},
        {"enable.idempotence": True, "compression.type": "zstd"},
    ):
        keeper = Keeper(cleaning_broker.kafka, topic, **options)
        keeper.churn(400)
    settle(cleaning_broker, keeper)
    assert cleaning_broker.stop() == 0
    directory = pathlib.Path(cleaning_broker.config["data_dir"]) / f"{topic}-0"
    logs = sorted(directory.glob("*.log"))
    indexes = sorted([*directory.glob("*.index"), *directory.glob("*.timeindex")])
    assert len(logs) >= 2
    assert indexes
    main = "org.apache.kafka.tools.DumpLogSegments"
    for arguments in (
        ["--deep-iteration", "--files", ",".join(map(str, logs))],
        ["--index-sanity-check", "--files", ",".join(map(str, indexes))],
        ["--verify-index-only", "--files", ",".join(map(str, indexes))],
    ):
        done = java_tools.run(main, *arguments, seconds=90)
        text = done.stdout + done.stderr
        assert done.returncode == 0, text[-3000:]
        for complaint in (
            "Mismatches in",
            "not valid",
            "invalid bytes",
            "Exception",
            "corrupt",
        ):
            assert complaint not in text, text[max(0, text.index(complaint) - 500) :][:2000]
        # That offsets are not consecutive it says of every compacted log, Kafka's own too.
        if arguments[0] == "--deep-iteration":
            assert re.search(r"deleteHorizonMs: OptionalLong\[\d+\]", text)


def test_messages_without_keys_are_refused_on_every_wire(
    broker: BrokerProcess, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(config={"cleanup.policy": "compact"})
    with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
        assert client.produce(topic, "no key")["error_code"] == "INVALID_REQUEST"
    with CursusWire(broker.ports["cursus"]) as wire:
        assert "takes no message without a key" in wire.ask(f"PUBLISH {topic} no key")
        assert "takes no message without a key" in wire.ask("no key", topic)
    producer = Producer({"bootstrap.servers": broker.kafka})
    errors: list[Any] = []
    producer.produce(topic, b"no key", partition=0, on_delivery=lambda error, _: errors.append(error.code()))
    producer.flush(10)
    assert errors == [KafkaError.INVALID_RECORD]
    assert read_all(broker.kafka, topic) == []


class Script:
    """The same batches for any broker: keys, deletions, codecs, idempotent and transactional producers."""

    def __init__(self, kafka: str, topic: str, now_ms: int) -> None:
        self.kafka = kafka
        self.topic = topic
        self.now_ms = now_ms
        self.dice = Random(7)
        self.codecs = [
            Producer({**self._options(), "compression.type": codec, **more})
            for codec, more in (
                ("none", {}),
                ("gzip", {}),
                ("lz4", {"enable.idempotence": True}),
                ("zstd", {"enable.idempotence": True}),
            )
        ]
        self.till = Producer({**self._options(), "transactional.id": f"till-of-{topic}"})
        self.till.init_transactions(20)
        self.consumer = Consumer({"bootstrap.servers": kafka, "group.id": "none"})
        self.end = 0

    def _options(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.kafka, "linger.ms": 20_000, "message.timeout.ms": 30_000}

    def _batch(self, producer: Producer) -> None:
        for _ in range(self.dice.randrange(1, 8)):
            key = b"key-%d" % self.dice.randrange(25)
            value = None if self.dice.random() < 0.15 else self.dice.randbytes(self.dice.randrange(60)).hex()
            producer.produce(self.topic, value, key, partition=0, timestamp=self.now_ms)
            self.end += 1
        assert producer.flush(30) == 0

    def _all_is_there(self) -> bool:
        return self.consumer.get_watermark_offsets(TopicPartition(self.topic, 0), 10)[1] == self.end

    def run(self) -> None:
        for turn in range(70):
            if turn % 5 < 4:
                self._batch(self.codecs[turn % 5])
                continue
            self.till.begin_transaction()
            for _ in range(self.dice.randrange(1, 4)):
                self._batch(self.till)
            if self.dice.random() < 0.5:
                self.till.commit_transaction(20)
            else:
                self.till.abort_transaction(20)
            # The next batch comes behind the marker, which is written later than its transaction is ended.
            self.end += 1
            until(self._all_is_there, 10, "the marker")
        self.consumer.close()

    def fill(self) -> int:
        """End segments; return where what can be compacted ends at least."""
        ends: list[int] = []
        for at in range(3):
            self.codecs[0].produce(
                self.topic,
                bytes(8000),
                b"filler-%d" % at,
                partition=0,
                on_delivery=lambda _, message: ends.append(message.offset()),
            )
            self.codecs[0].flush(30)
        return ends[-1]


def test_what_apache_kafka_leaves(cleaning_broker: BrokerProcess, apache_kafka: ApacheKafka) -> None:
    admin = AdminClient({"bootstrap.servers": apache_kafka.kafka})
    quick = ConfigEntry("log.cleaner.backoff.ms", "100", incremental_operation=AlterConfigOpType.SET)
    itself = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[quick])
    admin.incremental_alter_configs([itself])[itself].result(20)
    now_ms = int(time.time() * 1000)
    left = []
    for kafka, data_dir in (
        (cleaning_broker.kafka, pathlib.Path(cleaning_broker.config["data_dir"])),
        (apache_kafka.kafka, apache_kafka.log_dirs[0]),
    ):
        topic = create_topic(kafka, "compared", config={**TOPIC, "delete.retention.ms": "0"})
        script = Script(kafka, topic, now_ms)
        script.run()
        for _ in range(4):  # what is deleted goes the second time, markers the third
            end = script.fill()
            until(lambda end=end, place=data_dir: checkpoint(place, "compared") >= end, 60, "the compaction")
        for level in ("read_committed", "read_uncommitted"):
            left.append([row for row in read_all(kafka, topic, level) if row[0] < end])
    assert len(left[0]) > 15
    assert left[0] == left[1] == left[2] == left[3]


def checkpoint(data_dir: pathlib.Path, topic: str) -> int:
    """Return where compaction of a topic's partition has come."""
    path = data_dir / "cleaner-offset-checkpoint"
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[2]) for line in lines if line.startswith(f"{topic} 0 ")), 0)
