"""Transactions in a log whose writer was killed: what is found again is what the files say."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header
from megabroker.core.partitions import PartitionService, PartitionSettings
from megabroker.core.topic_configs import TopicPolicy
from megabroker.errors import BrokerError, ErrorCode, StorageError
from megabroker.model import Acks, LogSettings, TransactionMarker
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC


class TransactionRecoveryTests(SynchronousTestCase):
    segment_bytes = 310

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = f"{self.directory}/orders-0"
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.answers: list[BrokerError | None] = []
        self.sequences: dict[int, int] = {}
        self.start()

    def start(self, directory: str | None = None) -> None:
        self.files = FaultyFiles(real_sync=False)
        self.store = LocalLogStore(
            directory or self.directory, self.clock, lambda call: call(), files=self.files, threaded=False
        )
        self.store.open()
        settings = LogSettings(segment_bytes=self.segment_bytes, retention_ms=-1, segment_ms=-1)
        self.partition = PartitionService(
            TOPIC, 0, TopicPolicy(log=settings), PartitionSettings(), self.clock, lambda: 1_700_000_000_000
        )
        self.partition.open(self.store)
        self.log: Any = self.partition.log

    def kill(self) -> None:
        self.store._directories.release()
        self.store._open_files.close()

    def close(self) -> None:
        closed = self.store.close()
        self.store.disk.pump()
        self.successResultOf(closed)

    def write(self, producer: int) -> int:
        sequence = self.sequences.get(producer, 0)
        self.sequences[producer] = sequence + 1
        data = build(
            [(None, b"value", (), 5)],
            producer_id=producer,
            producer_epoch=0,
            base_sequence=sequence,
            attributes=16,
        )
        header = read_header(data, 0, len(data))
        return self.partition.append(header, data, Acks.DURABLE, self.answers.append)

    def mark(self, producer: int, commit: bool) -> int:
        return self.partition.append_marker(TransactionMarker(producer, 0, commit, 0), self.answers.append)

    def pump_without_chores(self) -> None:
        """The disk thread has its turn, the chores thread does not."""
        disk = self.store.disk
        lanes = disk._take(block=False)
        assert lanes
        disk._turn(lanes)
        disk.deliver()

    def state(self) -> tuple[object, ...]:
        partition = self.partition
        return (
            partition.high_watermark,
            partition.last_stable_offset,
            list(partition.open_transactions()),
            list(partition.aborted_transactions(0, 1 << 60)),
        )

    def test_cut_anywhere(self) -> None:
        """Every prefix of the file, as a kill in the midst of a write leaves it, is a state gone through."""
        self.kill()
        self.segment_bytes = 1 << 20
        shutil.rmtree(self.directory)
        self.start()
        states = {0: self.state()}
        for step in range(12):
            if step % 3 == 2:
                self.mark(step % 2 + 1, commit=step % 4 == 0)
            else:
                self.write(step % 2 + 1)
            self.store.disk.pump()
            states[self.log.size_bytes] = self.state()
        self.kill()
        whole = self.log.size_bytes
        for cut in sorted({0, whole, *states, *(size - 1 for size in states if size), *range(0, whole, 37)}):
            copy = f"{self.directory}/copy"
            shutil.copytree(self.path, f"{copy}/orders-0")
            os.truncate(f"{copy}/orders-0/{0:020d}.log", cut)
            self.start(copy)
            self.assertEqual(self.state(), states[max(size for size in states if size <= cut)], cut)
            self.kill()
            shutil.rmtree(copy)

    def abort(self, producer: int) -> tuple[int, int]:
        return self.write(producer), self.mark(producer, commit=False)

    def test_sealed_segment_whose_index_is_from_before(self) -> None:
        """After a restart, a segment goes on and is sealed; a kill comes before its new index is written."""
        self.abort(1)
        self.store.disk.pump()
        self.close()
        self.start()
        self.assertTrue(os.path.exists(f"{self.path}/{0:020d}.txnindex"))
        self.abort(2)
        self.assertFalse(os.path.exists(f"{self.path}/{0:020d}.index"))
        self.pump_without_chores()
        self.store._save_checkpoints()
        self.write(3)
        self.pump_without_chores()
        self.store._save_checkpoints()
        self.assertTrue(os.path.exists(f"{self.path}/{4:020d}.log"))
        before = self.state()
        self.assertEqual(len(before[3]), 2)  # type: ignore[arg-type]
        self.kill()
        self.start()
        self.assertEqual(self.state(), before)

    def test_indexes_are_made_anew(self) -> None:
        for producer in range(1, 9):
            self.abort(producer)
        self.write(9)
        self.store.disk.pump()
        before = self.state()
        for clean in (True, False):
            if clean:
                self.close()
            else:
                self.kill()
            names = [name for name in os.listdir(self.path) if name.endswith((".txnindex", ".index"))]
            self.assertGreater(len(names), 4)
            for name in names:
                os.unlink(f"{self.path}/{name}")
            self.start()
            self.assertEqual(self.state(), before)

    def test_a_damaged_index_is_an_error_and_no_silence(self) -> None:
        for producer in range(1, 5):
            self.abort(producer)
        self.store.disk.pump()
        before = self.state()
        self.close()
        with open(f"{self.path}/{0:020d}.txnindex", "ab") as file:
            file.write(b"x")
        self.start()
        with self.assertRaises(StorageError) as caught:
            self.state()
        self.assertIn(".txnindex is damaged", str(caught.exception))
        self.close()
        os.unlink(f"{self.path}/{0:020d}.txnindex")
        os.unlink(f"{self.path}/{0:020d}.index")
        self.start()
        self.assertEqual(self.state(), before)

    def test_a_marker_that_could_not_be_written_is_taken_back(self) -> None:
        self.abort(1)
        first = self.write(2)
        self.store.disk.pump()
        before = self.state()
        self.mark(2, commit=False)
        self.files.fail("pwritev", errno.ENOSPC, path=".log")
        self.store.disk.pump()
        self.files.heal()
        self.assertEqual(self.answers[-1].code, ErrorCode.DISK_FULL)  # type: ignore[union-attr]
        self.assertEqual(self.state(), before)
        self.assertEqual(self.partition.last_stable_offset, first)
        self.mark(2, commit=True)
        self.store.disk.pump()
        self.assertEqual([tuple(one)[:3] for one in self.partition.aborted_transactions(0, 9)], [(1, 0, 1)])
        self.assertEqual(self.partition.last_stable_offset, 4)
