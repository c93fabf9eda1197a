"""A broker that the tests of this folder share, and its API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers import BrokerProcess
from tests.http.asking import Api


@pytest.fixture(scope="session")
def broker() -> Iterator[BrokerProcess]:
    """A broker with everything as it is by default."""
    config = {"http": {"request_seconds": 2}, "durability": "os", "logging": {"level": "debug"}}
    with BrokerProcess(config) as started:
        yield started
        assert "Traceback" not in started.log, started.log[-5000:]


@pytest.fixture(scope="session")
def api(broker: BrokerProcess) -> Api:
    """Its API."""
    return Api(broker.http_ports[0])
