"""The MEGA request parser: dialects, refusals, bounds."""

from __future__ import annotations

import struct
import time

from twisted.trial.unittest import SynchronousTestCase

from megabroker.protocols.mega.codec import (
    Consume,
    CreateTopic,
    Dialect,
    Invalid,
    MegaError,
    Produce,
    Request,
    RequestParser,
)

ZERO = b"\0\0\0\0"


def head(kind: int, topic: bytes = b"t", correlation_id: int = 1, timestamp_ms: int = 5) -> bytes:
    return struct.pack(">iBi", correlation_id, kind, len(topic)) + topic + struct.pack(">q", timestamp_ms)


def create(topic: bytes = b"t", correlation_id: int = 1) -> bytes:
    return head(3, topic, correlation_id)


def consume(offset: int, topic: bytes = b"t", correlation_id: int = 1) -> bytes:
    return head(2, topic, correlation_id) + struct.pack(">i", offset)


def produce(payload: bytes, topic: bytes = b"t", correlation_id: int = 1) -> bytes:
    return head(1, topic, correlation_id) + struct.pack(">i", len(payload)) + payload


def refusals(events: list[Request]) -> list[tuple[int, MegaError, bool]]:
    return [(e.correlation_id, e.code, e.fatal) for e in events if isinstance(e, Invalid)]


class DialectTests(SynchronousTestCase):
    """Telling the dialects apart."""

    def test_answers_before_the_trailing_word(self) -> None:
        parser = RequestParser()
        self.assertEqual(parser.receive(create()), [CreateTopic(1, "t", 5)])
        self.assertIs(parser.dialect, Dialect.AUTO)
        self.assertEqual(parser.receive(ZERO), [])
        self.assertEqual(parser.receive(consume(3, correlation_id=2)), [Consume(2, "t", 5, 3)])
        self.assertIs(parser.dialect, Dialect.ORIGINAL)

    def test_non_zero_word_shows_the_documented_form(self) -> None:
        parser = RequestParser()
        events = parser.receive(create() + consume(3, correlation_id=2) + create(b"u", 3))
        self.assertEqual([type(e) for e in events], [CreateTopic, Consume, CreateTopic])
        self.assertIs(parser.dialect, Dialect.DOCUMENTED)

    def test_documented_correlation_id_zero(self) -> None:
        parser = RequestParser()
        events = parser.receive(create(correlation_id=0) + consume(3, b"topic", 0) + create(b"u", 0))
        self.assertEqual(events, [CreateTopic(0, "t", 5), Consume(0, "topic", 5, 3), CreateTopic(0, "u", 5)])
        self.assertIs(parser.dialect, Dialect.DOCUMENTED)

    def test_original_correlation_id_zero(self) -> None:
        parser = RequestParser()
        one = create(correlation_id=0) + ZERO
        events = parser.receive(one + one + one)
        self.assertEqual(events, [CreateTopic(0, "t", 5)] * 3)
        self.assertIs(parser.dialect, Dialect.ORIGINAL)

    def test_original_ids_that_look_like_documented_headers(self) -> None:
        for high in (1, 2, 3):
            for kind in (1, 2, 3):
                follower = {1: produce(b"p", b"abc", high << 24), 2: consume(1, b"abc", high << 24)}.get(
                    kind, create(b"abc", high << 24)
                )
                parser = RequestParser()
                events = parser.receive(create() + ZERO + follower)
                self.assertEqual(len(events), 2, (high, kind))
                self.assertEqual(events[1].correlation_id, high << 24)
                self.assertIs(parser.dialect, Dialect.ORIGINAL)

    def test_dialect_is_kept(self) -> None:
        parser = RequestParser()
        parser.receive(create() + create())
        # In the documented form a zero word is a correlation id even where the five bytes say otherwise.
        events = parser.receive(create() + ZERO + b"\x09")
        self.assertEqual(refusals(events), [(0, MegaError.INVALID_MESSAGE_TYPE, True)])

    def test_produce_has_one_form(self) -> None:
        parser = RequestParser()
        parser.receive(produce(b"x") * 2)
        self.assertIs(parser.dialect, Dialect.AUTO)

    def test_fixed_original_waits_for_the_word(self) -> None:
        parser = RequestParser(dialect=Dialect.ORIGINAL)
        self.assertEqual(parser.receive(consume(0)), [])
        self.assertEqual(
            parser.receive(ZERO + produce(b"")), [Consume(1, "t", 5, 0), Produce(1, "t", 5, b"")]
        )

    def test_fixed_documented_never_swallows(self) -> None:
        parser = RequestParser(dialect=Dialect.DOCUMENTED)
        events = parser.receive(create() + ZERO + b"\x00")
        self.assertEqual(refusals(events), [(0, MegaError.INVALID_MESSAGE_TYPE, True)])

    def test_trailing_word_not_zero(self) -> None:
        parser = RequestParser(dialect=Dialect.ORIGINAL)
        self.assertEqual(
            refusals(parser.receive(create(correlation_id=7) + b"\xff\xff\xff\xff")),
            [(7, MegaError.INVALID_REQUEST, True)],
        )


class RefusalTests(SynchronousTestCase):
    """What is wrong with a request, and whether the stream survives it."""

    def test_unknown_type_is_fatal_at_five_bytes(self) -> None:
        for kind in (0, 4, 255):
            parser = RequestParser()
            self.assertEqual(
                refusals(parser.receive(struct.pack(">iB", 9, kind))),
                [(9, MegaError.INVALID_MESSAGE_TYPE, True)],
            )
            self.assertTrue(parser.dead)
            self.assertEqual(parser.receive(create()), [])

    def test_bad_topics_keep_the_connection(self) -> None:
        for topic in (b"", b"a b", b"\xff\xfe", b"a\n", b"x" * 256, b"y" * 60_000):
            for request in (produce(b"pay", topic, 4), consume(0, topic, 4), create(topic, 4)):
                parser = RequestParser()
                events = parser.receive(request + produce(b"next"))
                self.assertEqual(refusals(events), [(4, MegaError.INVALID_REQUEST, False)])
                self.assertEqual(events[1:], [Produce(1, "t", 5, b"next")])

    def test_topic_length_out_of_bounds_is_fatal(self) -> None:
        for length in (-1, -(2**31), 70_000, 2**31 - 1):
            parser = RequestParser()
            self.assertEqual(
                refusals(parser.receive(struct.pack(">iBi", 2, 1, length))),
                [(2, MegaError.INVALID_REQUEST, True)],
            )

    def test_negative_payload_length(self) -> None:
        parser = RequestParser()
        events = parser.receive(head(1, correlation_id=6) + struct.pack(">i", -1) + produce(b"ok"))
        self.assertEqual(refusals(events), [(6, MegaError.INVALID_REQUEST, False)])
        self.assertEqual(events[1:], [Produce(1, "t", 5, b"ok")])

    def test_negative_offset_is_the_brokers_business(self) -> None:
        self.assertEqual(RequestParser().receive(consume(-3)), [Consume(1, "t", 5, -3)])

    def test_payload_at_and_over_the_limit(self) -> None:
        parser = RequestParser(max_payload_bytes=10)
        events = parser.receive(produce(b"x" * 10) + produce(b"x" * 11, correlation_id=2) + produce(b"z"))
        self.assertEqual(refusals(events), [(2, MegaError.MESSAGE_TOO_LARGE, False)])
        self.assertEqual(events[0], Produce(1, "t", 5, b"x" * 10))
        self.assertEqual(events[2], Produce(1, "t", 5, b"z"))

    def test_oversized_payload_is_discarded_in_bounded_memory(self) -> None:
        parser = RequestParser(max_payload_bytes=1000)
        length = 50_000_000
        parser.receive(head(1, correlation_id=3) + struct.pack(">i", length))
        chunk = b"x" * 1_000_000
        for _ in range(49):
            self.assertEqual(parser.receive(chunk), [])
            self.assertEqual(parser.held_bytes, 0)
        events = parser.receive(chunk + create())
        self.assertEqual(refusals(events), [(3, MegaError.MESSAGE_TOO_LARGE, False)])
        self.assertEqual(events[1:], [CreateTopic(1, "t", 5)])

    def test_announced_payload_allocates_nothing(self) -> None:
        parser = RequestParser(max_payload_bytes=1 << 30)
        parser.receive(head(1) + struct.pack(">i", 1 << 30) + b"12")
        self.assertEqual((parser.held_bytes, parser.announced_bytes), (0, 1 << 30))


class MidRequestTests(SynchronousTestCase):
    """What counts as an incomplete request."""

    def test_a_trailing_word_is_not_the_beginning_of_one(self) -> None:
        parser = RequestParser()
        parser.receive(create())
        for byte in ZERO:
            parser.receive(bytes([byte]))
            self.assertFalse(parser.mid_request)
        parser.receive(b"\0")
        self.assertTrue(parser.mid_request)

    def test_payload_and_header(self) -> None:
        parser = RequestParser(max_payload_bytes=2)
        for request in (produce(b"12"), produce(b"12345"), create()):
            for at in range(len(request)):
                parser.receive(request[at : at + 1])
                self.assertEqual(parser.mid_request, at + 1 < len(request))


class CostTests(SynchronousTestCase):
    """Linear cost."""

    def test_large_payload_byte_by_byte(self) -> None:
        def seconds(size: int) -> float:
            parser = RequestParser(max_payload_bytes=1 << 20)
            stream = produce(b"x" * size)
            begun = time.process_time()
            events: list[Request] = []
            for at in range(len(stream)):
                events += parser.receive(stream[at : at + 1])
            self.assertEqual(events, [Produce(1, "t", 5, b"x" * size)])
            return time.process_time() - begun

        seconds(1000)
        # Quadratic work would take 64 times as long for 8 times the bytes.
        self.assertLess(seconds(200_000), 30 * seconds(25_000) + 0.2)

    def test_takes_views(self) -> None:
        buffer = bytearray(produce(b"payload") + create()[:6])
        parser = RequestParser()
        events = parser.receive(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        self.assertEqual(events, [Produce(1, "t", 5, b"payload")])
        self.assertEqual(parser.receive(create()[6:]), [CreateTopic(1, "t", 5)])
