"""Directories of Kafka with any bytes changed are read, or refused by a StorageError, and nothing else."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.core.topic_configs import TopicConfigs
from megabroker.errors import ConfigError, ProtocolError, StorageError
from megabroker.kafkadir import coordinator_records as coordinator
from megabroker.kafkadir import metadata_records as m
from megabroker.kafkadir.copying import copy_into
from megabroker.kafkadir.directory import KafkaDirectories
from megabroker.kafkadir.server_properties import read_server_properties
from megabroker.kafkadir.takeover import plan
from megabroker.plugin import discover
from tests.unit.kafka_directories import (
    HandMade,
    group_record,
    offset_record,
    partition,
    topic,
    transaction_record,
)

READERS: list[Callable[[bytes], object]] = [
    m.read_metadata_record,
    coordinator.read_group_key,
    coordinator.read_transaction_key,
    lambda data: coordinator.read_value(coordinator.OffsetValue, data),
    lambda data: coordinator.read_value(coordinator.GroupValue, data),
    lambda data: coordinator.read_value(coordinator.TransactionValue, data),
]


@pytest.mark.parametrize("read", READERS)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_record(read: Callable[[bytes], object], data: bytes) -> None:
    try:
        read(data)
    except ProtocolError:
        pass


def make(path: pathlib.Path) -> HandMade:
    made = HandMade(path).metadata(topic("orders"), partition("orders"), topic("__consumer_offsets"))
    made.metadata(partition("__consumer_offsets"), topic("__transaction_state"))
    made.metadata(partition("__transaction_state"), m.ProducerIds(next_producer_id=5))
    made.replica("orders-0", b"one").replica("__consumer_offsets-0").replica("__transaction_state-0")
    made.log("__consumer_offsets-0", offset_record("g", "orders", 0, 3), group_record("g", 1))
    return made.log("__transaction_state-0", transaction_record("t", producer_id=1, transaction_status=1))


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Return something that changes a file."""
    at, length = draw(st.integers(0, 400)), draw(st.integers(0, 8))
    new = draw(st.binary(max_size=8))
    return lambda data: data[: at % (len(data) + 1)] + new + data[at % (len(data) + 1) + length :]


@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 30), change=changes(), recrc=st.booleans())
def test_any_change_of_a_file(number: int, change: Callable[[bytes], bytes], recrc: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = make(pathlib.Path(directory) / "kafka")
        files = sorted(path for path in made.path.rglob("*") if path.is_file())
        file = files[number % len(files)]
        data = change(file.read_bytes())
        file.write_bytes(right_crc(data) if recrc and file.suffix == ".log" else data)
        try:
            found = plan(KafkaDirectories.read([made.path]), TopicConfigs({}), 1)
            copy_into(found, pathlib.Path(directory) / "ours", clean=False, progress=lambda *_: None)
        except StorageError:
            pass


def right_crc(data: bytes) -> bytes:
    """Make the first batch's CRC right, so that what is in it is looked at."""
    from crc32c import crc32c

    size = 12 + int.from_bytes(data[8:12], "big")
    if len(data) < size or size < 61:
        return data
    return data[:17] + crc32c(data[21:size]).to_bytes(4, "big") + data[21:]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["listeners", "log.dirs", "node.id", "num.partitions", "log.retention.ms", "x.y"]),
        st.text(st.characters(codec="ascii", exclude_characters="\n\r\\"), max_size=20),
    )
)
def test_any_properties(values: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "server.properties"
        lines = ["process.roles=broker", *(f"{name}={value}" for name, value in values.items())]
        file.write_text("\n".join(lines))
        try:
            read_server_properties(str(file), discover(), directory)
        except ConfigError:
            pass
