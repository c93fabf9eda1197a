"""docs/mega.md says what a broker does: its bytes are sent and answered, its tables follow the code."""

from __future__ import annotations

import pathlib
import re
import socket
from collections.abc import Iterator

import pytest

from megabroker.config.structure import keys
from megabroker.plugin import discover
from megabroker.protocols.mega.codec import MegaError
from tests.brokers import BrokerProcess

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "mega.md").read_text(encoding="utf-8")


def examples() -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield the requests of each example with the bytes of their answers; b"" stands for the close."""
    for block in re.findall(r"^```mega\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        asked: list[tuple[bytes, bytes]] = []
        for line in block.splitlines():
            direction, _, text = line.partition(" ")
            if direction == ">":
                request = bytes.fromhex(text)
            else:
                asked.append((request, b"" if text == "(closed)" else bytes.fromhex(text)))
                request = b""
        yield asked


@pytest.mark.interop
def test_the_examples_are_what_a_broker_answers() -> None:
    shown = list(examples())
    assert len(shown) == 5
    with BrokerProcess() as broker:
        for example in shown:
            with (
                socket.create_connection(("127.0.0.1", broker.ports["mega"]), 20) as connection,
                connection.makefile("rb") as stream,
            ):
                for request, answer in example:
                    connection.sendall(request)
                    assert stream.read(len(answer) or 1).hex(" ", 4) == answer.hex(" ", 4), request.hex(" ")


def test_every_error_is_there() -> None:
    rows = re.findall(r"^\| (\d) \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
    assert {int(code): name for code, name in rows} == {int(error): error.name for error in MegaError}


def test_every_key_is_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `.*` \| .* \|$", PAGE, re.MULTILINE)
    known = {key.path.split(".")[0].removesuffix("[]") for key in keys(discover()["mega"].settings_class())}
    assert set(rows) == known
