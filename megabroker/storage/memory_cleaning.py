"""A log in memory as the cleaner sees it, and cleaning it.

Owns how far compaction has come; the log owns its batches, and has them replaced in the reactor, all at once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from megabroker.codec.batch import read_header
from megabroker.model import AbortedTransaction, BatchHeader
from megabroker.storage.cleaner import CleaningEnded, Turn
from megabroker.storage.cleaning import Cleaning, last_of_producers
from megabroker.storage.segment import DamageFound

if TYPE_CHECKING:
    from megabroker.storage.memory import MemoryLog

__all__ = ["Batch", "CleanableMemoryLog"]

Batch = tuple[BatchHeader, bytes]


class Snapshot(NamedTuple):
    """What is to be cleaned: all batches up to a place, and how many had been dropped before them."""

    batches: list[Batch]
    end_offset: int
    aborted: list[AbortedTransaction]
    last_of: dict[int, tuple[int, int]]
    dropped: int


class CleanableMemoryLog:
    """See the module, and ``cleaner.Cleanable``.

    Attributes:
        cleaned_offset: compaction has been here: below, every key is there once.
        cleaning: held while the log is being cleaned.
    """

    def __init__(self, log: MemoryLog, name: str) -> None:
        self.cleaned_offset = 0
        self.cleaning = threading.Lock()
        self._log = log
        self._name = name

    def __str__(self) -> str:
        return self._name

    @property
    def going(self) -> bool:
        """Whether a cleaning must end. Any thread."""
        return self._log.refusal is not None

    def dirt(self, now_ms: int) -> tuple[bool, float] | None:
        """Return whether cleaning is overdue and how dirty the log is; None when it can wait. Any thread."""
        log, cleaned = self._log, self.cleaned_offset
        settings = log.settings
        end = min(log.active_offset, log.written_offset)
        if not settings.compact or end <= cleaned:
            return None
        total = dirty = 0
        due = False
        for header, data in list(log.batches):
            if header.base_offset >= end:
                break
            total += len(data)
            if header.next_offset > cleaned:
                dirty += len(data)
                due = due or 0 < header.max_timestamp < now_ms - settings.max_compaction_lag_ms
        if not dirty or not (due or dirty / total > settings.min_cleanable_dirty_ratio):
            return None
        return due, dirty / total

    def clean(self, turn: Turn) -> str | None:
        """Clean the log; return what was done, None for nothing. Cleaner's thread; raises CleaningEnded."""
        log = self._log
        snapshot = turn.in_reactor(lambda: self.begin(turn.now_ms))
        if snapshot is None:
            return None
        start = log.start_offset
        rules = Cleaning(
            start_offset=start,
            first_dirty_offset=max(self.cleaned_offset, start),
            end_offset=snapshot.end_offset,
            now_ms=turn.now_ms,
            delete_retention_ms=log.settings.delete_retention_ms,
            aborted=snapshot.aborted,
            last_of=snapshot.last_of,
            map=turn.new_map(),
            breathe=turn.breathe,
        )
        _learn(rules, snapshot)
        transactions = rules.second_pass()
        kept: list[Batch] = []
        for header, data in snapshot.batches:
            if header.base_offset >= rules.map.end_offset:
                kept.append((header, data))
                continue
            judgement = rules.judge(transactions, header, data, 0)
            if judgement is None:
                kept.append((header, data))
            elif not isinstance(judgement, type):
                kept.append((read_header(judgement, 0, len(judgement)), bytes(judgement)))
        turn.in_reactor(lambda: self.replace(snapshot, kept, transactions.kept, rules.map.end_offset))
        return f"to offset {rules.map.end_offset}, {len(snapshot.batches)} batches before, {len(kept)} after"

    def begin(self, now_ms: int) -> Snapshot | None:
        """Return what is to be cleaned. Reactor."""
        log = self._log
        end = min(log.active_offset, log.written_offset, log.producers.first_unstable_offset())
        lag_ms = log.settings.min_compaction_lag_ms
        stop = 0
        for header, _ in log.batches:
            recent = lag_ms > 0 and header.max_timestamp > now_ms - lag_ms
            if header.next_offset > end or (recent and header.next_offset > self.cleaned_offset):
                break
            stop += 1
        end = log.lasts[stop - 1] + 1 if stop else 0
        if end <= self.cleaned_offset:
            return None
        aborted = [one for one in log.aborted_transactions if one.first_offset < end]
        last_of = last_of_producers(log.producers.snapshot())
        return Snapshot(log.batches[:stop], end, aborted, last_of, log.dropped)

    def replace(
        self, snapshot: Snapshot, kept: list[Batch], aborted: list[AbortedTransaction], cleaned_offset: int
    ) -> None:
        """Put what stays in the place of what there was, as far as that is still there. Reactor.

        Raises:
            CleaningEnded: the log is on its way out.
        """
        log = self._log
        if self.going:
            raise CleaningEnded
        stop = max(0, len(snapshot.batches) - (log.dropped - snapshot.dropped))
        kept = [batch for batch in kept if batch[0].next_offset > log.start_offset]
        less = sum(len(data) for _, data in log.batches[:stop]) - sum(len(data) for _, data in kept)
        log.size_bytes -= less
        log.removed_bytes += less
        log.batches[:stop] = kept
        log.lasts[:stop] = [header.last_offset for header, _ in kept]
        later = [one for one in log.aborted_transactions if one.last_offset >= cleaned_offset]
        earlier = [one for one in aborted if one.last_offset < cleaned_offset]
        log.aborted_transactions = [*earlier, *later]
        self.cleaned_offset = cleaned_offset

    def found_damage(self, found: DamageFound) -> None:
        """Never: there is no file that could be damaged."""


def _learn(rules: Cleaning, snapshot: Snapshot) -> None:
    """Map the keys of the dirty part, as far as the map goes."""
    rules.map.end_offset = rules.first_dirty_offset
    transactions = rules.first_pass()
    for header, data in snapshot.batches:
        if header.next_offset > rules.first_dirty_offset and not rules.learn(transactions, header, data, 0):
            return
    rules.map.end_offset = rules.end_offset
