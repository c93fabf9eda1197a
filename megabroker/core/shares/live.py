"""One share partition while the broker runs: its automaton, who waits on it, and the row it is stored as.

Owns what goes with an automaton in memory: watchers, the timer of its locks, what the store holds of it.
Which record is where is the automaton's to say, when it is stored its keeper's.

A row of table ``share_partitions`` has the key ``["<group>","<topic id, 32 hex digits>",<partition>]`` and
holds ``{"state_epoch": int, "leader_epoch": int, "start_offset": int, "batches": [[first, last, state,
deliveries], ...]}``: the whole of what is known of a share partition, neighbours that are alike in one batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from megabroker.core.shares.share_partition import ShareLimits, SharePartition
from megabroker.core.timers import TimerHandle
from megabroker.model import AcquiredRecords, Change, LogSpan, ShareState, ShareStateBatch

__all__ = ["SHARE_PARTITIONS_TABLE", "Keeper", "LiveSharePartition", "Place", "from_row", "row", "row_key"]

SHARE_PARTITIONS_TABLE = "share_partitions"

_log = Logger()

Place = tuple[UUID, int]
"""A partition, by topic id and number."""


class Keeper(Protocol):
    """What a share partition needs of those who keep it."""

    def now_ms(self) -> int:
        """Return the time that locks are measured with."""

    def store_later(self, live: LiveSharePartition) -> None:
        """Have it stored; nobody waits for it."""

    def watch_locks(self, live: LiveSharePartition, deadline_ms: int) -> None:
        """Have its locks looked at when the first of them times out, at ``deadline_ms`` or before."""


class LiveSharePartition:
    """One share partition and what goes with it.

    Args:
        keeper: stores it and watches its locks.

    Attributes:
        stored: what the store holds; None before the first row is stored.
        dead: whether it was forgotten; whoever still has it asks for it anew.
    """

    __slots__ = (
        "_keeper",
        "automaton",
        "dead",
        "group_id",
        "leader_epoch",
        "place",
        "state_epoch",
        "stored",
        "timer",
        "timer_ms",
        "waiting",
        "watchers",
    )

    def __init__(
        self, keeper: Keeper, group_id: str, place: Place, automaton: SharePartition, state_epoch: int
    ) -> None:
        self._keeper = keeper
        self.group_id = group_id
        self.place = place
        self.automaton = automaton
        self.state_epoch = state_epoch
        self.leader_epoch = 0
        self.stored: ShareState | None = None
        self.dead = False
        self.timer: TimerHandle | None = None
        self.timer_ms = 0
        self.waiting: list[Deferred[None]] = []
        self.watchers: dict[object, Callable[[], None]] = {}

    def fetch_offset(self, log_start_offset: int) -> int | None:
        """Return from where records can be acquired; None when there are none to be had now."""
        if self.automaton.advance(log_start_offset):
            self._keeper.store_later(self)
        return None if self.stored is None or self.dead else self.automaton.fetch_offset()

    def acquire(
        self,
        member_id: str,
        from_offset: int,
        spans: Sequence[LogSpan],
        max_records: int,
        batch_size: int,
        *,
        strict: bool,
    ) -> list[AcquiredRecords]:
        """Acquire records for a member; see ``SharePartition.acquire``."""
        before = self.automaton.start_offset
        now_ms = self._keeper.now_ms()
        acquired = self.automaton.acquire(
            member_id, from_offset, spans, max_records, batch_size, now_ms, strict=strict
        )
        if self.automaton.start_offset != before:
            self._keeper.store_later(self)
        if acquired:
            self._keeper.watch_locks(self, now_ms + self.automaton.limits.record_lock_duration_ms)
        return acquired

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back whenever there may be more to acquire; return what ends the watch."""
        key = object()
        self.watchers[key] = callback

        def cancel() -> None:
            self.watchers.pop(key, None)

        return cancel

    def wake(self) -> None:
        """Tell those who watch."""
        for key in list(self.watchers):
            callback = self.watchers.get(key)
            if callback is None:
                continue
            try:
                callback()
            except Exception:  # noqa: BLE001 - one waiter's fault must not starve the others
                _log.failure("callback-failed", group=self.group_id)

    def state(self) -> ShareState:
        """Return what is to be stored."""
        automaton = self.automaton
        return ShareState(
            self.state_epoch,
            self.leader_epoch,
            automaton.start_offset,
            automaton.complete_count,
            tuple(automaton.to_store()),
        )


def row_key(group_id: str, place: Place) -> str:
    """Return the key a share partition is stored under."""
    return json.dumps([group_id, place[0].hex, place[1]], separators=(",", ":"))


def row(live: LiveSharePartition, state: ShareState) -> Change:
    """Return the change that stores a state."""
    value = {
        "state_epoch": state.state_epoch,
        "leader_epoch": state.leader_epoch,
        "start_offset": state.start_offset,
        "batches": [list(batch) for batch in state.batches],
    }
    return Change(SHARE_PARTITIONS_TABLE, row_key(live.group_id, live.place), value)


def from_row(
    keeper: Keeper, limits: Callable[[str], ShareLimits], key: str, value: Mapping[str, Any]
) -> LiveSharePartition:
    """Return what was stored. Raises ValueError, TypeError, KeyError or AttributeError."""
    group_id, topic_id, index = json.loads(key)
    batches = [ShareStateBatch(*map(int, batch)) for batch in value["batches"]]
    automaton = SharePartition(int(value["start_offset"]), limits(group_id), batches)
    place = UUID(hex=topic_id), int(index)
    live = LiveSharePartition(keeper, group_id, place, automaton, int(value["state_epoch"]))
    live.leader_epoch = int(value["leader_epoch"])
    live.stored = live.state()
    return live
