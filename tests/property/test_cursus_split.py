"""Any split of a cursus stream gives the same commands; random bodies raise only ProtocolError."""

from __future__ import annotations

import itertools
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.codec.framing import FrameReader
from megabroker.errors import ProtocolError
from megabroker.protocols.cursus.codec import (
    COMPRESSIONS,
    Command,
    Publish,
    decode_body,
    decompress_body,
    encode_frame,
)

TEXTS = st.one_of(
    st.sampled_from([b"LIST", b"HELP", b"CREATE t 4", b"PUBLISH t hello", b"CONSUME t 0 0", b"EXIT", b"FOO"]),
    st.binary(max_size=40),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    text = draw(TEXTS)
    topic = draw(st.binary(max_size=12))
    return struct.pack(">H", len(topic)) + topic + text


def commands(chunks: list[bytes]) -> list[Command]:
    reader = FrameReader(1000)
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while (body := reader.next()) is not None:
            found.append(decode_body(body))
        reader.release()
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(bodies(), max_size=8), st.lists(st.integers(0, 500), max_size=12))
def test_any_split_gives_the_same_commands(made: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(body) for body in made)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    whole = commands([stream])
    assert len(whole) == len(made)
    assert commands([stream[a:b] for a, b in itertools.pairwise(edges)]) == whole
    assert commands([stream[at : at + 1] for at in range(len(stream))]) == whole


@settings(max_examples=150, deadline=None)
@given(st.text("abc.-_", min_size=1, max_size=8), st.binary(max_size=60))
def test_published_bytes_are_kept(topic: str, message: bytes) -> None:
    body = b"PUBLISH " + topic.encode() + b" " + message
    if message:
        assert decode_body(body) == Publish(topic, message, False)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(COMPRESSIONS))
def test_random_bodies_raise_only_protocol_error(data: bytes, compression: str) -> None:
    try:
        body = decompress_body(compression, data, 4096)
        assert len(body) <= 4096
        decode_body(body)
    except ProtocolError:
        pass
