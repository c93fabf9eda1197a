"""A compaction that ends at every single call it makes to the file system, and one in which that call fails.

Whatever was acknowledged is there afterwards: each key's newest record, at its offset, and the log goes on
where it ended.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header, records, scan
from megabroker.core.producers import ProducerTable
from megabroker.model import Durability, LogSettings, TransactionMarker
from megabroker.storage.cleaner import CleanerSettings
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.log import LocalLog
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, content

SETTINGS = LogSettings(
    segment_bytes=1200,
    index_interval_bytes=100,
    retention_ms=-1,
    compact=True,
    delete_retention_ms=0,
    min_cleanable_dirty_ratio=0.0,
)
Rows = dict[int, tuple[bytes | None, bytes | None]]


class CrashTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.stored: Rows = {}
        self.newest: dict[bytes | None, int] = {}
        store, log = self.open(f"{self.root}/original", FaultyFiles(real_sync=False))
        log.settings = attrs.evolve(SETTINGS, segment_bytes=400)
        for at in range(24):
            self.append(log, *((b"k%d" % (at * 3 % 7), b"%d" % at + bytes(30)), (b"once %d" % at, b"x")))
            if at == 10:
                self.aborted(log)
            store.disk.pump()
        closed = store.close()
        store.disk.pump()
        self.successResultOf(closed)

    def open(self, directory: str, files: FaultyFiles) -> tuple[LocalLogStore, LocalLog]:
        store = LocalLogStore(
            directory,
            self.clock,
            lambda call: call(),
            Durability.FSYNC,
            files=files,
            threaded=False,
            max_open_files=2,
            cleaner=CleanerSettings(interval_ms=1),
        )
        store.open()
        self.producers = ProducerTable()
        return store, store.log(TOPIC, 0, SETTINGS, Listener(), self.producers)

    def append(self, log: LocalLog, *rows: tuple[bytes, bytes | None], **fields: int) -> int:
        data = build([(key, value, (), 1_700_000_000_000) for key, value in rows], **fields)
        header = read_header(data, 0, len(data))
        base = log.append(header, data, 0, None)
        if fields:
            self.producers.accepted(header, base, 0)
            return base
        for at, row in enumerate(rows, base):
            self.stored[at] = row
            self.newest[row[0]] = at
        return base

    def aborted(self, log: LocalLog) -> None:
        self.append(log, (b"k1", b"aborted"), producer_id=9, producer_epoch=0, base_sequence=0, attributes=16)
        marker = TransactionMarker(9, 0, False, 0)
        offset = log.append_marker(marker, 0, 0, *self.producers.check_marker(marker))
        self.producers.ended(marker, offset, 0)

    def read(self, log: LocalLog) -> Rows:
        found: Rows = {}
        offset = log.start_offset
        while offset < log.written_offset:
            data = content(log.read(offset, 400, 1 << 60))
            for pos, header in scan(data, 0, len(data)):
                if not header.is_transactional:
                    found.update((one.offset, (one.key, one.value)) for one in records(data, header, pos))
                offset = max(offset, header.next_offset)
        return found

    def verify(self, log: LocalLog, what: str, *, clean: bool = False) -> None:
        self.assertEqual(log.damaged, [], what)
        found = self.read(log)
        for offset, row in found.items():
            self.assertEqual(row, self.stored[offset], what)
        for key, offset in self.newest.items():
            self.assertIn(offset, found, f"{what}: {key!r}")
        if clean:
            below = [key for offset, (key, _) in found.items() if offset < log.compaction.cleaned_offset]
            self.assertEqual(len(below), len(set(below)), what)

    def copy(self, name: str) -> str:
        shutil.copytree(f"{self.root}/original", f"{self.root}/{name}")
        return f"{self.root}/{name}"

    def calls(self) -> int:
        files = FaultyFiles(real_sync=False)
        store, log = self.open(self.copy("probe"), files)
        before = files.changes
        self.assertEqual(store.cleaner.run_once(), 1)
        store.disk.pump()
        self.verify(log, "nothing failed", clean=True)
        self.assertLess(len(self.read(log)), len(self.stored))
        store._directories.release()
        return files.changes - before

    def test_end_at_every_call(self) -> None:
        calls = self.calls()
        self.assertGreater(calls, 30)
        for number in range(calls):
            what = f"ended after {number} of {calls} calls"
            path = self.copy("crash")
            files = FaultyFiles(real_sync=False)
            store, log = self.open(path, files)
            end = log.next_offset
            files.end_after(number)
            store.cleaner.run_once()
            store.disk.pump()
            store._directories.release()
            store._open_files.close()
            store, log = self.open(path, FaultyFiles(real_sync=False))
            self.verify(log, what)
            self.assertEqual(log.next_offset, end, what)
            store.cleaner.run_once()
            store.disk.pump()
            self.verify(log, f"{what}, cleaned again", clean=True)
            names = os.listdir(f"{path}/orders-0")
            self.assertEqual([name for name in names if name.count(".") > 1], [], what)
            store._directories.release()
            store._open_files.close()
            shutil.rmtree(path)
        self.flushLoggedErrors()

    def test_failure_of_every_call(self) -> None:
        calls = self.calls()
        for number in range(calls):
            what = f"call {number} of {calls} failed"
            path = self.copy("fault")
            files = FaultyFiles(real_sync=False)
            store, log = self.open(path, files)
            files.end_after(number)
            files.recover_after(1)
            store.cleaner.run_once()
            store.disk.pump()
            files.heal()
            self.verify(log, what)
            self.clock.advance(10)
            store.cleaner.run_once()
            store.disk.pump()
            self.verify(log, f"{what}, cleaned again", clean=True)
            self.append(log, (b"k1", b"after"))
            store.disk.pump()
            self.assertEqual(log.durable_offset, log.next_offset)
            store._directories.release()
            store._open_files.close()
            store, log = self.open(path, FaultyFiles(real_sync=False))
            self.verify(log, f"{what}, opened again")
            self.stored.popitem()
            self.newest[b"k1"] = max(at for at, (key, _) in self.stored.items() if key == b"k1")
            store._directories.release()
            store._open_files.close()
            shutil.rmtree(path)
        self.flushLoggedErrors()

    def test_a_full_disk(self) -> None:
        files = FaultyFiles(real_sync=False)
        store, log = self.open(self.copy("full"), files)
        files.fail("pwritev", errno.ENOSPC, path=".cleaned")
        self.assertEqual(store.cleaner.run_once(), 0)
        self.verify(log, "full")
        self.assertEqual(store.cleaner.run_once(), 0, "not again at once")
        self.clock.advance(1)
        self.assertEqual(store.cleaner.run_once(), 1)
        store.disk.pump()
        self.verify(log, "full", clean=True)
        store._directories.release()
