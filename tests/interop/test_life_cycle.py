"""Starting, stopping, reloading, checking and daemonizing a real broker, with what it costs to be idle."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from megabroker.client.mega import MessageClient
from megabroker.net import quick
from tests.brokers import BrokerProcess
from tests.interop.wires import (
    MEGA_PRODUCE,
    CursusWire,
    kafka_read,
    kafka_request,
    mega_request,
    receive,
    receive_all,
    resident_kib,
    until,
)

pytestmark = pytest.mark.interop

STOP_SECONDS = 8  # with load and with peers that owe or are owed something; measured below one second
START_SECONDS = 5
IDLE_MIB = 60
THOUSAND_IDLE_MIB = 40


# --- SIGTERM under load ---------------------------------------------------------------------------


class Load:
    """Producers on every wire that go on until the broker is gone; ``acknowledged`` is what counts."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.acknowledged: dict[str, list[bytes]] = {}
        self.unexpected: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(f"{work.__name__[1:]}-{index}", work), daemon=True)
            for work in (self._mega, self._cursus, self._kafka)
            for index in range(2)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a producer hangs"

    def _run(self, topic: str, work: Callable[[str, list[bytes]], None]) -> None:
        acknowledged = self.acknowledged.setdefault(topic, [])
        try:
            work(topic, acknowledged)
        except ConnectionError:
            pass
        except Exception as error:
            self.unexpected.append(f"{topic}: {type(error).__name__}: {error}")

    def _mega(self, topic: str, acknowledged: list[bytes]) -> None:
        """100 in flight; an answer says to which of them it belongs."""
        with socket.create_connection(("127.0.0.1", self.broker.ports["mega"]), 20) as connection:
            sent = 0
            while True:
                while sent - len(acknowledged) < 100:
                    text = b"%s %d" % (topic.encode(), sent)
                    rest = struct.pack(">i", len(text)) + text
                    connection.sendall(mega_request(MEGA_PRODUCE, topic, rest, sent))
                    sent += 1
                answer = receive(connection, 6)
                number, flag, code = struct.unpack(">iBB", answer)
                if not flag:
                    assert code == 9, answer  # RESOURCE_EXHAUSTED: the broker is stopping
                    return
                receive(connection, 11)
                assert number == len(acknowledged), (number, len(acknowledged))
                acknowledged.append(b"%s %d" % (topic.encode(), number))

    def _cursus(self, topic: str, acknowledged: list[bytes]) -> None:
        with CursusWire(self.broker.ports["cursus"], 20) as wire:
            while True:
                batch = [b"%s %d" % (topic.encode(), len(acknowledged) + i) for i in range(50)]
                for text in batch:
                    wire.send(topic, text)
                for text in batch:
                    if wire.reply() != b"OK":
                        return
                    acknowledged.append(text)

    def _kafka(self, topic: str, acknowledged: list[bytes]) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.broker.kafka,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                "message.timeout.ms": 6000,
                "log_level": 0,
            }
        )
        failed: list[Any] = []

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(error)
            else:
                acknowledged.append(message.value())

        number = 0
        while not failed and self.broker.process is not None and self.broker.process.poll() is None:
            for _ in range(50):
                producer.produce(topic, b"%s %d" % (topic.encode(), number), on_delivery=delivered)
                number += 1
            producer.poll(0.005)
            if len(producer) > 2000:
                producer.poll(0.1)
        producer.purge()
        producer.flush(5)


def awkward(broker: BrokerProcess) -> Iterator[socket.socket]:
    """Connections a stop must not wait for: idle ones, half a frame sent, and a long poll."""

    def connect(protocol: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", broker.ports[protocol]), 20)

    for protocol in ("kafka", "mega", "cursus"):
        yield connect(protocol)
    for protocol, data in {
        "kafka": struct.pack(">i", 1000) + bytes(500),
        "cursus": struct.pack(">I", 1000) + bytes(500),
        "mega": mega_request(MEGA_PRODUCE, "quiet", struct.pack(">i", 1000) + bytes(500)),
    }.items():
        connection = connect(protocol)
        connection.sendall(data)
        yield connection
    long_poll = connect("kafka")
    fetch = struct.pack(">iiiib", -1, 60_000, 1, 1 << 20, 0) + struct.pack(">i", 1)
    fetch += struct.pack(">h", 5) + b"quiet" + struct.pack(">iiqi", 1, 0, 0, 1 << 20)
    long_poll.sendall(kafka_request(1, 4, fetch))
    yield long_poll
    subscriber = connect("cursus")
    subscriber.sendall(b"\0\0\0\x11\0\0SUBSCRIBE quiet")
    yield subscriber


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_nothing_acknowledged(workers: int) -> None:
    with BrokerProcess({"workers": workers}) as broker:
        topics = [f"{name}-{index}" for name in ("mega", "cursus", "kafka") for index in range(2)]
        with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
            for topic in [*topics, "quiet"]:
                assert client.create_topic(topic)["success"]
        load = Load(broker)
        with contextlib.ExitStack() as stack:
            for connection in awkward(broker):
                stack.enter_context(connection)
            load.start()
            until(lambda: all(len(load.acknowledged.get(topic, ())) > 500 for topic in topics), 30, "load")
            began = time.monotonic()
            code = broker.stop()
            took = time.monotonic() - began
            load.join()
        counts = {topic: len(found) for topic, found in load.acknowledged.items()}
        print(f"\nstopped in {took:.2f} s under load, acknowledged: {counts}")
        assert code == 0
        assert took < STOP_SECONDS
        assert not load.unexpected, load.unexpected
        assert "Traceback" not in broker.log, broker.log[-5000:]
        assert f"; {quick.describe()}\n" in broker.log, "it says whether the compiled part is used"
        assert (broker.directory / "data" / ".kafka_cleanshutdown").exists(), "it stopped in order"
        broker.config["workers"] = 1
        broker.start()
        for topic in topics:
            acknowledged = load.acknowledged[topic]
            stored = [value for _, _, value in kafka_read(broker.kafka, topic, len(acknowledged))]
            assert stored[: len(acknowledged)] == acknowledged, topic
            assert len(set(stored)) == len(stored), f"{topic} holds something twice"


def test_a_long_poll_is_answered_when_the_broker_stops() -> None:
    with BrokerProcess() as broker:
        with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
            client.create_topic("quiet")
        *_, long_poll, _ = awkward(broker)
        time.sleep(0.2)
        assert broker.stop() == 0
        answer = receive_all(long_poll)
        (size,) = struct.unpack(">i", answer[:4])
        assert size == len(answer) - 4
        # correlation id, throttle time, one topic, its name, one partition, number 0, no error, no data
        begin = struct.pack(">iiih", 1, 0, 1, 5) + b"quiet" + struct.pack(">iihqq", 1, 0, 0, 0, 0)
        assert answer[4:].startswith(begin)
        assert len(answer[4:]) == len(begin) + 8


# --- SIGHUP ---------------------------------------------------------------------------------------


def test_sighup() -> None:
    with BrokerProcess({"logging": {"level": "info"}}) as broker:
        assert broker.process is not None
        process = broker.process
        config_file = broker.directory / "broker.yaml"

        def reload(change: Callable[[dict[str, Any]], object] | str, expected: str) -> str:
            before = len(broker.log)
            if isinstance(change, str):
                config_file.write_text(change)
            else:
                config = yaml.safe_load(yaml.safe_dump(broker.config))
                change(config)
                config_file.write_text(yaml.safe_dump(config))
            process.send_signal(signal.SIGHUP)
            until(lambda: expected in broker.log[before:], 5, f"{expected!r} in the log")
            return broker.log[before:]

        def partitions(topic: str) -> str:
            with CursusWire(broker.ports["cursus"]) as wire:
                return wire.ask(f"CREATE {topic}")

        assert partitions("before").endswith("now has 4 partitions")
        reload(lambda config: None, "configuration reloaded: no changes")
        reload(
            lambda config: config.update(topics={"default_partitions": 7}),
            "configuration reloaded: topics.default_partitions",
        )
        assert partitions("after").endswith("now has 7 partitions")

        log = reload(
            lambda config: config.update(topics={"default_partitions": 9}, durability="os", data_dir="/x"),
            "the configuration is not reloaded: ",
        )
        assert "data_dir" in log
        assert "durability" in log
        assert "can only change with a restart" in log
        assert partitions("refused").endswith("now has 7 partitions")

        log = reload(
            lambda config: config.update(topics={"default_partitions": 9, "nonsense": 1}),
            "the configuration is not reloaded: ",
        )
        assert "topics.nonsense" in log
        reload("protocols: [", "the configuration is not reloaded: ")
        config_file.unlink()
        process.send_signal(signal.SIGHUP)
        until(lambda: broker.log.count("the configuration is not reloaded: ") == 4, 5, "a missing file")
        assert partitions("still").endswith("now has 7 partitions")

        def quieter(config: dict[str, Any]) -> None:
            config.update(logging={"level": "debug"}, topics={"default_partitions": 7})

        reload(quieter, "configuration reloaded: logging.level")
        before = len(broker.log)
        assert partitions("aloud").endswith("now has 7 partitions")
        until(lambda: "[CMD] SUCCESS CREATE" in broker.log[before:], 5, "the lines of level debug")
        assert broker.stop() == 0
        assert "Traceback" not in broker.log


# --- --check --------------------------------------------------------------------------------------


def check(directory: pathlib.Path, text: str | None) -> subprocess.CompletedProcess[str]:
    file = directory / "checked.yaml"
    if text is not None:
        file.write_text(text)
    return subprocess.run(
        [*BrokerProcess.command(file), "--check"], cwd=directory, capture_output=True, text=True, timeout=30
    )


def test_check(tmp_path: pathlib.Path) -> None:
    good = check(tmp_path, "data_dir: ./somewhere\nprotocols:\n  kafka: {}\n")
    assert (good.returncode, good.stdout, good.stderr) == (
        0,
        f"{tmp_path / 'checked.yaml'}: no faults\n",
        "",
    )
    bad = check(
        tmp_path,
        """
        node: {id: -1}
        durability: maybe
        partition_channel_buffer_size: ten
        nonsense: 1
        topics: {segment_bytes: 5GiB, default_partitons: 3}
        protocols:
          kafka:
            listeners:
              - endpoint: tcp:99999
          kafak: {}
        """,
    )
    assert bad.returncode == 1
    for line in (
        "node.id: -1: expected ",
        "durability: 'maybe': expected ",
        "partition_channel_buffer_size: 'ten': expected ",
        "nonsense: 1: expected ",
        "topics.segment_bytes: ",
        "topics.default_partitons: 3: expected ",
        "protocols.kafka.listeners[0].endpoint: 'tcp:99999': expected ",
        "protocols.kafak: ",
    ):
        assert line in bad.stderr, (line, bad.stderr)
    assert "Traceback" not in bad.stderr
    for text in ("[1, 2", "- a\n- b\n", "\x00", ""):
        done = check(tmp_path, text)
        assert done.returncode == (0 if not text else 1), (text, done)
        assert "Traceback" not in done.stderr
    (tmp_path / "checked.yaml").unlink()
    missing = check(tmp_path, None)
    assert missing.returncode == 1
    assert "checked.yaml" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert [path.name for path in tmp_path.iterdir()] == [], "nothing is created by a check"


def test_no_configuration_named() -> None:
    command = BrokerProcess.command(pathlib.Path("x"))[:-2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "no configuration file given" in done.stdout + done.stderr
    done = subprocess.run([*command, "t.yaml"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "'t.yaml': expected -c FILE" in done.stdout + done.stderr


# --- daemon ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_daemon(workers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="megabroker-test-") as name:
        directory = pathlib.Path(name)
        config = directory / "broker.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "data_dir": str(directory / "data"),
                    "workers": workers,
                    "http": {"enabled": False},
                    "protocols": {"mega": {"listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}]}},
                }
            )
        )
        pidfile, log = directory / "pid", directory / "log"
        twistd = str(pathlib.Path(sys.executable).with_name("twistd"))
        done = subprocess.run(
            [sys.executable, twistd, f"--pidfile={pidfile}", f"--logfile={log}", "megabroker", f"-c{config}"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        pid = int(until(lambda: pidfile.exists() and pidfile.read_text(), 10, "a pid file"))
        try:
            ready = until(lambda: [x for x in log.read_text().splitlines() if "is ready" in x], 10, "ready")
            port = int(ready[0].split("mega at 127.0.0.1:")[1].split(";")[0])
            with MessageClient("127.0.0.1", port) as client:
                assert client.create_topic("t")["success"]
                assert client.produce("t", "x")["offset"] == 0
        finally:
            os.kill(pid, signal.SIGTERM)
            until(lambda: not pathlib.Path(f"/proc/{pid}").exists() or zombie(pid), 10, "its end")
        assert "megabroker has stopped" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert not pidfile.exists()


def zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has asked how; containers may lack an init that does."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- what it costs --------------------------------------------------------------------------------


def test_start_and_idle() -> None:
    began = time.monotonic()
    with BrokerProcess() as broker:
        with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
            assert client.create_topic("t")["success"]
            first_answer = time.monotonic() - began
            assert broker.process is not None
            pid = broker.process.pid
            idle_kib = resident_kib(pid)
            print(
                f"\nfirst answer after {first_answer:.2f} s, ready after {broker.ready_ms} ms of it; "
                f"idle {idle_kib / 1024:.1f} MiB"
            )
            assert first_answer < START_SECONDS
            assert idle_kib < IDLE_MIB * 1024
            with contextlib.ExitStack() as stack:
                for number in range(1000):
                    protocol = ("kafka", "mega", "cursus")[number % 3]
                    stack.enter_context(socket.create_connection(("127.0.0.1", broker.ports[protocol]), 20))
                assert client.produce("t", "all are accepted")["success"]
                descriptors = pathlib.Path(f"/proc/{pid}/fd")
                until(lambda: len(list(descriptors.iterdir())) > 1000, 10, "all accepted")
                grown_kib = resident_kib(pid) - idle_kib
                print(f"1,000 idle connections: {grown_kib / 1024:.1f} MiB")
                assert grown_kib < THOUSAND_IDLE_MIB * 1024
            until(lambda: len(list(descriptors.iterdir())) < 100, 10, "all given back")
        assert broker.stop() == 0
        assert "connection from" not in broker.log, "an idle connection that closes is nothing to log"
