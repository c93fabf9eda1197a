"""Share groups through kill -9: what was accepted is never delivered again, what was not is delivered."""

from __future__ import annotations

import random
import threading
import time

import pytest
from confluent_kafka import KafkaException, Producer, ShareConsumer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.brokers import BrokerProcess

pytestmark = pytest.mark.interop

_RECORDS = 3000
_KILLS = 3
_DEADLINE_SECONDS = 60
_SILENT_POLLS = 4
"""Polls of half a second: longer than a lock holds."""


class Killer(threading.Thread):
    """Kills the broker and starts it again, a few times."""

    def __init__(self, broker: BrokerProcess, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.broker = broker
        self.chance = chance
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(_KILLS):
                time.sleep(self.chance.uniform(0.2, 1.0))
                self.broker.kill()
                self.broker.start()
        except BaseException as fault:
            self.fault = fault


def begin_with_the_first(broker: BrokerProcess, group: str) -> None:
    reset = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=[reset])
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.incremental_alter_configs([resource])[resource].result(10)


def test_accepted_once_and_never_again() -> None:
    chance = random.Random(7)
    config = {"topics": {"default_partitions": 1}, "shares": {"record_lock_duration_ms": "1s"}}
    with BrokerProcess(config) as broker:
        begin_with_the_first(broker, "g")
        producer = Producer({"bootstrap.servers": broker.kafka, "batch.size": "500"})
        for number in range(_RECORDS):
            producer.produce("t", b"%d" % number)
        assert producer.flush(20) == 0
        killer = Killer(broker, chance)
        killer.start()
        accepted: set[int] = set()
        uncertain: set[int] = set()
        deadline = time.monotonic() + _DEADLINE_SECONDS
        settings = {
            "bootstrap.servers": broker.kafka,
            "group.id": "g",
            "share.acknowledgement.mode": "explicit",
            "reconnect.backoff.max.ms": "200",
            "max.poll.records": "50",
        }
        consumer = ShareConsumer(settings)
        consumer.subscribe(["t"])
        silent = 0
        while silent < _SILENT_POLLS and time.monotonic() < deadline:
            given: set[int] = set()
            for message in consumer.poll(0.5):
                if message.error() is None:
                    assert message.offset() not in accepted, "delivered again although accepted"
                    consumer.acknowledge(message)
                    given.add(message.offset())
            silent = 0 if given or killer.is_alive() else silent + 1
            if given and committed(consumer):
                accepted |= given
            else:
                # The answer may have been lost with the broker, and the acknowledgement may be stored.
                uncertain |= given
        killer.join(30)
        consumer.close()
        assert killer.fault is None
        assert accepted | uncertain == set(range(_RECORDS))
        assert len(accepted) > _RECORDS / 2


def committed(consumer: ShareConsumer) -> bool:
    """Whether the broker says that it has taken all acknowledgements."""
    try:
        results = consumer.commit_sync(10)
    except KafkaException:
        return False
    return bool(results) and all(one.error is None for one in results)
