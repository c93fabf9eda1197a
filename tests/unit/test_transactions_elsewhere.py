"""Transactions over two processes, a coordinator and a leader, whose requests the test carries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.placement import WorkerPlacement
from megabroker.core.timers import TimerWheel
from megabroker.core.transactions import TransactionService
from megabroker.core.transactions.elsewhere import RemoteTransactions
from megabroker.core.transactions.transaction import TRANSACTIONS_TABLE
from megabroker.errors import BrokerError, ErrorCode, PeerError, RequestError, StateError
from megabroker.interfaces import ITransactionPeers, ITransactionService
from megabroker.model import Node, ProducerIdentity, TopicPartition
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.dispatch import INTERNAL, Context
from megabroker.protocols.kafka.peers import decode_answer, encode_request
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.protocols.kafka.transaction_peers import TransactionPeers
from tests.unit.transactions_harness import FakePartition, FakeTopics, Harness, Outcome, tp

COORDINATOR, LEADER = 1, 2


class Wire:
    """The sockets between the two: every request is carried at once, or held, or lost."""

    def __init__(self) -> None:
        self.brokers: dict[int, Any] = {}
        self.held: list[Carried] = []
        self.holding: set[int] = set()
        self.asked: list[int] = []

    def ask(
        self,
        node_id: int,
        key: int,
        version: int,
        request: Any,
        *,
        timeout_seconds: float = 0,
        repeat: bool = False,
    ) -> Deferred[Any]:
        self.asked.append(key)
        carried = Carried(self, node_id, key, version, request)
        if key in self.holding:
            self.held.append(carried)
        else:
            carried.deliver()
            carried.answer()
        return carried.done


class Process:
    """One life of one of the two; when it has ended nothing more is heard of it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.lives = True

    def ask(self, *args: Any, **more: Any) -> Deferred[Any]:
        return self.wire.ask(*args, **more) if self.lives else Deferred()


class Carried:
    """A request: delivered when told, answered when told, or given up by who asked."""

    def __init__(self, wire: Wire, node_id: int, key: int, version: int, request: Any) -> None:
        self.wire, self.node_id, self.key, self.version = wire, node_id, key, version
        self.frame = b"".join(map(bytes, encode_request(key, version, request)))
        self.done: Deferred[Any] = Deferred()
        self.response: Deferred[Any] | None = None

    def deliver(self) -> None:
        row = INTERNAL[self.key]
        request, end = row.api.request.decode(self.frame, self.version, 10)
        assert end == len(self.frame)
        broker = self.wire.brokers[self.node_id]
        context = Context(broker, KafkaSettings(), self.key, self.version, "", "local", "internal")
        response = row.handler(context, request)
        self.response = response if isinstance(response, Deferred) else ensureDeferred(_now(response))

    def answer(self) -> None:
        assert self.response is not None
        self.response.addCallback(self._through_the_codec).addBoth(self.done.callback)

    def _through_the_codec(self, response: Any) -> Any:
        frame = b"".join(map(bytes, encode_answer(response, self.key, self.version, 0)))
        return decode_answer(self.key, self.version, memoryview(frame)[4:])

    def lose(self) -> None:
        self.done.errback(PeerError(ErrorCode.TIMED_OUT, "no answer", sent=True))


async def _now(response: Any) -> Any:
    return await response if hasattr(response, "__await__") else response


class Part(FakeTopics):
    """The topics as one of the two has them: it leads every other partition."""

    def __init__(self, whole: FakeTopics, leads: Any) -> None:
        super().__init__()
        self.partitions = whole.partitions
        self.names = whole.names
        self._leads = leads

    def partition(self, topic: str, index: int) -> FakePartition:
        partition = super().partition(topic, index)
        if not self._leads(TopicPartition(topic, index)):
            raise StateError(ErrorCode.NOT_LEADER)
        return partition


class TwoProcesses(Harness):
    """``service`` coordinates and leads; ``leader`` only leads; ``here`` is a partition of the latter."""

    def __init__(self, **settings: Any) -> None:
        self.whole = FakeTopics()
        self.wire = Wire()
        self.processes: dict[int, Process] = {}
        self.nodes = (Node(COORDINATOR), Node(LEADER))
        self.placements = {node.id: WorkerPlacement(self.nodes, at) for at, node in enumerate(self.nodes)}
        self.here = next(tp(i) for i in range(4) if self.placements[1].leader(tp(i)).id == LEADER)
        self.there = next(tp(i) for i in range(4) if self.placements[1].leader(tp(i)).id == COORDINATOR)
        super().__init__(**settings)
        self.start_leader()

    def part(self, node_id: int) -> Part:
        placement = self.placements[node_id]
        return Part(self.whole, lambda where: placement.leader(where).id == node_id)

    def peers(self, node_id: int) -> TransactionPeers:
        """Return what a new life of a process asks with; the one before ends."""
        former = self.processes.get(node_id)
        if former is not None:
            former.lives = False
        process = self.processes[node_id] = Process(self.wire)
        return TransactionPeers(self.clock, process, self.placements[node_id])  # type: ignore[arg-type]

    def make_service(self) -> TransactionService:
        topics = self.part(COORDINATOR)
        service = TransactionService(
            self.clock,
            self.store,
            self.settings,
            topics,  # type: ignore[arg-type]
            self.groups.transactional,
            self.ids,
            self.peers(COORDINATOR),
        )
        self.wire.brokers[COORDINATOR] = SimpleNamespace(
            topics=topics, transactions=service, placement=self.placements[COORDINATOR]
        )
        return service

    def start_leader(self) -> None:
        topics = self.part(LEADER)
        self.leader = RemoteTransactions(
            TimerWheel(self.clock),
            self.store,
            topics,  # type: ignore[arg-type]
            self.ids,
            self.peers(LEADER),
        )
        self.wire.brokers[LEADER] = SimpleNamespace(
            topics=topics, transactions=self.leader, placement=self.placements[LEADER]
        )
        self.leader.load()

    @property
    def log(self) -> list[str]:
        return [word for word, *_ in self.whole.partitions[self.here].log]


class ElsewhereCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.h = TwoProcesses()
        self.wire = self.h.wire
        self.identity = self.h.producer()
        self.partition = self.h.whole.partition(*self.h.here)

    def admit(self, identity: ProducerIdentity | None = None, *, implicit: bool = False) -> Any:
        return self.h.leader.admit("x", identity or self.identity, self.h.here, implicit=implicit)

    def write(self, identity: ProducerIdentity | None = None, *, implicit: bool = False) -> None:
        """Have a batch stored, as a connection does: ask, wait, ask again."""
        for _ in range(30):
            if self.admit(identity, implicit=implicit) is None:
                self.partition.append(identity or self.identity)
                return
            self.h.advance(0.1, 0.1)
        self.fail("never admitted")

    def refused(self, code: ErrorCode, **more: Any) -> None:
        room = self.admit(**more)
        self.assertIsNotNone(room)
        self.h.advance(0.1, 0.1)
        self.assertIs(self.assertRaises(BrokerError, self.admit, **more).code, code)

    def end(self, commit: bool = True) -> Outcome:
        outcome = Outcome(self.h.service.end("x", self.identity, commit, bump_epoch=False))
        self.h.advance(0.1, 0.01)
        return outcome

    def state(self) -> str:
        found = self.h.service.describe("x")
        assert found is not None
        return found.state


class AdmissionTests(ElsewhereCase):
    def test_provides_the_interfaces(self) -> None:
        verifyObject(ITransactionService, self.h.leader)
        verifyObject(ITransactionPeers, self.h.peers(1))

    def test_added_partitions_are_admitted_and_asked_for_once(self) -> None:
        self.h.add(self.identity, self.h.here, self.h.there)
        for _ in range(5):
            self.write()
        self.assertEqual((self.h.log, self.wire.asked), (["data"] * 5, [1011]))

    def test_others_are_refused(self) -> None:
        self.h.add(self.identity, self.h.there)
        self.refused(ErrorCode.TRANSACTION_ABORTABLE)

    def test_others_are_added_by_writing(self) -> None:
        self.write(implicit=True)
        self.assertIn([*self.h.here], self.h.store.rows(TRANSACTIONS_TABLE)["x"]["partitions"])
        self.assertEqual(self.state(), "Ongoing")

    def test_who_waits_is_called_back(self) -> None:
        called: list[int] = []
        room = self.admit(implicit=True)
        room.when_room(lambda: called.append(1))
        self.admit(implicit=True).when_room(lambda: called.append(2))
        self.h.advance(0.1)
        self.assertEqual((called, self.wire.asked), ([1, 2], [1011]))

    def test_what_one_turn_asks_is_one_request_and_one_row(self) -> None:
        others = [tp(i) for i in range(4) if self.h.placements[1].leader(tp(i)).id == LEADER]
        for where in others:
            self.h.leader.admit("x", self.identity, where, implicit=True)
        self.h.advance(0.1)
        self.assertEqual((len(others), self.wire.asked), (2, [1011]))

    def test_a_fenced_producer_is_refused(self) -> None:
        old, self.identity = self.identity, self.h.producer()
        self.refused(ErrorCode.PRODUCER_FENCED, identity=old, implicit=True)

    def test_a_refusal_is_told_once_and_forgotten(self) -> None:
        self.h.add(self.identity, self.h.there)
        self.refused(ErrorCode.TRANSACTION_ABORTABLE)
        self.assertIsNotNone(self.admit())
        self.h.advance(6)
        self.assertIsNotNone(self.admit())

    def test_a_coordinator_that_is_away_is_an_error_in_time(self) -> None:
        self.wire.holding.add(1011)
        self.admit(implicit=True)
        self.h.advance(0.1)
        self.wire.held[0].lose()
        self.assertIs(self.assertRaises(PeerError, self.admit, implicit=True).code, ErrorCode.TIMED_OUT)

    def test_the_transaction_before_is_waited_for(self) -> None:
        self.write(implicit=True)
        self.wire.holding.add(1012)
        self.end()
        self.assertEqual(self.state(), "PrepareCommit")
        room = self.admit(implicit=True)
        # The word it had holds until the marker comes; the marker takes it back.
        self.assertIsNone(room)
        self.wire.holding.clear()
        self.wire.held[0].deliver()
        room = self.admit(implicit=True)
        self.h.advance(0.2, 0.01)
        self.assertIsNotNone(self.admit(implicit=True))
        self.wire.held[0].answer()
        self.h.advance(0.3, 0.01)
        self.assertIsNone(self.admit(implicit=True))

    def test_stopping(self) -> None:
        called: list[int] = []
        self.wire.holding.add(1011)
        self.admit(implicit=True).when_room(lambda: called.append(1))
        room = self.admit(implicit=True)
        self.h.leader.stop()
        room.when_room(lambda: called.append(2))
        self.assertEqual(called, [1, 2])
        self.assertIs(self.assertRaises(BrokerError, self.admit).code, ErrorCode.SHUTTING_DOWN)

    def test_what_only_the_coordinator_does(self) -> None:
        leader = self.h.leader
        for outcome in (
            leader.init_producer("x", 1000, None),
            leader.add_partitions("x", self.identity, [tp()]),
            leader.add_offsets("x", self.identity, "g"),
            leader.commit_offsets("x", self.identity, "g", -1, "", None, {}),
            leader.end("x", self.identity, True, bump_epoch=False),
        ):
            self.assertIs(Outcome(outcome).error.code, ErrorCode.NOT_COORDINATOR)
        self.assertRaises(StateError, leader.unexplained, [])
        numbers = [Outcome(leader.init_producer(None, 0, None)).value for _ in range(2)]
        self.assertEqual(len(set(numbers)), 2)


class GuardTests(ElsewhereCase):
    def test_a_word_that_a_marker_has_overtaken_does_not_hold(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.wire.holding.add(1011)
        self.admit()
        self.h.advance(0.1)
        carried = self.wire.held.pop()
        carried.deliver()  # the coordinator has said yes
        self.wire.holding.clear()
        self.end(commit=False)
        self.assertEqual((self.h.log, self.state()), (["abort"], "CompleteAbort"))
        carried.answer()
        self.h.advance(0.1)
        self.assertIs(self.assertRaises(BrokerError, self.admit).code, ErrorCode.TRANSACTION_ABORTABLE)
        self.assertEqual(self.h.log, ["abort"])

    def test_after_the_marker_the_coordinator_is_asked_again(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.write()
        self.end()
        self.refused(ErrorCode.TRANSACTION_ABORTABLE)
        self.assertEqual(self.h.log, ["data", "commit"])

    def test_a_leader_started_anew_asks_although_its_log_has_the_transaction_open(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.write()
        self.wire.holding.add(1012)
        self.end(commit=False)  # the marker is on its way
        self.h.start_leader()
        self.assertEqual(self.state(), "PrepareAbort")
        self.h.advance(0.1)
        self.refused(ErrorCode.CONCURRENT_TRANSACTIONS)
        self.assertEqual(self.h.log, ["data"])

    def test_a_deleted_topic_is_forgotten(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.write()
        self.h.leader.topic_deleted("t")
        self.assertIsNotNone(self.admit())


class MarkerTests(ElsewhereCase):
    def test_markers_go_to_both(self) -> None:
        self.h.add(self.identity, self.h.here, self.h.there)
        self.write()
        self.end()
        self.assertEqual(self.h.log, ["data", "commit"])
        self.assertEqual([word for word, *_ in self.h.whole.partitions[self.h.there].log], ["commit"])
        self.assertEqual(self.state(), "CompleteCommit")

    def test_markers_that_come_while_one_is_written_share_the_next_request(self) -> None:
        producers = {f"p{n}": self.h.producer(f"p{n}") for n in range(20)}
        for name, identity in producers.items():
            self.h.add(identity, self.h.here, name=name)
        self.partition.holding = True
        for name, identity in producers.items():
            self.h.service.end(name, identity, True, bump_epoch=False)
            self.h.advance(0.01)
        self.assertEqual(self.wire.asked.count(1012), 1)
        self.partition.holding = False
        self.partition.release()
        self.h.advance(0.1)
        self.assertEqual((self.wire.asked.count(1012), self.h.log), (2, ["commit"] * 20))

    def test_a_marker_without_an_answer_is_asked_for_until_there_is_one(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.write()
        self.wire.holding.add(1012)
        outcome = self.end()
        self.assertTrue(outcome.value)
        for _ in range(5):
            self.wire.held.pop().lose()
            self.assertEqual(self.state(), "PrepareCommit")
            self.h.advance(2, 0.01)
        self.wire.held[-1].deliver()
        self.wire.held[-1].answer()
        self.assertEqual((self.state(), self.h.log), ("CompleteCommit", ["data", "commit"]))

    def test_a_late_marker_does_not_end_the_next_transaction(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.write()
        self.wire.holding.add(1012)
        self.end()
        late = self.wire.held.pop()
        late.lose()  # its answer; it lies unread in a socket
        self.wire.holding.clear()
        self.h.advance(1, 0.01)
        self.assertEqual((self.state(), self.h.log), ("CompleteCommit", ["data", "commit"]))
        self.h.add(self.identity, self.h.here)
        self.write()
        late.deliver()
        self.assertEqual(self.h.log, ["data", "commit", "data"])
        self.end(commit=False)
        self.assertEqual(self.h.log, ["data", "commit", "data", "abort"])

    def test_a_clock_that_was_set_back_does_no_harm(self) -> None:
        self.h.leader.marker_generation = 2**62
        self.h.add(self.identity, self.h.here)
        self.write()
        self.end()
        self.h.advance(1, 0.01)
        self.assertEqual((self.state(), self.h.log), ("CompleteCommit", ["data", "commit"]))

    def test_a_leader_that_does_not_know_the_topic_yet_is_asked_again(self) -> None:
        self.h.add(self.identity, self.h.here)
        leaders = self.wire.brokers[LEADER].topics
        partition, leaders.partition = leaders.partition, _unknown
        self.end()
        self.assertEqual(self.state(), "PrepareCommit")
        leaders.partition = partition
        self.h.advance(1, 0.01)
        self.assertEqual((self.state(), self.h.log), ("CompleteCommit", ["commit"]))

    def test_a_topic_that_is_gone_needs_none(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.h.whole.names.remove("t")
        self.end()
        self.assertEqual(self.state(), "CompleteCommit")

    def test_the_leaders_own_refusal_is_what_the_coordinator_hears(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.partition.error = StateError(ErrorCode.INVALID_PRODUCER_EPOCH)
        self.end()
        self.assertEqual(self.state(), "CompleteCommit")

    def test_a_coordinator_started_anew_goes_on(self) -> None:
        self.h.add(self.identity, self.h.here)
        self.write()
        self.wire.holding.add(1012)
        self.end()
        self.wire.holding.clear()
        self.h.restart()
        self.h.advance(0.1, 0.01)
        self.assertEqual((self.state(), self.h.log), ("CompleteCommit", ["data", "commit"]))


class UnexplainedTests(ElsewhereCase):
    def test_what_nobody_knows_is_aborted(self) -> None:
        stranger = ProducerIdentity(4711, 3)
        self.partition.append(stranger)
        self.h.add(self.identity, self.h.here)
        self.write()
        self.h.start_leader()
        self.h.advance(0.1)
        self.assertEqual(self.h.log, ["data", "data", "abort"])
        self.assertEqual(self.partition.open_transactions(), [self.identity])
        self.write()
        self.end()
        self.assertEqual(self.h.log, ["data", "data", "abort", "data", "commit"])

    def test_meanwhile_its_producer_begins_no_other_there(self) -> None:
        self.partition.append(self.identity)
        self.wire.holding.add(1013)
        self.h.start_leader()
        self.h.add(self.identity, self.h.here)
        error = self.assertRaises(BrokerError, self.admit)
        self.assertIs(error.code, ErrorCode.CONCURRENT_TRANSACTIONS)
        self.wire.held[0].deliver()
        self.wire.held[0].answer()
        self.write()
        self.assertEqual(self.h.log, ["data", "data"])

    def test_asked_until_the_coordinator_answers(self) -> None:
        self.partition.append(ProducerIdentity(4711, 3))
        self.wire.holding.add(1013)
        self.h.start_leader()
        self.wire.held.pop().lose()
        self.wire.holding.clear()
        self.h.advance(2)
        self.assertEqual(self.h.log, ["data", "abort"])


def _unknown(topic: str, index: int) -> Any:
    raise RequestError(ErrorCode.UNKNOWN_TOPIC)
