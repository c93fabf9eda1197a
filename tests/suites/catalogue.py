"""All suites there are."""

from __future__ import annotations

from tests.suites.java_tools import JavaTools
from tests.suites.kafka_python import KafkaPython
from tests.suites.kcat import Kcat
from tests.suites.node_rdkafka import NodeRdkafka
from tests.suites.results import Suite

__all__ = ["SUITES"]

SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (KafkaPython(), NodeRdkafka(), JavaTools(), Kcat())
}
"""Suites by name, in the order they run."""
