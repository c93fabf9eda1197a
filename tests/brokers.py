"""A real broker in a process of its own, for tests: started by twistd, on port 0, in a fresh directory."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import yaml

__all__ = ["BrokerProcess"]

_READY = re.compile(r"is ready after (\d+) ms: (.*); data in ")
_START_SECONDS = 30
_STOP_SECONDS = 30


class BrokerProcess:
    """A broker process; use it as a context manager.

    Args:
        config: merged over the test defaults: every protocol on 127.0.0.1 port 0.
        directory: where its files go; a temporary one, removed at the end, if None.

    Attributes:
        ports: port by protocol name, known once started.
        http_ports: where each process is administered over HTTP.
        directory: holds ``broker.yaml``, ``broker.log`` (of all starts) and ``data``.
    """

    def __init__(
        self, config: Mapping[str, Any] | None = None, directory: pathlib.Path | None = None
    ) -> None:
        self._temporary = (
            tempfile.TemporaryDirectory(prefix="megabroker-test-") if directory is None else None
        )
        self.directory = (
            pathlib.Path(self._temporary.name) if self._temporary else pathlib.Path(str(directory))
        )
        self.config: dict[str, Any] = _merged(
            {
                "data_dir": str(self.directory / "data"),
                "protocols": {
                    name: {"listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}]}
                    for name in ("kafka", "mega", "cursus")
                },
                "http": {"endpoint": "tcp:0:interface=127.0.0.1"},
            },
            config or {},
        )
        self.ports: dict[str, int] = {}
        self.http_ports: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_ms = 0
        self._log_read = 0

    @property
    def kafka(self) -> str:
        """Bootstrap address for Kafka clients."""
        return f"127.0.0.1:{self.ports['kafka']}"

    @property
    def log(self) -> str:
        """Everything logged so far, over all starts."""
        path = self.directory / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, env: Mapping[str, str] | None = None) -> BrokerProcess:
        """Start and wait until it is ready. Ports of a first start are kept over restarts.

        Raises:
            AssertionError: it ended, or was not ready in time; the message has its log.
        """
        if self.ports:
            for name, port in self.ports.items():
                self.config["protocols"][name]["listeners"] = [
                    {"endpoint": f"tcp:{port}:interface=127.0.0.1"}
                ]
        config_file = self.directory / "broker.yaml"
        config_file.write_text(yaml.safe_dump(self.config))
        self._log_read = len(self.log)
        with open(self.directory / "broker.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(config_file),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                env={**os.environ, **(env or {})},
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            found = _READY.search(self.log[self._log_read :])
            if found is not None:
                self.ready_ms = int(found[1])
                self.http_ports = []
                for part in found[2].split(", "):
                    name, _, address = part.partition(" at ")
                    port = int(address.rpartition(":")[2]) if address else 0
                    if name == "http":
                        self.http_ports.append(port)
                    elif address:
                        self.ports[name] = port
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"the broker did not start:\n{self.log[-5000:]}")

    @staticmethod
    def command(config_file: pathlib.Path) -> list[str]:
        """Return the command line that runs a broker in the foreground."""
        twistd = pathlib.Path(sys.executable).with_name("twistd")
        return [sys.executable, str(twistd), "--nodaemon", "--pidfile=", "megabroker", "-c", str(config_file)]

    def stop(self) -> int:
        """SIGTERM, wait, return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> BrokerProcess:
        """Stop in order and start again on the same directory and ports."""
        assert self.stop() == 0, self.log[-5000:]
        return self.start()

    def __enter__(self) -> BrokerProcess:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.process is not None and self.process.poll() is None:
                try:
                    self.stop()
                except subprocess.TimeoutExpired:
                    self.kill()
                    if error is None:
                        raise
            if error is not None:
                sys.stderr.write(f"--- broker log ---\n{self.log[-5000:]}\n")
        finally:
            self.kill()
            if self._temporary is not None:
                self._temporary.cleanup()


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            merged[key] = _merged(known, value)
        else:
            merged[key] = value
    return merged
