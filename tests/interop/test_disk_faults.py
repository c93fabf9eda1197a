"""Disks that are full, limited or not ours: an error and no hang, and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from megabroker.client.mega import MessageClient
from tests.brokers import BrokerProcess
from tests.interop.wires import CursusWire, kafka_read, until

pytestmark = pytest.mark.interop

PAYLOAD_BYTES = 20_000
TOPICS = ("by-mega", "by-cursus", "by-kafka")


class Clients:
    """One client of each protocol; ``acknowledged`` is what each was told is stored."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.acknowledged: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
        self._number = 0

    def create_topics(self) -> None:
        with MessageClient("127.0.0.1", self.broker.ports["mega"]) as client:
            for topic in TOPICS:
                assert client.create_topic(topic)["success"]

    def __enter__(self) -> Clients:
        self._mega = MessageClient("127.0.0.1", self.broker.ports["mega"], timeout=15)
        self._mega.connect()
        self._cursus = CursusWire(self.broker.ports["cursus"], 15)
        # No retries: the broker's own error is wanted, not the client's patience.
        self._kafka = Producer(
            {
                "bootstrap.servers": self.broker.kafka,
                "message.timeout.ms": 15_000,
                "retries": 0,
                "acks": "all",
                "log_level": 0,
            }
        )
        return self

    def __exit__(self, *reason: object) -> None:
        self._mega.close()
        self._cursus.socket.close()
        self._kafka.purge()
        self._kafka.flush(5)

    def produce(self, topic: str) -> str | None:
        """Produce one message; return what was wrong."""
        self._number += 1
        payload = b"%d " % self._number + os.urandom(PAYLOAD_BYTES // 2).hex().encode()
        wrong = getattr(self, f"_{topic.removeprefix('by-')}_produce")(topic, payload)
        if wrong is None:
            self.acknowledged[topic].append(payload)
        return wrong

    def _mega_produce(self, topic: str, payload: bytes) -> str | None:
        answer = self._mega.produce(topic, payload)
        return None if answer["success"] else str(answer["error_code"])

    def _cursus_produce(self, topic: str, payload: bytes) -> str | None:
        self._cursus.send(topic, payload)
        reply = self._cursus.reply().decode()
        return None if reply == "OK" else reply

    def _kafka_produce(self, topic: str, payload: bytes) -> str | None:
        outcome: list[Any] = []
        self._kafka.produce(topic, payload, on_delivery=lambda error, message: outcome.append(error))
        self._kafka.flush(20)
        assert outcome, "no outcome within 20 s"
        return None if outcome[0] is None else str(outcome[0].name())

    def produce_until_refused(self, most: int = 60) -> dict[str, str]:
        """Produce with each client until it is refused; return how."""
        return {topic: self._refusal(topic, most) for topic in TOPICS}

    def _refusal(self, topic: str, most: int) -> str:
        for _ in range(most):
            began = time.monotonic()
            wrong = self.produce(topic)
            assert time.monotonic() - began < 10, f"{topic} had to wait"
            if wrong is not None:
                return wrong
        raise AssertionError(f"{topic} was never refused")

    def check_all_stored(self) -> None:
        """Everything acknowledged is there, in order; what was refused is not."""
        for topic, acknowledged in self.acknowledged.items():
            found = [value for _, _, value in kafka_read(self.broker.kafka, topic, len(acknowledged))]
            assert found == acknowledged, f"{topic}: {len(found)} stored, {len(acknowledged)} acknowledged"


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 16 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root; RLIMIT_FSIZE is tested in any case")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: pathlib.Path) -> pathlib.Path:
    """Take all the space that is left."""
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def check_refusals(refused: dict[str, str]) -> None:
    assert refused["by-mega"] == "RESOURCE_EXHAUSTED"
    assert refused["by-cursus"].startswith("ERROR: ")
    assert "ENOSPC" in refused["by-cursus"]
    assert refused["by-kafka"] == "KAFKA_STORAGE_ERROR"


def test_full_disk(small_disk: pathlib.Path) -> None:
    with BrokerProcess({"data_dir": str(small_disk / "data")}) as broker:
        clients = Clients(broker)
        clients.create_topics()
        with clients:
            assert [clients.produce(topic) for topic in TOPICS * 5] == [None] * 15
            filler = fill(small_disk)
            check_refusals(clients.produce_until_refused())
            # It stays an error, however often it is tried.
            before = len(broker.log.splitlines())
            for _ in range(50):
                for topic in TOPICS:
                    clients.produce(topic)
            lines = len(broker.log.splitlines()) - before
            print(f"\n150 produces on a full disk: {lines} lines")
            assert lines <= 30
            # Reading is no trouble.
            clients.check_all_stored()
            with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
                answer = client.create_topic("one-more")
                assert answer["success"] or answer["error_code"] == "RESOURCE_EXHAUSTED", answer
            with CursusWire(broker.ports["cursus"]) as wire:
                reply = wire.ask("CREATE another 4")
                assert reply.startswith(("ERROR: ", "✅ Topic 'another' now has")), reply

            filler.unlink()
            for topic in TOPICS:
                until(lambda topic=topic: clients.produce(topic) is None, 10, f"{topic} works again")
            assert [clients.produce(topic) for topic in TOPICS * 5] == [None] * 15
            clients.check_all_stored()
        broker.restart()
        clients.check_all_stored()
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-5000:]


def test_stop_and_start_on_a_full_disk(small_disk: pathlib.Path) -> None:
    broker = BrokerProcess({"data_dir": str(small_disk / "data")})
    with broker:
        clients = Clients(broker)
        clients.create_topics()
        with clients:
            assert [clients.produce(topic) for topic in TOPICS * 5] == [None] * 15
            filler = fill(small_disk)
            check_refusals(clients.produce_until_refused())
            began = time.monotonic()
            broker.stop()
            assert time.monotonic() - began < 10
        # It may refuse, but must say so at once.
        try:
            broker.start()
        except AssertionError:
            last = broker.log.strip().splitlines()[-1]
            assert "cannot start: " in last
            assert "ENOSPC" in last or "full" in last, last
        else:
            clients.check_all_stored()
            broker.kill()
        filler.unlink()
        broker.start()
        clients.check_all_stored()
        with clients:
            assert [clients.produce(topic) for topic in TOPICS] == [None] * 3
        clients.check_all_stored()
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-5000:]


def test_file_size_limit() -> None:
    """A quota of another kind: EFBIG for one file, which is not ENOSPC; needs no rights."""
    with BrokerProcess() as broker:
        clients = Clients(broker)
        clients.create_topics()
        assert broker.process is not None
        pid = broker.process.pid
        with clients:
            assert [clients.produce(topic) for topic in TOPICS] == [None] * 3
            soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (500_000, hard))
            refused = clients.produce_until_refused()
            assert refused["by-mega"] == "NETWORK_ERROR"
            assert "EFBIG" in refused["by-cursus"]
            assert refused["by-kafka"] == "KAFKA_STORAGE_ERROR"
            clients.check_all_stored()
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
            for topic in TOPICS:
                until(lambda topic=topic: clients.produce(topic) is None, 10, f"{topic} works again")
            clients.check_all_stored()
        broker.restart()
        clients.check_all_stored()
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-5000:]


# --- starts that are refused ----------------------------------------------------------------------


def run_refused(config: dict[str, Any], directory: pathlib.Path) -> str:
    """Run a broker that has to refuse; return the one line it says why."""
    file = directory / "refused.yaml"
    listeners = [{"endpoint": "tcp:0:interface=127.0.0.1"}]
    file.write_text(
        yaml.safe_dump(
            {"protocols": {"mega": {"listeners": listeners}}, "http": {"enabled": False}, **config}
        )
    )
    done = subprocess.run(
        BrokerProcess.command(file), cwd=directory, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1, done
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert "is ready" not in said
    (line,) = [line for line in said.splitlines() if "cannot start" in line]
    assert said.count("cannot start") == 1
    return line


def test_data_directory_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    line = run_refused({"data_dir": str(tmp_path / "not" / "there")}, tmp_path)
    assert f"{tmp_path}/not/there: ENOENT" in line
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/file" in run_refused({"data_dir": str(tmp_path / "file")}, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.sqlite").write_bytes(os.urandom(10_000))
    assert "metadata.sqlite" in run_refused({"data_dir": str(tmp_path / "data")}, tmp_path)


def test_unwritable_data_directory(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "locked"
    place.mkdir()
    is_root = os.geteuid() == 0
    if is_root:
        # Rights do not stop root; a file system mounted read-only does.
        command = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("root without the right to mount")
    else:
        place.chmod(0o500)
    try:
        line = run_refused({"data_dir": str(place)}, tmp_path)
        assert str(place) in line
        assert "writable" in line or "EROFS" in line or "EACCES" in line, line
        run_refused({"data_dir": str(place / "below")}, tmp_path)
    finally:
        if is_root:
            subprocess.run(["umount", str(place)], check=True)
        else:
            place.chmod(0o700)


def test_second_broker_on_a_data_directory(tmp_path: pathlib.Path) -> None:
    with BrokerProcess(directory=tmp_path) as broker:
        assert broker.process is not None
        line = run_refused({"data_dir": str(tmp_path / "data")}, tmp_path)
        assert f"pid {broker.process.pid}" in line
        assert str(tmp_path / "data") in line
        with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
            assert client.create_topic("unharmed")["success"]
        # The lock is the kernel's: it goes with the process, however that ends.
        broker.kill()
        broker.start()
        assert broker.stop() == 0


def test_port_that_is_taken(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        protocols = {
            "cursus": {"listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}]},
            "mega": {"listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}]},
        }
        began = time.monotonic()
        line = run_refused({"data_dir": str(tmp_path / "data"), "protocols": protocols}, tmp_path)
        assert time.monotonic() - began < 8
        assert f"127.0.0.1:{port}" in line
        assert os.strerror(errno.EADDRINUSE) in line
    # Nothing of it is left but a data directory that was closed in order.
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()
    with BrokerProcess(directory=tmp_path) as broker:
        assert broker.stop() == 0


def test_daemon_that_cannot_start(tmp_path: pathlib.Path) -> None:
    with BrokerProcess(directory=tmp_path) as broker:
        command = [part for part in broker.command(tmp_path / "broker.yaml") if part != "--nodaemon"]
        at = command.index("--pidfile=")
        command[at : at + 1] = [f"--pidfile={tmp_path}/second.pid", f"--logfile={tmp_path}/second.log"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20)
        assert done.returncode == 1, done
        assert broker.process is not None
        said = done.stdout + done.stderr + (tmp_path / "second.log").read_text()
        assert f"in use by another broker (pid {broker.process.pid}," in said
        assert "megabroker cannot start: " in said
        assert broker.process.poll() is None
        assert broker.stop() == 0
