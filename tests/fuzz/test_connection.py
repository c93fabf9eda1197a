"""Damaged requests through a whole connection into a whole broker: an answer or an end, and never a fault."""

from __future__ import annotations

import random
import struct

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import request_frames
from tests.unit.test_kafka_produce import ProduceCase

_EACH = 4
_SECONDS = 30


class ConnectionTests(ProduceCase):
    """What is logged as a failure fails the test, as does what is raised."""

    def test_damaged_requests(self) -> None:
        rng = random.Random(7)
        frames = request_frames()
        bodies = [frame[4:] for frame in frames]
        for body in bodies:
            for _ in range(_EACH):
                self.send(self.framed(mutated(body, bodies, rng)))
        self.finish()

    def test_requests_as_they_are(self) -> None:
        answered = [bool(self.send(frame)) for frame in request_frames()]
        # The rest waits for something, or is served on no broker of one node.
        self.assertGreater(sum(answered), 0.9 * len(answered))
        self.finish()

    def test_streams_with_damaged_lengths(self) -> None:
        rng = random.Random(8)
        frames = request_frames()
        for _ in range(300):
            self.send(mutated(b"".join(rng.sample(frames, 3)), frames, rng))
        self.finish()

    def framed(self, body: bytes) -> bytes:
        return struct.pack(">i", len(body)) + body

    def send(self, data: bytes) -> bytes:
        """Send it on a connection of its own, which then goes; return what came back."""
        connection = self.connect()
        try:
            answer = self.exchange(data, connection=connection)
        except Exception as error:
            raise AssertionError(data.hex()) from error
        if connection.connected:
            connection.transport.loseConnection()
        errors = self.flushLoggedErrors()
        self.assertEqual(errors, [], data.hex())
        return answer

    def finish(self) -> None:
        """Let everything that waits end."""
        for _ in range(_SECONDS):
            self.clock.advance(1)
        self.assertEqual(self.flushLoggedErrors(), [])
