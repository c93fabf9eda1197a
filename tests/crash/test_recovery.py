"""Opening a log whose files are not as a clean close leaves them."""

from __future__ import annotations

import os
import shutil
import tempfile
from uuid import uuid4

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header, read_records, scan
from megabroker.errors import DataDirectoryLocked, ErrorCode, StorageError
from megabroker.model import Durability, LogSettings, Topic, TopicPartition
from megabroker.storage.checkpoints import decode_offsets, decode_snapshot
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

SMALL = LogSettings(segment_bytes=1500, index_interval_bytes=150)
ONE_SEGMENT = LogSettings(index_interval_bytes=150)


class RecoveryCase(SynchronousTestCase):
    settings = SMALL

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.partition = f"{self.directory}/orders-0"
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.start()

    def start(self) -> None:
        self.store = LocalLogStore(
            self.directory, self.clock, lambda call: call(), Durability.OS, threaded=False
        )
        self.store.open()
        self.listener, self.producers = Listener(), Producers()
        self.log = self.store.log(TOPIC, 0, self.settings, self.listener, self.producers)

    def append(self, *values: bytes, sequence: int = -1, epoch: int = 0) -> int:
        producer = 77 if sequence >= 0 else -1
        fields = {"producer_id": producer, "base_sequence": sequence, "producer_epoch": min(0, producer)}
        if producer > 0:
            fields["producer_epoch"] = 0
        data = batch(*values, **fields)
        header = read_header(data, 0, len(data))
        base = self.log.append(header, data, epoch, None)
        self.producers.accept(header, base)
        return base

    def fill(self, count: int) -> None:
        for at in range(count):
            self.append(b"%d" % at, b"-" * 20, sequence=2 * at)
        self.store.disk.pump()

    def crash(self) -> None:
        """End as kill -9 does."""
        self.store._directories.release()
        self.store._open_files.close()

    def close(self) -> None:
        closed = self.store.close()
        self.store.disk.pump()
        self.successResultOf(closed)

    def logs(self) -> list[str]:
        return sorted(
            f"{self.partition}/{name}" for name in os.listdir(self.partition) if name.endswith(".log")
        )

    def offsets(self) -> list[int]:
        """Read everything, batch bases in order, through reads of every size."""
        found: list[int] = []
        offset = self.log.start_offset
        while True:
            data = content(self.log.read(offset, 400, 1 << 60))
            if not data:
                return found
            for _, header in scan(data, 0, len(data)):
                found.append(header.base_offset)
                offset = header.next_offset

    def flip(self, path: str, position: int) -> None:
        with open(path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 0x10]))


class TornTailTests(RecoveryCase):
    settings = ONE_SEGMENT

    def test_cut_at_every_byte_of_the_last_two_batches(self) -> None:
        self.fill(6)
        self.crash()
        [path] = self.logs()
        with open(path, "rb") as file:
            whole = file.read()
        size = len(whole) // 6
        for length in range(len(whole) - 2 * size, len(whole)):
            with open(path, "wb") as file:
                file.write(whole[:length])
            self.start()
            batches = length // size
            self.assertEqual((self.log.next_offset, self.log.durable_offset), (2 * batches, 2 * batches))
            self.assertEqual(os.path.getsize(path), batches * size)
            self.assertEqual(self.log.damaged, [])
            self.assertEqual(self.offsets(), list(range(0, 2 * batches, 2)))
            self.crash()
        self.start()
        self.assertEqual(self.append(b"next"), 10)
        self.store.disk.pump()
        self.assertEqual(self.offsets(), [0, 2, 4, 6, 8, 10])

    def test_zeros_at_the_end(self) -> None:
        self.fill(3)
        self.crash()
        [path] = self.logs()
        with open(path, "ab") as file:
            file.write(bytes(10_000))
        self.start()
        self.assertEqual((self.log.next_offset, self.log.damaged), (6, []))
        self.assertEqual(self.append(b"x"), 6)

    def test_flip_in_the_last_batch(self) -> None:
        self.fill(4)
        self.crash()
        [path] = self.logs()
        self.flip(path, os.path.getsize(path) - 5)
        self.start()
        self.assertEqual((self.log.next_offset, self.log.damaged), (6, []))
        self.assertEqual([entry[1] for entry in self.producers.state[77].batches], [1, 3, 5])

    def test_flip_in_a_middle_batch(self) -> None:
        self.fill(6)
        [path] = self.logs()
        size = os.path.getsize(path) // 6
        self.crash()
        with open(path, "rb") as file:
            original = file.read()
        for within in (3, 9, 16, 20, 24, size - 1):
            with open(path, "wb") as file:
                file.write(original)
            self.flip(path, 2 * size + within)
            self.start()
            self.assertEqual(self.log.next_offset, 12)
            [damage] = self.log.damaged
            self.assertEqual((damage.position, damage.length), (2 * size, size))
            self.assertEqual((damage.from_offset, damage.to_offset), (4, 6))
            self.assertEqual(self.offsets(), [0, 2, 6, 8, 10])
            self.assertEqual(os.path.getsize(path), 6 * size)
            self.assertEqual(self.bases(5), [6])
            self.close()
            self.start()
            self.assertEqual(len(self.log.damaged), 1)
            self.assertEqual(self.offsets(), [0, 2, 6, 8, 10])
            self.crash()

    def bases(self, offset: int) -> list[int]:
        data = content(self.log.read(offset, 1, 1 << 60))
        return [header.base_offset for _, header in scan(data, 0, len(data))]

    def test_damage_that_was_on_the_disk_is_kept(self) -> None:
        self.fill(4)
        flushed = self.log.flush()
        self.store.disk.pump()
        self.successResultOf(flushed)
        self.store.checkpoint()
        self.store.disk.pump()
        self.crash()
        [path] = self.logs()
        size = os.path.getsize(path)
        self.flip(path, size - 5)
        self.start()
        self.assertEqual(self.log.next_offset, 8)
        self.assertEqual(os.path.getsize(path), size)
        self.assertEqual([damage.from_offset for damage in self.log.damaged], [6])
        self.assertEqual(self.append(b"x"), 8)
        self.store.disk.pump()
        self.assertEqual(self.offsets(), [0, 2, 4, 8])

    def test_damage_met_while_reading(self) -> None:
        self.fill(6)
        self.close()
        [path] = self.logs()
        size = os.path.getsize(path) // 6
        self.flip(path, 3 * size + 16)
        self.start()
        self.assertEqual(self.log.damaged, [])
        for _ in range(2):
            for offset in (7, 6):
                with self.assertRaises(StorageError) as raised:
                    self.bases(offset)
                self.assertIs(raised.exception.code, ErrorCode.CORRUPT_BATCH)
                self.assertIn(f"{size} bytes at {3 * size} of {path}", str(raised.exception))
                self.assertIn("read on from offset 8", str(raised.exception))
            self.assertEqual([damage.from_offset for damage in self.log.damaged], [6])
            self.assertEqual([self.bases(offset) for offset in (5, 8, 10)], [[4], [8], [10]])
            self.close()
            self.start()


class SegmentsTests(RecoveryCase):
    def test_indexes_missing_or_garbage(self) -> None:
        self.fill(60)
        expected = list(range(0, 120, 2))
        self.assertGreater(len(self.logs()), 3)
        self.close()

        def remove(path: str) -> None:
            os.unlink(path)

        def garbage(path: str) -> None:
            with open(path, "wb") as file:
                file.write(os.urandom(96))

        def empty(path: str) -> None:
            os.truncate(path, 0)

        def odd(path: str) -> None:
            with open(path, "ab") as file:
                file.write(b"abc")

        for spoil in (remove, garbage, empty, odd):
            for name in os.listdir(self.partition):
                if name.endswith("index"):
                    spoil(f"{self.partition}/{name}")
            self.start()
            for offset in range(0, 120, 7):
                data = content(self.log.read(offset, 1, 1 << 60))
                self.assertEqual(read_header(data, 0, len(data)).base_offset, offset - offset % 2)
            self.assertEqual(self.offsets(), expected)
            self.assertEqual(self.log.offset_for_time(1000)[:2], (0, 1000))
            self.assertEqual(self.log.damaged, [])
            self.close()

    def test_an_index_that_leads_astray_is_made_anew(self) -> None:
        self.fill(60)
        expected = self.offsets()
        self.close()
        [path] = sorted(self.logs())[1:2]
        index = path.replace(".log", ".index")
        with open(index, "rb") as file:
            right = file.read()
        for at, change in ((7, 1), (3, -3)):  # no batch begins there; a batch before ends there
            spoilt = bytearray(right)
            spoilt[at] += change
            with open(index, "wb") as file:
                file.write(spoilt)
            self.start()
            for offset in reversed(expected):
                data = content(self.log.read(offset, 1, 1 << 60))
                self.assertEqual(read_header(data, 0, len(data)).base_offset, offset)
            self.assertEqual(self.log.damaged, [])
            self.close()
            with open(index, "rb") as file:
                self.assertEqual(file.read(), right)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_producers_come_from_the_snapshot(self) -> None:
        self.fill(60)
        self.crash()
        self.start()
        last = self.producers.state[77].batches[-1]
        self.assertEqual(last[:4], (118, 119, 118, 119))
        self.assertEqual(self.producers.replayed[0], 0)
        self.store.checkpoint()
        self.store.disk.pump()
        self.crash()
        self.start()
        self.assertEqual(self.producers.replayed[0], 90)
        self.assertIsNotNone(self.producers.restored)
        self.assertEqual(self.producers.state[77].batches[-1], last)
        snapshots = [name for name in os.listdir(self.partition) if name.endswith(".snapshot")]
        for name in snapshots:
            self.flip(f"{self.partition}/{name}", 20)
        self.crash()
        self.start()
        self.assertEqual(self.producers.replayed, list(range(0, 120, 2)))
        self.assertEqual(self.producers.state[77].batches[-1], last)

    def test_old_snapshots_go(self) -> None:
        for _ in range(3):
            self.fill(30)
            flushed = self.log.flush()
            self.store.disk.pump()
            self.successResultOf(flushed)
        self.fill(30)
        snapshots = [name for name in os.listdir(self.partition) if name.endswith(".snapshot")]
        self.assertLess(len(snapshots), len(self.logs()))
        self.close()
        self.start()
        self.assertEqual(self.producers.replayed, [])

    def test_empty_last_segment(self) -> None:
        self.fill(60)
        self.crash()
        last = self.logs()[-1]
        os.truncate(last, 0)
        self.start()
        end = int(os.path.basename(last)[:20])
        self.assertEqual(self.log.next_offset, end)
        self.assertEqual(self.append(b"x"), end)
        self.store.disk.pump()
        self.assertEqual(self.offsets()[-1], end)

    def test_segments_that_are_all_empty_keep_the_offsets(self) -> None:
        self.fill(60)
        self.crash()
        first, *others, last = self.logs()
        for path in others:
            os.unlink(path)
        os.truncate(first, 0)  # as compaction may leave it
        os.truncate(last, 0)
        self.start()
        self.assertEqual(self.log.next_offset, int(os.path.basename(last)[:20]))

    def test_torn_tail_before_empty_segments(self) -> None:
        self.fill(60)
        self.crash()
        before, empty, last = self.logs()[-3:]
        os.truncate(last, 0)
        os.truncate(empty, 0)
        os.truncate(before, os.path.getsize(before) - 3)
        self.start()
        end = int(os.path.basename(empty)[:20]) - 2
        self.assertEqual((self.log.next_offset, self.log.damaged), (end, []))

    def test_torn_tail_before_an_empty_segment(self) -> None:
        self.fill(60)
        self.crash()
        before, last = self.logs()[-2:]
        os.truncate(last, 10)
        os.truncate(before, os.path.getsize(before) - 3)
        self.start()
        end = int(os.path.basename(last)[:20]) - 2
        self.assertEqual((self.log.next_offset, self.log.damaged), (end, []))
        self.assertEqual(self.append(b"x"), end)
        self.store.disk.pump()
        self.assertEqual(self.offsets()[-2:], [end - 2, end])

    def test_hole_before_a_good_segment_is_damage(self) -> None:
        self.fill(60)
        self.crash()
        before, last = self.logs()[-2:]
        self.flip(before, os.path.getsize(before) - 3)
        self.start()
        end = int(os.path.basename(last)[:20])
        self.assertEqual([damage.from_offset for damage in self.log.damaged], [end - 2])
        self.assertEqual(self.log.next_offset, 120)
        self.assertEqual(self.offsets(), [at for at in range(0, 120, 2) if at != end - 2])

    def test_epochs_from_the_batches(self) -> None:
        self.append(b"a", epoch=1)
        self.append(b"b", epoch=3)
        self.store.disk.pump()
        self.crash()
        os.unlink(f"{self.partition}/leader-epoch-checkpoint")
        self.start()
        self.assertEqual(self.log.epoch_end_offset(2), (1, 1))
        self.assertEqual(self.log.epoch_end_offset(3), (3, 2))

    def test_one_epoch_in_one_segment_needs_no_file(self) -> None:
        self.append(b"a", epoch=2)
        self.store.disk.pump()
        self.crash()
        self.assertNotIn("leader-epoch-checkpoint", os.listdir(self.partition))
        self.start()
        self.assertEqual(self.log.epoch_end_offset(2), (2, 1))
        self.append(b"b", epoch=2)
        self.close()
        with open(f"{self.partition}/leader-epoch-checkpoint", "rb") as file:
            self.assertEqual(file.read(), b"0\n1\n2 0\n")
        self.start()
        self.assertEqual(self.log.epoch_end_offset(2), (2, 2))

    def test_a_second_epoch_is_written_down(self) -> None:
        self.append(b"a", epoch=2)
        self.append(b"b", epoch=5)
        self.store.disk.pump()
        with open(f"{self.partition}/leader-epoch-checkpoint", "rb") as file:
            self.assertEqual(file.read(), b"0\n2\n2 0\n5 1\n")

    def test_the_epoch_outlives_the_segment_it_began_in(self) -> None:
        self.fill(60)
        self.assertGreater(len(self.log.segments.items), 1)
        self.store.disk.pump()
        with open(f"{self.partition}/leader-epoch-checkpoint", "rb") as file:
            self.assertEqual(file.read(), b"0\n1\n0 0\n")

    def test_a_new_log_has_its_file(self) -> None:
        directory = f"{self.directory}/other-0"
        topic = Topic("other", uuid4(), 1, {})
        self.store.log(topic, 0, LogSettings(), Listener(), Producers())
        self.assertIn("00000000000000000000.log", os.listdir(directory))

    def test_leftovers_are_removed(self) -> None:
        self.fill(3)
        self.crash()
        os.mkdir(f"{self.directory}/old-3.abc-delete")
        for name in ("00000000000000000009.log.deleted", "x.tmp"):
            with open(f"{self.partition}/{name}", "wb"):
                pass
        self.start()
        names = [*os.listdir(self.directory), *os.listdir(self.partition)]
        self.assertFalse([name for name in names if name.endswith(("-delete", ".deleted", ".tmp"))])
        self.assertEqual([str(name) for name, _ in self.store.partitions()], ["orders-0"])

    def test_retention_survives_a_crash(self) -> None:
        self.fill(60)
        self.log.settings = LogSettings(retention_bytes=2000, retention_ms=-1, segment_bytes=1500)
        self.log.enforce_retention(0)
        self.store.disk.pump()
        start = self.log.start_offset
        self.assertGreater(start, 0)
        self.crash()
        self.start()
        self.assertEqual(self.log.start_offset, start)
        self.assertEqual(self.offsets(), list(range(start, 120, 2)))

    def test_log_emptied_by_retention_keeps_its_offsets(self) -> None:
        self.fill(10)
        self.log.settings = LogSettings(retention_ms=0, segment_ms=0)
        self.assertGreater(self.log.enforce_retention(10_000), 0)
        self.assertEqual((self.log.start_offset, self.log.size_bytes), (20, 0))
        self.store.disk.pump()
        self.crash()
        os.unlink(f"{self.directory}/log-start-offset-checkpoint")
        self.start()
        self.assertEqual((self.log.start_offset, self.log.next_offset), (20, 20))
        self.assertEqual(self.append(b"x"), 20)

    def test_kafka_reads_the_checkpoints(self) -> None:
        self.fill(10)
        self.close()
        with open(f"{self.directory}/recovery-point-offset-checkpoint", "rb") as file:
            text = file.read()
        self.assertEqual(text, b"0\n2\norders 0 20\n__crc32c -1 2612018461\n")
        self.assertEqual(decode_offsets(text), {TopicPartition("orders", 0): 20})
        with open(f"{self.partition}/leader-epoch-checkpoint", "rb") as file:
            self.assertEqual(file.read(), b"0\n1\n0 0\n")
        with open(f"{self.partition}/partition.metadata", "rb") as file:
            self.assertEqual(file.read(), b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABw\n")
        with open(f"{self.partition}/00000000000000000020.snapshot", "rb") as file:
            [producer] = decode_snapshot(file.read())
        self.assertEqual(producer.batches, ((18, 19, 18, 19, 1000),))


class DirectoryTests(RecoveryCase):
    def test_second_opener(self) -> None:
        with self.assertRaises(DataDirectoryLocked) as caught:
            self.start()
        self.assertIn(f"pid {os.getpid()}", str(caught.exception))
        self.assertIn("2023-11-14", str(caught.exception))

    def test_missing_parent_and_not_a_directory(self) -> None:
        for path in (f"{self.directory}/no/where", __file__):
            store = LocalLogStore(path, self.clock, lambda call: call(), threaded=False)
            with self.assertRaises(StorageError) as caught:
                store.open()
            self.assertIn(path, str(caught.exception))

    def test_other_cluster(self) -> None:
        self.crash()

        def store(cluster: str) -> LocalLogStore:
            return LocalLogStore(
                self.directory, self.clock, lambda call: call(), threaded=False, cluster_id=cluster, node_id=1
            )

        first = store("one")
        first.open()
        first.close()
        first.disk.pump()
        with self.assertRaises(StorageError):
            store("two").open()
        store("one").open()

    def test_other_topic_id(self) -> None:
        self.fill(1)
        self.crash()
        self.store.open()
        self.store._logs.clear()
        other = Topic("orders", uuid4(), 1)
        with self.assertRaises(StorageError):
            self.store.log(other, 0, self.settings, Listener(), Producers())

    def test_values_survive(self) -> None:
        self.fill(20)
        self.crash()
        self.start()
        got = list(read_records(content(self.log.read(0, 1 << 20, 1 << 60))))
        self.assertEqual(got[0].value, b"0")
