"""Whole answers: size, response header and body, ready to send.

i32 size | i32 correlation id | tagged fields (flexible versions, never ApiVersions) | body
"""

from __future__ import annotations

import struct
from typing import Any

from megabroker.net.output import part_length
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.protocols.kafka.schema.headers import encode_response_header

__all__ = ["encode_answer", "frame_answer"]

_SIZE = struct.Struct(">i")
_SIZE_AND_CORRELATION = struct.Struct(">ii")


def encode_answer(response: Message, key: int, version: int, correlation_id: int) -> list[Any]:
    """Return the answer as parts to send; records stay apart and are not copied."""
    header = encode_response_header(key, version, correlation_id)
    parts: list[Any] = response.encode_parts(version)
    size = len(header)
    for part in parts:
        size += len(part) if part.__class__ is bytes else part_length(part)
    parts[0] = _SIZE.pack(size) + header + parts[0]
    return parts


def frame_answer(correlation_id: int, body: bytes) -> bytes:
    """Return an answer with a version 0 header around an already encoded body."""
    return _SIZE_AND_CORRELATION.pack(4 + len(body), correlation_id) + body
