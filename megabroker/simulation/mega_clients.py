"""Simulated clients of the MEGA wire: they publish and consume messages of a topic's first partition.

Owns MEGA's bytes as a client sees them. What they publish is read over Kafka's wire as well, and the reverse,
so that the rules hold over both.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Final

from twisted.internet.defer import Deferred

from megabroker.simulation.clients import Client
from megabroker.simulation.consumers import name_of
from megabroker.simulation.history import Acked, Batch, Fetched, Partition, Sent
from megabroker.simulation.network import Link
from megabroker.simulation.wire import Unanswered

__all__ = ["MEGA_PORT", "MegaConsumer", "MegaProducer"]

MEGA_PORT: Final = 8080

_PRODUCE: Final = 1
_CONSUME: Final = 2
_HEAD = struct.Struct(">iBi")
_TIME_AND_WORD = struct.Struct(">qi")
_STATUS_END: Final = 5
_ERROR_BYTES: Final = 6
_PRODUCED = struct.Struct(">iBqi")
_CONSUMED = struct.Struct(">iBqii")
_PATIENCE_SECONDS: Final = 8.0


class _MegaClient(Client):
    """A connection, and the answers on it in order."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._link: Link | None = None
        self._buffer = bytearray()
        self._asked: deque[tuple[int, Deferred[Any]]] = deque()
        self._number = 0

    def ask_mega(self, kind: int, partition: Partition, word: int, payload: bytes = b"") -> Deferred[Any]:
        """Send a request; fires with (offset, payload) or with an error code, fails with Unanswered."""
        done: Deferred[Any] = Deferred()
        timeline = self.stage.timeline
        if self._link is None:
            self._buffer.clear()
            self._link = self.stage.network.connect(MEGA_PORT, self, self.connection.pace)
        if self._link is None:
            timeline.later(0.05, done.errback, Unanswered("nobody listens"))
            return done
        self._number += 1
        topic = partition[0].encode()
        head = _HEAD.pack(self._number, kind, len(topic)) + topic
        self._link.send(head + _TIME_AND_WORD.pack(int(self.stage.now * 1000), word) + payload)
        self._asked.append((kind, done))
        timeline.later(_PATIENCE_SECONDS, self._give_up, done, self._link)
        return done

    def _give_up(self, done: Deferred[Any], link: Link) -> None:
        if not done.called:
            link.end()

    def received(self, data: bytes) -> None:
        """Peer: bytes have come."""
        self._buffer += data
        while self._asked and (answer := self._take(self._asked[0][0])) is not None:
            self._asked.popleft()[1].callback(answer)

    def _take(self, kind: int) -> tuple[int, bytes] | int | None:
        """Return the next answer: an offset and a payload, or an error code; None if it is not whole."""
        buffer = self._buffer
        if len(buffer) < _ERROR_BYTES:
            return None
        if not buffer[_STATUS_END - 1]:
            code = buffer[_STATUS_END]
            del buffer[:_ERROR_BYTES]
            return code
        layout = _PRODUCED if kind == _PRODUCE else _CONSUMED
        if len(buffer) < layout.size:
            return None
        fields = layout.unpack_from(buffer)
        end = layout.size + (fields[4] if kind == _CONSUME else 0)
        if len(buffer) < end:
            return None
        payload = bytes(buffer[layout.size : end])
        del buffer[:end]
        return fields[3], payload

    def lost(self) -> None:
        """Peer: the connection is gone."""
        self._link = None
        asked, self._asked = self._asked, deque()
        for _, done in asked:
            done.errback(Unanswered("the connection was lost"))


class MegaProducer(_MegaClient):
    """Publishes a few messages at a time; the broker answers when they are on the disk."""

    async def run(self) -> None:
        """Client: publish."""
        while self.stage.open:
            partition = self.dice.choice([one for one in self.stage.keyless() if one[1] == 0])
            waiting = []
            for _ in range(self.dice.randrange(1, 5)):
                names = self.new_names(1)
                payload = names[0].encode() + b" " + self.dice.randbytes(self.dice.randrange(300))
                self.stage.note(Sent(self.stage.now, self.name, partition, names, -1, False, 0))
                waiting.append((names, self.ask_mega(_PRODUCE, partition, len(payload), payload)))
            for names, done in waiting:
                try:
                    answer = await done
                except Unanswered:
                    continue
                if isinstance(answer, tuple):
                    self.stage.note(Acked(self.stage.now, self.name, partition, names, answer[0]))
            await self.sleep(self.dice.choice((0.05, 0.3)))


class MegaConsumer(_MegaClient):
    """Consumes from the beginning, one message a request."""

    async def run(self) -> None:
        """Client: consume."""
        partition = self.dice.choice([one for one in self.stage.keyless() if one[1] == 0])
        offset = 0
        while self.stage.open:
            sent = self.stage.now
            try:
                answer = await self.ask_mega(_CONSUME, partition, offset)
            except Unanswered:
                answer = 0
            if isinstance(answer, tuple):
                offset, payload = answer
                found = (Batch(offset - 1, offset - 1, ((offset - 1, name_of(None, payload)),), False),)
                self.stage.note(
                    Fetched(self.stage.now, sent, self.name, True, partition, offset - 1, -1, -1, found)
                )
                await self.sleep(0.03)
            else:
                offset = 0 if self.dice.random() < 0.2 else offset
                await self.sleep(0.3)
