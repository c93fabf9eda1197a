"""What every log store promises, run against each of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from uuid import UUID, uuid4

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from megabroker.codec.batch import build, check_crc, read_header, read_marker, read_records, scan
from megabroker.errors import BrokerError, ErrorCode, RequestError, StorageError
from megabroker.interfaces import ILog, ILogListener, ILogStore, IProducerState
from megabroker.model import (
    BatchHeader,
    Durability,
    FileRange,
    LogSettings,
    ProducerSnapshot,
    ReadResult,
    Topic,
    TopicPartition,
    TransactionMarker,
)
from megabroker.storage.memory import MemoryLogStore
from megabroker.storage.store import LocalLogStore


@implementer(ILogListener)
class Listener:
    """Keeps what a log tells."""

    def __init__(self) -> None:
        self.progress: list[tuple[int, int]] = []
        self.failures: list[tuple[int, BrokerError]] = []

    def progressed(self, written_offset: int, durable_offset: int) -> None:
        self.progress.append((written_offset, durable_offset))

    def failed(self, from_offset: int, error: BrokerError) -> None:
        self.failures.append((from_offset, error))


@implementer(IProducerState)
class Producers:
    """The last batches of each producer, as simply as can be."""

    def __init__(self) -> None:
        self.replayed: list[int] = []
        self.restored: tuple[ProducerSnapshot, ...] | None = None
        self.state: dict[int, ProducerSnapshot] = {}

    def accept(self, header: BatchHeader, base_offset: int) -> None:
        if header.producer_id >= 0:
            old = self.state.get(header.producer_id)
            first = header.base_sequence
            delta = header.last_offset_delta
            batch = (first, first + delta, base_offset, base_offset + delta, header.max_timestamp)
            batches = (*(old.batches if old else ()), batch)[-5:]
            transaction = old.transaction_first_offset if old else -1
            if transaction < 0 and header.is_transactional:
                transaction = base_offset
            self.state[header.producer_id] = ProducerSnapshot(
                header.producer_id,
                header.producer_epoch,
                batches,
                transaction,
                old.coordinator_epoch if old else -1,
            )

    def replay(self, header: BatchHeader, marker: TransactionMarker | None = None) -> None:
        self.replayed.append(header.base_offset)
        if marker is not None:
            self.end(marker)
        else:
            self.accept(header, header.base_offset)

    def end(self, marker: TransactionMarker) -> None:
        old = self.state.get(marker.producer_id)
        self.state[marker.producer_id] = ProducerSnapshot(
            marker.producer_id,
            marker.producer_epoch,
            old.batches if old else (),
            -1,
            marker.coordinator_epoch,
        )

    def restore(self, snapshot: Sequence[ProducerSnapshot]) -> None:
        self.restored = tuple(snapshot)
        self.state = {producer.producer_id: producer for producer in snapshot}

    def snapshot(self) -> Sequence[ProducerSnapshot]:
        return list(self.state.values())

    def first_unstable_offset(self) -> int:
        opened = [one.transaction_first_offset for one in self.state.values()]
        return min((offset for offset in opened if offset >= 0), default=1 << 62)


def content(result: ReadResult) -> bytes:
    """Return a read's bytes, whatever they are in."""
    if isinstance(result.data, FileRange):
        return os.pread(result.data.file.fileno(), result.data.length, result.data.position)
    return bytes(result.data)


def batch(*values: bytes, timestamp: int = 1000, step: int = 0, **fields: int) -> bytearray:
    """Build one batch of records with rising timestamps."""
    rows = [(None, value, (), timestamp + at * step) for at, value in enumerate(values)]
    return build(rows, **fields)


TOPIC = Topic("orders", UUID(int=7), 1)


class LogStoreContract:
    """Mixin; the concrete case says how a store is made, run and made again on the same data."""

    def make_store(self):
        raise NotImplementedError

    def pump(self) -> None:
        """Let the store do what it does behind the reactor's back, and report it."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.store = self.make_store()
        self.store.open()
        self.reopen_log()

    def reopen_log(self, **settings: int):
        self.listener, self.producers = Listener(), Producers()
        self.log = self.store.log(TOPIC, 0, LogSettings(**settings), self.listener, self.producers)
        return self.log

    def result(self, deferred: Deferred[None]) -> None:
        self.pump()
        self.successResultOf(deferred)

    def append(self, *values: bytes, epoch: int = 0, append_time: int | None = None, **fields: int) -> int:
        data = batch(*values, **fields)
        header = read_header(data, 0, len(data))
        base = self.log.append(header, data, epoch, append_time)
        self.producers.accept(header, base)
        return base

    def mark(self, producer: int, *, commit: bool, first: int, stable: int = -1, epoch: int = 0) -> int:
        marker = TransactionMarker(producer, epoch, commit, 6)
        offset = self.log.append_marker(marker, 2, 7000, first, stable)
        self.producers.end(marker)
        return offset

    def transact(self, producer: int, *values: bytes) -> int:
        self.sequence = getattr(self, "sequence", -1) + 1
        return self.append(
            *values, producer_id=producer, producer_epoch=0, base_sequence=self.sequence, attributes=16
        )

    def aborted(self, start: int, end: int) -> list[tuple[int, int, int, int]]:
        return [tuple(one) for one in self.log.aborted(start, end)]

    def read(self, offset: int, max_bytes: int = 1 << 20, end: int = 1 << 60) -> list[tuple[int, bytes]]:
        result = self.log.read(offset, max_bytes, end)
        data = content(result)
        self.assertEqual(len(data), result.length)
        return [(record.offset, record.value) for record in read_records(data)]

    def bases(self, offset: int, max_bytes: int = 1 << 20, end: int = 1 << 60) -> list[int]:
        data = content(self.log.read(offset, max_bytes, end))
        return [header.base_offset for _, header in scan(data, 0, len(data))]

    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(ILogStore, self.store))
        self.assertTrue(verifyObject(ILog, self.log))

    def test_empty(self) -> None:
        log = self.log
        self.assertEqual(
            (log.start_offset, log.next_offset, log.written_offset, log.durable_offset), (0,) * 4
        )
        self.assertEqual(log.read(0, 100, 100).length, 0)
        self.assertIsNone(log.latest_timestamp())
        self.assertIsNone(log.offset_for_time(0))
        self.assertEqual(log.epoch_end_offset(0), (-1, -1))

    def test_two_stages(self) -> None:
        self.assertEqual(self.append(b"a", b"b"), 0)
        self.assertEqual(self.append(b"c"), 2)
        self.assertEqual((self.log.next_offset, self.log.written_offset), (3, 0))
        self.assertGreater(self.log.pending_bytes, 0)
        self.assertEqual(self.listener.progress, [])
        self.assertEqual(self.log.read(0, 1000, 100).length, 0)
        self.pump()
        self.assertEqual(self.listener.progress[-1], (3, 3))
        self.assertEqual((self.log.written_offset, self.log.durable_offset), (3, 3))
        self.assertEqual(self.log.pending_bytes, 0)
        self.assertEqual(self.read(0), [(0, b"a"), (1, b"b"), (2, b"c")])
        self.assertEqual(self.log.size_bytes, self.log.read(0, 1 << 20, 100).length)

    def test_progress_is_told_once(self) -> None:
        for _ in range(50):
            self.append(b"x")
        self.pump()
        self.assertLessEqual(len(self.listener.progress), 2)

    def test_stamps(self) -> None:
        self.append(b"a")
        self.append(b"b", epoch=5, append_time=123456)
        self.pump()
        data = content(self.log.read(0, 1 << 20, 100))
        first, second = (header for _, header in scan(data, 0, len(data)))
        self.assertEqual((first.base_offset, first.leader_epoch, first.is_log_append_time), (0, 0, False))
        self.assertEqual((second.base_offset, second.leader_epoch, second.max_timestamp), (1, 5, 123456))
        self.assertTrue(second.is_log_append_time)

    def test_in_the_codec_of_the_topic(self) -> None:
        log = self.log
        values = [b"x" * 50] * 20
        for codec in range(5):
            for source in range(5):
                log.settings = LogSettings(codec=codec)
                base = self.append(
                    *values,
                    compression=source,
                    epoch=3,
                    producer_id=7,
                    producer_epoch=1,
                    base_sequence=codec * 100 + source * 20,
                )
                self.pump()
                data = content(log.read(base, 1, 1 << 60))
                header = read_header(data, 0, len(data))
                self.assertEqual(
                    (header.compression, header.record_count, header.producer_id, header.leader_epoch),
                    (codec, 20, 7, 3),
                )
                self.assertTrue(check_crc(data, 0, header))
                self.assertEqual([one.value for one in read_records(data)], values)
        self.assertEqual(log.next_offset, 500)
        self.assertEqual(log.pending_bytes, 0)

    def test_codec_and_append_time(self) -> None:
        self.log.settings = LogSettings(codec=1, codec_level=9)
        base = self.append(b"a", b"b", append_time=77)
        self.mark(5, commit=True, first=-1)
        self.pump()
        data = content(self.log.read(base, 1 << 20, 1 << 60))
        self.assertEqual([one.timestamp_ms for one in read_records(data)], [77, 77])
        headers = [header for _, header in scan(data, 0, len(data))]
        self.assertEqual([one.compression for one in headers], [1, 0])

    def test_what_does_not_go_into_the_codec(self) -> None:
        self.log.settings = LogSettings(codec=0, max_batch_bytes=1000)
        for data, code in (
            (batch(bytes(5000), compression=4), ErrorCode.MESSAGE_TOO_LARGE),
            (batch(b"x" * 50, compression=4)[:-3] + b"abc", ErrorCode.INVALID_RECORD),
        ):
            header = read_header(data, 0, len(data))
            with self.assertRaises(RequestError) as caught:
                self.log.append(header, data, 0, None)
            self.assertEqual(caught.exception.code, code)
        self.assertEqual((self.log.next_offset, self.log.pending_bytes, self.log.size_bytes), (0, 0, 0))

    def test_read_in_the_middle_of_a_batch(self) -> None:
        self.append(b"a", b"b", b"c")
        self.append(b"d", b"e")
        self.pump()
        self.assertEqual(self.bases(2), [0, 3])
        self.assertEqual(self.bases(4), [3])

    def test_read_limits(self) -> None:
        for value in (b"a", b"b", b"c"):
            self.append(value, value)
        self.pump()
        self.assertEqual(self.bases(0, end=2), [0])
        self.assertEqual(self.bases(0, end=3), [0, 2])
        self.assertEqual(self.bases(2, max_bytes=1), [2])
        self.assertEqual(self.log.read(2, 1000, 2).length, 0)
        self.assertEqual(self.log.read(6, 1000, 100).length, 0)
        size = self.log.read(0, 1, 100).length
        self.assertEqual(self.log.read(0, size + 5, 100).length // size, 1)

    def test_end_in_the_middle_of_a_batch(self) -> None:
        for _ in range(4):
            self.append(b"a", b"b", b"c")
        self.pump()
        self.assertEqual(self.bases(0, end=4), [0, 3])
        self.assertEqual(self.bases(4), [3, 6, 9])
        self.assertEqual(self.bases(0, end=6), [0, 3])
        self.assertEqual(self.bases(6), [6, 9])

    def test_out_of_range(self) -> None:
        self.append(b"a")
        for offset in (-1, 1, 2):
            with self.assertRaises(RequestError) as caught:
                self.log.read(offset, 10, 10)
            self.assertIs(caught.exception.code, ErrorCode.OFFSET_OUT_OF_RANGE)

    def test_every_offset_of_many(self) -> None:
        self.reopen_other(segment_bytes=2000, index_interval_bytes=200)
        written = []
        for at in range(200):
            base = self.append(b"%d" % at, b"x" * (at % 50), timestamp=at)
            written.append(base)
            if at % 7 == 0:
                self.pump()
        self.pump()
        for base in written:
            for offset in (base, base + 1):
                found = self.bases(offset, max_bytes=1)
                self.assertEqual(found, [base])
        got = []
        offset = 0
        while offset < self.log.next_offset:
            part = self.read(offset, max_bytes=700)
            got += part
            offset = part[-1][0] + 1
        self.assertEqual([at for at, _ in got], list(range(400)))

    def reopen_other(self, **settings: int) -> None:
        self.log.settings = LogSettings(**settings)

    def test_times(self) -> None:
        self.reopen_other(segment_bytes=1000, index_interval_bytes=100)
        stamps = [50, 10, 70, 70, 20, 90, 30, 80, 200, 100] * 5
        for at in range(0, len(stamps), 2):
            rows = [(None, b"v" * 30, (), stamp) for stamp in stamps[at : at + 2]]
            data = build(rows)
            self.log.append(read_header(data, 0, len(data)), data, 3, None)
        self.pump()
        for wanted in (0, 10, 11, 50, 51, 70, 71, 90, 91, 200):
            found = self.log.offset_for_time(wanted)
            expected = next(at for at, stamp in enumerate(stamps) if stamp >= wanted)
            self.assertEqual((found.offset, found.timestamp_ms), (expected, stamps[expected]))
            self.assertEqual(found.leader_epoch, 3)
        self.assertIsNone(self.log.offset_for_time(201))
        self.assertEqual(self.log.latest_timestamp()[:2], (8, 200))
        self.log.advance_start(9)
        self.assertEqual(self.log.offset_for_time(0).offset, 9)
        self.assertEqual(self.log.latest_timestamp()[:2], (18, 200))

    def test_log_append_time_lookup(self) -> None:
        self.append(b"a", b"b", append_time=500)
        self.append(b"c", append_time=600)
        self.pump()
        self.assertEqual(self.log.offset_for_time(400)[:2], (0, 500))
        self.assertEqual(self.log.offset_for_time(501)[:2], (2, 600))

    def test_epochs(self) -> None:
        self.append(b"a", epoch=1)
        self.append(b"b", epoch=1)
        self.append(b"c", epoch=4)
        self.pump()
        self.assertEqual(self.log.epoch_end_offset(0), (-1, -1))
        self.assertEqual(self.log.epoch_end_offset(1), (1, 2))
        self.assertEqual(self.log.epoch_end_offset(3), (1, 2))
        self.assertEqual(self.log.epoch_end_offset(4), (4, 3))

    def test_advance_start(self) -> None:
        for _ in range(3):
            self.append(b"a", b"b")
        self.pump()
        self.log.advance_start(3)
        self.assertEqual(self.log.start_offset, 3)
        with self.assertRaises(RequestError):
            self.log.read(2, 10, 10)
        self.assertEqual(self.bases(3), [2, 4])
        self.log.advance_start(1)
        self.assertEqual(self.log.start_offset, 3)

    def test_retention_by_size(self) -> None:
        self.reopen_other(segment_bytes=300, retention_bytes=650, retention_ms=-1)
        for _ in range(20):
            self.append(b"x" * 100)
        self.pump()
        held = self.log.read(0, 10, 100)
        before = content(held)
        self.assertGreater(self.log.enforce_retention(0), 0)
        self.pump()
        self.assertGreaterEqual(self.log.size_bytes, 650)
        self.assertLess(self.log.size_bytes, 650 + 300)
        self.assertGreater(self.log.start_offset, 0)
        self.assertEqual(content(held), before)
        offset = self.log.start_offset
        got = []
        while offset < 20:
            got += self.read(offset)
            offset = got[-1][0] + 1
        self.assertEqual([at for at, _ in got], list(range(self.log.start_offset, 20)))
        self.assertEqual(self.log.enforce_retention(0), 0)

    def test_retention_by_time(self) -> None:
        self.reopen_other(segment_bytes=300, retention_ms=1000, segment_ms=5000)
        for at in range(10):
            self.append(b"x" * 100, timestamp=10_000 + at * 100)
        self.pump()
        self.assertEqual(self.log.enforce_retention(10_500), 0)
        self.assertGreater(self.log.enforce_retention(11_500), 0)
        self.assertTrue(0 < self.log.start_offset < 10)
        self.clock.advance(6)
        self.log.enforce_retention(13_000)
        self.pump()
        self.assertEqual(self.log.enforce_retention(13_000), 0)
        self.assertEqual((self.log.start_offset, self.log.next_offset), (10, 10))
        self.assertEqual(self.append(b"y"), 10)
        self.pump()
        self.assertEqual(self.read(10), [(10, b"y")])

    def test_flush(self) -> None:
        self.result(self.log.flush())
        self.append(b"a")
        deferred = self.log.flush()
        self.assertNoResult(deferred)
        self.result(deferred)
        self.assertEqual(self.log.durable_offset, 1)

    def test_delete(self) -> None:
        self.append(b"a" * 40000)
        self.pump()
        held = self.log.read(0, 1 << 20, 10)
        deferred = self.store.delete(TopicPartition("orders", 0))
        self.result(deferred)
        self.assertEqual(list(self.store.partitions()), [])
        self.assertGreater(len(content(held)), 40000)
        with self.assertRaises(StorageError):
            self.append(b"b")
        self.reopen_log()
        self.assertEqual(self.append(b"c"), 0)

    def test_partitions(self) -> None:
        other = Topic("a-b.c_1", uuid4(), 2)
        self.store.log(other, 1, LogSettings(), Listener(), Producers())
        found = dict(self.store.partitions())
        self.assertEqual(
            found, {TopicPartition("orders", 0): TOPIC.id, TopicPartition("a-b.c_1", 1): other.id}
        )

    def test_marker_is_a_control_batch(self) -> None:
        self.transact(5, b"a", b"b")
        self.assertEqual(self.mark(5, commit=True, first=0), 2)
        self.assertEqual(self.log.next_offset, 3)
        self.pump()
        data = content(self.log.read(2, 1000, 10))
        header = read_header(data, 0, len(data))
        self.assertTrue(check_crc(data, 0, header))
        self.assertEqual((header.base_offset, header.leader_epoch), (2, 2))
        self.assertEqual(header.max_timestamp, 7000)
        self.assertEqual(read_marker(data, header), TransactionMarker(5, 0, True, 6))
        self.assertEqual(self.read(0), [(0, b"a"), (1, b"b")])
        self.assertEqual(self.aborted(0, 3), [])

    def abort_two(self) -> None:
        """Transactions of 1 and 3 are aborted, that of 2 is committed, that of 4 is open; small segments."""
        self.reopen_other(segment_bytes=200)
        self.transact(1, b"a")
        self.transact(2, b"b")
        self.transact(3, b"c", b"c")
        self.mark(2, commit=True, first=1, stable=0)
        self.transact(1, b"d")
        self.mark(3, commit=False, first=2, stable=0)
        self.transact(4, b"e")
        self.mark(1, commit=False, first=0, stable=7)
        self.mark(9, commit=False, first=-1, stable=7)
        self.pump()

    TWO = ((1, 0, 8, 7), (3, 2, 6, 0))

    def check_two(self) -> None:
        one, three = self.TWO
        self.assertEqual(self.aborted(0, 10), [one, three])
        self.assertEqual(self.aborted(0, 2), [one])
        self.assertEqual(self.aborted(6, 7), [one, three])
        self.assertEqual(self.aborted(7, 9), [one])
        self.assertEqual(self.aborted(9, 10), [])
        self.assertEqual(self.aborted(2, 2), [])

    def test_aborted(self) -> None:
        self.abort_two()
        self.check_two()

    def test_aborted_go_with_what_is_deleted(self) -> None:
        self.abort_two()
        self.log.settings = LogSettings(segment_bytes=200, retention_ms=-1)
        self.log.advance_start(9)
        self.assertGreater(self.log.enforce_retention(0), 0)
        self.pump()
        self.assertEqual(self.aborted(9, 10), [])

    def test_end_of_what_was_read(self) -> None:
        self.reopen_other(segment_bytes=300_000, index_interval_bytes=4096)
        for _ in range(100):
            self.append(b"x" * 4000, b"y")
        self.pump()
        for start, size in ((0, 1), (0, 9000), (7, 16_000), (7, 60_000), (101, 1 << 20), (0, 1 << 20)):
            result = self.log.read(start, size, 1 << 60)
            data = content(result)
            ends = [header.next_offset for _, header in scan(data, 0, len(data))]
            end = self.log.end_of(result)
            self.assertGreaterEqual(end, ends[-1])
            self.assertLessEqual(end, ends[-1] + 8)

    def test_closed(self) -> None:
        self.append(b"a")
        deferred = self.store.close()
        with self.assertRaises(StorageError):
            self.append(b"b")
        self.result(deferred)
        self.assertEqual(self.listener.progress[-1], (1, 1))

    def test_producers_are_snapshot_not_ahead(self) -> None:
        self.reopen_other(segment_bytes=200)
        for at in range(6):
            self.append(b"x" * 100, producer_id=9, producer_epoch=0, base_sequence=at)
        self.pump()
        self.assertEqual(self.log.next_offset, 6)


class MemoryTests(LogStoreContract, SynchronousTestCase):
    """Memory only."""

    def make_store(self) -> MemoryLogStore:
        self.calls = []
        return MemoryLogStore(self.calls.append)

    def pump(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class LocalContract(LogStoreContract):
    durability = Durability.FSYNC

    def make_store(self) -> LocalLogStore:
        if not hasattr(self, "directory"):
            self.directory = tempfile.mkdtemp()
            self.addCleanup(shutil.rmtree, self.directory)
        return LocalLogStore(self.directory, self.clock, lambda call: call(), self.durability, threaded=False)

    def pump(self) -> None:
        self.store.disk.pump()

    def test_survives_clean_close(self) -> None:
        self.reopen_other(segment_bytes=1000, index_interval_bytes=100)
        for at in range(50):
            self.append(b"%d" % at, b"y" * 30, producer_id=4, producer_epoch=1, base_sequence=2 * at)
        self.append(b"last", epoch=2)
        self.pump()
        self.log.advance_start(5)
        self.result(self.store.close())
        self.store = self.make_store()
        self.store.open()
        self.assertTrue(self.store.was_clean)
        log = self.reopen_log()
        self.assertEqual((log.start_offset, log.next_offset, log.durable_offset), (5, 101, 101))
        self.assertEqual(self.bases(7, max_bytes=1), [6])
        self.assertEqual(log.epoch_end_offset(0), (0, 100))
        self.assertEqual(self.producers.replayed, [])
        self.assertEqual(self.producers.state[4].batches[-1][:4], (98, 99, 98, 99))
        self.assertEqual(self.append(b"more"), 101)
        self.pump()
        self.assertEqual(self.read(101), [(101, b"more")])

    def test_survives_without_close(self) -> None:
        self.reopen_other(segment_bytes=1000, index_interval_bytes=100)
        for at in range(50):
            self.append(b"%d" % at, producer_id=4, producer_epoch=1, base_sequence=at, timestamp=at)
        self.pump()
        self.store._directories.release()
        self.store = self.make_store()
        self.store.open()
        self.assertFalse(self.store.was_clean)
        log = self.reopen_log(segment_bytes=1000, index_interval_bytes=100)
        self.assertEqual((log.next_offset, log.durable_offset), (50, 50))
        self.assertEqual([batch[0] for batch in self.producers.state[4].batches], [45, 46, 47, 48, 49])
        self.assertEqual(log.offset_for_time(33)[:2], (33, 33))
        self.assertEqual(self.bases(17, max_bytes=1), [17])
        self.assertEqual(log.damaged, [])

    def again(self, *, clean: bool) -> None:
        if clean:
            self.result(self.store.close())
        else:
            self.store._directories.release()
        self.store = self.make_store()
        self.store.open()
        self.reopen_log(segment_bytes=200)

    def test_aborted_survive(self) -> None:
        self.abort_two()
        for clean in (False, True, True, False, False):
            self.again(clean=clean)
            self.check_two()
            self.assertEqual(self.producers.state[4].transaction_first_offset, 7)
            self.assertEqual(self.producers.state[1].transaction_first_offset, -1)
            self.assertEqual(self.producers.state[1].coordinator_epoch, 6)
        self.mark(4, commit=False, first=7)
        self.pump()
        self.again(clean=False)
        self.assertEqual(self.aborted(0, 11), [*self.TWO, (4, 7, 10, 11)])

    def test_segments_that_began_together_end_apart(self) -> None:
        ends: set[int] = set()
        for _ in range(20):
            self.log.settings = LogSettings(segment_ms=10_000, segment_jitter_ms=8000)
            self.append(b"x")
            self.log._choose_jitter()
            base = self.log.active.base_offset
            for waited in range(1, 12):
                self.clock.advance(1)
                self.log.enforce_retention(0)
                if self.log.active.base_offset != base:
                    ends.add(waited)
                    break
            self.assertGreater(self.log.active.base_offset, base)
        self.pump()
        self.assertLessEqual(max(ends), 10)
        self.assertGreaterEqual(min(ends), 2)
        self.assertGreater(len(ends), 2)

    def test_a_full_index_ends_a_segment(self) -> None:
        self.reopen_other(segment_index_bytes=80, index_interval_bytes=100)
        for _ in range(100):
            self.append(bytes(200))
        self.pump()
        indexes = [name for name in os.listdir(f"{self.directory}/{TOPIC.name}-0") if name.endswith(".index")]
        self.assertGreater(len(indexes), 5)
        for name in indexes:
            self.assertLessEqual(os.path.getsize(f"{self.directory}/{TOPIC.name}-0/{name}"), 88)


class LocalFsyncTests(LocalContract, SynchronousTestCase):
    """Files, with fsync."""


class LocalOsTests(LocalContract, SynchronousTestCase):
    """Files, without."""

    durability = Durability.OS

    def test_synced_after_so_many_records(self) -> None:
        self.reopen_other(flush_messages=5)
        for count in range(1, 13):
            self.append(b"x")
            self.pump()
            self.assertEqual(self.log.recovery_point, count // 5 * 5)

    def test_synced_after_so_long(self) -> None:
        self.reopen_other(flush_ms=1000)
        self.append(b"x")
        self.pump()
        self.clock.advance(0.9)
        self.append(b"x")
        self.pump()
        self.assertEqual(self.log.recovery_point, 0)
        self.clock.advance(0.2)
        self.pump()
        self.assertEqual(self.log.recovery_point, 2)
