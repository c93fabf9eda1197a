"""Damaged and hostile Kafka messages raise ProtocolError, and cost no more memory than they are worth.

Also round trips of every version we know, those included that Kafka itself has given up.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.codec.primitives import write_uvarint
from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema import (
    api_versions,
    compiler,
    metadata,
    offset_commit,
    offset_fetch,
    produce,
)
from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.headers import read_client_id, read_request_header
from megabroker.protocols.kafka.schema.registry import APIS
from megabroker.protocols.kafka.schema.source import FIXED, fields_in, min_size, within

CASES = [
    pytest.param(message, version, id=f"{api.name}-{message.__name__}-{version}")
    for api in APIS.values()
    for version in api.versions
    for message in (api.request, api.response)
]
LIMITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63}


def scalar(field: f.Field, rng: random.Random) -> Any:
    kind = field.kind
    if kind in LIMITS:
        bound = 1 << LIMITS[kind]
        return rng.choice([0, 1, -1, bound - 1, -bound])
    if kind in FIXED:
        return {
            "boolean": True,
            "uint16": 65535,
            "uint32": 2**32 - 1,
            "float64": 0.5,
            "uuid": rng.randbytes(16),
        }[kind]
    size = rng.choice([0, 1, 5, 127, 200])
    return "é" * (size // 2) if kind == "string" else rng.randbytes(size)


def make(cls: type[f.Struct], version: int, rng: random.Random) -> Any:
    """Make up a message that has something in every field of the version."""
    values: dict[str, Any] = {}
    for field in fields_in(cls, version):
        if within(version, field.nullable) and rng.random() < 0.2:
            values[field.name] = None
        elif field.struct is not None:
            values[field.name] = make(field.struct, version, rng)
        elif field.item is not None:
            item = field.item
            values[field.name] = [
                make(item.struct, version, rng) if item.struct is not None else scalar(item, rng)
                for _ in range(rng.choice([0, 1, 2]))
            ]
        else:
            values[field.name] = scalar(field, rng)
    return cls(**values)


@pytest.mark.parametrize(("message", "version"), CASES)
def test_damage(message: type[f.Message], version: int) -> None:
    rng = random.Random(f"{message.__module__} {message.__name__} {version}")
    decode = message.decoder(version)
    for _ in range(3):
        value = make(message, version, rng)
        data = value.encode(version)
        assert decode(data, 0, len(data)) == (value, len(data))
        ends = range(len(data)) if len(data) < 40 else rng.sample(range(len(data)), 40)
        for end in ends:
            with pytest.raises(ProtocolError):
                decode(data, 0, end)
            with pytest.raises(ProtocolError):
                decode(data[:end], 0, end)
        for _ in range(40 if data else 0):
            damaged = bytearray(data)
            for _ in range(rng.choice([1, 1, 3])):
                damaged[rng.randrange(len(damaged))] = rng.choice(
                    [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
                )
            survive(decode, damaged)
    for _ in range(20):
        survive(decode, rng.randbytes(rng.choice([1, 8, 60])))


def survive(decode: Any, data: bytes | bytearray) -> None:
    try:
        _, pos = decode(data, 0, len(data))
    except ProtocolError:
        return
    assert 0 <= pos <= len(data)


@settings(max_examples=200)
@given(data=st.binary(max_size=80), key=st.sampled_from(sorted(APIS)), pick=st.integers(0, 99))
def test_any_bytes(data: bytes, key: int, pick: int) -> None:
    entry = APIS[key]
    version = entry.versions[pick % len(entry.versions)]
    survive(entry.request.decoder(version), data)
    survive(read_request_header, data)


@settings(max_examples=400)
@given(
    key=st.sampled_from(sorted(APIS)),
    version=st.integers(0, 13),
    length=st.integers(-3, 12),
    rest=st.one_of(st.binary(max_size=16), st.text(max_size=4).map(str.encode), st.just(bytes(12))),
    end=st.integers(8, 40),
)
def test_the_short_way_of_a_header_is_the_general_one(
    key: int, version: int, length: int, rest: bytes, end: int
) -> None:
    data = memoryview((struct.pack(">hhih", key, version, 7, length) + rest)[:end])
    try:
        header, pos = read_request_header(data, 0, len(data))
    except ProtocolError:
        with pytest.raises(ProtocolError):
            read_client_id(data, len(data), APIS[key].is_flexible(version))
    else:
        found = read_client_id(data, len(data), APIS[key].is_flexible(version))
        assert found == (header.client_id or "", pos)


@pytest.mark.parametrize(("message", "version"), CASES)
def test_array_elements_have_a_size(message: type[f.Message], version: int) -> None:
    flexible = compiler._flexible(message.__schema__, version)
    pending: list[type[f.Struct]] = [message]
    while pending:
        for field in fields_in(pending.pop(), version):
            if field.item is not None:
                assert min_size(field.item, version, flexible) >= 1, field
            inner = field.struct or (field.item.struct if field.item is not None else None)
            if inner is not None:
                pending.append(inner)


def peak(decode: Any, data: bytes) -> int:
    """Measure what a refused decoding allocates at most, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode(data, 0, len(data))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HUGE = 0x7FFFFFFF
VARINT = write_uvarint(2**32 - 1)
ONE_TOPIC = struct.pack(">h1sih1s", 1, b"g", 1, 1, b"t")
CRAFTED = [
    pytest.param(metadata.Request, 1, struct.pack(">i", HUGE), id="array count"),
    pytest.param(metadata.Request, 1, struct.pack(">i", -2), id="negative array count"),
    pytest.param(metadata.Request, 0, struct.pack(">i", -1), id="null array"),
    pytest.param(metadata.Request, 9, VARINT, id="compact array count"),
    pytest.param(metadata.Request, 9, b"\x02" + VARINT, id="compact string"),
    pytest.param(metadata.Request, 9, b"\x01\x00\x00\x00" + VARINT, id="tag count"),
    pytest.param(metadata.Request, 9, b"\x01\x00\x00\x00\x01\x05" + VARINT, id="tag size"),
    pytest.param(metadata.Request, 9, b"\xff\xff\xff\xff\x7f", id="varint beyond 32 bits"),
    pytest.param(metadata.Request, 9, b"\x80" * 1000, id="endless varint"),
    pytest.param(
        api_versions.Response, 3, bytes(2) + b"\x01" + bytes(4) + b"\x01\x00\x05" + VARINT, id="in tag"
    ),
    pytest.param(offset_commit.Request, 0, struct.pack(">h", 32767), id="string"),
    pytest.param(offset_commit.Request, 0, struct.pack(">h", -1), id="null string"),
    pytest.param(offset_commit.Request, 0, struct.pack(">h", -32768), id="negative string"),
    pytest.param(
        produce.Request,
        3,
        struct.pack(">hhiih1siii", -1, 1, 0, 1, 1, b"t", 1, 0, HUGE),
        id="records",
    ),
    pytest.param(
        produce.Request,
        3,
        struct.pack(">hhiih1siii", -1, 1, 0, 1, 1, b"t", 1, 0, -2),
        id="negative records",
    ),
    pytest.param(offset_fetch.Request, 1, ONE_TOPIC + struct.pack(">i", HUGE), id="primitive array"),
]


@pytest.mark.parametrize(("message", "version", "data"), CRAFTED)
def test_stated_sizes_are_not_believed(message: type[f.Message], version: int, data: bytes) -> None:
    decode = message.decoder(version)
    assert peak(decode, data) < 20_000
    assert peak(decode, data + bytes(10_000)) < 20_000 + 100 * 10_000


def test_refused_before_allocating() -> None:
    """A count that the frame cannot hold is refused at once, however long the frame is."""
    decode = offset_fetch.Request.decoder(1)
    head = ONE_TOPIC + struct.pack(">i", 1_000_001)
    assert peak(decode, head + bytes(4_000_000)) < 20_000


def test_small_elements_are_limited() -> None:
    """Two bytes on the wire are about a hundred in memory: the number of elements has a bound."""
    limit = compiler.ELEMENT_LIMIT
    decode = metadata.Request.decoder(9)
    tail = bytes(4)
    fits = write_uvarint(limit + 1) + b"\x01\x00" * limit + tail
    message, pos = decode(fits, 0, len(fits))
    assert pos == len(fits)
    assert message.topics is not None
    assert len(message.topics) == limit
    del message
    too_many = write_uvarint(limit + 2) + b"\x01\x00" * (limit + 1) + tail
    assert peak(decode, too_many) < 20_000


def test_limit_counts_all_arrays() -> None:
    half = compiler.ELEMENT_LIMIT // 2 + 1
    topic = struct.pack(">h1si", 1, b"t", half) + bytes(4 * half)
    data = struct.pack(">h1si", 1, b"g", 2) + topic + topic
    decode = offset_fetch.Request.decoder(1)
    with pytest.raises(ProtocolError, match="too many"):
        decode(data, 0, len(data))


def test_end_beyond_the_buffer() -> None:
    data = metadata.Request(topics=None).encode(1)
    assert metadata.Request.decode(data, 1, 0, 1000) == (metadata.Request(topics=None), 4)
    with pytest.raises(ProtocolError):
        metadata.Request.decode(data, 1, 10, 1000)
