"""STOMP frames by themselves: what is read of bytes, and what is written."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabroker.errors import ProtocolError
from megabroker.protocols.stomp.codec import Frame, FrameLimits, StompReader, encode_frame

LIMITS = FrameLimits(max_body_bytes=1000, max_headers=10, max_header_bytes=300)


def read(*chunks: bytes, version: str | None = "1.2") -> list[Frame]:
    reader = StompReader(LIMITS)
    reader.version = version
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while (frame := reader.next()) is not None:
            found.append(frame)
    assert reader.held_bytes == 0 or reader.mid_frame
    return found


def refused(data: bytes, version: str | None = "1.2") -> str:
    with pytest.raises(ProtocolError) as caught:
        read(data, version=version)
    return str(caught.value)


def test_a_frame_with_headers_and_a_body() -> None:
    (frame,) = read(b"SEND\ndestination:/topic/a\nx:1\nx:2\n\nbody\0")
    assert frame == Frame("SEND", {"destination": "/topic/a", "x": "1"}, b"body")


def test_ends_of_lines_with_a_carriage_return_from_1_2_on() -> None:
    assert read(b"\r\n\nSEND\r\na:b\r\n\r\nx\0")[0].headers == {"a": "b"}
    assert read(b"BEGIN\ntransaction:b\r\n\n\0", version="1.1")[0].headers == {"transaction": "b\r"}


@pytest.mark.parametrize(
    ("version", "header", "value"),
    [
        ("1.2", b"a\\cb\\nc\\\\d\\re", "a:b\nc\\d\re"),
        ("1.1", b"a\\cb\\nc\\\\d", "a:b\nc\\d"),
        ("1.0", b"a\\cb", "a\\cb"),
        ("1.2", b" spaces stay ", " spaces stay "),
        ("1.2", b"a:b", "a:b"),
        ("1.2", b"", ""),
    ],
)
def test_values(version: str, header: bytes, value: str) -> None:
    assert read(b"SEND\nx:" + header + b"\n\n\0", version=version)[0].headers == {"x": value}


def test_connect_escapes_nothing() -> None:
    (frame,) = read(b"CONNECT\npasscode:a\\tb\n\n\0", version=None)
    assert frame.headers == {"passcode": "a\\tb"}


@pytest.mark.parametrize("body", [b"", b"\0", b"a\0b\0", b"\n\0\n"])
def test_content_length_goes_before_nul(body: bytes) -> None:
    (frame,) = read(b"SEND\ncontent-length:%d\n\n" % len(body) + body + b"\0\n")
    assert frame.body == body


@pytest.mark.parametrize(
    ("data", "version", "expected"),
    [
        (b"GET / HTTP/1.1\r\n", None, "there is no command 'GET / HTTP/1.1': expected one of ABORT, ACK"),
        (b"SEND\n", None, "SEND before CONNECT"),
        (b"x" * 33, "1.2", "the command is longer than 32 bytes"),
        (b"SEND\nx\n", "1.2", "expected name:value"),
        (b"SEND\n:x\n", "1.2", "expected name:value"),
        (b"SEND\nx:\xff\n", "1.2", "not UTF-8"),
        (b"SEND\nx:\\t\n", "1.2", r"expected one of \\n, \\c, \\\\, \\r".replace("\\\\", "\\")),
        (b"SEND\nx:\\r\n", "1.1", "in a header"),
        (b"SEND\nx:a\\\n", "1.2", "in a header"),
        (b"SEND\nx:1\0\n", "1.2", "a NUL within the headers"),
        (b"SEND\n" + b"x:1\n" * 11, "1.2", "more headers than max_headers, 10"),
        (b"SEND\nx:" + b"1" * 300, "1.2", "longer than max_header_bytes, 300"),
        (b"CONNECT\n" + b"x:%s\n" % (b"1" * 200) * 2, None, "longer together than max_header_bytes"),
        (b"SEND\n\n" + b"x" * 1001, "1.2", "longer than max_body_bytes, 1000"),
        (b"SEND\ncontent-length:1001\n\n", "1.2", "longer than max_body_bytes, 1000"),
        (b"SEND\ncontent-length:-1\n\n", "1.2", "expected a number of bytes"),
        (b"SEND\ncontent-length:1_0\n\n", "1.2", "expected a number of bytes"),
        (b"SEND\ncontent-length:\x1d8\n\n", "1.2", "expected a number of bytes"),
        (b"SEND\ncontent-length:\xc2\x858\n\n", "1.2", "expected a number of bytes"),
        (b"SEND\ncontent-length:\xc2\xb2\n\n", "1.2", "expected a number of bytes"),
        (b"SEND\ncontent-length:2\n\nabc\0", "1.2", "no NUL after the 2 bytes"),
        (b"BEGIN\ntransaction:a\n\nbody\0", "1.2", "BEGIN has a body"),
        (b"BEGIN\ncontent-length:4\n\nbody\0", "1.2", "BEGIN has a body"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_reason(data: bytes, version: str | None, expected: str) -> None:
    assert expected in refused(data, version)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=5),
            st.binary(max_size=200),
        ),
        max_size=4,
    ),
    st.lists(st.integers(0, 2000), max_size=10),
    st.sampled_from(["1.1", "1.2"]),
)
def test_what_is_written_is_read_however_it_is_cut(
    frames: list[tuple[dict[str, str], bytes]], cuts: list[int], version: str
) -> None:
    clean = str.maketrans({"\0": " ", "\r": " "})
    wanted = [
        ({name.translate(clean): value.translate(clean) for name, value in headers.items()}, body)
        for headers, body in frames
        if not any("\ud800" <= one <= "\udfff" for pair in headers.items() for text in pair for one in text)
    ]
    data = b"".join(encode_frame("SEND", headers.items(), body, version) for headers, body in wanted)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    found = read(*(data[a:b] for a, b in pairwise(places)), version=version)
    for frame, (headers, body) in zip(found, wanted, strict=True):
        assert frame.body == body
        known = dict(frame.headers)
        if "content-length" not in headers:
            known.pop("content-length", None)
        assert known == headers


@given(st.binary(max_size=500))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        read(b"SEND\n" + data)
    except ProtocolError:
        pass


def test_what_1_0_cannot_say_is_a_blank() -> None:
    data = encode_frame("MESSAGE", [("a:b", "x"), ("c", "d\ne")], version="1.0")
    assert data == b"MESSAGE\nc:d e\n\n\0"


def test_a_header_in_single_bytes_is_looked_at_once() -> None:
    reader = StompReader(FrameLimits())
    reader.version = "1.2"
    for byte in b"SEND\nx:" + b"y" * 8000:
        reader.feed(bytes((byte,)))
        assert reader.next() is None
    assert reader.mid_frame
    assert reader.held_bytes <= 8002


def test_what_the_headers_of_a_frame_take_is_held_until_it_is_there() -> None:
    reader = StompReader(FrameLimits())
    reader.version = "1.2"
    reader.feed(b"SEND\n" + b"x:%b\n" % (b"y" * 8000) * 90)
    assert reader.next() is None
    assert reader.held_bytes >= 90 * 8000
    reader.feed(b"\n\0")
    assert reader.next() is not None
    assert reader.held_bytes == 0


@pytest.mark.parametrize(
    ("end", "version"), [(b"\n", None), (b"\n", "1.1"), (b"\r\n", "1.2"), (b"\r\n\n", "1.0")]
)
def test_heart_beats_are_passed_over_all_at_once(
    end: bytes, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    read_line = StompReader._line
    monkeypatch.setattr(StompReader, "_line", lambda reader: lines.append(read_line(reader)) or lines[-1])
    reader = StompReader(FrameLimits())
    reader.version = version
    reader.feed(end * 50_000 + b"CONNECT\n\n\0")  # one by one they would keep the reactor for long
    assert reader.next() is not None
    assert len(lines) <= 3


def test_a_carriage_return_whose_line_feed_comes_later() -> None:
    assert read(b"\n\r", b"\n\r", b"\nSEND\n\n\0")[0].command == "SEND"
    assert "there is no command" in refused(b"\r\nSEND\n\n\0", "1.1")
    assert "there is no command" in refused(b"\n\r\rSEND\n\n\0")
