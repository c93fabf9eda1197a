"""The audit log of a real broker: clients that are refused again and again, what administrators change."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log
from tests.interop.secured import addresses, listener
from tests.interop.wires import until

pytestmark = pytest.mark.interop

_SECONDS = 12


def test_a_client_that_is_set_up_wrongly_is_told_of_once_and_then_counted() -> None:
    sasl: dict[str, Any] = {"kafka": {"listeners": [listener("passwords", sasl=["PLAIN"])]}}
    with BrokerProcess(
        {"durability": "os", "protocols": sasl, "security": {"refusal_delay_ms": 0}}
    ) as broker:
        wrong = {
            "bootstrap.servers": addresses(broker)[0],
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "nobody",
            "sasl.password": "secret",
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 50,
            "log_level": 0,
        }
        clients = [Producer(wrong) for _ in range(2)]
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            for client in clients:
                client.poll(0.1)
        until(lambda: " more from 127.0.0.1 in " in broker.log, 5, "the count")
        told = [
            line for line in broker.log.splitlines() if "authentication of 'nobody' by PLAIN failed" in line
        ]
        refused = [line for line in told if "refused: kafka client from 127.0.0.1: " in line]
        ends = [line for line in told if "kafka connection from 127.0.0.1:" in line]
        counts = [
            int(one) for one in re.findall(r"refused: (\d+) more from 127\.0\.0\.1 in \d+ s", broker.log)
        ]
        assert len(refused) == 1, told
        assert len(ends) == 1, told
        assert sum(counts) > 20, "else nothing was shown"
        assert len(told) <= 2 + len(counts) <= 4
        del clients
        assert broker.stop() == 0
        check_log(broker.log)
