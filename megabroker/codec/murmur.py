"""MurmurHash2 as Apache Kafka's producers choose partitions by it.

Pure. Source: Kafka's ``Utils.murmur2`` and ``Utils.toPositive``; the constants are those of Austin Appleby's
MurmurHash2, the seed is Kafka's.
"""

from __future__ import annotations

from typing import Final

from megabroker.model import Buffer

__all__ = ["murmur2", "partition_of"]

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: Buffer) -> int:
    """Return the hash of bytes, 32 bits without a sign."""
    length = len(data)
    found = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        part = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        part = (part ^ part >> 24) * _M & _MASK
        found = (found * _M & _MASK) ^ part
    if length > whole:
        found = (found ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    found = (found ^ found >> 13) * _M & _MASK
    return found ^ found >> 15


def partition_of(key: Buffer, partitions: int) -> int:
    """Return the partition that a message with a key belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
