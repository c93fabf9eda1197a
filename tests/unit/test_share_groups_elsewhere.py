"""Share groups over two processes: a coordinator and a leader, whose requests the test carries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.placement import WorkerPlacement
from megabroker.core.shares.live import SHARE_PARTITIONS_TABLE
from megabroker.core.shares.service import ShareService
from megabroker.core.shares.settings import ShareSettings
from megabroker.errors import ErrorCode, PeerError
from megabroker.interfaces import ISharePeers, IShareService
from megabroker.model import Node, ShareHeartbeat, SharePartitionOffset, TopicPartition
from megabroker.protocols.kafka.share_peers import SharePeers
from tests.unit.core_fakes import FakeMetadata
from tests.unit.groups_harness import Outcome
from tests.unit.test_share_service import TOPIC, FakePartition, FakeTopics
from tests.unit.test_transactions_elsewhere import Wire

NODES = (Node(1), Node(2))


class ElsewhereTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(12)
        self.metadata = FakeMetadata()
        self.wire = Wire()
        placement = WorkerPlacement(NODES, 0)
        leaders = {placement.leader(TopicPartition("t", index)).id: index for index in range(2)}
        self.here, self.there = (TOPIC.id, leaders[1]), (TOPIC.id, leaders[2])
        self.start()

    def start(self) -> None:
        self.coordinator = self.service(0)
        self.leader = self.service(1)

    def service(self, index: int) -> ShareService:
        configs = GroupConfigs(self.metadata)
        configs.load()
        topics = FakeTopics()
        peers = SharePeers(self.wire, WorkerPlacement(NODES, index), topics)  # type: ignore[arg-type]
        service = ShareService(
            self.clock,
            self.metadata,
            ShareSettings(),
            topics,  # type: ignore[arg-type]
            configs,
            lambda group_id: False,
            peers,
            coordinates=index == 0,
        )
        service.load()
        self.wire.brokers[index + 1] = SimpleNamespace(shares=service, topics=topics)
        verifyObject(ISharePeers, peers)
        verifyObject(IShareService, service)
        return service

    def join(self, epoch: int = 0) -> None:
        request = ShareHeartbeat("g", "m", epoch, None, "client", "host", frozenset(["t"]))
        self.done(self.coordinator.heartbeat(request))

    def done(self, deferred: Any) -> Any:
        outcome = Outcome(deferred)
        self.clock.advance(0.1)
        return outcome.value

    def error(self, deferred: Any) -> ErrorCode:
        outcome = Outcome(deferred)
        self.clock.advance(0.1)
        return outcome.error.code

    def consume_at_leader(self) -> None:
        self.join()
        vouched = self.leader.vouched("g")
        if vouched is not None:
            self.done(vouched)
        self.leader.partitions.attend("g", self.there, FakePartition())
        self.clock.advance(0.1)

    def begin(self) -> None:
        offsets = {TopicPartition("t", self.here[1]): 3, TopicPartition("t", self.there[1]): 4}
        self.done(self.coordinator.set_offsets("g", offsets))

    def test_a_leader_asks_once_whether_there_is_a_group(self) -> None:
        self.assertIs(self.error(self.leader.vouched("g")), ErrorCode.GROUP_NOT_FOUND)
        self.assertIs(self.error(self.coordinator.vouched("g")), ErrorCode.GROUP_NOT_FOUND)
        self.join()
        self.assertIsNone(self.done(self.leader.vouched("g")))
        self.assertIsNone(self.leader.vouched("g"))
        self.assertIn("g", self.leader)

    def test_a_group_outlives_its_members_where_another_leader_keeps_something(self) -> None:
        self.consume_at_leader()
        self.join(-1)
        self.assertIn("g", self.coordinator)
        self.assertEqual([group.group_id for group in self.coordinator.all()], ["g"])
        self.assertEqual(self.coordinator.describe("g").state, "Empty")
        self.assertEqual(self.leader.all()[0].group_id, "g")

    def test_each_loads_what_it_leads(self) -> None:
        self.begin()
        self.start()
        self.assertEqual(self.coordinator.partitions.places("g"), [self.here])
        self.assertEqual(self.leader.partitions.places("g"), [self.there])
        self.assertIn("g", self.coordinator)

    def test_only_the_coordinator_cleans_up(self) -> None:
        self.begin()
        for index in (1, 0):
            FakeTopics.__init__, kept = lambda topics: setattr(topics, "there", []), FakeTopics.__init__  # type: ignore[method-assign,misc]
            try:
                self.service(index)
            finally:
                FakeTopics.__init__ = kept  # type: ignore[method-assign]
            self.clock.advance(0.1)
            self.assertEqual(len(self.metadata.rows(SHARE_PARTITIONS_TABLE)), 2 if index else 0)

    def test_offsets_are_altered_told_and_deleted_at_both(self) -> None:
        self.begin()
        offsets = self.done(self.coordinator.offsets("g", [self.here, self.there]))
        self.assertEqual(
            offsets, {self.here: SharePartitionOffset(3, 0, 7), self.there: SharePartitionOffset(4, 0, 6)}
        )
        self.assertEqual(self.done(self.coordinator.offsets("g", None)), offsets)
        self.assertEqual(self.done(self.coordinator.delete_offsets("g", ["t"])), {"t": None})
        self.assertEqual(self.done(self.coordinator.offsets("g", None)), {})
        self.assertEqual(
            self.done(self.coordinator.delete_offsets("g", ["t"])), {"t": ErrorCode.UNKNOWN_TOPIC}
        )

    def test_deleted_everywhere(self) -> None:
        self.consume_at_leader()
        self.join(-1)
        self.done(self.coordinator.delete("g"))
        self.assertNotIn("g", self.coordinator)
        self.assertNotIn("g", self.leader)
        self.assertIs(self.error(self.leader.vouched("g")), ErrorCode.GROUP_NOT_FOUND)
        self.assertEqual(self.metadata.rows(SHARE_PARTITIONS_TABLE), {})

    def test_what_a_leader_that_is_away_has_is_not_forgotten(self) -> None:
        self.begin()
        self.wire.holding.add(1017)
        for ask in (
            lambda: self.coordinator.delete("g"),
            lambda: self.coordinator.delete_offsets("g", ["t"]),
            lambda: self.coordinator.offsets("g", None),
        ):
            outcome = Outcome(ask())
            self.wire.held.pop().lose()
            self.assertIsInstance(outcome.error, PeerError)
        self.wire.holding.clear()
        self.assertIn("g", self.coordinator)
        self.done(self.coordinator.delete("g"))
        self.assertNotIn("g", self.coordinator)

    def test_a_late_deletion_leaves_the_next_group_of_that_name_alone(self) -> None:
        self.begin()
        self.wire.holding.add(1017)
        deleted = Outcome(self.coordinator.delete("g"))
        late = self.wire.held.pop()
        late.lose()
        self.assertIsInstance(deleted.error, PeerError)
        self.wire.holding.clear()
        self.done(self.coordinator.delete("g"))
        self.begin()
        late.deliver()
        self.clock.advance(0.1)
        self.assertEqual(self.leader.partitions.places("g"), [self.there])

    def test_a_clock_that_was_set_back_costs_one_more_try(self) -> None:
        self.leader.number("g", 1 << 62)
        offsets = {TopicPartition("t", self.there[1]): 4}
        self.assertIs(self.error(self.coordinator.set_offsets("g", offsets)), ErrorCode.UNREACHABLE)
        self.assertEqual(self.leader.partitions.places("g"), [])
        self.begin()
        self.assertEqual(self.leader.partitions.places("g"), [self.there])

    def test_a_group_with_members_is_not_deleted(self) -> None:
        self.consume_at_leader()
        self.assertIs(self.error(self.coordinator.delete("g")), ErrorCode.GROUP_NOT_EMPTY)
        self.assertIn("g", self.leader)
