"""A broker under something that does as systemd does: a socket for messages, sockets handed over."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import yaml
from confluent_kafka import Consumer, Producer

from tests.brokers import BrokerProcess

_AS_ITSELF = """
import os, sys
handed_over, command = [int(one) for one in sys.argv[1].split(",")], sys.argv[2:]
high = [os.dup2(one, 100 + at) for at, one in enumerate(handed_over)]
for at, one in enumerate(high):
    os.dup2(one, 3 + at, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(command[0], command)
"""
"""Becomes another process as systemd does: descriptors from 3 on, its own number in LISTEN_PID."""


class Told:
    """What a process tells, read from a real socket."""

    def __init__(self, path: pathlib.Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self.messages: list[str] = []

    def until(self, found: Callable[[list[str]], bool], seconds: float = 20) -> list[str]:
        """Read until something is there; return all that was told since the last time."""
        deadline = time.monotonic() + seconds
        while not found(self.messages):
            assert time.monotonic() < deadline, self.messages
            try:
                self.messages.append(self._socket.recv(4096).decode())
            except TimeoutError:
                pass
        messages, self.messages = self.messages, []
        return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def told(tmp_path: pathlib.Path) -> Iterator[Told]:
    found = Told(tmp_path / "notify")
    yield found
    found.close()


def environment(tmp_path: pathlib.Path, watchdog_seconds: float) -> dict[str, str]:
    return {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": str(int(watchdog_seconds * 1_000_000)),
    }


def begins(text: str) -> Callable[[list[str]], bool]:
    return lambda messages: any(message.startswith(text) for message in messages)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_life(tmp_path: pathlib.Path, told: Told, workers: int) -> None:
    broker = BrokerProcess({"workers": workers})
    try:
        broker.start(environment(tmp_path, 1.0))
        told.until(begins("READY=1\nSTATUS=serving"))
        assert told.until(lambda messages: messages.count("WATCHDOG=1") >= 2)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        told.until(begins("RELOADING=1\nMONOTONIC_USEC="))
        told.until(begins("READY=1"))
        producer = Producer({"bootstrap.servers": broker.kafka})
        for number in range(40):
            producer.produce(f"topic-{number % 4}", "kept")
        assert producer.flush(10) == 0
        assert broker.stop() == 0
        told.until(begins("STOPPING=1"))
        broker.start(environment(tmp_path, 1.0))
        messages = told.until(begins("READY=1"))
        opening = next(one for one in messages if one.startswith("STATUS=opening logs: "))
        assert "EXTEND_TIMEOUT_USEC=" in opening
    finally:
        broker.kill()


def test_a_process_that_does_nothing_is_not_well(tmp_path: pathlib.Path, told: Told) -> None:
    with BrokerProcess() as broker:
        broker.stop()
        broker.start(environment(tmp_path, 0.4))
        told.until(lambda messages: messages.count("WATCHDOG=1") >= 2)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        told.until(lambda messages: True)
        with pytest.raises(AssertionError):
            told.until(begins("WATCHDOG"), seconds=0.6)
        broker.process.send_signal(signal.SIGCONT)
        told.until(begins("WATCHDOG"))


def test_sockets_that_are_handed_over(tmp_path: pathlib.Path) -> None:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [one.getsockname()[1] for one in listening]
    names = ("kafka", "http")
    config = {
        "data_dir": str(tmp_path / "data"),
        "http": {"endpoint": "systemd:domain=INET:name=http"},
        "protocols": {
            "kafka": {"listeners": [{"endpoint": "systemd:domain=INET:name=kafka"}]},
            "mega": {"enabled": False},
            "cursus": {"enabled": False},
        },
    }
    path = tmp_path / "broker.yaml"
    path.write_text(yaml.safe_dump(config))
    command = BrokerProcess.command(path)
    started = subprocess.Popen(
        [sys.executable, "-c", _AS_ITSELF, ",".join(str(one.fileno()) for one in listening), *command],
        env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": ":".join(names)},
        pass_fds=[one.fileno() for one in listening],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
    )
    try:
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{ports[0]}"})
        producer.produce("handed-over", "kept")
        assert producer.flush(20) == 0
        consumer = Consumer(
            {"bootstrap.servers": f"127.0.0.1:{ports[0]}", "group.id": "g", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["handed-over"])
        message = consumer.poll(20)
        assert message is not None
        assert message.value() == b"kept"
        consumer.close()
        with socket.create_connection(("127.0.0.1", ports[1])) as asked:
            asked.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert asked.recv(1000).startswith(b"HTTP/1.1 200")
    finally:
        started.send_signal(signal.SIGTERM)
        output = started.communicate(timeout=20)[0].decode()
        for one in listening:
            one.close()
    assert started.returncode == 0, output
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert "no such socket was handed over" in refused.stderr
