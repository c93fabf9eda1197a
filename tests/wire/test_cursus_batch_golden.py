"""The batch of cursus's later dialect, as its published Python client encodes it."""

from __future__ import annotations

import struct

import pytest

from megabroker.errors import ProtocolError
from megabroker.protocols.cursus.codec import Later, LaterBatch, ListTopics, Publish, decode_body
from megabroker.protocols.cursus.later.batch import Batch, BatchMessage, decode_batch, encode_batch

MESSAGES = [
    BatchMessage(0, 7, b"hi", b"k", b"p1", 2),
    BatchMessage(
        5, 8, "ü".encode(), event_type=b"Created", schema_version=1, aggregate_version=9, metadata=b"{}"
    ),
]
GOLDEN = bytes.fromhex(
    "ba7c 0006 6f7264657273 00000003 02 2d31 01 0000000000000007 0000000000000008 00000002"
    "0000000000000000 0000000000000007 0002 7031 0001 6b 0000000000000002 00000002 6869"
    "0000 00000000 0000000000000000 0000"
    "0000000000000005 0000000000000008 0000 0000 0000000000000000 00000002 c3bc"
    "0007 43726561746564 00000001 0000000000000009 0002 7b7d"
)


def test_both_ways() -> None:
    assert encode_batch("orders", 3, MESSAGES, acks="-1", idempotent=True) == GOLDEN
    assert decode_batch(GOLDEN, 10) == Batch("orders", 3, "-1", True, MESSAGES)
    assert decode_body(GOLDEN) == LaterBatch(GOLDEN)


def test_nothing_in_it() -> None:
    empty = encode_batch("t", 0, [])
    assert empty.hex() == "ba7c000174000000000131" + "00" + "00" * 16 + "00000000"
    assert decode_batch(empty, 0) == Batch("t", 0, "1", False, [])


@pytest.mark.parametrize("end", range(len(GOLDEN)))
def test_cut_off(end: int) -> None:
    with pytest.raises(ProtocolError):
        decode_batch(GOLDEN[:end], 10)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (GOLDEN + b"\0", "1 bytes behind the last message"),
        (b"\0\0" + GOLDEN[2:], "begins with ba7c"),
        (GOLDEN.replace(b"orders", b"\xff" * 6, 1), "not UTF-8"),
        (GOLDEN.replace(struct.pack(">i", 2), struct.pack(">i", -1), 1), "not -1"),
        (GOLDEN.replace(b"\0\0\0\2\0\0", b"\x7f\xff\xff\xff\0\0", 1), "not 2147483647"),
    ],
)
def test_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode_batch(data, 10)


def test_more_messages_than_allowed_are_not_looked_at() -> None:
    with pytest.raises(ProtocolError, match="0 to 1 messages, not 2"):
        decode_batch(GOLDEN, 1)


def _enveloped(text: bytes, topic: bytes) -> bytes:
    return struct.pack(">H", len(topic)) + topic + text


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        (b"CREATE topic=a partitions=2", b"admin", Later("CREATE", b" topic=a partitions=2")),
        (b"create topic=a", b"", Later("CREATE", b" topic=a")),
        (b" PROTOCOL_INFO", b"", Later("PROTOCOL_INFO", b"")),
        (b"HEARTBEAT", b"", Later("HEARTBEAT", b"")),
        # A message for a topic stays one, whatever its first word is.
        (b"HEARTBEAT", b"t", Publish("t", b"HEARTBEAT", True)),
        (b"stream of consciousness", b"t", Publish("t", b"stream of consciousness", True)),
        (b"STREAM topic=a partition=0 group=g", b"t", Later("STREAM", b" topic=a partition=0 group=g")),
        (b"LIST", b"", ListTopics()),
        (b"PUBLISH t a=b", b"", Publish("t", b"a=b", False)),
    ],
)
def test_dialects_told_apart(text: bytes, topic: bytes, expected: object) -> None:
    assert decode_body(_enveloped(text, topic)) == expected
    if not topic:
        assert decode_body(text.lstrip()) == expected
