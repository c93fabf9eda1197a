"""One partition as a share group consumes it: what is handed out, taken back and done with."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.shares.runs import RecordState, Run, Runs
from megabroker.core.shares.share_partition import ShareLimits, SharePartition
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import AcknowledgementBatch, AcquiredRecords, LogSpan, ShareStateBatch

GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)
AVAILABLE, ACQUIRED, ACKNOWLEDGED, ARCHIVED = RecordState
LOCK_MS = 1000


def spans(*sizes: int, first: int = 0) -> list[LogSpan]:
    """Return batches of so many records in a row."""
    found = []
    for size in sizes:
        found.append(LogSpan(first, first + size - 1))
        first += size
    return found


def ack(first: int, last: int, *types: int) -> list[AcknowledgementBatch]:
    return [AcknowledgementBatch(first, last, types or (ACCEPT,))]


class ShareCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now_ms = 0
        self.begin()

    def begin(self, start: int = 0, *stored: ShareStateBatch, locks: int = 2000, limit: int = 5) -> None:
        limits = ShareLimits(limit, locks, LOCK_MS)
        self.share = SharePartition(start, limits, stored)

    def acquire(
        self, *found: LogSpan, member: str = "a", most: int = 500, row: int = 500, strict: bool = False
    ) -> list[tuple[int, int, int]]:
        offset = self.share.fetch_offset()
        if offset is None:
            return []
        wanted = [one for one in found if one.last >= offset]
        rows = self.share.acquire(member, offset, wanted, most, row, self.now_ms, strict=strict)
        return [tuple(row) for row in rows]

    def acknowledge(self, *batch: int, member: str = "a") -> None:
        self.share.acknowledge(member, ack(*batch), self.now_ms)

    def assert_refused(self, code: ErrorCode, *batch: int, member: str = "a") -> None:
        before = self.share.runs
        with self.assertRaises(BrokerError) as caught:
            self.acknowledge(*batch, member=member)
        self.assertIs(caught.exception.code, code)
        self.assertEqual(self.share.runs, before)

    def states(self) -> list[tuple[int, int, str, int]]:
        return [(run.first, run.last, run.state.name, run.deliveries) for run in self.share.runs]


class HandingOutTests(ShareCase):
    def test_whole_batches_until_there_are_enough(self) -> None:
        log = spans(4, 4, 4)
        self.assertEqual(self.acquire(*log, most=5), [(0, 7, 1)])
        self.assertEqual(self.acquire(*log, most=5, member="b"), [(8, 11, 1)])
        self.assertEqual(self.acquire(*log), [])

    def test_strictly_no_more_than_asked_for(self) -> None:
        log = spans(4, 4)
        self.assertEqual(self.acquire(*log, most=3, strict=True), [(0, 2, 1)])
        self.assertEqual(self.states(), [(0, 2, "ACQUIRED", 1), (3, 3, "AVAILABLE", 0)])
        self.assertEqual(self.acquire(*log, most=3, strict=True, member="b"), [(3, 5, 1)])
        self.assertEqual(self.share.fetch_offset(), 6)

    def test_rows_end_with_a_batch_once_they_are_large_enough(self) -> None:
        self.assertEqual(self.acquire(*spans(2, 2, 2, 1), row=3), [(0, 3, 1), (4, 6, 1)])

    def test_from_the_middle_of_a_batch(self) -> None:
        self.begin(2)
        self.assertEqual(self.acquire(*spans(4)), [(2, 3, 1)])

    def test_holes_and_unreadable_batches_are_passed_over(self) -> None:
        log = [LogSpan(0, 1), LogSpan(4, 5), LogSpan(6, 6, readable=False), LogSpan(7, 7)]
        self.assertEqual(self.acquire(*log), [(0, 1, 1), (4, 5, 1), (7, 7, 1)])
        self.acknowledge(0, 1)
        self.assertEqual(self.share.start_offset, 4)
        self.acknowledge(4, 5)
        self.assertEqual(self.share.start_offset, 7)

    def test_nothing_but_a_marker_moves_the_start(self) -> None:
        self.assertEqual(self.acquire(LogSpan(0, 0, readable=False)), [])
        self.assertEqual((self.share.start_offset, self.share.in_flight), (1, 0))

    def test_no_more_in_flight_than_may_be(self) -> None:
        self.begin(locks=6)
        log = spans(4, 4, 4)
        self.assertEqual(self.acquire(*log), [(0, 7, 1)])
        self.assertIsNone(self.share.fetch_offset())
        self.acknowledge(2, 3, RELEASE)
        self.assertEqual(self.acquire(*log, member="b"), [(2, 3, 2)])
        self.acknowledge(0, 1)
        self.acknowledge(2, 3, member="b")
        self.assertEqual(self.share.fetch_offset(), 8)

    def test_what_the_log_has_deleted_is_done_with(self) -> None:
        self.acquire(*spans(4))
        self.assertTrue(self.share.advance(2))
        self.assertFalse(self.share.advance(1))
        self.acknowledge(0, 1)
        self.acknowledge(0, 3)
        self.assertEqual((self.share.start_offset, self.states()), (4, []))
        self.assertTrue(self.share.advance(10))
        self.assertEqual(self.share.fetch_offset(), 10)


class AcknowledgingTests(ShareCase):
    def setUp(self) -> None:
        super().setUp()
        self.acquire(*spans(10))

    def test_accepted_in_order(self) -> None:
        self.acknowledge(0, 4)
        self.assertEqual((self.share.start_offset, self.states()), (5, [(5, 9, "ACQUIRED", 1)]))

    def test_accepted_out_of_order(self) -> None:
        self.acknowledge(5, 9)
        self.assertEqual((self.share.start_offset, self.share.complete_count), (0, 5))
        self.acknowledge(0, 4)
        self.assertEqual((self.share.start_offset, self.share.complete_count), (10, 0))

    def test_one_type_for_each(self) -> None:
        self.acknowledge(0, 4, ACCEPT, RELEASE, REJECT, GAP, ACCEPT)
        self.assertEqual(
            self.states(),
            [
                (1, 1, "AVAILABLE", 1),
                (2, 3, "ARCHIVED", 1),
                (4, 4, "ACKNOWLEDGED", 1),
                (5, 9, "ACQUIRED", 1),
            ],
        )

    def test_refused_whole(self) -> None:
        self.assert_refused(ErrorCode.INVALID_RECORD_STATE, 0, 4, member="b")
        self.assert_refused(ErrorCode.INVALID_REQUEST, 5, 10)
        self.assert_refused(ErrorCode.INVALID_REQUEST, 0, 1, ACCEPT, 7)
        self.acknowledge(3, 3)
        self.assert_refused(ErrorCode.INVALID_RECORD_STATE, 0, 4)
        before = self.share.runs
        with self.assertRaises(BrokerError):
            self.share.acknowledge("a", [*ack(0, 2), *ack(3, 3)], 0)
        self.assertEqual(self.share.runs, before)

    def test_renewed(self) -> None:
        self.now_ms = 600
        self.acknowledge(0, 1, RENEW)
        self.assertTrue(self.share.expire(LOCK_MS))
        self.assertEqual(self.states(), [(0, 1, "ACQUIRED", 1), (2, 9, "AVAILABLE", 1)])
        self.assertEqual(self.share.next_deadline_ms(), 600 + LOCK_MS)
        self.share.limits = ShareLimits(renew_acknowledge_enable=False)
        self.assert_refused(ErrorCode.INVALID_RECORD_STATE, 0, 1, RENEW)

    def test_too_late(self) -> None:
        self.assertFalse(self.share.expire(LOCK_MS - 1))
        self.assertTrue(self.share.expire(LOCK_MS))
        self.assert_refused(ErrorCode.INVALID_RECORD_STATE, 0, 1)
        self.assertEqual(self.acquire(*spans(10), member="b"), [(0, 9, 2)])
        self.assert_refused(ErrorCode.INVALID_RECORD_STATE, 0, 1)
        self.acknowledge(0, 9, member="b")

    def test_released_by_a_member_that_goes(self) -> None:
        self.acknowledge(0, 1, RELEASE)
        self.acquire(*spans(10), member="b")
        self.assertFalse(self.share.release("c"))
        self.assertTrue(self.share.release("a"))
        self.assertEqual(self.states(), [(0, 1, "ACQUIRED", 2), (2, 9, "AVAILABLE", 1)])


class DeliveryCountTests(ShareCase):
    def deliver(self, most: int = 500) -> list[tuple[int, int, int]]:
        rows = self.acquire(*spans(8), most=most)
        self.share.release("a")
        return rows

    def test_fewer_and_fewer_together_the_last_time_alone(self) -> None:
        self.assertEqual([self.deliver() for _ in range(3)], [[(0, 7, 1)], [(0, 7, 2)], [(0, 7, 3)]])
        self.assertEqual(self.acquire(*spans(8)), [(0, 3, 4)])
        self.assertEqual(self.acquire(*spans(8)), [(4, 7, 4)])
        self.share.release("a")
        self.assertEqual(self.acquire(*spans(8)), [(0, 0, 5)])
        self.assertEqual(self.acquire(*spans(8)), [(1, 1, 5)])
        self.share.release("a")
        self.assertEqual((self.share.start_offset, self.states()), (2, [(2, 7, "AVAILABLE", 4)]))

    def test_throttled_ones_come_without_others(self) -> None:
        for _ in range(3):
            self.deliver()
        self.acquire(*spans(8), member="x")
        self.share.acknowledge("x", ack(0, 1, RELEASE), 0)
        self.share.acknowledge("x", ack(2, 3), 0)
        rows = self.acquire(*spans(8, 4))
        self.assertEqual(rows, [(0, 0, 5)])

    def test_the_lowest_limit(self) -> None:
        self.begin(limit=2)
        self.assertEqual(self.deliver(), [(0, 7, 1)])
        self.assertEqual(self.deliver(), [(0, 7, 2)])
        self.assertEqual((self.share.start_offset, self.states()), (8, []))


class StoredTests(ShareCase):
    def test_what_outlives_a_restart(self) -> None:
        self.acquire(*spans(10))
        self.acknowledge(1, 2)
        self.acknowledge(4, 5, RELEASE)
        self.acknowledge(7, 7, REJECT)
        self.acquire(*spans(10), member="b")
        stored = self.share.to_store()
        self.assertEqual(stored, [(1, 2, 2, 1), (4, 5, 0, 1), (7, 7, 4, 1)])
        self.begin(self.share.start_offset, *stored)
        self.assertEqual(
            self.states(),
            [
                (0, 0, "AVAILABLE", 0),
                (1, 2, "ACKNOWLEDGED", 1),
                (3, 3, "AVAILABLE", 0),
                (4, 5, "AVAILABLE", 1),
                (6, 6, "AVAILABLE", 0),
                (7, 7, "ARCHIVED", 1),
            ],
        )
        self.assertEqual(
            self.acquire(*spans(10), row=1), [(0, 0, 1), (3, 3, 1), (4, 5, 2), (6, 6, 1), (8, 9, 1)]
        )

    def test_rows_that_overlap_or_lie_below_the_start(self) -> None:
        batches = [ShareStateBatch(0, 4, 2, 1), ShareStateBatch(3, 6, 0, 2), ShareStateBatch(8, 8, 4, 1)]
        self.begin(2, *batches)
        self.assertEqual(self.share.start_offset, 5)
        self.assertEqual(
            self.states(), [(5, 6, "AVAILABLE", 2), (7, 7, "AVAILABLE", 0), (8, 8, "ARCHIVED", 1)]
        )


class RunsTests(SynchronousTestCase):
    def test_ten_thousand_records_are_one_run(self) -> None:
        share = SharePartition(0, ShareLimits())
        rows = share.acquire("a", 0, [LogSpan(0, 9_999)], 1, 1, 0)
        self.assertEqual(rows, [AcquiredRecords(0, 9_999, 1)])
        self.assertEqual(len(share.runs), 1)
        share.acknowledge("a", ack(0, 9_998), 0)
        self.assertEqual(share.start_offset, 9_999)

    def test_a_batch_of_a_million_records_is_handed_out_part_by_part(self) -> None:
        share = SharePartition(0, ShareLimits())
        spans = [LogSpan(0, 999_999), LogSpan(1_000_000, 1_000_000)]
        self.assertEqual(share.acquire("a", 0, spans, 10**9, 10**9, 0), [AcquiredRecords(0, 9_999, 1)])
        self.assertEqual((share.fetch_offset(), share.acquire("b", 10_000, spans, 1, 1, 0)), (None, []))
        share.acknowledge("a", [AcknowledgementBatch(0, 9_999, [1, 2] * 5_000)], 0)
        self.assertEqual(len(share.runs), 9_999)
        share.release("a")
        offset = 1
        while offset is not None and offset < 1_000_000:
            rows = share.acquire("a", offset, spans, 10**9, 10**9, 0)
            self.assertLess(share.in_flight, 10_001)
            share.acknowledge("a", [AcknowledgementBatch(one[0], one[1], [1]) for one in rows], 0)
            offset = share.fetch_offset()
        self.assertEqual(
            share.acquire("a", 1_000_000, spans[1:], 1, 1, 0), [AcquiredRecords(1_000_000, 1_000_000, 1)]
        )
        self.assertEqual(share.start_offset, 1_000_000)

    def test_cut_and_join(self) -> None:
        runs = Runs([Run(0, 9, AVAILABLE, 0)])
        runs.change(3, 5, lambda run: run._replace(deliveries=1))
        self.assertEqual([(run.first, run.last) for run in runs], [(0, 2), (3, 5), (6, 9)])
        runs.change(4, 7, lambda run: run._replace(deliveries=0))
        self.assertEqual([(run.first, run.last) for run in runs], [(0, 2), (3, 3), (4, 9)])
        runs.change(0, 100, lambda run: run._replace(deliveries=7))
        self.assertEqual([(run.first, run.last) for run in runs], [(0, 9)])
        runs.cut(4)
        self.assertEqual((runs.between(0, 5), runs.end), ([Run(4, 5, AVAILABLE, 7)], 10))
        runs.cut(10)
        self.assertEqual((len(runs), runs.end), (0, None))
