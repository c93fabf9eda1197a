"""A broker whose files are taken away, as by an upgrade of its package, after it was told that they will."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import urllib.request

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import megabroker
from megabroker.client import CursusClient, MessageClient
from tests.interop.wires import until
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


def use_kafka(brokers: str) -> None:
    """Ask for a great many things that nobody has asked for before."""
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic("compact", 2, config={"cleanup.policy": "compact"})])["compact"].result(30)
    for compression in _COMPRESSIONS:
        producer = Producer({"bootstrap.servers": brokers, "compression.type": compression})
        for _ in range(10):
            producer.produce("letters", b"x" * 1000)
        assert producer.flush(30) == 0
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": "t"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("letters", b"y" * 1000)
    settings = {"group.id": "g", "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    consumer = Consumer({"bootstrap.servers": brokers, **settings})
    consumer.subscribe(["letters"])
    assert len(consumer.consume(50, 30)) == 50
    at = consumer.position(consumer.assignment())
    producer.send_offsets_to_transaction(at, consumer.consumer_group_metadata(), 30)
    producer.commit_transaction(30)
    assert len(consumer.consume(1, 30)) == 1
    consumer.close()
    assert admin.list_consumer_groups().result(30).errors == []
    admin.describe_consumer_groups(["g"])["g"].result(30)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "letters")
    admin.describe_configs([resource])[resource].result(30)
    admin.delete_consumer_groups(["g"])["g"].result(30)
    admin.delete_topics(["compact"])["compact"].result(30)


@pytest.mark.parametrize("workers", [1, 2])
def test_all_goes_on(workers: int, tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pathlib.Path(megabroker.__file__).parent, copy / "megabroker")
    broker = WorkersProcess(workers, {"durability": "os"})
    broker.environment["PYTHONPATH"] = str(copy)
    with broker:
        assert broker.process is not None
        os.kill(broker.process.pid, signal.SIGUSR2)
        until(lambda: broker.log.count("all modules are imported") == workers, 30, "everything is imported")
        # The console's pages and scripts are read when they are wanted: an upgrade has them too.
        for path in copy.rglob("*.py*"):
            path.unlink()
        use_kafka(broker.kafka)
        with MessageClient(host="127.0.0.1", port=broker.ports["mega"]) as client:
            client.create_topic("mega")
            assert client.produce("mega", "one")["success"]
            assert client.consume("mega", 0)["payload"] == "one"
        with CursusClient("127.0.0.1", broker.ports["cursus"]) as cursus:
            cursus.create_topic("cursus", 1)
            cursus.publish_many("cursus", ["one"])
            assert [message.text for message in cursus.stream("cursus")] == ["one"]
        for path in ("readyz", "metrics", "v1/topics", "v1/groups", "v1/openapi.json"):
            with urllib.request.urlopen(
                f"http://127.0.0.1:{broker.http_ports[0]}/{path}", timeout=30
            ) as answer:
                assert answer.read()
        assert "Traceback" not in broker.log, broker.log
        assert broker.stop() == 0
