"""The batch of the later dialect, which clients publish, and are answered by; without I/O.

Owns this layout, numbers big-endian, after the frame's length:

    u16 0xBA7C | u16+topic | i32 partition | u8+acks | u8 idempotent | u64 first seq | u64 last seq | i32
    count per message: u64 offset | u64 seq | u16+producer id | u16+key | i64 epoch | u32+payload |
    u16+event type
                 | u32 schema version | u64 aggregate version | u16+metadata

Texts are UTF-8, and are kept as the bytes they are. Never believes a count or a length before it is there.
Invariant: what ``encode_batch`` writes, ``decode_batch`` gives back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from megabroker.errors import ProtocolError

__all__ = [
    "LONGEST_TEXT_BYTES",
    "MESSAGE_BYTES",
    "Batch",
    "BatchMessage",
    "decode_batch",
    "encode_batch",
    "encode_head",
    "encode_messages",
    "looks_like_batch",
]

_MAGIC: Final = b"\xba\x7c"
LONGEST_TEXT_BYTES: Final = 0xFFFF
"""Longest key, producer id, event type and metadata."""

MESSAGE_BYTES: Final = 8 + 8 + 2 + 2 + 8 + 4 + 2 + 4 + 8 + 2
"""What a message takes beside its texts and its payload."""

_U16 = Struct(">H")
_U32 = Struct(">I")
_I32 = Struct(">i")
_I64 = Struct(">q")
_NUMBERS = Struct(">?QQi")
_PLACE = Struct(">QQ")
_VERSIONS = Struct(">IQ")
_MOST_SHOWN_BYTES = 100


class BatchMessage(NamedTuple):
    """A message in a batch; ``offset`` means nothing to who publishes, ``seq`` 0 is none."""

    offset: int
    seq: int
    payload: bytes
    key: bytes = b""
    producer_id: bytes = b""
    epoch: int = 0
    event_type: bytes = b""
    schema_version: int = 0
    aggregate_version: int = 0
    metadata: bytes = b""

    @property
    def size_bytes(self) -> int:
        """What it takes in a batch."""
        texts = len(self.key) + len(self.producer_id) + len(self.event_type) + len(self.metadata)
        return MESSAGE_BYTES + len(self.payload) + texts


class Batch(NamedTuple):
    """Messages of one partition.

    Attributes:
        acks: "0", "1", "-1" or "all"; empty is the broker's choice.
    """

    topic: str
    partition: int
    acks: str
    idempotent: bool
    messages: list[BatchMessage]


def looks_like_batch(body: bytes) -> bool:
    """Whether a request is a batch and nothing else.

    As the length of a topic field the first two bytes would mean 47,740 bytes, which no topic name has.
    """
    if len(body) < 4 or body[:2] != _MAGIC:
        return False
    (length,) = _U16.unpack_from(body, 2)
    return bool(0 < length <= len(body) - 4)


def decode_batch(body: bytes, max_messages: int) -> Batch:
    """Decode a whole batch.

    Args:
        max_messages: the most it may have.

    Raises:
        ProtocolError: it is none, has more messages than allowed, or something behind it.
    """
    try:
        return _decode(body, max_messages)
    except StructError:
        raise ProtocolError("the batch ends in the middle of a field") from None


def _decode(body: bytes, max_messages: int) -> Batch:
    if body[:2] != _MAGIC:
        raise ProtocolError(f"a batch begins with ba7c, not {body[:2].hex()}")
    topic, pos = _text(body, 2, _U16)
    (partition,) = _I32.unpack_from(body, pos)
    acks_at = pos + 4
    if acks_at >= len(body):
        raise ProtocolError("the batch ends before its acks")
    pos = acks_at + 1 + body[acks_at]
    acks = body[acks_at + 1 : pos]
    idempotent, _, _, count = _NUMBERS.unpack_from(body, pos)
    pos += _NUMBERS.size
    if count < 0 or count > max_messages:
        raise ProtocolError(f"a batch has 0 to {max_messages} messages, not {count}")
    if count * MESSAGE_BYTES > len(body) - pos:
        raise ProtocolError(f"{count} messages do not fit into {len(body) - pos} bytes")
    messages = []
    for _ in range(count):
        message, pos = _message(body, pos)
        messages.append(message)
    if pos != len(body):
        raise ProtocolError(f"{len(body) - pos} bytes behind the last message")
    return Batch(_shown(topic), partition, _shown(acks), idempotent, messages)


def _message(body: bytes, pos: int) -> tuple[BatchMessage, int]:
    offset, seq = _PLACE.unpack_from(body, pos)
    producer_id, pos = _text(body, pos + 16, _U16)
    key, pos = _text(body, pos, _U16)
    (epoch,) = _I64.unpack_from(body, pos)
    payload, pos = _text(body, pos + 8, _U32)
    event_type, pos = _text(body, pos, _U16)
    schema_version, aggregate_version = _VERSIONS.unpack_from(body, pos)
    metadata, pos = _text(body, pos + 12, _U16)
    message = BatchMessage(
        offset, seq, payload, key, producer_id, epoch, event_type, schema_version, aggregate_version, metadata
    )
    return message, pos


def _text(body: bytes, pos: int, length: Struct) -> tuple[bytes, int]:
    (size,) = length.unpack_from(body, pos)
    pos += length.size
    end = pos + size
    if end > len(body):
        raise ProtocolError(f"a text of {size} bytes where {len(body) - pos} are left")
    return body[pos:end], end


def _shown(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"{raw[:_MOST_SHOWN_BYTES]!r} is not UTF-8") from None


def encode_batch(
    topic: str,
    partition: int,
    messages: Sequence[BatchMessage],
    *,
    acks: str = "1",
    idempotent: bool = False,
) -> bytes:
    """Encode a batch. Raises ValueError for a text that is too long: the caller's fault."""
    head = encode_head(topic, partition, messages, acks=acks, idempotent=idempotent)
    return head + encode_messages(messages)


def encode_head(
    topic: str,
    partition: int,
    messages: Sequence[BatchMessage],
    *,
    acks: str = "1",
    idempotent: bool = False,
) -> bytes:
    """Encode what stands before the messages of a batch. Raises ValueError, as ``encode_batch``."""
    said = acks.encode()
    first, last = (messages[0].seq, messages[-1].seq) if messages else (0, 0)
    parts = (
        _MAGIC,
        _sized(topic.encode()),
        _I32.pack(partition),
        bytes((len(said),)),
        said,
        _NUMBERS.pack(idempotent, first, last, len(messages)),
    )
    return b"".join(parts)


def encode_messages(messages: Iterable[BatchMessage]) -> bytes:
    """Encode messages of a batch, all or some of them. Raises ValueError, as ``encode_batch``."""
    parts: list[bytes] = []
    for message in messages:
        parts += (
            _PLACE.pack(message.offset, message.seq),
            _sized(message.producer_id),
            _sized(message.key),
            _I64.pack(message.epoch),
            _U32.pack(len(message.payload)),
            message.payload,
            _sized(message.event_type),
            _VERSIONS.pack(message.schema_version, message.aggregate_version),
            _sized(message.metadata),
        )
    return b"".join(parts)


def _sized(text: bytes) -> bytes:
    if len(text) > LONGEST_TEXT_BYTES:
        raise ValueError(f"a text of {len(text)} bytes")
    return _U16.pack(len(text)) + text
