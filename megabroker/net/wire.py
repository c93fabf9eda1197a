"""What a wire and its connection hand each other: events out of bytes, places to wait, places of answers.

A wire brings a ``Reader``; it may say that there is no ``Room`` for an event, and gets an ``Answer`` for a
request that is answered later. ``megabroker.net.connection`` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from megabroker.model import Buffer
from megabroker.net.output import Part

if TYPE_CHECKING:
    from megabroker.net.connection import BrokerConnection

__all__ = ["Answer", "Reader", "Room"]


class Reader(Protocol):
    """The sans-IO half of a wire: bytes in, events out.

    What it says of itself holds between chunks: when ``next`` has given None, or after ``release``.
    """

    @property
    def owned(self) -> bool:
        """Whether the last event's memory may be kept beyond the chunk and written to."""

    @property
    def has_target(self) -> bool:
        """Whether ``target`` has a place for the next bytes."""

    @property
    def held_bytes(self) -> int:
        """Bytes received and not yet asked for by ``next``."""

    @property
    def announced_bytes(self) -> int:
        """Length of an unfinished frame, or 0."""

    @property
    def mid_frame(self) -> bool:
        """Whether the rest of something begun is awaited."""

    def feed(self, data: Buffer) -> None:
        """Take a chunk, unchanged until ``next`` has given None, or until ``release``."""

    def next(self) -> Any | None:
        """Return the next event, or None when more bytes are needed. Raises ProtocolError."""

    def release(self) -> None:
        """Copy what is left of the chunk."""

    def target(self) -> memoryview | None:
        """Return where the next bytes may be put, or None."""

    def filled(self, count: int) -> None:
        """Say that ``count`` bytes were put into ``target``."""


class Room(Protocol):
    """Something full that says when it is not."""

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when it is worth trying again."""


class Answer:
    """The place of one answer in the order of a connection's answers.

    Attributes:
        size_bytes: bytes of the request, charged to the admission budget until it is answered.
        parts: what to send; None while it is not known.
    """

    __slots__ = ("connection", "parts", "size_bytes")

    def __init__(self, connection: BrokerConnection, size_bytes: int) -> None:
        self.connection = connection
        self.size_bytes = size_bytes
        self.parts: Sequence[Part] | None = None

    def fill(self, parts: Sequence[Part]) -> None:
        """Give the answer; it is sent when all earlier ones are. An empty one sends nothing."""
        if self.parts is None:
            self.parts = parts
            self.connection._filled(self, parts)

    def fill_bytes(self, data: bytes) -> None:
        """Give the answer in one piece, which is what ``fill`` does in several."""
        if self.parts is None:
            self.parts = (data,)
            connection = self.connection
            connection._answer_bytes += len(data)
            if not connection._flushing:
                connection._may_flush(self)
