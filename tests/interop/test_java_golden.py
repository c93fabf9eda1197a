"""The golden bytes are what Apache Kafka's Java client writes, and not what somebody once believed it did."""

from __future__ import annotations

import pytest

from tests.interop.conftest import java_or_skip
from tests.interop.java import CLIENTS
from tests.wire.test_kafka_golden_bytes import GOLDEN

pytestmark = pytest.mark.interop


def test_golden_file_is_what_the_client_writes() -> None:
    done = java_or_skip(CLIENTS, "GoldenBytes").run("GoldenBytes")
    assert done.returncode == 0, done.stderr
    assert done.stdout == GOLDEN.read_text()
