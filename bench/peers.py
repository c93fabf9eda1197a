"""The servers that are compared: each started in a process of its own, on a free port, in a fresh directory.

All keep their data in files. With ``durability`` "os" an acknowledged record survives the end of the process,
with "fsync" the end of the machine; every peer is set to the same. What is not installed raises ``Missing``.
"""

from __future__ import annotations

import abc
import compileall
import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from bench.native import Missing, program
from megabroker.net import quick
from tests.brokers import BrokerProcess
from tests.interop.apache_kafka import ApacheKafka
from tests.interop.java import Unavailable

__all__ = ["PEERS", "Compiled", "Kafka", "Limit", "Megabroker", "Nats", "Peer", "Redis"]

_CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
_CACHE = _CHECKOUT / ".cache" / "bench"
_START_SECONDS = 30
_KAFKA_JAVA = (
    *("-Xms1024m", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
    *("-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15"),
)
"""What Kafka 4's start script gives its virtual machine, besides a heap of 1 GiB."""
_NATS = "github.com/nats-io/nats-server/v2@v2.12.0"


class Peer(abc.ABC):
    """One server; use it as a context manager.

    Attributes:
        name: as it stands in tables.
        port: where it listens, once started.
        pid: the process whose CPU time counts.
    """

    name = ""
    speaks_kafka = False

    def __init__(self, durability: str = "os") -> None:
        self.durability = durability
        self.port = 0
        self.pid = 0
        self.start_seconds = 0.0

    @property
    def kafka(self) -> str:
        """Bootstrap address."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Any:
        self.prepare()
        began = time.monotonic()
        self.start()
        self.start_seconds = time.monotonic() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def prepare(self) -> None:  # noqa: B027 - most have nothing to do
        """Do what comes before a start and does not count as part of it. Raises Missing."""

    def logs(self, topic: str) -> list[pathlib.Path]:
        """Return the files that hold what was produced to a topic."""
        return []

    @abc.abstractmethod
    def start(self) -> None:
        """Start it and wait until it serves. Raises Missing."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End it and remove its files."""

    def kill(self) -> None:
        """End it by SIGKILL and keep its files. Only where ``speaks_kafka``."""
        raise NotImplementedError


class Megabroker(Peer):
    """This broker, all of it Python."""

    name = "megabroker"
    speaks_kafka = True
    compiled = "0"

    def __init__(self, durability: str = "os", config: Mapping[str, Any] | None = None) -> None:
        super().__init__(durability)
        limits = {"max_request_bytes": 16 << 20}
        topics = {"max_message_bytes": 8 << 20}
        protocols = {"cursus": {"subscribe_push": True}}
        settings = {"durability": durability, "limits": limits, "topics": topics, "protocols": protocols}
        self.broker = BrokerProcess({**settings, **(config or {})})

    def prepare(self) -> None:
        # As pip does where it installs; a checkout's modules are else compiled at every start wherever
        # PYTHONDONTWRITEBYTECODE is set.
        for package in ("megabroker", "twisted/plugins"):
            compileall.compile_dir(_CHECKOUT / package, quiet=1)

    def start(self) -> None:
        self.broker.start({quick.VARIABLE: self.compiled})
        assert self.broker.process is not None
        self.port, self.pid = self.broker.ports["kafka"], self.broker.process.pid

    def kill(self) -> None:
        self.broker.kill()

    def logs(self, topic: str) -> list[pathlib.Path]:
        return sorted(self.broker.directory.glob(f"data/{topic}-*/*.log"))

    def stop(self) -> None:
        self.broker.__exit__(None, None, None)


class Compiled(Megabroker):
    """This broker with its compiled part."""

    name = "compiled"
    compiled = "1"

    def prepare(self) -> None:
        if importlib.util.find_spec("megabroker.net.compiled") is None:
            raise Missing("the broker's compiled part (./dev compile)")
        super().prepare()


class Kafka(Peer):
    """Apache Kafka, from Maven's artifacts: one KRaft node, as its script and its default settings run it."""

    name = "kafka"
    speaks_kafka = True

    def prepare(self) -> None:
        properties = {"message.max.bytes": str(8 << 20), "log.cleaner.dedupe.buffer.size": str(128 << 20)}
        if self.durability == "fsync":
            properties["log.flush.interval.messages"] = "1"
        try:
            self.broker = ApacheKafka(properties, heap_mib=1024, options=_KAFKA_JAVA)
        except Unavailable as missing:
            raise Missing(str(missing)) from None
        self.broker.prepare()

    def start(self) -> None:
        self.broker.start()
        assert self.broker.process is not None
        self.port, self.pid = self.broker.port, self.broker.process.pid

    def kill(self) -> None:
        self.broker.kill()

    def logs(self, topic: str) -> list[pathlib.Path]:
        return sorted(self.broker.directory.glob(f"data/{topic}-*/*.log"))

    def stop(self) -> None:
        self.broker.__exit__(None, None, None)


class _Program(Peer):
    """A program that is told its port and its directory."""

    def start(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix=f"megabroker-bench-{self.name}-")
        self.port = _free_port()
        log = pathlib.Path(self._directory.name) / "log"
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                self.command(self._directory.name), stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            starting = self._process.poll() is None and time.monotonic() < deadline
            assert starting, log.read_text()[-2000:]
            time.sleep(0.01)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    @abc.abstractmethod
    def command(self, directory: str) -> list[str]:
        """Return the command line. Raises Missing."""


class Redis(_Program):
    """Redis Streams with an append-only file."""

    name = "redis"

    def command(self, directory: str) -> list[str]:
        found = shutil.which("redis-server")
        if found is None:
            raise Missing("redis-server (Debian: apt-get install redis-server)")
        fsync = "always" if self.durability == "fsync" else "everysec"
        return [
            *(found, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", directory),
            *("--save", "", "--appendonly", "yes", "--appendfsync", fsync),
        ]


class Nats(_Program):
    """NATS JetStream with a stream in files; built by Go from its module proxy when first asked for."""

    name = "nats"

    def command(self, directory: str) -> list[str]:
        config = pathlib.Path(directory) / "nats.conf"
        sync = "always" if self.durability == "fsync" else '"2m"'
        store = f'store_dir: "{directory}", sync_interval: {sync}'
        config.write_text(f'listen: "127.0.0.1:{self.port}"\njetstream {{ {store} }}\n')
        return [self._server(), "-c", str(config)]

    @staticmethod
    def _server() -> str:
        found = shutil.which("nats-server")
        if found is not None:
            return found
        target = _CACHE / "go" / "bin" / "nats-server"
        if not target.exists():
            go = shutil.which("go")
            if go is None:
                raise Missing("nats-server, or go to build it")
            environment = {**os.environ, "GOBIN": str(target.parent)}
            done = subprocess.run(
                [go, "install", _NATS], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise Missing(f"nats-server: go cannot build {_NATS}: {done.stderr.strip()[-200:]}")
        return str(target)


class Limit(Peer):
    """What the machine allows: the program ``limit``.

    Args:
        mode: "append", "commit" or "sendfile".
    """

    name = "limit"

    def __init__(self, durability: str = "os", mode: str = "append", *args: str) -> None:
        super().__init__(durability)
        self._mode = mode
        self._args = args

    def start(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="megabroker-bench-limit-")
        self.file = pathlib.Path(self._directory.name) / "log"
        if self._mode == "sendfile":
            self.file.write_bytes(os.urandom(1 << 20) * 64)
        self._process = subprocess.Popen(
            [str(program("limit")), self._mode, str(self.file), *self._args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.pid, self.port = self._process.pid, int(self._process.stdout.readline())

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._directory.cleanup()


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Megabroker, Compiled, Kafka, Nats, Redis, Limit)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
