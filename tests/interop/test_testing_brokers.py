"""Brokers for tests by themselves: in the program's reactor, in a thread, in a process; and their faults."""

from __future__ import annotations

import importlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from megabroker.testing import BrokerServer, EmbeddedBroker, Fault, ServerError
from tests.interop.wires import until

pytestmark = pytest.mark.interop

reactor = importlib.import_module("twisted.internet.reactor")


class InTheReactor(TestCase):
    """For programs that run Twisted's reactor, as this test case does."""

    async def test_several_are_served_and_nothing_is_left(self) -> None:
        async with EmbeddedBroker() as one, EmbeddedBroker({"node": {"id": 4}}) as other:
            assert set(one.ports) == {"kafka", "mega", "cursus"}
            assert not set(one.ports.values()) & set(other.ports.values())
            before = dict(one.ports)
            await one.reset()
            assert one.ports == before
            assert "is ready after" in one.log
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", before["kafka"]), 5)

    async def test_a_delay_ends_with_the_broker(self) -> None:
        # trial fails a test that leaves a delayed call.
        async with EmbeddedBroker() as broker:
            broker.inject(api="ApiVersions", delay_ms=60_000)
            with socket.create_connection(("127.0.0.1", broker.ports["kafka"]), 5) as client:
                client.sendall(bytes.fromhex("0000000c 0012 0000 00000001 0002 6d65"))
                while broker.met() == [0]:
                    await deferLater(reactor, 0.01)

    async def test_a_fault_in_the_configuration_fails_the_start(self) -> None:
        with pytest.raises(Exception, match="storage: 'disk': expected one of file, memory"):
            await EmbeddedBroker({"storage": "disk"}).start()

    async def test_who_would_wait_in_the_reactor_is_told(self) -> None:
        await deferLater(reactor, 0)
        with pytest.raises(RuntimeError, match="expected async with"), EmbeddedBroker():
            pass


THREAD = """
from confluent_kafka import Producer
from megabroker.testing import EmbeddedBroker

with EmbeddedBroker() as one, EmbeddedBroker() as other:
    for broker in (one, other):
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce("t", b"x")
        assert producer.flush(10) == 0
print("done")
"""


def test_a_program_without_a_reactor_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREAD], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


PARENT = """
import time
from megabroker.testing import BrokerServer

print(BrokerServer().start().pid, flush=True)
time.sleep(60)
"""


def test_a_server_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = pathlib.Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().split(") ")[1][0] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the broker outlives its parent")


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerError, match="storage: 'disk': expected one of file, memory"):
        BrokerServer({"storage": "disk"}).start()


def test_a_server_that_is_started_again_begins_its_log_anew() -> None:
    with BrokerServer() as server:
        for _ in range(3):
            server.clean()
        assert server.stop() == 0
        server.start()
        assert server.log.count("is ready after") == 1


def test_several_workers_are_refused() -> None:
    for kind in (BrokerServer, EmbeddedBroker):
        with pytest.raises(ValueError, match="workers: 2: expected 1"):
            kind({"workers": 2})


@pytest.fixture(scope="module")
def server() -> Any:
    with BrokerServer() as started:
        yield started


@pytest.fixture
def broker(server: BrokerServer) -> BrokerServer:
    server.clean()
    return server


def produced(broker: BrokerServer, value: bytes = b"x", **config: Any) -> Any:
    """Return the error of one message, or None."""
    outcome: list[Any] = []
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 8000, "log_level": 0, **config}
    )
    producer.produce("t", value, on_delivery=lambda error, _: outcome.append(error))
    producer.flush(10)
    return outcome[0]


def consumed(broker: BrokerServer, count: int) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "g",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe(["t"])
    found = [message.value() for message in consumer.consume(count, 10)]
    found += [message.value() for message in consumer.consume(1, 0.3)]
    consumer.close()
    return found


def test_a_client_retries_a_retriable_error(broker: BrokerServer) -> None:
    broker.inject(api="Produce", error="NOT_LEADER_OR_FOLLOWER", times=2)
    assert produced(broker) is None
    assert broker.met() == [2]
    assert consumed(broker, 1) == [b"x"]


def test_a_client_is_told_an_error_that_stays(broker: BrokerServer) -> None:
    broker.inject(Fault(api="Produce", error="MESSAGE_TOO_LARGE"))
    assert produced(broker).name() == "MSG_SIZE_TOO_LARGE"
    broker.heal()
    assert produced(broker) is None


def test_an_answer_that_is_lost_makes_a_repeat_unless_the_producer_is_idempotent(
    broker: BrokerServer,
) -> None:
    broker.inject(api="Produce", drop="after", times=1)
    assert produced(broker, b"twice") is None
    assert consumed(broker, 2) == [b"twice", b"twice"]
    broker.clean()
    broker.inject(api="Produce", drop="after", times=1)
    assert produced(broker, b"once", **{"enable.idempotence": True}) is None
    assert consumed(broker, 1) == [b"once"]


def test_a_connection_that_is_dropped_before(broker: BrokerServer) -> None:
    broker.inject(api="Produce", drop="before", times=3)
    assert produced(broker) is None
    assert consumed(broker, 1) == [b"x"]


def test_a_delay(broker: BrokerServer) -> None:
    assert produced(broker) is None
    broker.inject(api="Produce", delay_ms=700, times=1)
    began = time.monotonic()
    assert produced(broker) is None
    assert 0.7 <= time.monotonic() - began < 5
    broker.inject(api="Metadata", delay_ms=60_000, client_id="slow")
    with pytest.raises(KafkaException, match="Failed to get metadata"):
        AdminClient({"bootstrap.servers": broker.bootstrap, "client.id": "slow"}).list_topics(timeout=1)
    AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10)


def test_chance_is_the_same_with_the_same_seed(broker: BrokerServer) -> None:
    def met(seed: int) -> list[int]:
        broker.clean()
        produced(broker)
        broker.inject(api="Produce", delay_ms=1, probability=0.5, seed=seed)
        for _ in range(12):
            assert produced(broker) is None
        return broker.met()

    assert met(1) == met(1)
    assert 0 < met(2)[0] < 12


def test_errors_in_other_requests(broker: BrokerServer) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    broker.inject(api="CreateTopics", error="POLICY_VIOLATION", times=1)
    with pytest.raises(KafkaException, match="POLICY_VIOLATION"):
        admin.create_topics([NewTopic("made", 1)])["made"].result(10)
    admin.create_topics([NewTopic("made", 1)])["made"].result(10)
    broker.inject(api="FindCoordinator", error="COORDINATOR_NOT_AVAILABLE", times=2)
    assert produced(broker) is None
    assert consumed(broker, 1) == [b"x"]
    assert broker.met()[1] == 2


def test_faults_that_cannot_be(broker: BrokerServer) -> None:
    for fields, complaint in (
        ({"api": "Produc", "drop": "before"}, "api='Produc': expected one of"),
        ({"error": "NO_SUCH"}, "error='NO_SUCH': expected a number or one of"),
        ({"drop": "later"}, "drop='later': expected"),
        ({"api": "Produce"}, "a fault that does nothing"),
        ({"error": 3, "drop": "after"}, "a fault with error and drop"),
        ({"error": 3, "probability": 2}, "probability=2"),
        ({"error": 3, "times": -1}, "times=-1"),
    ):
        with pytest.raises(ValueError, match=complaint):
            broker.inject(**fields)
    assert broker.met() == []


def test_clean_forgets_everything(broker: BrokerServer) -> None:
    assert produced(broker) is None
    assert consumed(broker, 1) == [b"x"]
    before = broker.ports
    broker.clean()
    assert broker.ports == before
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    assert admin.list_topics(timeout=10).topics == {}
    assert admin.list_consumer_groups().result(10).valid == []
    until(lambda: broker.log.count("is ready after") == 1)
