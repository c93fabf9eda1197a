"""Turns one (message, version) into flat Python functions, once, when it is first needed.

Owns the generated code and its bounds. The layout it follows:

    plain version      string int16 length | array, bytes, records int32 count or length; -1 is null
    flexible version   all of them unsigned varint n+1, 0 is null; every struct ends in tagged fields:
                       varint count, then per field  varint tag | varint size | value
    struct in line     its fields; a nullable one is led by int8, negative for null (KIP-893)

Neighbouring fixed-size fields, and the length that follows them, are read and written by one ``Struct``.
A varint is taken as one byte of such a run and read again only when it is longer than that byte.

Invariant: a decoder raises ProtocolError and nothing else, and checks every length and count against the
bytes that remain before it allocates. Small elements still cost more as objects than on the wire, so a
message holds at most `ELEMENT_LIMIT` array elements in all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from megabroker.codec.primitives import Buffer, read_uvarint, write_uvarint
from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema.decoding import DecoderSource
from megabroker.protocols.kafka.schema.encoding import EncoderSource
from megabroker.protocols.kafka.schema.fields import Message, Schema, title

__all__ = ["ELEMENT_LIMIT", "decoder", "encoder", "source"]

ELEMENT_LIMIT: Final = 500_000
"""Array elements of one message, counted over all its arrays; 100 bytes of memory each, more or less."""


_ONE_BYTE: Final = tuple(bytes([value]) for value in range(128))


def decoder(message: type[Message], version: int) -> Callable[[Buffer, int, int], tuple[Any, int]]:
    """Build ``decode(data, pos, end) -> (message, position after it)``.

    Raises:
        ProtocolError: when the message has no such version.
    """
    schema = _known(message, version)
    built = DecoderSource(message, version, _flexible(schema, version), title(message, version))
    scope: dict[str, Any] = {
        **built.constants,
        "ProtocolError": ProtocolError,
        "ELEMENT_LIMIT": ELEMENT_LIMIT,
        "new": object.__new__,
        "read_uvarint": read_uvarint,
        "skip_tags": skip_tags,
        "struct_error": struct.error,
    }
    exec(compile(built.text, f"<decode {built.title}>", "exec"), scope)
    function: Callable[[Buffer, int, int], tuple[Any, int]] = scope["decode"]
    return function


def encoder(message: type[Message], version: int) -> Callable[[Any, list[Any], list[int]], None]:
    """Build ``encode(message, out, cuts)``, which appends buffers to ``out``.

    The index in ``out`` of every `records` value is appended to ``cuts``.

    Raises:
        ProtocolError: when the message has no such version.
    """
    schema = _known(message, version)
    built = EncoderSource(message, version, _flexible(schema, version))
    scope: dict[str, Any] = {
        **built.constants,
        "pack": struct.pack,
        "size_of": _size_of,
        "uvarint": write_uvarint,
        "ONE_BYTE": _ONE_BYTE,
    }
    exec(compile(built.text, f"<encode {title(message, version)}>", "exec"), scope)
    function: Callable[[Any, list[Any], list[int]], None] = scope["encode"]
    return function


def source(message: type[Message], version: int) -> str:
    """Show the Python text generated for a message, for people."""
    flexible = _flexible(_known(message, version), version)
    decode = DecoderSource(message, version, flexible, title(message, version)).text
    return f"{decode}\n\n{EncoderSource(message, version, flexible).text}"


def skip_tags(buf: Buffer, pos: int, end: int) -> int:
    """Pass over a tagged-field section that holds no field we know; ``pos`` is at its count.

    Raises:
        ProtocolError: when the section does not end before ``end``.
    """
    count, pos = read_uvarint(buf, pos, end)
    for _ in range(count):
        _, pos = read_uvarint(buf, pos, end)
        size, pos = read_uvarint(buf, pos, end)
        pos += size
        if pos > end:
            raise ProtocolError("truncated tagged field")
    return pos


def _size_of(records: Any) -> int:
    if isinstance(records, bytes | bytearray):
        return len(records)
    if isinstance(records, memoryview):
        return records.nbytes
    length: int = records.length
    return length


def _known(message: type[Message], version: int) -> Schema:
    schema = message.__schema__
    first, last = schema.versions
    if not first <= version <= last:
        raise ProtocolError(f"{title(message, version)} does not exist")
    return schema


def _flexible(schema: Schema, version: int) -> bool:
    first, last = schema.flexible
    return first <= version <= last
