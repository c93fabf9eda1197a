"""MEGA requests as a connection takes them: one at a time."""

from __future__ import annotations

from collections import deque

from megabroker.model import Buffer
from megabroker.protocols.mega.codec import Request, RequestParser

__all__ = ["REQUEST_BYTES", "RequestReader"]

REQUEST_BYTES = 200  # memory of a parsed request beside its payload


class RequestReader:
    """``RequestParser`` as ``BrokerConnection`` wants it: one request at a time."""

    has_target = False
    owned = True

    def __init__(self, parser: RequestParser) -> None:
        self.parser = parser
        self._requests: deque[Request] = deque()
        self._queued_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of memory held between chunks."""
        return self.parser.held_bytes + self._queued_bytes

    @property
    def announced_bytes(self) -> int:
        """Length of the payload that is being received, or 0."""
        return self.parser.announced_bytes

    @property
    def mid_frame(self) -> bool:
        """Whether the rest of a request is awaited."""
        return self.parser.mid_request

    def feed(self, data: Buffer) -> None:
        """Take a chunk."""
        requests = self.parser.receive(data)
        if requests:
            self._requests.extend(requests)
            self._queued_bytes += len(data)

    def next(self) -> Request | None:
        """Return the next request."""
        if self._requests:
            return self._requests.popleft()
        self._queued_bytes = 0
        return None

    def release(self) -> None:
        """Nothing refers to the chunk."""

    def target(self) -> None:
        """Bytes always come through ``feed``."""

    def filled(self, count: int) -> None:
        """Not used."""
