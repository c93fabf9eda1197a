"""The small files of the log store, byte for byte, and what is made of damaged ones."""

from __future__ import annotations

from uuid import UUID

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.model import ProducerSnapshot, TopicPartition
from megabroker.storage.checkpoints import (
    decode_damaged,
    decode_meta,
    decode_offsets,
    decode_partition_metadata,
    decode_rows,
    decode_snapshot,
    encode_damaged,
    encode_meta,
    encode_offsets,
    encode_partition_metadata,
    encode_rows,
    encode_snapshot,
)
from megabroker.storage.index import Index


def test_snapshot_golden() -> None:
    producer = ProducerSnapshot(7, 2, ((0, 1, 10, 11, 50), (2, 4, 12, 14, 60)), 12, 3)
    data = encode_snapshot([producer], 20)
    body = bytes.fromhex(
        "00000001"
        "0000000000000007 0002 00000004 000000000000000e 00000002 000000000000003c 00000003 000000000000000c"
    )
    assert data == bytes.fromhex("0001") + crc32c(body).to_bytes(4, "big") + body
    assert decode_snapshot(data) == (ProducerSnapshot(7, 2, ((2, 4, 12, 14, 60),), 12, 3),)


def test_snapshot_leaves_out_what_is_not_below() -> None:
    producers = [
        ProducerSnapshot(1, 0, ((0, 0, 5, 5, 9), (1, 1, 10, 10, 9))),
        ProducerSnapshot(2, 0, ((0, 0, 10, 10, 9),)),
        ProducerSnapshot(3, 0, (), -1, 4),
        ProducerSnapshot(4, 0, ((0, 0, 12, 12, 9),), 12),
    ]
    assert decode_snapshot(encode_snapshot(producers, 10)) == (
        ProducerSnapshot(1, 0, ((0, 0, 5, 5, 9),)),
        ProducerSnapshot(3, 0, (), -1, 4),
    )


def test_snapshot_sequence_that_wrapped() -> None:
    top = (1 << 31) - 1
    producer = ProducerSnapshot(1, 0, ((top - 1, 1, 0, 3, 0),))
    assert decode_snapshot(encode_snapshot([producer], 10)) == (producer,)


@pytest.mark.parametrize("at", [0, 1, 5, 6, 20, 55])
def test_snapshot_with_a_flipped_bit(at: int) -> None:
    data = bytearray(encode_snapshot([ProducerSnapshot(1, 0, ((0, 0, 5, 5, 9),))], 10))
    data[at] ^= 4
    assert decode_snapshot(data) is None


def test_offsets() -> None:
    offsets = {TopicPartition("b", 1): 5, TopicPartition("a-x", 0): 1 << 40}
    data = encode_offsets(offsets)
    assert data == b"0\n3\na-x 0 1099511627776\nb 1 5\n__crc32c -1 434537052\n"
    assert decode_offsets(data) == offsets
    assert decode_offsets(b"0\n1\na 0 7\n") == {TopicPartition("a", 0): 7}, "as Kafka writes them"
    for at in range(len(data) - 1):
        flipped = bytearray(data)
        flipped[at] ^= 1
        assert decode_offsets(flipped) is None, at
    for bad in (None, b"", b"1\n0\n", b"0\n3\na 0 1\n", b"0\n1\na 0\n", b"0\n1\na b c\n", b"\xff\xfe"):
        assert decode_offsets(bad) is None


def test_meta() -> None:
    values = {"version": "1", "cluster.id": "abcdefghijklmnopqrstuv", "node.id": "1"}
    data = encode_meta(values)
    assert data.splitlines()[1:] == [b"version=1", b"cluster.id=abcdefghijklmnopqrstuv", b"node.id=1"]
    assert decode_meta(data) == values
    assert decode_meta(b"#\n#Thu\nversion=1\nnode.id=2\n") == {"version": "1", "node.id": "2"}, "Kafka's"
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_meta(bytes(flipped)) in (None, values), bit


def test_rows() -> None:
    assert decode_rows(encode_rows([(1, 2), (3, 4)]), 2) == [(1, 2), (3, 4)]
    assert decode_rows(encode_rows([(1, 2)]), 3) is None
    assert decode_rows(encode_rows([]), 2) == []


def test_partition_metadata() -> None:
    topic_id = UUID("b0e6b1c2-0000-4000-8000-1234567890ab")
    assert decode_partition_metadata(encode_partition_metadata(topic_id)) == topic_id
    for bad in (None, b"", b"topic_id: ???\n", b"topic_id: AAAA\n", b"version: 0\n"):
        assert decode_partition_metadata(bad) is None


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    decode_snapshot(data)
    decode_meta(data)
    decode_offsets(data)
    decode_rows(data, 2)
    decode_partition_metadata(data)
    Index.decode(data[: len(data) // 2], data[len(data) // 2 :], 1000)


def small_index() -> Index:
    index = Index()
    for at in range(1, 6):
        index.note(at * 10 - 1, at * 100, 1000 + at // 2 * 10, at * 10 - 1)
    return index


def test_index_golden() -> None:
    offsets, times = small_index().encode()
    assert offsets[:16] == bytes.fromhex("00000009 00000064 00000013 000000c8")
    assert times[:24] == bytes.fromhex("00000000000003e8 00000009 00000000000003f2 00000013")


def test_index_lookup() -> None:
    index = small_index()
    assert [index.position_for(at) for at in (0, 8, 9, 10, 19, 48, 49, 500)] == [
        0, 0, 100, 100, 200, 400, 500, 500,
    ]  # fmt: skip
    befores = [index.time_before(at) for at in (0, 1000, 1001, 1010, 1011, 9999)]
    assert [index.time_offsets[at] if at >= 0 else -1 for at in befores] == [-1, -1, 9, 9, 19, 39]
    index.truncate(300, 25)
    assert list(index.positions) == [100, 200]
    assert list(index.time_offsets) == [9, 19]


def test_index_round_trip_with_preallocated_zeros() -> None:
    offsets, times = small_index().encode()
    index = Index.decode(offsets + bytes(80), times + bytes(120), 1000)
    assert index is not None
    assert index.encode() == (offsets, times)


def test_index_not_to_be_believed() -> None:
    offsets, times = small_index().encode()
    for bad in (
        (None, times, 1000),
        (offsets, None, 1000),
        (offsets[:-1], times, 1000),
        (offsets, times[:-1], 1000),
        (offsets, times, 500),
        (offsets, b"", 1000),
        (offsets[8:] + offsets[:8], times, 1000),
        (offsets, times[12:] + times[:12], 1000),
    ):
        assert Index.decode(*bad) is None


def test_damaged_ranges_with_a_flipped_bit() -> None:
    rows = [(0, 75, 113, 7, 9), (4096, 0, 75, 5000, 5017)]
    data = encode_damaged(rows)
    assert data.startswith(b"0\n3\n0 75 113 7 9\n4096 0 75 5000 5017\n-1 ")
    assert decode_damaged(data) == rows
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            assert decode_damaged(bytes(flipped)) in (None, rows), (at, bit)
    assert decode_damaged(encode_rows(rows)) == rows  # as it was before it had a check
    assert decode_damaged(encode_rows([(0, -75, 113, 7, 9)])) is None
