"""A partition as one share group consumes it (KIP-932), as a state machine without clock or I/O.

Owns which record is available, acquired by whom and until when, acknowledged or archived, and how often it
has been delivered. Takes events and the time, returns what was acquired or refuses; must never know a log, a
store, a timer or a wire.

    AVAILABLE --acquire--> ACQUIRED --accept--> ACKNOWLEDGED
        ^                     |  '----reject, gap----> ARCHIVED
        '--release, time-out--'  and ARCHIVED instead when delivered as often as is allowed

Everything below ``start_offset`` is done with; what lies from there to ``next_offset`` is in flight, and
everything beyond has not been looked at. A record that comes back is delivered with fewer and fewer beside
it, the last time alone, so that one that breaks its consumers takes few others with it (Kafka 4.3).

Invariant: no record is acquired by two members; ``start_offset`` never goes back and is not done with; no
record that has been delivered as often as is allowed becomes available again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Final

import attrs

from megabroker.core.shares.runs import TERMINAL, RecordState, Run, Runs
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.model import AcknowledgementBatch, AcknowledgeType, AcquiredRecords, LogSpan, ShareStateBatch

__all__ = ["ShareLimits", "SharePartition"]

_LOWEST_THROTTLED_DELIVERIES: Final = 2
_MAX_IN_FLIGHT: Final = 10_000
"""Records of which each may be in another state; of a larger batch the rest waits for the first of them."""

_STATES: Final = {
    AcknowledgeType.GAP: RecordState.ARCHIVED,
    AcknowledgeType.ACCEPT: RecordState.ACKNOWLEDGED,
    AcknowledgeType.RELEASE: RecordState.AVAILABLE,
    AcknowledgeType.REJECT: RecordState.ARCHIVED,
}


@attrs.frozen
class ShareLimits:
    """What a group allows; the names are those of Kafka's group configurations."""

    delivery_count_limit: int = 5
    partition_max_record_locks: int = 2000
    record_lock_duration_ms: int = 30_000
    renew_acknowledge_enable: bool = True


class SharePartition:
    """One share partition.

    Args:
        start_offset: the first record that is not done with.
        stored: what was known of the records from there on.

    Attributes:
        limits: may be changed at any time.
    """

    def __init__(
        self, start_offset: int, limits: ShareLimits, stored: Sequence[ShareStateBatch] = ()
    ) -> None:
        self.start_offset = start_offset
        self.limits = limits
        self._runs = Runs()
        for first, last, state, deliveries in stored:
            if first > self.next_offset:
                self._runs.append(Run(self.next_offset, first - 1, RecordState.AVAILABLE, 0))
            if last >= self.next_offset:
                self._runs.append(Run(self.next_offset, last, RecordState(state), deliveries))
        self._settle()

    # --- what there is ----------------------------------------------------------------------------

    @property
    def runs(self) -> list[Run]:
        """Everything in flight, in offset order."""
        return list(self._runs)

    @property
    def next_offset(self) -> int:
        """The first offset not looked at yet."""
        end = self._runs.end
        return self.start_offset if end is None else end

    @property
    def in_flight(self) -> int:
        """How many offsets are in flight."""
        return self.next_offset - self.start_offset

    @property
    def complete_count(self) -> int:
        """How many records in flight are done with."""
        return sum(run.size for run in self._runs if run.state in TERMINAL)

    def fetch_offset(self) -> int | None:
        """Return from where records can be acquired; None while as many are in flight as may be."""
        for run in self._runs:
            if run.state is RecordState.AVAILABLE:
                return run.first
        return self.next_offset if self._has_room() else None

    def next_deadline_ms(self) -> int | None:
        """Return when the next lock times out, None without locks."""
        return min((run.deadline_ms for run in self._runs if run.deadline_ms), default=None)

    def to_store(self) -> list[ShareStateBatch]:
        """Return what must outlive a restart; who has acquired what does not."""
        stored = []
        for run in self._runs:
            state, deliveries = run.state, run.deliveries
            if state is RecordState.ACQUIRED:
                state, deliveries = RecordState.AVAILABLE, deliveries - 1
            if deliveries or state in TERMINAL:
                stored.append(ShareStateBatch(run.first, run.last, int(state), deliveries))
        return stored

    def _has_room(self) -> bool:
        return self.in_flight < self.limits.partition_max_record_locks

    # --- handing out ------------------------------------------------------------------------------

    def acquire(
        self,
        member_id: str,
        from_offset: int,
        spans: Sequence[LogSpan],
        max_records: int,
        batch_size: int,
        now_ms: int,
        *,
        strict: bool = False,
    ) -> list[AcquiredRecords]:
        """Acquire records for a member until the lock's time is over.

        Args:
            from_offset: what ``fetch_offset`` gave.
            spans: the log's batches from there on, in order; what lies between them does not exist.
            max_records: where to stop; unless ``strict``, the batch where that is reached is acquired whole,
                if it is not too large to be in flight.
            batch_size: records of one answer's row that are enough, unless ``strict``.
        """
        taken: list[AcquiredRecords] = []
        room = max_records
        expected = from_offset
        for span in spans:
            if room <= 0:
                break
            if span.first > expected:
                self._archive(expected, span.first - 1)
            expected = max(expected, span.last + 1)
            if span.last >= self.next_offset:
                if span.first >= self.next_offset and not self._has_room():
                    break
                if span.readable:
                    last = min(span.last, self.start_offset + _MAX_IN_FLIGHT - 1)
                    self._look_at(last, RecordState.AVAILABLE)
            if not span.readable:
                self._archive(span.first, span.last)
                continue
            acquired, throttled = self._take(member_id, span, room if strict else None, now_ms, bool(taken))
            room -= sum(one.last_offset - one.first_offset + 1 for one in acquired)
            taken += acquired
            if throttled or span.last >= self.next_offset:
                break
        rows = list(_rows(taken, max_records if strict else batch_size))
        self._remember_company(rows)
        self._settle()
        return rows

    def _take(
        self, member_id: str, span: LogSpan, room: int | None, now_ms: int, beside_others: bool
    ) -> tuple[list[AcquiredRecords], bool]:
        """Acquire what is available of a span; return also whether nothing may be acquired beside it."""
        deadline_ms = now_ms + self.limits.record_lock_duration_ms
        acquired: list[AcquiredRecords] = []
        throttled = False
        for run in self._runs.between(max(span.first, self.start_offset), span.last):
            if run.state is not RecordState.AVAILABLE:
                continue
            count = run.size
            company = self._company(run)
            if company is not None:
                throttled = True
                if acquired or beside_others:
                    break
                count = min(count, company)
            if room is not None:
                count = min(count, room)
                room -= count
            if count <= 0:
                break
            last = run.first + count - 1
            self._runs.change(
                run.first,
                last,
                lambda one: one._replace(
                    state=RecordState.ACQUIRED,
                    deliveries=one.deliveries + 1,
                    member_id=member_id,
                    deadline_ms=deadline_ms,
                ),
            )
            acquired.append(AcquiredRecords(run.first, last, run.deliveries + 1))
            if throttled:
                break
        return acquired, throttled

    def _company(self, run: Run) -> int | None:
        """Return how many of these may be delivered together; None when that is not limited any more."""
        limit = self.limits.delivery_count_limit
        throttled_from = max(_LOWEST_THROTTLED_DELIVERIES, (limit + 1) // 2)
        if run.deliveries < throttled_from:
            return None
        if limit > _LOWEST_THROTTLED_DELIVERIES and run.deliveries >= limit - 1:
            return 1
        return max(1, (run.together or run.size) >> (run.deliveries - throttled_from + 1))

    def _remember_company(self, rows: Sequence[AcquiredRecords]) -> None:
        for row in rows:
            if row.delivery_count == 1:
                together = row.last_offset - row.first_offset + 1
                remember = partial(Run._replace, together=together)
                self._runs.change(row.first_offset, row.last_offset, remember)

    def _look_at(self, last: int, state: RecordState) -> None:
        first = self.next_offset
        if last >= first:
            self._runs.append(Run(first, last, state, 0))

    def _archive(self, first: int, last: int) -> None:
        """Have nobody wait for records that cannot be read; what somebody has acquired stays with them."""
        self._runs.change(max(first, self.start_offset), last, _archived_if_available)
        self._look_at(last, RecordState.ARCHIVED)

    # --- acknowledging ----------------------------------------------------------------------------

    def acknowledge(self, member_id: str, batches: Sequence[AcknowledgementBatch], now_ms: int) -> None:
        """Take acknowledgements from a member, all of them or none.

        Raises:
            RequestError: INVALID_REQUEST for records that were never handed out, or an unknown type.
            StateError: INVALID_RECORD_STATE for records the member has not acquired.
        """
        before = self._runs.copy()
        try:
            for batch in batches:
                for first, last, kind in _pieces(batch):
                    if last >= self.start_offset:
                        self._acknowledge(member_id, max(first, self.start_offset), last, kind, now_ms)
        except BrokerError:
            self._runs = before
            raise
        self._settle()

    def _acknowledge(self, member_id: str, first: int, last: int, kind: int, now_ms: int) -> None:
        if last >= self.next_offset:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"offsets {first} to {last}: the last one has not been delivered"
            )
        for run in self._runs.between(first, last):
            if run.state is not RecordState.ACQUIRED:
                raise StateError(
                    ErrorCode.INVALID_RECORD_STATE, f"offsets {run.first} to {run.last} are not acquired"
                )
            if run.member_id != member_id:
                raise StateError(
                    ErrorCode.INVALID_RECORD_STATE,
                    f"offsets {run.first} to {run.last} are acquired by another member",
                )
        if kind == AcknowledgeType.RENEW:
            self._renew(first, last, now_ms)
            return
        try:
            state = _STATES[AcknowledgeType(kind)]
        except ValueError:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"there is no acknowledge type {kind}") from None
        self._runs.change(first, last, lambda run: self._let_go(run, state))

    def _renew(self, first: int, last: int, now_ms: int) -> None:
        if not self.limits.renew_acknowledge_enable:
            raise StateError(ErrorCode.INVALID_RECORD_STATE, "the group does not allow locks to be renewed")
        deadline_ms = now_ms + self.limits.record_lock_duration_ms
        self._runs.change(first, last, lambda run: run._replace(deadline_ms=deadline_ms))

    def _let_go(self, run: Run, state: RecordState) -> Run:
        if state is RecordState.AVAILABLE and run.deliveries >= self.limits.delivery_count_limit:
            state = RecordState.ARCHIVED
        together = run.together if state is RecordState.AVAILABLE else 0
        return Run(run.first, run.last, state, run.deliveries, together=together)

    # --- what ends a lock or a record otherwise ---------------------------------------------------

    def release(self, member_id: str) -> bool:
        """Take back what a member has acquired; return whether it had any."""
        return self._take_back(lambda run: run.member_id == member_id)

    def expire(self, now_ms: int) -> bool:
        """Take back what has been acquired for too long; return whether there was any."""
        return self._take_back(lambda run: run.deadline_ms <= now_ms)

    def _take_back(self, whether: Callable[[Run], bool]) -> bool:
        found = [run for run in self._runs if run.state is RecordState.ACQUIRED and whether(run)]
        for run in found:
            self._runs.change(run.first, run.last, lambda one: self._let_go(one, RecordState.AVAILABLE))
        self._settle()
        return bool(found)

    def advance(self, offset: int) -> bool:
        """The log now begins at ``offset``: what lay before it is done with; return whether that was any."""
        if offset <= self.start_offset:
            return False
        self._runs.cut(offset)
        self.start_offset = offset
        self._settle()
        return True

    def _settle(self) -> None:
        """Move the start behind all that is done with."""
        for run in self._runs:
            if run.state not in TERMINAL:
                break
            self.start_offset = run.last + 1
        self._runs.cut(self.start_offset)


def _archived_if_available(run: Run) -> Run:
    if run.state is not RecordState.AVAILABLE:
        return run
    return Run(run.first, run.last, RecordState.ARCHIVED, run.deliveries)


def _pieces(batch: AcknowledgementBatch) -> Iterator[tuple[int, int, int]]:
    """Yield (first, last, type) of neighbours acknowledged alike; one type stands for all records."""
    if len(batch.types) == 1:
        yield batch.first_offset, batch.last_offset, batch.types[0]
        return
    first = batch.first_offset
    for kind, same in groupby(batch.types):
        last = first + sum(1 for _ in same) - 1
        yield first, last, kind
        first = last + 1


def _rows(acquired: Sequence[AcquiredRecords], enough: int) -> Iterator[AcquiredRecords]:
    """Join neighbours delivered equally often, as long as a row has less than ``enough`` records."""
    row: AcquiredRecords | None = None
    for one in acquired:
        if (
            row is not None
            and row.last_offset + 1 == one.first_offset
            and row.delivery_count == one.delivery_count
            and row.last_offset - row.first_offset + 1 < enough
        ):
            row = row._replace(last_offset=one.last_offset)
            continue
        if row is not None:
            yield row
        row = one
    if row is not None:
        yield row
