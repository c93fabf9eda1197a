"""The rules of compaction, batch by batch."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, build_control, check_crc, read_header, records, stamp
from megabroker.codec.compression import NAMES
from megabroker.codec.rewriting import MAX_TIME, delete_horizon
from megabroker.model import AbortedTransaction, BatchHeader, ProducerSnapshot
from megabroker.storage.cleaning import Cleaning, OffsetMap, last_of_producers

Batch = tuple[BatchHeader, bytes]
Row = tuple[bytes | None, bytes | None]

NOW = 1_000_000
RETENTION = 500


class Log:
    """Batches one after the other, and cleaning them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.next_offset = 0
        self.aborted: list[AbortedTransaction] = []
        self.last_of: dict[int, tuple[int, int]] = {}
        self.cleaned = 0

    def add(self, *rows: Row, timestamp: int = 5000, **fields: int) -> int:
        data = build([(key, value, (), timestamp + at) for at, (key, value) in enumerate(rows)], **fields)
        return self.put(data)

    def put(self, data: bytearray) -> int:
        base = self.next_offset
        stamp(data, base, 3)
        header = read_header(data, 0, len(data))
        self.batches.append((header, bytes(data)))
        self.next_offset = header.next_offset
        return base

    def mark(self, producer: int, *, commit: bool, first: int = -1) -> int:
        data = build_control(
            commit=commit, producer_id=producer, producer_epoch=0, coordinator_epoch=0, timestamp_ms=7000
        )
        offset = self.put(data)
        if first >= 0 and not commit:
            self.aborted.append(AbortedTransaction(producer, first, offset, offset + 1))
        return offset

    def clean(
        self, now: int = NOW, *, end: int | None = None, map_bytes: int = 1 << 20, start: int = 0
    ) -> Cleaning:
        end = self.next_offset if end is None else end
        rules = Cleaning(
            start_offset=start,
            first_dirty_offset=self.cleaned,
            end_offset=end,
            now_ms=now,
            delete_retention_ms=RETENTION,
            aborted=self.aborted,
            last_of=self.last_of,
            map=OffsetMap(map_bytes),
        )
        first, second = rules.first_pass(), rules.second_pass()
        rules.map.end_offset = self.cleaned
        for header, data in self.batches:
            if header.base_offset >= end or not rules.learn(first, header, data, 0):
                break
        kept: list[Batch] = []
        for header, data in self.batches:
            judgement = (
                rules.judge(second, header, data, 0) if header.base_offset < rules.map.end_offset else None
            )
            if judgement is None:
                kept.append((header, data))
            elif not isinstance(judgement, type):
                kept.append((read_header(judgement, 0, len(judgement)), bytes(judgement)))
        self.batches = kept
        self.cleaned = rules.map.end_offset
        return rules

    def rows(self) -> list[tuple[int, bytes | None, bytes | None]]:
        return [
            (one.offset, one.key, one.value) for header, data in self.batches for one in records(data, header)
        ]

    def spans(self) -> list[tuple[int, int, int]]:
        return [(one.base_offset, one.last_offset, one.record_count) for one, _ in self.batches]


class CleaningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = Log()

    def test_the_newest_stays_at_its_offset(self) -> None:
        self.log.add((b"a", b"1"), (b"b", b"1"), (b"c", b"1"))
        self.log.add((b"a", b"2"))
        self.log.add((b"c", b"2"), (b"d", b"1"))
        self.log.clean()
        self.assertEqual(
            self.log.rows(), [(1, b"b", b"1"), (3, b"a", b"2"), (4, b"c", b"2"), (5, b"d", b"1")]
        )
        self.assertEqual(self.log.spans(), [(0, 2, 1), (3, 3, 1), (4, 5, 2)])

    def test_what_stays_whole_stays_as_it_is(self) -> None:
        self.log.add((b"a", b"1"), (b"b", b"1"))
        before = self.log.batches[0][1]
        self.log.add((b"c", b"1"))
        self.log.clean()
        self.assertEqual(self.log.batches[0][1], before)

    def test_a_rewritten_batch_keeps_what_readers_and_producers_go_by(self) -> None:
        for codec in range(len(NAMES)):
            log = Log()
            log.add(
                *((b"k%d" % at, b"v" * at) for at in range(20)),
                producer_id=7,
                producer_epoch=2,
                base_sequence=40,
                compression=codec,
            )
            log.add(*((b"k%d" % at, b"new") for at in range(0, 20, 2)))
            old, _ = log.batches[0]
            log.clean()
            new, data = log.batches[0]
            self.assertEqual(
                new._replace(batch_length=0, crc=0, max_timestamp=0),
                old._replace(batch_length=0, crc=0, max_timestamp=0, record_count=10),
            )
            self.assertEqual(new.max_timestamp, 5000 + 19)
            self.assertTrue(check_crc(data, 0, new))

    def test_the_greatest_timestamp_is_of_a_record_that_stays(self) -> None:
        self.log.add((b"a", b"1"), (b"b", b"1"), timestamp=9000)
        self.log.add((b"b", b"2"), timestamp=100)
        self.log.clean()
        self.assertEqual(self.log.batches[0][0].max_timestamp, 9000)

    def test_a_tombstone_stays_until_its_horizon(self) -> None:
        self.log.add((b"a", b"1"))
        self.log.add((b"x", b"1"), (b"a", None), timestamp=8000)
        self.log.add((b"end", b"1"))
        self.log.clean(NOW)
        self.assertEqual(self.log.rows()[:2], [(1, b"x", b"1"), (2, b"a", None)])
        header, data = self.log.batches[0]
        self.assertEqual(delete_horizon(header), NOW + RETENTION)
        self.assertEqual([one.timestamp_ms for one in records(data, header)], [8000, 8001])
        self.assertEqual(header.max_timestamp, 8001)
        self.log.add((b"b", b"1"))
        self.log.clean(NOW + RETENTION - 1)
        self.assertIn((2, b"a", None), self.log.rows())
        self.assertEqual(delete_horizon(self.log.batches[0][0]), NOW + RETENTION)
        self.log.clean(NOW + RETENTION)
        self.assertEqual(self.log.rows()[0], (1, b"x", b"1"))
        self.assertNotIn(2, [row[0] for row in self.log.rows()])

    def test_a_value_after_the_tombstone(self) -> None:
        self.log.add((b"a", None))
        self.log.add((b"a", b"again"))
        self.log.clean()
        self.assertEqual(self.log.rows(), [(1, b"a", b"again")])

    def test_records_without_a_key_go_and_are_counted(self) -> None:
        self.log.add((None, b"1"), (b"a", b"1"))
        rules = self.log.clean()
        self.assertEqual(self.log.rows(), [(1, b"a", b"1")])
        self.assertEqual(rules.keyless, 1)

    def test_an_unreadable_batch_stays(self) -> None:
        self.log.add((b"a", b"1"))
        data = build([(b"a", b"2", (), 5000)])
        data[61] = 0x7F  # a length that does not fit
        self.log.put(data)
        self.log.add((b"end", b"1"))
        before = self.log.batches[1][1]
        rules = self.log.clean()
        self.assertEqual(self.log.batches[1][1], before)
        self.assertEqual(self.log.batches[0][0].record_count, 1)
        self.assertEqual(rules.unread, 1)

    def test_a_full_map_goes_on_the_next_time(self) -> None:
        for at in range(10):
            self.log.add((b"k%d" % (at % 4), b"%d" % at))
        ends = []
        while self.log.cleaned < self.log.next_offset:
            self.log.clean(map_bytes=2 * 192)
            ends.append(self.log.cleaned)
        self.assertGreater(len(ends), 3)
        self.assertEqual([row[0] for row in self.log.rows()], [6, 7, 8, 9])

    def test_a_batch_larger_than_the_map_is_mapped_part_by_part(self) -> None:
        self.log.add(*((b"k%d" % at, b"1") for at in range(50)))
        self.log.add(*((b"k%d" % at, b"2") for at in range(50)))
        while self.log.cleaned < 100:
            before = self.log.cleaned
            rules = self.log.clean(map_bytes=10 * 192)
            self.assertLessEqual(len(rules.map), 10)
            self.assertGreater(self.log.cleaned, before)
        self.assertEqual([row[0] for row in self.log.rows()], list(range(50, 100)))

    def test_the_records_of_a_large_batch_are_not_held(self) -> None:
        count = 30_000
        self.log.add(*((b"%d" % at, b"1") for at in range(count)))
        self.log.add((b"7", b"2"))
        tracemalloc.start()
        try:
            self.log.clean(map_bytes=192)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(most, 6 << 20)

    def test_the_last_batch_of_a_producer_keeps_its_head(self) -> None:
        self.log.add((b"a", b"1"), (b"b", b"1"), producer_id=7, producer_epoch=1, base_sequence=10)
        self.log.add((b"a", b"2"), (b"b", b"2"))
        self.log.last_of = last_of_producers(
            [ProducerSnapshot(7, 1, ((10, 11, 0, 1, 5000),)), ProducerSnapshot(8, 0, ())]
        )
        self.log.clean()
        header = self.log.batches[0][0]
        self.assertEqual((header.base_offset, header.last_offset, header.record_count), (0, 1, 0))
        self.assertEqual((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 10))
        self.log.last_of = {}
        self.log.clean()
        self.assertEqual(self.log.spans(), [(2, 3, 2)])

    def test_the_end_of_what_is_cleaned_keeps_its_head(self) -> None:
        self.log.add((b"a", b"1"))
        self.log.add((b"a", None))
        self.log.clean(NOW)
        self.log.clean(NOW + RETENTION)
        self.assertEqual(self.log.spans(), [(1, 1, 0)])

    def test_below_the_start(self) -> None:
        self.log.add((b"a", b"1"))
        self.log.add((b"b", b"1"))
        self.log.clean(start=1)
        self.assertEqual(self.log.rows(), [(1, b"b", b"1")])

    def transaction(self, producer: int, *rows: Row) -> int:
        return self.log.add(*rows, producer_id=producer, producer_epoch=0, base_sequence=0, attributes=16)

    def test_an_aborted_record_replaces_nothing_and_goes(self) -> None:
        self.log.add((b"a", b"1"))
        first = self.transaction(5, (b"a", b"aborted"))
        self.log.mark(5, commit=False, first=first)
        self.log.add((b"b", b"1"))
        self.log.clean()
        self.assertEqual(self.log.rows(), [(0, b"a", b"1"), (3, b"b", b"1")])

    def test_a_committed_record_of_a_producer_that_aborted_before(self) -> None:
        first = self.transaction(5, (b"a", b"aborted"))
        self.log.mark(5, commit=False, first=first)
        self.transaction(5, (b"a", b"committed"))
        self.log.mark(5, commit=True)
        self.log.clean()
        self.assertEqual(self.log.rows(), [(2, b"a", b"committed")])

    def test_a_marker_outlives_its_records_by_the_retention_of_deletions(self) -> None:
        for commit in (True, False):
            log = self.log = Log()
            first = self.transaction(5, (b"a", b"1"))
            marker = log.mark(5, commit=commit, first=first)
            log.add((b"a", b"2"))

            def markers(log: Log = log) -> list[int | None]:
                return [delete_horizon(one) for one, _ in log.batches if one.is_control and one.record_count]

            log.clean(NOW)  # the records go; the marker was theirs until now
            self.assertEqual(log.spans(), [(marker, marker, 1), (2, 2, 1)])
            self.assertEqual(markers(), [None])
            log.clean(NOW)  # nothing is left of the transaction
            self.assertEqual(markers(), [NOW + RETENTION])
            log.clean(NOW + RETENTION - 1)
            self.assertEqual(markers(), [NOW + RETENTION])
            log.clean(NOW + RETENTION)
            self.assertEqual(log.spans(), [(2, 2, 1)])

    def test_the_marker_of_a_head_stays(self) -> None:
        first = self.transaction(5, (b"a", b"1"))
        marker = self.log.mark(5, commit=False, first=first)
        self.log.last_of = {5: (first, 0)}
        self.log.add((b"end", b"1"))
        for at in range(4):
            self.log.clean(NOW + at * RETENTION)
        self.assertEqual(self.log.spans(), [(first, first, 0), (marker, marker, 1), (2, 2, 1)])

    def test_a_producer_of_which_only_the_marker_is_known(self) -> None:
        marker = self.log.mark(5, commit=True)
        self.log.last_of = {5: (-1, 0)}
        self.log.add((b"end", b"1"))
        for at in range(4):
            self.log.clean(NOW + at * RETENTION)
        self.assertEqual(self.log.spans(), [(marker, marker, 0), (1, 1, 1)])

    def test_a_lost_marker_aborts_no_later_transaction(self) -> None:
        first = self.transaction(5, (b"a", b"aborted"))
        marker = self.log.mark(5, commit=False, first=first)
        del self.log.batches[1]
        self.transaction(5, (b"a", b"committed"))
        self.log.mark(5, commit=True)
        self.log.clean()
        self.assertEqual(self.log.rows(), [(marker + 1, b"a", b"committed")])

    def test_a_retention_without_end(self) -> None:
        self.log.add((b"a", None), timestamp=-5000)
        self.log.add((b"b", b"1"))
        self.log.clean(2**63 - RETENTION)
        header, data = self.log.batches[0]
        self.assertEqual(delete_horizon(header), MAX_TIME)
        self.assertEqual([one.timestamp_ms for one in records(data, header)], [-5000])

    def test_keys_longer_than_a_hash(self) -> None:
        offsets = OffsetMap(1 << 20)
        long, other = bytes(1000), bytes(1001)
        offsets.put(long, 5)
        offsets.put(b"", 6)
        self.assertEqual([offsets.newest(key) for key in (long, other, b"", bytes(15))], [5, -1, 6, -1])


KEYS = st.sampled_from([b"", b"a", b"b", b"c", b"0123456789abcdef", b"0123456789abcdeg"])
ROWS = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=6))), min_size=1, max_size=5)


class ModelTests(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(ROWS, st.integers(0, 4), st.booleans(), st.integers(0, 3 * RETENTION)), min_size=1
        ),
        st.sampled_from((1, 3 * 192, 1 << 20)),
    )
    def test_any_log_in_any_number_of_turns(
        self, steps: Sequence[tuple[list[Row], int, bool, int]], map_bytes: int
    ) -> None:
        log = Log()
        everything: dict[int, Row] = {}
        newest: dict[bytes | None, int] = {}
        now = NOW
        for rows, codec, cleans, wait in steps:
            base = log.add(*rows, compression=codec)
            for at, row in enumerate(rows):
                everything[base + at] = row
                newest[row[0]] = base + at
            now += wait
            if cleans:
                log.clean(now, map_bytes=map_bytes)
            found = {offset: (key, value) for offset, key, value in log.rows()}
            for offset, row in found.items():
                self.assertEqual(row, everything[offset])
            for key, offset in newest.items():
                if everything[offset][1] is not None:
                    self.assertIn(offset, found, key)
            below = [key for offset, (key, _) in found.items() if offset < log.cleaned]
            self.assertEqual(len(below), len(set(below)))
            ends = [(header.base_offset, header.next_offset) for header, _ in log.batches]
            self.assertEqual(ends, sorted(ends))
            self.assertTrue(all(end <= start for (_, end), (start, _) in pairwise(ends)))
            self.assertEqual(ends[-1][1], log.next_offset)
