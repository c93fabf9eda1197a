"""A broker of several worker processes, for tests."""

from __future__ import annotations

import os
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

from tests.brokers import BrokerProcess

__all__ = ["WorkersProcess"]


class WorkersProcess(BrokerProcess):
    """A supervisor and its workers; every start chooses free ports anew.

    Attributes:
        environment: variables that every start adds.
        nodes: the addresses of the Kafka listeners, by worker.
    """

    def __init__(
        self,
        workers: int = 2,
        config: Mapping[str, Any] | None = None,
        directory: pathlib.Path | None = None,
    ) -> None:
        super().__init__({"workers": workers, **(config or {})}, directory)
        self.environment: dict[str, str] = {}

    def start(self, env: Mapping[str, str] | None = None) -> WorkersProcess:
        self.ports = {}
        super().start({**self.environment, **(env or {})})
        ready = re.findall(r"is ready after .*", self.log)[-1]
        self.nodes: list[str] = re.findall(r"kafka at (\S+?)[,;]", ready)
        return self

    @property
    def kafka(self) -> str:
        return ",".join(self.nodes)

    def pids(self) -> dict[int, int]:
        """Return the processes of the workers by node id."""
        assert self.process is not None
        found = {}
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            if parent == self.process.pid and b"megabroker.worker" in words:
                found[int(words[words.index(b"megabroker.worker") + 1])] = pid
        return found

    def all_pids(self) -> list[int]:
        """Return every process of the broker, the supervisor first."""
        assert self.process is not None
        return [self.process.pid, *self.pids().values()]

    def served_again(self, node_id: int) -> int:
        """Return how often a worker has come back."""
        return len(re.findall(rf"serves again .*node={node_id}\b", self.log))

    def until_serving(self, node_id: int, but: int, seconds: float = 20, times: int = 1) -> int:
        """Wait until a worker serves again, that often, in another process than ``but``; return that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid = self.pids().get(node_id)
            if pid not in (None, but) and self.served_again(node_id) >= times:
                assert pid is not None
                return pid
            time.sleep(0.02)
        raise AssertionError(f"worker of node {node_id} is not back:\n{self.log[-3000:]}")
