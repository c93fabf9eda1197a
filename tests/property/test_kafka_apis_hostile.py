"""Whatever can be decoded is answered, at every version, with something that can be encoded."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.core.topics import TopicLimits
from megabroker.protocols.kafka.dispatch import SERVED
from megabroker.protocols.kafka.schema.fields import Field, Struct
from tests.unit.kafka_apis_harness import ApiCase

_OTHERS = {0, 1, 78}  # Produce, Fetch and ShareFetch answer through the connection itself

_TEXTS = (
    "t",
    "t",
    "g",
    "",
    ".",
    "a b",
    "1",
    "consumer",
    "range",
    "retention.ms",
    "\x00",
    "\u20ac" * 99,
    "x" * 9000,
)
_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint16": 16, "uint32": 32}


def _number(chance: random.Random, kind: str) -> int:
    bits = _BITS[kind]
    if kind.startswith("u"):
        return chance.choice((0, 1, 2**bits - 1))
    return chance.choice((0, 0, 1, 1, 2, 4, -1, -1, -2, -3, -5, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))))


def _value(chance: random.Random, field: Field, version: int, ids: list[bytes]) -> Any:
    first, last = field.nullable
    if first <= version <= last and chance.random() < 0.3:
        return None
    if field.kind in _BITS:
        if field.name == "session_timeout_ms" and chance.random() < 0.8:
            return 10_000
        return _number(chance, field.kind)
    if field.kind == "float64":
        return chance.choice((0.0, -1.5, 1e300, float("inf")))
    if field.kind == "boolean":
        return chance.random() < 0.5
    if field.kind == "uuid":
        return chance.choice(ids)
    if field.kind == "string":
        return chance.choice(_TEXTS)
    if field.kind == "bytestring":
        return chance.choice(
            (b"", b"\x00\x01", b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff", bytes(999))
        )
    if field.kind == "array":
        assert field.item is not None
        return [_value(chance, field.item, version, ids) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
    assert field.kind == "struct", field.kind
    assert field.struct is not None
    return _fill(chance, field.struct, version, ids)


def _fill(chance: random.Random, cls: type[Struct], version: int, ids: list[bytes]) -> Any:
    values = {
        field.name: _value(chance, field, version, ids)
        for field in cls.__schema__.fields
        if field.versions[0] <= version <= field.versions[1]
    }
    return cls(**values)


class HostileTests(ApiCase):
    limits = TopicLimits(max_topics=20, max_partitions=100)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(min_value=0))
    def test_everything_decodable_is_answered(self, seed: int) -> None:
        self.setUp()
        topic = self.create("t", 2)
        ids = [bytes(16), topic.id.bytes, b"?" * 16]
        chance = random.Random(seed)
        asked = [
            (key, version)
            for key, row in SERVED.items()
            if key not in _OTHERS
            for version in range(row.first_version, row.last_version + 1)
        ]
        chance.shuffle(asked)
        waiting = []
        for key, version in asked:
            request = _fill(chance, SERVED[key].api.request, version, ids)
            waiting.append(self.begin(request, version, client_id=chance.choice(_TEXTS)))
            self.turn()
            waiting = [one for one in waiting if not self._answered(one)]
        self.clock.advance(3600)
        self.groups.stop()
        self.shares.stop()
        self.turn()
        for one in waiting:
            self.successResultOf(one)

    def _answered(self, waiting: Any) -> bool:
        """Whether the answer is there; a failure, which would close the connection, fails the test."""
        if waiting.called and not waiting.paused:
            self.successResultOf(waiting)
            return True
        return False
