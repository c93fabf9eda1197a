"""One workload, failing at every single call it makes to the file system, one run for each.

The two durabilities share the calls between them: even ones here, odd ones there.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header, read_records
from megabroker.errors import BrokerError, StorageError
from megabroker.model import Durability, LogSettings
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

SETTINGS = LogSettings(segment_bytes=700, index_interval_bytes=100)
CALLS = ("open", "pwritev", "fdatasync", "truncate", "rename", "unlink", "sync_dir", "pread")


class Keeping(Listener):
    """Follows which record is at which offset, as a partition would."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: dict[int, bytes] = {}
        self.acknowledged: dict[int, bytes] = {}

    def progressed(self, written_offset: int, durable_offset: int) -> None:
        for offset in [offset for offset in self.pending if offset < durable_offset]:
            self.acknowledged[offset] = self.pending.pop(offset)

    def failed(self, from_offset: int, error: BrokerError) -> None:
        super().failed(from_offset, error)
        for offset in [offset for offset in self.pending if offset >= from_offset]:
            del self.pending[offset]


class FaultTests(SynchronousTestCase):
    def workload(self, files: FaultyFiles, directory: str, durability: Durability) -> Keeping:
        """Open, append in rounds, read, checkpoint, close; go on after each error."""
        keeping = Keeping()
        clock = Clock()
        clock.advance(1_700_000_000)
        store = LocalLogStore(
            directory, clock, lambda call: call(), durability, files=files, threaded=False, max_open_files=2
        )
        try:
            store.open()
            log = store.log(TOPIC, 0, SETTINGS, keeping, Producers())
            for turn in range(4):
                for at in range(4):
                    value = b"%d.%d" % (turn, at) + bytes(40)
                    data = batch(value)
                    try:
                        offset = log.append(read_header(data, 0, len(data)), data, turn // 2, None)
                    except StorageError:
                        continue
                    keeping.pending[offset] = value
                store.disk.pump()
                try:
                    log.read(log.start_offset, 300, 1 << 60)
                    log.offset_for_time(1000)
                except StorageError:
                    pass
                if turn == 2:
                    store.checkpoint().addErrback(lambda failure: failure.trap(StorageError))
                    store.disk.pump()
            store.close().addErrback(lambda failure: failure.trap(StorageError))
            store.disk.pump()
        except StorageError:
            pass
        finally:
            store._directories.release()
            store._open_files.close()
        return keeping

    def verify(self, directory: str, keeping: Keeping, what: str) -> None:
        store = LocalLogStore(directory, Clock(), lambda call: call(), Durability.OS, threaded=False)
        store.open()
        log = store.log(TOPIC, 0, SETTINGS, Listener(), Producers())
        self.assertEqual(log.damaged, [], what)
        found = {}
        offset = log.start_offset
        while offset < log.written_offset:
            for record in read_records(content(log.read(offset, 1 << 20, 1 << 60)), offset):
                found[record.offset] = record.value
                offset = record.offset + 1
        for offset, value in keeping.acknowledged.items():
            self.assertEqual(found.get(offset), value, what)
        data = batch(b"after")
        self.assertEqual(log.append(read_header(data, 0, len(data)), data, 1, None), len(found), what)
        store.disk.pump()
        self.assertEqual(log.durable_offset, len(found) + 1, what)
        store._directories.release()

    def sweep(self, durability: Durability, code: int, first: int) -> None:
        probe = FaultyFiles(real_sync=False)
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        keeping = self.workload(probe, f"{directory}/probe", durability)
        self.assertEqual(len(keeping.acknowledged), 16)
        failed = 0
        for call in CALLS:
            for skip in range(first, probe.calls.get(call, 0), 2):
                files = FaultyFiles(real_sync=False)
                files.fail(call, code, skip=skip)
                path = f"{directory}/{call}-{skip}"
                what = f"{call} number {skip}, {durability}"
                keeping = self.workload(files, path, durability)
                self.assertLessEqual(len(keeping.pending), 0, what)
                self.verify(path, keeping, what)
                failed += len(keeping.failures)
                self.assertIn("orders-0", os.listdir(path))
        self.assertGreater(failed, 5)
        self.flushLoggedErrors()

    def test_fsync_io_error(self) -> None:
        self.sweep(Durability.FSYNC, errno.EIO, 0)

    def test_os_full_disk(self) -> None:
        self.sweep(Durability.OS, errno.ENOSPC, 1)
