"""kcat: metadata, producing, consuming, offsets by time, groups."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.interop.kafka_clients import Kcat
from tests.interop.test_kafka_confluent import consumer

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]


@pytest.fixture
def client(kafka: str, kcat: str) -> Kcat:
    """kcat against the shared broker."""
    return Kcat(kafka, kcat)


def test_list(client: Kcat, new_topic: New) -> None:
    topic = new_topic(3)
    listed = json.loads(client.run("-L", "-J", "-t", topic))
    assert [broker["id"] for broker in listed["brokers"]] == [1]
    assert listed["brokers"][0]["name"] == client.bootstrap
    (found,) = listed["topics"]
    assert found["topic"] == topic
    assert [(part["partition"], part["leader"]) for part in found["partitions"]] == [(0, 1), (1, 1), (2, 1)]
    assert "broker 1 at" in client.run("-L").decode()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_produce_and_consume_with_key_and_headers(codec: str, client: Kcat, new_topic: New) -> None:
    topic = new_topic()
    lines = b"".join(b"key%d:%s\n" % (number, b"value " * 50) for number in range(50))
    client.run("-P", "-t", topic, "-K:", "-H", "one=1", "-H", "two=", "-z", codec, text=lines)
    output = client.run("-C", "-t", topic, "-e", "-q", "-J", "-X", "fetch.wait.max.ms=50")
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["offset"] for row in rows] == list(range(50))
    assert [row["key"] for row in rows] == [f"key{number}" for number in range(50)]
    assert {row["payload"] for row in rows} == {"value " * 50}
    assert {tuple(row["headers"]) for row in rows} == {("one", "1", "two", "")}
    assert {row["tstype"] for row in rows} == {"create"}


def test_query_offsets(client: Kcat, new_topic: New) -> None:
    topic = new_topic()
    client.run("-P", "-t", topic, text=b"one\ntwo\nthree\n")

    def query(stamp: int) -> str:
        return client.run("-Q", "-t", f"{topic}:0:{stamp}").decode().strip()

    assert query(-1) == f"{topic} [0] offset 3"
    assert query(-2) == f"{topic} [0] offset 0"
    assert query(1) == f"{topic} [0] offset 0"
    assert query(99_999_999_999_999) == f"{topic} [0] offset -1"


def test_consume_from_the_tail_and_a_count(client: Kcat, new_topic: New) -> None:
    topic = new_topic()
    client.run("-P", "-t", topic, text=b"one\ntwo\nthree\nfour\n")
    options = ("-C", "-t", topic, "-e", "-q", "-X", "fetch.wait.max.ms=50")
    assert client.run(*options, "-o", "-2") == b"three\nfour\n"
    assert client.run(*options, "-o", "1", "-c", "2") == b"two\nthree\n"


def test_group_goes_on_where_it_stopped(client: Kcat, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(2), unique("group")
    options = ["-G", group, "-q", "-X", "auto.offset.reset=earliest", "-X", "fetch.wait.max.ms=50"]
    options += ["-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=100", "-e", topic]
    client.run("-P", "-t", topic, "-p", "0", text=b"one\ntwo\n")
    client.run("-P", "-t", topic, "-p", "1", text=b"three\n")
    assert sorted(client.run(*options).split()) == [b"one", b"three", b"two"]
    client.run("-P", "-t", topic, "-p", "1", text=b"four\n")
    assert client.run(*options) == b"four\n"


def test_idempotent_producer(client: Kcat, new_topic: New) -> None:
    topic = new_topic()
    lines = b"".join(b"%d\n" % number for number in range(1000))
    client.run("-P", "-t", topic, "-X", "enable.idempotence=true", "-X", "batch.num.messages=10", text=lines)
    assert client.run("-C", "-t", topic, "-e", "-q", "-X", "fetch.wait.max.ms=50") == lines


def test_a_killed_member_is_removed_when_its_session_ends(
    client: Kcat, new_topic: New, unique: Unique
) -> None:
    topic, group = new_topic(4), unique("group")
    options = ["-X", "session.timeout.ms=600", "-X", "heartbeat.interval.ms=100"]
    command = [client.path, "-b", client.bootstrap, "-G", group, "-q", *options, topic]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as member,
        consumer(client.bootstrap, group, partition_assignment_strategy="range,roundrobin") as survivor,
    ):
        try:
            survivor.subscribe([topic])

            def seconds_until(partitions: int) -> float:
                began = time.monotonic()
                while len(survivor.assignment()) != partitions:
                    assert time.monotonic() < began + 15
                    survivor.poll(0.02)
                return time.monotonic() - began

            seconds_until(2)
            member.kill()
            assert 0.3 < seconds_until(4) < 5
        finally:
            member.kill()
