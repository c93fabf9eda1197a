"""Storage under the hand of a test: logs that write, sync and fail when told, rows in a dict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from megabroker.errors import BrokerError, ErrorCode, RequestError, StorageError
from megabroker.interfaces import ILog, ILogListener, ILogStore, IMetadataStore, IProducerState, IWindowStore
from megabroker.model import (
    AbortedTransaction,
    BatchHeader,
    Change,
    LogSettings,
    ReadResult,
    TimestampedOffset,
    Topic,
    TopicPartition,
    TransactionMarker,
)


def disk_full() -> StorageError:
    """Return the error of a full disk."""
    return StorageError(ErrorCode.DISK_FULL, "no space left")


def header(
    count: int = 1,
    *,
    size: int = 100,
    producer: int = -1,
    epoch: int = 0,
    sequence: int = -1,
    attributes: int = 0,
    timestamp: int = 1_000,
) -> BatchHeader:
    """Return the header of a batch of ``count`` records."""
    return BatchHeader(
        0, size - 12, -1, 2, 0, attributes, count - 1, timestamp, timestamp, producer, epoch, sequence, count
    )


@implementer(ILog)
class FakeLog:
    """A log whose disk is the test: ``write`` and ``sync`` move the offsets, ``fail`` takes back."""

    def __init__(
        self, topic: Topic, settings: LogSettings, listener: ILogListener, producers: IProducerState
    ) -> None:
        self.topic = topic
        self.settings = settings
        self.listener = listener
        self.producers = producers
        self.start_offset = self.next_offset = self.written_offset = self.durable_offset = 0
        self.batches: list[tuple[BatchHeader, int | None]] = []
        self.markers: dict[int, TransactionMarker] = {}
        self.aborts: list[AbortedTransaction] = []
        self.append_error: BrokerError | None = None
        self.retained: list[int] = []
        self.retention_error: BrokerError | None = None
        self.flush_error: BrokerError | None = None

    @property
    def pending_bytes(self) -> int:
        return sum(one.size_bytes for one, _ in self.batches if one.base_offset >= self.written_offset)

    removed_bytes = 0
    appended_batches = 0

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one, _ in self.batches)

    def append(
        self, header: BatchHeader, data: bytearray | memoryview, leader_epoch: int, append_time_ms: int | None
    ) -> int:
        if self.append_error is not None:
            raise self.append_error
        base_offset = self.next_offset
        stamped = header._replace(base_offset=base_offset, leader_epoch=leader_epoch)
        self.batches.append((stamped, append_time_ms))
        self.next_offset += header.record_count
        return base_offset

    def append_marker(
        self,
        marker: TransactionMarker,
        leader_epoch: int,
        now_ms: int,
        first_offset: int,
        stable_offset: int,
    ) -> int:
        control = header(producer=marker.producer_id, epoch=marker.producer_epoch, attributes=48)
        offset = self.append(control, bytearray(), leader_epoch, None)
        self.markers[offset] = marker
        if first_offset >= 0 and not marker.commit:
            stable = offset + 1 if stable_offset < 0 else stable_offset
            self.aborts.append(AbortedTransaction(marker.producer_id, first_offset, offset, stable))
        return offset

    def aborted(self, from_offset: int, to_offset: int) -> list[AbortedTransaction]:
        return [one for one in self.aborts if one.last_offset >= from_offset and one.first_offset < to_offset]

    def read(self, offset: int, max_bytes: int, end_offset: int, *, cached_only: bool = False) -> ReadResult:
        if not self.start_offset <= offset <= self.written_offset:
            raise RequestError(ErrorCode.OFFSET_OUT_OF_RANGE)
        if offset >= min(end_offset, self.written_offset):
            return ReadResult(b"", 0)
        found = [one for one, _ in self.batches if offset <= one.last_offset and one.base_offset < end_offset]
        return ReadResult(repr([one.base_offset for one in found]).encode(), len(found))

    def offset_for_time(self, timestamp_ms: int) -> TimestampedOffset | None:
        return None

    def latest_timestamp(self) -> TimestampedOffset | None:
        return None

    def epoch_end_offset(self, leader_epoch: int) -> tuple[int, int]:
        return (-1, -1)

    def advance_start(self, offset: int) -> None:
        self.start_offset = offset

    def enforce_retention(self, now_ms: int) -> int:
        if self.retention_error is not None:
            raise self.retention_error
        self.retained.append(now_ms)
        return 0

    def flush(self) -> Deferred[None]:
        if self.flush_error is not None:
            return fail(self.flush_error)
        self.sync()
        return succeed(None)

    def write(self, offset: int | None = None) -> None:
        """Have everything below ``offset`` in the file and tell the listener."""
        self.written_offset = self.next_offset if offset is None else offset
        self.listener.progressed(self.written_offset, self.durable_offset)

    def sync(self, offset: int | None = None) -> None:
        """Have everything below ``offset`` on the disk and tell the listener."""
        self.durable_offset = self.next_offset if offset is None else offset
        self.written_offset = max(self.written_offset, self.durable_offset)
        self.listener.progressed(self.written_offset, self.durable_offset)

    def fail(self, from_offset: int, error: BrokerError | None = None) -> None:
        """Take back everything from ``from_offset`` on and tell the listener."""
        self.batches = [pair for pair in self.batches if pair[0].base_offset < from_offset]
        self.next_offset = from_offset
        self.aborts = [one for one in self.aborts if one.last_offset < from_offset]
        self.listener.failed(from_offset, error or disk_full())


@implementer(ILogStore)
class FakeStore:
    """Logs by partition; what stays in ``kept`` is found again by the next service."""

    def __init__(self) -> None:
        self.kept: dict[TopicPartition, UUID | None] = {}
        self.batches: dict[TopicPartition, list[BatchHeader]] = {}
        self.logs: dict[TopicPartition, FakeLog] = {}
        self.broken: set[TopicPartition] = set()
        self.undeletable: set[TopicPartition] = set()
        self.deleted: list[TopicPartition] = []

    def open(self) -> None:
        pass

    def log(
        self,
        topic: Topic,
        partition: int,
        settings: LogSettings,
        listener: ILogListener,
        producers: IProducerState,
    ) -> FakeLog:
        where = TopicPartition(topic.name, partition)
        if where in self.broken:
            raise StorageError(ErrorCode.STORAGE, f"{where} is unreadable")
        log = FakeLog(topic, settings, listener, producers)
        former = self.logs.get(where)
        if former is not None:
            log.batches, log.markers, log.aborts = former.batches, former.markers, former.aborts
            log.next_offset = log.written_offset = log.durable_offset = former.next_offset
            for one, _ in log.batches:
                if one.base_offset in log.markers:
                    producers.replay(one, log.markers[one.base_offset])
                else:
                    producers.replay(one)
        self.kept[where] = topic.id
        self.logs[where] = log
        return log

    def partitions(self) -> Iterable[tuple[TopicPartition, UUID | None]]:
        return list(self.kept.items())

    def delete(self, topic_partition: TopicPartition) -> Deferred[None]:
        if topic_partition in self.undeletable:
            return fail(disk_full())
        self.deleted.append(topic_partition)
        self.kept.pop(topic_partition, None)
        self.logs.pop(topic_partition, None)
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(IMetadataStore)
class FakeMetadata:
    """Rows in a dictionary; with ``holding`` set, writes wait for ``commit``."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.holding = False
        self.error: BrokerError | None = None
        self.writes = 0
        self._held: list[tuple[Sequence[Change], Deferred[Any]]] = []

    def open(self) -> None:
        pass

    def rows(self, table: str, keys: Collection[str] | None = None) -> Mapping[str, Any]:
        rows = self.tables.get(table, {})
        return {key: row for key, row in rows.items() if keys is None or key in keys}

    def advance(self, table: str, key: str, count: int) -> Deferred[int]:
        former = self.tables.get(table, {}).get(key, 0)
        return self.write([Change(table, key, former + count)]).addCallback(lambda _: former)

    def write(self, changes: Sequence[Change]) -> Deferred[None]:
        self.writes += 1
        if self.error is not None:
            return fail(self.error)
        done: Deferred[None] = Deferred()
        self._held.append((changes, done))
        if not self.holding:
            self.commit()
        return done

    def commit(self) -> None:
        """Apply what is held and fire."""
        held, self._held = self._held, []
        for changes, done in held:
            for change in changes:
                table = self.tables.setdefault(change.table, {})
                if change.value is None:
                    table.pop(change.key, None)
                else:
                    table[change.key] = change.value
            done.callback(None)

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(IWindowStore)
class FakeWindow:
    """A journal in a list."""

    def __init__(self) -> None:
        self.appends: list[list[tuple[int, int, int]]] = []
        self.expired: list[int] = []
        self.error: BrokerError | None = None

    def load(self, since_ms: int) -> Iterable[tuple[int, int, int]]:
        return [one for batch in self.appends for one in batch if one[2] >= since_ms]

    def append(self, entries: Sequence[tuple[int, int, int]]) -> None:
        if self.error is not None:
            raise self.error
        self.appends.append(list(entries))

    def expire(self, before_ms: int) -> None:
        if self.error is not None:
            raise self.error
        self.expired.append(before_ms)

    def close(self) -> None:
        pass
