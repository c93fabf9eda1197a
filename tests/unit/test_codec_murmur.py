"""Partitions by key are those of Kafka's producers; the numbers are those of Kafka's own tests."""

from __future__ import annotations

import pytest

from megabroker.codec.murmur import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hashes_as_kafka_has_them(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % (1 << 32)
    assert 0 <= partition_of(key, 7) < 7
