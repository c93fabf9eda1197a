"""Simulated producers of the cursus wire: what has no answer is sent again, and now and then what has one.

Owns cursus's bytes as a publisher sees them. Its messages carry no number, so the broker knows a repeat by
its bytes alone.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Final

from twisted.internet.defer import Deferred

from megabroker.codec.fnv import fnv1a_64
from megabroker.simulation.clients import Client
from megabroker.simulation.history import Acked, Partition, Repeated, Sent
from megabroker.simulation.network import Link
from megabroker.simulation.wire import Unanswered

__all__ = ["CURSUS_PORT", "CursusProducer"]

CURSUS_PORT: Final = 9000

_SIZE = struct.Struct(">I")
_TOPIC = struct.Struct(">H")
_OK: Final = b"OK"
_PATIENCE_SECONDS: Final = 8.0
_ATTEMPTS: Final = 20

Message = tuple[Partition, str, bytes]


class CursusProducer(Client):
    """Publishes a few messages at a time, some of them again."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._link: Link | None = None
        self._buffer = bytearray()
        self._asked: deque[Deferred[bytes]] = deque()

    async def run(self) -> None:
        """Client: publish."""
        stored: list[Message] = []
        while self.stage.open:
            messages = [self._make() for _ in range(self.dice.randrange(1, 4))]
            for partition, name, _ in messages:
                self.stage.note(Sent(self.stage.now, self.name, partition, (name,), -1, False, 0))
            stored += await self._publish(messages)
            if stored and self.dice.random() < 0.5:
                again = self.dice.sample(stored, min(len(stored), self.dice.randrange(1, 4)))
                self._note_repeats(again)
                await self._publish(again)
            await self.sleep(self.dice.choice((0.05, 0.3)))

    def _make(self) -> Message:
        """Return a message, its name, and the partition that its bytes select."""
        topic = self.dice.choice(sorted({topic for topic, _ in self.stage.keyless()}))
        (name,) = self.new_names(1)
        payload = name.encode() + b" " + self.dice.randbytes(self.dice.randrange(300))
        count = sum(one[0] == topic for one in self.stage.partitions)
        return (topic, fnv1a_64(payload) % count), name, payload

    def _note_repeats(self, messages: list[Message]) -> None:
        for partition, name, _ in messages:
            self.stage.note(Repeated(self.stage.now, self.name, partition, (name,)))

    async def _publish(self, messages: list[Message]) -> list[Message]:
        """Publish until all are answered or it is over; return those that were acknowledged."""
        stored: list[Message] = []
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._note_repeats(messages)
            waiting = [(one, self._send(one)) for one in messages]
            messages = []
            for one, done in waiting:
                try:
                    answer = await done
                except Unanswered:
                    answer = b""
                if answer == _OK:
                    stored.append(one)
                    self.stage.note(Acked(self.stage.now, self.name, one[0], (one[1],), -1))
                else:
                    messages.append(one)
            if not messages or not self.stage.open:
                break
            await self.sleep(0.2)
        return stored

    def _send(self, message: Message) -> Deferred[bytes]:
        """Send one; fires with the answer, fails with Unanswered."""
        done: Deferred[bytes] = Deferred()
        timeline = self.stage.timeline
        if self._link is None:
            self._buffer.clear()
            self._link = self.stage.network.connect(CURSUS_PORT, self, self.connection.pace)
        if self._link is None:
            timeline.later(0.05, done.errback, Unanswered("nobody listens"))
            return done
        topic = message[0][0].encode()
        body = _TOPIC.pack(len(topic)) + topic + message[2]
        self._link.send(_SIZE.pack(len(body)) + body)
        self._asked.append(done)
        timeline.later(_PATIENCE_SECONDS, self._give_up, done, self._link)
        return done

    def _give_up(self, done: Deferred[bytes], link: Link) -> None:
        if not done.called:
            link.end()

    def received(self, data: bytes) -> None:
        """Peer: bytes have come."""
        self._buffer += data
        while len(self._buffer) >= _SIZE.size:
            end = _SIZE.size + _SIZE.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            answer = bytes(self._buffer[_SIZE.size : end])
            del self._buffer[:end]
            self._asked.popleft().callback(answer)

    def lost(self) -> None:
        """Peer: the connection is gone."""
        self._link = None
        asked, self._asked = self._asked, deque()
        for done in asked:
            done.errback(Unanswered("the connection was lost"))
