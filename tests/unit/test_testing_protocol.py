"""The harness for protocols finds what it is there for: each check fails at a protocol with one fault."""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver

from megabroker.codec.batch import build_single, read_header
from megabroker.codec.framing import FrameReader
from megabroker.config.protocol import ProtocolSettings
from megabroker.errors import BrokerError
from megabroker.model import Acks
from megabroker.net.connection import BrokerConnection
from megabroker.net.factory import BrokerFactory
from megabroker.net.wire import Room
from megabroker.plugin import ProtocolPlugin
from megabroker.protocols.reading import ReadCache, RecordReader
from megabroker.testing.protocol import (
    Wire,
    check_closed_connections_free_all,
    check_descriptor,
    check_every_split,
    check_full_queue,
    check_golden,
    check_hostile_bytes,
    check_imports,
    check_partial_frame,
    check_random_splits,
    check_stop_drains,
    check_too_long,
    check_unread_answers,
    talk,
)
from megabroker.testing.protocol.golden import read_golden, write_golden


class Settings(ProtocolSettings):
    """Nothing more."""


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


class Good(BrokerConnection):
    """``S`` and a message stores it, ``R`` is answered with the first message; frames with lengths."""

    def make_reader(self) -> Any:
        return FrameReader(1000)

    def handle(self, event: Any) -> Room | None:
        body = bytes(event)
        partition = self.broker.topics.partition("harness", 0)
        if body[:1] == b"R":
            record = RecordReader(partition, 0, self.factory.cache).next()
            self.answer((frame((record and record.value) or b""),))
            return None
        data = build_single(None, body[1:], 0)
        if self.is_full(partition, len(data)):
            return partition
        slot = self.reserve(len(body))

        def stored(error: BrokerError | None) -> None:
            slot.fill((frame(b"ok" if error is None else b"no"),))

        partition.append(read_header(data, 0, len(data)), data, Acks.DURABLE, stored)
        return None

    def is_full(self, partition: Any, size_bytes: int) -> bool:
        return not partition.has_room(1, size_bytes)


class GreedyConnection(Good):
    def is_full(self, partition: Any, size_bytes: int) -> bool:
        return False


class LeakyConnection(Good):
    def handle(self, event: Any) -> Room | None:
        self.broker.topics.partition("harness", 0).watch(self.turn_ended)
        return super().handle(event)


class ForgetfulConnection(Good):
    """Answers before anything is stored."""

    def handle(self, event: Any) -> Room | None:
        if bytes(event[:1]) == b"S":
            self.answer((frame(b"ok"),))
            return None
        return super().handle(event)


class RaisingConnection(Good):
    def handle(self, event: Any) -> Room | None:
        if bytes(event[:1]) not in b"SR":
            raise KeyError(event)
        return super().handle(event)


class PlainFrames(Protocol):
    """Twisted's own transport, and none of the broker's care: every chunk is taken for a whole frame."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(frame(b"v" * 20_000 if data[4:5] == b"R" else data[4:]))


class PlainLines(LineReceiver):
    MAX_LENGTH = 1 << 30
    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line)


class Made(BrokerFactory):
    def __init__(self, broker: Any, listener: Any, connection: Any) -> None:
        super().__init__(broker, listener, connection)
        self.cache = ReadCache(1 << 20)


def wire(connection: Callable[..., Any], **more: Any) -> Wire:
    """Return a wire whose descriptor is of this module and whose connections are these."""

    class Plugin(ProtocolPlugin):
        def settings_class(self) -> type[Any]:
            return Settings

        def factory(self, broker: Any, settings: Any, listener: Any) -> Any:
            if issubclass(connection, BrokerConnection):  # type: ignore[arg-type]
                return Made(broker, listener, connection)
            return Factory.forProtocol(connection)

    plugin = Plugin("tried", "tcp:0:interface=127.0.0.1", "nothing", "nothing", version=1)
    return Wire(
        **{
            "plugin": plugin,
            "conversation": [frame(b"Sone") + frame(b"Stwo"), frame(b"R") + frame(b"")],
            "store": lambda value: frame(b"S" + value),
            "read": lambda n: frame(b"R"),
            "too_long": struct.pack(">I", 1001),
            "partial": frame(b"Sone")[:-1],
            **more,
        }
    )


CHECKS = (
    check_every_split,
    check_random_splits,
    check_full_queue,
    check_too_long,
    check_partial_frame,
    check_unread_answers,
    check_hostile_bytes,
    check_stop_drains,
    check_closed_connections_free_all,
)


@pytest.mark.parametrize("check", CHECKS)
def test_a_protocol_in_order_passes(check: Callable[[Wire], Any]) -> None:
    check(wire(Good))


@pytest.mark.parametrize(
    ("check", "connection", "complaint"),
    [
        (check_every_split, PlainFrames, "cut at [1], the conversation came to something else"),
        (check_random_splits, PlainFrames, "cut at [1], the conversation came to something else"),
        (check_full_queue, GreedyConnection, "ask has_room before append"),
        (check_full_queue, ForgetfulConnection, "expected the socket not to be read on"),
        (check_too_long, PlainLines, "neither refused nor is its connection closed"),
        (check_partial_frame, PlainLines, "keeps its connection for ever"),
        (check_unread_answers, PlainFrames, "bytes of answers wait for a peer that reads none"),
        (check_hostile_bytes, RaisingConnection, "a failure was logged at these bytes"),
        (check_stop_drains, ForgetfulConnection, "answered before it is stored"),
        (check_stop_drains, Protocol, "inherit BrokerFactory"),
        (check_closed_connections_free_all, LeakyConnection, "still referred to"),
    ],
)
def test_one_fault_is_found(check: Callable[[Wire], Any], connection: type[Any], complaint: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check(wire(connection))
    assert complaint in str(caught.value)


def test_what_a_check_needs_is_said() -> None:
    with pytest.raises(AssertionError, match=r"this check needs Wire\(store=...\)"):
        check_full_queue(wire(Good, store=None))


GOLDEN = """\
# comments stay
> 00 00 00 04 "Sone"
< 00 00 00 02 "ok"
> 00 00 00 01 "R"
< ?? ?? 00 03
< "one"
"""


def test_golden_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.golden"
    path.write_text(GOLDEN)
    read = read_golden(path)
    assert read.sent == (frame(b"Sone"), frame(b"R"))
    assert read.expected[1] == (-1, -1, 0, 3, *b"one")
    check_golden(wire(Good), path)
    path.write_text(GOLDEN.replace('"one"', '"two"'))
    with pytest.raises(AssertionError, match=r"piece 2: the answer to") as caught:
        check_golden(wire(Good), path)
    assert "00 00 00 03 6f 6e 65\nexpected\n  ?? ?? 00 03 74 77 6f" in str(caught.value)
    monkeypatch.setenv("MEGABROKER_GOLDEN", "record")
    check_golden(wire(Good), path)
    monkeypatch.delenv("MEGABROKER_GOLDEN")
    assert path.read_text().startswith("# comments stay\n> ")
    assert read_golden(path).expected[1] == tuple(frame(b"one"))
    check_golden(wire(Good), path)
    path.write_text(GOLDEN + "= closed\n")
    with pytest.raises(AssertionError, match=r"left open after the last piece"):
        check_golden(wire(Good), path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("< 00\n", "line 1: nothing was sent yet"),
        ("> 0\n", "line 1: expected two hexadecimal digits"),
        ("> ??\n", "what is sent cannot be"),
        ('> "abc\n', "line 1: expected two hexadecimal digits"),
        ("= open\n", "expected >, < or a last line"),
        ("> 00\n= closed\n> 00\n", "line 3"),
    ],
)
def test_golden_files_that_cannot_be_read(tmp_path: pathlib.Path, text: str, complaint: str) -> None:
    path = tmp_path / "one.golden"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_golden(path)


def test_every_byte_is_written_so_that_it_is_read_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "one.golden"
    every = bytes(range(256))
    text = b'quotes " and \\ backslashes\r\n\t'
    made = wire(Good, conversation=[frame(b"S" + every), frame(b"S" + text), frame(b"R")])
    found = talk(made)
    write_golden(path, made.conversation, found)
    assert read_golden(path).sent == tuple(made.conversation)
    assert bytes(read_golden(path).expected[2]) == found.answers[3]


def test_descriptors(tmp_path: pathlib.Path) -> None:
    plugin = wire(Good).plugin
    for name, complaint in (("Tried", "the name 'Tried'"), ("a b", "the name 'a b'")):
        plugin.name = name
        with pytest.raises(AssertionError, match=complaint):
            check_descriptor(plugin)
    plugin.name = "tried"
    plugin.version = 99
    with pytest.raises(
        AssertionError, match=r"tried is written for version 99 .*: expected a newer megabroker"
    ):
        check_descriptor(plugin)
    plugin.version = 1
    with pytest.raises(AssertionError, match=r"tried is not found in a new process"):
        check_descriptor(plugin)


def test_imports_beyond_the_public_face(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wide").mkdir()
    module = tmp_path / "wide" / "__init__.py"
    monkeypatch.syspath_prepend(tmp_path)
    module.write_text(
        "from megabroker.model import Acks\nfrom megabroker.net import factory\nimport wide.more\n"
        "from megabroker.testing.memory_broker import MemoryBroker\n"
    )
    check_imports("wide")
    module.write_text("from megabroker.interfaces.broker import IBroker\n")
    with pytest.raises(AssertionError, match=r"line 1: megabroker\.interfaces\.broker"):
        check_imports("wide")
    module.write_text("import attrs\n\nfrom megabroker.core.topics import TopicService\n")
    with pytest.raises(AssertionError, match=r"line 3: megabroker\.core\.topics"):
        check_imports("wide")
    module.write_text("from megabroker import service\n")
    with pytest.raises(AssertionError, match=r"line 1: megabroker\.service"):
        check_imports("wide")
