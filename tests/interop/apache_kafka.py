"""A real Apache Kafka in a process of its own, for tests that compare with it or open what it wrote.

One KRaft node that is broker and controller, from Maven's artifacts, formatted by Kafka's own tool. Its
settings suit tests: replication factor 1, no initial rebalance delay, few partitions of internal topics, a
small heap.
"""

from __future__ import annotations

import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from tests.interop.java import SHORT_RUN, TOOLS, Java

__all__ = ["ApacheKafka"]

_READY = "Kafka Server started"
_START_SECONDS = 90
_STOP_SECONDS = 60
_TOOL_SECONDS = 60
_LOGGED = {"org.slf4j.simpleLogger.log.kafka.server": "info"}


class ApacheKafka:
    """An Apache Kafka process; use it as a context manager.

    Args:
        properties: laid over the test defaults of ``server.properties``.
        directory: where its files go; a temporary one, removed at the end, if None.
        heap_mib: limit of the Java heap.
        options: the virtual machine's; by default those of short runs, with which nothing is to be measured.

    Attributes:
        port: where clients connect, the same over restarts.
        directory: holds ``server.properties``, ``kafka.log`` (of all starts) and ``data``.
        properties: everything in ``server.properties``.
        java: the class path, for Kafka's own tools.

    Raises:
        tests.interop.java.Unavailable: no Java, or no Maven to bring the artifacts.
    """

    def __init__(
        self,
        properties: Mapping[str, str] | None = None,
        directory: pathlib.Path | None = None,
        heap_mib: int = 384,
        options: Sequence[str] = SHORT_RUN,
    ) -> None:
        self.java = Java.of(TOOLS)
        self._temporary = (
            tempfile.TemporaryDirectory(prefix="apache-kafka-test-") if directory is None else None
        )
        self.directory = pathlib.Path(self._temporary.name if self._temporary else str(directory))
        self._heap_mib = heap_mib
        self._options = options
        self.port, controller = _free_ports()
        self.properties = {
            **_defaults(self.port, controller, (properties or {}).get("node.id", "1")),
            "log.dirs": str(self.directory / "data"),
            **(properties or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def kafka(self) -> str:
        """Bootstrap address for Kafka clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything logged so far, over all starts."""
        path = self.directory / "kafka.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def log_dirs(self) -> list[pathlib.Path]:
        """The data directories."""
        return [pathlib.Path(one) for one in self.properties["log.dirs"].split(",")]

    @property
    def properties_file(self) -> pathlib.Path:
        """``server.properties`` as Kafka reads it."""
        return self.directory / "server.properties"

    def start(self) -> ApacheKafka:
        """Format the directories if they are new, start, and wait until Kafka serves.

        Raises:
            AssertionError: it ended, or was not ready in time; the message has its log.
        """
        self.prepare()
        read = len(self.log)
        command = self.java.command(
            "kafka.Kafka",
            str(self.properties_file),
            heap_mib=self._heap_mib,
            properties=_LOGGED,
            options=self._options,
        )
        with open(self.directory / "kafka.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if _READY in self.log[read:]:
                return self
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"Apache Kafka did not start:\n{self.log[read:][-5000:]}")

    def prepare(self) -> None:
        """Write the settings, and format the directories if they are new."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = [f"{key}={value}\n" for key, value in self.properties.items()]
        self.properties_file.write_text("".join(lines))
        if not (self.log_dirs[0] / "meta.properties").exists():
            self._format()

    def tool(self, main: str, *args: str, seconds: float = _TOOL_SECONDS) -> str:
        """Run one of Kafka's main classes and return what it printed.

        Raises:
            AssertionError: it failed; the message has its output.
        """
        done = self.java.run(main, *args, seconds=seconds)
        assert done.returncode == 0, f"{main} {' '.join(args)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def stop(self) -> int:
        """SIGTERM, wait, return the exit code (143 when Java ended in order)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> ApacheKafka:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                sys.stderr.write(f"--- Apache Kafka's log ---\n{self.log[-5000:]}\n")
        finally:
            self.kill()
            if self._temporary is not None:
                self._temporary.cleanup()

    def _format(self) -> None:
        for directory in self.log_dirs:
            directory.mkdir(parents=True, exist_ok=True)
        self.tool("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(self.properties_file))


_CLUSTER_ID = "bWVnYWJyb2tlci10ZXN0cw"
"""A fixed one, in Kafka's form: 16 bytes in URL-safe base64 without padding."""


def _defaults(port: int, controller: int, node_id: str) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": node_id,
        "controller.quorum.voters": f"{node_id}@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }


def _free_ports() -> tuple[int, int]:
    """Return two ports nobody listens on now; Kafka cannot be told to take any."""
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
