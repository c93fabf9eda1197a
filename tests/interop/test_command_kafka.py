"""The command ``megabroker`` asks Apache Kafka as it asks us: topics, records, groups of both protocols."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from tests.interop.apache_kafka import ApacheKafka
from tests.interop.command import (
    Command,
    group_is_read_by_two,
    groups_go_on_elsewhere,
    records_come_back,
    topics_are_kept,
)

pytestmark = pytest.mark.interop


def test_apache_kafka_is_asked_too(
    apache_kafka: ApacheKafka, unique: Callable[[str], str], tmp_path: pathlib.Path
) -> None:
    command = Command(f"127.0.0.1:{apache_kafka.port}")
    topics_are_kept(command, unique("topic"))
    records_come_back(command, unique("records"))
    groups_go_on_elsewhere(command, unique("places"))
    group_is_read_by_two(command, unique("shared"), tmp_path)
    told = command.json("status")
    assert [one["leads"] for one in told["brokers"]] == [told["partitions"]]
