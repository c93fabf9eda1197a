"""Messages on their way to the process that decides about their ids: gathered, in order, told once."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.placement import WorkerPlacement
from megabroker.errors import BrokerError, ErrorCode, PeerError, RequestError
from megabroker.interfaces import IPublisher, IPublishers
from megabroker.model import Acks, Node
from megabroker.protocols.kafka.publishers import Publishers
from megabroker.protocols.kafka.schema import publish_messages
from megabroker.protocols.kafka.schema.told_error import told

TOPICS = ("a", "b", "c", "d", "e", "f")
_Outcome = publish_messages.Response.Outcome


class Peers:
    """Holds what is asked until the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[publish_messages.Request, Deferred[Any]]] = []

    def ask(self, node_id: int, key: int, version: int, request: Any, **more: Any) -> Deferred[Any]:
        assert (node_id, key, version) == (2, 1015, 0)
        request.encode(0)
        answer: Deferred[Any] = Deferred()
        self.asked.append((request, answer))
        return answer


class PublisherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.peers = Peers()
        placement = WorkerPlacement((Node(1), Node(2)), 0)
        self.publishers = Publishers(self.clock, placement, self.peers, is_global=False)  # type: ignore[arg-type]
        found = next(found for topic in TOPICS if (found := self.publishers.elsewhere(topic)))
        self.publisher = found
        self.heard: list[tuple[int, ErrorCode | None]] = []

    def publish(self, number: int, data: bytes = b"x", acks: Acks = Acks.DURABLE) -> None:
        def outcome(error: BrokerError | None) -> None:
            self.heard.append((number, None if error is None else error.code))

        self.publisher.publish("t", number, data, acks, outcome)
        self.clock.advance(0)

    def answer(self, *errors: BrokerError | None) -> None:
        request, answer = self.peers.asked[-1]
        outcomes = [_Outcome(error=told(error)) for error in errors or (None,) * len(request.messages)]
        answer.callback(publish_messages.Response(outcomes=outcomes))
        self.clock.advance(0)

    def sent(self) -> list[int]:
        return [len(request.messages) for request, _ in self.peers.asked]

    def test_provides_the_interfaces(self) -> None:
        verifyObject(IPublishers, self.publishers)
        verifyObject(IPublisher, self.publisher)

    def test_exactly_one_process_decides(self) -> None:
        other = WorkerPlacement((Node(1), Node(2)), 1)
        theirs = Publishers(self.clock, other, self.peers, is_global=False)  # type: ignore[arg-type]
        here = [self.publishers.elsewhere(topic) is None for topic in TOPICS]
        self.assertEqual(set(here), {True, False})
        self.assertEqual([theirs.elsewhere(topic) is not None for topic in TOPICS], here)

    def test_ids_of_all_topics_alike(self) -> None:
        placement = WorkerPlacement((Node(1), Node(2)), 0)
        alike = Publishers(self.clock, placement, self.peers, is_global=True)  # type: ignore[arg-type]
        self.assertEqual(len({alike.elsewhere(topic) is None for topic in TOPICS}), 1)

    def test_what_comes_meanwhile_is_the_next_request(self) -> None:
        for number in range(5):
            self.publish(number)
        self.assertEqual(self.sent(), [1])
        self.answer()
        self.assertEqual(self.sent(), [1, 4])
        self.answer(None, RequestError(ErrorCode.INVALID_RECORD), None, None)
        self.assertEqual([number for number, _ in self.heard], [0, 1, 2, 3, 4])
        self.assertEqual([code for _, code in self.heard], [None, None, ErrorCode.INVALID_RECORD, None, None])

    def test_requests_are_bounded(self) -> None:
        for number in range(2500):
            self.publish(number)
        for number in range(2500, 2503):
            self.publish(number, bytes(3 << 20))
        while len(self.heard) < 2503:
            self.answer()
        self.assertEqual(self.sent(), [1, 1000, 1000, 500, 1, 1])
        self.assertEqual([number for number, _ in self.heard], list(range(2503)))

    def test_ids_are_told_whole(self) -> None:
        top = (1 << 64) - 2
        self.publisher.publish("t", top, b"x", Acks.WRITTEN, lambda _: None)
        self.clock.advance(0)
        [request] = [request for request, _ in self.peers.asked]
        self.assertEqual((request.acks, request.messages[0].message_id & (1 << 64) - 1), (1, top))

    def test_no_room_until_there_is(self) -> None:
        called: list[str] = []
        number = 0
        while self.publisher.has_room:
            self.publish(number, bytes(1 << 20))
            number += 1
        self.assertEqual(number, 16)
        for name in ("a", "b"):
            self.publisher.when_room(lambda name=name: called.append(name))  # type: ignore[misc]
        self.assertFalse(self.publisher.has_room)
        self.answer()
        self.assertEqual((called, self.publisher.has_room), (["a", "b"], True))

    def test_a_lost_connection_fails_what_was_sent(self) -> None:
        for number in range(3):
            self.publish(number)
        self.peers.asked[-1][1].errback(PeerError(ErrorCode.UNREACHABLE, "gone", sent=True))
        self.clock.advance(0)
        self.assertEqual(self.heard, [(0, ErrorCode.UNREACHABLE)])
        self.answer()
        self.assertEqual(self.heard[1:], [(1, None), (2, None)])

    def test_who_does_not_answer_in_time_is_waited_for_no_longer(self) -> None:
        for number in range(3):
            self.publish(number)
        self.peers.asked[-1][1].errback(PeerError(ErrorCode.TIMED_OUT, "hangs", sent=True))
        self.clock.advance(0)
        self.assertEqual(self.heard, [(number, ErrorCode.TIMED_OUT) for number in range(3)])
        self.publish(3)
        self.answer()
        self.assertEqual(self.heard[3:], [(3, None)])

    def test_an_answer_that_is_none_is_an_error(self) -> None:
        self.publish(0)
        self.peers.asked[-1][1].callback(publish_messages.Response(outcomes=[]))
        self.clock.advance(0)
        self.assertEqual(self.heard, [(0, ErrorCode.UNREACHABLE)])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
