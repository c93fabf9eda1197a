"""MEGA and cursus clients of two worker processes, either of which is killed by kill -9."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter

import pytest

from megabroker.client import BadResponse, ConnectFailed, ConnectionLost, MessageClient, RequestTimedOut
from tests.interop.test_cursus_wire import Client
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_LOST = (BadResponse, ConnectFailed, ConnectionLost, RequestTimedOut, OSError)
_TOPICS = ("a", "b", "c", "d")


class MegaWriter(threading.Thread):
    """Produces to all topics in turn over one connection after another."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.word = name
        self.stored: dict[tuple[str, int], str] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            with contextlib.suppress(*_LOST), MessageClient("127.0.0.1", self.port, timeout=40) as client:
                while not self.stop.is_set():
                    topic = _TOPICS[number % len(_TOPICS)]
                    payload = f"{self.word} {number}"
                    number += 1
                    answer = client.produce(topic, payload)
                    if answer["success"]:
                        where = (topic, answer["offset"])
                        assert where not in self.stored, where
                        self.stored[where] = payload


class CursusWriter(threading.Thread):
    """Publishes one message after the other, each again until it is acknowledged."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.word = name
        self.stored: set[str] = set()
        self.uncertain: set[str] = set()
        self.stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            message = f"{self.word} {number}"
            with contextlib.suppress(OSError, EOFError), Client(self.port) as client:
                while not self.stop.is_set():
                    message = f"{self.word} {number}"
                    if client.ask(f"PUBLISH cur {message}").startswith("ERROR"):
                        self.uncertain.add(message)
                        time.sleep(0.01)
                    else:
                        self.stored.add(message)
                        number += 1
            self.uncertain.add(message)


def kill(broker: WorkersProcess, node_id: int) -> None:
    pid, times = broker.pids()[node_id], broker.served_again(node_id) + 1
    os.kill(pid, signal.SIGKILL)
    broker.until_serving(node_id, but=pid, times=times)


def contents(broker: WorkersProcess, partitions: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for index in range(partitions):
        offset = 0
        while True:
            with Client(broker.ports["cursus"]) as client:
                client.send(f"CONSUME cur {index} {offset}".encode())
                messages = [frame.decode() for frame in client.rest()]
            found.update(messages)
            offset += len(messages)
            if len(messages) < 8192:
                break
    return found


def test_no_false_word_whichever_worker_is_killed() -> None:
    with WorkersProcess(2) as broker:
        assert isinstance(broker, WorkersProcess)
        mega, cursus = broker.ports["mega"], broker.ports["cursus"]
        with MessageClient("127.0.0.1", mega) as client:
            for topic in _TOPICS:
                assert client.create_topic(topic)["success"]
        with Client(cursus) as made:
            assert "4" in made.ask("CREATE cur 4")
        writers = [MegaWriter(mega, f"m{n}") for n in range(4)]
        publishers = [CursusWriter(cursus, f"c{n}") for n in range(4)]
        for thread in (*writers, *publishers):
            thread.start()
        for node_id in (2, 1):
            time.sleep(0.5)
            kill(broker, node_id)
        time.sleep(0.7)
        for thread in (*writers, *publishers):
            thread.stop.set()
        for thread in (*writers, *publishers):
            thread.join(45)
            assert not thread.is_alive()
        with MessageClient("127.0.0.1", mega) as client:
            stored = {where: payload for writer in writers for where, payload in writer.stored.items()}
            assert len(stored) == sum(len(writer.stored) for writer in writers) > 20
            for (topic, offset), payload in list(stored.items())[:: 1 + len(stored) // 200]:
                assert client.consume(topic, offset)["payload"] == payload
        found = contents(broker, 4)
        acknowledged = {message for one in publishers for message in one.stored}
        uncertain = {message for one in publishers for message in one.uncertain}
        assert len(acknowledged) > 20
        assert acknowledged <= found.keys()
        # What was stored when its worker died, and was not acknowledged, is stored again; nothing else is.
        assert {message for message, count in found.items() if count > 1} <= uncertain
        assert found.keys() <= acknowledged | uncertain


def test_repeats_are_known_after_another_number_of_workers() -> None:
    messages = [f"message {number}" for number in range(60)]

    def publish(broker: WorkersProcess) -> None:
        for begin in range(0, len(messages), 20):
            with Client(broker.ports["cursus"]) as client:
                for message in messages[begin : begin + 20]:
                    assert not client.ask(f"PUBLISH cur {message}").startswith("ERROR")

    with WorkersProcess(2) as broker:
        assert isinstance(broker, WorkersProcess)
        with Client(broker.ports["cursus"]) as client:
            client.ask("CREATE cur 3")
        for workers in (2, 1):
            if workers != 2:
                assert broker.stop() == 0
                broker.config["workers"] = workers
                broker.start()
            publish(broker)
            assert contents(broker, 3) == Counter(messages)
