"""Topics are made, grown and deleted anywhere while workers are killed: all agree, and so do the files."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import threading
import time
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.interop.plain_client import PlainClient
from tests.interop.wires import until
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_CONFIG = {"durability": "os", "protocols": {"mega": {"enabled": False}, "cursus": {"enabled": False}}}
_TOPICS = 12


class Changes:
    """One administrator who changes topics at random, and asks again where a worker has died."""

    def __init__(self, address: str, seed: int) -> None:
        self.done = 0
        self._random = random.Random(seed)
        self._client = PlainClient(address)
        self._running = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            try:
                if self._ask() == 0:
                    self.done += 1
            except ConnectionError:  # nobody listens; nobody answered is in the answer
                time.sleep(0.02)
        self._client.close()

    def _ask(self) -> int | None:
        name, roll = f"s{self._random.randrange(_TOPICS)}", self._random.random()
        if roll < 0.5:
            topic = {"name": name, "num_partitions": self._random.randint(1, 4), "replication_factor": 1}
            return _outcome(self._client.ask("CreateTopics", 7, {"topics": [topic]}), "topics")
        if roll < 0.75:
            return _outcome(self._client.ask("DeleteTopics", 6, {"topics": [{"name": name}]}), "responses")
        more = {"name": name, "count": self._random.randint(3, 7), "assignments": None}
        return _outcome(self._client.ask("CreatePartitions", 3, {"topics": [more]}), "results")

    def stop(self) -> None:
        self._running = False
        self._thread.join(30)
        assert not self._thread.is_alive()


def _outcome(answer: dict[str, Any], rows: str) -> int | None:
    if rows not in answer:
        time.sleep(0.02)
        return None
    code: int = answer[rows][0]["error_code"]
    return code


def view(address: str) -> dict[tuple[str, str], list[tuple[int, int, int]]]:
    """Return what a worker tells of topics: by name and id, number, leader and error of each partition."""
    with PlainClient(address) as client:
        topics = client.ask("Metadata", 12, {"topics": None})["topics"]
    return {
        (one["name"], str(one["topic_id"])): [
            (part["partition_index"], part["leader_id"], part["error_code"]) for part in one["partitions"]
        ]
        for one in topics
    }


def test_all_agree_about_topics_whoever_was_killed(tmp_path: pathlib.Path) -> None:
    chosen = random.Random(7)
    with WorkersProcess(2, _CONFIG, tmp_path) as broker:
        assert isinstance(broker, WorkersProcess)
        changes = [Changes(broker.nodes[number % 2], number) for number in range(4)]
        try:
            for _ in range(6):
                time.sleep(chosen.uniform(0.1, 0.9))
                pid = broker.pids().get(chosen.choice((1, 2)))
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
            before = [one.done for one in changes]
            until(lambda: all(one.done > was + 5 for one, was in zip(changes, before, strict=True)), 30)
        finally:
            for one in changes:
                one.stop()
        first, second = broker.nodes
        until(lambda: view(first) == view(second), 20, "both tell the same")
        topics = view(first)
        assert not [part for parts in topics.values() for part in parts if part[2]]
        wanted = {f"{name}-{index}" for (name, _), parts in topics.items() for index, _, _ in parts}

        def there() -> set[str]:
            return {path.name for path in (tmp_path / "data").glob("s*-*")}

        until(lambda: there() == wanted, 20, "there are the logs of these topics and no others")
        producer = Producer({"bootstrap.servers": broker.kafka, "message.timeout.ms": 20_000})
        failed: list[Any] = []
        for (name, _), parts in topics.items():
            for index, _, _ in parts:
                producer.produce(
                    name, b"x", partition=index, on_delivery=lambda error, _: error and failed.append(error)
                )
        assert producer.flush(30) == 0
        assert not failed
        assert "stray-partitions" not in broker.log
        assert "partition-unavailable" not in broker.log
