"""Batches under random content, random damage, and against the codecs of two Kafka clients."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka.record import default_records as aiokafka_records
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record import default_records as kafka_python_records

from megabroker.codec import batch, compression
from megabroker.codec.batch import RecordInput
from megabroker.errors import ProtocolError
from megabroker.model import Header, Record

QUICK = settings(max_examples=60, deadline=None)

blobs = st.none() | st.binary(max_size=200) | st.integers(0, 20_000).map(lambda n: b"v" * n)
headers = st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=80)), max_size=4)
times = st.integers(0, 1 << 45) | st.integers(1_700_000_000_000, 1_700_000_010_000)
inputs = st.lists(st.tuples(blobs, blobs, headers, times), min_size=1, max_size=20)
codecs = st.integers(0, 4)


def expected(records: list[Any], base_offset: int = 0) -> list[Record]:
    return [
        Record(base_offset + n, time, key, value, tuple(Header(*header) for header in head))
        for n, (key, value, head, time) in enumerate(records)
    ]


@QUICK
@given(inputs, codecs, st.integers(0, 1 << 40), st.data())
def test_round_trip(records: list[RecordInput], codec: int, base_offset: int, data: st.DataObject) -> None:
    built = batch.build(records, compression=codec)
    header = batch.validate_produce(built)
    assert (header.record_count, header.compression) == (len(records), codec)
    batch.stamp(built, base_offset, 1)
    wanted = expected(records, base_offset)
    assert list(batch.read_records(memoryview(built))) == wanted
    start = data.draw(st.integers(0, len(records)))
    assert list(batch.read_records(built, base_offset + start)) == wanted[start:]


@QUICK
@given(inputs, codecs, st.data())
def test_damage_raises_only_protocol_error(
    records: list[RecordInput], codec: int, data: st.DataObject
) -> None:
    """The CRC is made right again, so that the damage reaches the decoder of the records."""
    built = batch.build(records, compression=codec)
    for _ in range(data.draw(st.integers(1, 4))):
        built[data.draw(st.integers(0, len(built) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        built = built[: data.draw(st.integers(0, len(built)))]
    if len(built) > 61 and data.draw(st.booleans()):
        struct.pack_into(">i", built, 8, len(built) - 12)
        struct.pack_into(">I", built, 17, crc32c(bytes(built[21:])))
    _survive(built)


@QUICK
@given(st.binary(max_size=300), codecs, st.integers(1, 30))
def test_random_records_raise_only_protocol_error(payload: bytes, codec: int, count: int) -> None:
    built = batch.build([(None, None, (), 0)])[:61] + payload
    struct.pack_into(">i", built, 8, len(built) - 12)
    struct.pack_into(">h", built, 21, codec)
    struct.pack_into(">i", built, 23, count - 1)
    struct.pack_into(">i", built, 57, count)
    struct.pack_into(">I", built, 17, crc32c(bytes(built[21:])))
    assert batch.check_crc(built, 0, batch.read_header(built, 0, len(built)))
    _survive(built)


def _survive(data: bytearray) -> None:
    for attempt in (
        lambda: batch.validate_produce(data),
        lambda: list(batch.scan(data, 0, len(data))),
        lambda: list(batch.read_records(data, max_bytes=1 << 20)),
        lambda: batch.find_batch(data, 0, len(data), 0),
    ):
        try:
            attempt()
        except ProtocolError:
            pass


@QUICK
@given(st.integers(-1, 8), st.binary(max_size=300), st.integers(0, 5000))
def test_random_streams_raise_only_protocol_error(codec: int, data: bytes, max_bytes: int) -> None:
    try:
        assert len(compression.decompress(codec, data, max_bytes)) <= max_bytes
    except ProtocolError:
        pass


@QUICK
@given(st.integers(1, 4), st.binary(max_size=2000), st.data())
def test_damaged_streams_raise_only_protocol_error(codec: int, content: bytes, data: st.DataObject) -> None:
    packed = bytearray(compression.compress(codec, content))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert len(compression.decompress(codec, packed, 4000)) <= 4000
    except ProtocolError:
        pass


# kafka-python needs further packages for snappy and zstd; aiokafka has all four, in C and in Python.
CLIENTS = [
    pytest.param(kafka_python_records, "", (0, 1, 3), id="kafka-python"),
    pytest.param(aiokafka_records, "", (0, 1, 2, 3, 4), id="aiokafka"),
    pytest.param(aiokafka_records, "Py", (0, 1, 2, 3, 4), id="aiokafka-python"),
]


def _class(module: Any, name: str, flavour: str) -> Any:
    return getattr(module, f"_{name}{flavour}" if flavour else name)


@pytest.mark.parametrize(("module", "flavour", "supported"), CLIENTS)
@settings(max_examples=25, deadline=None)
@given(records=inputs)
def test_clients_batches_are_read(
    module: Any, flavour: str, supported: tuple[int, ...], records: list[RecordInput]
) -> None:
    for codec in supported:
        builder = _class(module, "DefaultRecordBatchBuilder", flavour)(2, codec, 0, 77, 3, 11, 1 << 30)
        for n, (key, value, head, time) in enumerate(records):
            assert builder.append(n, time, key, value, list(head)) is not None
        theirs = bytes(builder.build())
        header = batch.validate_produce(theirs)
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (77, 3, 11)
        assert header.max_timestamp == max(time for *_, time in records)
        assert list(batch.read_records(theirs)) == expected(records)


@pytest.mark.parametrize(("module", "flavour", "supported"), CLIENTS)
@settings(max_examples=25, deadline=None)
@given(records=inputs)
def test_clients_read_our_batches(
    module: Any, flavour: str, supported: tuple[int, ...], records: list[RecordInput]
) -> None:
    for codec in supported:
        ours = batch.build(records, compression=codec, base_offset=1000, producer_id=5)
        theirs = _class(module, "DefaultRecordBatch", flavour)(bytearray(ours))
        assert theirs.validate_crc()
        decoded = [
            Record(r.offset, r.timestamp, r.key, r.value, tuple(Header(*header) for header in r.headers))
            for r in theirs
        ]
        assert decoded == expected(records, 1000)
