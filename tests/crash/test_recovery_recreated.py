"""A topic deleted and made anew: nothing written down about the old log is believed of the new one."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header, read_records
from megabroker.errors import StorageError
from megabroker.model import Durability, LogSettings, Topic, TopicPartition
from megabroker.storage.checkpoints import decode_offsets
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.files import Files
from megabroker.storage.log import LocalLog
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

AGAIN = Topic("orders", UUID(int=8), 1)
NAME = TopicPartition("orders", 0)
SETTINGS = LogSettings(segment_bytes=700, index_interval_bytes=100)
CHECKPOINTS = ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint")


class DyingFiles(FaultyFiles):
    """Changes nothing any more after ``lives`` changes: what is there then is what kill -9 leaves."""

    def __init__(self, lives: float) -> None:
        super().__init__(real_sync=False)
        self.lives = lives

    def _change(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise OSError(errno.EIO, "dead")

    def open(self, path: str, *, create: bool) -> int:
        if create:
            self._change()
        return super().open(path, create=create)

    def pwritev(self, fd: int, buffers, position: int) -> int:
        self._change()
        return super().pwritev(fd, buffers, position)

    def truncate(self, fd: int, length: int) -> None:
        self._change()
        super().truncate(fd, length)

    def rename(self, old: str, new: str) -> None:
        self._change()
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self._change()
        super().unlink(path)

    def mkdir(self, path: str) -> bool:
        if not os.path.isdir(path):
            self._change()
        return super().mkdir(path)

    def rmtree(self, path: str) -> None:
        self._change()
        super().rmtree(path)


class RecreatedCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)

    def store(self, durability: Durability, files: Files | None = None) -> LocalLogStore:
        store = LocalLogStore(
            self.directory,
            Clock(),
            lambda call: call(),
            durability,
            files=files or FaultyFiles(real_sync=False),
            threaded=False,
        )
        store.open()
        self.addCleanup(store._directories.release)
        return store

    def open_log(self, store: LocalLogStore, topic: Topic) -> LocalLog:
        self.listener = Listener()
        return store.log(topic, 0, SETTINGS, self.listener, Producers())

    def append(self, store: LocalLogStore, log: LocalLog, values: list[bytes]) -> int:
        """Append and return up to which offset it was acknowledged."""
        for value in values:
            data = batch(value)
            log.append(read_header(data, 0, len(data)), data, 0, None)
        store.disk.pump()
        return self.listener.progress[-1][1] if self.listener.progress else 0

    def crash(self, store: LocalLogStore) -> None:
        store._directories.release()
        store._open_files.close()

    def old_log(self, durability: Durability) -> None:
        """Leave a log from 8 to 20 and checkpoints that say so, as after a crash."""
        store = self.store(durability)
        log = self.open_log(store, TOPIC)
        self.append(store, log, [b"old %d" % at for at in range(20)])
        log.advance_start(8)
        log.enforce_retention(0)
        store.checkpoint()
        store.disk.pump()
        for name in CHECKPOINTS:
            with open(f"{self.directory}/{name}", "rb") as file:
                self.assertIn(NAME, decode_offsets(file.read()) or {})
        self.crash(store)

    def check(self, durability: Durability, values: list[bytes], acknowledged: int, what: object) -> None:
        """Open again: what was acknowledged is there from offset 0 on, and the log goes on after it."""
        store = self.store(durability)
        log = self.open_log(store, AGAIN)
        self.assertEqual((log.start_offset, log.damaged), (0, []), what)
        self.assertGreaterEqual(log.next_offset, acknowledged, what)
        found: list[bytes] = []
        while len(found) < log.next_offset:
            part = list(read_records(content(log.read(len(found), 1 << 20, 1 << 60)), len(found)))
            self.assertEqual(part[0].offset, len(found), what)
            found += [record.value for record in part]
        self.assertEqual(found, values[: len(found)], what)
        self.crash(store)

    def sweep(self, durability: Durability) -> None:
        values = [b"new %d" % at for at in range(3)]
        lives, finished = 0, False
        while not finished:
            self.old_log(durability)
            files = DyingFiles(lives)
            acknowledged = 0
            store = LocalLogStore(
                self.directory, Clock(), lambda call: call(), durability, files=files, threaded=False
            )
            try:
                store.open()
                self.open_log(store, TOPIC)
                store.delete(NAME).addErrback(lambda failure: failure.trap(StorageError))
                store.disk.pump()
                log = self.open_log(store, AGAIN)
                acknowledged = self.append(store, log, values)
                finished = files.lives >= 0
            except StorageError:
                pass
            self.crash(store)
            if not acknowledged:
                store = self.store(durability)
                if dict(store.partitions()).get(NAME) == TOPIC.id:
                    store.delete(NAME)
                    store.disk.pump()
                acknowledged = self.append(store, self.open_log(store, AGAIN), values)
                self.assertEqual(acknowledged, store._logs[NAME].next_offset)
                self.crash(store)
            self.check(durability, values, acknowledged, lives)
            shutil.rmtree(f"{self.directory}/orders-0")
            lives += 1
        self.assertGreater(lives, 15)


class RecreatedTests(RecreatedCase):
    def test_killed_at_every_change_fsync(self) -> None:
        self.sweep(Durability.FSYNC)

    def test_killed_at_every_change_os(self) -> None:
        self.sweep(Durability.OS)

    def recreate_after(self, durability: Durability, between: Callable[[LocalLogStore], None]) -> None:
        self.old_log(durability)
        files = FaultyFiles(real_sync=False)
        store = self.store(durability, files)
        self.open_log(store, TOPIC)
        files.fail("rename", errno.ENOSPC, path="checkpoint", times=100)
        deleted = store.delete(NAME)
        store.disk.pump()
        self.successResultOf(deleted)
        with self.assertRaises(StorageError):
            self.open_log(store, AGAIN)
        self.assertNotIn("orders-0", os.listdir(self.directory))
        files.heal()
        between(store)
        log = self.open_log(store, AGAIN)
        self.assertEqual(self.append(store, log, [b"new"]), 1)
        self.crash(store)
        self.check(durability, [b"new"], 1, durability)

    def test_checkpoints_that_cannot_be_written(self) -> None:
        self.recreate_after(Durability.OS, lambda store: None)

    def test_checkpoint_in_between(self) -> None:
        def checkpoint(store: LocalLogStore) -> None:
            store.checkpoint()
            store.disk.pump()

        self.recreate_after(Durability.FSYNC, checkpoint)

    def test_directory_removed_by_hand(self) -> None:
        self.old_log(Durability.FSYNC)
        shutil.rmtree(f"{self.directory}/orders-0")
        store = self.store(Durability.FSYNC)
        self.assertEqual(self.append(store, self.open_log(store, AGAIN), [b"new"]), 1)
        self.crash(store)
        self.check(Durability.FSYNC, [b"new"], 1, "")

    def test_many_deleted_together_are_written_down_once(self) -> None:
        files = FaultyFiles(real_sync=False)
        store = self.store(Durability.FSYNC, files)
        for partition in range(20):
            store.log(TOPIC, partition, SETTINGS, Listener(), Producers())
        store.checkpoint()
        store.disk.pump()
        files.calls.clear()
        for partition in range(20):
            store.delete(TopicPartition("orders", partition))
        store.disk.pump()
        self.assertEqual(files.calls["rename"], 20 + len(CHECKPOINTS))
