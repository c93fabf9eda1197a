"""What each Kafka client writes, with each codec, every other one reads: compared record by record."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from megabroker.codec.batch import read_header
from tests.brokers import BrokerProcess
from tests.interop.kafka_clients import (
    CODECS,
    AioKafka,
    Client,
    Confluent,
    Found,
    KafkaJs,
    KafkaPython,
    Kcat,
    sample,
    totals,
)

pytestmark = pytest.mark.interop

NAMES = ("confluent-kafka", "kafka-python", "aiokafka", "kafkajs", "kcat")
_BATCH_LENGTH_AT = 8
_BATCH_START_BYTES = 12


def make(name: str, bootstrap: str, request: pytest.FixtureRequest) -> Client:
    """Return a client by name; skips if what it needs is not there."""
    if name == "kcat":
        return Kcat(bootstrap, request.getfixturevalue("kcat"))
    if name == "kafkajs":
        return KafkaJs(bootstrap, request.getfixturevalue("kafkajs"))
    return {"confluent-kafka": Confluent, "kafka-python": KafkaPython, "aiokafka": AioKafka}[name](bootstrap)


@attrs.frozen
class Written:
    """What one client left in the broker: by codec, records in the order of their places."""

    rows: dict[str, list[Found]]
    began_ms: int
    ended_ms: int


@pytest.fixture(scope="module")
def written() -> dict[str, Written]:
    """Records by writer, for all readers."""
    return {}


def write_all(
    name: str, bootstrap: str, request: pytest.FixtureRequest, new_topic: Callable[..., str]
) -> Written:
    """Write the sample with every codec this client has, one topic each."""
    client = make(name, bootstrap, request)
    began_ms = time.time_ns() // 1_000_000
    by_codec = {}
    for codec in client.write_codecs:
        topic = new_topic(2)
        rows: list[Found] = []
        counts = [0, 0]
        for row in sample(topic):
            able = client.writable(row)
            if able is not None:
                rows.append(attrs.evolve(able, offset=counts[row.partition]))
                counts[row.partition] += 1
        assert len(rows) >= 8
        assert client.write(rows, codec) == [row.offset for row in rows]
        by_codec[codec] = sorted(rows, key=lambda row: (row.partition, row.offset))
    return Written(by_codec, began_ms, time.time_ns() // 1_000_000)


@pytest.mark.parametrize("reader", NAMES)
@pytest.mark.parametrize("writer", NAMES)
def test_every_record_is_read_as_it_was_written(
    writer: str,
    reader: str,
    broker: BrokerProcess,
    written: dict[str, Written],
    new_topic: Callable[..., str],
    request: pytest.FixtureRequest,
) -> None:
    client = make(reader, broker.kafka, request)
    if writer not in written:
        written[writer] = write_all(writer, broker.kafka, request, new_topic)
    known = written[writer]
    wanted = [row for codec in client.read_codecs for row in known.rows.get(codec, [])]
    wanted.sort(key=lambda row: (row.topic, row.partition, row.offset))
    found = client.read(totals(wanted))
    for row, got in zip(wanted, found, strict=True):
        if row.timestamp_ms is None:
            assert got.timestamp_ms is not None
            assert known.began_ms <= got.timestamp_ms <= known.ended_ms
            row = attrs.evolve(row, timestamp_ms=got.timestamp_ms)
        assert got == client.expected(row)


@pytest.mark.parametrize("writer", NAMES)
def test_batches_are_kept_in_the_codec_they_came_in(
    writer: str,
    broker: BrokerProcess,
    written: dict[str, Written],
    new_topic: Callable[..., str],
    request: pytest.FixtureRequest,
) -> None:
    if writer not in written:
        written[writer] = write_all(writer, broker.kafka, request, new_topic)
    for codec, rows in written[writer].rows.items():
        batches = stored_batches(broker, rows[0].topic)
        assert sum(header.record_count for header in batches) == len(rows)
        # Clients leave a batch uncompressed that compression would make longer.
        kinds = {CODECS[header.compression] for header in batches}
        assert codec in kinds
        assert kinds <= {codec, "none"}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", [KafkaPython, AioKafka])
def test_every_codec_is_tested(client: type[Client], codec: str) -> None:
    if codec not in client.write_codecs:
        pytest.skip(f"{client.name} lacks its package for {codec}: {client.__doc__}")
    assert codec in client.read_codecs


def stored_batches(broker: BrokerProcess, topic: str) -> list[Any]:
    """Return the headers of all batches in the files of a topic."""
    headers = []
    files = [
        path
        for path in pathlib.Path(broker.config["data_dir"]).rglob("*.log")
        if path.parent.name.rpartition("-")[0] == topic
    ]
    assert files, f"no segment of {topic}"
    for path in files:
        data = path.read_bytes()
        position = 0
        while position < len(data):
            length = int.from_bytes(data[position + _BATCH_LENGTH_AT :][:4], "big")
            end = position + _BATCH_START_BYTES + length
            headers.append(read_header(data, position, end))
            position = end
    return headers
