"""``megabroker backup`` of brokers that serve clients: all that was acknowledged before it is in the copy."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from megabroker.backup.pins import Pins
from tests.brokers import BrokerProcess
from tests.crash.test_fsck import run
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_PARTITIONS = 8
_SMALL_SEGMENTS = {"segment.bytes": str(1 << 20)}
_CONFIG = {"cleaner": {"interval_ms": 100}, "retention_check_interval_ms": 100}


class Load:
    """Clients that write for as long as a test lasts.

    Attributes:
        acknowledged: by partition of ``plain``, how many records were.
        committed: transactions whose end was, each one record to either partition of ``transactions`` and the
            offset of a group.
    """

    def __init__(self, address: str) -> None:
        self._settings = {"bootstrap.servers": address, "linger.ms": 2}
        self._ended = threading.Event()
        self.acknowledged: Counter[int] = Counter()
        self.committed = 0
        self.faults: list[BaseException] = []
        topics = [
            NewTopic("plain", _PARTITIONS, config=_SMALL_SEGMENTS),
            NewTopic("transactions", 2, config=_SMALL_SEGMENTS),
            NewTopic("compacted", 2, config={**_SMALL_SEGMENTS, "cleanup.policy": "compact"}),
            NewTopic("short", 2, config={**_SMALL_SEGMENTS, "retention.bytes": str(1 << 20)}),
        ]
        admin = AdminClient({"bootstrap.servers": address})
        for made in admin.create_topics(topics).values():
            made.result(30)
        works = (self._plain, self._transactions)
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.faults.append(error)

    def _plain(self) -> None:
        producer = Producer({**self._settings, "enable.idempotence": True})

        def told(error: Any, message: Any) -> None:
            assert error is None
            self.acknowledged[message.partition()] += 1

        number = 0
        while not self._ended.is_set():
            for _ in range(100):
                value = os.urandom(1000)
                producer.produce("plain", value, partition=number % _PARTITIONS, on_delivery=told)
                producer.produce("compacted", value, key=b"%d" % (number % 50), partition=number % 2)
                producer.produce("short", value, partition=number % 2)
                number += 1
            producer.poll(0)
            time.sleep(0.005)
        assert producer.flush(30) == 0

    def _transactions(self) -> None:
        # What is open when a copy is made is aborted after so long, and until then its offsets are not told.
        producer = Producer({**self._settings, "transactional.id": "t", "transaction.timeout.ms": 5000})
        consumer = Consumer({**self._settings, "group.id": "g"})
        producer.init_transactions(30)
        while not self._ended.is_set():
            producer.begin_transaction()
            for partition in range(2):
                producer.produce("transactions", b"%d" % self.committed, partition=partition)
            done = [TopicPartition("transactions", 0, 2 * self.committed + 2)]
            producer.send_offsets_to_transaction(done, consumer.consumer_group_metadata())
            producer.commit_transaction(30)
            self.committed += 1
        consumer.close()

    def wait(self, records: int) -> None:
        """Wait until so many more records were acknowledged."""
        wanted = self.acknowledged.total() + records
        deadline = time.monotonic() + 30
        while self.acknowledged.total() < wanted:
            assert not self.faults, self.faults
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        assert not self.faults, self.faults


def _backup(*arguments: object) -> Any:
    made = run("backup", "--json", "--quiet", *arguments)
    assert made.exit_code == 0, made.output
    return json.loads(made.output)


def _check(target: pathlib.Path, acknowledged: Counter[int], committed: int) -> None:
    told = json.loads(run("fsck", "--json", target).output)
    assert (told["findings"], told["closed_in_order"]) == ([], True)
    with BrokerProcess({**_CONFIG, "data_dir": str(target)}) as broker:
        settings = {"bootstrap.servers": broker.kafka, "group.id": "g", "enable.auto.commit": False}
        reader = Consumer({**settings, "isolation.level": "read_committed", "enable.partition.eof": True})
        for partition in range(_PARTITIONS):
            _, end = reader.get_watermark_offsets(TopicPartition("plain", partition), 30)
            assert end >= acknowledged[partition], partition
        places = [TopicPartition("transactions", partition, 0) for partition in range(2)]
        everything = Consumer({**settings, "isolation.level": "read_uncommitted"})
        deadline = time.monotonic() + 30
        for place in places:
            while reader.get_watermark_offsets(place, 30) != everything.get_watermark_offsets(place, 30):
                assert time.monotonic() < deadline, "a transaction is open that nobody ends"
                time.sleep(0.1)
        everything.close()
        reader.assign(places)
        found: dict[int, list[int]] = {0: [], 1: []}
        ended: set[int | None] = set()
        deadline = time.monotonic() + 30
        while len(ended) < 2:
            assert time.monotonic() < deadline, found
            message = reader.poll(1)
            if message is None:
                continue
            if message.error():
                ended.add(message.partition())
            else:
                found[message.partition()].append(int(message.value() or b""))
        assert found[0] == found[1] == list(range(len(found[0])))  # all of a transaction, or nothing
        assert len(found[0]) >= committed
        [offset] = reader.committed([TopicPartition("transactions", 0)], 30)
        assert offset.offset == 2 * len(found[0])
        reader.close()
        again = Producer({"bootstrap.servers": broker.kafka, "transactional.id": "t"})
        again.init_transactions(30)
        again.begin_transaction()
        again.produce("transactions", b"more", partition=0)
        again.commit_transaction(30)


@pytest.mark.parametrize("workers", [1, 2])
def test_under_load(workers: int, tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    kind = (
        (lambda: BrokerProcess(_CONFIG, tmp_path))
        if workers == 1
        else (lambda: WorkersProcess(2, _CONFIG, tmp_path))
    )
    with kind() as broker:
        load = Load(broker.kafka)
        try:
            load.wait(10_000)
            moments = []
            for number in range(2):
                known = load.acknowledged.copy(), load.committed
                target = tmp_path / f"backup-of-{number}"
                made = _backup(data, target, *(["--link"] if number == 1 else []))
                assert made["running"]
                assert made["held_ms"] < 2000
                assert (made["linked_bytes"] > 0) == (number == 1)
                moments.append((target, *known))
                load.wait(1000)
            assert not (data / "backup-pins").exists()
        finally:
            load.end()
        for target, acknowledged, committed in moments:
            _check(target, acknowledged, committed)


def test_backups_that_are_killed(tmp_path: pathlib.Path) -> None:
    data, target = tmp_path / "data", tmp_path / "copy"
    command = pathlib.Path(sys.executable).with_name("megabroker")
    with BrokerProcess(_CONFIG, tmp_path) as broker:
        load = Load(broker.kafka)
        try:
            load.wait(10_000)
            unfinished = target / "import-unfinished"
            begun = 0
            while begun < 4:
                process = subprocess.Popen([command, "backup", data, target], stderr=subprocess.DEVNULL)
                while not unfinished.exists() and process.poll() is None:
                    time.sleep(0.001)
                time.sleep(begun * 0.01)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                load.wait(500)  # nothing of it holds the broker up
                if not unfinished.exists():
                    break
                begun += 1
                assert run("fsck", target).exit_code == 1
            assert begun
            if not unfinished.exists():
                shutil.rmtree(target)
            known = load.acknowledged.copy(), load.committed
            _backup(data, target)
            assert not (data / "backup-pins").exists()
        finally:
            load.end()
    _check(target, *known)


def test_after_a_kill(tmp_path: pathlib.Path) -> None:
    with BrokerProcess(_CONFIG, tmp_path) as broker:
        load = Load(broker.kafka)
        load.wait(5000)
        load.end()
        broker.kill()
        made = _backup(tmp_path / "data", tmp_path / "copy")
        assert not made["running"]
        _check(tmp_path / "copy", load.acknowledged, load.committed)


def test_refusals(tmp_path: pathlib.Path) -> None:
    with BrokerProcess(_CONFIG, tmp_path):
        data = tmp_path / "data"
        inside = run("backup", data, data / "copy")
        assert inside.exit_code == 1
        assert "expected a place outside" in str(inside.exception)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        full = run("backup", data, tmp_path / "full")
        assert full.exit_code == 1
        assert "is not empty" in str(full.exception)
        with Pins.at(data):
            second = run("backup", data, tmp_path / "copy")
            assert second.exit_code == 1
            assert "another backup" in str(second.exception)
        other = run("backup", tmp_path, tmp_path / "copy")
        assert other.exit_code == 1
        assert "not a data directory" in str(other.exception)
        assert not (tmp_path / "copy").exists()
