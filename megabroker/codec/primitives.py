"""Variable-length integers, as Kafka and Protocol Buffers write them.

Owns the varint byte layout and nothing else. Never reads at or beyond ``end``, never raises anything
but ``ProtocolError`` on input, and never accepts more than 5 bytes for 32 bits or 10 bytes for 64.

    byte    1xxxxxxx  1xxxxxxx  ...  0xxxxxxx     least significant seven bits first
    zig-zag 0, -1, 1, -2, 2 ... are written as 0, 1, 2, 3, 4 ...

Kafka uses the unsigned form for compact lengths and tags and the zig-zag forms inside records. Every
reader takes ``(buf, pos, end)`` with ``end <= len(buf)`` and gives ``(value, position after it)``. A
longer encoding than needed is accepted, as every Kafka client accepts it.
"""

from __future__ import annotations

from megabroker.errors import ProtocolError

__all__ = [
    "Buffer",
    "read_uvarint",
    "read_uvarlong",
    "read_varint",
    "read_varlong",
    "uvarint_size",
    "write_uvarint",
    "write_uvarlong",
    "write_varint",
    "write_varlong",
]

Buffer = bytes | bytearray | memoryview

_MASK_32 = 0xFFFFFFFF
_MASK_64 = 0xFFFFFFFFFFFFFFFF
_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))


def read_uvarint(buf: Buffer, pos: int, end: int) -> tuple[int, int]:
    """Read an unsigned 32-bit varint.

    Raises:
        ProtocolError: when it is cut off at ``end``, longer than 5 bytes or beyond 32 bits.
    """
    if pos < end:
        value = buf[pos]
        if value < 0x80:
            return value, pos + 1
    return _read_long(buf, pos, end, 5, _MASK_32)


def read_uvarlong(buf: Buffer, pos: int, end: int) -> tuple[int, int]:
    """Read an unsigned 64-bit varint; raises ProtocolError as `read_uvarint`, with 10 bytes and 64 bits."""
    if pos < end:
        value = buf[pos]
        if value < 0x80:
            return value, pos + 1
    return _read_long(buf, pos, end, 10, _MASK_64)


def read_varint(buf: Buffer, pos: int, end: int) -> tuple[int, int]:
    """Read a zig-zag 32-bit varint, in -2**31..2**31-1; raises ProtocolError as `read_uvarint`."""
    if pos < end:
        value = buf[pos]
        if value < 0x80:
            return (value >> 1) ^ -(value & 1), pos + 1
    value, pos = _read_long(buf, pos, end, 5, _MASK_32)
    return (value >> 1) ^ -(value & 1), pos


def read_varlong(buf: Buffer, pos: int, end: int) -> tuple[int, int]:
    """Read a zig-zag 64-bit varint, in -2**63..2**63-1; raises ProtocolError as `read_uvarlong`."""
    if pos < end:
        value = buf[pos]
        if value < 0x80:
            return (value >> 1) ^ -(value & 1), pos + 1
    value, pos = _read_long(buf, pos, end, 10, _MASK_64)
    return (value >> 1) ^ -(value & 1), pos


def write_uvarint(value: int) -> bytes:
    """Write ``value``, in 0..2**32-1, as an unsigned varint of 1 to 5 bytes.

    Raises:
        ValueError: when the value is out of range, which is a fault of the caller.
    """
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if not 0 <= value <= _MASK_32:
        raise ValueError(f"{value} does not fit an unsigned 32-bit varint")
    return _write_long(value)


def write_uvarlong(value: int) -> bytes:
    """Write ``value``, in 0..2**64-1, as an unsigned varint of 1 to 10 bytes; ValueError out of range."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if not 0 <= value <= _MASK_64:
        raise ValueError(f"{value} does not fit an unsigned 64-bit varint")
    return _write_long(value)


def write_varint(value: int) -> bytes:
    """Write ``value``, in -2**31..2**31-1, as a zig-zag varint of 1 to 5 bytes; ValueError out of range."""
    return write_uvarint(value << 1 if value >= 0 else ((-value) << 1) - 1)


def write_varlong(value: int) -> bytes:
    """Write ``value``, in -2**63..2**63-1, as a zig-zag varint of 1 to 10 bytes; ValueError out of range."""
    return write_uvarlong(value << 1 if value >= 0 else ((-value) << 1) - 1)


def uvarint_size(value: int) -> int:
    """Count the bytes, 1 to 10, that ``value`` >= 0 takes as an unsigned varint."""
    return (value.bit_length() + 6) // 7 or 1


def _read_long(buf: Buffer, pos: int, end: int, max_bytes: int, mask: int) -> tuple[int, int]:
    value = shift = 0
    for at in range(pos, min(end, pos + max_bytes)):
        byte = buf[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > mask:
                raise ProtocolError("varint out of range")
            return value, at + 1
        shift += 7
    if end - pos >= max_bytes:
        raise ProtocolError(f"varint longer than {max_bytes} bytes")
    raise ProtocolError("truncated varint")


def _write_long(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
