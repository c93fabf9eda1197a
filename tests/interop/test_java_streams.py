"""Kafka Streams: a word count that is exact whatever is killed, in groups of both kinds."""

from __future__ import annotations

import contextlib
import pathlib
import queue
import random
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from megabroker.protocols.kafka.schema import streams_group_describe
from tests.brokers import BrokerProcess
from tests.http.asking import Api
from tests.interop.command import Command
from tests.interop.conftest import check_log, create_topic, java_or_skip
from tests.interop.java import STREAMS, Java
from tests.interop.wires import kafka_request, receive, until

pytestmark = pytest.mark.interop

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon"]
PARTITIONS = 3
_SECONDS = 60
_GROUP_ID_NOT_FOUND = 69


class WordCount:
    """The running application; use it as a context manager."""

    def __init__(self, java: Java, bootstrap: str, state: pathlib.Path, protocol: str) -> None:
        self._command = java.command(
            "WordCount", bootstrap, "word-count", "lines", "counts", str(state), protocol, "2"
        )
        self.states: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> WordCount:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.states.put(line.strip())

    def until_running(self) -> None:
        seen = []
        with contextlib.suppress(queue.Empty):
            while True:
                seen.append(self.states.get(timeout=_SECONDS))
                if seen[-1] == "state RUNNING":
                    return
        raise AssertionError(f"not running: {seen}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


def write(bootstrap: str, lines: int, seed: int) -> Counter[str]:
    """Write lines of words; return how often each word is in them."""
    chosen = random.Random(seed)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    written: Counter[str] = Counter()
    for number in range(lines):
        words = chosen.choices(WORDS, k=3)
        written.update(words)
        producer.produce("lines", " ".join(words), partition=number % PARTITIONS)
    assert producer.flush(_SECONDS) == 0
    return written


def committed_counts(bootstrap: str) -> dict[str, int]:
    """Read what the application has committed: the last count of each word; counts must only grow."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": "reader",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = Consumer(settings)
    consumer.assign([TopicPartition("counts", index, 0) for index in range(PARTITIONS)])
    found: dict[str, int] = {}
    ends = 0
    while ends < PARTITIONS:
        message = consumer.poll(_SECONDS)
        assert message is not None
        if message.error() is not None:
            ends += 1
            continue
        word, count = message.key().decode(), int(message.value())
        assert count > found.get(word, 0), f"{word} was {found[word]} and then {count}"
        found[word] = count
    consumer.close()
    return found


def describe_streams(broker: BrokerProcess, group_id: str) -> streams_group_describe.Response.Group:
    """Ask for a streams group; no client in Python can."""
    body = streams_group_describe.Request(group_ids=[group_id]).encode(0)
    with socket.create_connection(("127.0.0.1", broker.ports["kafka"]), 10) as connection:
        connection.sendall(kafka_request(89, 0, b"\0" + body))
        data = receive(connection, struct.unpack(">i", receive(connection, 4))[0])
    response, end = streams_group_describe.Response.decode(data, 0, 5)
    assert end == len(data)
    return response.groups[0]


@pytest.fixture(scope="module")
def streams() -> Java:
    return java_or_skip(STREAMS, "WordCount")


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    config = {"groups": {"streams_heartbeat_interval_ms": 500, "streams_session_timeout_ms": "3s"}}
    with BrokerProcess(config) as broker:
        yield broker
        assert broker.stop() == 0
        check_log(broker.log)


@pytest.mark.parametrize("protocol", ["classic", "streams"])
def test_word_count_is_exact(
    protocol: str, streams: Java, broker: BrokerProcess, tmp_path: pathlib.Path
) -> None:
    for topic in ("lines", "counts"):
        create_topic(broker.kafka, topic, PARTITIONS)
    total: Counter[str] = Counter()

    def counted() -> bool:
        return committed_counts(broker.kafka) == total

    with WordCount(streams, broker.kafka, tmp_path / "one", protocol) as one:
        one.until_running()
        total += write(broker.kafka, 500, 1)
        until(counted, _SECONDS, "the first lines are counted")
        total += write(broker.kafka, 2000, 2)
        time.sleep(0.3)
        broker.kill()
        broker.start()
        total += write(broker.kafka, 500, 3)
        until(counted, _SECONDS, "counted across a kill of the broker")
        with WordCount(streams, broker.kafka, tmp_path / "two", protocol) as two:
            two.until_running()
            total += write(broker.kafka, 2000, 4)
            one.kill()
            total += write(broker.kafka, 500, 5)
            until(counted, _SECONDS, "counted across a kill of the application")
            described = describe_streams(broker, "word-count")
            if protocol == "classic":
                assert described.error_code == _GROUP_ID_NOT_FOUND
            else:
                assert (described.error_code, described.group_state) == (0, "Stable")
                tasks = sorted(
                    (tasks.subtopology_id, index)
                    for member in described.members
                    for tasks in member.assignment.active_tasks
                    for index in tasks.partitions
                )
                assert tasks == [(part, index) for part in ("0", "1") for index in range(PARTITIONS)]
                command, reset = Command(broker.kafka), ["group", "reset", "word-count", "--to-earliest"]
                assert "stop them first" in command.refused(*reset, "--yes")
    if protocol == "streams":
        all_is_read_again(broker, "word-count")
        total += total
        with WordCount(streams, broker.kafka, tmp_path / "three", protocol) as three:
            three.until_running()
            until(counted, _SECONDS, "what is read again is counted again, and only once")


def all_is_read_again(broker: BrokerProcess, group: str) -> None:
    """Have a streams group without members begin anew, by the command or by HTTP."""
    command = Command(broker.kafka)
    until(lambda: command.json("group", "describe", group)[0]["state"] == "Empty", 20, "nobody is in it")
    dry = command.json("group", "reset", group, "--to-earliest", "--dry-run")
    assert {(one["topic"], one["partition"], one["to"]) for one in dry["partitions"]} == {
        ("lines", index, 0) for index in range(PARTITIONS)
    }
    [told] = command.json("group", "describe", group)
    assert {one["topic"] for one in told["partitions"]} == {"lines", f"{group}-counts-repartition"}
    address = f"/v1/groups/{group}/offsets/reset"
    moved = Api(broker.http_ports[0]).post(address, {"to": "earliest", "dry_run": True})["offsets"]
    assert [(one["topic"], one["offset"]) for one in moved] == [("lines", 0)] * PARTITIONS
    command.text("group", "reset", group, "--to-earliest", "--yes")
