"""Storage when two threads meet at the worst moment, when a report fails, and when descriptors run out."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header
from megabroker.model import Durability, LogSettings
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.files import Files, OpenFiles
from megabroker.storage.segment import Segment
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch
from tests.unit.test_storage_disk import StorageCase


class HookedFiles(FaultyFiles):
    """Does something just before one call, and notes what size each file was synced at."""

    def __init__(self) -> None:
        super().__init__(real_sync=False)
        self.before: dict[str, Callable[[str], None]] = {}
        self.synced: dict[str, int] = {}

    def _check(self, call: str, path: str) -> None:
        if path.endswith(".log") and call in self.before:
            self.before.pop(call)(path)
        super()._check(call, path)

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        self.synced[self._path(fd)] = self.size(fd)


class RaceCase(StorageCase):
    def start(self, *args, **options) -> None:
        self.files = HookedFiles()
        super().start(*args, **options)

    def fill(self, count: int) -> None:
        for at in range(count):
            self.append(b"%d" % at)
        self.store.disk.pump()


class DirtyTests(RaceCase):
    durability = Durability.OS

    def test_sync_just_before_a_write(self) -> None:
        self.append(b"first")
        self.store.disk.pump()
        self.append(b"second")
        self.files.before["pwritev"] = lambda _: self.store.disk.syncing.sync(
            self.log, self.log.written_offset
        )
        self.store.disk.pump()
        closed = self.store.close()
        self.store.disk.pump()
        self.successResultOf(closed)
        path = self.log.active.path()
        self.assertEqual(self.files.synced[path], os.path.getsize(path))

    def test_sync_just_before_a_write_that_is_cut_short(self) -> None:
        self.fill(1)
        size = self.log.active.size
        self.append(b"0")
        self.append(b"0")
        write = self.files.pwritev

        def short(fd, buffers, position):
            if position == size:
                self.store.disk.syncing.sync(self.log, self.log.written_offset)
                self.files.fail("pwritev", errno.EIO)
                return Files.pwritev(self.files, fd, buffers[:1], position)
            return write(fd, buffers, position)

        self.files.pwritev = short
        self.store.disk.pump()
        self.assertEqual(self.log.written_offset, 2)
        self.store.checkpoint()
        self.store.disk.pump()
        self.assertEqual(self.files.synced[self.log.active.path()], 2 * size)
        self.assertEqual(self.log.recovery_point, 2)

    def test_nothing_left_to_take(self) -> None:
        class Emptied(dict):
            """Another thread takes what there is just after it was looked at."""

            def __len__(self) -> int:
                found = super().__len__()
                self.clear()
                return found

        self.fill(1)
        self.log.dirty = Emptied(self.log.dirty)
        self.assertTrue(self.store.disk.syncing.sync(self.log, 1))

    def test_deleted_just_before_its_sync(self) -> None:
        self.crash()
        self.start(max_open_files=1)
        self.fill(40)
        first = self.log.segments.items[0]
        self.assertIsNone(first.file)

        def delete(path: str) -> None:
            for segment in self.log.segments.items:
                if segment.path() == path:
                    self.store._open_files.drop(segment)
            os.unlink(path)

        self.files.before["open"] = delete
        self.store.checkpoint()
        self.store.disk.pump()
        self.assertNotIn("open", self.files.before)
        self.assertIsNone(self.log.refusal)
        self.assertEqual(self.log.recovery_point, 40)


class ReportTests(RaceCase):
    def test_one_that_fails_holds_up_no_other(self) -> None:
        self.append(b"a")
        disk = self.store.disk
        disk._turn(disk._take(block=False))
        disk._done.insert(1, lambda _: 1 / 0)
        disk.deliver()
        self.assertEqual(self.listener.progress[-1], (1, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def damage_met_while_taking_back(self, damage: Callable[[], None]) -> None:
        other = Listener()
        log = self.store.log(TOPIC, 1, LogSettings(), other, Producers())
        self.append(b"lost")
        damage()
        data = batch(b"b")
        log.append(read_header(data, 0, len(data)), data, 0, None)
        self.files.fail("fdatasync", errno.EIO, path="orders-0")
        self.store.disk.pump()
        self.assertEqual([offset for offset, _ in self.listener.failures], [self.log.durable_offset])
        self.assertEqual(other.progress[-1], (1, 1))
        self.assertEqual(len(self.log.damaged), 1)
        self.assertEqual(self.log.size_bytes, sum(item.size for item in self.log.segments.items))

    def test_damaged_batch_before_those_taken_back(self) -> None:
        self.log.settings = LogSettings(index_interval_bytes=100)
        while not self.log.active.index.positions or (
            self.log.active.unindexed + len(batch(b"lost")) <= 100 + len(batch(b"lost"))
        ):
            self.append(b"kept")
        self.store.disk.pump()
        active = self.log.active
        position = active.size - len(batch(b"kept"))

        def damage() -> None:
            with open(active.path(), "r+b") as file:
                file.seek(position + 16)
                file.write(b"\xff")

        self.damage_met_while_taking_back(damage)

    def test_file_cut_short_from_outside(self) -> None:
        self.log.settings = LogSettings()
        self.fill(3)
        active = self.log.active
        self.files.before["fdatasync"] = lambda path: os.truncate(path, 100) if "-0/" in path else None
        self.damage_met_while_taking_back(lambda: None)
        self.assertEqual(active.index.positions.tolist(), [])


class ReactivatedTests(RaceCase):
    """The sync of a sealed segment fails: it is the last one again, and its index is not to be forgotten."""

    def reactivate(self, *, saved_first: bool) -> None:
        self.fill(80)
        disk = self.store.disk
        full = self.log.active
        while self.log.active is full:
            self.append(b"more")
            disk.pump()
        sealed = self.log.active
        while self.log.active is sealed:
            self.append(b"more")
        self.files.fail("fdatasync", errno.EIO, path=".log")
        disk._turn(disk._take(block=False))
        while not disk._chores.empty():
            disk._do_chore(*disk._chores.get())
        if saved_first:
            disk._done.rotate(1)
        disk.pump()
        self.assertEqual(len(self.listener.failures), 1)
        self.assertIs(self.log.active, sealed)
        for segment in self.log.segments.items[:-1]:
            self.log.segments.index_of(segment)
        self.assertIsNotNone(sealed.index)

    def test_before_its_index_is_saved(self) -> None:
        self.reactivate(saved_first=False)

    def test_after_its_index_was_saved(self) -> None:
        self.reactivate(saved_first=True)


class CacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.files = FaultyFiles()

    def test_a_file_in_use_is_not_opened_again(self) -> None:
        cache = OpenFiles(self.files, limit=3)
        hot = Segment(cache, self.directory, 0)
        cache.get(hot)
        for at in range(1, 20):
            hot.read(0, 1)
            cache.get(Segment(cache, self.directory, at))
        self.assertEqual(self.files.calls["open"], 20)
        self.assertIsNotNone(hot.file)

    def test_going_round_a_few_more_than_may_be_open_finds_most_of_them(self) -> None:
        cache = OpenFiles(self.files, limit=90)
        segments = [Segment(cache, self.directory, at) for at in range(100)]
        for _ in range(20):
            for segment in segments:
                cache.get(segment)
        self.assertEqual(len(cache), 90)
        self.assertEqual(sum(segment.file is not None for segment in segments), 90)
        # 10 each time round could not be had for less; all 100 are what taking the oldest would cost.
        self.assertLess(self.files.calls["open"], 1000)

    def test_dropped_is_never_kept_again(self) -> None:
        cache = OpenFiles(self.files)
        segment = Segment(cache, self.directory, 0)
        cache.get(segment)
        other = Segment(cache, self.directory, 1)
        cache.get(other)
        cache.drop(segment)
        file = cache.get(segment)
        descriptor = file.fileno()
        os.fstat(descriptor)
        self.assertEqual((len(cache), segment.file), (1, None))
        self.assertIsNotNone(other.file)
        del file
        with self.assertRaises(OSError):
            os.fstat(descriptor)

    def test_without_any_file_to_let_go_of(self) -> None:
        cache = OpenFiles(self.files)
        self.files.fail("open", errno.EMFILE, times=2)
        with self.assertRaises(OSError):
            cache.get(Segment(cache, self.directory, 0))

    def test_no_other_failure_costs_a_file(self) -> None:
        cache = OpenFiles(self.files)
        cache.get(Segment(cache, self.directory, 0))
        self.files.fail("open", errno.ENOSPC)
        with self.assertRaises(OSError):
            cache.get(Segment(cache, self.directory, 1))
        self.assertEqual(len(cache), 1)


class DescriptorTests(StorageCase):
    def test_none_left_but_those_of_the_cache(self) -> None:
        logs = [self.store.log(TOPIC, at, LogSettings(), Listener(), Producers()) for at in range(1, 9)]

        def append_to(log) -> None:
            data = batch(b"x")
            log.append(read_header(data, 0, len(data)), data, 0, None)
            self.store.disk.pump()

        for log in logs:
            append_to(log)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        try:
            highest = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, highest + 50), hard))
            while True:
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            self.append(b"one")
            self.store.disk.pump()
            self.append(b"two")
            self.store.disk.pump()
            for log in logs:
                append_to(log)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken:
                os.close(descriptor)
        self.assertEqual(self.listener.failures, [])
        self.assertEqual(self.values(), [b"one", b"two"])
        self.assertEqual([log.durable_offset for log in logs], [2] * 8)
