"""Order, flow control, deadlines and clean ends of ``BrokerConnection``, on both kinds of transport."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet import defer, protocol, reactor, task, threads
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from megabroker.codec.framing import FrameReader
from megabroker.core.audit import Audit
from megabroker.core.quotas.service import Quotas
from megabroker.errors import ProtocolError
from megabroker.model import FileRange, HostPort, Listener
from megabroker.net.admission import Admission
from megabroker.net.connection import BrokerConnection
from megabroker.net.factory import BrokerFactory
from megabroker.net.transport import DirectReactor, DirectServer
from megabroker.net.turns import Turns
from megabroker.net.unread import Unread
from megabroker.net.wire import Answer, Room
from megabroker.storage.files import Files, LogFile
from megabroker.storage.metadata.memory import MemoryMetadataStore
from megabroker.storage.warming import Warmer
from tests.unit.slow_files import SlowFiles


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


class Gate:
    """Something full until it is opened."""

    def __init__(self) -> None:
        self.open = False
        self.waiting: list[Callable[[], None]] = []

    def when_room(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def release(self) -> None:
        self.open = True
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


class Echo(BrokerConnection):
    """Answers a frame with itself: at once, later ("slow..."), or when there is room ("gate...")."""

    max_unanswered = 4

    def make_reader(self) -> FrameReader:
        return FrameReader(1 << 20)

    def connectionMade(self) -> None:
        super().connectionMade()
        self.slow: list[tuple[Answer, bytes]] = []
        self.gate = Gate()
        self.lost = False
        self.factory.latest = self  # type: ignore[attr-defined]

    def handle(self, event: memoryview) -> Room | None:
        body = bytes(event)
        if body.startswith(b"slow"):
            self.slow.append((self.reserve(len(body)), body))
        elif body.startswith(b"gate") and not self.gate.open:
            return self.gate
        elif body.startswith(b"fail"):
            raise ProtocolError("asked to fail")
        elif body.startswith(b"boom"):
            raise ZeroDivisionError
        elif body.startswith(b"file"):
            self.answer([b"<", self.factory.range, b">"])  # type: ignore[attr-defined]
        elif body.startswith(b"repeat"):
            self.answer([body * 1000])
        else:
            self.answer([body, b"."])
        return None

    def farewell(self, error: ProtocolError) -> list[bytes]:
        return [b"bye:" + str(error).encode()]

    def connection_closed(self) -> None:
        self.lost = True


def make_factory(clock: Any, **limits: Any) -> BrokerFactory:
    values = {"output_buffer_bytes": 1 << 20, "partial_frame_seconds": 5, "idle_seconds": 60}
    budget = limits.pop("in_flight_bytes", 1 << 20)
    connections = limits.pop("max_connections", 10)
    unread = Unread(limits.pop("unread_answer_bytes", 1 << 20), clock.seconds)
    values.update(limits)
    broker = SimpleNamespace(
        settings=SimpleNamespace(limits=SimpleNamespace(**values)),
        admission=Admission(connections, 5, budget, unread),
        audit=Audit(clock.seconds),
        reactor=clock,
        turns=Turns(clock),
        quotas=Quotas(MemoryMetadataStore(clock), lambda: int(clock.seconds() * 1000)),
    )
    return BrokerFactory(broker, Listener("echo", "main", HostPort("localhost", 1)), Echo)  # type: ignore[arg-type]


class StockTransportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = task.Clock()
        self.factory = make_factory(self.clock)
        self.factory.doStart()
        self.connection = self.connect()

    def connect(self, host: str = "10.0.0.1") -> Any:
        connection: Any = self.factory.buildProtocol(IPv4Address("TCP", host, 5))
        if connection is not None:
            connection.makeConnection(StringTransport())
        return connection

    def sent(self) -> bytes:
        self.clock.advance(0)
        value: bytes = self.connection.transport.value()
        self.connection.transport.clear()
        return value

    def test_answers_at_once_in_one_write(self) -> None:
        writes = []
        transport = self.connection.transport
        transport.write = writes.append
        self.connection.dataReceived(frame(b"a") + frame(b"b"))
        self.assertEqual(b"".join(writes), b"a.b.")

    def test_answers_keep_the_order_of_requests(self) -> None:
        self.connection.dataReceived(frame(b"slow1") + frame(b"b") + frame(b"slow2") + frame(b"c"))
        self.assertEqual(self.sent(), b"")
        (first, _), (second, _) = self.connection.slow
        second.fill([b"2"])
        self.assertEqual(self.sent(), b"")
        first.fill([b"1"])
        self.assertEqual(self.sent(), b"1b.2c.")
        self.assertEqual(self.factory.admission.charged_bytes, 0)

    def test_what_takes_longer_than_a_turn_is_taken_up_in_another(self) -> None:
        turns = self.factory.broker.turns
        others = self.connect()
        many = b"".join(frame(b"%02d" % i) for i in range(20))
        turns.run(lambda: self.connection.dataReceived(many), seconds=0)
        first = self.connection.transport.value()
        self.assertEqual(first, b"".join(b"%02d." % i for i in range(8)))
        self.assertEqual(self.connection.transport.producerState, "paused")
        turns.run(lambda: others.dataReceived(frame(b"little")), seconds=0)
        self.assertEqual(others.transport.value(), b"little.")
        self.assertEqual(self.connection.transport.value(), first)
        while self.connection.transport.producerState == "paused":
            self.clock.advance(0)
        self.assertEqual(self.sent(), b"".join(b"%02d." % i for i in range(20)))

    def test_a_transport_that_knows_no_turns_has_their_time_all_the_same(self) -> None:
        others = [self.connect() for _ in range(3)]
        many = b"".join(frame(b"%02d" % i) for i in range(20))
        late: list[float] = [0.0]

        def now() -> float:
            late[0] += 0.001  # a request takes a millisecond and more
            return late[0]

        def later() -> float:
            return now() + 0.005

        with (
            mock.patch("megabroker.net.turns.monotonic", now),
            mock.patch("megabroker.net.connection.monotonic", later),
        ):
            for connection in (self.connection, *others):
                connection.dataReceived(many)
            # Each has a few requests taken, and all of them together one time.
            first = [len(one.transport.value()) // 3 for one in (self.connection, *others)]
            self.assertEqual(first, [8, 8, 8, 8])
            self.assertEqual(self.connection.transport.producerState, "paused")
            for _ in range(20):
                self.clock.advance(0)
        for one in (self.connection, *others):
            self.assertEqual(one.transport.value(), b"".join(b"%02d." % i for i in range(20)))
        self.assertEqual(self.factory.broker.turns.deadline, float("inf"))

    def test_one_that_ends_before_it_is_taken_up_again(self) -> None:
        many = b"".join(frame(b"%02d" % i) for i in range(20))
        self.factory.broker.turns.run(lambda: self.connection.dataReceived(many), seconds=0)
        self.connection.connectionLost()
        self.clock.advance(0)
        self.assertEqual(self.connection.transport.value(), b"".join(b"%02d." % i for i in range(8)))

    def test_too_many_unanswered_requests_stop_reading(self) -> None:
        self.connection.dataReceived(b"".join(frame(b"slow%d" % i) for i in range(6)))
        self.assertEqual(len(self.connection.slow), 4)
        self.assertEqual(self.connection.transport.producerState, "paused")
        for slot, body in self.connection.slow[:3]:
            slot.fill([body])
        self.assertEqual(self.sent(), b"slow0slow1slow2")
        self.assertEqual(len(self.connection.slow), 6)
        self.assertEqual(self.connection.transport.producerState, "producing")

    def test_a_full_queue_parks_the_request_and_stops_reading(self) -> None:
        self.connection.dataReceived(frame(b"a") + frame(b"gate1") + frame(b"b"))
        self.assertEqual(self.sent(), b"a.")
        self.assertEqual(self.connection.transport.producerState, "paused")
        self.connection.gate.release()
        self.assertEqual(self.sent(), b"gate1.b.")
        self.assertEqual(self.connection.transport.producerState, "producing")

    def test_the_byte_budget_stops_reading_until_answers_give_it_back(self) -> None:
        self.factory.admission.in_flight_bytes = 70_000
        other = self.connect()
        self.connection.dataReceived(frame(b"slow" * 20_000))
        self.clock.advance(0)
        self.assertEqual(self.connection.transport.producerState, "paused")
        other.dataReceived(frame(b"a request of a few bytes is none of the budget's business"))
        self.assertEqual(other.transport.producerState, "producing")
        slot, _ = self.connection.slow[0]
        slot.fill([b"done"])
        self.assertEqual(self.sent(), b"done")
        self.clock.advance(0)
        self.assertEqual(self.connection.transport.producerState, "producing")

    def test_requests_that_were_read_do_not_wait_for_the_budget_they_have_used_up(self) -> None:
        self.factory.admission.in_flight_bytes = 100_000
        turns = self.factory.broker.turns
        peers = [self.connection, self.connect()]
        many = b"".join(frame(b"%02d" % i + bytes(4_000)) for i in range(30))
        for peer in peers:
            turns.run(lambda peer=peer: peer.dataReceived(many), seconds=0)
        self.assertTrue(self.factory.admission.is_overdrawn)
        for _ in range(20):
            self.clock.advance(0)
        self.assertFalse(self.factory.admission.is_overdrawn)
        for peer in peers:
            self.assertEqual(len(peer.transport.value()), 30 * 4_003)
            self.assertEqual(peer.transport.producerState, "producing")

    def test_a_parked_request_goes_on_whatever_the_budget(self) -> None:
        self.factory.admission.in_flight_bytes = 100_000
        peers = [self.connection, self.connect()]
        for peer in peers:
            peer.dataReceived(frame(b"gate" + bytes(80_000)) + frame(b"last"))
        self.clock.advance(0)
        self.assertTrue(self.factory.admission.is_overdrawn)
        for peer in peers:
            peer.gate.release()
            self.clock.advance(0)
            self.assertEqual(peer.transport.value()[-5:], b"last.")
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual([peer.transport.producerState for peer in peers], ["producing"] * 2)

    def test_stopped_for_two_reasons_it_goes_on_when_both_have_passed(self) -> None:
        self.factory.admission.in_flight_bytes = 70_000
        self.connection.dataReceived(b"".join(frame(b"slow" * 5_000) for _ in range(4)) + frame(b"last"))
        self.assertEqual(len(self.connection.slow), 4)
        for slot, _ in self.connection.slow:
            slot.fill([b"."])
        self.assertEqual(self.sent() + self.sent(), b"....last.")
        self.assertEqual(self.connection.transport.producerState, "producing")

    def test_frames_that_do_not_fit_together_are_received_one_after_the_other(self) -> None:
        self.factory.admission.in_flight_bytes = 250_000
        body = b"x" * 200_000
        peers = [self.connection, self.connect(), self.connect()]
        for peer in peers:
            peer.dataReceived(frame(body)[:70_000])
        states = [peer.transport.producerState for peer in peers]
        self.assertEqual(states, ["producing", "paused", "paused"])
        peers[0].dataReceived(frame(body)[70_000:])
        self.clock.advance(0)
        self.assertEqual(peers[0].transport.value(), body + b".")
        self.assertEqual(peers[1].transport.producerState, "producing")
        self.assertEqual(peers[2].transport.producerState, "paused")
        peers[1].connectionLost()
        self.clock.advance(0)
        self.assertEqual(peers[2].transport.producerState, "producing")
        peers[2].dataReceived(frame(body)[70_000:])
        self.assertEqual(peers[2].transport.value(), body + b".")
        admission = self.factory.admission
        self.assertEqual((admission.charged_bytes, admission.reserved_bytes), (0, 0))

    def test_muted_for_the_longest_time_asked_for(self) -> None:
        self.connection.mute(2000)
        self.connection.mute(1000)
        self.connection.dataReceived(frame(b"a"))
        self.assertEqual(self.sent(), b"")
        self.connection.mute(3000)
        self.clock.advance(2.9)
        self.assertEqual(self.connection.transport.producerState, "paused")
        self.clock.advance(0.1)
        self.assertEqual(self.sent(), b"a.")
        self.assertEqual(self.connection.transport.producerState, "producing")

    def test_answers_leave_while_muted(self) -> None:
        self.connection.dataReceived(frame(b"slow"))
        self.connection.mute(5000)
        self.connection.slow[0][0].fill([b"done"])
        self.assertEqual(self.sent(), b"done")
        self.assertEqual(self.connection.transport.producerState, "paused")

    def test_a_frame_begun_may_stay_incomplete_while_muted(self) -> None:
        self.connection.dataReceived(frame(b"half a frame")[:5])
        self.connection.mute(30_000)
        for _ in range(30):
            self.clock.advance(1)
        self.assertFalse(self.connection.transport.disconnecting)
        self.connection.dataReceived(frame(b"half a frame")[5:])
        self.assertEqual(self.sent(), b"half a frame.")

    def test_who_is_muted_for_longer_than_it_may_be_silent_is_closed(self) -> None:
        # Its peer may have gone long ago: that is not seen without reading.
        self.connection.mute(1_000_000)
        for _ in range(62):
            self.clock.advance(1)
        self.assertTrue(self.connection.transport.disconnecting)

    def test_a_muted_connection_holds_no_place_for_its_frame(self) -> None:
        self.factory.admission.in_flight_bytes = 250_000
        body = b"x" * 200_000
        muted, waits, other = self.connection, self.connect(), self.connect()
        muted.dataReceived(frame(body)[:70_000])
        waits.dataReceived(frame(body)[:70_000])
        self.assertEqual(waits.transport.producerState, "paused")
        for peer in (waits, muted):
            # As when an answer that was long in coming exceeds a quota; the frame begun waits meanwhile.
            peer.mute(3000)
            peer.flush()
        other.dataReceived(frame(body)[:70_000])
        self.assertEqual(other.transport.producerState, "producing")
        other.dataReceived(frame(body)[70_000:])
        self.assertEqual(other.transport.value(), body + b".")
        self.clock.advance(3)
        for _ in range(3):
            self.clock.advance(0)
        for peer in (muted, waits) if muted.transport.producerState == "producing" else (waits, muted):
            self.clock.advance(0)
            self.assertEqual(peer.transport.producerState, "producing")
            peer.dataReceived(frame(body)[70_000:])
            self.assertEqual(peer.transport.value(), body + b".")
        admission = self.factory.admission
        self.assertEqual((admission.charged_bytes, admission.reserved_bytes), (0, 0))

    def test_a_muted_connection_ends_with_the_broker(self) -> None:
        self.connection.mute(100_000)
        done = self.factory.drain(10)
        self.assertTrue(self.connection.transport.disconnecting)
        self.connection.connectionLost()
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_frames_that_are_never_finished_all_end_at_their_deadline(self) -> None:
        self.factory.admission.in_flight_bytes = 250_000
        peers = [self.connection, self.connect(), self.connect()]
        for peer in peers:
            peer.dataReceived(frame(b"x" * 200_000)[:70_000])
        for _ in range(6):
            self.clock.advance(1)
        self.assertEqual([peer.transport.disconnected for peer in peers], [True] * 3)
        for peer in peers:
            peer.connectionLost()
        admission = self.factory.admission
        self.assertEqual((admission.charged_bytes, admission.reserved_bytes), (0, 0))

    def test_a_peer_that_does_not_read_keeps_no_reservation_beyond_the_deadline(self) -> None:
        self.factory.output_buffer_bytes = 1000
        self.connection._output.pauseProducing()
        self.connection.dataReceived(frame(b"slow") + frame(b"x" * 200_000)[:70_000])
        self.connection.slow[0][0].fill([b"z" * 5000])
        self.clock.advance(0)
        self.assertTrue(self.connection.output_is_full)
        for _ in range(6):
            self.clock.advance(1)
        self.assertTrue(self.connection.transport.disconnected)

    def test_a_parked_request_counts(self) -> None:
        self.connection.dataReceived(frame(b"gate" * 20_000) + frame(b"y" * 1000))
        self.clock.advance(0)
        self.assertEqual(self.factory.admission.charged_bytes, 80_000 + 1004)
        self.connection.gate.release()
        self.assertEqual(self.factory.admission.charged_bytes, 0)

    def test_finishing_does_not_wait_for_what_is_sent_already(self) -> None:
        self.factory.output_buffer_bytes = 1000
        self.connection.dataReceived(frame(b"slow"))
        self.connection.finish()
        self.connection._output.pauseProducing()
        self.connection.slow[0][0].fill([b"z" * 5000])
        self.clock.advance(0)
        self.assertFalse(self.connection.transport.disconnecting)
        self.connection._output.resumeProducing()
        self.assertTrue(self.connection.transport.disconnecting)
        self.assertEqual(self.connection.transport.value(), b"z" * 5000)

    def unread_answers(self, peer: Any, size_bytes: int) -> None:
        """Have a peer that reads nothing ask for so much."""
        peer._output.pauseProducing()
        peer.dataReceived(frame(b"slow"))
        peer.slow[-1][0].fill([bytes(size_bytes)])
        self.clock.advance(0)

    def test_of_those_who_read_nothing_the_longest_silent_are_closed_until_the_rest_fits(self) -> None:
        unread = self.factory.admission.unread
        unread.limit_bytes = 3_500_000
        peers = [self.connection, self.connect(), self.connect(), self.connect()]
        for peer in peers:
            self.unread_answers(peer, 500_000)
            self.clock.advance(1)
        self.assertGreater(unread.held_bytes, 4 * 500_000)
        self.assertFalse(unread.is_over)
        self.clock.advance(10)
        self.assertEqual([peer.transport.disconnected for peer in peers], [False] * 4)
        # The first two begin to read: nobody who reads is closed before those who do not.
        for peer in peers[:2]:
            peer._output.resumeProducing()
        for peer in peers[:2]:
            self.unread_answers(peer, 900_000)
        self.unread_answers(peers[0], 300_000)
        self.assertEqual([peer.transport.disconnected for peer in peers], [False, False, True, True])
        self.assertEqual(unread.closed, 2)
        for peer in peers:
            peer.connectionLost()
        self.assertEqual(unread.held_bytes, 0)

    def test_above_twice_the_bound_nobody_is_given_time(self) -> None:
        unread = self.factory.admission.unread
        unread.limit_bytes = 1_200_000
        peers = [self.connection, self.connect(), self.connect()]
        self.unread_answers(peers[0], 1_500_000)
        self.unread_answers(peers[1], 100_000)
        self.assertTrue(unread.is_over)
        self.assertEqual([peer.transport.disconnected for peer in peers], [False] * 3)
        self.unread_answers(peers[2], 400_000)
        self.assertEqual([peer.transport.disconnected for peer in peers], [True, False, False])
        self.assertLessEqual(unread.held_bytes, 1_200_000)

    def test_while_all_hold_too_much_little_stops_a_peer_that_does_not_read(self) -> None:
        self.unread_answers(self.connection, 100_000)
        self.assertFalse(self.connection.output_is_full)
        self.factory.admission.unread.limit_bytes = 300_000
        self.unread_answers(self.connection, 1)
        self.assertTrue(self.connection.output_is_full)
        self.connection._output.resumeProducing()
        self.assertFalse(self.connection.output_is_full)
        self.assertEqual(self.factory.admission.unread.held_bytes, 0)

    def test_answers_behind_one_that_is_not_made_yet_count(self) -> None:
        unread = self.factory.admission.unread
        self.connection.dataReceived(frame(b"slow") + frame(b"slow"))
        first, second = [slot for slot, _ in self.connection.slow]
        second.fill([bytes(200_000)])
        self.clock.advance(0)
        self.assertEqual(unread.held_bytes, 200_000)
        first.fill([b"first"])
        self.clock.advance(0)
        self.assertEqual(unread.held_bytes, 0)
        self.assertEqual(len(self.connection.transport.value()), 200_005)

    def test_a_peer_that_does_not_read_is_not_served(self) -> None:
        self.factory.output_buffer_bytes = 1000
        transport = self.connection.transport
        self.connection._output.pauseProducing()
        self.connection.dataReceived(frame(b"repeat") + frame(b"next"))
        self.assertEqual(transport.producerState, "paused")
        self.connection._output.resumeProducing()
        self.assertEqual(transport.producerState, "producing")
        self.assertTrue(self.sent().endswith(b"repeatnext."))

    def test_a_protocol_error_answers_the_earlier_says_farewell_and_closes(self) -> None:
        self.connection.dataReceived(frame(b"slow") + frame(b"fail") + frame(b"never"))
        self.assertFalse(self.connection.transport.disconnecting)
        slot, body = self.connection.slow[0]
        slot.fill([body])
        self.assertEqual(self.sent(), b"slowbye:asked to fail")
        self.assertTrue(self.connection.transport.disconnecting)

    def test_an_internal_error_is_logged_and_ends_only_this_connection(self) -> None:
        other = self.connect()
        self.connection.dataReceived(frame(b"boom"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.connection.transport.disconnecting)
        other.dataReceived(frame(b"x"))
        self.assertEqual(other.transport.value(), b"x.")

    def test_an_oversized_frame_closes(self) -> None:
        self.connection.dataReceived(struct.pack(">i", 1 << 21))
        self.assertTrue(self.connection.transport.disconnecting)

    def test_half_close_still_answers(self) -> None:
        self.connection.dataReceived(frame(b"slow"))
        self.connection.readConnectionLost()
        self.assertFalse(self.connection.transport.disconnecting)
        slot, body = self.connection.slow[0]
        slot.fill([body])
        self.assertEqual(self.sent(), b"slow")
        self.assertTrue(self.connection.transport.disconnecting)

    def test_an_incomplete_frame_has_a_deadline(self) -> None:
        self.connection.dataReceived(b"\0\0")
        for _ in range(5):
            self.clock.advance(1)
            self.connection.dataReceived(b"")
        self.assertFalse(self.connection.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.connection.transport.disconnected)

    def test_an_idle_connection_is_closed_but_one_owed_an_answer_is_not(self) -> None:
        other = self.connect()
        other.dataReceived(frame(b"slow"))
        for _ in range(62):
            self.clock.advance(1)
        self.assertTrue(self.connection.transport.disconnecting)
        self.assertFalse(other.transport.disconnecting)

    def test_connections_are_limited_per_address_and_in_all(self) -> None:
        others = [self.connect("10.0.0.1") for _ in range(5)]
        self.assertIsNone(others[-1])
        more = [self.connect(f"10.0.1.{i}") for i in range(6)]
        self.assertIsNone(more[-1])
        more[0].connectionLost()
        self.assertIsNotNone(self.connect("10.0.2.1"))

    def test_drain_answers_what_was_taken_and_takes_no_more(self) -> None:
        other = self.connect()
        self.connection.dataReceived(frame(b"slow"))
        done = self.factory.drain(10)
        self.assertTrue(other.transport.disconnecting)
        self.assertIsNone(self.connect())
        slot, body = self.connection.slow[0]
        slot.fill([body])
        self.assertEqual(self.sent(), b"slow")
        self.assertTrue(self.connection.transport.disconnecting)
        self.assertNoResult(done)
        other.connectionLost()
        self.connection.connectionLost()
        self.assertTrue(self.connection.lost)
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Collector(protocol.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()
        self.done: defer.Deferred[bytes] = defer.Deferred()
        self.expected = 0

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._check()

    def expect(self, count: int) -> defer.Deferred[bytes]:
        self.expected = count
        self.done = defer.Deferred()
        self._check()
        return self.done

    def _check(self) -> None:
        if self.expected and len(self.data) >= self.expected:
            done, count, self.expected = self.done, self.expected, 0
            value = bytes(self.data[:count])
            del self.data[:count]
            done.callback(value)

    def connectionLost(self, reason: Any = None) -> None:
        if self.expected:
            self.expected = 0
            self.done.errback(reason)


class DirectTransportTests(TestCase):
    @defer.inlineCallbacks
    def setUp(self) -> Any:
        self.factory: Any = make_factory(reactor)
        with tempfile.NamedTemporaryFile(delete=False) as file:
            self.content = os.urandom(3 << 20)
            file.write(self.content)
        self.addCleanup(os.unlink, file.name)
        self.file = LogFile(Files(), file.name, create=False)
        self.factory.range = FileRange(self.file, 1000, 2_500_000)
        endpoint = serverFromString(
            DirectReactor(reactor, self.factory.broker.turns), "tcp:0:interface=127.0.0.1"
        )
        self.port = yield endpoint.listen(self.factory)
        self.addCleanup(self.stop)
        client = clientFromString(reactor, f"tcp:127.0.0.1:{self.port.getHost().port}")
        self.client: Any = yield client.connect(protocol.Factory.forProtocol(Collector))

    @defer.inlineCallbacks
    def stop(self) -> Any:
        yield self.port.stopListening()
        yield self.factory.drain(5)

    @defer.inlineCallbacks
    def test_it_is_our_transport_and_answers(self) -> Any:
        self.client.transport.write(frame(b"hello"))
        answer = yield self.client.expect(6)
        self.assertEqual(answer, b"hello.")
        self.assertIsInstance(self.factory.latest.transport, DirectServer)

    @defer.inlineCallbacks
    def test_large_frames_in_and_out(self) -> Any:
        body = os.urandom(1_000_000)
        self.client.transport.write(frame(body) + frame(b"x"))
        answer = yield self.client.expect(1_000_003)
        self.assertEqual(answer, body + b".x.")

    @defer.inlineCallbacks
    def test_file_ranges_between_bytes_with_a_slow_reader(self) -> Any:
        self.client.transport.pauseProducing()
        self.client.transport.write(frame(b"file") * 3)
        reactor.callLater(0.05, self.client.transport.resumeProducing)
        expected = (b"<" + self.content[1000:2_501_000] + b">") * 3
        answer = yield self.client.expect(len(expected))
        self.assertEqual(answer, expected)
        self.assertEqual(self.factory.latest.transport.pending_bytes, 0)

    @defer.inlineCallbacks
    def test_a_file_cut_short_aborts_the_connection(self) -> Any:
        self.factory.range = FileRange(self.file, 1000, 99_000_000)
        self.client.transport.write(frame(b"file"))
        with self.assertRaises(Exception):  # noqa: B017 - whichever way the abort shows at the client
            yield self.client.expect(99_000_000)
        self.assertTrue(self.factory.latest.closed)

    @defer.inlineCallbacks
    def test_what_is_on_a_slow_disk_holds_up_its_own_connection_alone(self) -> Any:
        files = self.slow_disk()
        self.client.transport.write(frame(b"file") + frame(b"after"))
        self.assertTrue((yield threads.deferToThread(files.reading.wait, 10)))
        client = clientFromString(reactor, f"tcp:127.0.0.1:{self.port.getHost().port}")
        other: Any = yield client.connect(protocol.Factory.forProtocol(Collector))
        for _ in range(3):
            other.transport.write(frame(b"hello"))
            self.assertEqual((yield other.expect(6)), b"hello.")
        self.assertEqual(self.client.data, b"<")
        other.transport.loseConnection()
        files.go.set()
        expected = b"<" + self.content[1000:2_501_000] + b">after."
        self.assertEqual((yield self.client.expect(len(expected))), expected)
        self.assertEqual(files.readings, 3)

    @defer.inlineCallbacks
    def test_a_connection_that_closes_while_the_disk_reads(self) -> Any:
        files = self.slow_disk()
        self.client.transport.write(frame(b"file"))
        self.assertTrue((yield threads.deferToThread(files.reading.wait, 10)))
        connection = self.factory.latest
        self.client.transport.abortConnection()
        while not connection.closed:
            # Nothing is read of a connection with so much to send; it ends when sending fails.
            connection.abort("as the sweep would")
            yield task.deferLater(reactor, 0.01, lambda: None)
        files.go.set()
        yield self.warmer_is_done(files)
        self.assertEqual(connection.transport.pending_bytes, 0)

    @defer.inlineCallbacks
    def test_closing_waits_for_the_disk(self) -> Any:
        files = self.slow_disk()
        self.client.transport.write(frame(b"file") + frame(b"fail"))
        self.assertTrue((yield threads.deferToThread(files.reading.wait, 10)))
        files.go.set()
        expected = b"<" + self.content[1000:2_501_000] + b">bye:asked to fail"
        self.assertEqual((yield self.client.expect(len(expected))), expected)

    def slow_disk(self) -> SlowFiles:
        files = SlowFiles()
        self.warmer = Warmer(files, reactor.callFromThread)  # type: ignore[attr-defined]
        self.addCleanup(self.warmer.stop)
        self.addCleanup(files.go.set)
        file = LogFile(files, self.file.path, create=False, warmer=self.warmer)
        self.factory.range = FileRange(file, 1000, 2_500_000)
        return files

    @defer.inlineCallbacks
    def warmer_is_done(self, files: SlowFiles) -> Any:
        while not files.readings:
            yield task.deferLater(reactor, 0.01, lambda: None)
        yield task.deferLater(reactor, 0, lambda: None)
