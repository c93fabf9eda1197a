"""The power fails at every change that logs with a journal make: what was acknowledged stays."""

from __future__ import annotations

import os
import shutil
import tempfile
from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header, read_records
from megabroker.errors import BrokerError, StorageError
from megabroker.model import Durability, LogSettings, Topic, TopicPartition
from megabroker.storage import syncs
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.files import Files
from megabroker.storage.journal import JOURNAL, Journal
from megabroker.storage.log import LocalLog
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import Listener, Producers, batch, content
from tests.crash.power import PowerFiles

SETTINGS = LogSettings(segment_bytes=6000, index_interval_bytes=100)
HALF_BYTES = 5 * 4096
LOGS = 4
TURNS = 24
TOPIC = Topic("orders", UUID(int=1), LOGS)
AGAIN = Topic("orders", UUID(int=2), LOGS)


class Acknowledged(Listener):
    """Which record is at which offset, once that is on the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: dict[int, bytes] = {}
        self.durable: dict[int, bytes] = {}

    def progressed(self, written_offset: int, durable_offset: int) -> None:
        for offset in [offset for offset in self.pending if offset < durable_offset]:
            self.durable[offset] = self.pending.pop(offset)

    def failed(self, from_offset: int, error: BrokerError) -> None:
        super().failed(from_offset, error)
        for offset in [offset for offset in self.pending if offset >= from_offset]:
            del self.pending[offset]


class Life:
    """A broker's logs from a start to the failure of the power."""

    def __init__(self, directory: str, files: Files) -> None:
        self.topics = dict.fromkeys(range(LOGS), TOPIC)
        self.logs: dict[int, LocalLog] = {}
        self.told: dict[int, Acknowledged] = {}
        self.starts = [0] * LOGS
        self.refused = 0
        clock = Clock()
        clock.advance(1_700_000_000)
        self.store = LocalLogStore(
            directory, clock, lambda call: call(), Durability.FSYNC, files=files, threaded=False
        )
        assert self.store._journal is not None
        self.journal = Journal(files, self.store._journal.path, HALF_BYTES)
        self.store.disk.syncing.journal = self.store._journal = self.journal

    def open(self, partition: int) -> None:
        self.told[partition] = told = Acknowledged()
        self.logs[partition] = self.store.log(self.topics[partition], partition, SETTINGS, told, Producers())

    def append(self, partition: int, value: bytes) -> None:
        data = batch(value)
        try:
            offset = self.logs[partition].append(read_header(data, 0, len(data)), data, 0, None)
        except StorageError:
            self.refused += 1
        else:
            self.told[partition].pending[offset] = value

    def round(self, turn: int) -> None:
        for partition in self.logs:
            if (turn + partition) % 5:
                for at in range(1 + (turn + partition) % 3):
                    value = b"%s %d %d %d " % (self.topics[partition].id.hex.encode(), partition, turn, at)
                    self.append(partition, value + b"." * (turn * 37 % 130))
        self.store.disk.pump()

    def trim(self, partition: int) -> None:
        log = self.logs[partition]
        self.starts[partition] = log.durable_offset - 3
        log.advance_start(log.durable_offset - 3)
        log.enforce_retention(0)

    def recreate(self, partition: int) -> None:
        """Delete a log and make one of another topic of that name."""
        del self.logs[partition]
        self.told[partition] = Acknowledged()
        self.store.delete(TopicPartition("orders", partition)).addErrback(lambda failure: None)
        self.store.disk.pump()
        self.topics[partition] = AGAIN
        self.open(partition)

    def run(self, turns: int = TURNS, *, close: bool = True) -> None:
        """Go on until the power fails, or to an orderly end."""
        try:
            self.store.open()
            for partition in range(LOGS):
                self.open(partition)
            for turn in range(turns):
                self.round(turn)
                if turn == 8:
                    self.trim(1)
                elif turn == 10:
                    self.store.checkpoint().addErrback(lambda failure: None)
                    self.store.disk.pump()
                elif turn == 13:
                    self.recreate(3)
            if close:
                self.store.close().addErrback(lambda failure: None)
                self.store.disk.pump()
        except (StorageError, OSError):
            pass
        finally:
            self.journal.close()
            self.store._open_files.close()
            self.store._directories.release()


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(syncs, "_WORTH_A_JOURNAL", 1)
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.root = f"{self.directory}/data"

    def verify(self, life: Life, what: object) -> None:
        """Open again: what was acknowledged is there, what is there was sent, and the logs go on."""
        store = LocalLogStore(
            self.root,
            Clock(),
            lambda call: call(),
            Durability.FSYNC,
            files=FaultyFiles(real_sync=False),
            threaded=False,
        )
        store.open()
        self.assertEqual([name for name in os.listdir(self.root) if name.startswith(JOURNAL)], [], what)
        there = dict(store.partitions())
        for partition, told in life.told.items():
            topic = life.topics[partition]
            if there.get(TopicPartition("orders", partition), topic.id) != topic.id:
                self.assertEqual(told.durable, {}, what)  # the deletion has not come to the disk
                continue
            log = store.log(topic, partition, SETTINGS, Listener(), Producers())
            for damage in log.damaged:  # writes that nobody was told of need not arrive in order
                self.assertGreater(damage.from_offset, max(told.durable, default=-1), what)
            found: dict[int, bytes | None] = {}
            offset = log.start_offset
            while offset < log.written_offset:
                for record in read_records(content(log.read(offset, 1 << 20, 1 << 60)), offset):
                    found[record.offset] = record.value
                    offset = record.offset + 1
            self.assertLessEqual(log.start_offset, max(told.durable, default=0), what)
            for offset, value in told.durable.items():
                if offset >= life.starts[partition]:
                    self.assertEqual(found.get(offset), value, (what, partition, offset))
            begins = b"%s %d " % (topic.id.hex.encode(), partition)
            self.assertTrue(all(value is not None and value.startswith(begins) for value in found.values()))
            data = batch(b"after")
            self.assertGreater(
                log.append(read_header(data, 0, len(data)), data, 0, None), max(found, default=-1)
            )
        store.disk.pump()
        store._open_files.close()
        store._directories.release()


class PowerTests(JournalCase):
    def live(
        self, changes: float, skipped: tuple[str, ...] = (), turns: int = TURNS
    ) -> tuple[Life, PowerFiles]:
        shutil.rmtree(self.root, ignore_errors=True)
        os.mkdir(self.root)
        files = PowerFiles(self.root, changes)
        files.skipped_syncs = skipped
        life = Life(self.root, files)
        life.run(turns, close=turns == TURNS)
        return life, files

    def test_at_every_change(self) -> None:
        life, files = self.live(float("inf"))
        self.assertFalse(life.refused)
        self.assertGreaterEqual(life.journal._halves[0].generation, 5)
        files.lose_power(0)
        self.verify(life, "after an orderly end")
        journaled = 0
        for at in range(0, files.changes, 7):
            life, lossy = self.live(at)
            journaled += life.journal.is_there
            lossy.lose_power(at)
            self.verify(life, at)
        self.assertGreater(journaled, files.changes // 16)
        self.flushLoggedErrors()

    def test_power_fails_again_while_replaying(self) -> None:
        for at in range(24):
            life, files = self.live(float("inf"), turns=18)
            files.lose_power(at)
            again = PowerFiles(self.root, at)
            store = LocalLogStore(
                self.root, Clock(), lambda call: call(), Durability.FSYNC, files=again, threaded=False
            )
            try:
                store.open()
            except StorageError:
                pass
            store._directories.release()
            again.lose_power(at)
            self.verify(life, at)

    def test_a_journal_that_is_not_synced_loses_something(self) -> None:
        """The power failure of these tests is one that syncs protect from."""
        lost = 0
        for seed in range(16):
            life, files = self.live(float("inf"), skipped=(JOURNAL,), turns=15 + seed % 8)
            files.lose_power(seed)
            try:
                self.verify(life, seed)
            except (self.failureException, StorageError):
                lost += 1
        self.assertGreater(lost, 2)
        self.flushLoggedErrors()
