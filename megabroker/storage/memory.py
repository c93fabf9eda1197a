"""Logs that live in memory only, for tests and for topics nobody needs to keep.

Owns the batches as bytes, one per append, and promises what ``ILog`` promises except that anything is
left after the process. Progress is reported later, through ``call_later``, one call for all that was
appended meanwhile: written and durable are the same here.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.codec.batch import build_control, read_header, records, scan, stamp, stamp_append_time
from megabroker.errors import ErrorCode, ProtocolError, RequestError, StorageError
from megabroker.interfaces import ILog, ILogListener, ILogStore, IProducerState, IRun
from megabroker.model import (
    AbortedTransaction,
    BatchHeader,
    FileRange,
    LogSettings,
    ReadResult,
    TimestampedOffset,
    Topic,
    TopicPartition,
    TransactionMarker,
)
from megabroker.storage.cleaner import CleanerSettings, LogCleaner
from megabroker.storage.flushes import Flushes
from megabroker.storage.leader_epochs import LeaderEpochs
from megabroker.storage.memory_cleaning import Batch, CleanableMemoryLog
from megabroker.storage.recompression import in_codec
from megabroker.storage.runs import append_each

__all__ = ["MemoryLog", "MemoryLogStore"]

_log = Logger()

CallLater = Callable[[Callable[[], None]], object]


@implementer(ILog)
class MemoryLog:
    """See the module. Retention drops whole batches: there are no segments.

    Only for compaction there is something like an active segment: what came since ``segment_bytes`` or
    ``segment_ms`` last ended one, which is left alone.

    Attributes:
        active_offset: where that begins.
        batches: all there are, in order; ``lasts`` are their last offsets.
        dropped: how many retention has dropped.
        compaction: how the cleaner sees the log.
    """

    def __init__(
        self,
        settings: LogSettings,
        listener: ILogListener,
        call_later: CallLater,
        producers: IProducerState,
        seconds: Callable[[], float] = time.time,
        name: str = "",
    ) -> None:
        self.settings = settings
        self.place = ""
        self.listener = listener
        self.producers = producers
        self.active_offset = 0
        self.batches: list[Batch] = []
        self.lasts: list[int] = []
        self.aborted_transactions: list[AbortedTransaction] = []
        self.dropped = 0
        self.compaction = CleanableMemoryLog(self, name)
        self._seconds = seconds
        self._active_bytes = 0
        self._active_born = 0.0
        self.start_offset = 0
        self.next_offset = 0
        self.written_offset = 0
        self.durable_offset = 0
        self.pending_bytes = 0
        self.size_bytes = 0
        self.removed_bytes = 0
        self.appended_batches = 0
        self.refusal: StorageError | None = None
        self._call_later = call_later
        self._called = False
        self._epochs = LeaderEpochs([])
        self._flushes = Flushes()

    def append(
        self,
        header: BatchHeader,
        data: bytearray | memoryview,
        leader_epoch: int,
        append_time_ms: int | None,
    ) -> int:
        if self.refusal is not None:
            raise self.refusal
        if not header.is_control:
            header, data = in_codec(self.settings, header, data)
        if append_time_ms is not None:
            header = stamp_append_time(data, header, append_time_ms)
        base = self.next_offset
        if self._active_bytes and (
            self._active_bytes + len(data) > self.settings.segment_bytes or self._is_over_age()
        ):
            self._roll()
        if not self._active_bytes:
            self._active_born = self._seconds()
        self._active_bytes += len(data)
        stamp(data, base, leader_epoch)
        header = header._replace(base_offset=base, leader_epoch=leader_epoch)
        if leader_epoch > self._epochs.latest:
            self._epochs.begin(leader_epoch, base)
        self.batches.append((header, bytes(data)))
        self.lasts.append(header.last_offset)
        self.next_offset = header.next_offset
        self.appended_batches += 1
        self.pending_bytes += len(data)
        self.size_bytes += len(data)
        self._schedule()
        return base

    def _is_over_age(self) -> bool:
        return (self._seconds() - self._active_born) * 1000 >= self.settings.segment_ms >= 0

    def _roll(self) -> None:
        self.active_offset, self._active_bytes = self.next_offset, 0

    def append_run(self, run: IRun, leader_epoch: int) -> int:
        return append_each(self, run, leader_epoch)

    def append_marker(
        self,
        marker: TransactionMarker,
        leader_epoch: int,
        now_ms: int,
        first_offset: int,
        stable_offset: int,
    ) -> int:
        """Append a control batch as ``append`` does, and remember what it aborts.

        Args:
            first_offset: where the transaction it ends began in this log, or -1.
            stable_offset: where the earliest other open transaction began, or -1.
        """
        data = build_control(**marker._asdict(), timestamp_ms=now_ms)
        offset = self.append(read_header(data, 0, len(data)), data, leader_epoch, None)
        if first_offset >= 0 and not marker.commit:
            stable = offset + 1 if stable_offset < 0 else stable_offset
            self.aborted_transactions.append(
                AbortedTransaction(marker.producer_id, first_offset, offset, stable)
            )
        return offset

    def aborted(self, from_offset: int, to_offset: int) -> list[AbortedTransaction]:
        """Return the aborted transactions with records in a range, by their first offsets."""
        found = []
        if from_offset < to_offset:
            for one in self.aborted_transactions[
                bisect_left(self.aborted_transactions, from_offset, key=_last_offset) :
            ]:
                if one.first_offset < to_offset:
                    found.append(one)
                if one.last_stable_offset >= to_offset:
                    break
        found.sort(key=_first_offset)
        return found

    def end_of(self, result: ReadResult, *, cached_only: bool = False) -> int:
        """Return an offset that everything ``read`` has just returned lies below, and not much else."""
        assert not isinstance(result.data, FileRange)
        return max((header.next_offset for _, header in scan(result.data, 0, result.length)), default=0)

    def _schedule(self) -> None:
        if not self._called:
            self._called = True
            self._call_later(self.announce)

    def announce(self) -> None:
        """Report everything appended so far as written and durable."""
        self._called = False
        end = self.next_offset
        self.pending_bytes = 0
        if end > self.written_offset:
            self.written_offset = self.durable_offset = end
            try:
                self.listener.progressed(end, end)
            except Exception:  # noqa: BLE001
                _log.failure("log-listener-failed")
        self._flushes.reached(end)

    def read(self, offset: int, max_bytes: int, end_offset: int, *, cached_only: bool = False) -> ReadResult:
        if not self.start_offset <= offset <= self.written_offset:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} is outside {self.start_offset} to {self.written_offset}",
            )
        limit = min(end_offset, self.written_offset)
        if offset >= limit:
            return ReadResult(b"", 0)
        parts: list[bytes] = []
        size = 0
        for at in range(bisect_left(self.lasts, offset), len(self.batches)):
            header, data = self.batches[at]
            if header.base_offset >= limit or (parts and size + len(data) > max_bytes):
                break
            parts.append(data)
            size += len(data)
        return ReadResult(b"".join(parts), size)

    def offset_for_time(self, timestamp_ms: int, *, cached_only: bool = False) -> TimestampedOffset | None:
        for header, data in self._readable():
            if header.max_timestamp >= timestamp_ms:
                found = self._in_batch(header, data, timestamp_ms)
                if found is not None:
                    return found
        return None

    def latest_timestamp(self, *, cached_only: bool = False) -> TimestampedOffset | None:
        best: TimestampedOffset | None = None
        for header, data in self._readable():
            if best is None or header.max_timestamp > best.timestamp_ms:
                found = self._in_batch(header, data, header.max_timestamp)
                if found is not None:
                    best = found
        return best

    def _readable(self) -> Iterable[tuple[BatchHeader, bytes]]:
        stop = bisect_right(self.lasts, self.written_offset - 1)
        return self.batches[bisect_left(self.lasts, self.start_offset) : stop]

    def _in_batch(self, header: BatchHeader, data: bytes, timestamp_ms: int) -> TimestampedOffset | None:
        start = max(header.base_offset, self.start_offset)
        if header.is_log_append_time and header.record_count:
            return TimestampedOffset(start, header.max_timestamp, header.leader_epoch)
        try:
            for record in records(data, header, 0, from_offset=start, control=True):
                if record.timestamp_ms >= timestamp_ms:
                    return TimestampedOffset(record.offset, record.timestamp_ms, header.leader_epoch)
        except ProtocolError as error:
            message = f"batch at offset {header.base_offset}: {error}"
            raise StorageError(ErrorCode.STORAGE, message, retriable=False) from error
        return None

    def epoch_end_offset(self, leader_epoch: int) -> tuple[int, int]:
        return self._epochs.end_offset(leader_epoch, self.next_offset)

    def advance_start(self, offset: int) -> None:
        self.start_offset = max(self.start_offset, min(offset, self.written_offset))

    def enforce_retention(self, now_ms: int) -> int:
        settings = self.settings
        if self._active_bytes and self._is_over_age():
            self._roll()
        size = self.size_bytes
        gone = 0
        for header, data in self.batches:
            if header.next_offset > self.written_offset:
                break
            over = settings.retention_bytes >= 0 and size - len(data) >= settings.retention_bytes
            old = settings.retention_ms >= 0 and now_ms - header.max_timestamp > settings.retention_ms
            if not (over or old or header.next_offset <= self.start_offset):
                break
            size -= len(data)
            gone += 1
            self.start_offset = max(self.start_offset, header.next_offset)
        self.dropped += gone
        del self.batches[:gone]
        del self.lasts[:gone]
        del self.aborted_transactions[
            : bisect_left(self.aborted_transactions, self.start_offset, key=_last_offset)
        ]
        self.removed_bytes += self.size_bytes - size
        self.size_bytes = size
        return gone

    def flush(self) -> Deferred[None]:
        if self.refusal is not None:
            return fail(self.refusal)
        if self.written_offset >= self.next_offset:
            return succeed(None)
        return self._flushes.add(self.next_offset)


def _first_offset(aborted: AbortedTransaction) -> int:
    return aborted.first_offset


def _last_offset(aborted: AbortedTransaction) -> int:
    return aborted.last_offset


def _call(call: Callable[[], None]) -> None:
    call()


def _nothing(done: Callable[[], bool]) -> None:
    pass


@implementer(ILogStore)
class MemoryLogStore:
    """See the module.

    Args:
        call_later: runs a function later in the reactor, for example ``partial(reactor.callLater, 0)``.
        seconds: the time in seconds since the epoch.
        call_from_thread: ``reactor.callFromThread``; without, logs are cleaned when ``cleaner.run_once`` is
            called and not otherwise.
    """

    def __init__(
        self,
        call_later: CallLater,
        seconds: Callable[[], float] = time.time,
        call_from_thread: CallLater | None = None,
        cleaner: CleanerSettings | None = None,
    ) -> None:
        self._call_later = call_later
        self._seconds = seconds
        self.cleaner = LogCleaner(
            cleaner or CleanerSettings(),
            lambda: [log.compaction for log, _ in list(self._logs.values())],
            seconds,
            call_from_thread or _call,
            _call,
            None if call_from_thread else _nothing,
        )
        self._logs: dict[TopicPartition, tuple[MemoryLog, UUID]] = {}

    def open(self) -> None:
        """Nothing to take."""
        self.cleaner.start()

    def log(
        self,
        topic: Topic,
        partition: int,
        settings: LogSettings,
        listener: ILogListener,
        producers: IProducerState,
    ) -> MemoryLog:
        name = TopicPartition(topic.name, partition)
        if name in self._logs:
            raise StorageError(ErrorCode.STORAGE, f"the log of {name} is open already")
        log = MemoryLog(settings, listener, self._call_later, producers, self._seconds, str(name))
        self._logs[name] = (log, topic.id)
        return log

    def partitions(self) -> Iterable[tuple[TopicPartition, UUID | None]]:
        for name, (_, topic_id) in sorted(self._logs.items()):
            yield name, topic_id

    def delete(self, topic_partition: TopicPartition) -> Deferred[None]:
        found = self._logs.pop(topic_partition, None)
        if found is not None:
            error = StorageError(ErrorCode.STORAGE, f"{topic_partition} has been deleted", retriable=False)
            found[0].refusal = error
        return succeed(None)

    def close(self) -> Deferred[None]:
        self.cleaner.stop()
        for log, _ in self._logs.values():
            log.refusal = StorageError(ErrorCode.SHUTTING_DOWN, "the log store is closed")
            log.announce()
        self._logs.clear()
        return succeed(None)
