"""Frames come out the same however the stream is cut, and announced lengths allocate nothing."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabroker.codec.framing import FrameReader
from megabroker.errors import ProtocolError


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def collect(reader: FrameReader, chunks: list[bytes]) -> list[bytes]:
    found = []
    scratch = bytearray(1 << 20)
    for chunk in chunks:
        target = reader.target()
        if target is not None and len(chunk) <= len(target):
            target[: len(chunk)] = chunk
            reader.filled(len(chunk))
        else:
            scratch[: len(chunk)] = chunk
            reader.feed(memoryview(scratch)[: len(chunk)])
        while (body := reader.next()) is not None:
            found.append(bytes(body))
        reader.release()
        scratch[:] = b"\xee" * len(scratch)
    return found


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.integers(65_000, 300_000).map(bytes)), max_size=6),
    st.data(),
)
def test_any_split_gives_the_same_frames(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(body) for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    reader = FrameReader(1 << 20)
    assert collect(reader, chunks) == bodies
    assert not reader.mid_frame
    assert reader.held_bytes == 0


def test_one_byte_at_a_time() -> None:
    bodies = [b"", b"a", bytes(range(256)) * 3]
    stream = b"".join(frame(body) for body in bodies)
    reader = FrameReader(1 << 20)
    assert collect(reader, [stream[i : i + 1] for i in range(len(stream))]) == bodies


@pytest.mark.parametrize("length", [-1, -(2**31), 101, 2**31 - 1, 3])
def test_lengths_out_of_bounds_are_refused(length: int) -> None:
    for split in (0, 2):
        reader = FrameReader(100, min_bytes=4)
        prefix = struct.pack(">i", length)
        reader.feed(prefix[:split])
        assert reader.next() is None
        reader.release()
        reader.feed(prefix[split:] + b"x" * 8)
        with pytest.raises(ProtocolError, match="expected 4 to 100"):
            reader.next()


def test_an_announced_length_allocates_nothing() -> None:
    reader = FrameReader(1 << 30)
    tracemalloc.start()
    try:
        reader.feed(struct.pack(">i", 1 << 30) + b"x" * 1000)
        assert reader.next() is None
        reader.release()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000
    assert reader.mid_frame
    assert reader.announced_bytes == 1 << 30


def test_frames_left_unread_survive_release() -> None:
    reader = FrameReader(100)
    scratch = bytearray(frame(b"one") + frame(b"two") + b"\0\0")
    reader.feed(scratch)
    first = reader.next()
    assert first is not None
    assert bytes(first) == b"one"
    reader.release()
    scratch[:] = bytes(len(scratch))
    second = reader.next()
    assert second is not None
    assert bytes(second) == b"two"
    reader.feed(b"\0\1!")
    third = reader.next()
    assert third is not None
    assert bytes(third) == b"!"


def test_after_a_large_frame_the_bulk_of_the_next_is_received_in_place() -> None:
    body = bytes(range(256)) * 4000
    stream = frame(body) + frame(body) + frame(b"small") + frame(b"last")
    reader = FrameReader(2 << 20)
    reader.feed(stream[:200_000])
    pos, copied, found = 200_000, 0, []
    while True:
        while (event := reader.next()) is not None:
            found.append(bytes(event))
        if pos == len(stream):
            break
        target = reader.target() if reader.has_target else None
        count = len(stream) - pos if target is None else min(len(target), len(stream) - pos)
        if target is None:
            reader.feed(stream[pos : pos + count])
        else:
            copied += count if len(target) < 10_000 else 0
            target[:count] = stream[pos : pos + count]
            reader.filled(count)
        pos += count
    assert found == [body, body, b"small", b"last"]
    assert 0 < copied < 10_000


def test_frames_of_usual_size_have_their_memory_when_they_are_received_and_not_before() -> None:
    reader = FrameReader(1 << 30)
    whole = frame(bytes(5 << 20))
    reader.feed(whole[:100])
    assert reader.next() is None
    reader.feed(whole[100:])
    assert reader.next() is not None
    tracemalloc.start()
    try:
        reader.feed(struct.pack(">i", 5 << 20) + b"x")
        assert reader.next() is None
        reader.feed(b"x" * 10)
        assert reader.next() is None
        assert tracemalloc.get_traced_memory()[1] < 100_000, "there may be thousands that go no further"
        target = reader.target()
        assert target is not None
        assert len(target) == (1 << 20) - 11
        assert tracemalloc.get_traced_memory()[1] < 1_200_000
    finally:
        tracemalloc.stop()
