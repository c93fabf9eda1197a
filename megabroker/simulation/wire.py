"""A client's connection to the broker: Kafka's requests out, their answers back.

Owns the matching of answers to requests and what becomes of those without one. Messages are encoded and
decoded by the broker's own tables, bytes are what a real client would send; the batch codec's is the check
of what records come back.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from twisted.internet.defer import Deferred

from megabroker.codec.framing import FrameReader
from megabroker.protocols.kafka.peers import decode_answer, encode_request
from megabroker.simulation.clock import Planned, Timeline
from megabroker.simulation.network import Link, Network, Pace

__all__ = ["PORT", "Connection", "Unanswered", "sleep"]

PORT: Final = 9092

_SIZE = struct.Struct(">i")
_CORRELATION = struct.Struct(">i")
_MAX_ANSWER_BYTES: Final = 64 << 20


class Unanswered(Exception):
    """The request may have been carried out, or not."""


def sleep(timeline: Timeline, seconds: float) -> Deferred[None]:
    """Return what fires in so many seconds."""
    done: Deferred[None] = Deferred()
    timeline.later(seconds, done.callback, None)
    return done


class Connection:
    """One connection, open until it is lost; ``request`` opens it when need be.

    Args:
        pace: of the links.
        timeout_seconds: how long to wait for an answer before the connection is given up.

    Attributes:
        lost_at: when it last was lost.
    """

    def __init__(self, network: Network, pace: Pace, timeout_seconds: float = 8.0) -> None:
        self.pace = pace
        self._network = network
        self._timeline = network.timeline
        self._timeout_seconds = timeout_seconds
        self._link: Link | None = None
        self._reader = FrameReader(_MAX_ANSWER_BYTES, min_bytes=_CORRELATION.size)
        self._number = 0
        self.lost_at = 0.0
        self._asked: dict[int, tuple[int, int, Deferred[Any], Planned]] = {}

    def request(self, key: int, version: int, message: Any, timeout_seconds: float = 0.0) -> Deferred[Any]:
        """Send a request; fires with the answer, fails with Unanswered."""
        done: Deferred[Any] = Deferred()
        if self._link is None:
            self._reader = FrameReader(_MAX_ANSWER_BYTES, min_bytes=_CORRELATION.size)
            self._link = self._network.connect(PORT, self, self.pace)
        if self._link is None:
            self._timeline.later(0.05, done.errback, Unanswered("nobody listens"))
            return done
        self._number += 1
        number = self._number
        parts = [bytes(part) for part in encode_request(key, version, message)]
        head = parts[0][:4] + _CORRELATION.pack(number) + parts[0][8:]
        body = b"".join([head, *parts[1:]])
        timer = self._timeline.later(timeout_seconds or self._timeout_seconds, self.close)
        self._asked[number] = (key, version, done, timer)
        self._link.send(_SIZE.pack(len(body)) + body)
        return done

    def received(self, data: bytes) -> None:
        """Peer: bytes have come."""
        self._reader.feed(data)
        while (frame := self._reader.next()) is not None:
            whole = memoryview(bytes(frame))
            (number,) = _CORRELATION.unpack_from(whole)
            key, version, done, timer = self._asked.pop(number)
            timer.cancel()
            done.callback(decode_answer(key, version, whole))
        self._reader.release()

    def lost(self) -> None:
        """Peer: the connection is gone."""
        self._link = None
        self.lost_at = self._timeline.now
        asked, self._asked = self._asked, {}
        for _, _, done, timer in asked.values():
            timer.cancel()
            done.errback(Unanswered("the connection was lost"))

    def close(self) -> None:
        """Give the connection up."""
        if self._link is not None:
            self._link.end()
