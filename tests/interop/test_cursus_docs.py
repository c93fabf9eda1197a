"""docs/cursus.md says every command of both dialects, and its examples are what a broker answers."""

from __future__ import annotations

import json
import pathlib
import re
import socket
import struct
from collections.abc import Iterator

import pytest

from megabroker.protocols.cursus.codec import Reply
from megabroker.protocols.cursus.later.batch import decode_batch, looks_like_batch
from megabroker.protocols.cursus.later.refusals import CLASSES
from megabroker.protocols.cursus.later.words import WORDS
from tests.brokers import BrokerProcess

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "cursus.md").read_text(encoding="utf-8")

_member = re.compile(r"member=(\w+-\d{4})\b").search


def sections(text: str) -> dict[str, str]:
    """Return what stands under each heading of the third level."""
    parts = re.split(r"^#{2,3} (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def examples(text: str) -> Iterator[list[tuple[str, list[str]]]]:
    """Yield the commands of each example with the lines of their answers."""
    for block in re.findall(r"^```cursus\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        asked: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("< "):
                asked[-1][1].append(line[2:])
            elif line:
                asked.append((line.removeprefix("> "), []))
        yield asked


class Talk:
    """One connection, as the page shows it."""

    def __init__(self, port: int, members: dict[str, str]) -> None:
        self.port = port
        self.members = members
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.stream = self.socket.makefile("rb")

    def ask(self, command: str) -> None:
        """Send a command; ``[topic] text`` is a message for a topic, and ``(batch)`` stands for one."""
        for shown, real in self.members.items():
            command = command.replace(shown, real)
        topic, text = "", command
        if found := re.fullmatch(r"\[(\w+)\] (.*)", command):
            topic, text = found.groups()
        body = struct.pack(">H", len(topic)) + topic.encode() + text.encode()
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def lines(self, wanted: list[str]) -> list[str]:
        """Return the lines of as many frames as there must be for those that are wanted."""
        found: list[str] = []
        while len(found) < len(wanted):
            head = self.stream.read(4)
            if not head:
                return [*found, "(closed)"]
            found += self.shown(self.stream.read(*struct.unpack(">I", head)), wanted[len(found) :])
        return found

    def shown(self, frame: bytes, wanted: list[str]) -> list[str]:
        """Return how the page shows a frame, with the port it has there and its members."""
        if looks_like_batch(frame):
            batch = decode_batch(frame, 1000)
            rows = [
                f"  {one.offset}: {one.payload.decode()}"
                + (f"  key={one.key.decode()}" if one.key else "")
                + (f"  version={one.aggregate_version}" if one.aggregate_version else "")
                for one in batch.messages
            ]
            return [f"(batch of {batch.topic}, partition {batch.partition})", *rows]
        text = frame.decode().replace(f"127.0.0.1:{self.port}", "127.0.0.1:9000")
        text = text.replace(f"port={self.port}", "port=9000")
        real, told = _member(text), _member(wanted[0]) if wanted else None
        if real and told:
            self.members.setdefault(told[1], real[1])
        for shown, member in self.members.items():
            text = text.replace(member, shown)
        return text.split("\n")


@pytest.mark.interop
def test_the_examples_are_what_a_broker_answers() -> None:
    members: dict[str, str] = {}
    with BrokerProcess() as broker:
        for example in examples(PAGE):
            talk = Talk(broker.ports["cursus"], members)
            for command, wanted in example:
                talk.ask(command)
                assert talk.lines(wanted) == wanted, command
            talk.socket.close()


def test_every_command_is_there() -> None:
    found = sections(PAGE)
    for word in WORDS.values():
        assert word.about in found[word.name].replace("\n", " "), word.name
        assert f"\n{word.syntax}\n" in found[word.name].replace("\n    ", " "), word.name
        assert f"\n> {word.name}" in found[word.name], word.name
    for line in Reply.HELP.splitlines()[1:]:
        assert f"| `{line}` |" in PAGE.replace("\\|", "|"), line
    shown = [command for example in examples(found["The first dialect"]) for command, _ in example]
    for line in Reply.HELP.splitlines()[1:]:
        assert any(command.split()[0] == line.split()[0] for command in shown), line


def test_every_refusal_is_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| (.*) \|$", PAGE, re.MULTILINE)
    told = {code: (name, retryable == "yes") for name, retryable, codes in rows for code in codes.split(", ")}
    assert told == {f"`{code}`": tuple(found) for code, found in CLASSES.items()}


def test_json_in_it_is_json() -> None:
    for example in examples(PAGE):
        for _, lines in example:
            for line in lines:
                if line.startswith('{"'):
                    json.loads(line)
