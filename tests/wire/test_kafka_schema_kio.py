"""Every message and version that kio knows, encoded by one side and decoded by the other.

kio is generated from Kafka's own definitions, so it is the oracle for our tables: same fields in the
same order, same defaults, same nulls, same bytes.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import io
import random
import types
import typing
import uuid
from typing import Any

import pytest
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.registry import APIS, Api
from megabroker.protocols.kafka.schema.source import fields_in

UTC = datetime.UTC
ROUNDS = 6
RANGES = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint16": (0, 2**16 - 1),
}
KINDS = {
    "bool": "boolean",
    "bytes": "bytestring",
    "error_code": "int16",
    "timedelta_i32": "int32",
    "timedelta_i64": "int64",
    "datetime_i64": "int64",
}


def kio_class(api: Api, version: int, direction: str) -> Any:
    name = api.name + direction.capitalize()
    try:
        module = importlib.import_module(f"kio.schema.{api.module}.v{version}.{direction}")
    except ModuleNotFoundError:
        return None
    return getattr(module, name)


CASES = [
    pytest.param(api, version, direction, id=f"{api.name}-{version}-{direction}")
    for api in APIS.values()
    for version in api.versions
    for direction in ("request", "response")
    if kio_class(api, version, direction) is not None
]


def shape(field: Any) -> tuple[Any, bool, bool]:
    """Take apart the type of a kio field: (innermost type, is array, is optional)."""
    kind, optional, is_array = field.type, False, False
    for _ in range(3):
        if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
            optional = True
            (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
        elif typing.get_origin(kind) is tuple:
            is_array = True
            kind = typing.get_args(kind)[0]
    return kind, is_array, optional


def to_kio(kafka_type: str, value: Any) -> Any:
    """Translate one of our scalar values to what kio holds for it."""
    if kafka_type == "error_code":
        return ErrorCode(value)
    if kafka_type.startswith("timedelta"):
        return datetime.timedelta(milliseconds=value)
    if kafka_type == "datetime_i64":
        return None if value == -1 else datetime.datetime.fromtimestamp(value / 1000, UTC)
    if kafka_type == "uuid":
        return None if value == f.ZERO_UUID else uuid.UUID(bytes=value)
    return value


def scalar(kafka_type: str, optional: bool, rng: random.Random) -> Any:
    """Make up one of our scalar values."""
    if kafka_type == "error_code":
        return rng.choice(list(ErrorCode)).value
    if kafka_type == "datetime_i64":
        return rng.choice([-1, rng.randrange(10**9) * 1000] if optional else [rng.randrange(10**9) * 1000])
    if kafka_type == "timedelta_i64":
        return rng.choice([0, 1, rng.randrange(10**13)])
    kind = KINDS.get(kafka_type, kafka_type)
    if kind in RANGES:
        low, high = RANGES[kind]
        return rng.choice([low, high, 0, 1, rng.randint(low, high)])
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "float64":
        return rng.choice([0.0, -1.5, rng.random()])
    if kind == "uuid":
        return rng.choice([f.ZERO_UUID, rng.randbytes(16)])
    size = rng.choice([0, 1, 3, 126, 127, 128, 300])
    if kind == "string":
        return "".join(rng.choice("aü€\U0001f600\0") for _ in range(size))
    return rng.randbytes(size)


def pair(ours: Any, theirs: Any, version: int, rng: random.Random) -> tuple[Any, Any]:
    """Make up one message twice: as our class and as kio's."""
    our_fields, their_fields = fields_in(ours, version), dataclasses.fields(theirs)
    assert len(our_fields) == len(their_fields), (ours, [field.name for field in our_fields], their_fields)
    mine: dict[str, Any] = {}
    its: dict[str, Any] = {}
    for our, their in zip(our_fields, their_fields, strict=True):
        check_field(our, their, version)
        if our.tag is not None and rng.random() < 0.3:
            continue
        mine[our.name], its[their.name] = value_of(our, their, version, rng)
    default = ours()
    for our, their in zip(our_fields, their_fields, strict=True):
        if their.name not in its:
            value = getattr(default, our.name)
            if value is None and our.struct is not None and our.tag is not None:
                value = our.struct()  # kio has no other way to say that it is not sent
            its[their.name] = implied(value, their, version, rng)
    return ours(**mine), theirs(**its)


def implied(value: Any, their: Any, version: int, rng: random.Random) -> Any:
    kind, is_array, _ = shape(their)
    if is_array:
        return None if value is None else ()
    if dataclasses.is_dataclass(kind):
        if value is None:
            return None
        names = [field.name for field in fields_in(type(value), version)]
        inner = dataclasses.fields(kind)
        return kind(
            **{
                field.name: implied(getattr(value, name), field, version, rng)
                for field, name in zip(inner, names, strict=True)
            }
        )
    return to_kio(their.metadata["kafka_type"], value)


def value_of(our: f.Field, their: Any, version: int, rng: random.Random) -> tuple[Any, Any]:
    kind, is_array, optional = shape(their)
    kafka_type = their.metadata.get("kafka_type", "")
    if our.nullable[0] <= version <= our.nullable[1] and rng.random() < 0.25:
        return None, None
    if dataclasses.is_dataclass(kind):
        cls = our.struct if our.item is None else our.item.struct
        if not is_array:
            return pair(cls, kind, version, rng)
        both = [pair(cls, kind, version, rng) for _ in range(rng.choice([0, 1, 2]))]
        return [one for one, _ in both], tuple(other for _, other in both)
    if is_array:
        values = [scalar(kafka_type, False, rng) for _ in range(rng.choice([0, 1, 2, 5, 130]))]
        return values, tuple(to_kio(kafka_type, value) for value in values)
    value = scalar(kafka_type, optional, rng)
    return value, to_kio(kafka_type, value)


def check_field(our: f.Field, their: Any, version: int) -> None:
    """Compare the declarations of one field."""
    kind, is_array, optional = shape(their)
    kafka_type = their.metadata.get("kafka_type", "struct")
    where = f"{our} {their}"
    assert our.name in (their.name, their.name + "_ms"), where
    assert their.metadata.get("tag") == (our.tag if our.tagged[0] <= version <= our.tagged[1] else None), (
        where
    )
    assert (our.kind == "array") == is_array, where
    item = our.item if our.item is not None else our
    if dataclasses.is_dataclass(kind):
        assert item.kind == "struct", where
    else:
        assert item.kind == KINDS.get(kafka_type, kafka_type), where
    if kafka_type not in ("uuid", "datetime_i64"):
        assert (our.nullable[0] <= version <= our.nullable[1]) == optional, where
    if their.default is not dataclasses.MISSING and not dataclasses.is_dataclass(kind):
        default = None if our.default is None else () if is_array else to_kio(kafka_type, our.default)
        assert default == their.default, where


@pytest.mark.parametrize(("api", "version", "direction"), CASES)
def test_same_as_kio(api: Api, version: int, direction: str) -> None:
    theirs = kio_class(api, version, direction)
    ours = api.request if direction == "request" else api.response
    assert theirs.__flexible__ == api.is_flexible(version)
    assert theirs.__api_key__ == api.key
    read, write = entity_reader(theirs), entity_writer(theirs)
    rng = random.Random(f"{api.name} {version} {direction}")
    for _ in range(ROUNDS):
        mine, its = pair(ours, theirs, version, rng)
        encoded = mine.encode(version)
        stream = io.BytesIO()
        write(stream, its)
        assert encoded == stream.getvalue()
        assert read(encoded, 0) == (its, len(encoded))
        decoded, pos = ours.decode(b"\x7f" + encoded + b"\x7f", version, 1, 1 + len(encoded))
        assert pos == 1 + len(encoded)
        assert decoded == mine
        assert decoded.encode(version) == encoded
