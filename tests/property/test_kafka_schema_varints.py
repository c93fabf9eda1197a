"""Varints: round trips, bounds, and damage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.codec import primitives
from megabroker.errors import ProtocolError

FORMS = {
    "uvarint": (0, 2**32 - 1, 5),
    "uvarlong": (0, 2**64 - 1, 10),
    "varint": (-(2**31), 2**31 - 1, 5),
    "varlong": (-(2**63), 2**63 - 1, 10),
}
GOLDEN = [
    ("uvarint", 0, "00"),
    ("uvarint", 127, "7f"),
    ("uvarint", 128, "8001"),
    ("uvarint", 300, "ac02"),
    ("uvarint", 2**32 - 1, "ffffffff0f"),
    ("uvarlong", 2**64 - 1, "ffffffffffffffffff01"),
    ("varint", -1, "01"),
    ("varint", 1, "02"),
    ("varint", -64, "7f"),
    ("varint", 64, "8001"),
    ("varint", 2**31 - 1, "feffffff0f"),
    ("varint", -(2**31), "ffffffff0f"),
    ("varlong", 2**63 - 1, "feffffffffffffffff01"),
    ("varlong", -(2**63), "ffffffffffffffffff01"),
]


def functions(form: str) -> tuple[Callable[..., tuple[int, int]], Callable[[int], bytes]]:
    return getattr(primitives, f"read_{form}"), getattr(primitives, f"write_{form}")


@pytest.mark.parametrize(("form", "value", "golden"), GOLDEN)
def test_golden(form: str, value: int, golden: str) -> None:
    read, write = functions(form)
    data = bytes.fromhex(golden)
    assert write(value) == data
    assert read(data, 0, len(data)) == (value, len(data))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60)
@given(data=st.data())
def test_round_trip(form: str, data: st.DataObject) -> None:
    read, write = functions(form)
    low, high, _ = FORMS[form]
    value = data.draw(st.integers(low, high))
    encoded = write(value)
    framed = b"\xff" + encoded + b"\x00"
    for buffer in (framed, bytearray(framed), memoryview(framed)):
        assert read(buffer, 1, 1 + len(encoded)) == (value, 1 + len(encoded))
    for end in range(1, 1 + len(encoded)):
        with pytest.raises(ProtocolError):
            read(framed, 1, end)
    if low == 0:
        assert primitives.uvarint_size(value) == len(encoded)


@pytest.mark.parametrize("form", FORMS)
def test_limits(form: str) -> None:
    read, write = functions(form)
    low, high, size = FORMS[form]
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match="varint"):
            write(value)
    for data in (b"\xff" * size + b"\x00", b"\xff" * (size - 1) + b"\x7f", b"\x80" * 100):
        with pytest.raises(ProtocolError):
            read(data, 0, len(data))
    padded = b"\x80" * (size - 1) + b"\x00"
    assert read(padded, 0, size) == (0, size)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60)
@given(data=st.binary(max_size=12))
def test_damage(form: str, data: bytes) -> None:
    read, _ = functions(form)
    low, high, size = FORMS[form]
    try:
        value, pos = read(data, 0, len(data))
    except ProtocolError:
        return
    assert low <= value <= high
    assert 0 < pos <= min(size, len(data))
