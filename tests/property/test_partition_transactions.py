"""A partition on files against a model: interleaved transactions, failed writes, restarts, deletions."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.internet.task import Clock

from megabroker.codec.batch import build, parse_control, read_header, records, scan
from megabroker.core.partitions import PartitionService, PartitionSettings
from megabroker.core.topic_configs import TopicPolicy
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.model import (
    Acks,
    BatchHeader,
    FileRange,
    LogSettings,
    ReadResult,
    TransactionMarker,
)
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC

PRODUCERS = st.integers(1, 4)


class Entry(NamedTuple):
    """One batch of the model; ``commit`` is None for data."""

    base: int
    count: int
    producer: int
    epoch: int
    sequence: int
    transactional: bool
    commit: bool | None

    @property
    def values(self) -> list[bytes]:
        return [b"%d" % offset for offset in range(self.base, self.base + self.count)]


class Transaction(NamedTuple):
    producer: int
    epoch: int
    first: int
    last: int
    commit: bool | None


def content(result: ReadResult) -> bytes:
    if isinstance(result.data, FileRange):
        return os.pread(result.data.file.fileno(), result.data.length, result.data.position)
    return bytes(result.data)


class PartitionMachine(RuleBasedStateMachine):
    @initialize(segment_bytes=st.sampled_from((200, 500, 3000)), interval=st.sampled_from((0, 150, 4096)))
    def begin(self, segment_bytes: int, interval: int) -> None:
        self.directory = tempfile.mkdtemp()
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        log = LogSettings(
            segment_bytes=segment_bytes, index_interval_bytes=interval, retention_ms=-1, segment_ms=-1
        )
        self.policy = TopicPolicy(log=log)
        self.model: list[Entry] = []
        self.answers: list[BrokerError | None] = []
        self.owed = 0
        self.open()

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.die()
            shutil.rmtree(self.directory)

    def open(self) -> None:
        self.files = FaultyFiles(real_sync=False)
        self.store = LocalLogStore(
            self.directory, self.clock, lambda call: call(), files=self.files, threaded=False
        )
        self.store.open()
        self.partition = PartitionService(
            TOPIC, 0, self.policy, PartitionSettings(), self.clock, lambda: 1_700_000_000_000
        )
        self.partition.open(self.store)
        self.log = self.partition.log

    def die(self) -> None:
        self.store._directories.release()
        self.store._open_files.close()

    # --- what the model knows ---

    def epoch(self, producer: int) -> int:
        return next((one.epoch for one in reversed(self.model) if one.producer == producer), 0)

    def sequence(self, producer: int) -> int:
        epoch = self.epoch(producer)
        for one in reversed(self.model):
            if one.producer == producer and one.commit is None and one.epoch == epoch:
                return one.sequence + one.count
        return 0

    def transactions(self) -> list[Transaction]:
        found: list[Transaction] = []
        open_ones: dict[int, Entry] = {}
        for one in self.model:
            if one.commit is not None:
                begun = open_ones.pop(one.producer, None)
                if begun is not None:
                    found.append(Transaction(one.producer, one.epoch, begun.base, one.base, one.commit))
            elif one.transactional:
                open_ones.setdefault(one.producer, one)
        found += [
            Transaction(one.producer, self.epoch(one.producer), one.base, 1 << 60, None)
            for one in open_ones.values()
        ]
        return found

    def stable(self) -> int:
        visible = self.partition.high_watermark
        undecided = [one.first for one in self.transactions() if one.last >= visible]
        return max(min([visible, *undecided]), min(self.log.start_offset, visible))

    def forget(self, end: int) -> None:
        self.model = [one for one in self.model if one.base < end]

    # --- what happens ---

    @rule(producer=PRODUCERS, count=st.integers(1, 3), transactional=st.booleans())
    def write(self, producer: int, count: int, transactional: bool) -> None:
        base, epoch, sequence = self.log.next_offset, self.epoch(producer), self.sequence(producer)
        rows = [(None, b"%d" % offset, (), 5) for offset in range(base, base + count)]
        data = build(
            rows,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=sequence,
            attributes=16 * transactional,
        )
        header = read_header(data, 0, len(data))
        is_open = any(one.producer == producer and one.commit is None for one in self.transactions())
        if is_open and not transactional:
            with pytest.raises(StateError) as caught:
                self.partition.append(header, data, Acks.DURABLE, self.answers.append)
            assert caught.value.code is ErrorCode.INVALID_TXN_STATE
            return
        assert self.partition.append(header, data, Acks.DURABLE, self.answers.append) == base
        self.owed += 1
        self.model.append(Entry(base, count, producer, epoch, sequence, transactional, None))

    @rule(producer=PRODUCERS, commit=st.booleans(), bump=st.booleans())
    def mark(self, producer: int, commit: bool, bump: bool) -> None:
        epoch = self.epoch(producer) + bump
        marker = TransactionMarker(producer, epoch, commit, 0)
        base = self.partition.append_marker(marker, self.answers.append)
        self.owed += 1
        self.model.append(Entry(base, 1, producer, epoch, -1, True, commit))

    @rule(producer=PRODUCERS)
    def mark_late(self, producer: int) -> None:
        epoch = self.epoch(producer)
        if epoch:
            with pytest.raises(StateError) as caught:
                self.partition.append_marker(
                    TransactionMarker(producer, epoch - 1, True, 0), self.answers.append
                )
            assert caught.value.code is ErrorCode.INVALID_PRODUCER_EPOCH

    @rule()
    def pump(self) -> None:
        self.store.disk.pump()
        assert self.partition.high_watermark == self.log.next_offset
        assert len(self.answers) == self.owed

    @rule(checkpoint=st.booleans())
    def write_without_chores(self, checkpoint: bool) -> None:
        """The disk thread has its turn while the chores thread is slow, at most at an old checkpoint."""
        disk = self.store.disk
        lanes = disk._take(block=False)
        if lanes:
            disk._turn(lanes)
            disk.deliver()
        if checkpoint:
            self.store._save_checkpoints()

    @rule(skip=st.integers(0, 1), short=st.integers(0, 300))
    def fail(self, skip: int, short: int) -> None:
        self.files.fail("pwritev", errno.ENOSPC, skip=skip, path=".log")
        self.files.short_write_bytes = short
        self.store.disk.pump()
        self.files.heal()
        self.forget(self.log.next_offset)
        assert len(self.answers) == self.owed

    @rule(checkpoint=st.booleans())
    def kill(self, checkpoint: bool) -> None:
        if checkpoint:
            self.store.checkpoint()
            self.store.disk.pump()
        self.forget(self.log.written_offset)
        self.die()
        self.open()
        self.owed = len(self.answers)

    @rule()
    def close(self) -> None:
        closed = self.store.close()
        self.store.disk.pump()
        assert closed.called
        self.open()
        assert self.store.was_clean

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        low, high = self.log.start_offset, self.partition.last_stable_offset
        if low < high:
            self.log.advance_start(data.draw(st.integers(low, high), label="start"))
            self.log.enforce_retention(0)

    # --- what must hold ---

    @invariant()
    def knows_the_transactions(self) -> None:
        open_ones = [one for one in self.transactions() if one.commit is None]
        found = self.partition.open_transactions()
        assert [tuple(one) for one in found] == [(one.producer, one.epoch) for one in open_ones]
        assert self.partition.last_stable_offset == self.stable()

    @invariant()
    def lists_what_was_aborted(self) -> None:
        start, stable = self.log.start_offset, self.partition.last_stable_offset
        for low in sorted({start, (start + stable) // 2}):
            for high in sorted({(low + stable + 1) // 2, stable}):
                found = self.partition.aborted_transactions(low, high)
                assert [one.first_offset for one in found] == sorted(one.first_offset for one in found)
                expected = [
                    (one.producer, max(one.first, start), one.last)
                    for one in self.transactions()
                    if one.commit is False and self.has_data(one, low, high)
                ]
                known = {(one.producer_id, max(one.first_offset, start), one.last_offset) for one in found}
                assert known.issuperset(expected), (low, high, found, expected)
                aborted = {(one.producer, one.last) for one in self.transactions() if one.commit is False}
                assert aborted.issuperset((pid, last) for pid, _, last in known)

    def has_data(self, transaction: Transaction, low: int, high: int) -> bool:
        return any(
            one.producer == transaction.producer
            and one.commit is None
            and transaction.first <= one.base < min(transaction.last, high)
            and one.base + one.count > low
            for one in self.model
        )

    @invariant()
    def shows_what_is_committed(self) -> None:
        start, stable = self.log.start_offset, self.partition.last_stable_offset
        lost = {
            one.base
            for transaction in self.transactions()
            if transaction.commit is False
            for one in self.model
            if one.producer == transaction.producer and transaction.first <= one.base < transaction.last
        }
        expected = [
            value
            for one in self.model
            if one.commit is None and one.base + one.count <= stable and one.base not in lost
            for offset, value in enumerate(one.values, one.base)
            if offset >= start
        ]
        assert self.consume(start, stable) == expected

    def consume(self, offset: int, stable: int) -> list[bytes | None]:
        """Read as a read_committed consumer does."""
        values: list[bytes | None] = []
        while offset < stable:
            result = self.partition.read(offset, 300, committed=True)
            data = content(result)
            end = min(self.log.end_of(result), stable)
            waiting = list(self.partition.aborted_transactions(offset, end))
            aborted: set[int] = set()
            at = offset
            for position, header in scan(data, 0, len(data)):
                while waiting and waiting[0].first_offset <= header.last_offset:
                    aborted.add(waiting.pop(0).producer_id)
                values += self.take(data, header, position, offset, aborted)
                at = header.next_offset
            assert offset < at <= end
            offset = at
        return values

    def take(
        self, data: bytes, header: BatchHeader, position: int, offset: int, aborted: set[int]
    ) -> list[bytes | None]:
        if header.is_control:
            (record,) = records(data, header, position, control=True)
            if not parse_control(record)[0]:
                aborted.discard(header.producer_id)
            return []
        if header.is_transactional and header.producer_id in aborted:
            return []
        return [record.value for record in records(data, header, position, from_offset=offset)]


PartitionMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestPartitionTransactions = PartitionMachine.TestCase
