"""Go's Kafka clients: franz-go, sarama and kafka-go, against their own ways of doing what all clients do."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log
from tests.interop.golang import Unavailable, scenarios

_SECONDS = 60
_RUNS = [
    (client, scenario)
    for client in ("franz-go", "franz-go-848", "sarama", "kafka-go")
    for scenario in ("codecs", "group", "transactions", "admin")
    if (client, scenario) != ("kafka-go", "transactions")
]


@pytest.fixture(scope="module")
def program() -> pathlib.Path:
    """The scenarios; skips where Go or a module cannot be had."""
    try:
        return scenarios()
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def quick_broker() -> Iterator[BrokerProcess]:
    """A broker whose groups of the consumer protocol need not wait for seconds."""
    groups = {"consumer_heartbeat_interval_ms": 500}
    with BrokerProcess({"durability": "os", "groups": groups}) as broker:
        yield broker
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


@pytest.mark.parametrize(("client", "scenario"), _RUNS)
def test_scenario(
    client: str,
    scenario: str,
    program: pathlib.Path,
    quick_broker: BrokerProcess,
    unique: Callable[[str], str],
) -> None:
    command = [str(program), client, scenario, quick_broker.kafka, unique(scenario)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
