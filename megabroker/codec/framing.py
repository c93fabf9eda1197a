"""Length-prefixed frames, sans-IO and without copying what need not be copied.

    i32 length | length bytes | i32 length | ...        big-endian, the length excludes itself

Worst-case cost: every byte is copied at most twice (once into a frame's own buffer, once more when that
buffer grows by doubling), whatever way the stream is cut; a frame that lies whole within one received
chunk is not copied at all. Memory: at most four times what the peer has really sent, plus 64 KiB; an
announced length alone allocates nothing.

Used as: ``feed`` a chunk, ``next`` until it gives None, ``release`` before the chunk is reused. Between
chunks, ``target`` offers the buffer of an unfinished frame so that a transport can receive straight into
it; ``filled`` then says how much came.
"""

from __future__ import annotations

import struct

from megabroker.errors import ProtocolError
from megabroker.model import Buffer

__all__ = ["FrameReader"]

_LENGTH = struct.Struct(">i")
_FIRST_CAPACITY_BYTES = 64 * 1024
_HTTP = " (this is how HTTP begins)"
_OTHERS = {
    b"GET": _HTTP,
    b"POS": _HTTP,
    b"HEA": _HTTP,
    b"PUT": _HTTP,
    b"\x16\x03\x01": " (this is how TLS begins)",
}
"""What somebody means who came to the wrong port, by the first bytes."""


class FrameReader:
    """Cuts a byte stream into frames.

    Args:
        max_bytes: longest frame accepted, its prefix not counted.
        min_bytes: shortest frame accepted.
    """

    __slots__ = (
        "_data",
        "_end",
        "_filled",
        "_frame",
        "_length",
        "_pos",
        "_prefix",
        "max_bytes",
        "min_bytes",
        "owned",
    )

    def __init__(self, max_bytes: int, min_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self.min_bytes = min_bytes
        self._data: memoryview | None = None
        self._pos = 0
        self._end = 0
        self._prefix = b""
        self._frame: bytearray | None = None
        self._length = 0
        self._filled = 0
        self.owned = False

    @property
    def held_bytes(self) -> int:
        """Bytes of a chunk kept because nobody has asked for them yet."""
        return 0 if self._data is None else self._end - self._pos

    @property
    def announced_bytes(self) -> int:
        """Length of the frame that has begun to come and is not complete, or 0."""
        return 0 if self._frame is None else self._length

    def feed(self, data: Buffer) -> None:
        """Take the next chunk; it must stay unchanged until ``release``."""
        if self._data is not None:
            self.release()
            if self._data is not None:
                data = b"".join((self._data[self._pos : self._end], data))
        self._data = memoryview(data)
        self._pos = 0
        self._end = len(data)

    def next(self) -> memoryview | None:
        """Return the next whole frame without its prefix, or None when more bytes are needed.

        The view is valid until ``release``; but with ``owned`` set the frame came in several chunks, has
        a buffer of its own, is writable and stays valid.

        Raises:
            ProtocolError: the announced length is out of bounds; the stream is of no more use.
        """
        if self._frame is not None:
            return self._continue()
        data = self._data
        if data is None:
            return None
        pos = self._pos
        available = self._end - pos
        if self._prefix:
            missing = 4 - len(self._prefix)
            if available < missing:
                return None
            (length,) = _LENGTH.unpack(self._prefix + data[pos : pos + missing])
            self._check(length)
            self._prefix = b""
            pos += missing
        else:
            if available < 4:
                return None
            (length,) = _LENGTH.unpack_from(data, pos)
            if not self.min_bytes <= length <= self.max_bytes:
                self._check(length)
            pos += 4
        end = pos + length
        if end <= self._end:
            self._pos = end
            self.owned = False
            return data[pos:end]
        self._pos = pos
        received = self._end - pos
        self._frame = bytearray(min(length, max(4 * received, _FIRST_CAPACITY_BYTES)))
        self._length = length
        self._filled = 0
        return self._continue()

    def _check(self, length: int) -> None:
        if not self.min_bytes <= length <= self.max_bytes:
            hint = _OTHERS.get(_LENGTH.pack(length)[:3], "")
            raise ProtocolError(
                f"frame of {length} bytes: expected {self.min_bytes} to {self.max_bytes} bytes{hint}"
            )

    def _continue(self) -> memoryview | None:
        frame = self._frame
        assert frame is not None
        if self._data is not None:
            count = min(self._end - self._pos, self._length - self._filled)
            if count:
                self._grow(self._filled + count)
                frame = self._frame
                assert frame is not None
                frame[self._filled : self._filled + count] = self._data[self._pos : self._pos + count]
                self._pos += count
                self._filled += count
        if self._filled < self._length:
            return None
        self._frame = None
        self.owned = True
        return memoryview(frame)

    def _grow(self, needed: int) -> None:
        frame = self._frame
        assert frame is not None
        if len(frame) < needed:
            grown = bytearray(min(self._length, max(needed, 2 * len(frame))))
            grown[: self._filled] = memoryview(frame)[: self._filled]
            self._frame = grown

    def release(self) -> None:
        """Copy what is left of the chunk, which the caller may then reuse."""
        data = self._data
        if data is None:
            return
        left = self._end - self._pos
        if left == 0:
            self._data = None
        elif self._frame is None and left + len(self._prefix) < 4:
            self._prefix += bytes(data[self._pos : self._end])
            self._data = None
        else:
            self._data = memoryview(bytes(data[self._pos : self._end]))
            self._pos = 0
            self._end = left

    @property
    def mid_frame(self) -> bool:
        """Whether part of a frame is held and the rest is awaited."""
        return self._frame is not None or bool(self._prefix)

    def target(self) -> memoryview | None:
        """Return where the transport may put the next bytes of an unfinished frame, or None."""
        frame = self._frame
        if frame is None or self._data is not None:
            return None
        if len(frame) == self._filled:
            self._grow(self._filled + 1)
            frame = self._frame
            assert frame is not None
        return memoryview(frame)[self._filled :]

    def filled(self, count: int) -> None:
        """Say that ``count`` bytes were put into ``target``."""
        self._filled += count
