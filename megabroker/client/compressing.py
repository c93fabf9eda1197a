"""How cursus requests are compressed: gzip of the standard library, snappy by cramjam, lz4 by lz4.

These two are imported when they are asked for, by clients that say so.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["COMPRESSIONS", "compress"]

_XERIAL_HEAD: Final = b"\x82SNAPPY\x00" + (1).to_bytes(4, "big") * 2  # magic, version, compatible version
_XERIAL_BLOCK_BYTES: Final = 32 * 1024
_FASTEST: Final = 1


def compress(compression: str, data: bytes) -> bytes:
    """Compress a request body; ``compression`` is one of ``COMPRESSIONS``."""
    return _COMPRESS[compression](data)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, _FASTEST, mtime=0)


def _snappy(data: bytes) -> bytes:
    """Return the framing of Java's xerial library: its head, then blocks that begin with their size."""
    import cramjam

    parts = [_XERIAL_HEAD]
    for at in range(0, len(data), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + _XERIAL_BLOCK_BYTES]))
        parts += (len(block).to_bytes(4, "big"), block)
    return b"".join(parts)


def _lz4(data: bytes) -> bytes:
    import lz4.frame

    compressed: Any = lz4.frame.compress(data)
    return bytes(compressed)


_COMPRESS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "none": bytes,
    "gzip": _gzip,
    "snappy": _snappy,
    "lz4": _lz4,
}

COMPRESSIONS: Final = tuple(_COMPRESS)
"""As the broker's configuration says it."""
