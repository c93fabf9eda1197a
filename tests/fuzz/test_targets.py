"""Damaged frames raise nothing but ProtocolError, and allocate no more than they are worth."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest

from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, corpus

_SMALL, _LARGE = 60, 1500
_MEASURED = 6


def mutations(name: str, target: Target) -> list[bytes]:
    """Return the same damaged frames every time."""
    rng = random.Random(zlib.crc32(name.encode()))
    count = _SMALL if "-request-" in name or "-response-" in name else _LARGE
    return [mutated(rng.choice(target.seeds), target.seeds, rng) for _ in range(count)]


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_mutations(name: str) -> None:
    target = TARGETS[name]
    for data in (*target.seeds, *corpus(name), b"", *mutations(name, target)):
        try:
            target.feed(data)
        except Exception as error:
            raise AssertionError(f"{name} {data.hex()}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_allocated_is_bounded_by_the_frame(name: str) -> None:
    target = TARGETS[name]
    for data in mutations(name, target)[:_MEASURED]:
        target.feed(data)
        tracemalloc.start()
        try:
            target.feed(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= target.fixed_bytes + target.per_byte * len(data), (data.hex(), peak)
