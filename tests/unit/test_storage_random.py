"""Random lives of one log against a list: appends, failures, crashes, clean closes, retention, reads."""

from __future__ import annotations

import errno
import random
import shutil
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header, read_records, scan
from megabroker.errors import StorageError
from megabroker.model import Durability, LogSettings
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content


class Life:
    """One log and what it should hold: offset -> (batch base, value, timestamp)."""

    def __init__(self, case: SynchronousTestCase, seed: int, durability: Durability) -> None:
        self.case = case
        self.dice = random.Random(seed)
        self.directory = tempfile.mkdtemp()
        case.addCleanup(shutil.rmtree, self.directory)
        self.durability = durability
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.model: dict[int, tuple[int, bytes, int]] = {}
        self.start = 0
        self.open()

    def open(self) -> None:
        self.files = FaultyFiles(real_sync=False)
        self.store = LocalLogStore(
            self.directory,
            self.clock,
            lambda call: call(),
            self.durability,
            files=self.files,
            threaded=False,
            max_open_files=3,
        )
        self.store.open()
        self.settings = LogSettings(
            segment_bytes=self.dice.choice((300, 1000, 5000)),
            index_interval_bytes=self.dice.choice((0, 100, 1000)),
            retention_bytes=self.dice.choice((-1, 2000)),
            retention_ms=-1,
        )
        self.log = self.store.log(TOPIC, 0, self.settings, Listener(), Producers())

    def append(self) -> None:
        for _ in range(self.dice.randrange(1, 12)):
            values = [self.dice.randbytes(self.dice.randrange(60)) for _ in range(self.dice.randrange(1, 4))]
            timestamp = self.dice.randrange(1, 10_000)
            data = batch(*values, timestamp=timestamp)
            base = self.log.append(read_header(data, 0, len(data)), data, 0, None)
            for at, value in enumerate(values):
                self.model[base + at] = (base, value, timestamp)
        if self.dice.random() < 0.8:
            self.store.disk.pump()

    def fail(self) -> None:
        self.store.disk.pump()
        self.files.fail("pwritev", errno.ENOSPC, skip=self.dice.randrange(3), path=".log")
        if self.dice.random() < 0.5:
            self.files.short_write_bytes = self.dice.randrange(1, 400)
        self.append()
        self.store.disk.pump()
        self.files.heal()
        self.forget(self.log.next_offset)

    def forget(self, end: int) -> None:
        self.model = {offset: row for offset, row in self.model.items() if offset < end}

    def crash(self) -> None:
        written = self.log.written_offset
        self.store._directories.release()
        self.store._open_files.close()
        self.forget(written)
        self.open()
        self.case.assertEqual(self.log.next_offset, written)
        self.case.assertEqual(self.log.damaged, [])

    def close(self) -> None:
        closed = self.store.close()
        self.store.disk.pump()
        self.case.successResultOf(closed)
        self.open()
        self.case.assertTrue(self.store.was_clean)

    def retain(self) -> None:
        self.log.enforce_retention(0)
        if self.dice.random() < 0.3 and self.log.written_offset > self.log.start_offset:
            self.log.advance_start(self.dice.randrange(self.log.start_offset, self.log.written_offset))
        self.store.disk.pump()

    def checkpoint(self) -> None:
        self.store.checkpoint()
        self.store.disk.pump()

    def check(self) -> None:
        case, log = self.case, self.log
        start, end = log.start_offset, log.written_offset
        found: dict[int, bytes] = {}
        offset = start
        while offset < end:
            limit = self.dice.randrange(offset + 1, end + 3)
            result = log.read(offset, self.dice.choice((1, 100, 600, 50_000)), limit)
            data = content(result)
            case.assertEqual(len(data), result.length)
            bases = [header.base_offset for _, header in scan(data, 0, len(data))]
            case.assertEqual(bases[0], self.model[offset][0])
            case.assertLess(bases[-1], limit)
            for record in read_records(data, offset):
                found[record.offset] = record.value
                offset = record.offset + 1
        readable = {at: row for at, row in self.model.items() if start <= at < end}
        case.assertEqual(found, {at: row[1] for at, row in readable.items()})
        wanted = self.dice.randrange(10_000)
        expected = next((at for at in sorted(readable) if readable[at][2] >= wanted), None)
        answer = log.offset_for_time(wanted)
        case.assertEqual(answer.offset if answer else None, expected)
        latest = log.latest_timestamp()
        case.assertEqual(
            latest.timestamp_ms if latest else None, max((row[2] for row in readable.values()), default=None)
        )


class RandomTests(SynchronousTestCase):
    def live(self, durability: Durability) -> None:
        for seed in range(8):
            life = Life(self, seed, durability)
            steps = (life.append, life.fail, life.crash, life.close, life.retain, life.checkpoint)
            try:
                for _ in range(25):
                    life.dice.choices(steps, (8, 1, 1, 1, 1, 1))[0]()
                    life.check()
                life.store._directories.release()
            except (AssertionError, StorageError) as error:
                raise AssertionError(f"seed {seed}: {error}") from error

    def test_fsync(self) -> None:
        self.live(Durability.FSYNC)

    def test_os(self) -> None:
        self.live(Durability.OS)
