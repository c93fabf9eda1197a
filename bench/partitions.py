"""How a broker does with many partitions: creating, restarting, memory when idle, describing all of them.

    python -m bench.partitions [--topics 1000] [--partitions 10] [--written 0.1] [--directory DIR]

Starts a broker of its own on a free port, creates the topics over the Kafka wire, writes a record into each
partition of a share of the topics, and prints one line a measurement: seconds, MiB, files. Nothing is
asserted; the broker is to start in 10 s, idle below 400 MiB and describe everything in 2 s with 10,000
partitions.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Callable

from confluent_kafka import Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec
from kafka import KafkaAdminClient

from tests.brokers import BrokerProcess

_CREATED_AT_ONCE = 100
_SETTLING_SECONDS = 5
_ADMIN_SECONDS = 120
_STOP_SECONDS = 300


def main() -> None:
    """Run the measurement that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--topics", type=int, default=1000)
    parser.add_argument("--partitions", type=int, default=10, help="of each topic")
    parser.add_argument("--written", type=float, default=0.1, help="share of the topics that get a record")
    parser.add_argument("--directory", type=pathlib.Path, help="kept; by default a temporary one")
    wanted = parser.parse_args()
    names = [f"topic-{number}" for number in range(wanted.topics)]
    config = {"limits": {"idle_seconds": 3600}}
    with BrokerProcess(config, wanted.directory) as broker:
        _show("memory without topics", _memory_mib(broker), "MiB")
        _timed("create", lambda: _create(broker, names, wanted.partitions))
        share = names[: round(len(names) * wanted.written)] or names
        _timed("write", lambda: _write(broker, share, wanted.partitions))
        _usage("after creating", broker)
        _timed("stop", lambda: _stop(broker))
        _timed("start after a stop", broker.start)
        _show("  of which before ready", broker.ready_ms / 1000, "s")
        time.sleep(_SETTLING_SECONDS)
        _usage("idle", broker)
        _describe(broker, names, wanted.partitions)
        _usage("after describing", broker)
        broker.kill()
        _timed("start after kill -9", broker.start)
        _show("  of which before ready", broker.ready_ms / 1000, "s")
        time.sleep(_SETTLING_SECONDS)
        _usage("idle", broker)


def _create(broker: BrokerProcess, names: list[str], partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    for first in range(0, len(names), _CREATED_AT_ONCE):
        new = [NewTopic(name, partitions, 1) for name in names[first : first + _CREATED_AT_ONCE]]
        answers = admin.create_topics(new, operation_timeout=_ADMIN_SECONDS, request_timeout=_ADMIN_SECONDS)
        for answer in answers.values():
            answer.result(_ADMIN_SECONDS)


def _write(broker: BrokerProcess, names: list[str], partitions: int) -> None:
    producer = Producer(
        {"bootstrap.servers": broker.kafka, "log_level": 0, "queue.buffering.max.messages": 1_000_000}
    )
    for name in names:
        for partition in range(partitions):
            producer.produce(name, b"x" * 100, partition=partition)
    assert producer.flush(_ADMIN_SECONDS) == 0


def _stop(broker: BrokerProcess) -> None:
    assert broker.process is not None
    broker.process.terminate()
    assert broker.process.wait(_STOP_SECONDS) == 0


def _describe(broker: BrokerProcess, names: list[str], partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    admin.list_topics(timeout=_ADMIN_SECONDS)
    _timed("Metadata of all", lambda: admin.list_topics(timeout=_ADMIN_SECONDS))
    asked = TopicCollection(names)
    _timed("DescribeTopics of all", lambda: _results(admin.describe_topics(asked)))
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    _timed("DescribeConfigs of all", lambda: _results(admin.describe_configs(resources)))
    offsets = {
        TopicPartition(name, number): OffsetSpec.latest() for name in names for number in range(partitions)
    }
    _timed("ListOffsets of all", lambda: _results(admin.list_offsets(offsets)))
    logs = KafkaAdminClient(bootstrap_servers=broker.kafka)
    _timed("DescribeLogDirs of all", logs.describe_log_dirs)
    logs.close()


def _results(answers: dict[object, object]) -> None:
    for answer in answers.values():
        answer.result(_ADMIN_SECONDS)  # type: ignore[attr-defined]


def _timed(what: str, call: Callable[[], object]) -> None:
    began = time.monotonic()
    call()
    _show(what, time.monotonic() - began, "s")


def _usage(when: str, broker: BrokerProcess) -> None:
    _show(f"memory {when}", _memory_mib(broker), "MiB")
    assert broker.process is not None
    _show(f"open files {when}", len(list(pathlib.Path(f"/proc/{broker.process.pid}/fd").iterdir())), "")


def _memory_mib(broker: BrokerProcess) -> float:
    assert broker.process is not None
    for line in pathlib.Path(f"/proc/{broker.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _show(what: str, number: float, unit: str) -> None:
    sys.stdout.write(f"{what:28} {number:10.3f} {unit}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
