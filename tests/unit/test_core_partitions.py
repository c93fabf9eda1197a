"""PartitionService: the bounded queue, acknowledgements, the high watermark and what undoes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.core.backlog import Backlog
from megabroker.core.partitions import PartitionService, PartitionSettings
from megabroker.core.topic_configs import TopicPolicy
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import ILogListener, IPartition
from megabroker.model import Acks, BatchHeader, Durability, TimestampType, Topic, TopicPartition
from tests.unit.core_fakes import FakeLog, FakeStore, disk_full, header

TOPIC = Topic("orders", UUID(int=7), 1)
NOW_MS = 1_700_000_000_000


def gone() -> BrokerError:
    return RequestError(ErrorCode.UNKNOWN_TOPIC, "gone")


class PartitionTestCase(SynchronousTestCase):
    settings = PartitionSettings(partition_channel_buffer_size=10, partition_channel_buffer_bytes=1000)
    policy = TopicPolicy()

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[object] = []
        self.store = FakeStore()
        self.partition, self.log = self.open()

    def open(self) -> tuple[PartitionService, FakeLog]:
        partition = PartitionService(TOPIC, 0, self.policy, self.settings, self.clock, lambda: NOW_MS)
        partition.open(self.store)
        return partition, self.store.logs[TopicPartition("orders", 0)]

    def done(self, name: object) -> Callable[[BrokerError | None], None]:
        def note(error: BrokerError | None) -> None:
            self.events.append(name if error is None else (name, error.code))

        return note

    def append(self, batch: BatchHeader, acks: Acks = Acks.WRITTEN, name: object = None) -> int:
        return self.partition.append(batch, bytearray(), acks, None if name is None else self.done(name))

    def refused(self, batch: BatchHeader) -> ErrorCode:
        before = self.log.next_offset
        with self.assertRaises(BrokerError) as caught:
            self.append(batch, name="refused")
        self.assertEqual(self.log.next_offset, before)
        self.clock.advance(0)
        self.assertNotIn("refused", [one[0] for one in self.events if isinstance(one, tuple)])
        return caught.exception.code


class AcknowledgementTests(PartitionTestCase):
    def test_interfaces(self) -> None:
        verifyObject(IPartition, self.partition)
        verifyObject(ILogListener, self.partition)

    def test_levels(self) -> None:
        self.assertEqual(self.append(header(2), Acks.WRITTEN, "written"), 0)
        self.assertEqual(self.append(header(3), Acks.DURABLE, "durable"), 2)
        self.assertEqual(self.events, [])
        self.log.write()
        self.assertEqual(self.events, ["written"])
        self.log.sync(4)
        self.assertEqual(self.events, ["written"])
        self.log.sync(5)
        self.assertEqual(self.events, ["written", "durable"])

    def test_offset_order_across_levels(self) -> None:
        for name, acks in enumerate((-1, 1, -1, -1, 1, 1, -1)):
            self.append(header(), Acks(acks), name)
        self.log.sync()
        self.assertEqual(self.events, list(range(7)))

    def test_both_levels_of_one_batch(self) -> None:
        for first in (0, 2):
            self.append(header(2), Acks.WRITTEN, f"written {first}")
            self.partition.when_durable(first + 2, self.done(f"durable {first}"))
        self.append(header(), Acks.WRITTEN, "last")
        self.log.write(2)
        self.assertEqual(self.events, ["written 0"])
        self.log.sync(4)
        self.assertEqual(self.events[1:], ["durable 0", "written 2", "durable 2"])
        self.partition.when_durable(5, self.done("durable last"))
        self.log.write()
        self.log.fail(4)
        self.assertEqual(self.events[4:], ["last", ("durable last", ErrorCode.DISK_FULL)])

    def test_waiting_for_durable_is_always_answered(self) -> None:
        self.append(header())
        self.log.sync()
        self.partition.when_durable(1, self.done("already"))
        self.append(header())
        self.partition.when_durable(2, self.done("closed"))
        self.assertEqual(self.events, [])
        self.partition.close(gone)
        self.partition.when_durable(2, self.done("late"))
        self.clock.advance(0)
        gone_code = ErrorCode.UNKNOWN_TOPIC
        self.assertEqual(self.events, [("closed", gone_code), "already", ("late", gone_code)])

    def test_no_acknowledgement_is_next_turn(self) -> None:
        self.append(header(), Acks.NONE, "none")
        self.append(header(), Acks.NONE)
        self.assertEqual(self.events, [])
        self.clock.advance(0)
        self.assertEqual(self.events, ["none"])

    def test_one_bad_callback_does_not_starve_the_next(self) -> None:
        def bad(error: BrokerError | None) -> None:
            raise ZeroDivisionError

        self.partition.append(header(), bytearray(), Acks.WRITTEN, bad)
        self.append(header(), name="good")
        self.log.write()
        self.assertEqual(self.events, ["good"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_append_from_an_acknowledgement(self) -> None:
        self.partition.append(
            header(),
            bytearray(),
            Acks.WRITTEN,
            lambda error: self.events.append(self.append(header(), name="second")),
        )
        self.log.write()
        self.assertEqual(self.events, [1])
        self.log.write()
        self.assertEqual(self.events, [1, "second"])


class OsDurabilityTests(PartitionTestCase):
    settings = PartitionSettings(durability=Durability.OS)

    def test_durable_waits_for_the_file_only(self) -> None:
        self.append(header(), Acks.DURABLE, "durable")
        self.append(header(), Acks.WRITTEN, "written")
        self.log.write()
        self.assertEqual(self.events, ["durable", "written"])
        self.assertEqual(self.partition.high_watermark, 2)


class RoomTests(PartitionTestCase):
    def wait(self, name: object, messages: int) -> None:
        def again() -> None:
            if self.partition.has_room(messages, 10):
                self.append(header(messages, size=61))
                self.events.append(name)
            else:
                self.partition.when_room(again)

        self.assertFalse(self.partition.has_room(messages, 10))
        self.partition.when_room(again)

    def test_bounds(self) -> None:
        self.assertTrue(self.partition.has_room(50, 5000))
        self.append(header(9, size=900))
        self.assertTrue(self.partition.has_room(1, 100))
        self.assertFalse(self.partition.has_room(2, 61))
        self.assertFalse(self.partition.has_room(1, 101))
        self.log.write()
        self.assertTrue(self.partition.has_room(50, 5000))

    def test_order_is_kept_and_the_head_of_the_line_is_not_overtaken(self) -> None:
        self.append(header(5))
        self.append(header(5))
        self.wait("big", 8)
        self.wait("small", 1)
        self.wait("last", 1)
        self.log.write(5)
        self.assertEqual(self.events, [])
        self.assertFalse(self.partition.has_room(1, 10), "a newcomer must not overtake")
        self.log.write(10)
        self.assertEqual(self.events, ["big", "small", "last"])
        self.assertEqual(self.log.next_offset, 20)
        self.assertTrue(self.partition.waited_for_room >= 3)

    def test_waking_stops_when_full(self) -> None:
        self.append(header(10))
        for name in range(4):
            self.wait(name, 5)
        self.log.write()
        self.assertEqual(self.events, [0, 1])
        self.log.write()
        self.assertEqual(self.events, [0, 1, 2, 3])

    def test_failure_makes_room(self) -> None:
        self.append(header(10), name="lost")
        self.wait("next", 5)
        self.log.fail(0)
        self.assertEqual(self.events, [("lost", ErrorCode.DISK_FULL), "next"])

    def test_close_wakes_everybody_to_be_told(self) -> None:
        self.append(header(10))
        self.wait("never", 5)
        self.partition.when_room(lambda: self.events.append(self.partition.has_room(5, 5)))
        with self.assertRaises(RequestError):
            self.partition.close(gone)
            self.append(header())
        self.assertEqual(self.events, [True])
        self.assertEqual(len(self.flushLoggedErrors(RequestError)), 1)
        self.partition.when_room(lambda: self.events.append("late"))
        self.assertEqual(self.events, [True])
        self.clock.advance(0)
        self.assertEqual(self.events, [True, "late"])


class BacklogTests(PartitionTestCase):
    """Two partitions whose queues together have a bound."""

    def setUp(self) -> None:
        self.backlog = Backlog(1_000_000)
        self.settings = PartitionSettings(partition_channel_buffer_bytes=900_000, backlog=self.backlog)
        super().setUp()
        self.other = PartitionService(TOPIC, 1, self.policy, self.settings, self.clock, lambda: NOW_MS)
        self.other.open(self.store)
        self.other_log = self.store.logs[TopicPartition("orders", 1)]

    def fill(self) -> None:
        self.append(header(1, size=600_000))
        self.other.append(header(1, size=600_000), bytearray(), Acks.NONE, None)

    def test_queues_together_are_bounded_though_none_is_full(self) -> None:
        self.append(header(1, size=600_000))
        self.assertTrue(self.other.has_room(1, 600_000))
        self.fill()
        self.assertFalse(self.partition.has_room(1, 200_000))
        self.assertFalse(self.other.has_room(1, 200_000))
        self.assertIsNone(self.partition.open_run(Acks.WRITTEN))
        self.log.write()
        self.other_log.write()
        self.assertEqual(self.backlog.queued_bytes, 0)
        self.assertTrue(self.other.has_room(1, 600_000))

    def test_who_has_nothing_queued_waits_for_the_others(self) -> None:
        self.fill()
        self.log.write()
        self.fill()
        third = PartitionService(TOPIC, 2, self.policy, self.settings, self.clock, lambda: NOW_MS)
        third.open(self.store)
        self.assertTrue(third.has_room(1, 65_000), "little is never held up")
        self.assertFalse(third.has_room(1, 66_000))
        for name in ("first", "second"):
            third.when_room(partial(self.events.append, name))
        self.assertEqual(self.events, [])
        self.other_log.write()
        self.assertEqual(self.events, ["first", "second"])

    def test_who_waits_for_his_own_queue_goes_on_waiting_for_the_others(self) -> None:
        self.fill()
        self.append(header(1, size=200_000))

        def again() -> None:
            if self.partition.has_room(1, 200_000):
                self.events.append("room")
            else:
                self.partition.when_room(again)

        self.partition.when_room(again)
        self.other.append(header(1, size=600_000), bytearray(), Acks.NONE, None)
        self.log.write()
        self.assertEqual(self.events, [])
        self.other_log.write()
        self.assertEqual(self.events, ["room"])

    def test_a_queue_that_fails_or_ends_is_not_counted_any_more(self) -> None:
        self.fill()
        self.log.fail(0)
        self.other.close(gone)
        self.assertEqual(self.backlog.queued_bytes, 0)


class FailureTests(PartitionTestCase):
    def test_only_what_was_not_written_fails(self) -> None:
        self.append(header(2), Acks.WRITTEN, "a")
        self.append(header(2), Acks.DURABLE, "b")
        self.append(header(2), Acks.WRITTEN, "c")
        self.append(header(2), Acks.DURABLE, "d")
        self.log.write(4)
        self.log.fail(4, disk_full())
        self.assertEqual(self.events, ["a", ("c", ErrorCode.DISK_FULL), ("d", ErrorCode.DISK_FULL)])
        self.log.sync(4)
        self.assertEqual(self.events[3:], ["b"])

    def test_producer_state_goes_back(self) -> None:
        first = header(5, producer=1, sequence=0)
        second = header(5, producer=1, sequence=5)
        self.append(first)
        self.log.sync()
        self.append(second, name="lost")
        self.log.fail(5)
        self.assertEqual(self.append(second, name="again"), 5)
        self.log.write()
        self.assertEqual(self.events, [("lost", ErrorCode.DISK_FULL), "again"])
        self.assertEqual(self.append(first), 0)

    def test_refusal_of_the_log_leaves_no_trace(self) -> None:
        self.log.append_error = disk_full()
        self.assertEqual(self.refused(header(producer=1, sequence=0)), ErrorCode.DISK_FULL)
        self.log.append_error = None
        self.assertEqual(self.append(header(producer=1, sequence=0)), 0)


class RepeatTests(PartitionTestCase):
    def test_pending_repeat_waits_for_the_original(self) -> None:
        batch = header(2, producer=1, sequence=0)
        self.append(batch, Acks.DURABLE, "first")
        self.append(header(2), Acks.DURABLE, "other")
        self.assertEqual(self.append(batch, Acks.DURABLE, "repeat"), 0)
        self.assertEqual(self.append(batch, Acks.WRITTEN, "repeat written"), 0)
        self.assertEqual(self.log.next_offset, 4)
        self.log.write()
        self.assertEqual(self.events, ["repeat written"])
        self.log.sync(2)
        self.assertEqual(self.events, ["repeat written", "first", "repeat"])
        self.log.fail(2)
        self.assertEqual(self.events[3:], [("other", ErrorCode.DISK_FULL)])

    def test_settled_repeat_is_answered_next_turn(self) -> None:
        batch = header(2, producer=1, sequence=0)
        self.append(batch)
        self.log.sync()
        self.assertEqual(self.append(batch, Acks.DURABLE, "repeat"), 0)
        self.assertEqual(self.events, [])
        self.clock.advance(0)
        self.assertEqual(self.events, ["repeat"])

    def test_repeat_fails_with_its_original(self) -> None:
        batch = header(2, producer=1, sequence=0)
        self.append(batch, name="first")
        self.append(batch, name="repeat")
        self.log.fail(0)
        self.assertEqual(self.events, [("first", ErrorCode.DISK_FULL), ("repeat", ErrorCode.DISK_FULL)])

    def test_restart_remembers(self) -> None:
        batch = header(2, producer=1, sequence=0)
        self.append(batch)
        self.append(header(3))
        self.log.sync()
        self.partition, self.log = self.open()
        self.assertEqual(self.partition.high_watermark, 5)
        self.assertEqual(self.append(batch), 0)
        self.assertEqual(self.refused(header(producer=1, sequence=9)), ErrorCode.OUT_OF_ORDER_SEQUENCE)


class PolicyTests(PartitionTestCase):
    policy = TopicPolicy(max_message_bytes=200, timestamp_before_max_ms=1000, timestamp_after_max_ms=500)

    def test_size(self) -> None:
        self.assertEqual(self.refused(header(size=201, timestamp=NOW_MS)), ErrorCode.MESSAGE_TOO_LARGE)
        self.assertEqual(self.append(header(size=200, timestamp=NOW_MS)), 0)

    def test_timestamps(self) -> None:
        self.assertEqual(self.refused(header(timestamp=NOW_MS + 501)), ErrorCode.INVALID_TIMESTAMP)
        self.assertEqual(self.refused(header(timestamp=NOW_MS - 1001)), ErrorCode.INVALID_TIMESTAMP)
        for timestamp in (NOW_MS + 500, NOW_MS - 1000, -1):
            self.append(header(timestamp=timestamp))

    def test_records(self) -> None:
        good = header(3, timestamp=NOW_MS)
        self.assertEqual(self.refused(good._replace(record_count=4)), ErrorCode.INVALID_RECORD)
        empty = good._replace(record_count=0, last_offset_delta=-1)
        self.assertEqual(self.refused(empty), ErrorCode.INVALID_RECORD)
        self.assertEqual(self.refused(good._replace(attributes=32)), ErrorCode.INVALID_RECORD)
        self.assertEqual(self.refused(good._replace(attributes=16)), ErrorCode.INVALID_RECORD)

    def test_more_replicas_asked_for_than_there_are(self) -> None:
        self.partition.configure(TOPIC, TopicPolicy(min_insync_replicas=2))
        with self.assertRaises(StateError) as caught:
            self.partition.append(header(), bytearray(), Acks.DURABLE, None)
        self.assertEqual(caught.exception.code, ErrorCode.NOT_ENOUGH_REPLICAS)
        self.assertTrue(caught.exception.retriable)
        self.assertEqual(self.partition.append(header(), bytearray(), Acks.WRITTEN, None), 0)

    def test_append_time_and_change(self) -> None:
        self.append(header(timestamp=NOW_MS))
        stamping = TopicPolicy(timestamp_type=TimestampType.LOG_APPEND_TIME, timestamp_after_max_ms=1)
        self.partition.configure(TOPIC, stamping)
        self.assertEqual(self.partition.append_time_ms, -1)
        batch = header(timestamp=NOW_MS + 10**9, producer=1, sequence=0)
        self.append(batch)
        self.assertEqual(self.partition.append_time_ms, NOW_MS)
        self.append(batch)
        self.assertEqual(self.partition.append_time_ms, NOW_MS)
        self.assertEqual([time for _, time in self.log.batches], [None, NOW_MS])
        self.assertIs(self.log.settings, stamping.log)


class WatchTests(PartitionTestCase):
    def test_high_watermark_is_what_is_durable(self) -> None:
        self.partition.watch(lambda: self.events.append(self.partition.high_watermark))
        self.append(header(4))
        self.log.write()
        self.assertEqual((self.events, self.partition.high_watermark), ([], 0))
        self.log.sync(3)
        self.log.sync(3)
        self.log.sync(4)
        self.assertEqual(self.events, [3, 4])
        self.assertEqual(self.partition.last_stable_offset, 4)

    def test_acknowledged_before_shown(self) -> None:
        self.partition.watch(lambda: self.events.append("shown"))
        self.append(header(), Acks.DURABLE, "acknowledged")
        self.log.sync()
        self.assertEqual(self.events, ["acknowledged", "shown"])

    def test_cancelling_while_called(self) -> None:
        cancels: list[Callable[[], None]] = []

        def first() -> None:
            self.events.append("first")
            for cancel in cancels:
                cancel()

        cancels.append(self.partition.watch(first))
        cancels.append(self.partition.watch(lambda: self.events.append("second")))
        self.partition.watch(lambda: self.events.append("third"))
        for _ in range(2):
            self.append(header())
            self.log.sync()
        self.assertEqual(self.events, ["first", "third", "third"])

    def test_close_tells_and_forgets(self) -> None:
        self.partition.watch(lambda: self.events.append("closed"))
        self.partition.close(gone)
        self.partition.close(gone)
        self.assertEqual(self.events, ["closed"])
        cancel = self.partition.watch(lambda: self.events.append("cancelled"))
        self.partition.watch(lambda: self.events.append("late"))
        cancel()
        self.clock.advance(0)
        self.assertEqual(self.events, ["closed", "late"])
        with self.assertRaises(RequestError):
            self.partition.read(0, 1)

    def test_read_ends_at_the_high_watermark(self) -> None:
        for _ in range(3):
            self.append(header(2))
        self.log.write()
        self.log.sync(4)
        self.assertEqual(self.partition.read(1, 100).data, b"[0, 2]")
        self.assertEqual(self.partition.read(4, 100, committed=True).length, 0)


class CloseTests(PartitionTestCase):
    def test_waiters_are_told_in_order(self) -> None:
        self.append(header(), Acks.DURABLE, "a")
        self.append(header(), Acks.WRITTEN, "b")
        self.append(header(), Acks.DURABLE, "c")
        self.partition.close(gone)
        expected = [(name, ErrorCode.UNKNOWN_TOPIC) for name in "abc"]
        self.assertEqual(self.events, expected)
        self.log.sync()
        self.log.fail(0)
        self.assertEqual(self.events, expected)
        self.assertEqual(self.partition.sweep(NOW_MS), 0)

    def test_refusing_lets_accepted_batches_complete(self) -> None:
        self.append(header(), name="accepted")
        self.partition.refuse(lambda: StateError(ErrorCode.SHUTTING_DOWN))
        self.assertEqual(self.refused(header()), ErrorCode.SHUTTING_DOWN)
        self.log.write()
        self.assertEqual(self.events, ["accepted"])

    def test_sweep_forgets_silent_producers(self) -> None:
        self.append(header(producer=1, sequence=0))
        self.log.sync()
        self.partition.sweep(NOW_MS + self.settings.producer_id_expiration_ms - 1)
        self.assertEqual(len(self.partition.producers), 1)
        self.partition.sweep(NOW_MS + self.settings.producer_id_expiration_ms)
        self.assertEqual(len(self.partition.producers), 0)
        self.assertEqual(len(self.log.retained), 2)
