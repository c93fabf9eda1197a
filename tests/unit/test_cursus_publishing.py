"""Storing: the window learns what became of a batch at the level the log can promise, and only then."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build_single, read_header
from megabroker.core.dedup import DeduplicationService, DedupSettings
from megabroker.core.partitions import PartitionService, PartitionSettings
from megabroker.core.topic_configs import TopicPolicy
from megabroker.errors import BrokerError, ErrorCode, StateError, StorageError
from megabroker.model import Acks, Durability, Topic, TopicPartition
from megabroker.protocols.publishing import Storing
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.store import LocalLogStore
from megabroker.storage.window import FileWindowStore
from tests.unit.core_fakes import FakeLog, FakeStore, FakeWindow, disk_full, header

TOPIC = Topic("orders", UUID(int=7 << 100), 1)
NOW_MS = 1_700_000_000_000
IDS = (1, 2)


def shutting_down() -> BrokerError:
    return StateError(ErrorCode.SHUTTING_DOWN, "stopping")


class StoringTestCase(SynchronousTestCase):
    durability = Durability.FSYNC

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[object] = []
        self.journal = FakeWindow()
        self.dedup = self.window()
        self.store = FakeStore()
        settings = PartitionSettings(durability=self.durability)
        self.partition = PartitionService(TOPIC, 0, TopicPolicy(), settings, self.clock, lambda: NOW_MS)
        self.partition.open(self.store)
        self.log: FakeLog = self.store.logs[TopicPartition("orders", 0)]

    def window(self) -> DeduplicationService:
        """Return the window as a new process finds it."""
        dedup = DeduplicationService(
            DedupSettings(), self.journal, lambda name: TOPIC.id, self.clock, lambda: NOW_MS
        )
        dedup.load()
        return dedup

    def hear(self, name: str) -> Callable[[BrokerError | None], None]:
        return lambda error: self.events.append(name if error is None else (name, error.code))

    def claim(self, name: str = "repeat", message_id: int = 1) -> bool:
        return self.dedup.claim("orders", message_id, self.hear(name))

    def publish(self, acks: Acks, *ids: int) -> None:
        for message_id in ids or IDS:
            self.assertTrue(self.claim(message_id=message_id))
        storing = Storing(self.dedup, "orders", list(ids or IDS), self.hear("reply"))
        storing.append(self.partition, header(len(ids or IDS)), bytearray(), acks)

    def survives(self) -> bool:
        """Say whether the window would know the ids after kill -9."""
        dedup = self.window()
        return dedup.seen("orders", 1) and dedup.seen("orders", 2)


class WrittenTests(StoringTestCase):
    """Answered when written, confirmed when durable."""

    def test_confirmed_when_durable_and_not_before(self) -> None:
        self.publish(Acks.WRITTEN)
        self.claim("early")
        self.assertEqual(self.events, [])
        self.log.write()
        self.clock.advance(0)
        self.assertEqual(self.events, ["early", "reply"])
        self.assertFalse(self.claim("late"), "stored already, as far as anybody knows")
        self.assertEqual(self.events, ["early", "reply", "late"])
        self.assertEqual(self.journal.appends, [])
        self.assertFalse(self.dedup.seen("orders", 1))
        self.log.sync()
        self.clock.advance(0)
        self.assertTrue(self.survives())
        self.assertEqual(self.events, ["early", "reply", "late"])
        self.assertEqual(len(self.dedup._claims), 0)

    def test_voided_after_the_reply(self) -> None:
        self.publish(Acks.WRITTEN)
        self.log.write()
        self.claim("repeat")
        self.assertEqual(self.events, ["reply", "repeat"])
        self.log.fail(0)
        self.clock.advance(0)
        self.assertEqual((self.events, self.journal.appends), (["reply", "repeat"], []))
        self.assertEqual(len(self.dedup._claims), 0)
        self.publish(Acks.WRITTEN)
        self.log.sync()
        self.clock.advance(0)
        self.assertTrue(self.survives())

    def test_voided_before_the_reply_is_released_once(self) -> None:
        self.publish(Acks.WRITTEN)
        again = self.hear("again")

        def retry(error: BrokerError | None) -> None:
            self.events.append("retried")
            self.assertTrue(self.dedup.claim("orders", 1, again))

        self.dedup.claim("orders", 1, retry)
        self.log.fail(0)
        self.assertEqual(self.events, ["retried", ("reply", ErrorCode.DISK_FULL)])
        self.assertFalse(self.claim("third"), "the retry holds the id, whichever wait ends later")
        self.dedup.confirm("orders", [1])
        self.clock.advance(0)
        self.assertEqual(self.events[2:], ["third"])

    def test_part_of_what_was_written_is_voided(self) -> None:
        self.publish(Acks.WRITTEN, 1)
        self.publish(Acks.WRITTEN, 2)
        self.log.write()
        self.log.sync(1)
        self.log.fail(1)
        self.clock.advance(0)
        self.assertEqual([self.window().seen("orders", one) for one in IDS], [True, False])

    def test_closed_between_reply_and_confirmation(self) -> None:
        self.publish(Acks.WRITTEN)
        self.log.write()
        self.partition.close(shutting_down)
        self.assertEqual((self.events, len(self.dedup._claims)), (["reply"], 0))
        self.assertEqual(self.journal.appends, [])

    def test_durable_at_once(self) -> None:
        self.publish(Acks.WRITTEN)
        self.log.sync()
        self.assertEqual(self.events, ["reply"])
        self.clock.advance(0)
        self.assertTrue(self.survives())

    def test_refused(self) -> None:
        self.log.append_error = disk_full()
        with self.assertRaises(BrokerError):
            self.publish(Acks.WRITTEN)
        self.log.sync()
        self.clock.advance(0)
        self.assertEqual((self.events, self.journal.appends), ([], []))

    def test_one_append_to_the_journal_for_a_turn(self) -> None:
        for first in range(10, 20, 2):
            self.publish(Acks.WRITTEN, first, first + 1)
        self.log.sync()
        self.clock.advance(0)
        self.assertEqual([[one[1] for one in batch] for batch in self.journal.appends], [[*range(10, 20)]])


class DurableTests(StoringTestCase):
    """Answered when durable and journalled."""

    def test_reply_after_the_journal(self) -> None:
        self.publish(Acks.DURABLE)
        self.log.write()
        self.claim("repeat")
        self.log.sync()
        self.assertEqual((self.events, self.journal.appends), ([], []))
        self.assertFalse(self.claim("hasty"))
        self.assertEqual(self.events, ["hasty"])
        self.assertTrue(self.survives(), "who is told of it is told the truth")
        self.clock.advance(0)
        self.assertEqual(self.events, ["hasty", "repeat", "reply"])
        self.assertEqual(len(self.journal.appends), 1)

    def test_voided(self) -> None:
        self.publish(Acks.DURABLE)
        self.log.write()
        self.log.fail(0)
        self.assertEqual(self.events, [("reply", ErrorCode.DISK_FULL)])
        self.assertTrue(self.claim())

    def test_the_end_journals_what_is_left(self) -> None:
        self.dedup.startService()
        self.publish(Acks.DURABLE)
        self.log.sync()
        self.dedup.stopService()
        self.assertEqual(self.events, ["reply"])
        self.assertTrue(self.survives())


class OsDurabilityTests(StoringTestCase):
    """Written is all that is promised."""

    durability = Durability.OS

    def test_confirmed_when_written(self) -> None:
        self.publish(Acks.DURABLE)
        self.log.write()
        self.clock.advance(0)
        self.assertEqual(self.events, ["reply"])
        self.assertTrue(self.survives())


class OnDiskTests(SynchronousTestCase):
    """The same over files whose sync fails."""

    def test_failed_sync_leaves_nothing_in_the_window(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        clock = Clock()
        files = FaultyFiles(real_sync=False)
        store = LocalLogStore(directory.name, clock, lambda function: function(), files=files, threaded=False)
        store.open()
        partition = PartitionService(TOPIC, 0, TopicPolicy(), PartitionSettings(), clock, lambda: NOW_MS)
        partition.open(store)
        journal = FileWindowStore(os.path.join(directory.name, "dedup"), 1_800_000)
        dedup = DeduplicationService(DedupSettings(), journal, lambda name: TOPIC.id, clock, lambda: NOW_MS)
        replies: list[BrokerError | None] = []

        def publish(message_id: int) -> None:
            data = build_single(None, b"%d" % message_id, NOW_MS)
            storing = Storing(dedup, "orders", [message_id], replies.append)
            self.assertTrue(dedup.claim("orders", message_id, replies.append))
            storing.append(partition, read_header(data, 0, len(data)), data, Acks.WRITTEN)
            for _ in range(6):
                clock.advance(0)
                store.disk.pump()

        publish(1)
        files.fail("fdatasync", errno.EIO, path=".log")
        publish(2)
        self.assertEqual(replies[0], None)
        self.assertEqual([entry[1] for entry in journal.load(0)], [1])
        self.assertEqual([dedup.seen("orders", one) for one in IDS], [True, False])
        self.assertTrue(dedup.claim("orders", 2, replies.append))
        journal.close()
        closing = store.close()
        store.disk.pump()
        self.failureResultOf(closing, StorageError)
