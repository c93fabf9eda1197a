"""The write-behind path when the disk fails, and how it groups what it writes."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header, read_records
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Durability, FileRange, LogSettings
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.files import OpenFiles
from megabroker.storage.segment import Segment
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

SMALL = LogSettings(segment_bytes=600, index_interval_bytes=100)


class StorageCase(SynchronousTestCase):
    durability = Durability.FSYNC

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.files = FaultyFiles(real_sync=False)
        self.start()

    def start(self, settings: LogSettings = SMALL, **options: int) -> None:
        self.store = LocalLogStore(
            self.directory,
            self.clock,
            lambda call: call(),
            self.durability,
            files=self.files,
            threaded=False,
            **options,
        )
        self.store.open()
        self.listener, self.producers = Listener(), Producers()
        self.log = self.store.log(TOPIC, 0, settings, self.listener, self.producers)

    def crash(self) -> None:
        """Forget all that is in memory."""
        self.store._directories.release()
        self.store._open_files.close()

    def append(self, value: bytes) -> int:
        data = batch(value)
        return self.log.append(read_header(data, 0, len(data)), data, 0, None)

    def values(self, start: int = 0) -> list[bytes]:
        found, offset = [], start
        while offset < self.log.written_offset:
            part = list(read_records(content(self.log.read(offset, 1 << 20, 1 << 60)), offset))
            self.assertEqual(part[0].offset, offset)
            found += [record.value for record in part]
            offset = part[-1].offset + 1
        return found


class WriteFailureTests(StorageCase):
    def test_full_disk(self) -> None:
        self.append(b"one")
        self.store.disk.pump()
        self.append(b"two")
        self.append(b"three")
        self.files.fail("pwritev", errno.ENOSPC)
        self.store.disk.pump()
        [(offset, error)] = self.listener.failures
        self.assertEqual(offset, 1)
        self.assertIs(error.code, ErrorCode.DISK_FULL)
        self.assertIn("ENOSPC", error.message)
        self.assertIn(".log", error.message)
        log = self.log
        self.assertEqual((log.next_offset, log.written_offset, log.durable_offset), (1, 1, 1))
        self.assertEqual(log.pending_bytes, 0)
        self.assertEqual(self.append(b"again"), 1)
        self.store.disk.pump()
        self.assertEqual(self.values(), [b"one", b"again"])
        self.assertEqual(len(self.listener.failures), 1)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_short_write_keeps_whole_batches(self) -> None:
        size = len(batch(b"x"))
        for _ in range(3):
            self.append(b"x")
        self.files.short_write_bytes = size * 2 - 1
        self.files.fail("pwritev", errno.EIO)
        self.store.disk.pump()
        self.assertEqual(self.listener.failures[0][0], 1)
        self.assertIs(self.listener.failures[0][1].code, ErrorCode.STORAGE)
        self.assertEqual(self.listener.progress[-1], (1, 1))
        self.assertEqual(os.path.getsize(self.log.active.path()), size)

    def test_short_write_goes_on(self) -> None:
        for at in range(5):
            self.append(b"%d" % at)
        self.files.short_write_bytes = 100
        self.store.disk.pump()
        self.assertEqual(self.values(), [b"0", b"1", b"2", b"3", b"4"])

    def test_failure_reaches_what_was_accepted_meanwhile(self) -> None:
        self.append(b"a")
        self.files.fail("pwritev", errno.EIO)
        disk = self.store.disk
        disk._turn(disk._take(block=False))
        self.append(b"b")
        disk.pump()
        self.assertEqual([offset for offset, _ in self.listener.failures], [0])
        self.assertEqual(self.log.next_offset, 0)

    def test_truncation_fails_too(self) -> None:
        self.append(b"a")
        self.store.disk.pump()
        self.append(b"b")
        self.files.fail("pwritev", errno.EIO)
        self.files.fail("truncate", errno.EIO)
        self.store.disk.pump()
        with self.assertRaises(StorageError):
            self.append(b"c")
        self.assertEqual(self.values(), [b"a"])

    def test_failures_while_rolling(self) -> None:
        for call, code in (("pwritev", errno.ENOSPC), ("open", errno.EMFILE)):
            for skip in range(6):
                expected = self.values()
                acknowledged = self.log.durable_offset
                for at in range(30):
                    self.append(b"%d-%d" % (skip, at))
                self.files.fail(call, code, skip=skip)
                self.store.disk.pump()
                self.files.heal()
                failed = {offset for offset, _ in self.listener.failures}
                self.assertLessEqual(len(failed), 1)
                end = self.log.written_offset
                self.assertEqual(self.log.next_offset, end)
                self.assertEqual(self.log.durable_offset, end)
                if failed:
                    self.assertEqual(failed, {end})
                self.listener.failures.clear()
                more = [b"%d-%d" % (skip, at) for at in range(end - acknowledged)]
                self.assertEqual(self.values(), expected + more)
                self.assertEqual(self.log.size_bytes, sum(item.size for item in self.log.segments.items))
        self.crash()
        expected = self.values()
        self.start()
        self.assertEqual(self.values(), expected)
        self.assertEqual(self.log.damaged, [])

    def test_other_logs_go_on(self) -> None:
        listener = Listener()
        other = self.store.log(TOPIC, 1, SMALL, listener, Producers())
        self.append(b"a")
        data = batch(b"b")
        other.append(read_header(data, 0, len(data)), data, 0, None)
        self.files.fail("pwritev", errno.EIO, path="orders-0")
        self.store.disk.pump()
        self.assertEqual(len(self.listener.failures), 1)
        self.assertEqual(listener.progress[-1], (1, 1))

    def test_failed_sync(self) -> None:
        self.append(b"a")
        self.store.disk.pump()
        self.append(b"b")
        flushed = self.log.flush()
        self.files.fail("fdatasync", errno.EIO)
        self.store.disk.pump()
        self.failureResultOf(flushed, StorageError)
        self.assertEqual([offset for offset, _ in self.listener.failures], [1])
        self.assertEqual(self.listener.progress[0], (1, 1))
        with self.assertRaises(StorageError):
            self.append(b"c")
        self.assertEqual(self.values(), [b"a"])
        closed = self.store.close()
        self.store.disk.pump()
        self.failureResultOf(closed, StorageError)
        self.start()
        self.assertFalse(self.store.was_clean)
        self.assertEqual(self.values(), [b"a", b"b"])

    def test_failed_sync_while_closing(self) -> None:
        self.append(b"a")
        closed = self.store.close()
        self.files.fail("fdatasync", errno.EIO)
        self.store.disk.pump()
        self.failureResultOf(closed, StorageError)
        self.start()
        self.assertFalse(self.store.was_clean)

    def test_index_and_snapshot_files_are_not_needed(self) -> None:
        self.files.fail("rename", errno.EIO, times=100)
        for at in range(30):
            self.append(b"%d" % at)
        self.store.disk.pump()
        self.assertEqual(self.listener.progress[-1], (30, 30))
        self.assertEqual(len(self.values()), 30)

    def test_file_that_cannot_be_read(self) -> None:
        self.append(b"a")
        self.store.disk.pump()
        self.files.fail("pread", errno.EIO)
        with self.assertRaises(StorageError):
            self.log.read(0, 100, 100)
        self.assertEqual(self.values(), [b"a"])

    def test_listener_that_raises(self) -> None:
        self.listener.progressed = lambda *_: 1 / 0
        listener = Listener()
        other = self.store.log(TOPIC, 1, SMALL, listener, Producers())
        self.append(b"a")
        data = batch(b"b")
        other.append(read_header(data, 0, len(data)), data, 0, None)
        self.store.disk.pump()
        self.assertEqual(listener.progress, [(1, 1)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class GroupingTests(StorageCase):
    def test_one_write_and_one_sync(self) -> None:
        self.start_over(LogSettings())
        for at in range(100):
            self.append(b"%d" % at)
        self.store.disk.pump()
        self.assertEqual(self.files.calls["pwritev"], 1)
        self.assertEqual(self.store.disk.syncs, 1)
        self.assertEqual(self.listener.progress, [(100, 100)])

    def test_more_buffers_than_one_call_takes(self) -> None:
        self.start_over(LogSettings())
        for _ in range(2500):
            self.append(b"x")
        self.store.disk.pump()
        self.assertEqual(self.files.calls["pwritev"], 3)
        self.assertEqual(self.log.durable_offset, 2500)

    def test_a_turn_ends_though_appends_go_on(self) -> None:
        self.start_over(LogSettings())
        write = self.files.pwritev

        def write_and_append(fd, buffers, position):
            if self.log.next_offset < 50:
                self.append(b"more")
            return write(fd, buffers, position)

        self.files.pwritev = write_and_append
        self.append(b"first")
        disk = self.store.disk
        disk._turn(disk._take(block=False))
        disk.deliver()
        self.assertEqual(self.listener.progress, [(1, 1)])
        disk.pump()
        self.assertEqual(self.log.durable_offset, 50)

    def start_over(self, settings: LogSettings) -> None:
        self.log.settings = settings
        self.files.calls.clear()


class RetiredSegmentsTests(StorageCase):
    def test_one_that_could_not_be_removed_leaves_no_hole(self) -> None:
        """Its successors stay until it is gone: the start of the log follows from what is there."""
        for number in range(40):
            self.append(b"%d" % number * 20)
            self.store.disk.pump()
        bases = self.log.segments.bases[:]
        self.assertGreater(len(bases), 5)
        self.files.fail("open", errno.ENOSPC, times=1000, path="checkpoint")
        for failures, segments in ((1000, 1), (1000, 3)):
            self.files.fail("rename", errno.EIO, times=failures, path=f"{bases[0]:020}.log")
            self.log.advance_start(bases[segments])
            self.assertGreater(self.log.enforce_retention(0), 0)
            self.store.disk.pump()
        self.crash()
        self.start()
        self.assertEqual(self.log.start_offset, 0)
        self.assertEqual(len(self.values()), 40, "nothing behind what is left was removed")

        self.files.heal()
        self.log.advance_start(bases[3])
        self.files.fail("rename", errno.EIO, path=f"{bases[0]:020}.log")
        self.log.enforce_retention(0)
        self.store.disk.pump()
        self.assertIn(f"{bases[0]:020}.log", os.listdir(self.log.directory))
        self.assertEqual(self.log.enforce_retention(0), 0)
        self.store.disk.pump()
        left = sorted(name for name in os.listdir(self.log.directory) if name.endswith(".log"))
        self.assertEqual(left[0], f"{bases[3]:020}.log")


class OpenFilesTests(SynchronousTestCase):
    def test_bounded_and_kept_while_held(self) -> None:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        files = FaultyFiles()
        cache = OpenFiles(files, limit=3)
        segments = [Segment(cache, directory, at) for at in range(10)]
        held = cache.get(segments[0])
        for segment in segments:
            cache.get(segment)
            segment.touched = False
        self.assertEqual(len(cache), 3)
        self.assertEqual(sum(segment.file is not None for segment in segments), 3)
        os.fstat(held.fileno())
        fd = held.fileno()
        cache.drop(segments[0])
        del held
        with self.assertRaises(OSError):
            os.fstat(fd)

    def test_created_file_is_not_made_again(self) -> None:
        cache = OpenFiles(FaultyFiles())
        segment = Segment(cache, "/nonexistent", 0)
        segment.created = True
        with self.assertRaises(FileNotFoundError):
            cache.get(segment)


class FewFilesTests(StorageCase):
    def test_more_logs_than_files(self) -> None:
        self.crash()
        self.start(max_open_files=4)
        logs = [self.log] + [self.store.log(TOPIC, at, SMALL, Listener(), Producers()) for at in range(1, 20)]
        for at in range(40):
            for log in logs:
                data = batch(b"%d" % at)
                log.append(read_header(data, 0, len(data)), data, 0, None)
            self.store.disk.pump()
        for self.log in logs:
            self.assertEqual(self.values(), [b"%d" % at for at in range(40)])
        self.assertLessEqual(len(self.store._open_files), 4)

    def test_range_outlives_the_log(self) -> None:
        value = os.urandom(50_000)
        self.append(value)
        self.store.disk.pump()
        result = self.log.read(0, 1 << 20, 10)
        self.assertIsInstance(result.data, FileRange)
        self.store.delete(self.log.topic_partition)
        self.store.disk.pump()
        self.assertEqual(os.listdir(self.directory).count("orders-0"), 0)
        self.assertEqual(next(iter(read_records(content(result)))).value, value)


class ThreadedTests(SynchronousTestCase):
    """The real threads; the reactor is a queue drained here."""

    def test_progress_arrives_by_few_calls(self) -> None:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        calls: list = []
        arrived = threading.Semaphore(0)

        def call_from_thread(call) -> None:
            calls.append(call)
            arrived.release()

        store = LocalLogStore(directory, Clock(), call_from_thread)
        store.open()
        listener = Listener()
        log = store.log(TOPIC, 0, LogSettings(), listener, Producers())
        for _ in range(500):
            data = batch(b"x" * 100)
            log.append(read_header(data, 0, len(data)), data, 0, None)
        done: list = []
        log.flush().addCallback(done.append)

        def run_until(ready) -> None:
            while not ready():
                self.assertTrue(arrived.acquire(timeout=10))
                calls.pop(0)()

        run_until(lambda: done)
        self.assertEqual(listener.progress[-1], (500, 500))
        self.assertLess(len(listener.progress), 20)
        store.close().addCallback(done.append)
        run_until(lambda: len(done) == 2)
        names = [thread.name for thread in threading.enumerate()]
        self.assertFalse([name for name in names if name.startswith("megabroker")])
        self.assertIn(".kafka_cleanshutdown", os.listdir(directory))
