"""Golden files: a conversation with its answers, byte by byte, as people can read and review them.

    # PUT is answered with the offset
    > "PUT harness hello\\n"
    < "0\\n"
    > 00 00 00 05  "ab" 0a
    < ?? ?? 00 "more"
    = closed

``>`` is what the client sends, ``<`` what it must get before it sends more; lines of one kind in a row are
one piece. Bytes are in hexadecimal or, in quotes, in the words of a Python bytes literal; ``??`` is any byte.
As the last line, ``= closed`` says that the broker closes the connection. Empty lines and ``#`` lines say
nothing.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import attrs

from megabroker.testing.protocol.conversation import Outcome, Wire, talk

__all__ = ["GoldenFile", "check_golden", "read_golden", "write_golden"]

RECORD = "MEGABROKER_GOLDEN"
"""The environment variable which, with the value ``record``, has golden files written anew."""

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([0-9a-fA-F]{2}|\?\?))(?=[\s"]|$)')
_ANY = -1
_LINE_BYTES = 24
_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", 9: "\\t", 10: "\\n", 13: "\\r"}

Bytes = Sequence[int]


class GoldenFile(NamedTuple):
    """What a golden file says.

    Attributes:
        sent: the pieces a client sends.
        expected: what must come after each, -1 standing for any byte.
        is_closed: whether the broker closes then.
    """

    sent: tuple[bytes, ...]
    expected: tuple[tuple[int, ...], ...]
    is_closed: bool


def check_golden(wire: Wire, path: str | os.PathLike[str]) -> None:
    """Have the conversation of a golden file, in the place of the wire's own.

    With the environment variable ``MEGABROKER_GOLDEN=record`` the file's answers are replaced by what comes.

    Raises:
        AssertionError: something else is answered; says at which line.
        ValueError: the file cannot be read as a golden file.
    """
    golden = read_golden(path)
    found = talk(attrs.evolve(wire, conversation=golden.sent))
    if os.environ.get(RECORD) == "record":
        write_golden(path, golden.sent, found)
        return
    for number, (expected, answer) in enumerate(zip(golden.expected, found.answers[1:], strict=True)):
        if not _fits(expected, answer):
            raise AssertionError(
                f"{os.fspath(path)}, piece {number + 1}: the answer to {golden.sent[number][:60]!r} is\n"
                f"  {_written(answer)}\nexpected\n  {_written(expected)}"
            )
    if golden.is_closed != found.is_closed:
        state = "closed" if found.is_closed else "left open"
        raise AssertionError(f"{os.fspath(path)}: the connection was {state} after the last piece")


def read_golden(path: str | os.PathLike[str]) -> GoldenFile:
    """Read a golden file. Raises ValueError, with the line, and OSError."""
    sent: list[bytes] = []
    expected: list[tuple[int, ...]] = []
    last, is_closed = "", False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            kind, rest = line[:1], line[1:].strip()
            if not line.strip() or kind == "#":
                continue
            if is_closed or kind not in "><=" or (kind == "=" and rest != "closed"):
                raise ValueError(f"{os.fspath(path)}, line {number}: expected >, < or a last line = closed")
            if kind == "=":
                is_closed = True
                continue
            data = _parsed(rest, f"{os.fspath(path)}, line {number}")
            if kind == ">":
                if _ANY in data:
                    raise ValueError(f"{os.fspath(path)}, line {number}: what is sent cannot be ??")
                if last == ">":
                    sent[-1] += bytes(data)
                else:
                    sent.append(bytes(data))
                    expected.append(())
            elif not sent:
                raise ValueError(f"{os.fspath(path)}, line {number}: nothing was sent yet that is answered")
            else:
                expected[-1] += data
            last = kind
    return GoldenFile(tuple(sent), tuple(expected), is_closed)


def write_golden(path: str | os.PathLike[str], sent: Sequence[bytes], found: Outcome) -> None:
    """Write a golden file of what was sent and what came, below the comments at its top. Raises OSError."""
    comments = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                if not line.startswith("#"):
                    break
                comments.append(line)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(comments)
        for piece, answer in zip(sent, found.answers[1:], strict=True):
            for mark, data in ((">", piece), ("<", answer)):
                for begin in range(0, len(data), _LINE_BYTES):
                    file.write(f"{mark} {_written(data[begin : begin + _LINE_BYTES])}\n")
        if found.is_closed:
            file.write("= closed\n")


def _parsed(text: str, where: str) -> tuple[int, ...]:
    data: list[int] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(
                f"{where}: expected two hexadecimal digits, ?? or a text in quotes at {text[position:]!r}"
            )
        if match[1] is not None:
            try:
                data += ast.literal_eval("b" + match[1])
            except (SyntaxError, ValueError) as error:
                raise ValueError(f"{where}: {match[1]} is no bytes literal of Python: {error}") from None
        else:
            data.append(_ANY if match[2] == "??" else int(match[2], 16))
        position = match.end()
    return tuple(data)


def _fits(expected: Bytes, found: bytes) -> bool:
    return len(expected) == len(found) and all(
        wanted in (byte, _ANY) for wanted, byte in zip(expected, found, strict=True)
    )


def _written(data: Bytes) -> str:
    """Return bytes as a golden file has them: text where it is text."""
    if not data:
        return "(nothing)"
    readable = sum(32 <= byte < 127 or byte in b"\t\n\r" for byte in data if byte != _ANY)
    if readable * 10 >= len(data) * 9 and min(data) != _ANY:
        return '"' + "".join(_ESCAPES.get(byte) or _character(byte) for byte in data) + '"'
    return " ".join("??" if byte == _ANY else f"{byte:02x}" for byte in data)


def _character(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"
