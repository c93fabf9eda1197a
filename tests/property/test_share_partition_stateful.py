"""A share partition under arbitrary members, logs, time and restarts, compared record by record."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from megabroker.core.shares.runs import TERMINAL, RecordState
from megabroker.core.shares.share_partition import ShareLimits, SharePartition
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import AcknowledgementBatch, LogSpan

MEMBERS = st.sampled_from(["a", "b", "c"])
LOCK_MS = 100
OFFSETS = st.integers(0, 60)


class Told:
    """What the test knows of one record: who has it until when, how often it was delivered, whether done."""

    def __init__(self) -> None:
        self.member = ""
        self.deadline_ms = 0
        self.deliveries = 0
        self.done = False


class SharePartitionMachine(RuleBasedStateMachine):
    @initialize(limit=st.integers(2, 6), locks=st.integers(3, 30))
    def begin(self, limit: int, locks: int) -> None:
        self.limits = ShareLimits(limit, locks, LOCK_MS)
        self.share = SharePartition(0, self.limits)
        self.log: list[LogSpan] = []
        self.told: dict[int, Told] = {}
        self.now_ms = 0
        self.log_start = 0
        self.start = 0

    def of(self, offset: int) -> Told:
        return self.told.setdefault(offset, Told())

    # --- what happens -----------------------------------------------------------------------------

    @rule(
        sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3), hole=st.integers(0, 3), bad=st.booleans()
    )
    def produce(self, sizes: list[int], hole: int, bad: bool) -> None:
        first = self.log[-1].last + 1 if self.log else 0
        first += hole if self.log else 0
        for size in sizes:
            self.log.append(LogSpan(first, first + size - 1, readable=not (bad and size == 1)))
            first += size

    @rule(
        member=MEMBERS,
        most=st.integers(1, 8),
        row=st.integers(1, 8),
        strict=st.booleans(),
        read=st.integers(1, 4),
    )
    def fetch(self, member: str, most: int, row: int, strict: bool, read: int) -> None:
        offset = self.share.fetch_offset()
        if offset is None:
            assert self.share.in_flight >= self.limits.partition_max_record_locks
            return
        spans = [span for span in self.log if span.last >= offset][:read]
        readable = {o for span in spans if span.readable for o in range(span.first, span.last + 1)}
        rows = self.share.acquire(member, offset, spans, most, row, self.now_ms, strict=strict)
        got = [(o, one.delivery_count) for one in rows for o in range(one.first_offset, one.last_offset + 1)]
        offsets = [o for o, _ in got]
        assert offsets == sorted(set(offsets))
        assert not strict or len(offsets) <= most
        for o, deliveries in got:
            record = self.of(o)
            assert o in readable
            assert not record.member, "acquired by two members"
            assert not record.done, "delivered though done with"
            record.member, record.deadline_ms = member, self.now_ms + LOCK_MS
            record.deliveries += 1
            assert record.deliveries == deliveries
            assert deliveries <= self.limits.delivery_count_limit

    @rule(member=MEMBERS, first=OFFSETS, types=st.lists(st.integers(0, 4), min_size=1, max_size=6))
    def acknowledge(self, member: str, first: int, types: list[int]) -> None:
        self.answer(member, first, first + len(types) - 1, types)

    @rule(member=MEMBERS, first=OFFSETS, size=st.integers(1, 10), kind=st.integers(0, 4))
    def acknowledge_alike(self, member: str, first: int, size: int, kind: int) -> None:
        self.answer(member, first, first + size - 1, [kind])

    @rule(owner=MEMBERS, member=MEMBERS, kind=st.integers(0, 4), most=st.integers(1, 20))
    def acknowledge_what_is_acquired(self, owner: str, member: str, kind: int, most: int) -> None:
        for o in sorted(o for o, record in self.told.items() if record.member == owner)[:most]:
            self.answer(member, o, o, [kind])

    def answer(self, member: str, first: int, last: int, types: list[int]) -> None:
        wanted = {
            o: types[0] if len(types) == 1 else types[o - first]
            for o in range(first, last + 1)
            if o >= self.share.start_offset
        }
        may = all(self.of(o).member == member for o in wanted)
        try:
            self.share.acknowledge(member, [AcknowledgementBatch(first, last, types)], self.now_ms)
            refused = None
        except BrokerError as error:
            refused = error.code
        assert refused in (None, ErrorCode.INVALID_RECORD_STATE, ErrorCode.INVALID_REQUEST)
        assert may == (refused is None)
        if refused is not None:
            return
        for o, kind in wanted.items():
            record = self.of(o)
            if kind == 4:
                record.deadline_ms = self.now_ms + LOCK_MS
                continue
            record.member = ""
            record.done = kind != 2 or record.deliveries >= self.limits.delivery_count_limit

    @rule(member=MEMBERS)
    def member_goes(self, member: str) -> None:
        self.share.release(member)
        self.let_go(lambda record: record.member == member)

    @rule(ms=st.integers(1, LOCK_MS))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        self.share.expire(self.now_ms)
        self.let_go(lambda record: bool(record.member) and record.deadline_ms <= self.now_ms)

    def let_go(self, whether) -> None:
        for record in self.told.values():
            if record.member and whether(record):
                record.member = ""
                record.done = record.deliveries >= self.limits.delivery_count_limit

    @rule(offset=OFFSETS)
    def log_is_cut(self, offset: int) -> None:
        end = self.log[-1].last + 1 if self.log else 0
        self.log_start = max(self.log_start, min(offset, end))
        self.share.advance(self.log_start)
        for o in range(self.log_start):
            self.of(o).member, self.of(o).done = "", True

    @rule()
    def restart(self) -> None:
        self.share = SharePartition(self.share.start_offset, self.limits, self.share.to_store())
        for record in self.told.values():
            if record.member:
                # As Kafka has it: who had it is forgotten, and so is that delivery.
                record.member, record.deliveries = "", record.deliveries - 1

    # --- what holds -------------------------------------------------------------------------------

    @invariant()
    def the_start_never_goes_back(self) -> None:
        assert self.share.start_offset >= self.start
        self.start = self.share.start_offset

    @invariant()
    def runs_are_whole_and_unlike(self) -> None:
        expected = self.share.start_offset
        before = None
        for run in self.share.runs:
            assert run.first == expected
            assert run.last >= run.first
            assert before is None or before[2:] != run[2:]
            before, expected = run, run.last + 1
        if self.share.runs:
            assert self.share.runs[0].state not in TERMINAL

    @invariant()
    def every_record_is_where_it_was_told_to_be(self) -> None:
        for run in self.share.runs:
            for o in range(run.first, run.last + 1):
                record = self.told.get(o)
                if run.state is RecordState.ACQUIRED:
                    assert record is not None
                    assert (record.member, record.deadline_ms) == (run.member_id, run.deadline_ms)
                    assert record.deliveries == run.deliveries
                elif record is not None and record.deliveries:
                    assert not record.member
                    assert record.done or run.state is RecordState.AVAILABLE
        for o, record in self.told.items():
            if record.member:
                assert o >= self.share.start_offset
            if record.deliveries and not record.done:
                assert o >= self.share.start_offset, "lost"


TestSharePartition = SharePartitionMachine.TestCase
TestSharePartition.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
