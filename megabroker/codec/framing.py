"""Length-prefixed frames, sans-IO and without copying what need not be copied.

    i32 length | length bytes | i32 length | ...        big-endian, the length excludes itself

Worst-case cost: every byte is copied at most twice (once into a frame's own buffer, once more when that
buffer grows by doubling), whatever way the stream is cut; a frame that lies whole within one received
chunk is not copied at all. Memory: at most four times what the peer has really sent, plus 64 KiB; an
announced length alone allocates nothing. Only who asks for the ``target``, having made sure that there is
room for the whole frame, is given what the last frame came to, up to a megabyte, if that is more.

Used as: ``feed`` a chunk, ``next`` until it gives None; or, to leave frames for later, ``release`` before the
chunk is reused. Between chunks, ``target`` offers the buffer of an unfinished frame so that a transport can
receive straight into it; ``filled`` then says how much came.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from megabroker.errors import LimitError, ProtocolError
from megabroker.model import Buffer

__all__ = ["FrameReader", "stranger"]

_LENGTH = struct.Struct(">i")
_unpack_length = _LENGTH.unpack_from
_FIRST_CAPACITY_BYTES = 64 * 1024
_TRUSTED_BYTES = 1 << 20
"""What a peer whose last frame came to so much is given for the next before it has come."""

_LARGE_BYTES = 256 * 1024
_PEEK_BYTES = 4096
_HTTP = " (this is how HTTP begins)"
_OTHERS = {
    b"GET": _HTTP,
    b"POS": _HTTP,
    b"HEA": _HTTP,
    b"PUT": _HTTP,
    b"\x16\x03\x01": " (this is how TLS begins)",
}
"""What somebody means who came to the wrong port, by the first bytes."""


def stranger(begin: bytes) -> str:
    """Say whose first bytes these are, three at least, as an end of a message; empty when nobody knows."""
    return _OTHERS.get(begin[:3], "")


class FrameReader:
    """Cuts a byte stream into frames.

    Args:
        max_bytes: longest frame accepted, its prefix not counted.
        min_bytes: shortest frame accepted.

    Attributes:
        has_target: whether ``target`` has a place for the next bytes.
        owned: whether the last frame came in several chunks: it then has a buffer of its own, is writable and
            stays valid.
        held_bytes: bytes of a chunk kept because nobody has asked for them yet.
        announced_bytes: length of the frame that has begun to come and is not complete, or 0.
        mid_frame: whether part of a frame is held and the rest is awaited.
    """

    __slots__ = (
        "_data",
        "_end",
        "_filled",
        "_frame",
        "_length",
        "_peek",
        "_pos",
        "_prefix",
        "_usual_bytes",
        "announced_bytes",
        "has_target",
        "held_bytes",
        "max_bytes",
        "mid_frame",
        "min_bytes",
        "owned",
    )

    def __init__(self, max_bytes: int, min_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self.min_bytes = min_bytes
        self.has_target = False
        self.owned = False
        self.held_bytes = 0
        self.announced_bytes = 0
        self.mid_frame = False
        self._data: memoryview | None = None
        self._pos = 0
        self._end = 0
        self._prefix = b""
        self._peek: memoryview | None = None
        self._frame: bytearray | None = None
        self._length = 0
        self._filled = 0
        self._usual_bytes = _FIRST_CAPACITY_BYTES

    def feed(self, data: Buffer) -> None:
        """Take the next chunk; it must stay unchanged until ``next`` has given None, or until ``release``."""
        if self._data is not None:
            data = b"".join((self._data[self._pos : self._end], data))
        self._data = memoryview(data)
        self._pos = 0
        self._end = len(data)

    def next(self) -> memoryview | None:
        """Return the next whole frame without its prefix, or None when more bytes are needed.

        The view is valid until the chunk is reused; but with ``owned`` set it stays valid.

        Raises:
            ProtocolError: the announced length is out of bounds; the stream is of no more use.
        """
        if self.mid_frame:
            return self._continue()
        pos = self._pos
        start = pos + 4
        data = self._data
        if data is None or start > self._end:
            if pos < self._end:
                self._drain()
            else:
                self._data = None
                self._pos = self._end = self.held_bytes = 0
            return None
        (length,) = _unpack_length(data, pos)
        if not self.min_bytes <= length <= self.max_bytes:
            self._refuse(length)
        stop = start + length
        if stop > self._end:
            self._begin(length, start)
            return None
        self._pos = stop
        self.owned = False
        return data[start:stop]

    def _refuse(self, length: int) -> NoReturn:
        hint = stranger(_LENGTH.pack(length))
        raise (LimitError if length > self.max_bytes and not hint else ProtocolError)(
            f"frame of {length} bytes: expected {self.min_bytes} to {self.max_bytes} bytes{hint}"
        )

    def _begin(self, length: int, start: int) -> None:
        """Give a frame whose end has not come a buffer of its own."""
        self._pos = start
        received = self._end - start
        self._frame = bytearray(min(length, max(4 * received, _FIRST_CAPACITY_BYTES)))
        self._length = self.announced_bytes = length
        self._filled = 0
        self.has_target = self.mid_frame = True
        self._fill()

    def _continue(self) -> memoryview | None:
        """Return the frame that has begun, if its end has come."""
        if self._frame is None:
            return self._with_prefix()
        if self._data is not None:
            self._fill()
        if self._filled < self._length:
            return None
        frame = self._frame
        self._frame = None
        self._usual_bytes = min(max(_FIRST_CAPACITY_BYTES, self._length), _TRUSTED_BYTES)
        self.has_target = self._length >= _LARGE_BYTES
        self.announced_bytes = 0
        self.mid_frame = False
        self.owned = True
        return memoryview(frame)

    def _with_prefix(self) -> memoryview | None:
        """Go on with a length that came in part."""
        data = self._data
        missing = 4 - len(self._prefix)
        if data is None or self._end - self._pos < missing:
            self._drain()
            return None
        start = self._pos + missing
        (length,) = _LENGTH.unpack(self._prefix + data[self._pos : start])
        if not self.min_bytes <= length <= self.max_bytes:
            self._refuse(length)
        self._prefix = b""
        self.mid_frame = False
        stop = start + length
        if stop > self._end:
            self._begin(length, start)
            return None
        self._pos = stop
        self.owned = False
        return data[start:stop]

    def _drain(self) -> None:
        """Keep the less than four bytes that are left of the chunk."""
        data = self._data
        if data is not None:
            if self._pos < self._end:
                self._prefix += bytes(data[self._pos : self._end])
                self.mid_frame = True
            self._data = None
            self._pos = self._end = self.held_bytes = 0

    def _fill(self) -> None:
        """Copy what the chunk has of the frame."""
        data, frame = self._data, self._frame
        assert data is not None
        assert frame is not None
        filled = self._filled
        count = min(self._end - self._pos, self._length - filled)
        if len(frame) < filled + count:
            frame = self._grow(filled + count)
        frame[filled : filled + count] = data[self._pos : self._pos + count]
        self._pos += count
        self._filled = filled + count
        if self._filled < self._length:
            self._drain()

    def _grow(self, needed: int) -> bytearray:
        frame = self._frame
        assert frame is not None
        grown = bytearray(min(self._length, max(needed, 2 * len(frame))))
        grown[: self._filled] = memoryview(frame)[: self._filled]
        self._frame = grown
        return grown

    def release(self) -> None:
        """Copy what is left of the chunk, which the caller may then reuse."""
        data = self._data
        if data is None:
            return
        left = self._end - self._pos
        self._data = memoryview(bytes(data[self._pos : self._end])) if left else None
        self._pos = 0
        self._end = self.held_bytes = left

    def target(self) -> memoryview | None:
        """Return where the transport may put the next bytes, or None.

        That is in the unfinished frame. After a large one it is a small place for the beginning of the next,
        whose bulk then need not be copied.
        """
        frame = self._frame
        if self._data is not None or not self.has_target:
            return None
        if frame is None:
            self._peek = memoryview(bytearray(_PEEK_BYTES))
            return self._peek
        if len(frame) == self._filled or len(frame) < min(self._length, self._usual_bytes):
            frame = self._grow(max(self._filled + 1, self._usual_bytes))
        return memoryview(frame)[self._filled :]

    def filled(self, count: int) -> None:
        """Say that ``count`` bytes were put into ``target``."""
        if self._frame is not None:
            self._filled += count
        elif self._peek is not None:
            peek, self._peek = self._peek, None
            self.has_target = False
            self.feed(peek[:count])
