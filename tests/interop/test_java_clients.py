"""Apache Kafka's Java clients: producers, consumers of both protocols, and every call of administrators.

The scenarios are Java programs that print a line each; what they expect holds for Apache Kafka itself too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, java_or_skip
from tests.interop.java import LOGGING, TOOLS

_SECONDS = 150
_DATA = (
    "codecs",
    "too_large",
    "append_time",
    "offsets",
    "transactions",
    "consume_and_produce",
    "fencing",
    "range",
    "cooperative_sticky",
    "consumer_protocol",
    "consumer_protocol_range",
    "static_classic",
    "static_consumer",
    "pattern",
    "online_upgrade",
)
_ADMIN = (
    "topics",
    "topic_refusals",
    "topic_configs",
    "broker_configs",
    "offsets_and_records",
    "groups",
    "group_members",
    "transactions",
    "log_dirs",
    "replicas",
    "cluster",
    "client_metrics",
    "nobody",
)


@pytest.fixture(scope="module")
def quick_broker() -> Iterator[BrokerProcess]:
    """A broker whose groups of the consumer protocol need not wait for seconds."""
    groups = {"consumer_heartbeat_interval_ms": 500}
    with BrokerProcess({"durability": "os", "groups": groups}) as broker:
        yield broker
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


def outcomes(program: str, broker: BrokerProcess) -> dict[str, str]:
    """Run all scenarios of a program; return by name "ok" or what went wrong."""
    java = java_or_skip(TOOLS, "Scenarios", program)
    done = java.run(program, broker.kafka, seconds=_SECONDS)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows, done.stderr
    return {name: outcome.replace("|", "\n") for name, _, outcome in rows}


@pytest.fixture(scope="module")
def data(quick_broker: BrokerProcess) -> dict[str, str]:
    """Outcomes of producers and consumers."""
    return outcomes("DataScenarios", quick_broker)


@pytest.fixture(scope="module")
def administration(quick_broker: BrokerProcess) -> dict[str, str]:
    """Outcomes of administrators."""
    return outcomes("AdminScenarios", quick_broker)


@pytest.mark.parametrize("scenario", _DATA)
def test_clients(data: dict[str, str], scenario: str) -> None:
    assert data.get(scenario, "did not run") == "ok"


@pytest.mark.parametrize("scenario", _ADMIN)
def test_administrators(administration: dict[str, str], scenario: str) -> None:
    assert administration.get(scenario, "did not run") == "ok"


@pytest.mark.parametrize(
    ("version", "codecs"),
    [
        ("0.11.0.3", "none,gzip,snappy,lz4"),
        ("2.1.1", "none,gzip,snappy,lz4,zstd"),
        ("3.9.1", "none,gzip,snappy,lz4,zstd"),
    ],
)
def test_older_clients(quick_broker: BrokerProcess, version: str, codecs: str) -> None:
    """Their requests have the lowest versions that are served; 2.1 is the oldest that Kafka 4 serves."""
    java = java_or_skip((f"org.apache.kafka:kafka-clients:{version}", LOGGING), "OlderClients")
    done = java.run("OlderClients", quick_broker.kafka, codecs, seconds=_SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "two members"


def test_no_scenario_is_left_out(data: dict[str, str], administration: dict[str, str]) -> None:
    assert (data.keys(), administration.keys()) == (set(_DATA), set(_ADMIN))
