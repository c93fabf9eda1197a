"""Requests encoded and answers decoded by the generated classes of Apache Kafka's Java client.

Runs ``java/ApiExchange.java`` and talks to it in lines of JSON. Fields have the names that Kafka's message
definitions give them, in camel case; bytes are base64, ids Kafka's spelling of them.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Any

import attrs

from tests.interop.java import Java

__all__ = ["SCENARIOS", "Closed", "Exchange", "Known", "Trial", "api"]

Body = dict[str, Any]


class Closed(Exception):
    """The broker closed the connection instead of answering."""


@attrs.frozen
class Known:
    """A request that the Java client knows.

    Attributes:
        stable: last version that a broker of its release offers by itself.
        client_facing: whether brokers serve it to clients; the others are between brokers and controllers.
    """

    key: int
    name: str
    first: int
    last: int
    stable: int
    client_facing: bool


class Exchange:
    """The running Java program; use it as a context manager."""

    def __init__(self, java: Java, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._process = subprocess.Popen(
            java.command("ApiExchange", host, port),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def known(self) -> list[Known]:
        """Return every request that the client knows; those that it has no version of are left out."""
        rows = self._line({"keys": True})
        return [
            Known(
                row["key"],
                row["name"],
                row["first"],
                row["last"],
                row["stable"],
                "BROKER" in row["listeners"],
            )
            for row in rows
            if row["first"] <= row["last"]
        ]

    def ask(self, key: int, version: int, body: Body, connection: str = "") -> Body:
        """Send one request and return the answer, after checking that it is encoded as Kafka would.

        Args:
            connection: a name; each has a connection of its own.

        Raises:
            Closed: no answer came.
            AssertionError: it cannot be decoded, bytes are left over, or encoding it again gives others.
        """
        asked = {"key": key, "version": version, "body": body, "connection": connection}
        answer: Body = self._line(asked)
        if answer.get("closed"):
            raise Closed(f"request {key} of version {version} closed the connection")
        assert "error" not in answer, answer["error"]
        assert answer["left"] == 0, f"{answer['left']} bytes are left over"
        assert answer["same"], "encoding the answer again gives other bytes"
        decoded: Body = answer["body"]
        return decoded

    def _line(self, asked: Body) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the Java program ended on {asked}"
        return json.loads(line)


@attrs.frozen
class Trial:
    """One request at one version, on its way through its scenario.

    Attributes:
        topic: a topic with two partitions; partition 0 has three records.
        topic_id: its id.
        kraft: whether the broker is Apache Kafka itself, which has a metadata log.
    """

    exchange: Exchange
    key: int
    version: int
    topic: str
    topic_id: str
    node: int

    def ask(self, **body: Any) -> Body:
        """Send the request under trial."""
        return self.exchange.ask(self.key, self.version, body)

    def prepare(self, key: int, version: int, **body: Any) -> Body:
        """Send another request, which the one under trial needs."""
        return self.exchange.ask(key, version, body, "preparing")

    @staticmethod
    def name(kind: str) -> str:
        """Return a name nobody used before."""
        return f"sweep-{kind}-{secrets.token_hex(4)}"


Scenario = Callable[[Trial], None]
SCENARIOS: dict[int, Scenario] = {}


def api(key: int) -> Callable[[Scenario], Scenario]:
    """Register the scenario of a request."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS[key] = scenario
        return scenario

    return register
