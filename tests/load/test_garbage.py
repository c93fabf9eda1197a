"""What the broker lets go of is in no circle, and of much that stays little is searched again and again."""

from __future__ import annotations

import gc
import json
import os
import pathlib
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from megabroker.ops import collecting
from megabroker.ops.collecting import ShortCollections
from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.wires import cursus_request, kafka_request, mega_request, until

_ROUNDS = 40
_FEW = 150
"""So many pieces of garbage may be found; what is done 40 times leaves more."""


class Searched(BrokerProcess):
    """A broker within ``tests.load.garbage``.

    Args:
        searches: whether garbage is searched for as ever, too.
    """

    def __init__(self, config: dict[str, Any], *, searches: bool = False) -> None:
        super().__init__(config)
        self._searches = searches

    def start(self, env: Mapping[str, str] | None = None) -> BrokerProcess:
        """Start it."""
        return super().start({**(env or {}), "SEARCH": str(int(self._searches))})

    def command(self, config_file: pathlib.Path) -> list[str]:  # type: ignore[override]
        own = [sys.executable, str(pathlib.Path(__file__).with_name("garbage.py"))]
        return [*own, str(self.directory / "garbage.jsonl"), *super().command(config_file)[2:]]

    def look(self) -> dict[str, Any]:
        """Return what is found now."""
        assert self.process is not None
        report = self.directory / "garbage.jsonl"
        before = report.read_text().count("\n") if report.exists() else 0
        os.kill(self.process.pid, signal.SIGUSR1)
        until(lambda: report.exists() and report.read_text().count("\n") > before, 20, "a report")
        found: dict[str, Any] = json.loads(report.read_text().splitlines()[-1])
        return found

    def check(self) -> None:
        """Find nothing, while all of it comes to its end, but what does not depend on how much there was."""
        for _ in range(4):
            time.sleep(0.2)
            found = self.look()["found"]
            assert sum(found.values()) < _FEW, found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(certificates: Certificates) -> Iterator[Searched]:
    endpoint = "tcp:0:interface=127.0.0.1"
    config = {
        "durability": "os",
        "protocols": {
            "kafka": {
                "listeners": [
                    {"endpoint": endpoint},
                    {"name": "tls", "endpoint": endpoint, "tls": certificates.tls()},
                ]
            }
        },
    }
    with Searched(config) as started:
        line = next(one for one in started.log.splitlines() if "is ready after" in one)
        plain, tls = (part.split(" at ")[1] for part in line.split("; ")[0].split(", ") if "kafka" in part)
        started.ports.update(kafka=int(plain.rpartition(":")[2]), tls=int(tls.rpartition(":")[2]))
        admin = AdminClient({"bootstrap.servers": started.kafka})
        admin.create_topics([NewTopic("kept", 4)])["kept"].result(10)
        started.look()
        yield started


def test_connections_leave_nothing(broker: Searched, certificates: Certificates) -> None:
    requests = {
        "kafka": kafka_request(18, 0, b""),
        "mega": mega_request(2, "kept", struct.pack(">ii", 0, 0)),
        "cursus": cursus_request("", b"CONSUME kept 0 0"),
    }
    for protocol, request in requests.items():
        for number in range(_ROUNDS):
            with socket.create_connection(("127.0.0.1", broker.ports[protocol])) as connection:
                connection.sendall(request if number % 2 else request[:5])
        for _ in range(_ROUNDS):
            with socket.create_connection(("127.0.0.1", broker.ports[protocol])) as connection:
                connection.sendall(b"nonsense" * 9)
    broker.check()


def test_connections_over_tls_leave_nothing(broker: Searched, certificates: Certificates) -> None:
    context = certificates.context()
    for number in range(_ROUNDS):
        with (
            socket.create_connection(("127.0.0.1", broker.ports["tls"])) as below,
            context.wrap_socket(below, server_hostname="localhost") as connection,
        ):
            connection.sendall(kafka_request(18, 0, b"") if number % 2 else b"nonsense" * 9)
            connection.recv(1000)
        with socket.create_connection(("127.0.0.1", broker.ports["tls"])) as connection:
            connection.sendall(b"\x16\x03\x01" if number % 2 else b"GET / HTTP/1.1\r\n\r\n")
    broker.check()


def test_topics_and_transactions_leave_nothing(broker: Searched) -> None:
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    names = [f"gone-{number}" for number in range(_ROUNDS)]
    for made in admin.create_topics([NewTopic(name, 3) for name in names]).values():
        made.result(20)
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": "gone"})
    producer.init_transactions(10)
    for number, name in enumerate(names):
        producer.begin_transaction()
        for partition in range(3):
            producer.produce(name, b"x", partition=partition)
        producer.commit_transaction(10) if number % 2 else producer.abort_transaction(10)
    reader = Consumer(
        {"bootstrap.servers": broker.kafka, "group.id": "gone", "auto.offset.reset": "earliest"}
    )
    reader.subscribe(names)
    read: list[Any] = []
    until(lambda: read.extend(reader.consume(100, 0.2)) or len(read) >= 3 * _ROUNDS // 2, 20, "all is read")
    reader.close()
    for gone in admin.delete_topics(names).values():
        gone.result(20)
    broker.check()


def test_many_partitions_are_not_searched_again_and_again() -> None:
    with Searched({"durability": "os"}, searches=True) as broker:
        before = broker.look()
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        for number in range(3):
            admin.create_topics([NewTopic(f"many-{number}", 1000)])[f"many-{number}"].result(60)
        after = broker.look()
    made = after["left_out"] + after["searched"] - before["left_out"] - before["searched"]
    assert made > 60_000
    assert after["left_out"] - before["left_out"] > made / 2


class Node:
    def __init__(self) -> None:
        self.itself: Any = self


def test_all_is_searched_again_once_memory_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_LONG_SECONDS", 0.0)
    blocks = sys.getallocatedblocks()
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: blocks)
    short = ShortCollections(much_blocks=1000)
    short.start()
    try:
        nodes = [Node() for _ in range(100)]
        gc.collect()
        assert short.frozen == 1
        nodes.clear()
        gc.collect()
        assert sum(isinstance(one, Node) for one in gc.get_objects()) == 0, "they are left out"
        assert gc.get_freeze_count() > 0
        blocks = 2 * blocks + 1
        gc.collect()
        assert short.thawed == 1
        assert sum(isinstance(one, Node) for one in gc.get_objects()) == 100
        gc.collect()
        assert sum(isinstance(one, Node) for one in gc.get_objects()) == 0
    finally:
        short.stop()
