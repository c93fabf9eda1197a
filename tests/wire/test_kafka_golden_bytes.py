"""Every message and version against the bytes that Apache Kafka's own Java client writes for it.

``kafka-4.3.1.golden`` has lines of name, direction, version, sample and bytes in hexadecimal; they come from
``tests/interop/java/GoldenBytes.java``. There are two samples of everything: *full* has each field set,
arrays to two elements and all tagged fields among them, and *bare* has zeros, empty arrays, nulls where
allowed and no tagged field. A value follows from the name of its field, so that fields in a wrong order show:

- a string is the name, and so are bytes and records;
- a number is the CRC-32 of the name, as far as it fits without the sign, and an int64 is it times 65537;
- a UUID is that number and that int64;
- the second element of an array of plain values has a "2" behind the name.
"""

from __future__ import annotations

import functools
import pathlib
import zlib
from typing import Any

import pytest

from megabroker.protocols.kafka.schema.fields import Field, Struct
from megabroker.protocols.kafka.schema.registry import APIS, Api

GOLDEN = pathlib.Path(__file__).with_name("kafka-4.3.1.golden")

MASKS = {
    "int8": 0x7F,
    "int16": 0x7FFF,
    "uint16": 0xFFFF,
    "int32": 0x7FFFFFFF,
    "uint32": 0xFFFFFFFF,
}


@functools.cache
def golden() -> dict[tuple[str, str, int, str], bytes]:
    rows = (line.split(" ") for line in GOLDEN.read_text().splitlines())
    return {
        (name, way, int(version), sample): bytes.fromhex(data) for name, way, version, sample, data in rows
    }


CASES = [
    pytest.param(api, way, version, sample, id=f"{api.name}-{version}-{way}-{sample}")
    for api in APIS.values()
    for way in ("request", "response")
    for version in api.versions
    for sample in ("full", "bare")
    if (api.name, way, version, sample) in golden()
]


def within(version: int, versions: tuple[int, int]) -> bool:
    return versions[0] <= version <= versions[1]


def full_value(field: Field, name: str, version: int) -> Any:
    """Return what the *full* sample has in a field."""
    if field.kind == "array":
        assert field.item is not None
        return [full_value(field.item, name, version), full_value(field.item, name + "2", version)]
    if field.kind == "struct":
        assert field.struct is not None
        return sample_of(field.struct, version, "full")
    number = zlib.crc32(name.encode())
    match field.kind:
        case "boolean":
            return True
        case "string":
            return name
        case "bytestring" | "records":
            return name.encode()
        case "int64":
            return number * 65537
        case "float64":
            return float(number)
        case "uuid":
            return number.to_bytes(8) + (number * 65537).to_bytes(8)
        case kind:
            return number & MASKS[kind]


def bare_value(field: Field, version: int) -> Any:
    """Return what the *bare* sample has in a field."""
    if within(version, field.nullable):
        return None
    if field.kind == "struct":
        assert field.struct is not None
        return sample_of(field.struct, version, "bare")
    zeros = {
        "array": [],
        "boolean": False,
        "string": "",
        "bytestring": b"",
        "records": b"",
        "uuid": bytes(16),
    }
    return zeros.get(field.kind, 0)


def sample_of(cls: type[Struct], version: int, sample: str) -> Struct:
    """Make a sample of a message, or of a part of one."""
    values = {}
    for field in cls.__schema__.fields:
        if not within(version, field.versions):
            continue
        if sample == "full":
            values[field.name] = full_value(field, field.name, version)
        elif not (field.tag is not None and within(version, field.tagged)):
            values[field.name] = bare_value(field, version)
    return cls(**values)


@pytest.mark.parametrize(("api", "way", "version", "sample"), CASES)
def test_golden_bytes(api: Api, way: str, version: int, sample: str) -> None:
    cls = api.request if way == "request" else api.response
    expected = golden()[api.name, way, version, sample]
    message = sample_of(cls, version, sample)
    assert message.encode(version).hex() == expected.hex()
    decoded, end = cls.decode(expected, version)
    assert end == len(expected)
    assert decoded == message


def test_versions_without_golden_bytes() -> None:
    """What the client no longer knows are the oldest versions; nothing newer is made up here."""
    for api in APIS.values():
        known = [row[2] for row in golden() if row[0] == api.name]
        assert known, api.name
        assert api.last_version <= max(known), api.name
        assert set(range(min(known), api.last_version + 1)) <= set(known)
