"""All suites there are."""

from __future__ import annotations

from tests.suites.kafka_python import KafkaPython
from tests.suites.node_rdkafka import NodeRdkafka
from tests.suites.results import Suite

__all__ = ["SUITES"]

SUITES: dict[str, Suite] = {suite.name: suite for suite in (KafkaPython(), NodeRdkafka())}
"""Suites by name, in the order they run."""
