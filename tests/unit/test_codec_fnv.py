"""FNV-1a 64 against its published test vectors."""

from __future__ import annotations

import pytest

from megabroker.codec.fnv import fnv1a_64


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xCBF29CE484222325),
        (b"a", 0xAF63DC4C8601EC8C),
        (b"foobar", 0x85944171F73967E8),
        (b"chongo was here!\n", 0x46810940EFF5F915),
    ],
)
def test_vectors(data: bytes, expected: int) -> None:
    assert fnv1a_64(data) == expected
    assert fnv1a_64(memoryview(bytearray(data))) == expected
