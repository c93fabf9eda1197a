"""All share partitions of a broker: their automata, the time of their locks, and what is stored of them.

Owns the rows of table ``share_partitions`` and the timers of acquired records; which record is where is the
automaton's to say. Reads no log: who fetches brings what the log holds.

A share partition is stored as one row (``live``), at most once a turn however much happens to it.

Invariant: an acknowledgement is answered when the row that has it is stored, so that no record is delivered
again after that, whatever happens; nothing is handed out before the row that says where the group began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.configs import GroupConfigs, duration_ms
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.shares.live import (
    SHARE_PARTITIONS_TABLE,
    LiveSharePartition,
    Place,
    from_row,
    row,
    row_key,
)
from megabroker.core.shares.share_partition import ShareLimits, SharePartition
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IPartition, ITopicService
from megabroker.model import (
    AcknowledgementBatch,
    Change,
    SharePartitionOffset,
    ShareState,
    ShareStateBatch,
)

__all__ = ["SharePartitions"]

_log = Logger()

_MAX_SHARE_PARTITIONS: Final = 100_000
"""Share partitions of all groups together; about a kilobyte each."""


class SharePartitions:
    """All share partitions.

    Args:
        clock: where writes wait for the end of the turn.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timers: TimerWheel,
        writes: OrderedWrites,
        topics: ITopicService,
        configs: GroupConfigs,
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._writes = writes
        self._topics = topics
        self._configs = configs
        self._groups: dict[str, dict[Place, LiveSharePartition]] = {}
        self._to_store: dict[LiveSharePartition, None] = {}
        self._flush_call: IDelayedCall | None = None

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._groups

    def load(
        self,
        rows: Mapping[str, Any],
        leads: Callable[[Place], bool] = lambda place: True,
        *,
        clean: bool = True,
    ) -> set[str]:
        """Begin from what the store holds. A row that is none is logged and left alone.

        Args:
            leads: whether a partition's share partitions are kept here.
            clean: remove what is left of topics that are gone; one process does that for all.

        Returns:
            The groups that others keep share partitions of.
        """
        gone = []
        elsewhere = set()
        for key, value in rows.items():
            try:
                live = from_row(self, self._limits, key, value)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable share partition {key!r}: {error}", key=key, error=error)
                continue
            if self._topics.get_by_id(live.place[0]) is None:
                gone.append(Change(SHARE_PARTITIONS_TABLE, key, None))
            elif leads(live.place):
                self._groups.setdefault(live.group_id, {})[live.place] = live
            else:
                elsewhere.add(live.group_id)
        if gone and clean:
            self._writes.write(gone, lambda: None).addErrback(_log_failure)
        return elsewhere

    def groups(self) -> list[str]:
        """Return the groups that have any."""
        return list(self._groups)

    def now_ms(self) -> int:
        """Return the time that locks are measured with."""
        return self._timers.now_ms()

    # --- fetching ---------------------------------------------------------------------------------

    def get(self, group_id: str, place: Place) -> LiveSharePartition | None:
        """Return a share partition that the group has begun to consume."""
        return self._groups.get(group_id, {}).get(place)

    def attend(self, group_id: str, place: Place, partition: IPartition) -> LiveSharePartition:
        """Return a share partition, beginning to consume it where the group's configuration says.

        Raises:
            StateError: TOPIC_LIMIT, there are too many.
            StorageError: the log could not be searched.
        """
        live = self.get(group_id, place)
        if live is None:
            self._check_room(1)
            automaton = SharePartition(self._first_offset(group_id, partition), self._limits(group_id))
            live = LiveSharePartition(self, group_id, place, automaton, 0)
            self._groups.setdefault(group_id, {})[place] = live
            self.store_later(live)
        live.leader_epoch = partition.leader_epoch
        return live

    def _check_room(self, fresh: int) -> None:
        if sum(map(len, self._groups.values())) + fresh > _MAX_SHARE_PARTITIONS:
            raise StateError(
                ErrorCode.TOPIC_LIMIT, f"groups consume {_MAX_SHARE_PARTITIONS} share partitions at most"
            )

    def _first_offset(self, group_id: str, partition: IPartition) -> int:
        reset = self._configs.value(group_id, "share.auto.offset.reset")
        if reset == "earliest":
            return partition.start_offset
        back_ms = duration_ms(reset)
        if back_ms is not None:
            found = partition.log.offset_for_time(self.now_ms() - back_ms)
            if found is not None and found.offset < partition.high_watermark:
                return max(found.offset, partition.start_offset)
        return partition.high_watermark

    def _limits(self, group_id: str) -> ShareLimits:
        configs = self._configs
        return ShareLimits(
            configs.number(group_id, "share.delivery.count.limit"),
            configs.number(group_id, "share.partition.max.record.locks"),
            configs.number(group_id, "share.record.lock.duration.ms"),
            configs.value(group_id, "share.renew.acknowledge.enable") == "true",
        )

    def reconfigure(self, group_id: str) -> None:
        """Follow a group's changed configuration."""
        lives = self._groups.get(group_id)
        if lives:
            limits = self._limits(group_id)
            for live in list(lives.values()):
                live.automaton.limits = limits
                live.wake()

    # --- acknowledging ----------------------------------------------------------------------------

    def acknowledge(
        self, group_id: str, member_id: str, place: Place, batches: Sequence[AcknowledgementBatch]
    ) -> Deferred[None]:
        """Take a member's acknowledgements for one partition, all or none; fires when they are stored.

        Fails with RequestError (UNKNOWN_PARTITION, INVALID_REQUEST), StateError (INVALID_RECORD_STATE) or
        StorageError.
        """
        live = self.get(group_id, place)
        if live is None:
            return fail(RequestError(ErrorCode.UNKNOWN_PARTITION, "the group has acquired nothing in it"))
        try:
            live.automaton.acknowledge(member_id, batches, self.now_ms())
        except BrokerError as error:
            return fail(error)
        stored = self.store(live)
        live.wake()
        return stored

    def release(self, group_id: str, member_id: str) -> None:
        """Take back all that a member has acquired."""
        for live in list(self._groups.get(group_id, {}).values()):
            if live.automaton.release(member_id):
                self.store_later(live)
                live.wake()

    def watch_locks(self, live: LiveSharePartition, deadline_ms: int) -> None:
        """Have locks looked at when the first of them times out, at ``deadline_ms`` or before."""
        if live.timer is not None:
            if live.timer_ms <= deadline_ms:
                return
            live.timer.cancel()
        live.timer_ms = deadline_ms
        live.timer = self._timers.call_at(deadline_ms, lambda: self._locks_expire(live))

    def _locks_expire(self, live: LiveSharePartition) -> None:
        live.timer = None
        if live.dead:
            return
        expired = live.automaton.expire(self.now_ms())
        deadline_ms = live.automaton.next_deadline_ms()
        if deadline_ms is not None:
            self.watch_locks(live, deadline_ms)
        if expired:
            self.store_later(live)
            live.wake()

    # --- storing ----------------------------------------------------------------------------------

    def store_later(self, live: LiveSharePartition) -> None:
        """Have a share partition stored; nobody waits for it."""
        self.store(live).addErrback(_log_failure)

    def store(self, live: LiveSharePartition) -> Deferred[None]:
        """Have a share partition stored at the end of this turn; fires then. Fails with StorageError."""
        waiting: Deferred[None] = Deferred()
        live.waiting.append(waiting)
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self.flush)
        self._to_store[live] = None
        return waiting

    def flush(self) -> None:
        """Write what waits to be stored."""
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None
        lives, self._to_store = self._to_store, {}
        for live in lives:
            waiting, live.waiting = live.waiting, []
            if live.dead:
                self._end(None, live, waiting)
                continue
            state = live.state()
            written = self._writes.write([row(live, state)], partial(self._stored, live, state))
            written.addBoth(self._end, live, waiting)

    def _stored(self, live: LiveSharePartition, state: ShareState) -> None:
        is_first = live.stored is None
        live.stored = state
        if is_first:
            live.wake()

    def _end(self, result: Any, live: LiveSharePartition, waiting: Sequence[Deferred[None]]) -> None:
        failed = isinstance(result, Failure)
        if failed and live.stored is None and not live.dead:
            # Not begun at all: who fetches next begins anew.
            live.dead = True
            self._groups.get(live.group_id, {}).pop(live.place, None)
        for one in waiting:
            if failed:
                one.errback(result.value)
            else:
                one.callback(None)

    # --- administration ---------------------------------------------------------------------------

    def places(self, group_id: str) -> list[Place]:
        """Return the partitions a group consumes or has consumed."""
        return list(self._groups.get(group_id, ()))

    def stored_state(self, group_id: str, place: Place) -> ShareState | None:
        """Return what the store holds of one."""
        live = self.get(group_id, place)
        return None if live is None else live.stored

    def offset(self, group_id: str, place: Place) -> SharePartitionOffset:
        """Say how far a group is, as the store has it."""
        state = self.stored_state(group_id, place)
        if state is None:
            return SharePartitionOffset()
        topic = self._topics.get_by_id(place[0])
        try:
            if topic is None:
                raise RequestError(ErrorCode.UNKNOWN_TOPIC)
            end_offset = self._topics.partition(topic.name, place[1]).high_watermark
        except BrokerError:
            return SharePartitionOffset(state.start_offset, state.leader_epoch)
        lag = max(0, end_offset - state.start_offset - state.complete_count)
        return SharePartitionOffset(state.start_offset, state.leader_epoch, lag)

    def begin_at(
        self,
        group_id: str,
        offsets: Mapping[Place, int],
        batches: Sequence[ShareStateBatch] = (),
        state_epoch: int | None = None,
    ) -> Deferred[None]:
        """Forget what is known of partitions and begin at other offsets; fires when that is stored.

        Fails with StateError (TOPIC_LIMIT) or StorageError.
        """
        fresh = sum(self.get(group_id, place) is None for place in offsets)
        try:
            if fresh:
                self._check_room(fresh)
        except BrokerError as error:
            return fail(error)
        waiting = []
        for place, offset in offsets.items():
            former = self.get(group_id, place)
            epoch = state_epoch
            if epoch is None:
                epoch = 0 if former is None else former.state_epoch + 1
            automaton = SharePartition(offset, self._limits(group_id), batches)
            live = LiveSharePartition(self, group_id, place, automaton, epoch)
            if former is not None:
                live.leader_epoch = former.leader_epoch
                self._end_life(former)
            self._groups.setdefault(group_id, {})[place] = live
            waiting.append(self.store(live))
        return _all(waiting)

    def forget(self, group_id: str, places: Iterable[Place], also: Sequence[Change] = ()) -> Deferred[None]:
        """Forget share partitions and make the changes ``also``; fires when that is stored."""
        lives = self._groups.get(group_id, {})
        changes = list(also)
        for place in list(places):
            live = lives.pop(place, None)
            if live is not None:
                changes.append(Change(SHARE_PARTITIONS_TABLE, row_key(group_id, place), None))
                self._end_life(live)
        if not lives:
            self._groups.pop(group_id, None)
        return self._writes.write(changes, lambda: None) if changes else succeed(None)

    def topic_deleted(self, known: Callable[[UUID], bool]) -> None:
        """Forget the share partitions of topics that are no longer known."""
        for group_id, lives in list(self._groups.items()):
            gone = [place for place in lives if not known(place[0])]
            if gone:
                self.forget(group_id, gone).addErrback(_log_failure)

    def _end_life(self, live: LiveSharePartition) -> None:
        live.dead = True
        if live.timer is not None:
            live.timer.cancel()
        live.wake()


def _all(waiting: Sequence[Deferred[None]]) -> Deferred[None]:
    """Fire when all have; fail with the first failure, after all."""
    done: Deferred[None] = Deferred()
    left = len(waiting)
    failures: list[Failure] = []

    def ended(result: object) -> None:
        nonlocal left
        left -= 1
        if isinstance(result, Failure):
            failures.append(result)
        if not left:
            if failures:
                done.errback(failures[0])
            else:
                done.callback(None)

    if not waiting:
        return succeed(None)
    for one in waiting:
        one.addBoth(ended)
    return done


def _log_failure(failure: Failure) -> None:
    _log.failure("could not store a share partition", failure=failure)
