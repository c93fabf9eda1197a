"""One partition that this node leads: the bounded queue, the log behind it, and everybody who waits on it.

The queue *is* the range of offsets accepted and not yet written, ``log.next_offset - log.written_offset``
messages and ``log.pending_bytes`` bytes: nothing is held twice and nothing is dropped. Owns the waiters for
room, for acknowledgement and for the high watermark, and the producer table. Never touches files, never
waits, and never makes a Deferred: a produce request passes through ``append`` as one call with the caller's
own callback.

Invariants: ``done`` is called exactly once for every accepted batch, in offset order, never inside
``append``; waiters for room are served in the order of asking, the head of the line first even if a later
one would fit; the high watermark never passes what ``durability`` promises; the last stable offset never
passes the first record of a transaction whose marker is not below the high watermark. So the last stable
offset only ever moves when the high watermark does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.core.backlog import FREE_BYTES, Backlog
from megabroker.core.producer_room import ProducerRoom
from megabroker.core.producers import ProducerTable
from megabroker.core.topic_configs import TopicPolicy
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import ILog, ILogListener, ILogStore, IPartition, IRun, ITakesRuns
from megabroker.model import (
    NO_TIMESTAMP,
    AbortedTransaction,
    Acks,
    BatchHeader,
    Durability,
    ProducerDescription,
    ProducerIdentity,
    ReadResult,
    RunRoom,
    TimestampType,
    Topic,
    TopicPartition,
    TransactionMarker,
)

__all__ = ["Done", "PartitionService", "PartitionSettings"]

Done = Callable[[BrokerError | None], None]

_log = Logger()

_UNLIMITED = 2**63 - 1
_TRANSACTIONAL = 16
_CONTROL = 32


@attrs.frozen
class PartitionSettings:
    """What holds for every partition of this broker.

    Attributes:
        partition_channel_buffer_size: messages accepted and not yet written, per partition.
        partition_channel_buffer_bytes: the same in bytes.
        durability: what ``Acks.DURABLE`` and the high watermark wait for.
        producer_id_expiration_ms: silence after which an idempotent producer is forgotten.
        max_producers: idempotent producers remembered per partition.
        producer_room: how many are remembered in all.
        backlog: what all partitions together have queued.
    """

    partition_channel_buffer_size: int = 10_000
    partition_channel_buffer_bytes: int = 64 << 20
    durability: Durability = Durability.FSYNC
    producer_id_expiration_ms: int = 86_400_000
    max_producers: int = 100_000
    producer_room: ProducerRoom = attrs.field(factory=ProducerRoom, eq=False)
    backlog: Backlog = attrs.field(factory=Backlog, eq=False)


@implementer(IPartition, ITakesRuns, ILogListener)
class PartitionService:
    """The partition ``index`` of ``topic``; of no use before ``open``.

    Args:
        reactor: a clock, for turns.
        now_ms: the time in epoch milliseconds.

    Attributes:
        waited_for_room: how often a producer found the queue full; counts
            ``partition_channel_buffer_size`` and ``partition_channel_buffer_bytes`` biting.
        first_offset: where the log ended when it was opened.
        first_bytes: how long it was then, what has been removed since left out.
        first_batches: what the log counts of batches then.
        fetched_bytes: records that went to Kafka consumers since.
    """

    is_here = True
    log: ILog

    def __init__(
        self,
        topic: Topic,
        index: int,
        policy: TopicPolicy,
        settings: PartitionSettings,
        reactor: Any,
        now_ms: Callable[[], int],
    ) -> None:
        self.topic = topic
        self.index = index
        self.topic_partition = TopicPartition(topic.name, index)
        self.leader_epoch = topic.leader_epoch
        self.high_watermark = 0
        self.append_time_ms = NO_TIMESTAMP
        self.producers = ProducerTable(settings.max_producers, settings.producer_room)
        self.waited_for_room = 0
        self.first_offset = 0
        self.first_bytes = 0
        self.first_batches = 0
        self.fetched_bytes = 0
        self.settings = settings
        self._fsync = settings.durability is Durability.FSYNC
        self._max_messages = settings.partition_channel_buffer_size
        self._max_bytes = settings.partition_channel_buffer_bytes
        self._backlog = settings.backlog
        self._counted = 0  # bytes of this queue in it
        self._reactor = reactor
        self._now_ms = now_ms
        self._refusal: Callable[[], BrokerError] | None = None
        self._closed = False
        self._written: deque[tuple[int, Done]] = deque()
        self._durable: deque[tuple[int, Done]] = deque()
        self._room: deque[Callable[[], None]] = deque()
        self._waking = False
        self._asked_again = False
        self._watchers: dict[object, Callable[[], None]] = {}
        self._obey(policy)

    @property
    def start_offset(self) -> int:
        """First readable offset."""
        return self.log.start_offset

    @property
    def last_stable_offset(self) -> int:
        """Everything below is readable and belongs to no transaction that may still go either way."""
        unstable = self.producers.unstable
        if unstable is None:
            unstable = self.producers.first_unstable_offset()
        if unstable >= self.high_watermark:
            return self.high_watermark
        return min(max(unstable, self.log.start_offset), self.high_watermark)

    # --- life ---------------------------------------------------------------------------------------

    def open(self, store: ILogStore) -> None:
        """Open or recover the log. Blocking, in any one thread. Raises StorageError."""
        self.log = store.log(self.topic, self.index, self.policy.log, self, self.producers)
        self.high_watermark = self._visible(self.log.written_offset, self.log.durable_offset)
        self.first_offset = self.log.next_offset
        self.first_batches = self.log.appended_batches
        self.first_bytes = self.log.size_bytes + self.log.removed_bytes

    def configure(self, topic: Topic, policy: TopicPolicy) -> None:
        """Follow a changed topic from the next batch on."""
        self.topic = topic
        self._obey(policy)
        self.log.settings = policy.log

    def refuse(self, error: Callable[[], BrokerError]) -> None:
        """Answer every further append with ``error()``; what was accepted still completes."""
        self._refusal = error
        self._wake_room()

    def settle(self) -> None:
        """Answer for what is written and durable by now: a flush may fire before its log tells."""
        self.progressed(self.log.written_offset, self.log.durable_offset)

    def close(self, error: Callable[[], BrokerError]) -> None:
        """Refuse everything, answer everybody who waits; the log itself belongs to the store."""
        if self._closed:
            return
        self._closed = True
        self._refusal = error
        self.settings.backlog.closed(self)
        self.producers.leave()
        for done in self._take_waiters(-1):
            self._call(done, error())
        self._wake_room()
        self._dismiss_watchers()
        self._count()

    def sweep(self, now_ms: int) -> int:
        """Enforce retention and forget silent producers; return how many segments went.

        Raises:
            StorageError: a segment could not be rolled or dropped.
        """
        if self._closed:
            return 0
        self.producers.expire(now_ms, self.settings.producer_id_expiration_ms)
        return self.log.enforce_retention(now_ms)

    def _obey(self, policy: TopicPolicy) -> None:
        self.policy = policy
        self._max_message_bytes = policy.max_message_bytes
        self._stamps = policy.timestamp_type is TimestampType.LOG_APPEND_TIME
        if not self._stamps:
            self.append_time_ms = NO_TIMESTAMP
        self.needs_keys = policy.log.compact
        self.codec = None if policy.log.codec is None else (policy.log.codec, policy.log.codec_level)
        self._too_few_replicas = policy.min_insync_replicas > 1
        self._before_ms = policy.timestamp_before_max_ms
        self._after_ms = policy.timestamp_after_max_ms
        self._checks_time = not self._stamps and min(self._before_ms, self._after_ms) < _UNLIMITED

    def _visible(self, written_offset: int, durable_offset: int) -> int:
        return durable_offset if self._fsync else written_offset

    # --- the queue ----------------------------------------------------------------------------------

    def has_room(self, messages: int, size_bytes: int) -> bool:
        """Whether a batch fits now. An empty queue has room for any one batch, and a closed partition
        for everything (``append`` then says why not); a full one has none for a newcomer while others wait.
        """
        if self._refusal is not None:
            return True
        if self._room and not self._waking:
            return False
        log = self.log
        pending = log.next_offset - log.written_offset
        queued = log.pending_bytes + size_bytes
        if queued > FREE_BYTES:
            backlog = self._backlog
            if backlog.queued_bytes >= backlog.limit_bytes:
                return False
        return not pending or (pending + messages <= self._max_messages and queued <= self._max_bytes)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when the queue has drained; the callback asks ``has_room`` again.

        Whoever is called, finds too little room and asks again keeps the head of the line.
        """
        self.waited_for_room += 1
        if self._refusal is not None:
            self._reactor.callLater(0, self._call, callback)
            return
        if self._backlog.is_full:
            self._backlog.waits += 1
        if self._backlog.is_full and self.log.next_offset == self.log.written_offset:
            self._backlog.when_room(partial(self._call, callback))  # nothing will happen here
        elif self._waking:
            self._asked_again = True
            self._room.appendleft(callback)
        else:
            self._room.append(callback)

    def _wake_room(self) -> None:
        room = self._room
        if not room or self._waking:
            return
        log = self.log
        self._waking = True
        try:
            while room:
                if self._refusal is None:
                    pending = log.next_offset - log.written_offset
                    if pending and (pending >= self._max_messages or log.pending_bytes >= self._max_bytes):
                        break
                self._asked_again = False
                self._call(room.popleft())
                if self._asked_again:
                    break
        finally:
            self._waking = False

    @property
    def appended_records(self) -> int:
        """Records that came since the log was opened and are in it, not those of which that failed."""
        return self.log.written_offset - self.first_offset

    @property
    def appended_batches(self) -> int:
        """The same in batches."""
        return self.log.appended_batches - self.first_batches

    @property
    def appended_bytes(self) -> int:
        """The same in bytes."""
        log = self.log
        return log.size_bytes + log.removed_bytes - log.pending_bytes - self.first_bytes

    # --- append -------------------------------------------------------------------------------------

    def append(self, header: BatchHeader, data: bytearray | memoryview, acks: Acks, done: Done | None) -> int:
        """Accept one batch; see ``IPartition``. Whether a transaction may go on is for the caller to ask.

        Raises:
            RequestError: MESSAGE_TOO_LARGE, INVALID_RECORD, INVALID_TIMESTAMP, UNKNOWN_TOPIC.
            StateError: INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE, INVALID_TXN_STATE, SHUTTING_DOWN,
                NOT_ENOUGH_REPLICAS.
            StorageError: the log does not take it.
        """
        if self._refusal is not None:
            raise self._refusal()
        if header[1] + 12 > self._max_message_bytes:
            raise RequestError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"a batch of {header.size_bytes} bytes; {self.topic.name} takes {self._max_message_bytes}",
            )
        if acks == -1 and self._too_few_replicas:
            raise StateError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{self.topic.name} has one replica, and min.insync.replicas is "
                f"{self.policy.min_insync_replicas}",
                retriable=True,
            )
        attributes = header[5]
        if attributes & _CONTROL:
            raise RequestError(ErrorCode.INVALID_RECORD, "clients may not write control batches")
        count = header[12]
        if count != header[6] + 1 or count < 1:
            raise RequestError(
                ErrorCode.INVALID_RECORD,
                f"{count} records with a last offset delta of {header.last_offset_delta}",
            )
        append_time_ms = None
        if self._stamps:
            self.append_time_ms = append_time_ms = self._now_ms()
        elif self._checks_time:
            now_ms = self._now_ms()
            if header[8] - now_ms > self._after_ms or 0 <= header[7] < now_ms - self._before_ms:
                self._refuse_time(header, now_ms)
        if header[9] < 0:
            if attributes & _TRANSACTIONAL:
                raise RequestError(ErrorCode.INVALID_RECORD, "a transactional batch without a producer id")
            base_offset = self.log.append(header, data, self.leader_epoch, append_time_ms)
        else:
            repeat = self.producers.check(header)
            if repeat is not None:
                if self._stamps:
                    self.append_time_ms = repeat[4]
                if done is not None:
                    self._wait(repeat[3] + 1, acks, done)
                return repeat[2]
            base_offset = self.log.append(header, data, self.leader_epoch, append_time_ms)
            if append_time_ms is not None:
                header = header._replace(max_timestamp=append_time_ms)
            self.producers.accepted(header, base_offset, self._now_ms())
        if self.log.pending_bytes - self._counted > FREE_BYTES:
            self._count()
        if done is not None:
            if acks == 1 or (acks == -1 and not self._fsync):
                self._written.append((base_offset + count, done))
            elif acks:
                self._durable.append((base_offset + count, done))
            else:
                self._reactor.callLater(0, self._call, done, None)
        return base_offset

    def open_run(self, acks: Acks) -> RunRoom | None:
        """Say what a run of batches may hold now; see ``ITakesRuns``."""
        if (
            self._refusal is not None
            or (self._room and not self._waking)
            or self._stamps
            or self.needs_keys
            or self.codec is not None
            or acks == 0
            or (acks == -1 and self._too_few_replicas)
            or self._backlog.queued_bytes >= self._backlog.limit_bytes
        ):
            return None
        log = self.log
        pending = log.next_offset - log.written_offset
        earliest_ms, latest_ms = NO_TIMESTAMP, _UNLIMITED
        if self._checks_time:
            now_ms = self._now_ms()
            earliest_ms, latest_ms = now_ms - self._before_ms, min(now_ms + self._after_ms, _UNLIMITED)
        return RunRoom(
            self._max_messages - pending,
            self._max_bytes - log.pending_bytes,
            self._max_message_bytes,
            max(earliest_ms, NO_TIMESTAMP),
            latest_ms,
        )

    def append_run(self, run: IRun, acks: Acks) -> None:
        """Accept all batches of a run; see ``ITakesRuns``.

        Raises:
            StorageError: the log does not take it.
        """
        if self._refusal is not None:
            raise self._refusal()
        end = self.log.append_run(run, self.leader_epoch) + run.records
        waiters = self._durable if acks == -1 and self._fsync else self._written
        waiters.append((end, run))
        if self.log.pending_bytes - self._counted > FREE_BYTES:
            self._count()

    def append_marker(self, marker: TransactionMarker, done: Done) -> int:
        """End a producer's transaction here; see ``IPartition``. Markers do not wait for room.

        Raises:
            StateError: INVALID_PRODUCER_EPOCH, NOT_COORDINATOR, SHUTTING_DOWN.
            StorageError: the log does not take it.
        """
        if self._refusal is not None:
            raise self._refusal()
        producers = self.producers
        first_offset, stable_offset = producers.check_marker(marker)
        now_ms = self._now_ms()
        offset = self.log.append_marker(marker, self.leader_epoch, now_ms, first_offset, stable_offset)
        producers.ended(marker, offset, now_ms)
        (self._durable if self._fsync else self._written).append((offset + 1, done))
        return offset

    def _refuse_time(self, header: BatchHeader, now_ms: int) -> NoReturn:
        if header.max_timestamp - now_ms > self._after_ms:
            raise RequestError(
                ErrorCode.INVALID_TIMESTAMP,
                f"timestamp {header.max_timestamp} lies more than {self._after_ms} ms in the future",
            )
        raise RequestError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {header.base_timestamp} lies more than {self._before_ms} ms in the past",
        )

    def when_durable(self, end_offset: int, done: Done) -> None:
        """Wait until all below ``end_offset`` is durable; see ``IPartition``."""
        if self._closed and self._refusal is not None:
            self._reactor.callLater(0, self._call, done, self._refusal())
        else:
            self._wait(end_offset, Acks.DURABLE, done)

    def _wait(self, end_offset: int, acks: Acks, done: Done) -> None:
        durable = acks == Acks.DURABLE and self._fsync
        reached = self.log.durable_offset if durable else self.log.written_offset
        if acks == Acks.NONE or end_offset <= reached:
            self._reactor.callLater(0, self._call, done, None)
            return
        waiters = self._durable if durable else self._written
        place = len(waiters)
        while place and waiters[place - 1][0] > end_offset:
            place -= 1
        waiters.insert(place, (end_offset, done))

    # --- what the log tells -------------------------------------------------------------------------

    def progressed(self, written_offset: int, durable_offset: int) -> None:
        """Answer who waited for these offsets, in offset order, then show them, then make room."""
        if self._closed:
            return
        visible = durable_offset if self._fsync else written_offset
        producers = self.producers
        if producers.unsettled:
            producers.settled(visible)
        advanced = visible > self.high_watermark
        if advanced:
            self.high_watermark = visible
        written, durable = self._written, self._durable
        while True:
            if written and written[0][0] <= written_offset:
                if durable and durable[0][0] < written[0][0] and durable[0][0] <= durable_offset:
                    done = durable.popleft()[1]
                else:
                    done = written.popleft()[1]
            elif durable and durable[0][0] <= durable_offset:
                done = durable.popleft()[1]
            else:
                break
            try:
                done(None)
            except Exception:  # noqa: BLE001 - the others behind it must still be answered
                _log.failure("acknowledgement-failed", partition=str(self.topic_partition))
        if advanced and self._watchers:
            self._tell_watchers()
        if self._room:
            self._wake_room()
        if self._counted:
            self._count()

    def _count(self) -> None:
        """Bring what is known of this queue among all up to date."""
        queued = 0 if self._closed else self.log.pending_bytes
        backlog = self._backlog
        backlog.queued_bytes += queued - self._counted
        self._counted = queued
        if backlog.waiting:
            backlog.wake()

    def failed(self, from_offset: int, error: BrokerError) -> None:
        """Take back everything from ``from_offset`` on and say so to those who waited for it."""
        if self._closed:
            return
        self.producers.rollback(from_offset)
        self.high_watermark = min(self.high_watermark, from_offset)
        for done in self._take_waiters(from_offset):
            self._call(done, error)
        self._tell_watchers()
        self._wake_room()
        self._count()

    def _take_waiters(self, from_offset: int) -> list[Done]:
        taken: list[tuple[int, Done]] = []
        for waiters in (self._written, self._durable):
            while waiters and waiters[-1][0] > from_offset:
                taken.append(waiters.pop())
        taken.reverse()
        taken.sort(key=_end_offset)
        return [done for _, done in taken]

    # --- reading ------------------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, *, committed: bool = False, cached_only: bool = False
    ) -> ReadResult:
        """Read batches below the high watermark (or last stable offset). Raises as ``ILog.read``."""
        if self._closed and self._refusal is not None:
            raise self._refusal()
        end_offset = self.last_stable_offset if committed else self.high_watermark
        return self.log.read(offset, max_bytes, end_offset, cached_only=cached_only)

    def delete_records(self, before_offset: int) -> int:
        """Make everything below an offset unreadable; return the first offset that is readable then.

        Raises:
            RequestError: OFFSET_OUT_OF_RANGE when not within 0 and the high watermark.
            StateError: the partition is closed.
        """
        if self._refusal is not None:
            raise self._refusal()
        if not 0 <= before_offset <= self.high_watermark:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"cannot delete before {before_offset}: the high watermark is {self.high_watermark}",
            )
        if before_offset > self.log.start_offset:
            self.log.advance_start(before_offset)
        return self.log.start_offset

    def aborted_transactions(self, from_offset: int, to_offset: int) -> Sequence[AbortedTransaction]:
        """Return the aborted transactions with records in a range, by their first offsets.

        Raises:
            StorageError: they could not be read.
        """
        return self.log.aborted(from_offset, to_offset)

    def open_transactions(self) -> Sequence[ProducerIdentity]:
        """Return the producers whose transactions have begun here and have no marker yet."""
        return self.producers.open_transactions()

    def remembers(self, producer_id: int) -> bool:
        """Whether anything is known of a producer here."""
        return producer_id in self.producers

    def is_repeat(self, header: BatchHeader) -> bool:
        """Whether a batch is one that is here already; of a transaction, of the one that is open."""
        return self.producers.is_repeat(header)

    def describe_producers(self) -> Sequence[ProducerDescription]:
        """Return every producer this partition remembers."""
        return self.producers.describe()

    def describe_producer(self, producer_id: int) -> ProducerDescription | None:
        """Return one of them, or None."""
        return self.producers.describe_one(producer_id)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at every advance of the high watermark and on closing; return the cancel function."""
        key = object()
        self.watch_as(key, callback)
        return partial(self.unwatch, key)

    def watch_as(self, key: object, callback: Callable[[], None]) -> None:
        """Do the same until ``unwatch(key)``."""
        self._watchers[key] = callback
        if self._closed:
            self._reactor.callLater(0, self._dismiss_watchers)

    def unwatch(self, key: object) -> None:
        """End the watch of a key, if there is one."""
        self._watchers.pop(key, None)

    def _tell_watchers(self) -> None:
        watchers = self._watchers
        for key in list(watchers):
            callback = watchers.get(key)
            if callback is not None:
                self._call(callback)

    def _dismiss_watchers(self) -> None:
        watchers = self._watchers
        for key in list(watchers):
            callback = watchers.pop(key, None)
            if callback is not None:
                self._call(callback)

    def _call(self, callback: Callable[..., None], *args: object) -> None:
        try:
            callback(*args)
        except Exception:  # noqa: BLE001 - one waiter's fault must not starve the others
            _log.failure("callback-failed", partition=str(self.topic_partition))


def _end_offset(waiter: tuple[int, Done]) -> int:
    return waiter[0]
