"""cursus bodies and commands."""

from __future__ import annotations

import gzip
import struct

from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.compression import LZ4, SNAPPY, compress
from megabroker.errors import ProtocolError
from megabroker.protocols.cursus.codec import (
    COMMANDS,
    Command,
    Consume,
    Create,
    Delete,
    Exit,
    Help,
    ListTopics,
    Publish,
    Refused,
    Reply,
    Subscribe,
    decode_body,
    decompress_body,
)


def envelope(payload: bytes, topic: bytes = b"x") -> bytes:
    return struct.pack(">H", len(topic)) + topic + payload


class CommandTests(SynchronousTestCase):
    """The text of a command, in every way it can come."""

    cases: list[tuple[bytes, Command]] = [
        (b"CREATE orders 8", Create("orders", 8)),
        (b"create  orders", Create("orders", None)),
        (b"CREATE", Refused("CREATE", "ERROR: missing topic name")),
        (b"CREATE orders 0", Refused("CREATE", "ERROR: partitions must be a positive integer")),
        (b"CREATE orders -3", Refused("CREATE", "ERROR: partitions must be a positive integer")),
        (b"CREATE orders eight", Refused("CREATE", "ERROR: partitions must be a positive integer")),
        (b"CREATE orders " + b"9" * 5000, Refused("CREATE", "ERROR: partitions must be a positive integer")),
        (b"DELETE orders", Delete("orders")),
        (b"DELETE", Refused("DELETE", "ERROR: missing topic name")),
        (b"LIST", ListTopics()),
        (b"list\n", ListTopics()),
        (b"SUBSCRIBE orders", Subscribe("orders")),
        (b"SUBSCRIBE", Refused("SUBSCRIBE", "ERROR: missing topic name")),
        (b"PUBLISH orders hello  world ", Publish("orders", b"hello  world ", False)),
        (b"PUBLISH orders  two", Publish("orders", b" two", False)),
        (b"PUBLISH orders \xff\x00\n", Publish("orders", b"\xff\x00\n", False)),
        (b"PUBLISH orders", Refused("PUBLISH", Reply.INVALID_PUBLISH)),
        (b"PUBLISH orders ", Refused("PUBLISH", Reply.INVALID_PUBLISH)),
        (b"PUBLISH", Refused("PUBLISH", Reply.INVALID_PUBLISH)),
        (b"CONSUME orders 0 7", Consume("orders", 0, 7)),
        (b"CONSUME orders", Refused("CONSUME", Reply.INVALID_CONSUME)),
        (b"CONSUME orders 0 7 9", Refused("CONSUME", Reply.INVALID_CONSUME)),
        (b"CONSUME orders a 7", Refused("CONSUME", "ERROR: invalid partition ID", True)),
        (b"CONSUME orders -1 7", Refused("CONSUME", "ERROR: invalid partition ID", True)),
        (b"CONSUME orders 0 b", Refused("CONSUME", "ERROR: invalid offset", True)),
        (b"CONSUME orders 0 -1", Refused("CONSUME", "ERROR: invalid offset", True)),
        (b"HELP", Help()),
    ]

    def test_raw_text(self) -> None:
        for text, command in self.cases:
            self.assertEqual(decode_body(text), command, text)

    def test_envelope_ignores_the_topic_field(self) -> None:
        for topic in (b"", b"x", b"a topic \xff"):
            for text, command in self.cases:
                self.assertEqual(decode_body(envelope(text, topic)), command, text)

    def test_every_word_is_covered(self) -> None:
        words = {text.split()[0].decode().upper() for text, _ in self.cases}
        self.assertEqual(words, COMMANDS)

    def test_long_raw_publish_is_not_an_envelope(self) -> None:
        message = b"m" * 100_000
        self.assertEqual(decode_body(b"PUBLISH t " + message), Publish("t", message, False))
        self.assertEqual(decode_body(b"publish t " + message), Publish("t", message, False))


class BodyTests(SynchronousTestCase):
    """Envelopes, direct publishes and what is neither."""

    def test_direct_publish(self) -> None:
        self.assertEqual(decode_body(envelope(b"FOO bar")), Publish("x", b"FOO bar", True))
        self.assertEqual(decode_body(envelope(b"LISTING")), Publish("x", b"LISTING", True))
        self.assertEqual(decode_body(envelope(b"")), Publish("x", b"", True))
        self.assertEqual(decode_body(envelope(b"EXIT")), Publish("x", b"EXIT", True))
        self.assertEqual(decode_body(memoryview(envelope(b"\xff\x00"))), Publish("x", b"\xff\x00", True))

    def test_empty_topic_field(self) -> None:
        self.assertEqual(
            decode_body(envelope(b"FOO bar", b"")), Refused("UNKNOWN", "ERROR: unknown command: FOO")
        )
        self.assertEqual(decode_body(envelope(b"", b"")), Refused("", "ERROR: empty command"))
        self.assertEqual(decode_body(envelope(b" \n", b"")), Refused("", "ERROR: empty command"))
        self.assertEqual(decode_body(b""), Refused("", "ERROR: empty command"))
        self.assertEqual(decode_body(envelope(b"EXIT", b"")), Exit())
        self.assertEqual(decode_body(b"exit"), Exit())

    def test_undecodable(self) -> None:
        for body in (b"\0", b"\0\5abcd", b"GET / HTTP/1.1", b"\xff\xff\xff\xff"):
            self.assertRaises(ProtocolError, decode_body, body)

    def test_echo_is_bounded(self) -> None:
        refused = decode_body(envelope(b"Z" * 1_000_000, b""))
        assert isinstance(refused, Refused)
        self.assertLess(len(refused.reply), 400)
        published = decode_body(envelope(b"m", b"t" * 60_000))
        assert isinstance(published, Publish)
        self.assertLess(len(published.topic), 400)


class CompressionTests(SynchronousTestCase):
    """Bodies as the configuration says they are compressed."""

    def test_round_trips(self) -> None:
        body = envelope(b"PUBLISH t " + b"abc" * 1000)
        self.assertEqual(decompress_body("none", body, 10), body)
        self.assertEqual(decompress_body("gzip", gzip.compress(body), 10_000), body)
        self.assertEqual(decompress_body("snappy", compress(SNAPPY, body), 10_000), body)
        self.assertEqual(decompress_body("lz4", compress(LZ4, body), 10_000), body)

    def test_refusals(self) -> None:
        bomb = bytes(10_000_000)
        for name, data in (
            ("gzip", gzip.compress(bomb)),
            ("snappy", compress(SNAPPY, bomb)),
            ("lz4", compress(LZ4, bomb)),
        ):
            self.assertRaises(ProtocolError, decompress_body, name, data, 100_000)
            self.assertRaises(ProtocolError, decompress_body, name, b"LIST", 100_000)
        twice = gzip.compress(b"LIST") * 2
        self.assertRaises(ProtocolError, decompress_body, "gzip", twice, 100_000)
