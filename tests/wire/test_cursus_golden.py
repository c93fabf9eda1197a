"""cursus bytes and reply strings, as the command reference and the original broker have them."""

from __future__ import annotations

import pytest

from megabroker.codec.framing import FrameReader
from megabroker.protocols.cursus.codec import Command, ListTopics, Publish, Reply, decode_body, encode_frame

FRAMES: list[tuple[str, Command]] = [
    ("00000007 0001 78 4c495354", ListTopics()),
    ("00000006 0000 4c495354", ListTopics()),
    ("00000004 4c495354", ListTopics()),
    ("0000000d 0006 6f7264657273 68656c6c6f", Publish("orders", b"hello", True)),
]


@pytest.mark.parametrize(("wire", "expected"), FRAMES)
def test_request(wire: str, expected: Command) -> None:
    reader = FrameReader(1 << 24)
    reader.feed(bytes.fromhex(wire))
    body = reader.next()
    assert body is not None
    assert decode_body(body) == expected
    assert reader.next() is None


REPLIES: list[tuple[str, str]] = [
    (
        Reply.CREATED.format(topic="orders", partitions=8),
        "e29c8520546f70696320276f726465727327206e6f7720686173203820706172746974696f6e73",
    ),
    (Reply.DELETED.format(topic="orders"), "f09f9791efb88f20546f70696320276f7264657273272064656c65746564"),
    (Reply.SUBSCRIBED.format(topic="orders"), "e29c85205375627363726962656420746f20276f726465727327"),
    (Reply.PUBLISHED.format(topic="orders"), "f09f93a4205075626c697368656420746f20276f726465727327"),
]


@pytest.mark.parametrize(("reply", "wire"), REPLIES)
def test_reply_bytes(reply: str, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert encode_frame(reply) == len(data).to_bytes(4, "big") + data


def test_reply_strings() -> None:
    assert Reply.NO_TOPICS == "(no topics)"
    assert Reply.STORED == "OK"
    assert Reply.EMPTY_COMMAND == "ERROR: empty command"
    assert Reply.UNKNOWN_COMMAND.format(command="FOO") == "ERROR: unknown command: FOO"
    assert Reply.MISSING_TOPIC == "ERROR: missing topic name"
    assert Reply.INVALID_PARTITIONS == "ERROR: partitions must be a positive integer"
    assert Reply.TOPIC_NOT_FOUND.format(topic="t") == "ERROR: topic 't' not found"
    assert Reply.TOPIC_MISSING.format(topic="t") == "ERROR: topic 't' does not exist"
    assert Reply.INVALID_PUBLISH == "ERROR: invalid PUBLISH syntax: expected PUBLISH <topic> <message>"
    assert Reply.INVALID_CONSUME == "ERROR: invalid CONSUME syntax: expected CONSUME <topic> <pID> <offset>"
    assert Reply.INVALID_PARTITION == "ERROR: invalid partition ID"
    assert Reply.INVALID_OFFSET == "ERROR: invalid offset"
    assert Reply.NO_DISK_HANDLER.startswith("ERROR: failed to get disk handler")
    assert Reply.READ_FAILED.startswith("ERROR: failed to read messages from disk")
    assert Reply.HELP.splitlines() == [
        "Available commands:",
        "CREATE <topic> [<partitions>]",
        "DELETE <topic>",
        "LIST",
        "SUBSCRIBE <topic>",
        "PUBLISH <topic> <message>",
        "CONSUME <topic> <pID> <offset>",
        "HELP",
        "EXIT",
    ]


def test_message_frame() -> None:
    assert encode_frame(memoryview(b"\xff\x00")) == b"\0\0\0\2\xff\x00"
