"""Damage to real bytes, as accidents and attackers do it; the same seed does the same damage."""

from __future__ import annotations

import random

__all__ = ["mutated"]

_BYTES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS = (-1, -2, 0, 1, 0x7F, 0x80, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return ``data`` with one to four kinds of damage; pieces may come from ``others``."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_KINDS)(damaged, others, rng)
    return bytes(damaged)


def _place(damaged: bytearray, rng: random.Random) -> int:
    return rng.randrange(len(damaged) + 1)


def _one_byte(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    if damaged:
        damaged[rng.randrange(len(damaged))] = rng.choice((*_BYTES, rng.randrange(256)))


def _one_bit(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    if damaged:
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)


def _a_number(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    size = rng.choice((2, 4, 8))
    number = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    at = _place(damaged, rng)
    damaged[at : at + size] = number.to_bytes(size)


def _a_varint(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    at = _place(damaged, rng)
    damaged[at : at + 1] = rng.choice(
        (b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\x80" * 12, b"\x80\x01")
    )


def _cut(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    del damaged[_place(damaged, rng) :]


def _left_out(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    at = _place(damaged, rng)
    del damaged[at : at + rng.choice((1, 2, 4, 16))]


def _twice(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    at = _place(damaged, rng)
    damaged[at:at] = damaged[at : at + rng.choice((1, 4, 60))]


def _something_between(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    at = _place(damaged, rng)
    damaged[at:at] = rng.randbytes(rng.choice((1, 3, 40)))


def _a_piece_of_another(damaged: bytearray, others: list[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other) + 1)
    at = _place(damaged, rng)
    damaged[at:] = other[start:]


_KINDS = (
    _one_byte,
    _one_byte,
    _one_bit,
    _a_number,
    _a_varint,
    _cut,
    _left_out,
    _twice,
    _something_between,
    _a_piece_of_another,
)
