"""Small requests with large answers: a chunk full of them must not be answered all at once."""

from __future__ import annotations

from typing import Any

from twisted.internet import task
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.test_net_connection import frame, make_factory

ANSWER = b"repeat" * 1000
COUNT = 100
LIMIT_BYTES = 10_000


class LargeAnswersTests(SynchronousTestCase):
    """A hundred requests of 6 bytes, answers of 6,000, room for 10,000."""

    def setUp(self) -> None:
        self.clock = task.Clock()
        factory = make_factory(self.clock, output_buffer_bytes=LIMIT_BYTES)
        self.connection: Any = factory.buildProtocol(IPv4Address("TCP", "10.0.0.1", 5))
        self.connection.makeConnection(StringTransport())

    @property
    def held_bytes(self) -> int:
        output = self.connection._output
        waiting = [slot.parts for slot in self.connection._slots if slot.parts is not None]
        return int(output.pending_bytes) + sum(
            len(part) for parts in [self.connection._ready, *waiting] for part in parts
        )

    def test_a_peer_that_does_not_read(self) -> None:
        output = self.connection._output
        output.pauseProducing()
        self.connection.dataReceived(frame(b"repeat") * COUNT)
        self.clock.advance(0)
        self.assertLessEqual(self.held_bytes, LIMIT_BYTES + len(ANSWER))
        self.assertEqual(self.connection.transport.producerState, "paused")
        output.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.connection.transport.value(), ANSWER * COUNT)
        self.assertEqual(self.connection.transport.producerState, "producing")
        self.assertEqual(self.held_bytes, 0)

    def test_answers_behind_a_request_that_waits(self) -> None:
        self.connection.dataReceived(frame(b"slow") + frame(b"repeat") * COUNT)
        self.clock.advance(0)
        self.assertLessEqual(self.held_bytes, LIMIT_BYTES + len(ANSWER))
        self.assertEqual(self.connection.transport.producerState, "paused")
        self.assertEqual(self.connection.transport.value(), b"")
        slot, body = self.connection.slow[0]
        slot.fill([body])
        self.clock.advance(0)
        self.assertEqual(self.connection.transport.value(), b"slow" + ANSWER * COUNT)
        self.assertEqual(self.connection.transport.producerState, "producing")
        self.assertEqual((self.held_bytes, self.connection._answer_bytes), (0, 0))

    def test_the_peer_half_closes_meanwhile(self) -> None:
        self.connection.dataReceived(frame(b"slow") + frame(b"repeat") * COUNT)
        self.connection.readConnectionLost()
        slot, body = self.connection.slow[0]
        slot.fill([body])
        self.clock.advance(0)
        self.assertEqual(self.connection.transport.value(), b"slow" + ANSWER * COUNT)
        self.assertTrue(self.connection.transport.disconnecting)
