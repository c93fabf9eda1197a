"""The bytes of .txnindex and of control batches, and looking into the index."""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c

from megabroker.codec.batch import build, build_control, check_crc, read_header, read_marker
from megabroker.model import AbortedTransaction, TransactionMarker
from megabroker.storage.aborted import AbortedIndex

ENTRY = bytes.fromhex("0000 0000000000000007 0000000000000064 00000000000000c8 0000000000000096")
CHECK = struct.pack(">hqqqq", 0, -1 - crc32c(ENTRY), 2**63 - 1, 200, -1)
MARKER = bytes.fromhex(
    "0000000000000000 00000042 ffffffff 02"
    "64347381 0030 00000000 000000000000000a 000000000000000a 0000000000000007 0003 ffffffff 00000001"
    "20 00 00 00 08 00000001 0c 000000000005 00".replace(" ", "")
)


def index(*rows: tuple[int, int, int, int]) -> AbortedIndex:
    made = AbortedIndex()
    for row in rows:
        made.add(AbortedTransaction(*row))
    return made


def found(made: AbortedIndex, start: int, end: int) -> tuple[list[int], bool]:
    into: list[AbortedTransaction] = []
    complete = made.collect(start, end, into)
    return [one.producer_id for one in into], complete


def test_golden_bytes_of_an_entry() -> None:
    one = AbortedTransaction(7, 100, 200, 150)
    data = index(one).encode()
    assert data == ENTRY + CHECK
    for stored in (data, ENTRY):  # the latter as Kafka writes them
        back = AbortedIndex.decode(stored, 100)
        assert back is not None
        assert list(back) == [one]
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        read = AbortedIndex.decode(bytes(flipped), 100)
        assert read is None or list(read) == [one], at
    assert found(back, 0, 151) == ([7], False)


def test_golden_bytes_of_a_marker() -> None:
    data = build_control(commit=True, producer_id=7, producer_epoch=3, coordinator_epoch=5, timestamp_ms=10)
    assert len(data) == 78
    assert data == MARKER
    header = read_header(data, 0, len(data))
    assert check_crc(data, 0, header)
    assert read_marker(data, header) == TransactionMarker(7, 3, True, 5)
    aborting = build_control(
        commit=False, producer_id=7, producer_epoch=3, coordinator_epoch=5, timestamp_ms=1
    )
    padded = b"xyz" + aborting
    assert read_marker(padded, read_header(padded, 3, len(padded)), 3) == TransactionMarker(7, 3, False, 5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"\0\0\0\2", b"\0\0\0\0\0\0"),
        (b"\0\0", b"\0\0\0\0\0\0"),
        (None, b"\0\0\0\0\0\0"),
        (b"\0\0\0\1", None),
        (b"\0\0\0\1", b"\0\0"),
    ],
)
def test_what_is_no_marker_says_nothing(key: bytes | None, value: bytes | None) -> None:
    data = build([(key, value, (), 5)], producer_id=7, producer_epoch=3, attributes=0x30)
    assert read_marker(data, read_header(data, 0, len(data))) is None


def test_range() -> None:
    made = index((1, 0, 10, 5), (2, 5, 20, 12), (3, 12, 30, 31), (4, 40, 50, 51))
    assert found(made, 0, 5) == ([1], True)
    assert found(made, 0, 6) == ([1, 2], True)
    assert found(made, 10, 13) == ([1, 2, 3], True)
    assert found(made, 11, 12) == ([2], True)
    assert found(made, 31, 40) == ([], True)
    assert found(made, 31, 100) == ([4], False)
    assert found(made, 51, 100) == ([], False)
    made.truncate(30)
    assert len(made) == 2
    made.truncate(0)
    assert made.encode() == b""


def test_a_file_that_cannot_be_is_not_believed() -> None:
    good = index((1, 3, 10, 5), (2, 5, 20, 12)).encode()
    assert AbortedIndex.decode(good, 10) is not None
    assert AbortedIndex.decode(b"", 10) is not None
    assert AbortedIndex.decode(good, 11) is None
    assert AbortedIndex.decode(good[:-1], 10) is None
    assert AbortedIndex.decode(good[34:] + good[:34], 10) is None
    assert AbortedIndex.decode(b"\0\1" + good[2:], 10) is None
    assert AbortedIndex.decode(index((1, 10, 10, 5)).encode(), 0) is None
    assert AbortedIndex.decode(index((1, -1, 10, 5)).encode(), 0) is None
