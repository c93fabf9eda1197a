"""The clients' side of MEGA and cursus without I/O: golden bytes, any split, whatever a peer may send."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
import sys
import unittest
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.client import cursus_requests as cursus
from megabroker.client import mega_wire as mega
from megabroker.client.conversation import Address, Answer, Message
from megabroker.client.cursus_wire import CursusConversation, CursusWire
from megabroker.client.errors import (
    BadResponse,
    BrokerFailed,
    ConnectionLost,
    InvalidOffset,
    NotAuthenticated,
    Overloaded,
    PartitionNotServed,
    Refused,
    StreamOutOfStep,
    TopicNotFound,
)
from megabroker.client.reading import CursusReader, MegaReader
from megabroker.client.retrying import Retry

HERE = Address("broker:1")


def mega_conversation(dialect: str = "original", max_payload_bytes: int = 1000) -> mega.MegaConversation:
    return mega.MegaWire(dialect, max_payload_bytes).converse(HERE)


def cursus_conversation(**options: Any) -> CursusConversation:
    values: dict[str, Any] = {"compression": "none", "max_frame_bytes": 1000, "keeps_open": False}
    return CursusWire(greeting=(), **{**values, **options}).converse(HERE)


def frame(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">I", len(data)) + data


def fed(conversation: Any, data: bytes, cuts: list[int]) -> list[Answer]:
    answers: list[Answer] = []
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    for begin, end in zip([0, *places], [*places, len(data)], strict=True):
        answers += conversation.receive(data[begin:end])
    return answers


MEGA_ANSWERS = (
    struct.pack(">iBqi", 2, 1, 7, 40)
    + struct.pack(">iBqH", 1, 1, 8, 3) + b"abc"
    + struct.pack(">iBB", 4, 0, 6)
    + struct.pack(">iBqii", 3, 1, 9, 6, 5) + b"hello"
    + struct.pack(">iBB", 5, 0, 99)
)  # fmt: skip


class MegaTests(unittest.TestCase):
    def test_golden_requests_of_both_dialects(self) -> None:
        for dialect, trailer in (("original", bytes(4)), ("documented", b"")):
            conversation = mega_conversation(dialect)
            for request, begins, ends in (
                (mega.CreateTopic("abc"), "00000001 03 00000003 616263", trailer),
                (mega.Produce("t", b"hi"), "00000002 01 00000001 74", bytes.fromhex("00000002 6869")),
                (mega.Consume("t", 5), "00000003 02 00000001 74", struct.pack(">i", 5) + trailer),
                (mega.Consume("t", -1, -9), "fffffff7 02 00000001 74", struct.pack(">i", -1) + trailer),
            ):
                data = conversation.ask(request)[1]
                head = bytes.fromhex(begins)
                assert (data[: len(head)], data[len(head) + 8 :]) == (head, ends)
            with self.assertRaisesRegex(ValueError, "correlation_id: -9 is under way"):
                conversation.ask(mega.Consume("t", 0, -9))

    @given(st.lists(st.integers(0, 200), max_size=8))
    def test_answers_in_any_order_and_split(self, cuts: list[int]) -> None:
        conversation = mega_conversation()
        for request in (
            mega.CreateTopic("abc"),
            mega.Produce("t", b""),
            mega.Consume("t", 5),
            mega.Consume("t", 9),
            mega.Produce("t", b""),
        ):
            conversation.ask(request)
        stored, created, refused, message, unknown = fed(conversation, MEGA_ANSWERS, cuts)
        assert stored == Answer(2, mega.Stored(40, 7))
        assert created == Answer(1, mega.Created("abc", 8))
        assert message == Answer(3, Message(5, b"hello", 9))
        assert isinstance(refused.value, InvalidOffset)
        assert isinstance(unknown.value, BrokerFailed)
        assert unknown.value.code == "UNKNOWN_ERROR_99"
        assert conversation.peer_closed() == ()

    def test_what_is_no_answer(self) -> None:
        for data, words in {
            b"\0\0\0\1\7": "success flag 7: expected 0 or 1",
            b"\0\0\0\2\1": "answer to request 2: expected 1",
            struct.pack(">iBqii", 1, 1, 0, 6, -4): "payload length -4: expected 0 or more",
            struct.pack(">iBqii", 1, 1, 0, 6, 2**31 - 1): r"expected 1000 at most \(max_payload_bytes\)",
            struct.pack(">iBqii", 1, 1, 0, 5, 0): "next offset 5 after offset 5: expected a later one",
            b"\x15\x03\x03\0\2": "broker:1 speaks TLS",
        }.items():
            conversation = mega_conversation()
            conversation.ask(mega.Consume("t", 5))
            with self.assertRaisesRegex(BadResponse, words):
                conversation.receive(data)
        with self.assertRaisesRegex(ConnectionLost, "is that a MEGA port"):
            conversation.peer_closed()

    @settings(max_examples=200)
    @given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
    def test_random_bytes(self, data: bytes, cuts: list[int]) -> None:
        conversation = mega_conversation(max_payload_bytes=50)
        for request in (mega.CreateTopic("abc"), mega.Produce("t", b""), mega.Consume("t", 5)):
            conversation.ask(request)
        try:
            fed(conversation, data, cuts)
        except BadResponse:
            pass

    def test_a_payload_in_single_bytes_is_linear(self) -> None:
        conversation = mega_conversation(max_payload_bytes=1 << 20)
        conversation.ask(mega.Consume("t", 5))
        conversation.receive(struct.pack(">iBqii", 1, 1, 0, 6, 200_000))
        for _ in range(199_999):
            assert not conversation.receive(b"x")
        (answer,) = conversation.receive(b"x")
        assert len(answer.value.payload) == 200_000


class CursusTests(unittest.TestCase):
    def test_golden_requests(self) -> None:
        for request, text in (
            (cursus.Create("news", 2), b"CREATE news 2"),
            (cursus.Create("news"), b"CREATE news"),
            (cursus.Delete("news"), b"DELETE news"),
            (cursus.Publish("news", b" two  words\n"), b"PUBLISH news  two  words\n"),
            (cursus.Consume("news", 1, 20), b"CONSUME news 1 20"),
            (cursus.Auth("alice", "pass word"), b"AUTH alice pass word"),
        ):
            assert cursus_conversation().ask(request)[1] == frame(b"\0\0" + text)
        zipped = cursus_conversation(compression="gzip").ask(cursus.ListTopics())[1]
        assert gzip.decompress(zipped[4:]) == b"\0\0LIST"
        assert "word" not in repr(cursus.Auth("alice", "word"))

    def test_arguments_that_are_none(self) -> None:
        for request, words in (
            (cursus.Create("two words"), "topic: expected 1 to 1000 characters without spaces"),
            (cursus.Create("t", 0), "partitions: expected 1 or more"),
            (cursus.Publish("t", b""), "message: expected at least one byte"),
            (cursus.Consume("t", -1, 0), "partition: expected 0 or more"),
            (cursus.Consume("t", 0, 10**18), "offset: expected 0 or more, and 18 digits"),
            (cursus.Auth("a b", "x"), "user: expected 1 to 1000"),
            (cursus.Auth("a", "x\n"), "password: expected a password that is not empty"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                cursus_conversation().ask(request)
        with self.assertRaisesRegex(TypeError, "offset: expected an int, not str 'x'"):
            cursus_conversation().ask(cursus.Consume("t", 0, "x"))  # type: ignore[arg-type]
        with self.assertRaisesRegex(ValueError, "compression: expected none, gzip, snappy, lz4, not 'zip'"):
            cursus_conversation(compression="zip")
        with self.assertRaisesRegex(ValueError, "expected user and password, or neither"):
            cursus.greeting("alice", None)

    @given(st.lists(st.integers(0, 200), max_size=8))
    def test_replies_in_order_and_any_split(self, cuts: list[int]) -> None:
        conversation = cursus_conversation()
        requests: list[Any] = [
            cursus.Create("n"),
            cursus.ListTopics(),
            cursus.Publish("n", b"x"),
            cursus.Help(),
        ]
        requests += [cursus.ListTopics(), cursus.Delete("n")]
        for request in requests:
            conversation.ask(request)
        texts = [
            "✅ Topic 'n' now has 4 partitions",
            "a, n",
            "📤 Published to 'n'",
            "Available",
            "(no topics)",
        ]
        data = b"".join(frame(text) for text in [*texts, "🗑️ Topic 'n' deleted"])
        answers = fed(conversation, data, cuts)
        assert [answer.value for answer in answers] == [4, ["a", "n"], None, "Available", [], None]
        assert [answer.number for answer in answers] == [1, 2, 3, 4, 5, 6]

    def test_refusals(self) -> None:
        for text, kind, code in (
            ("topic 'x' does not exist", TopicNotFound, "TOPIC_NOT_FOUND"),
            ("topic 'x' not found", TopicNotFound, "TOPIC_NOT_FOUND"),
            ("authentication required", NotAuthenticated, "AUTHENTICATION_REQUIRED"),
            ("failed to get disk handler: no", PartitionNotServed, "NO_DISK_HANDLER"),
            ("something else", Refused, "FAILED"),
        ):
            conversation = cursus_conversation()
            conversation.ask(cursus.Publish("x", b"m"))
            (answer,) = conversation.receive(frame(f"ERROR: {text}"))
            assert type(answer.value) is kind
            assert (answer.value.code, answer.value.detail, str(answer.value)) == (code, text, text)

    def test_a_stream_that_ends_with_a_close(self) -> None:
        for frames, messages, end in (
            ([b"one", b"two"], [b"one", b"two"], type(None)),
            ([], [], type(None)),
            ([b"ERROR: invalid offset"], [], InvalidOffset),
            ([b"one", b"ERROR: failed to read messages from disk: x"], [b"one"], BrokerFailed),
            ([b"ERROR: invalid offset", b"two"], [b"ERROR: invalid offset", b"two"], type(None)),
            ([b"ERROR: of an application"], [b"ERROR: of an application"], type(None)),
        ):
            conversation = cursus_conversation()
            conversation.ask(cursus.Consume("n", 0, 0))
            answers = conversation.receive(b"".join(map(frame, frames)))
            assert [answer.value for answer in answers] == messages
            (last,) = conversation.peer_closed()
            assert last.is_last
            assert type(last.value) is end
        conversation = cursus_conversation()
        conversation.ask(cursus.Consume("n", 0, 0))
        conversation.receive(frame(b"one")[:-1])
        with self.assertRaises(ConnectionLost):
            conversation.peer_closed()

    def test_a_stream_on_a_connection_that_stays(self) -> None:
        conversation = cursus_conversation(keeps_open=True)
        data = conversation.ask(cursus.Consume("n", 0, 0))[1]
        word = data[data.index(b"END-") :].decode()
        assert data == frame(b"\0\0CONSUME n 0 0") + frame(f"\0\0{word}")
        conversation.ask(cursus.ListTopics())
        answers = conversation.receive(
            frame("one") + frame(f"ERROR: unknown command: {word}") + frame("(no topics)")
        )
        assert [(one.number, one.value, one.is_last) for one in answers] == [
            (1, b"one", False), (1, None, True), (2, [], True),
        ]  # fmt: skip
        conversation.ask(cursus.Consume("n", 0, 0))
        conversation.receive(frame("one"))
        with self.assertRaises(ConnectionLost):
            conversation.peer_closed()

    def test_what_is_no_reply(self) -> None:
        for request, data, words in (
            (cursus.Create("n"), b"\xff\xff\xff\xff", "frame of 4294967295 bytes: expected 1000 at most"),
            (cursus.Create("n"), b"HTTP/1.1", "is that a cursus port"),
            (cursus.Create("n"), frame("hello"), "expected a number of partitions"),
            (cursus.Publish("n", b"x"), frame("hello"), "expected '📤 Published to '"),
            (cursus.Create("n"), frame(b"\xff"), "a reply that is no text"),
            (cursus.ListTopics(), frame("a") + frame("b"), "a frame that nobody asked for: b'b'"),
            (cursus.ListTopics(), b"\x15\x03\x03\0\2", "broker:1 speaks TLS"),
        ):
            conversation = cursus_conversation()
            conversation.ask(request)
            with self.assertRaisesRegex(BadResponse, words):
                conversation.receive(data)

    @settings(max_examples=200)
    @given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4), st.booleans())
    def test_random_bytes(self, data: bytes, cuts: list[int], streams: bool) -> None:
        conversation = cursus_conversation(max_frame_bytes=64)
        conversation.ask(cursus.Consume("n", 0, 0) if streams else cursus.ListTopics())
        try:
            fed(conversation, frame(data[:20]) + data, cuts)
        except BadResponse:
            pass


class ReaderTests(unittest.TestCase):
    def test_mega_goes_on_behind_holes_and_never_behind_a_gap(self) -> None:
        reader = MegaReader("t", 3)
        assert reader.requests() == (mega.Consume("t", 3),)
        assert reader.take([Message(5, b"a")]) == [Message(5, b"a")]
        assert [one.offset for one in reader.requests()] == [6, 7]
        same = Message(7, b"b")
        assert reader.take([same, same]) == [same]
        assert [one.offset for one in reader.requests()] == [8, 9, 10, 11]
        late = Message(9, b"d")  # stored, after 8, between the answers to the first two
        assert reader.take([InvalidOffset("INVALID_OFFSET"), late]) == []
        assert reader.at_end
        assert reader.offset == 8
        with self.assertRaises(Overloaded):
            reader.take([Overloaded("RESOURCE_EXHAUSTED")])

    def test_mega_asks_less_at_once_where_messages_are_large(self) -> None:
        reader = MegaReader("t", 0)
        for _ in range(8):
            reader.take([Message(reader.offset, b"x")])
        assert len(reader.requests()) == 64
        for _ in range(8):
            reader.take([Message(reader.offset, bytes(1 << 20))])
        assert len(reader.requests()) == 1

    def test_cursus_sees_an_end_only_where_the_last_message_is_seen_again(self) -> None:
        reader = CursusReader("t", 0, 10)
        assert reader.request().offset == 10
        assert reader.take(b"a") == Message(10, b"a")
        assert reader.take(b"b") == Message(11, b"b")
        assert reader.round_over()
        assert not reader.at_end
        assert reader.request().offset == 11
        assert not reader.round_over()  # nothing came: nobody knows whether it was answered
        assert not reader.at_end
        assert reader.request().offset == 11
        assert reader.take(b"b") is None
        assert reader.round_over()
        assert reader.at_end

    def test_cursus_of_an_empty_partition_is_asked_twice(self) -> None:
        reader = CursusReader("t", 0, 0)
        for at_end in (False, True):
            reader.request()
            assert reader.round_over()
            assert reader.at_end is at_end

    def test_cursus_waits_for_what_may_pass_and_at_the_end(self) -> None:
        reader = CursusReader("t", 0, 0, retry=Retry(3, 0.1, 0.5, 0), poll_seconds=7)
        lost = ConnectionLost("gone")
        reader.request()
        assert reader.pause_s(lost) == 0.1
        reader.request()
        assert reader.take(b"a") == Message(0, b"a")
        assert reader.pause_s(lost) == 0.1  # a new message begins the attempts anew
        reader.request()
        assert reader.pause_s(None) == 0.2  # not even the message before: nobody has answered
        reader.request()
        reader.take(b"a")
        assert reader.pause_s(None) == 7
        with self.assertRaises(ConnectionLost) as raised:  # no connection, so that nothing was asked
            reader.pause_s(lost)
        assert raised.exception is lost

    def test_cursus_ends_after_a_round_without_anything_new(self) -> None:
        reader = CursusReader("t", 0, 0)
        pauses = []
        for payloads in ((b"a", b"b"), (b"b",)):
            reader.request()
            for payload in payloads:
                reader.take(payload)
            pauses.append(reader.pause_s(None))
        assert pauses == [0.0, None]
        with self.assertRaisesRegex(ValueError, "offset: expected 0 or more"):
            CursusReader("t", 0, -1)

    def test_cursus_finds_that_it_cannot_count(self) -> None:
        reader = CursusReader("t", 0, 0)
        reader.request()
        reader.take(b"a")
        reader.request()
        with self.assertRaisesRegex(StreamOutOfStep, "t/0: offset 0 has another message"):
            reader.take(b"z")


class RetryTests(unittest.TestCase):
    def test_pauses(self) -> None:
        assert list(Retry(6, 0.1, 0.5, 0).pauses()) == [0.1, 0.2, 0.4, 0.5, 0.5]
        assert list(Retry(1).pauses()) == []
        drawn = list(Retry(50, 1, 1, 0.5).pauses(random.Random(7)))
        assert all(0.5 <= pause <= 1 for pause in drawn)
        assert len(set(drawn)) == 49

    def test_numbers_out_of_range(self) -> None:
        for options, words in (
            ({"attempts": 0}, "attempts: expected 1 or more"),
            ({"first_s": 3.0}, "first_s: expected 0 to longest_s"),
            ({"jitter": 1.5}, "jitter: expected 0 to 1"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                Retry(**options)  # type: ignore[arg-type]


def test_the_blocking_clients_need_the_standard_library_only() -> None:
    code = """
import sys
before = set(sys.modules)
import megabroker.client
found = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(found - set(sys.stdlib_module_names) - {"megabroker"}))
print(sorted(name for name in sys.modules if name.startswith("megabroker.") and ".client" not in name))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
