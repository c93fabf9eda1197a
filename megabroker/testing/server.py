"""A broker in a process of its own, for tests of any program: the same as ``EmbeddedBroker``, and blocking.

Owns the process. It ends with its parent, whatever becomes of that: what they talk over is then closed.
"""

from __future__ import annotations

import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import attrs

from megabroker.testing.faults import Fault
from megabroker.testing.settings import complete

__all__ = ["BrokerServer", "ServerError"]

_START_SECONDS = 60
_ANSWER_SECONDS = 60
_STOP_SECONDS = 30


class ServerError(Exception):
    """The broker's process could not do what it was asked for; says why."""


class BrokerServer:
    """A broker's process; a context manager. Its methods may be called from any one thread at a time.

    Args:
        config: what differs from a broker for tests: in memory, every protocol at a free port of 127.0.0.1,
            no HTTP. As in ``broker.yaml``.
        protocols: those that are served if ``config`` does not say so.

    Attributes:
        ports: the port of each protocol's first listener.
        bootstrap: what Kafka clients take as bootstrap.servers.
        pid: of the process.
    """

    ports: Mapping[str, int]
    bootstrap: str

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        protocols: Sequence[str] = ("kafka", "mega", "cursus"),
    ) -> None:
        self._config = complete(config or {}, protocols)
        self._protocols = list(protocols)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._received = bytearray()
        self._lock = threading.Lock()
        self._log_file: Any = None
        self._log_begin = 0

    @property
    def pid(self) -> int:
        """The number of the process. Raises RuntimeError: it is not started."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What it has logged since it was started or reset."""
        if self._log_file is None:
            return ""
        data = pathlib.Path(self._log_file.name).read_bytes()
        return data[self._log_begin :].decode(errors="replace")

    def start(self) -> BrokerServer:
        """Start, and wait until it serves.

        Raises:
            ServerError: it cannot start; says why, and what it has logged.
        """
        if self._process is not None:
            raise RuntimeError("the broker is started already")
        # Only a file: a pipe that nobody reads would fill up and hold the broker.
        self._log_file = tempfile.NamedTemporaryFile(prefix="megabroker-", suffix=".log")  # noqa: SIM115
        self._log_begin = 0
        self._received.clear()
        ours, theirs = socket.socketpair()
        with theirs:
            self._channel = ours
            path = os.pathsep.join(entry for entry in sys.path if entry)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "megabroker.testing.child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._log_file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
            )
        try:
            self._send(
                {"config": self._config, "protocols": self._protocols, "without_tls": self._is_plain()}
            )
            self._settle(self._answer(_START_SECONDS))
        except BaseException:
            self.kill()
            raise
        return self

    def _is_plain(self) -> bool:
        """Whether nothing it may be asked for needs TLS, which takes a quarter of the start."""
        text = json.dumps(self._config, default=str)
        known = set(self._config["protocols"]) <= {"kafka", "mega", "cursus"}
        return known and '"tls"' not in text and '"ssl:' not in text

    def stop(self) -> int:
        """Stop in order; return the exit code. Again has no effect."""
        process = self._process
        if process is None:
            return 0
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        try:
            code = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"the broker has not stopped within {_STOP_SECONDS} s:\n{self.log}") from None
        self._process = None
        return code

    def kill(self) -> None:
        """End the process at once, as kill -9 does."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def clean(self) -> None:
        """Become a new broker at the same addresses, which knows nothing of what was before."""
        self._log_begin = os.stat(self._log_file.name).st_size
        self._settle(self._ask("reset"))

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Have a topic, whichever protocols are served. Raises ServerError."""
        self._ask("create_topic", name=name, partitions=partitions)

    def inject(self, fault: Fault | None = None, *, seed: int = 0, **fields: Any) -> int:
        """Have a fault happen from now on: one, or one with these fields. Returns its number.

        Raises:
            ValueError, TypeError: there is no such fault.
        """
        found = Fault(**fields) if fault is None else fault
        number: int = self._ask("inject", fault=attrs.asdict(found), seed=seed)
        return number

    def heal(self) -> None:
        """Have no fault happen any more."""
        self._ask("heal")

    def met(self) -> list[int]:
        """Return how many requests each fault has happened to, in the order of injecting."""
        found: list[int] = self._ask("met")
        return found

    def __enter__(self) -> BrokerServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the broker is not started")
        return self._process

    def _settle(self, where: Mapping[str, Any]) -> None:
        self.ports = where["ports"]
        self.bootstrap = where["bootstrap"]

    def _ask(self, do: str, **arguments: Any) -> Any:
        self._running()
        with self._lock:
            self._send({"do": do, **arguments})
            return self._answer(_ANSWER_SECONDS)

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._channel is not None
        try:
            self._channel.sendall(json.dumps(request, default=str).encode() + b"\n")
        except OSError:
            raise self._gone() from None

    def _answer(self, seconds: float) -> Any:
        assert self._channel is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._channel], [], [], left)[0]:
                raise ServerError(f"the broker has not answered within {seconds} s:\n{self.log[-4000:]}")
            try:
                data = self._channel.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                raise self._gone()
            self._received += data
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        answer = json.loads(line)
        if "error" in answer:
            raise (ValueError if answer["kind"] == "value" else ServerError)(answer["error"])
        return answer["result"]

    def _gone(self) -> ServerError:
        code = None if self._process is None else self._process.wait(_STOP_SECONDS)
        return ServerError(f"the broker's process has ended, with exit code {code}:\n{self.log[-4000:]}")
