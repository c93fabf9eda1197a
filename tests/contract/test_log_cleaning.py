"""What compaction promises of every log store, and what it does to files."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import tempfile
import time
from uuid import uuid4

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header, records, scan
from megabroker.core.producers import ProducerTable
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Durability, FileRange, LogSettings, TopicPartition, TransactionMarker
from megabroker.storage.checkpoints import decode_offsets
from megabroker.storage.cleaner import CleanerSettings
from megabroker.storage.memory import MemoryLogStore
from megabroker.storage.segment import DamageFound
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, content

SETTINGS = LogSettings(
    segment_bytes=500,
    index_interval_bytes=100,
    retention_ms=-1,
    compact=True,
    delete_retention_ms=60_000,
    min_cleanable_dirty_ratio=0.0,
)
Row = tuple[bytes | None, bytes | None]


class LogCleaningContract:
    """Mixin; the concrete case says how a store is made and run."""

    cleaner = CleanerSettings(interval_ms=10)

    def make_store(self):
        raise NotImplementedError

    def pump(self) -> None:
        """Let the store do what it does behind the reactor's back."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.store = self.make_store()
        self.store.open()
        self.open_log()

    def open_log(self, **settings: object) -> None:
        self.producers = ProducerTable()
        self.listener = Listener()
        self.log = self.store.log(TOPIC, 0, attrs.evolve(SETTINGS, **settings), self.listener, self.producers)

    @property
    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def append(self, *rows: Row, age_ms: int = 0, **fields: int) -> int:
        data = build([(key, value, (), self.now_ms - age_ms) for key, value in rows], **fields)
        header = read_header(data, 0, len(data))
        base = self.log.append(header, data, 0, None)
        if header.producer_id >= 0:
            self.producers.accepted(header, base, self.now_ms)
        self.pump()
        self.producers.settled(self.log.durable_offset)
        return base

    def mark(self, producer: int, *, commit: bool) -> int:
        marker = TransactionMarker(producer, 0, commit, 0)
        offset = self.log.append_marker(marker, 0, self.now_ms, *self.producers.check_marker(marker))
        self.producers.ended(marker, offset, self.now_ms)
        self.pump()
        self.producers.settled(self.log.durable_offset)
        return offset

    def roll(self) -> None:
        """Append what does not fit the segment there is, under a key of its own."""
        self.append((b"filler", bytes(450)))

    def clean(self) -> int:
        cleaned = self.store.cleaner.run_once()
        self.pump()
        return cleaned

    def rows(self) -> dict[int, Row]:
        found: dict[int, Row] = {}
        offset = self.log.start_offset
        while offset < self.log.written_offset:
            data = content(self.log.read(offset, 300, 1 << 60))
            for pos, header in scan(data, 0, len(data)):
                if header.next_offset > offset:
                    found.update((one.offset, (one.key, one.value)) for one in records(data, header, pos))
                    offset = header.next_offset
        return {at: row for at, row in found.items() if row[0] != b"filler"}

    # --- what is promised -------------------------------------------------------------------------------

    def test_the_newest_of_each_key(self) -> None:
        self.append((b"a", b"1"), (b"b", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        self.assertEqual(self.clean(), 1)
        self.assertEqual(self.rows(), {1: (b"b", b"1"), 2: (b"a", b"2")})
        self.assertEqual(self.log.next_offset, 4)
        self.assertEqual(self.append((b"c", b"1")), 4)

    def test_a_read_in_a_hole_goes_on_behind_it(self) -> None:
        for at in range(5):
            self.append((b"a", b"%d" % at))
        self.roll()
        self.clean()
        for offset in range(5):
            data = content(self.log.read(offset, 1, 1 << 60))
            self.assertEqual(next(scan(data, 0, len(data)))[1].base_offset, 4)

    def test_neither_the_active_part_nor_a_topic_that_is_not_compacted(self) -> None:
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.assertEqual(self.clean(), 0)
        self.log.settings = attrs.evolve(SETTINGS, compact=False)
        self.roll()
        self.assertEqual(self.clean(), 0)
        self.assertEqual(len(self.rows()), 2)

    def test_the_dirty_ratio(self) -> None:
        self.log.settings = attrs.evolve(SETTINGS, min_cleanable_dirty_ratio=0.5)
        for at in range(12):
            self.append((b"k%d" % at, bytes(100)))
        self.roll()
        self.assertEqual(self.clean(), 1)
        cleaned = self.log.compaction.cleaned_offset
        for _ in range(3):
            self.append((b"k1", bytes(100)))
        self.roll()
        self.roll()
        self.assertEqual(self.clean(), 0)
        self.assertEqual(self.log.compaction.cleaned_offset, cleaned)
        self.log.settings = attrs.evolve(SETTINGS, min_cleanable_dirty_ratio=0.1)
        self.assertEqual(self.clean(), 1)

    def test_the_longest_wait(self) -> None:
        self.log.settings = attrs.evolve(SETTINGS, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=5000)
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        self.assertEqual(self.clean(), 0)
        self.clock.advance(6)
        self.assertEqual(self.clean(), 1)
        self.assertEqual(list(self.rows()), [1])

    def test_the_shortest_wait(self) -> None:
        self.log.settings = attrs.evolve(SETTINGS, min_compaction_lag_ms=5000)
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        self.assertEqual(self.clean(), 0)
        self.assertEqual(len(self.rows()), 2)
        self.clock.advance(6)
        self.assertEqual(self.clean(), 1)
        self.assertEqual(list(self.rows()), [1])

    def test_tombstones(self) -> None:
        self.append((b"a", b"1"))
        self.append((b"a", None))
        self.roll()
        self.clean()
        self.assertEqual(self.rows(), {1: (b"a", None)})
        self.clock.advance(59)
        self.append((b"b", b"1"))
        self.roll()
        self.clean()
        self.assertEqual(list(self.rows().values()), [(b"a", None), (b"b", b"1")])
        self.clock.advance(2)
        self.append((b"b", b"2"))
        self.roll()
        self.clean()
        self.assertEqual(list(self.rows().values()), [(b"b", b"2")])

    def test_an_open_transaction_is_left_alone(self) -> None:
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        fields = {"producer_id": 5, "producer_epoch": 0, "attributes": 16}
        self.append((b"a", b"3"), base_sequence=0, **fields)
        self.roll()
        self.roll()
        self.clean()
        self.assertEqual(list(self.rows().values()), [(b"a", b"2"), (b"a", b"3")])
        self.mark(5, commit=False)
        self.roll()
        self.clean()
        self.assertEqual(list(self.rows().values()), [(b"a", b"2")])

    def test_the_aborted_are_found_where_a_head_of_them_stays(self) -> None:
        first = self.append((b"a", b"1"), producer_id=5, producer_epoch=0, base_sequence=0, attributes=16)
        last = self.mark(5, commit=False)
        self.roll()
        self.clean()
        self.assertEqual(self.rows(), {})
        self.assertEqual([one[:3] for one in self.log.aborted(0, 10)], [(5, first, last)])

    def test_keys_that_do_not_fit_the_map(self) -> None:
        self.store.cleaner.settings = attrs.evolve(self.cleaner, dedupe_buffer_bytes=192 * 4)
        for at in range(30):
            self.append((b"k%d" % (at % 10), b"%d" % at))
        self.roll()
        turns = 0
        while self.clean():
            turns += 1
        self.assertGreater(turns, 3)
        self.assertEqual(list(self.rows()), list(range(20, 30)))

    def test_a_batch_whose_keys_do_not_fit_the_map(self) -> None:
        self.store.cleaner.settings = attrs.evolve(self.cleaner, dedupe_buffer_bytes=192 * 4)
        self.append(*((b"k%d" % at, b"1") for at in range(10)))
        self.append(*((b"k%d" % at, b"2") for at in range(10)))
        self.roll()
        turns = 0
        while self.clean():
            turns += 1
        self.assertGreaterEqual(turns, 5)
        self.assertEqual(list(self.rows()), list(range(10, 20)))

    def test_below_the_start_and_retention(self) -> None:
        self.log.settings = attrs.evolve(SETTINGS, retention_bytes=600)
        for at in range(8):
            self.append((b"k%d" % at, bytes(100)))
        self.append((b"k7", b"again"))
        self.roll()
        self.log.advance_start(2)
        self.clean()
        self.assertEqual(list(self.rows()), [2, 3, 4, 5, 6, 8])
        self.log.enforce_retention(self.now_ms)
        self.pump()
        self.assertLess(self.log.size_bytes, 1200)
        self.assertIn(8, self.rows())

    def test_times_are_found(self) -> None:
        self.append((b"a", b"1"), age_ms=5000)
        self.append((b"b", b"1"), age_ms=4000)
        self.append((b"a", b"2"), age_ms=3000)
        self.roll()
        self.clean()
        self.assertEqual(self.log.offset_for_time(self.now_ms - 6000).offset, 1)
        self.assertEqual(self.log.offset_for_time(self.now_ms - 3500).offset, 2)
        self.assertEqual(self.log.latest_timestamp().timestamp_ms, self.now_ms)

    def test_a_deleted_log_is_not_cleaned(self) -> None:
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        log = self.log
        self.store.delete(TopicPartition(TOPIC.name, 0))
        self.assertTrue(log.compaction.going)
        self.assertEqual(self.clean(), 0)


class MemoryLogCleaningTests(LogCleaningContract, SynchronousTestCase):
    def make_store(self) -> MemoryLogStore:
        return MemoryLogStore(lambda call: call(), self.clock.seconds, cleaner=self.cleaner)

    def test_retention_meanwhile(self) -> None:
        for at in range(6):
            self.append((b"k%d" % (at % 3), b"%d" % at))
        self.roll()
        log = self.log
        snapshot = log.compaction.begin(self.now_ms)
        log.advance_start(2)
        log.enforce_retention(self.now_ms)
        log.compaction.replace(snapshot, snapshot.batches[3:], [], 6)
        self.assertEqual(list(self.rows()), [3, 4, 5])
        self.assertEqual(log.size_bytes, log.read(2, 1 << 20, 1 << 60).length)


class LocalLogCleaningTests(LogCleaningContract, SynchronousTestCase):
    def make_store(self) -> LocalLogStore:
        if not hasattr(self, "directory"):
            self.directory = tempfile.mkdtemp()
            self.addCleanup(shutil.rmtree, self.directory)
        return LocalLogStore(
            self.directory,
            self.clock,
            lambda call: call(),
            Durability.FSYNC,
            threaded=False,
            max_open_files=2,
            cleaner=self.cleaner,
        )

    def tearDown(self) -> None:
        self.store._directories.release()

    def pump(self) -> None:
        self.store.disk.pump()

    def reopen(self, *, clean: bool) -> None:
        if clean:
            self.store.close()
            self.pump()
        else:
            self.store._directories.release()
            self.store._open_files.close()
        self.store = self.make_store()
        self.store.open()
        self.open_log()

    def files(self, suffix: str = ".log") -> list[str]:
        return sorted(name for name in os.listdir(f"{self.directory}/orders-0") if suffix in name)

    def test_small_segments_become_one(self) -> None:
        for at in range(20):
            self.append((b"k%d" % (at % 4), bytes(200)))
        self.roll()
        self.assertEqual(len(self.files()), 21)
        self.clean()
        self.append((b"k1", b"x"))
        self.roll()
        self.clean()
        self.assertEqual(len(self.files()), 7)
        self.assertEqual(sorted(row[0] for row in self.rows().values()), [b"k0", b"k1", b"k2", b"k3"])

    def test_opened_again(self) -> None:
        for at in range(20):
            self.append((b"k%d" % (at % 4), bytes(60)))
        self.roll()
        self.clean()
        expected, cleaned = self.rows(), self.log.compaction.cleaned_offset
        for clean in (True, False, True):
            self.reopen(clean=clean)
            self.assertEqual(self.rows(), expected)
            self.assertEqual(self.log.damaged, [])
            self.assertEqual(self.log.compaction.cleaned_offset, cleaned)
            self.assertEqual(self.clean(), 0)
        checkpoint = pathlib.Path(self.directory, "cleaner-offset-checkpoint").read_bytes()
        self.assertEqual(decode_offsets(checkpoint), {TopicPartition("orders", 0): cleaned})

    def test_without_its_checkpoint_a_log_is_cleaned_again(self) -> None:
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        self.clean()
        self.reopen(clean=True)
        self.log.compaction.cleaned_offset = 0
        self.assertEqual(self.clean(), 1)
        self.assertEqual(list(self.rows()), [1])

    def test_an_empty_active_segment(self) -> None:
        self.append((b"a", b"1"), (b"b", b"1"))
        self.append((b"a", b"2"), (b"b", b"2"))
        self.append((b"c", b"1"))
        self.append((b"b", b"3"))
        self.log.settings = attrs.evolve(SETTINGS, segment_ms=1)
        self.clock.advance(1)
        self.log.enforce_retention(self.now_ms)
        self.clean()
        expected = {2: (b"a", b"2"), 4: (b"c", b"1"), 5: (b"b", b"3")}
        self.assertEqual(self.rows(), expected)
        for clean in (False, True, False):
            self.reopen(clean=clean)
            self.assertEqual((self.rows(), self.log.next_offset, self.log.damaged), (expected, 6, []))
        self.assertEqual(self.append((b"d", b"1")), 6)
        self.reopen(clean=False)
        self.assertEqual(self.rows(), {**expected, 6: (b"d", b"1")})

    def test_a_range_handed_out_before(self) -> None:
        self.log.settings = attrs.evolve(SETTINGS, segment_bytes=40_000)
        for at in range(4):
            self.append((b"a", b"%d" % at + bytes(9000)))
        self.append((b"a", bytes(30_000)))
        self.append((b"b", bytes(30_000)))
        result = self.log.read(0, 1 << 20, 1 << 60)
        self.assertIsInstance(result.data, FileRange)
        before = content(result)
        self.assertEqual(self.clean(), 1)
        self.assertNotIn(0, self.rows())
        self.assertEqual(content(result), before)

    def test_damage_is_left_alone_and_told_once(self) -> None:
        for at in range(12):
            self.append((b"k%d" % (at % 3), b"%d" % at + bytes(60)))
        self.roll()
        victim = f"{self.directory}/orders-0/{self.files()[1]}"
        with open(victim, "r+b") as file:
            file.seek(130)
            file.write(b"\xff\xff")
        self.assertEqual(self.clean(), 0)
        errors = self.flushLoggedErrors()
        self.assertEqual(errors, [])
        self.assertEqual(len(self.log.damaged), 1)
        size = os.path.getsize(victim)
        self.assertEqual(self.clean(), 1)
        self.assertEqual(os.path.getsize(victim), size)
        self.assertEqual(len(self.log.damaged), 1)
        for _ in range(2):
            with self.assertRaises(StorageError) as raised:
                self.rows()
            self.assertIs(raised.exception.code, ErrorCode.CORRUPT_BATCH)
            self.assertEqual(len(self.log.damaged), 1)
            [damage] = self.log.damaged
            self.log.advance_start(damage.to_offset)
            self.assertEqual({row[0] for row in self.rows().values()}, {b"k0", b"k1", b"k2"})
            self.log.start_offset = 0
            self.reopen(clean=False)
            self.assertEqual(self.clean(), 0)

    def test_damage_that_cannot_be_measured_keeps_no_other_log_from_it(self) -> None:
        for at in range(12):
            self.append((b"k%d" % (at % 3), b"%d" % at + bytes(60)))
        self.roll()
        with open(f"{self.directory}/orders-0/{self.files()[1]}", "r+b") as file:
            file.seek(130)
            file.write(b"\xff\xff")
        producers, other = ProducerTable(), attrs.evolve(TOPIC, name="other", id=uuid4())
        self.log.settings = attrs.evolve(SETTINGS, max_compaction_lag_ms=1)
        spoilt, self.log = self.log, self.store.log(other, 0, SETTINGS, Listener(), producers)
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()

        def fail(found: DamageFound) -> None:
            raise OSError(errno.EIO, "cannot read")

        spoilt.compaction.found_damage = fail
        self.assertEqual(self.clean(), 1)

    def test_a_log_that_has_gone_changes_no_files_of_its_successor(self) -> None:
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        gone = self.log.compaction
        gone.swapping = (self.log.segments.items[:1], self.log.active)
        self.log.active.created = False
        deleted = self.store.delete(TopicPartition(TOPIC.name, 0))
        self.pump()
        self.successResultOf(deleted)
        self.open_log()
        self.append((b"a", b"3"))
        before = self.files("")
        gone.create_active()
        gone.retire()
        self.assertEqual(self.files(""), before)

    def test_damage_that_a_reader_finds_meanwhile(self) -> None:
        for at in range(8):
            self.append((b"k%d" % (at % 3), b"%d" % at + bytes(60)))
        self.roll()
        victim = self.log.segments.items[0]
        create_active = self.log.compaction.create_active

        def find() -> None:
            create_active()
            self.log.segments.take_damage(DamageFound(victim, 130, 1))

        self.log.compaction.create_active = find
        self.assertEqual(self.clean(), 0)
        self.log.compaction.create_active = create_active
        self.assertIs(self.log.segments.items[0], victim)
        self.assertEqual(self.files(".swap") + self.files(".cleaned"), [])
        self.assertEqual(self.clean(), 1)
        self.assertIs(self.log.segments.items[0], victim)

    def test_files_stay_for_the_configured_time(self) -> None:
        self.log.settings = attrs.evolve(SETTINGS, file_delete_delay_ms=5000)
        self.append((b"a", b"1"))
        self.append((b"a", b"2"))
        self.roll()
        self.clean()
        self.assertEqual(len(self.files(".deleted")), 3)
        self.clock.advance(4.9)
        self.pump()
        self.assertEqual(len(self.files(".deleted")), 3)
        self.clock.advance(0.2)
        self.pump()
        self.assertEqual(self.files(".deleted"), [])

    def test_retention_meanwhile(self) -> None:
        for at in range(12):
            self.append((b"k%d" % (at % 3), bytes(100)))
        self.roll()
        log = self.log
        create_active = log.compaction.create_active

        def expire() -> None:
            create_active()
            log.advance_start(4)
            log.enforce_retention(self.now_ms)

        log.compaction.create_active = expire
        self.assertEqual(self.clean(), 0)
        log.compaction.create_active = create_active
        self.assertEqual(self.files(".cleaned") + self.files(".swap"), [])
        self.assertEqual(self.clean(), 1)
        self.assertEqual(list(self.rows()), [9, 10, 11])


class ThreadCase(SynchronousTestCase):
    """The cleaner in its own thread, a reactor that is a list of calls in another."""

    bytes_per_second = 1 << 18

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.calls: list[object] = []
        self.store = LocalLogStore(
            self.directory,
            self.clock,
            self.calls.append,
            Durability.FSYNC,
            cleaner=CleanerSettings(interval_ms=10, max_bytes_per_second=self.bytes_per_second),
        )
        self.store.open()
        self.addCleanup(self.close)
        settings = attrs.evolve(SETTINGS, segment_bytes=1 << 18)
        self.log = self.store.log(TOPIC, 0, settings, Listener(), ProducerTable())

    def close(self) -> None:
        closed = self.store.close()
        while not closed.called:
            self.turn()

    def turn(self) -> None:
        while self.calls:
            self.calls.pop(0)()
        time.sleep(0.001)

    def fill(self, rounds: int) -> None:
        for at in range(rounds):
            data = build([(b"k%d" % (at % 50), bytes(1000), (), 1_700_000_000_000)])
            self.log.append(read_header(data, 0, len(data)), data, 0, None)
        while self.log.durable_offset < self.log.next_offset:
            self.turn()


class EndedTests(ThreadCase):
    """A clean of 4 s that is not to be waited for."""

    def test_deleted_meanwhile(self) -> None:
        self.fill(600)
        while not any(".cleaned" in name for name in os.listdir(f"{self.directory}/orders-0")):
            self.turn()
        deleted = self.store.delete(TopicPartition(TOPIC.name, 0))
        began = time.monotonic()
        while not deleted.called:
            self.turn()
        self.assertLess(time.monotonic() - began, 2)
        self.successResultOf(deleted)
        self.assertEqual([name for name in os.listdir(self.directory) if "orders" in name], [])

    def test_closed_meanwhile(self) -> None:
        self.fill(600)
        while not any(".cleaned" in name for name in os.listdir(f"{self.directory}/orders-0")):
            self.turn()
        began = time.monotonic()
        self.close()
        self.assertLess(time.monotonic() - began, 2)
        self.assertEqual(
            [name for name in os.listdir(f"{self.directory}/orders-0") if ".cleaned" in name], []
        )


class ThrottledTests(ThreadCase):
    """A whole clean, at a pace that is waited for."""

    bytes_per_second = 1 << 19

    def test_by_itself_and_throttled(self) -> None:
        began = time.monotonic()
        self.fill(600)
        while self.log.size_bytes > 300_000 or not self.log.compaction.cleaned_offset:
            self.turn()
        # Two segments of 256 KiB are read twice, at 512 KiB/s, in one round or in two.
        self.assertGreater(time.monotonic() - began, 1)
