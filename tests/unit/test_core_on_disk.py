"""The core services over the real stores: what was acknowledged is there after a restart, clean or not."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header
from megabroker.core.dedup import DeduplicationService, DedupSettings
from megabroker.core.partitions import PartitionSettings
from megabroker.core.placement import SinglePlacement
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TopicLimits, TopicService
from megabroker.errors import BrokerError, ErrorCode, StorageError
from megabroker.model import Acks, Durability, FileRange, Node
from megabroker.storage.metadata.sqlite import SqliteMetadataStore
from megabroker.storage.metadata.worker import ManualWorker
from megabroker.storage.store import LocalLogStore
from megabroker.storage.window import FileWindowStore

NOW_MS = 1_700_000_000_000


class Turns(Clock):
    """A clock that takes calls from threads at once: here everything runs in one."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)


class Stack:
    """One life of a broker's core in a directory."""

    def __init__(self, data_dir: str) -> None:
        self.clock = Turns()
        self.clock.advance(NOW_MS / 1000)
        self.worker = ManualWorker()
        self.metadata = SqliteMetadataStore(
            f"{data_dir}/metadata.db", Durability.OS, self.clock, worker=self.worker
        )
        self.store = LocalLogStore(data_dir, self.clock, self.clock.callFromThread, threaded=False)
        self.store.open()
        self.metadata.open()
        self.topics = TopicService(
            store=self.store,
            metadata=self.metadata,
            placement=SinglePlacement(Node(1)),
            configs=TopicConfigs({"segment.bytes": "4096"}),
            limits=TopicLimits(),
            partition_settings=PartitionSettings(),
            reactor=self.clock,
            now_ms=self.now_ms,
        )
        self.window = FileWindowStore(f"{data_dir}/dedup", 1_800_000)
        self.dedup = DeduplicationService(
            DedupSettings(), self.window, self.topic_id, self.clock, self.now_ms
        )
        self.producer_ids = ProducerIds(self.metadata)
        for loaded in (self.topics, self.dedup, self.producer_ids):
            loaded.load()
        self.topics.startService()

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def topic_id(self, name: str) -> Any:
        topic = self.topics.get(name)
        return topic and topic.id

    def turn(self) -> None:
        """Let everything that is under way come to rest."""
        for _ in range(6):
            self.clock.advance(0)
            self.worker.run()
            self.store.disk.pump()

    def append(self, sequence: int, count: int, heard: list[object], acks: Acks = Acks.DURABLE) -> int:
        records = [(None, b"value %d" % n, (), NOW_MS) for n in range(sequence, sequence + count)]
        data = build(records, producer_id=7, producer_epoch=0, base_sequence=sequence)
        header = read_header(data, 0, len(data))
        return self.topics.partition("orders", 0).append(header, data, acks, heard.append)

    def die(self) -> None:
        """What kill -9 leaves: nothing is flushed, only the lock is gone with the process."""
        self.store._directories.release()

    def close(self) -> list[Deferred[Any]]:
        stopping = self.topics.stopService()
        self.turn()
        closing = [stopping, self.store.close(), self.metadata.close()]
        self.turn()
        return closing


class OnDiskTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.data_dir = directory.name
        self.stack = Stack(self.data_dir)
        self.heard: list[object] = []
        self.create("orders", 2)

    def settle(self, deferred: Deferred[Any]) -> Any:
        self.stack.turn()
        return self.successResultOf(deferred)

    def create(self, name: str, partitions: int) -> None:
        self.settle(self.stack.topics.create(name, partitions, {"retention.ms": "-1"}))

    def read_back(self) -> bytes:
        result = self.stack.topics.partition("orders", 0).read(0, 1 << 20)
        data = result.data
        if isinstance(data, FileRange):
            return os.pread(data.file.fileno(), data.length, data.position)
        return bytes(data)

    def test_acknowledged_is_there_after_a_crash(self) -> None:
        for sequence in range(0, 60, 3):
            self.stack.append(sequence, 3, self.heard)
        self.assertEqual(self.heard, [])
        self.stack.turn()
        self.assertEqual(self.heard, [None] * 20)
        self.stack.dedup.confirm("orders", [2**64 - 1])
        first_id = self.settle(self.stack.producer_ids.allocate())
        self.stack.append(60, 3, self.heard)
        self.stack.die()

        self.stack = Stack(self.data_dir)
        partition = self.stack.topics.partition("orders", 0)
        self.assertEqual(partition.high_watermark, 60)
        self.assertIn(b"value 0", self.read_back())
        self.assertEqual(self.stack.append(57, 3, self.heard), 57, "a repeat keeps its offset")
        self.assertEqual(self.stack.append(60, 3, self.heard), 60)
        with self.assertRaises(BrokerError) as caught:
            self.stack.append(70, 1, self.heard)
        self.assertEqual(caught.exception.code, ErrorCode.OUT_OF_ORDER_SEQUENCE)
        self.assertTrue(self.stack.dedup.seen("orders", 2**64 - 1))
        self.assertFalse(self.stack.dedup.seen("orders", 5))
        self.assertNotEqual(self.settle(self.stack.producer_ids.allocate()), first_id)
        self.assertEqual(self.stack.topics.config("orders", "retention.ms"), "-1")

    def test_clean_stop_acknowledges_all_and_keeps_producers(self) -> None:
        for sequence in range(0, 400, 4):
            self.stack.append(sequence, 4, self.heard, Acks.WRITTEN)
        for one in self.stack.close():
            self.successResultOf(one)
        self.assertEqual(self.heard, [None] * 100)
        self.stack = Stack(self.data_dir)
        self.assertTrue(self.stack.store.was_clean)
        self.assertEqual(self.stack.topics.partition("orders", 0).high_watermark, 400)
        self.assertEqual(self.stack.append(396, 4, self.heard), 396)
        self.assertEqual(self.stack.append(400, 4, self.heard), 400)

    def test_deleted_and_created_anew(self) -> None:
        self.stack.append(0, 1, self.heard)
        self.settle(self.stack.topics.delete("orders"))
        self.assertEqual([error.code for error in self.heard], [ErrorCode.UNKNOWN_TOPIC])
        self.create("orders", 1)
        self.assertEqual(self.stack.append(9, 1, self.heard), 0)
        self.stack.turn()
        self.stack.die()
        self.stack = Stack(self.data_dir)
        self.assertEqual(self.stack.topics.partition("orders", 0).high_watermark, 1)
        self.assertEqual(self.stack.topics.strays, set())

    def test_directory_of_another_is_neither_adopted_nor_removed(self) -> None:
        stray = f"{self.data_dir}/bills-1"
        os.rename(f"{self.data_dir}/orders-1", stray)
        creating = self.stack.topics.create("bills", 2)
        self.stack.turn()
        self.failureResultOf(creating, StorageError)
        self.assertTrue(os.path.isdir(stray))
        self.assertFalse(os.path.isdir(f"{self.data_dir}/bills-0"))
        self.assertIsNone(self.stack.topics.get("bills"))

    def test_deletion_cut_short_is_finished(self) -> None:
        deleting = self.stack.topics.delete("orders")
        self.stack.clock.advance(0)
        self.stack.worker.run()
        self.assertNoResult(deleting)
        self.assertTrue(os.path.isdir(f"{self.data_dir}/orders-0"))
        self.stack.die()
        self.stack = Stack(self.data_dir)
        self.assertEqual((self.stack.topics.all(), self.stack.topics.strays), ([], set()))
        self.stack.turn()
        self.assertFalse(os.path.isdir(f"{self.data_dir}/orders-0"))
        self.assertEqual(dict(self.stack.metadata.rows("deleted_topics")), {})
        self.create("orders", 1)
