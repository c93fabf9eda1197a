"""Any split of a MEGA stream gives the same requests; random bytes never raise."""

from __future__ import annotations

import itertools
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.protocols.mega.codec import Dialect, Invalid, Request, RequestParser

I32 = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.sampled_from([0, 1, 1 << 24, 2 << 24, 3 << 24]), st.just(0)
)
TOPICS = st.one_of(
    st.text("abc.-_09", min_size=1, max_size=5).map(str.encode), st.binary(max_size=6), st.just(b"q" * 300)
)
MAX_PAYLOAD = 40


@st.composite
def requests(draw: st.DrawFn, original: bool) -> tuple[bytes, int]:
    correlation_id = draw(I32)
    kind = draw(st.integers(1, 3))
    topic = draw(TOPICS)
    data = struct.pack(">iBi", correlation_id, kind, len(topic)) + topic
    data += struct.pack(">q", draw(st.integers(-(2**63), 2**63 - 1)))
    if kind == 1:
        payload = draw(st.binary(max_size=60))
        data += struct.pack(">i", len(payload)) + payload
    elif kind == 2:
        data += struct.pack(">i", draw(I32))
    if original and kind != 1:
        data += bytes(4)
    return data, correlation_id


def fed(parser: RequestParser, stream: bytes, cuts: list[int]) -> list[Request]:
    events: list[Request] = []
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in itertools.pairwise(edges):
        events += parser.receive(stream[begin:end])
        assert parser.held_bytes <= (1 << 16) + 64
    return events


@settings(max_examples=150, deadline=None)
@given(
    st.booleans().flatmap(lambda o: st.tuples(st.just(o), st.lists(requests(original=o), max_size=6))),
    st.lists(st.integers(0, 900), max_size=12),
)
def test_any_split_gives_the_same_requests(
    case: tuple[bool, list[tuple[bytes, int]]], cuts: list[int]
) -> None:
    original, made = case
    stream = b"".join(data for data, _ in made)
    fixed = Dialect.ORIGINAL if original else Dialect.DOCUMENTED
    expected = RequestParser(max_payload_bytes=MAX_PAYLOAD, dialect=fixed).receive(stream)
    assert [event.correlation_id for event in expected] == [identity for _, identity in made]
    assert fed(RequestParser(max_payload_bytes=MAX_PAYLOAD, dialect=fixed), stream, cuts) == expected
    bytewise = fed(
        RequestParser(max_payload_bytes=MAX_PAYLOAD, dialect=fixed), stream, list(range(len(stream)))
    )
    assert bytewise == expected


@settings(max_examples=200, deadline=None)
@given(
    st.booleans().flatmap(lambda o: st.tuples(st.just(o), st.lists(requests(original=o), max_size=6))),
    st.lists(st.integers(0, 900), max_size=12),
)
def test_auto_finds_legal_dialects(case: tuple[bool, list[tuple[bytes, int]]], cuts: list[int]) -> None:
    original, made = case
    stream = b"".join(data for data, _ in made)
    fixed = Dialect.ORIGINAL if original else Dialect.DOCUMENTED
    expected = RequestParser(max_payload_bytes=MAX_PAYLOAD, dialect=fixed).receive(stream)
    if any(isinstance(event, Invalid) for event in expected):
        return  # an illegal name may carry bytes that make one dialect look like the other
    assert fed(RequestParser(max_payload_bytes=MAX_PAYLOAD), stream, cuts) == expected
    whole = RequestParser(max_payload_bytes=MAX_PAYLOAD).receive(stream)
    assert whole == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8), st.sampled_from(Dialect))
def test_random_bytes_never_raise(stream: bytes, cuts: list[int], dialect: Dialect) -> None:
    once = RequestParser(max_payload_bytes=MAX_PAYLOAD, dialect=dialect).receive(stream)
    parser = RequestParser(max_payload_bytes=MAX_PAYLOAD, dialect=dialect)
    assert fed(parser, stream, cuts) == once
    assert parser.held_bytes <= len(stream)
