"""A broker started on a disk that is full: it serves what there is, and more once there is room."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.brokers import BrokerProcess
from tests.http.asking import Api
from tests.interop.wires import until
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_SECONDS = 10
_PARTITIONS = 4


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system (tmpfs)")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.skip("no file system (tmpfs) can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _fill(path: pathlib.Path) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def _produced(broker: BrokerProcess, value: bytes, seconds: float = _SECONDS, partition: int = 0) -> bool:
    """Whether a record was acknowledged in time."""
    errors: list[Any] = []
    producer = Producer(
        {"bootstrap.servers": broker.kafka, "message.timeout.ms": int(1000 * seconds), "log_level": 0}
    )
    producer.produce("t", value, partition=partition, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(seconds + _SECONDS) == 0
    (error,) = errors
    return error is None


def _first(broker: BrokerProcess, partition: int = 0) -> bytes | None:
    reader = Consumer({"bootstrap.servers": broker.kafka, "group.id": "g"})
    reader.assign([TopicPartition("t", partition, 0)])
    message = reader.poll(_SECONDS)
    reader.close()
    assert message is not None
    return message.value()


def _until_ready(broker: BrokerProcess) -> None:
    api = Api(broker.http_ports[0])
    api.post("/v1/topics", {"name": "more"})  # metadata is written again, too
    until(lambda: api.get("/readyz") == {"status": "ok"}, what="all is well again")


@pytest.mark.parametrize("orderly", [True, False])
def test_a_full_disk_at_start(disk: pathlib.Path, tmp_path: pathlib.Path, orderly: bool) -> None:
    filling, more = disk / "else", disk / "more"
    broker = BrokerProcess({"data_dir": str(disk / "data")}, tmp_path)
    with broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("t", 1)])["t"].result(_SECONDS)
        assert _produced(broker, b"kept")
        if orderly:
            assert broker.stop() == 0
        else:
            broker.kill()
        _fill(filling)
        broker.start()
        _fill(more)
        assert _first(broker) == b"kept"
        assert not _produced(broker, bytes(8192), 1)
        ready = Api(broker.http_ports[0]).ask("GET", "/readyz")
        assert (ready.status, ready.json["status"]) == (200, "degraded"), "what there is can be read"
        assert any("No space left on device" in trouble for trouble in ready.json["troubles"])
        filling.unlink()
        assert _produced(broker, b"again")
        _until_ready(broker)
        assert broker.stop() == 0
    assert "ENOSPC" in broker.log
    assert "Traceback" not in broker.log


@pytest.mark.parametrize("orderly", [True, False])
def test_a_full_disk_at_start_of_several_workers(
    disk: pathlib.Path, tmp_path: pathlib.Path, orderly: bool
) -> None:
    """The room that an end, or a start, has kept is what they begin with."""
    filling, more = disk / "else", disk / "more"
    with WorkersProcess(2, {"data_dir": str(disk / "data")}, tmp_path) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("t", _PARTITIONS)])["t"].result(_SECONDS)
        assert all(_produced(broker, b"kept", partition=one) for one in range(_PARTITIONS))
        if orderly:
            assert broker.stop() == 0
        else:
            broker.kill()
        _fill(filling)
        broker.start()
        _fill(more)
        assert [_first(broker, one) for one in range(_PARTITIONS)] == [b"kept"] * _PARTITIONS
        assert not _produced(broker, bytes(8192), 1)
        filling.unlink()
        assert all(_produced(broker, b"again", partition=one) for one in range(_PARTITIONS))
        assert broker.stop() == 0
    assert "ENOSPC" in broker.log
    assert "Traceback" not in broker.log


def test_a_broker_without_any_log_that_can_be_used_is_not_ready(tmp_path: pathlib.Path) -> None:
    with BrokerProcess(directory=tmp_path) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("t", 1)])["t"].result(_SECONDS)
        assert _produced(broker, b"kept")
        assert broker.stop() == 0
        (tmp_path / "data" / "t-0" / "partition.metadata").write_text(
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAw\n"
        )
        broker.start()
        api = Api(broker.http_ports[0])
        refused = api.ask("GET", "/readyz")
        assert (refused.status, refused.json["code"]) == (503, "storage")
        assert refused.json["detail"] == "1 of 1 partitions cannot be used: the log says why"
        assert api.get("/livez") == {"status": "ok"}, "starting it again would change nothing"
        api.post("/v1/topics", {"name": "another", "partitions": 1})
        until(lambda: api.ask("GET", "/readyz").status == 200, what="another partition can be used")
        assert api.get("/readyz") == {
            "status": "degraded",
            "troubles": ["1 of 2 partitions cannot be used: the log says why"],
        }
