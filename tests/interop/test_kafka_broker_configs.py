"""Broker configurations changed by AdminClients while the broker runs: obeyed at once, and after kill -9."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourceType,
)

from tests.brokers import BrokerProcess
from tests.interop.conftest import create_topic

pytestmark = pytest.mark.interop

_SECONDS = 15


@pytest.fixture
def own_broker() -> Iterator[BrokerProcess]:
    with BrokerProcess({"durability": "os", "topics": {"retention_ms": "1d"}}) as broker:
        yield broker


def change(admin: AdminClient, name: str, **values: str | None) -> None:
    entries = [
        ConfigEntry(
            key.replace("_", "."),
            value or "",
            incremental_operation=AlterConfigOpType.SET if value is not None else AlterConfigOpType.DELETE,
        )
        for key, value in values.items()
    ]
    resource = ConfigResource(ResourceType.BROKER, name, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(_SECONDS)


def described(admin: AdminClient, kind: ResourceType, name: str) -> dict[str, Any]:
    [future] = admin.describe_configs([ConfigResource(kind, name)]).values()
    return future.result(_SECONDS)


def produce(broker: BrokerProcess, topic: str, size_bytes: int) -> Any:
    """Return the error of a message of so many bytes, None when it is stored."""
    producer = Producer({"bootstrap.servers": broker.kafka, "message.max.bytes": 5_000_000, "linger.ms": 0})
    errors: list[Any] = []
    producer.produce(topic, bytes(size_bytes), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(_SECONDS) == 0
    return errors[0]


def test_changes_are_obeyed_at_once_and_after_a_crash(own_broker: BrokerProcess) -> None:
    admin = AdminClient({"bootstrap.servers": own_broker.kafka})
    topic = create_topic(own_broker.kafka, "t", 1)
    assert produce(own_broker, topic, 2000) is None
    change(admin, "1", message_max_bytes="1000", log_retention_ms="80000000")
    assert produce(own_broker, topic, 2000).name() == "MSG_SIZE_TOO_LARGE"
    for _ in range(2):
        broker = described(admin, ResourceType.BROKER, "1")
        found = broker["log.retention.ms"]
        assert (found.value, found.source) == (
            "80000000",
            ConfigSource.DYNAMIC_BROKER_CONFIG.value,
        )
        assert not found.is_read_only
        assert broker["num.partitions"].is_read_only
        chain = [(one.value, one.source) for one in found.synonyms.values()]
        assert chain  # this client keeps one synonym of a name
        of_topic = described(admin, ResourceType.TOPIC, topic)["max.message.bytes"]
        assert of_topic.value == "1000"
        assert of_topic.source == ConfigSource.DYNAMIC_BROKER_CONFIG.value
        assert produce(own_broker, topic, 2000).name() == "MSG_SIZE_TOO_LARGE"
        own_broker.kill()
        own_broker.start()
        admin = AdminClient({"bootstrap.servers": own_broker.kafka})
    change(admin, "1", message_max_bytes=None)
    assert produce(own_broker, topic, 2000) is None


def test_what_only_the_file_says_is_refused_with_the_reason(own_broker: BrokerProcess) -> None:
    admin = AdminClient({"bootstrap.servers": own_broker.kafka})
    with pytest.raises(KafkaException, match="configuration file"):
        change(admin, "1", num_partitions="3")
    with pytest.raises(KafkaException, match="bound once"):
        change(admin, "1", listeners="PLAINTEXT://:1")


def test_reading_the_file_again_keeps_what_was_set(own_broker: BrokerProcess) -> None:
    admin = AdminClient({"bootstrap.servers": own_broker.kafka})
    change(admin, "1", log_retention_ms="70000000")
    assert own_broker.process is not None
    own_broker.config["topics"]["retention_ms"] = "2d"
    (own_broker.directory / "broker.yaml").write_text(yaml.safe_dump(own_broker.config))
    own_broker.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + _SECONDS
    while "configuration reloaded" not in own_broker.log:
        assert time.monotonic() < deadline, own_broker.log[-2000:]
        time.sleep(0.02)
    assert described(admin, ResourceType.BROKER, "1")["log.retention.ms"].value == "70000000"
    change(admin, "1", log_retention_ms=None)
    assert described(admin, ResourceType.BROKER, "1")["log.retention.ms"].value == str(2 * 86_400_000)
    topic = create_topic(own_broker.kafka, "t", 1)
    assert described(admin, ResourceType.TOPIC, topic)["retention.ms"].value == str(2 * 86_400_000)
