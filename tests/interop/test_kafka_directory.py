"""What a real Apache Kafka wrote is served by us: records, offsets, topic ids, configurations, groups."""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import attrs
import pytest
from confluent_kafka import Consumer, Producer

from tests.brokers import BrokerProcess
from tests.interop.apache_kafka import ApacheKafka
from tests.interop.conftest import check_log
from tests.interop.java import Unavailable
from tests.interop.kafka_contents import Contents, contents_of, fill, leave_open

pytestmark = pytest.mark.interop

_SECONDS = 30


@attrs.frozen
class Killed:
    """A Kafka that was killed, and what it held."""

    kafka: ApacheKafka
    contents: Contents


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """Kafka with two log directories, killed while a transaction was open."""
    directory = tmp_path_factory.mktemp("kafka")
    properties = {
        "log.dirs": f"{directory / 'data'},{directory / 'more'}",
        "log.cleaner.backoff.ms": "200",
        "log.flush.start.offset.checkpoint.interval.ms": "100",
        "log.initial.task.delay.ms": "100",
    }
    try:
        kafka = ApacheKafka(properties, directory)
    except Unavailable as missing:
        pytest.skip(str(missing))
    with kafka:
        fill(kafka.kafka)
        open_one, _ = leave_open(kafka.kafka)
        contents = contents_of(kafka.kafka)
        refused = run_import(kafka, directory / "refused")
        assert refused.returncode == 1
        assert "is in use by a running broker: stop it first" in refused.stderr
        assert not (directory / "refused").exists()
        kafka.kill()
        del open_one
        yield Killed(kafka, contents)


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
    with BrokerProcess({"data_dir": str(tmp_path / "data")}) as broker:
        check_same(contents_of(broker.kafka), killed.contents)
        check_fencing(broker.kafka)
        check_group_goes_on(broker.kafka)
        ids = new_producer_ids(broker, 2)
        assert min(ids) >= told["next_producer_id"] > 0
        broker.restart()
        assert contents_of(broker.kafka).ids == killed.contents.ids
        assert broker.stop() == 0
        check_log(broker.log)
    assert digests(killed.kafka) == before


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
    ids, position = [], 0
    while position < len(data):
        ids.append(int.from_bytes(data[position + 43 : position + 51], "big", signed=True))
        position += 12 + int.from_bytes(data[position + 8 : position + 12], "big")
    assert len(set(ids)) == count
    return ids
