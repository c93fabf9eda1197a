"""Compression codecs of record batches and of request bodies, with bounded output.

Owns the codec numbers and names, and the only calls into compression libraries. Never hands a library
more room than the caller allows: output is taken in steps, and what would pass ``max_bytes`` is refused
before it is made. Damage, trailing bytes and excess raise ``ProtocolError``, nothing else.

    number  name    format
    0       none    as is
    1       gzip    one gzip member (RFC 1952)
    2       snappy  xerial framing, or one raw snappy block
    3       lz4     one LZ4 frame
    4       zstd    one zstandard frame (RFC 8878)

    xerial  82 'SNAPPY' 00 | version i32 | compatible i32 | { length i32 | raw snappy block }*

The libraries are imported at first use: a broker that meets only uncompressed batches never loads them.
``missing_libraries`` tells at the start whether they are there.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

from megabroker.codec.primitives import read_uvarint
from megabroker.errors import ProtocolError
from megabroker.model import Buffer

__all__ = [
    "CODEC_NUMBERS",
    "GZIP",
    "LZ4",
    "NAMES",
    "NONE",
    "SNAPPY",
    "ZSTD",
    "OutputTooLarge",
    "compress",
    "decompress",
    "gunzip",
    "missing_libraries",
]

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
NAMES = ("none", "gzip", "snappy", "lz4", "zstd")
CODEC_NUMBERS = {name: number for number, name in enumerate(NAMES)}

_LIBRARIES = {
    SNAPPY: "cramjam",
    LZ4: "lz4",
    ZSTD: "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd",
}

_XERIAL_HEAD = struct.Struct(">8sii")
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_BLOCK_BYTES = 32 * 1024
_BLOCK_LENGTH = struct.Struct(">i")

_INPUT_STEP_BYTES = 64 * 1024
_FIRST_OUTPUT_BYTES = 64 * 1024
_OUTPUT_STEP_BYTES = 256 * 1024


class OutputTooLarge(ProtocolError):
    """Well-formed so far, but it would expand beyond the bound."""


def compress(codec: int, data: Buffer, level: int | None = None) -> bytes:
    """Compress in the form Kafka clients read.

    Args:
        level: as the codec counts; None is its default. Snappy has none.

    Raises:
        ValueError: for an unknown codec number, which is a fault of the caller.
    """
    if codec == NONE:
        return bytes(data)
    if codec == GZIP:
        return zlib.compress(data, -1 if level is None else level, wbits=31)
    if codec == SNAPPY:
        return _compress_xerial(data)
    if codec == LZ4:
        import lz4.frame

        # Kafka's Java reader refuses blocks that depend on each other.
        packed: bytes = lz4.frame.compress(
            data, compression_level=level or 0, block_linked=False, store_size=False
        )
        return packed
    if codec == ZSTD:
        return bytes(_zstd().compress(data, level))
    raise ValueError(f"unknown compression codec {codec}")


def decompress(codec: int, data: Buffer, max_bytes: int) -> bytes:
    """Decompress all of ``data``, which must be exactly one stream.

    Args:
        max_bytes: the most bytes the result may have; no more than this plus one step of 256 KiB is held.

    Raises:
        OutputTooLarge: the result would be longer.
        ProtocolError: unknown codec, damage, a cut-off stream, or bytes after its end.
    """
    if codec == NONE:
        if len(data) > max_bytes:
            raise OutputTooLarge(f"{len(data)} bytes where at most {max_bytes} are allowed")
        return bytes(data)
    if codec == GZIP:
        return gunzip(data, max_bytes)
    if codec == SNAPPY:
        return _decompress_snappy(data, max_bytes)
    if codec == LZ4:
        import lz4.frame

        return _drain("lz4", lz4.frame.LZ4FrameDecompressor(), data, max_bytes, (RuntimeError, EOFError))
    if codec == ZSTD:
        zstd = _zstd()
        return _drain("zstd", zstd.ZstdDecompressor(), data, max_bytes, (zstd.ZstdError, EOFError))
    raise ProtocolError(f"unknown compression codec {codec}")


def gunzip(data: Buffer, max_bytes: int) -> bytes:
    """Decompress exactly one gzip member; a second one or any trailing byte is refused.

    Raises:
        OutputTooLarge: the result would be longer than ``max_bytes``.
        ProtocolError: not gzip, damaged, cut off, or followed by something.
    """
    return _drain("gzip", _Inflater(), data, max_bytes, (zlib.error,))


class _Inflater:
    """zlib's decompressor with the face that those of lz4 and zstd have."""

    __slots__ = ("_inner", "needs_input")

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: Buffer, max_length: int) -> bytes:
        inner = self._inner
        tail = inner.unconsumed_tail
        out = inner.decompress(tail or data, max_length)
        # A full output can leave more inside zlib with no input left over.
        self.needs_input = not inner.unconsumed_tail and len(out) < max_length
        return out


def _drain(
    name: str, decompressor: Any, data: Buffer, max_bytes: int, errors: tuple[type[Exception], ...]
) -> bytes:
    """Run an incremental decompressor over ``data``, never asking for more than the bound and one byte."""
    view = memoryview(data)
    size = len(view)
    whole = io.BytesIO()
    made = 0
    step = min(_FIRST_OUTPUT_BYTES, max_bytes + 1)
    fed = 0
    try:
        while not decompressor.eof:
            if decompressor.needs_input:
                if fed == size:
                    raise ProtocolError(f"{name}: the stream is cut off")
                piece: Buffer = view[fed : fed + _INPUT_STEP_BYTES]
                fed += len(piece)
            else:
                piece = b""
            out = decompressor.decompress(piece, max_length=step)
            made += len(out)
            if made > max_bytes:
                raise OutputTooLarge(f"{name}: expands beyond {max_bytes} bytes")
            if not made - len(out) and decompressor.eof:
                whole_out = out
                break
            whole.write(out)
            step = min(_OUTPUT_STEP_BYTES, max_bytes + 1 - made)
        else:
            whole_out = whole.getvalue()
    except errors as error:
        raise ProtocolError(f"{name}: {error}") from None
    trailing = size - fed + len(decompressor.unused_data or b"")
    if trailing:
        raise ProtocolError(f"{name}: {trailing} bytes after the end of the stream")
    return bytes(whole_out)


def _decompress_snappy(data: Buffer, max_bytes: int) -> bytes:
    size = len(data)
    if size < _XERIAL_HEAD.size or bytes(data[:8]) != _XERIAL_MAGIC:
        return _decompress_snappy_block(data, 0, size, max_bytes)
    pos = _XERIAL_HEAD.size
    blocks = []
    left = max_bytes
    while pos < size:
        if size - pos < 4:
            raise ProtocolError("snappy: the stream is cut off")
        (length,) = _BLOCK_LENGTH.unpack_from(data, pos)
        pos += 4
        if not 0 < length <= size - pos:
            raise ProtocolError(f"snappy: block of {length} bytes where {size - pos} are left")
        block = _decompress_snappy_block(data, pos, pos + length, left)
        left -= len(block)
        blocks.append(block)
        pos += length
    return b"".join(blocks) if len(blocks) != 1 else blocks[0]


def _decompress_snappy_block(data: Buffer, pos: int, end: int, max_bytes: int) -> bytes:
    declared, start = read_uvarint(data, pos, end)
    if declared > max_bytes:
        raise OutputTooLarge(f"snappy: expands beyond {max_bytes} bytes")
    # The densest element is a copy of 64 bytes in 3.
    if declared > (end - start) * 22:
        raise ProtocolError(f"snappy: {declared} bytes cannot come from {end - start}")
    if not declared:
        if start != end:
            raise ProtocolError("snappy: damaged block")
        return b""
    import cramjam

    try:
        block = bytes(cramjam.snappy.decompress_raw(memoryview(data)[pos:end]))
    except cramjam.DecompressionError as error:
        raise ProtocolError(f"snappy: {error}") from None
    if len(block) != declared:
        raise ProtocolError(f"snappy: {len(block)} bytes where {declared} were declared")
    return block


def _compress_xerial(data: Buffer) -> bytes:
    import cramjam

    compress_raw: Callable[[Buffer], Any] = cramjam.snappy.compress_raw
    view = memoryview(data)
    parts = [_XERIAL_HEAD.pack(_XERIAL_MAGIC, 1, 1)]
    for at in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(compress_raw(view[at : at + _XERIAL_BLOCK_BYTES]))
        parts.append(_BLOCK_LENGTH.pack(len(block)))
        parts.append(block)
    return b"".join(parts)


def missing_libraries() -> dict[str, str]:
    """Return the libraries that are not installed, by the name of their codec; imports none."""
    return {NAMES[codec]: library for codec, library in _LIBRARIES.items() if not _is_installed(library)}


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # of the package it would be in
        return False


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
