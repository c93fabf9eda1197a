"""Apache Kafka's Java share consumer under the hand of a test."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import NamedTuple

from tests.interop.java import Java

__all__ = ["ShareClient", "ShareRecord"]


class ShareRecord(NamedTuple):
    """A record as the consumer got it."""

    partition: int
    offset: int
    deliveries: int
    value: str


class ShareClient:
    """A process with one ``KafkaShareConsumer`` (``java/ShareClient.java``); use it as a context manager.

    Args:
        java: the clients, with ``ShareClient`` compiled.
        configs: of the consumer, underscores for dots.

    Attributes:
        told: what the acknowledgement callback said: the names of exceptions, ``-`` for none.
    """

    def __init__(self, java: Java, bootstrap: str, topic: str, group: str, **configs: str) -> None:
        settings = {"group.id": group, "bootstrap.servers": bootstrap}
        settings.update({name.replace("_", "."): value for name, value in configs.items()})
        arguments = [f"{name}={value}" for name, value in settings.items()]
        self.told: list[str] = []
        self._process = subprocess.Popen(
            java.command("ShareClient", topic, *arguments, heap_mib=128),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ShareClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process at once: no acknowledgement, no farewell."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def poll(self, seconds: float = 5) -> list[ShareRecord]:
        """Return what one poll brings."""
        rows = [
            line.split(" ", 4) for line in self._do(f"poll {int(seconds * 1000)}") if line[:7] == "record "
        ]
        return [ShareRecord(int(row[1]), int(row[2]), int(row[3]), row[4]) for row in rows]

    def poll_for(self, count: int, tries: int = 8) -> list[ShareRecord]:
        """Poll until so many records have come; records are acknowledged between polls if implicitly."""
        found: list[ShareRecord] = []
        for _ in range(tries):
            if len(found) >= count:
                break
            found += self.poll()
        return found

    def acknowledge(self, kind: str, *records: ShareRecord) -> list[str]:
        """Acknowledge records: ACCEPT, RELEASE, REJECT or RENEW; return what went wrong."""
        wrong = []
        for record in records:
            wrong += self._do(f"acknowledge {kind} {record.partition} {record.offset}")
        return wrong

    def commit(self) -> dict[int, str]:
        """Commit synchronously; return by partition the name of the exception, ``-`` for none."""
        rows = [line.split(" ") for line in self._do("commit") if line.startswith("committed ")]
        return {int(row[1]): row[2] for row in rows}

    def close(self) -> None:
        """Close the consumer, which acknowledges what it has if implicitly."""
        self._do("close")

    def _do(self, command: str) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        lines = []
        while True:
            line = self._process.stdout.readline()
            assert line, f"the Java program ended on {command}: {lines}"
            line = line.strip()
            if line == "done":
                return lines
            if line.startswith("acknowledged "):
                self.told.append(line.split(" ")[2])
            else:
                lines.append(line)
