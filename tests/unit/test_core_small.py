"""Producer ids, placement, and the broker that holds the services."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.broker import Broker
from megabroker.core.placement import SinglePlacement, WorkerPlacement, leader_index
from megabroker.core.producer_ids import ProducerIds
from megabroker.errors import StorageError
from megabroker.interfaces import IBroker, IPlacement
from megabroker.model import HostPort, Listener, Node, TopicPartition
from tests.unit.core_fakes import FakeMetadata, disk_full


class ProducerIdTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metadata = FakeMetadata()
        self.ids = self.restart()

    def restart(self, block_size: int = 3) -> ProducerIds:
        ids = ProducerIds(self.metadata, block_size)
        ids.load()
        return ids

    def take(self) -> int:
        return self.successResultOf(self.ids.allocate())

    def test_one_write_per_block(self) -> None:
        self.assertEqual([self.take() for _ in range(7)], list(range(7)))
        self.assertEqual(self.metadata.writes, 3)

    def test_no_id_that_a_log_knows(self) -> None:
        self.ids.heed(7)
        self.ids.heed(4)
        self.assertEqual([self.take() for _ in range(4)], [8, 9, 10, 11])
        self.assertEqual(self.restart().allocate().result, 14)

    def test_what_is_in_a_block_anyway_is_passed_over(self) -> None:
        self.take()
        self.ids = self.restart()
        self.ids.heed(4)
        self.assertEqual([self.take() for _ in range(3)], [5, 6, 7])

    def test_nothing_before_the_row_is_committed(self) -> None:
        self.metadata.holding = True
        asked = [self.ids.allocate() for _ in range(5)]
        self.assertNoResult(asked[0])
        self.assertEqual(self.metadata.writes, 1)
        self.metadata.commit()
        self.assertNoResult(asked[3])
        self.metadata.commit()
        self.assertEqual([self.successResultOf(one) for one in asked], [0, 1, 2, 3, 4])

    def test_several_processes_share_nothing(self) -> None:
        other = self.restart()
        mine = [self.take() for _ in range(4)]
        theirs = [self.successResultOf(other.allocate()) for _ in range(4)]
        self.assertEqual((mine, theirs), ([0, 1, 2, 3], [6, 7, 8, 9]))
        self.assertEqual([self.take() for _ in range(3)], [4, 5, 12])

    def test_a_restart_repeats_nothing(self) -> None:
        given = {self.take() for _ in range(4)}
        self.ids = self.restart()
        self.assertEqual(given & {self.take() for _ in range(4)}, set())

    def test_failed_write_fails_everybody_and_is_tried_again(self) -> None:
        self.metadata.error = disk_full()
        for _ in range(2):
            self.failureResultOf(self.ids.allocate(), StorageError)
        self.metadata.error = None
        self.assertEqual(self.take(), 0)

    def test_damaged_and_used_up(self) -> None:
        for value in ("7", -1, 1.5, 2**63):
            self.metadata.tables["producer_ids"] = {"next": value}
            with self.assertRaises(StorageError):
                self.restart()
        self.metadata.tables["producer_ids"] = {"next": 2**63 - 2}
        self.ids = self.restart()
        self.failureResultOf(self.ids.allocate(), StorageError)


class PlacementTests(SynchronousTestCase):
    def test_every_answer_is_me(self) -> None:
        placement = SinglePlacement(Node(7))
        verifyObject(IPlacement, placement)
        listener = Listener("kafka", "default", HostPort("localhost", 9092))
        placement.advertise([listener])
        self.assertEqual(placement.me, Node(7, None, (listener,)))
        answers = (
            *placement.nodes(),
            placement.controller(),
            placement.leader(TopicPartition("orders", 3)),
            placement.coordinator("group"),
        )
        self.assertEqual(set(answers), {placement.me})


class WorkerPlacementTests(SynchronousTestCase):
    def test_partitions_of_a_topic_go_round_and_the_first_does_the_rest(self) -> None:
        nodes = [Node(5 + index) for index in range(3)]
        placements = [WorkerPlacement(nodes, index) for index in range(3)]
        self.assertEqual([one.me for one in placements], nodes)
        for placement in placements:
            verifyObject(IPlacement, placement)
            self.assertEqual(list(placement.nodes()), nodes)
            self.assertEqual((placement.controller(), placement.coordinator("g")), (nodes[0], nodes[0]))
        for topic in ("orders", "π", "a.b"):
            leaders = [placements[0].leader(TopicPartition(topic, index)).id for index in range(6)]
            self.assertEqual(leaders[:3], leaders[3:])
            self.assertEqual(sorted(leaders[:3]), [5, 6, 7])
            again = [placements[2].leader(TopicPartition(topic, index)).id for index in range(6)]
            self.assertEqual(leaders, again)

    def test_topics_begin_at_different_workers(self) -> None:
        first = {leader_index(TopicPartition(f"topic-{index}", 0), 4) for index in range(50)}
        self.assertEqual(first, {0, 1, 2, 3})


class BrokerTests(SynchronousTestCase):
    def test_holds_what_protocols_ask_for(self) -> None:
        ids = ProducerIds(FakeMetadata())
        placement = SinglePlacement(Node(1))
        clock = Clock()
        broker = Broker(
            cluster_id="x" * 22,
            topics=None,
            groups=None,
            shares=None,
            transactions=None,
            dedup=None,
            placement=placement,
            configs=None,
            client_metrics=None,
            credentials=None,
            authorizer=None,
            audit=None,
            quotas=None,
            producer_ids=ids,
            settings=None,
            reactor=clock,
            turns=None,
            admission=None,
            now_ms=lambda: 5,
        )
        verifyObject(IBroker, broker)
        self.assertEqual(broker.now_ms(), 5)
        self.assertEqual(self.successResultOf(broker.allocate_producer_id()), 0)
        self.assertIs(broker.placement, placement)
