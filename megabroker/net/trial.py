"""What a peer may ask before it has said who it is, on a wire that has a way to say so."""

from __future__ import annotations

from typing import Any, Final

from megabroker.codec.framing import FrameReader
from megabroker.errors import LimitError, ProtocolError

__all__ = ["Trial"]

_MAX_REQUESTS: Final = 16
"""Twice what any mechanism and any client takes."""


class Trial:
    """Counts the requests of one connection, and their bytes, and keeps its frames short until it ends.

    Args:
        limits: the broker's, as they are now.
        reader: of the connection's frames.
    """

    def __init__(self, limits: Any, reader: FrameReader) -> None:
        self.max_bytes: int = limits.unauthenticated_bytes
        self._reader = reader
        self._longest_bytes = reader.max_bytes
        reader.max_bytes = min(reader.max_bytes, self.max_bytes)
        self._bytes = 0
        self._requests = 0

    def count(self, size_bytes: int) -> None:
        """Count a request. Raises ProtocolError if it is one too many."""
        self._bytes += size_bytes
        self._requests += 1
        if self._bytes > self.max_bytes:
            what = f"{self._bytes} bytes before the client authenticated"
            raise LimitError(what, "limits.unauthenticated_bytes")
        if self._requests > _MAX_REQUESTS:
            raise ProtocolError(f"more than {_MAX_REQUESTS} requests before the client authenticated")

    def end(self) -> None:
        """The peer has said who it is: its frames may be as long as its wire has them."""
        self._reader.max_bytes = self._longest_bytes
