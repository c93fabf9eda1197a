"""Apache Kafka's command-line tools, many in one Java process.

Starting a Java process for each would cost a second or two; ``java/ToolBox.java`` runs their main methods one
after the other.
"""

from __future__ import annotations

import json
import selectors
import subprocess
from types import TracebackType
from typing import Final

import attrs

from tests.interop.java import Java

__all__ = ["TOOLS_BY_NAME", "Done", "ToolBox"]

_PACKAGE: Final = "org.apache.kafka.tools"
TOOLS_BY_NAME: Final = {
    "kafka-acls": f"{_PACKAGE}.AclCommand",
    "kafka-broker-api-versions": f"{_PACKAGE}.BrokerApiVersionsCommand",
    "kafka-client-metrics": f"{_PACKAGE}.ClientMetricsCommand",
    "kafka-cluster": f"{_PACKAGE}.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": f"{_PACKAGE}.consumer.ConsoleConsumer",
    "kafka-console-producer": f"{_PACKAGE}.ConsoleProducer",
    "kafka-console-share-consumer": f"{_PACKAGE}.consumer.ConsoleShareConsumer",
    "kafka-consumer-groups": f"{_PACKAGE}.consumer.group.ConsumerGroupCommand",
    "kafka-consumer-perf-test": f"{_PACKAGE}.ConsumerPerformance",
    "kafka-delegation-tokens": f"{_PACKAGE}.DelegationTokenCommand",
    "kafka-delete-records": f"{_PACKAGE}.DeleteRecordsCommand",
    "kafka-dump-log": f"{_PACKAGE}.DumpLogSegments",
    "kafka-e2e-latency": f"{_PACKAGE}.EndToEndLatency",
    "kafka-features": f"{_PACKAGE}.FeatureCommand",
    "kafka-get-offsets": f"{_PACKAGE}.GetOffsetShell",
    "kafka-groups": f"{_PACKAGE}.GroupsCommand",
    "kafka-leader-election": f"{_PACKAGE}.LeaderElectionCommand",
    "kafka-log-dirs": f"{_PACKAGE}.LogDirsCommand",
    "kafka-metadata-quorum": f"{_PACKAGE}.MetadataQuorumCommand",
    "kafka-producer-perf-test": f"{_PACKAGE}.ProducerPerformance",
    "kafka-reassign-partitions": f"{_PACKAGE}.reassign.ReassignPartitionsCommand",
    "kafka-replica-verification": f"{_PACKAGE}.ReplicaVerificationTool",
    "kafka-share-groups": f"{_PACKAGE}.consumer.group.ShareGroupCommand",
    "kafka-streams-application-reset": f"{_PACKAGE}.StreamsResetter",
    "kafka-streams-groups": f"{_PACKAGE}.streams.StreamsGroupCommand",
    "kafka-topics": f"{_PACKAGE}.TopicCommand",
    "kafka-transactions": f"{_PACKAGE}.TransactionsCommand",
    "kafka-verifiable-consumer": f"{_PACKAGE}.VerifiableConsumer",
    "kafka-verifiable-producer": f"{_PACKAGE}.VerifiableProducer",
}
"""Main classes by the names of the scripts in Kafka's ``bin``."""


@attrs.frozen
class Done:
    """How a tool ended: its exit code and what it printed."""

    exit: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed: tools differ in where they put what went wrong."""
        return self.out + self.err


class ToolBox:
    """The running Java program; use it as a context manager.

    Args:
        java: with Kafka's tools and ``ToolBox`` compiled.
        bootstrap: what the tools are told as ``--bootstrap-server``.
    """

    def __init__(self, java: Java, bootstrap: str) -> None:
        self.java = java
        self.bootstrap = bootstrap
        self._process = subprocess.Popen(
            java.command("ToolBox", heap_mib=384),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ToolBox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, tool: str, *args: str, text_input: str = "", seconds: float = 60) -> Done:
        """Run a tool to its end; ``--bootstrap-server`` is put before the arguments.

        Raises:
            AssertionError: it did not end in time; the Java process is killed.
        """
        return self.plain(
            tool, "--bootstrap-server", self.bootstrap, *args, text_input=text_input, seconds=seconds
        )

    def plain(self, tool: str, *args: str, text_input: str = "", seconds: float = 60) -> Done:
        """Run a tool with these arguments and no others. Raises as ``run`` does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"main": TOOLS_BY_NAME[tool], "args": args, "input": text_input}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                self._process.kill()
                raise AssertionError(f"{tool} {' '.join(args)} did not end in {seconds} s")
        line = self._process.stdout.readline()
        assert line, f"the Java process ended within {tool} {' '.join(args)}"
        return Done(**json.loads(line))

    def good(self, tool: str, *args: str, text_input: str = "", seconds: float = 60) -> str:
        """Run a tool that must succeed, and return what it printed."""
        done = self.run(tool, *args, text_input=text_input, seconds=seconds)
        assert done.exit == 0, f"{tool} {' '.join(args)} ended with {done.exit}:\n{done.out}\n{done.err}"
        return done.out
