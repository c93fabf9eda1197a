"""STOMP frames: bytes to frames and back, without the broker and without sockets.

    COMMAND LF
    name:value LF       as often as there are headers; the first of a name counts
    LF
    body NUL            to the first NUL, or content-length bytes and then a NUL
    LF ...              between frames, as heart-beats

A carriage return before a line feed says nothing, from 1.2 on. Names and values are UTF-8, in which ``\\n``,
``\\c``, ``\\\\`` and, from 1.2 on, ``\\r`` stand for what would end them; those of CONNECT and CONNECTED are
as they are, for the sake of 1.0, which escapes nothing. Source: the STOMP specifications 1.0, 1.1 and 1.2.

Invariant: what is held is at most one frame within its limits and the chunk at hand, and each byte is
looked at a fixed number of times however the stream is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import attrs

from megabroker.errors import LimitError, ProtocolError
from megabroker.model import Buffer

__all__ = ["VERSIONS", "Frame", "FrameLimits", "StompReader", "encode_frame"]

VERSIONS: Final = ("1.0", "1.1", "1.2")
"""What is spoken, the newest last."""

_COMMANDS: Final = frozenset(
    {
        *("CONNECT", "STOMP", "SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK"),
        *("BEGIN", "COMMIT", "ABORT", "DISCONNECT"),
    }
)
_OPENING: Final = frozenset({"CONNECT", "STOMP"})
_UNESCAPED: Final = frozenset({"CONNECT", "CONNECTED"})
_LONGEST_COMMAND_BYTES: Final = 32
_KEY: Final = "protocols.stomp."

_BEATS: Final = {  # by version, all the ends of lines between two frames: a chunk may be full of them
    "1.1": re.compile(rb"\n*"),
    "1.2": re.compile(rb"(?:\n+|(?:\r\n)++)*+"),
}

_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)
_MEANINGS: Final = {
    "1.0": {},
    "1.1": {"n": "\n", "c": ":", "\\": "\\"},
    "1.2": {"n": "\n", "c": ":", "\\": "\\", "r": "\r"},
}
_ESCAPES: Final = {
    "1.0": {0: " ", 10: " ", 13: " "},
    "1.1": {0: " ", 10: "\\n", 58: "\\c", 92: "\\\\"},
    "1.2": {0: " ", 10: "\\n", 13: "\\r", 58: "\\c", 92: "\\\\"},
}


class Frame(NamedTuple):
    """One frame; of headers with one name the first."""

    command: str
    headers: Mapping[str, str]
    body: bytes = b""


@attrs.frozen
class FrameLimits:
    """How much a frame may hold; the names are those of the settings."""

    max_body_bytes: int = 1 << 20
    max_headers: int = 100
    max_header_bytes: int = 8192


class StompReader:
    """Takes chunks as they come and gives frames: a ``megabroker.net.wire.Reader``.

    Attributes:
        version: what has been agreed on; None before, when nothing but CONNECT is taken.
        fed_bytes: how much has come, which is how a peer's heart is heard.
    """

    has_target = False
    owned = True

    def __init__(self, limits: FrameLimits) -> None:
        self.version: str | None = None
        self.fed_bytes = 0
        self._limits = limits
        self._buffer = bytearray()
        self._at = 0  # where the line or the body in hand begins
        self._searched = 0  # up to where there is no end of it
        self._command: str | None = None
        self._headers: dict[str, str] = {}
        self._header_count = 0
        self._header_bytes = 0
        self._in_body = False
        self._body_bytes: int | None = None

    @property
    def held_bytes(self) -> int:
        """What was received and not yet given as a frame, headers included; the broker counts it."""
        return len(self._buffer) - self._at + self._header_bytes

    @property
    def announced_bytes(self) -> int:
        """How long the unfinished body is, where that has been said."""
        return self._body_bytes or 0

    @property
    def mid_frame(self) -> bool:
        """Whether the rest of a frame is awaited."""
        return self._command is not None or self.held_bytes > 0

    def feed(self, data: Buffer) -> None:
        """Take a chunk."""
        self._buffer += data
        self.fed_bytes += len(data)

    def next(self) -> Frame | None:
        """Return the next frame, None if there is no whole one. Raises ProtocolError."""
        while not self._in_body:
            if self._command is None:
                self._pass_over_beats()
            line = self._line()
            if line is None:
                self._compact()
                return None
            if self._command is None:
                self._command = self._begun(line)
            elif line:
                self._add_header(line)
            else:
                self._begin_body()
        body = self._body()
        if body is None:
            self._compact()
            return None
        frame = Frame(self._command or "", self._headers, body)
        self._command, self._headers, self._header_count, self._header_bytes = None, {}, 0, 0
        self._in_body, self._body_bytes = False, None
        return frame

    def release(self) -> None:
        """Nothing refers to the chunk."""

    def target(self) -> None:
        """Bytes always come through ``feed``."""

    def filled(self, count: int) -> None:
        """Not used."""

    def _compact(self) -> None:
        del self._buffer[: self._at]
        self._searched -= self._at
        self._at = 0

    def _advance(self, end: int) -> None:
        self._at = self._searched = end

    # --- lines ---

    def _pass_over_beats(self) -> None:
        """Take the ends of lines before a frame; a carriage return whose line feed is to come stays."""
        beats = _BEATS["1.1" if self.version == "1.1" else "1.2"].match(self._buffer, self._at)
        assert beats is not None  # it may be empty
        if beats.end() > self._at:
            self._advance(beats.end())

    def _line(self) -> bytes | None:
        """Return the next line without its end. Raises ProtocolError: it is too long."""
        is_command = self._command is None
        longest = _LONGEST_COMMAND_BYTES if is_command else self._limits.max_header_bytes
        end = self._buffer.find(b"\n", self._searched)
        if (end if end >= 0 else len(self._buffer)) - self._at > longest:
            if is_command:
                raise ProtocolError(
                    f"the command is longer than {longest} bytes: expected one of {_listed(_COMMANDS)}"
                )
            raise LimitError(
                f"a header is longer than max_header_bytes, {longest}", _KEY + "max_header_bytes"
            )
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[self._at : end])
        self._advance(end + 1)
        return line if self.version == "1.1" else line.removesuffix(b"\r")

    def _begun(self, line: bytes) -> str:
        command = line.decode("utf-8", "replace").removesuffix("\r")
        if command not in _COMMANDS:
            raise ProtocolError(f"there is no command {command!r}: expected one of {_listed(_COMMANDS)}")
        if self.version is None and command not in _OPENING:
            raise ProtocolError(f"{command} before CONNECT: expected CONNECT or STOMP first")
        return command

    def _add_header(self, line: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(line)
        if self.version is None and self._header_bytes > self._limits.max_header_bytes:
            raise LimitError(
                f"the headers of {self._command} are longer together than max_header_bytes, "
                f"{self._limits.max_header_bytes}",
                _KEY + "max_header_bytes",
            )
        if self._header_count > self._limits.max_headers:
            raise LimitError(
                f"a frame has more headers than max_headers, {self._limits.max_headers}", _KEY + "max_headers"
            )
        if 0 in line:
            raise ProtocolError("a NUL within the headers: expected an empty line before the body")
        try:
            name, colon, value = line.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            raise ProtocolError("a header is not UTF-8") from None
        if not colon or not name:
            raise ProtocolError(f"the header {name[:100]!r} has no name or no value: expected name:value")
        if self._command not in _UNESCAPED and self.version is not None and b"\\" in line:
            meanings = _MEANINGS[self.version]
            if meanings:
                name, value = _unescape(name, meanings), _unescape(value, meanings)
        self._headers.setdefault(name, value)

    # --- bodies ---

    def _begin_body(self) -> None:
        self._in_body = True
        text = self._headers.get("content-length")
        if text is None:
            return
        digits = text.strip(" ")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise ProtocolError(f"content-length {text[:100]!r}: expected a number of bytes")
        self._body_bytes = int(digits)
        self._check_length(self._body_bytes)

    def _check_length(self, size_bytes: int) -> None:
        longest = self._limits.max_body_bytes
        if self._command != "SEND":
            if size_bytes:
                raise ProtocolError(f"{self._command} has a body: expected one of SEND only")
        elif size_bytes > longest:
            raise LimitError(f"a body is longer than max_body_bytes, {longest}", _KEY + "max_body_bytes")

    def _body(self) -> bytes | None:
        if self._body_bytes is None:
            end = self._buffer.find(0, self._searched)
            self._check_length((end if end >= 0 else len(self._buffer)) - self._at)
            if end < 0:
                self._searched = len(self._buffer)
                return None
        else:
            end = self._at + self._body_bytes
            if len(self._buffer) <= end:
                self._searched = len(self._buffer)
                return None
            if self._buffer[end]:
                raise ProtocolError(f"no NUL after the {self._body_bytes} bytes that content-length says")
        body = bytes(memoryview(self._buffer)[self._at : end])
        self._advance(end + 1)
        return body


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _unescape(text: str, meanings: Mapping[str, str]) -> str:
    def meaning(found: re.Match[str]) -> str:
        try:
            return meanings[found[1]]
        except KeyError:
            known = ", ".join(f"\\{one}" for one in meanings)
            raise ProtocolError(f"{found[0]!r} in a header: expected one of {known}") from None

    return _ESCAPE.sub(meaning, text)


def encode_frame(
    command: str, headers: Iterable[tuple[str, str]], body: bytes = b"", version: str = "1.2"
) -> bytes:
    """Return a frame as it is sent.

    What a version cannot say in a header is a blank in it: NUL, and of 1.0 ends of lines. Its header with a
    colon in the name is left out. A body goes with its ``content-length``.
    """
    escapes = {0: " ", 10: " ", 13: " "} if command in _UNESCAPED else _ESCAPES[version]
    lines = [command]
    for name, value in headers:
        if version != "1.0" or ":" not in name:
            lines.append(f"{name.translate(escapes)}:{value.translate(escapes)}")
    if body:
        lines.append(f"content-length:{len(body)}")
    return "\n".join((*lines, "\n")).encode("utf-8", "replace") + body + b"\0"
