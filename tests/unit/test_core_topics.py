"""TopicService: creating, growing, changing and deleting topics, and finding them again after a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from megabroker.core.partitions import PartitionSettings
from megabroker.core.placement import SinglePlacement
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TopicLimits, TopicService
from megabroker.errors import BrokerError, ErrorCode, StorageError
from megabroker.interfaces import IPlacement, ITopicService
from megabroker.model import Acks, Node, TopicPartition
from tests.unit.core_fakes import FakeMetadata, FakeStore, disk_full, header

ME = Node(1)


@implementer(IPlacement)
class EvenPlacement(SinglePlacement):
    """Node 2 leads the odd partitions."""

    def leader(self, topic_partition: TopicPartition) -> Node:
        return Node(1 + topic_partition.partition % 2)


class TopicTestCase(SynchronousTestCase):
    limits = TopicLimits(max_topics=5, max_partitions=100, retention_check_interval_ms=60_000)

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        self.metadata = FakeMetadata()
        self.placement: SinglePlacement = SinglePlacement(ME)
        self.topics = self.restart()

    def restart(self, **more: Any) -> TopicService:
        topics = TopicService(
            store=self.store,
            metadata=self.metadata,
            placement=self.placement,
            configs=TopicConfigs({"retention.ms": "1000", "segment.bytes": "4096"}),
            limits=self.limits,
            partition_settings=PartitionSettings(),
            reactor=self.clock,
            now_ms=lambda: int(self.clock.seconds() * 1000),
            **more,
        )
        topics.load()
        return topics

    def create(self, name: str, partitions: int = 1, configs: Mapping[str, str | None] | None = None) -> None:
        self.successResultOf(self.topics.create(name, partitions, configs))

    def code_of(self, failing: Deferred[Any]) -> ErrorCode:
        error = self.failureResultOf(failing, BrokerError).value
        assert isinstance(error, BrokerError)
        return error.code

    def code_raised(self, function: Callable[..., object], *args: object) -> ErrorCode:
        with self.assertRaises(BrokerError) as caught:
            function(*args)
        return caught.exception.code


class FollowTests(TopicTestCase):
    def test_other_settings_leave_the_accounts_of_all_partitions(self) -> None:
        """A second account would let partitions made since have as much again."""
        self.create("before")
        backlog, room = self.topics.backlog, self.topics.producer_room
        self.topics.follow(self.topics.configs, PartitionSettings(producer_id_expiration_ms=7))
        self.create("since")
        self.assertIs(self.topics.backlog, backlog)
        self.assertIs(self.topics.producer_room, room)
        for name in ("before", "since"):
            settings = self.topics.partition(name, 0).settings
            self.assertEqual(settings.producer_id_expiration_ms, 7)
            self.assertIs(settings.backlog, backlog)
            self.assertIs(settings.producer_room, room)


class CreateTests(TopicTestCase):
    def test_created_topic_serves(self) -> None:
        verifyObject(ITopicService, self.topics)
        topic = self.successResultOf(self.topics.create("orders", 3, {"retention.ms": "5"}))
        self.assertEqual((topic.name, topic.partitions, topic.configs), ("orders", 3, {"retention.ms": "5"}))
        self.assertIs(self.topics.get("orders"), topic)
        self.assertIs(self.topics.get_by_id(topic.id), topic)
        for index in range(3):
            self.assertEqual(
                self.topics.partition("orders", index).append(header(), bytearray(), Acks.NONE, None), 0
            )
        settings = self.store.logs[TopicPartition("orders", 2)].settings
        self.assertEqual((settings.retention_ms, settings.segment_bytes), (5, 4096))

    def test_all_is_by_name(self) -> None:
        for name in ("b", "c", "a"):
            self.create(name)
        self.assertEqual([topic.name for topic in self.topics.all()], ["a", "b", "c"])

    def test_not_visible_before_the_row_is_committed(self) -> None:
        self.metadata.holding = True
        creating = self.topics.create("orders", 1)
        self.assertNoResult(creating)
        self.assertIsNone(self.topics.get("orders"))
        self.assertEqual(self.store.logs, {})
        self.metadata.commit()
        self.successResultOf(creating)
        self.topics.partition("orders", 0)

    def test_names(self) -> None:
        for name in ("", ".", "..", "a b", "a/b", "ä", "a\n", "x" * 250):
            self.assertEqual(self.code_of(self.topics.create(name, 1)), ErrorCode.INVALID_TOPIC)
        for name in ("x" * 249, "...", "A.b_c-9"):
            self.create(name)

    def test_bounds(self) -> None:
        self.assertEqual(self.code_of(self.topics.create("a", 0)), ErrorCode.INVALID_PARTITIONS)
        self.assertEqual(self.code_of(self.topics.create("a", 101)), ErrorCode.TOPIC_LIMIT)
        self.create("a", 97)
        self.assertEqual(self.code_of(self.topics.create("b", 4)), ErrorCode.TOPIC_LIMIT)
        for name in "bcd":
            self.create(name)
        self.assertEqual(self.code_of(self.topics.create_partitions("d", 2)), ErrorCode.TOPIC_LIMIT)
        self.successResultOf(self.topics.delete("a"))
        self.create("e")
        self.create("f")
        self.assertEqual(self.code_of(self.topics.create("g", 1)), ErrorCode.TOPIC_LIMIT)

    def test_topics_on_their_way_count(self) -> None:
        self.metadata.holding = True
        creating = [self.topics.create(name, 20) for name in "abcde"]
        self.assertEqual(self.code_of(self.topics.create("f", 1)), ErrorCode.TOPIC_LIMIT)
        self.metadata.commit()
        for one in creating:
            self.successResultOf(one)

    def test_configs(self) -> None:
        for configs in ({"no.such": "1"}, {"retention.ms": None}, {"retention.ms": "soon"}):
            self.assertEqual(self.code_of(self.topics.create("a", 1, configs)), ErrorCode.INVALID_CONFIG)
        self.create("a", 1, {"cleanup.policy": ""})
        self.assertEqual(self.topics.config("a", "cleanup.policy"), "")

    def test_validate_only(self) -> None:
        self.topics.validate("a", 1, {})
        self.assertIsNone(self.topics.get("a"))
        self.create("a")
        self.assertEqual(self.code_raised(self.topics.validate, "a", 1, {}), ErrorCode.TOPIC_EXISTS)

    def test_exactly_one_of_two_at_once_wins(self) -> None:
        self.metadata.holding = True
        first, second = self.topics.create("orders", 1), self.topics.create("orders", 2)
        self.assertNoResult(second)
        self.metadata.commit()
        topic = self.successResultOf(first)
        self.assertEqual(self.code_of(second), ErrorCode.TOPIC_EXISTS)
        self.assertIs(self.topics.get("orders"), topic)
        self.assertEqual(len(self.metadata.tables["topics"]), 1)

    def test_names_that_differ_in_dots_and_underscores_only(self) -> None:
        self.create("a.b")
        self.assertEqual(self.code_of(self.topics.create("a_b", 1)), ErrorCode.INVALID_TOPIC)
        self.create("a-b")
        self.successResultOf(self.topics.delete("a.b"))
        self.metadata.holding = True
        first, second = self.topics.create("a_b", 1), self.topics.create("a.b", 1)
        self.metadata.commit()
        self.successResultOf(first)
        self.assertEqual(self.code_of(second), ErrorCode.INVALID_TOPIC)

    def test_second_wins_when_the_first_fails(self) -> None:
        self.store.broken.add(TopicPartition("orders", 1))
        self.metadata.holding = True
        first, second = self.topics.create("orders", 2), self.topics.create("orders", 1)
        self.metadata.commit()
        self.metadata.holding = False
        self.metadata.commit()
        self.assertEqual(self.code_of(first), ErrorCode.STORAGE)
        self.assertEqual(self.successResultOf(second).partitions, 1)

    def test_failed_row_leaves_nothing(self) -> None:
        self.metadata.error = disk_full()
        self.assertEqual(self.code_of(self.topics.create("orders", 1)), ErrorCode.DISK_FULL)
        self.metadata.error = None
        self.assertEqual(self.store.logs, {})
        self.create("orders")

    def test_failed_log_takes_the_row_back(self) -> None:
        self.store.broken.add(TopicPartition("orders", 2))
        self.assertEqual(self.code_of(self.topics.create("orders", 3)), ErrorCode.STORAGE)
        self.assertIsNone(self.topics.get("orders"))
        self.assertEqual((self.metadata.tables["topics"], self.store.logs), ({}, {}))
        self.store.broken.clear()
        self.create("orders", 3)


class RunnerTests(TopicTestCase):
    def test_many_logs_are_opened_through_the_runner(self) -> None:
        waiting: list[Callable[[], None]] = []

        def run(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
            result: Deferred[Any] = Deferred()
            waiting.append(lambda: result.callback(function(*args)))
            return result

        self.topics = self.restart(run=run)
        many, few = self.topics.create("many", 17), self.topics.create("few", 1)
        self.assertNoResult(many)
        self.assertNoResult(few)
        waiting.pop(0)()
        self.successResultOf(many)
        waiting.pop(0)()
        self.successResultOf(few)
        self.create("later")


class ChangeTests(TopicTestCase):
    def test_growing(self) -> None:
        self.create("orders", 2)
        kept = self.topics.partition("orders", 1)
        topic = self.successResultOf(self.topics.create_partitions("orders", 4))
        self.assertEqual(topic.partitions, 4)
        self.assertIs(self.topics.partition("orders", 1), kept)
        self.assertIs(kept.topic, topic)
        self.topics.partition("orders", 3)
        for total in (4, 1, 0):
            self.assertEqual(
                self.code_of(self.topics.create_partitions("orders", total)), ErrorCode.INVALID_PARTITIONS
            )
        self.assertEqual(self.code_of(self.topics.create_partitions("nope", 3)), ErrorCode.UNKNOWN_TOPIC)
        self.assertEqual(self.restart().get("orders"), topic)

    def test_failed_growth_is_taken_back(self) -> None:
        self.create("orders", 2)
        self.store.broken.add(TopicPartition("orders", 3))
        self.assertEqual(self.code_of(self.topics.create_partitions("orders", 4)), ErrorCode.STORAGE)
        self.assertEqual(self.metadata.tables["topics"]["orders"]["partitions"], 2)
        self.assertEqual(self.code_raised(self.topics.partition, "orders", 2), ErrorCode.UNKNOWN_PARTITION)
        self.assertEqual(len(self.store.logs), 2)

    def test_configs_are_replaced_and_obeyed(self) -> None:
        self.create("orders", 1, {"retention.ms": "7", "max.message.bytes": "50"})
        partition = self.topics.partition("orders", 0)
        with self.assertRaises(BrokerError):
            partition.append(header(), bytearray(), Acks.NONE, None)
        self.successResultOf(self.topics.set_configs("orders", {"retention.bytes": "9"}))
        partition.append(header(), bytearray(), Acks.NONE, None)
        settings = partition.log.settings
        self.assertEqual((settings.retention_ms, settings.retention_bytes), (1000, 9))
        self.assertEqual(self.topics.config("orders", "max.message.bytes"), "1048588")
        self.assertEqual(
            self.code_of(self.topics.set_configs("orders", {"x": "1"})), ErrorCode.INVALID_CONFIG
        )
        self.assertEqual(self.code_of(self.topics.set_configs("nope", {})), ErrorCode.UNKNOWN_TOPIC)
        self.assertEqual(self.restart().config("orders", "retention.bytes"), "9")

    def test_asking_for_what_is_not_there(self) -> None:
        self.create("orders", 2)
        for index in (-1, 2):
            self.assertEqual(
                self.code_raised(self.topics.partition, "orders", index), ErrorCode.UNKNOWN_PARTITION
            )
        self.assertEqual(self.code_raised(self.topics.partition, "nope", 0), ErrorCode.UNKNOWN_TOPIC)
        self.assertEqual(
            self.code_raised(self.topics.config, "nope", "retention.ms"), ErrorCode.UNKNOWN_TOPIC
        )
        self.assertEqual(self.code_raised(self.topics.config, "orders", "nope"), ErrorCode.INVALID_CONFIG)

    def test_partitions_led_elsewhere(self) -> None:
        self.placement = EvenPlacement(ME)
        self.topics = self.restart()
        self.create("orders", 3)
        self.topics.partition("orders", 2)
        self.assertEqual(self.code_raised(self.topics.partition, "orders", 1), ErrorCode.NOT_LEADER)
        self.successResultOf(self.topics.delete("orders"))
        self.assertEqual([one.partition for one in self.store.deleted], [0, 2])


class DeleteTests(TopicTestCase):
    def test_deletion(self) -> None:
        gone: list[str] = []
        self.topics.on_deleted(gone.append)
        self.create("orders", 2)
        self.successResultOf(self.topics.delete("orders"))
        self.assertEqual((gone, self.store.logs, self.topics.all()), (["orders"], {}, []))
        self.assertEqual(self.metadata.tables, {"topics": {}, "deleted_topics": {}})
        self.assertEqual(self.code_of(self.topics.delete("orders")), ErrorCode.UNKNOWN_TOPIC)

    def test_waiters_hear_of_it(self) -> None:
        heard: list[object] = []
        self.create("orders")
        partition = self.topics.partition("orders", 0)
        partition.append(
            header(), bytearray(), Acks.DURABLE, lambda error: heard.append(error and error.code)
        )
        partition.watch(lambda: heard.append("closed"))
        partition.when_room(lambda: heard.append("room"))
        self.successResultOf(self.topics.delete("orders"))
        self.assertEqual(heard, [ErrorCode.UNKNOWN_TOPIC, "room", "closed"])
        self.assertEqual(
            self.code_raised(partition.append, header(), bytearray(), Acks.NONE, None),
            ErrorCode.UNKNOWN_TOPIC,
        )

    def test_deleted_and_created_anew_in_order(self) -> None:
        self.create("orders")
        former = self.topics.get("orders")
        self.metadata.holding = True
        deleting, creating = self.topics.delete("orders"), self.topics.create("orders", 2)
        while self.metadata._held:
            self.metadata.commit()
        self.successResultOf(deleting)
        topic = self.successResultOf(creating)
        assert former is not None
        self.assertNotEqual(topic.id, former.id)
        self.assertEqual(self.store.kept[TopicPartition("orders", 1)], topic.id)

    def test_data_that_stays_is_not_built_upon_and_goes_at_the_next_start(self) -> None:
        self.create("orders")
        self.store.undeletable.add(TopicPartition("orders", 0))
        self.successResultOf(self.topics.delete("orders"))
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.assertEqual(self.code_of(self.topics.create("orders", 1)), ErrorCode.STORAGE)
        self.store.undeletable.clear()
        self.topics = self.restart()
        self.assertEqual(self.topics.strays, set())
        self.topics.startService()
        self.addCleanup(self.topics.stopService)
        self.assertEqual((self.store.kept, self.metadata.tables["deleted_topics"]), ({}, {}))
        self.create("orders")

    def test_only_the_leader_removes_what_a_crash_has_left(self) -> None:
        self.create("orders", 4)
        logs = [TopicPartition("orders", index) for index in range(4)]
        self.store.undeletable.update(logs)
        self.successResultOf(self.topics.delete("orders"))
        self.flushLoggedErrors(StorageError)
        self.store.undeletable.clear()
        self.placement = EvenPlacement(ME)
        self.topics = self.restart()
        self.topics.startService()
        self.addCleanup(self.topics.stopService)
        self.assertEqual(self.store.deleted, [logs[0], logs[2]])

    def test_failed_row_keeps_the_topic(self) -> None:
        self.create("orders")
        self.metadata.error = disk_full()
        self.assertEqual(self.code_of(self.topics.delete("orders")), ErrorCode.DISK_FULL)
        self.topics.partition("orders", 0).append(header(), bytearray(), Acks.NONE, None)

    def test_a_bad_callback_does_not_stop_it(self) -> None:
        def bad(name: str) -> None:
            raise ZeroDivisionError

        self.topics.on_deleted(bad)
        self.create("orders")
        self.successResultOf(self.topics.delete("orders"))
        self.assertEqual(self.store.kept, {})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RestartTests(TopicTestCase):
    def test_everything_is_found_again(self) -> None:
        self.create("orders", 2, {"retention.ms": "7"})
        self.topics.partition("orders", 1).append(header(3), bytearray(), Acks.NONE, None)
        self.store.logs[TopicPartition("orders", 1)].sync()
        again = self.restart()
        self.assertEqual(again.all(), self.topics.all())
        self.assertEqual(again.partition("orders", 1).high_watermark, 3)
        self.assertEqual(again.strays, set())

    def test_crash_between_row_and_logs_heals(self) -> None:
        self.metadata.tables["topics"] = {
            "orders": {"id": UUID(int=5).hex, "partitions": 2, "configs": {}},
        }
        self.topics = self.restart()
        self.topics.partition("orders", 1)
        self.assertEqual(self.store.kept[TopicPartition("orders", 0)], UUID(int=5))

    def test_one_unreadable_partition_does_not_stop_the_others(self) -> None:
        self.create("orders", 3)
        self.store.broken.add(TopicPartition("orders", 1))
        self.topics = self.restart()
        self.topics.partition("orders", 0)
        self.topics.partition("orders", 2)
        self.assertEqual(self.code_raised(self.topics.partition, "orders", 1), ErrorCode.STORAGE)
        self.successResultOf(self.topics.set_configs("orders", {"retention.ms": "1"}))
        self.successResultOf(self.topics.delete("orders"))
        self.assertEqual(self.store.kept, {})

    def test_unreadable_partitions_are_tried_again(self) -> None:
        self.create("orders", 3)
        partitions = [TopicPartition("orders", index) for index in range(3)]
        self.store.broken.update(partitions[1:])
        self.topics = self.restart()
        self.topics.startService()
        self.addCleanup(self.topics.stopService)
        led = self.topics.led("orders")
        self.assertEqual([one is None for one in led], [False, True, True])
        self.store.broken.remove(partitions[2])
        self.clock.advance(9.9)
        self.assertEqual(self.topics.out_of_order("orders"), 2)
        self.clock.advance(0.1)
        self.topics.partition("orders", 2)
        self.assertEqual([one is None for one in self.topics.led("orders")], [False, True, False])
        self.assertEqual(self.code_raised(self.topics.partition, "orders", 1), ErrorCode.STORAGE)
        self.store.broken.clear()
        self.clock.advance(10)
        self.topics.partition("orders", 1)
        self.assertEqual(self.topics.out_of_order("orders"), 0)
        (retention,) = self.clock.getDelayedCalls()
        self.assertGreater(retention.getTime(), 30, "nothing is left to try")

    def test_strays_are_left_alone_and_not_built_upon(self) -> None:
        stray = TopicPartition("found", 3)
        self.store.kept[stray] = None
        self.topics = self.restart()
        self.topics.startService()
        self.addCleanup(self.topics.stopService)
        self.assertEqual((self.topics.strays, self.store.deleted), ({stray}, []))
        self.create("found", 3)
        self.assertEqual(self.code_of(self.topics.create_partitions("found", 4)), ErrorCode.STORAGE)
        self.assertEqual(self.store.deleted, [])

    def test_damaged_row_stops_the_start(self) -> None:
        for row in (
            {},
            {"id": "x", "partitions": 1, "configs": {}},
            [],
            None,
            {"id": "0" * 32, "partitions": 1},
        ):
            self.metadata.tables["topics"] = {"orders": row}
            self.assertEqual(self.code_raised(self.restart), ErrorCode.STORAGE)


class LifeTests(TopicTestCase):
    limits = TopicLimits(retention_check_interval_ms=60_000)

    def test_retention_in_slices(self) -> None:
        self.create("orders", 70)
        logs = list(self.store.logs.values())
        logs[5].retention_error = disk_full()
        self.topics.startService()
        self.clock.advance(59.9)
        self.assertEqual(sum(len(log.retained) for log in logs), 0)
        seen: list[int] = []
        self.clock.callLater(0.1, lambda: seen.append(sum(len(log.retained) for log in logs)))
        self.clock.advance(0.1)
        self.assertEqual(seen, [31], "the first turn does one slice")
        self.assertEqual(sum(len(log.retained) for log in logs), 69)
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.clock.advance(60)
        self.successResultOf(self.topics.stopService())
        self.flushLoggedErrors(StorageError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_drains(self) -> None:
        heard: list[object] = []
        self.create("orders", 2)
        self.topics.startService()
        for index in range(2):
            self.topics.partition("orders", index).append(
                header(), bytearray(), Acks.DURABLE, lambda error: heard.append(error and error.code)
            )
        self.store.logs[TopicPartition("orders", 1)].flush_error = disk_full()
        self.successResultOf(self.topics.stopService())
        self.assertEqual(heard, [None, ErrorCode.SHUTTING_DOWN])
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        partition = self.topics.partition("orders", 0)
        self.assertEqual(
            self.code_raised(partition.append, header(), bytearray(), Acks.NONE, None),
            ErrorCode.SHUTTING_DOWN,
        )
