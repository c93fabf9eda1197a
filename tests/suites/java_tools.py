"""Apache Kafka's own command-line tools and verifiable clients, from Maven's artifacts.

They come without tests of their own; each row is one call of a tool, with what it must print.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.interop.conftest import create_topic
from tests.interop.java import KAFKA_VERSION, TOOLS, Java
from tests.interop.tool_box import TOOLS_BY_NAME, ToolBox
from tests.suites.results import FAILED, PASSED, Result, Run, Suite

__all__ = ["JavaTools"]

_TOPIC = "tools"
_GROUP = "tools-group"


class _Row(NamedTuple):
    """One call: the tool, its arguments, a pattern in what it prints, its standard input."""

    tool: str
    args: Sequence[str]
    shows: str = ""
    text: str = ""
    exit: int = 0


_OF_TOPIC = ("--topic", _TOPIC)
_OF_GROUP = ("--group", _GROUP)
_CONFIGURED = ("--entity-type", "topics", "--entity-name", _TOPIC)
_BROKER = ("--entity-type", "brokers", "--entity-name", "0")
_RESET = ("--reset-offsets", *_OF_GROUP, *_OF_TOPIC, "--execute")
_READ = (*_OF_TOPIC, "--from-beginning", "--timeout-ms", "20000", "--max-messages")

_ROWS = (
    _Row("kafka-topics", ("--create", *_OF_TOPIC, "--partitions", "2"), "Created topic tools"),
    _Row("kafka-topics", ("--list",), rf"(?m)^{_TOPIC}$"),
    _Row("kafka-topics", ("--alter", *_OF_TOPIC, "--partitions", "3")),
    _Row("kafka-topics", ("--describe", *_OF_TOPIC), r"PartitionCount: 3\s+ReplicationFactor: 1"),
    _Row("kafka-topics", ("--create", *_OF_TOPIC), "TopicExistsException", exit=1),
    _Row("kafka-console-producer", _OF_TOPIC, text="one\ntwo\nthree\n"),
    _Row("kafka-console-consumer", (*_READ, "3", *_OF_GROUP), r"(?s)(one|two|three)"),
    _Row("kafka-console-consumer", (*_READ, "3", "--isolation-level", "read_committed"), "three"),
    _Row("kafka-console-consumer", (*_READ, "3", "--command-property", "group.protocol=consumer"), "three"),
    _Row("kafka-get-offsets", _OF_TOPIC, rf"(?s){_TOPIC}:0:\d.*{_TOPIC}:1:\d.*{_TOPIC}:2:\d"),
    _Row("kafka-get-offsets", (*_OF_TOPIC, "--time", "earliest"), rf"{_TOPIC}:2:0"),
    _Row("kafka-consumer-groups", ("--list",), rf"(?m)^{_GROUP}$"),
    _Row("kafka-consumer-groups", ("--describe", *_OF_GROUP), rf"(?m)^{_GROUP} +{_TOPIC} +\d +\d +\d +0 "),
    _Row("kafka-consumer-groups", ("--describe", *_OF_GROUP, "--state"), rf"(?m)^{_GROUP} .* Empty +0"),
    _Row("kafka-consumer-groups", (*_RESET, "--to-earliest"), rf"(?m)^{_GROUP} +{_TOPIC} +\d +0\b"),
    _Row(
        "kafka-consumer-groups", (*_RESET, "--to-datetime", "2000-01-01T00:00:00.000"), rf"{_TOPIC} +\d +0\b"
    ),
    _Row("kafka-consumer-groups", ("--delete-offsets", *_OF_GROUP, *_OF_TOPIC), "Successful"),
    _Row("kafka-consumer-groups", ("--delete", *_OF_GROUP), "was successful"),
    _Row("kafka-groups", ("--list",), "GROUP"),
    _Row("kafka-share-groups", ("--list",)),
    _Row("kafka-streams-groups", ("--list",)),
    _Row("kafka-configs", (*_CONFIGURED, "--alter", "--add-config", "retention.ms=90000"), "Completed"),
    _Row("kafka-configs", (*_CONFIGURED, "--describe"), "retention.ms=90000"),
    _Row("kafka-configs", (*_CONFIGURED, "--alter", "--delete-config", "retention.ms"), "Completed"),
    _Row(
        "kafka-configs", (*_CONFIGURED, "--alter", "--add-config", "retention.ms=x"), "retention.ms", exit=1
    ),
    _Row("kafka-configs", (*_BROKER, "--describe", "--all"), "advertised.listeners="),
    _Row("kafka-configs", (*_BROKER, "--alter", "--add-config", "message.max.bytes=900000"), "Completed"),
    _Row("kafka-configs", (*_BROKER, "--alter", "--delete-config", "message.max.bytes"), "Completed"),
    _Row("kafka-log-dirs", ("--describe",), rf'"partition":"{_TOPIC}-0"'),
    _Row("kafka-broker-api-versions", (), r"Produce\(0\): 0 to 13"),
    _Row("kafka-features", ("describe",), r"transaction.version\s.*FinalizedVersionLevel: 2"),
    _Row("kafka-metadata-quorum", ("describe", "--status"), r"LeaderId: +0\n"),
    _Row("kafka-metadata-quorum", ("describe", "--replication"), r"(?m)^0 +\t.*\tLeader"),
    _Row("kafka-transactions", ("list",), "TransactionalId"),
    _Row("kafka-transactions", ("describe-producers", *_OF_TOPIC, "--partition", "0"), "ProducerId"),
    _Row("kafka-transactions", ("find-hanging", "--broker-id", "0")),
    _Row("kafka-leader-election", ("--election-type", "preferred", "--all-topic-partitions")),
    _Row("kafka-reassign-partitions", ("--list",), "No partition reassignments found"),
    _Row("kafka-client-metrics", ("--list",)),
    _Row(
        "kafka-e2e-latency",
        (*_OF_TOPIC, "--num-records", "20", "--producer-acks", "all", "--record-size", "10"),
        "Avg latency",
    ),
    _Row("kafka-topics", ("--delete", *_OF_TOPIC)),
    _Row("kafka-topics", ("--describe", *_OF_TOPIC), "does not exist", exit=1),
)
"""In this order: later calls use what earlier ones made."""


class JavaTools(Suite):
    """The tools in Kafka's ``bin`` that speak to a broker, and its verifiable clients."""

    name = "java-tools"

    def prepare(self) -> str:
        """Let Maven bring them. Raises ``tests.interop.java.Unavailable`` where it cannot."""
        Java.of(TOOLS).compiled("ToolBox")
        return KAFKA_VERSION

    def run(self, run: Run) -> list[Result]:
        """Run each call."""
        results = []
        java = Java.of(TOOLS).compiled("ToolBox")
        with ToolBox(java, run.bootstrap) as box:
            for number, row in enumerate(_ROWS):
                name = f"{number:02} {row.tool} {' '.join(row.args)}".strip()
                if run.wants(name):
                    results.append(_measured(name, functools.partial(_call, box, row, run.seconds)))
        for name, check in _OWN_PROCESS.items():
            if run.wants(name):
                results.append(_measured(name, functools.partial(check, java, run)))
        return results


def _measured(name: str, check: Callable[[], None]) -> Result:
    begun = time.monotonic()
    try:
        check()
    except Exception as error:
        return Result(name, FAILED, time.monotonic() - begun, f"{type(error).__name__}: {error}"[-2000:])
    return Result(name, PASSED, time.monotonic() - begun)


def _call(box: ToolBox, row: _Row, seconds: float) -> None:
    done = box.run(row.tool, *row.args, text_input=row.text, seconds=seconds)
    assert done.exit == row.exit, f"it ended with {done.exit}: {done.text}"
    assert re.search(row.shows, done.text), f"no {row.shows!r} in {done.text}"


def _performance(java: Java, run: Run) -> None:
    create_topic(run.bootstrap, "performance", 2)
    at = ("--command-property", f"bootstrap.servers={run.bootstrap}", "acks=all", "compression.type=lz4")
    sizes = ("--num-records", "5000", "--record-size", "100", "--throughput", "-1", "--topic", "performance")
    _good(java, run, "kafka-producer-perf-test", *sizes, *at)
    transactions = ("--transaction-duration-ms", "50")
    _good(java, run, "kafka-producer-perf-test", *sizes, *transactions, *at)
    to_read = ("--bootstrap-server", run.bootstrap, "--topic", "performance", "--num-records", "10000")
    found = _good(java, run, "kafka-consumer-perf-test", *to_read)
    assert " 10000, " in found.splitlines()[-1], found


def _verifiable(protocol: str) -> Callable[[Java, Run], None]:
    def check(java: Java, run: Run) -> None:
        topic = f"verifiable-{protocol}"
        create_topic(run.bootstrap, topic, 2)
        at = ("--bootstrap-server", run.bootstrap, "--topic", topic, "--max-messages", "200")
        written = _good(java, run, "kafka-verifiable-producer", *at, "--acks", "-1")
        sent = [json.loads(line) for line in written.splitlines()]
        assert sum(one["name"] == "producer_send_success" for one in sent) == 200, written
        more = ("--group-id", topic, "--reset-policy", "earliest", "--group-protocol", protocol)
        read = _good(java, run, "kafka-verifiable-consumer", *at, *more)
        found = [json.loads(line) for line in read.splitlines()]
        assert sum(one["count"] for one in found if one["name"] == "records_consumed") == 200, read
        commits = [one["success"] for one in found if one["name"] == "offsets_committed"]
        assert commits, read
        assert all(commits), read

    return check


def _good(java: Java, run: Run, tool: str, *args: str) -> str:
    done = java.run(TOOLS_BY_NAME[tool], *args, seconds=run.seconds)
    assert done.returncode == 0, f"{tool} ended with {done.returncode}: {done.stdout}{done.stderr}"
    (pathlib.Path(run.directory) / f"{tool}.log").write_text(done.stdout + done.stderr)
    return done.stdout


_OWN_PROCESS: dict[str, Callable[[Java, Run], None]] = {
    "performance tools": _performance,
    "verifiable clients, classic groups": _verifiable("classic"),
    "verifiable clients, groups of the consumer protocol": _verifiable("consumer"),
}
"""What ends by ending its process, or is too large for a shared one."""
