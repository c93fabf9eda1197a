"""STOMP with clients that others wrote: stomp.py, and stompit through node; beside the other wires."""

from __future__ import annotations

import json
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from megabroker.client.mega import MessageClient
from megabroker.testing import BrokerServer
from tests.interop.conftest import _npm_package
from tests.interop.wires import cursus_request, receive, receive_all, until

stomp = pytest.importorskip("stomp", reason="stomp.py is not installed")

pytestmark = pytest.mark.interop

DRIVER = pathlib.Path(__file__).with_name("stompit_driver.js")
WIRES = ["kafka", "mega", "cursus", "stomp"]


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerServer]:
    with BrokerServer({"topics": {"default_partitions": 2}}, protocols=WIRES) as running:
        yield running
        assert "Traceback" not in running.log, running.log[-3000:]


class Heard(stomp.ConnectionListener):  # type: ignore[misc]
    """Keeps what a client is told."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.receipts: list[str] = []
        self.errors: list[Any] = []
        self.beats = 0

    def on_message(self, frame: Any) -> None:
        self.messages.append(frame)

    def on_receipt(self, frame: Any) -> None:
        self.receipts.append(frame.headers["receipt-id"])

    def on_error(self, frame: Any) -> None:
        self.errors.append(frame)

    def on_heartbeat(self) -> None:
        self.beats += 1


@contextmanager
def client(
    port: int, version: str = "1.2", heartbeats: tuple[int, int] = (0, 0)
) -> Iterator[tuple[Any, Heard]]:
    kinds = {"1.0": stomp.Connection10, "1.1": stomp.Connection11, "1.2": stomp.Connection12}
    heard = Heard()
    options = {} if version == "1.0" else {"heartbeats": heartbeats}
    made = kinds[version]([("127.0.0.1", port)], **options)
    made.set_listener("", heard)
    made.connect(wait=True)
    try:
        yield made, heard
    finally:
        if made.is_connected():
            made.disconnect()


def bodies(heard: Heard) -> list[str]:
    return [frame.body for frame in heard.messages]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_topic_reaches_every_subscriber_in_every_version(server: BrokerServer, version: str) -> None:
    topic = f"/topic/news-{version}"
    port = server.ports["stomp"]
    with client(port, version) as (one, first), client(port) as (two, second):
        for made, heard in ((one, first), (two, second)):
            made.subscribe(topic, id="s", headers={"receipt": "ready"})
            until(lambda heard=heard: heard.receipts == ["ready"])
        for number in range(20):
            one.send(topic, f"m{number}", headers={"receipt": f"r{number}", "key": "k"})
        wanted = [f"m{number}" for number in range(20)]
        until(lambda: bodies(first) == wanted and bodies(second) == wanted)
        assert first.receipts[1:] == [f"r{number}" for number in range(20)]
        assert first.messages[0].headers["key"] == "k"


def test_a_queue_gives_each_message_to_one_consumer_and_again_when_it_is_gone(server: BrokerServer) -> None:
    port = server.ports["stomp"]
    with client(port) as (sender, sent), client(port) as (left, heard_left):
        for number in range(40):
            sender.send("/queue/jobs", str(number), headers={"receipt": str(number), "key": str(number)})
        until(lambda: len(sent.receipts) == 40)
        left.subscribe("/queue/jobs", id="l", ack="client-individual", headers={"prefetch-count": "20"})
        until(lambda: len(heard_left.messages) == 20)
        with client(port) as (right, heard_right):
            right.subscribe("/queue/jobs", id="r", ack="client-individual")
            until(lambda: len(heard_right.messages) == 20)
            assert sorted(map(int, bodies(heard_left) + bodies(heard_right))) == list(range(40))
            for frame in heard_right.messages:
                right.ack(frame.headers["ack"])
            left.ack(heard_left.messages[0].headers["ack"], receipt="done")
            until(lambda: heard_left.receipts == ["done"])
            kept = set(bodies(heard_left)[1:])
            left.transport.disconnect_socket()  # without a word: what it has not acknowledged goes on
            until(lambda: set(bodies(heard_right)[20:]) == kept)
            assert {one.headers["delivery-count"] for one in heard_right.messages[20:]} == {"2"}


def test_transactions_are_seen_whole_or_never(server: BrokerServer) -> None:
    with client(server.ports["stomp"]) as (made, heard):
        made.subscribe("/topic/ledger", id="s", headers={"receipt": "ready"})
        until(lambda: heard.receipts == ["ready"])
        for name, end in (("x", made.abort), ("y", made.commit)):
            made.begin(transaction=name)
            for number in range(10):
                key = {"key": str(number)}  # in both partitions
                made.send("/topic/ledger", f"{name}{number}", transaction=name, headers=key)
            end(name)
        until(lambda: len(heard.messages) == 10)
        assert sorted(bodies(heard)) == [f"y{number}" for number in range(10)]
        assert {frame.headers["partition"] for frame in heard.messages} == {"0", "1"}


def test_heart_beats_both_ways() -> None:
    with BrokerServer({"protocols": {"stomp": {"heart_beat_ms": 200}}}) as quick:
        port = quick.ports["stomp"]
        with client(port, heartbeats=(200, 200)) as (made, heard):
            until(lambda: heard.beats >= 3)
            time.sleep(0.5)
            assert made.is_connected()
        with socket.create_connection(("127.0.0.1", port), 5) as silent:
            silent.sendall(b"CONNECT\naccept-version:1.2\nheart-beat:200,0\n\n\0")
            assert silent.recv(1000).startswith(b"CONNECTED\n")
            assert receive_all(silent) == b""  # it said it would beat


def test_errors_say_what_would_be_right(server: BrokerServer) -> None:
    with client(server.ports["stomp"]) as (made, heard):
        made.send("orders", "x", headers={"receipt": "r"})
        until(lambda: heard.errors)
        assert heard.errors[0].headers["receipt-id"] == "r"
        assert "expected /topic/NAME or /queue/NAME" in heard.errors[0].headers["message"]
        until(lambda: not made.is_connected())


def test_the_other_wires_on_the_same_topic(server: BrokerServer) -> None:
    server.create_topic("shared")
    with client(server.ports["stomp"]) as (made, heard):
        made.subscribe("/topic/shared", id="s", headers={"receipt": "ready"})
        until(lambda: heard.receipts == ["ready"])
        producer = Producer({"bootstrap.servers": server.bootstrap})
        producer.produce("shared", b"kafka", key=b"k", headers={"colour": b"red"})
        assert producer.flush(10) == 0
        with MessageClient("127.0.0.1", server.ports["mega"]) as mega:
            mega.produce("shared", b"mega")
        with socket.create_connection(("127.0.0.1", server.ports["cursus"]), 5) as cursus:
            cursus.sendall(cursus_request("shared", b"cursus"))
            receive(cursus, 4)
            until(lambda: bodies(heard) == ["kafka", "mega", "cursus"])
        assert (heard.messages[0].headers["key"], heard.messages[0].headers["colour"]) == ("k", "red")
        made.send("/topic/shared", "stomp", headers={"key": "s", "shape": "round", "receipt": "r"})
        until(lambda: "r" in heard.receipts)
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "g"})
    consumer.assign([TopicPartition("shared", 0, 0)])
    rows = consumer.consume(4, 10)
    consumer.close()
    assert [row.value() for row in rows] == [b"kafka", b"mega", b"cursus", b"stomp"]
    assert rows[3].key() == b"s"
    assert ("shape", b"round") in (rows[3].headers() or ())


def test_stompit_through_node(server: BrokerServer) -> None:
    place = _npm_package("stompit", "1.0.0")
    done = subprocess.run(
        [shutil.which("node") or "node", str(DRIVER), str(place), str(server.ports["stomp"])],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"received": ["one", "t\0o", "three"], "colour": "a:b\n"}
