"""A producer for commands: gathers records into batches, and sends them to the leaders of their partitions.

Idempotent unless told otherwise, so that what is sent again after a connection broke is stored once. Each
leader has a few batches of a partition under way at most; they are repeated in their order. Nothing is in
memory beyond these and one batch a partition.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from megabroker.cli.cluster import MOVED, Cluster, Partition
from megabroker.cli.kafka_client import KafkaClient
from megabroker.cli.refusals import check, meaning
from megabroker.codec import compression as codecs
from megabroker.codec.batch import RecordInput, build
from megabroker.errors import ErrorCode, StateError
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import produce

__all__ = ["COMPRESSIONS", "Acknowledged", "Writer"]

COMPRESSIONS: Final = {
    "none": codecs.NONE,
    "gzip": codecs.GZIP,
    "snappy": codecs.SNAPPY,
    "lz4": codecs.LZ4,
    "zstd": codecs.ZSTD,
}
"""The codecs by their names."""

_BY_NAME: Final = 12
_UNDER_WAY: Final = 5
"""Batches of a producer id that a broker recognises when they are repeated."""
_BATCH_BYTES: Final = 512 << 10
_BATCH_RECORDS: Final = 10_000
_RECORD_OVERHEAD_BYTES: Final = 24
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2
_AGAIN: Final = MOVED | {
    KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NETWORK_EXCEPTION,
}


@attrs.define
class _Batch:
    """Records of a partition that travel together."""

    partition: Partition
    records: list[RecordInput]
    sequence: int
    size_bytes: int
    sent_at: float = 0.0


@attrs.frozen
class Acknowledged:
    """A batch that is stored; ``offset`` is its first record's, -1 where nobody says."""

    partition: Partition
    offset: int
    records: int
    bytes: int
    seconds: float


class Writer:
    """Writes records to partitions.

    Args:
        acks: 0, 1, or -1 for all.
        compression: number of the codec.
        idempotent: which wants acks of -1.
        told: called for each batch that is stored.
        under_way: batches sent and not answered, at most.
    """

    def __init__(
        self,
        cluster: Cluster,
        told: Callable[[Acknowledged], None],
        *,
        acks: int = -1,
        compression: int = 0,
        idempotent: bool = True,
        batch_bytes: int = _BATCH_BYTES,
        under_way: int = _UNDER_WAY,
    ) -> None:
        self._cluster = cluster
        self._told = told
        self._acks = acks
        self._compression = compression
        self._batch_bytes = batch_bytes
        self._most_under_way = under_way
        self._idempotent = idempotent
        self._identity: tuple[int, int] | None = None if idempotent else (-1, -1)
        self._gathered: dict[Partition, _Batch] = {}
        self._sequences: dict[Partition, int] = {}
        self._under_way: list[tuple[KafkaClient, _Batch]] = []

    def add(self, partition: Partition, record: RecordInput) -> None:
        """Take a record, and send what makes a batch. Blocking. Raises RequestError, StateError."""
        batch = self._gathered.get(partition)
        if batch is None:
            batch = self._gathered[partition] = _Batch(partition, [], 0, 0)
        batch.records.append(record)
        batch.size_bytes += len(record[0] or b"") + len(record[1] or b"") + _RECORD_OVERHEAD_BYTES
        if batch.size_bytes >= self._batch_bytes or len(batch.records) >= _BATCH_RECORDS:
            self._send(self._gathered.pop(partition))

    def flush(self) -> None:
        """Send everything and wait until it is stored. Blocking. Raises RequestError, StateError."""
        for batch in list(self._gathered.values()):
            del self._gathered[batch.partition]
            self._send(batch)
        while self._under_way:
            self._take_answer()

    # --- sending ----------------------------------------------------------------------------------

    def _send(self, batch: _Batch) -> None:
        if self._idempotent:
            batch.sequence = self._sequences.get(batch.partition, 0)
            self._sequences[batch.partition] = (batch.sequence + len(batch.records)) % (1 << 31)
        while len(self._under_way) >= self._most_under_way:
            self._take_answer()
        batch.sent_at = time.monotonic()
        try:
            self._transmit(batch)
        except StateError as error:
            if error.code is not ErrorCode.UNREACHABLE:
                raise
            self._repeat([*(one for _, one in self._under_way), batch], error)

    def _transmit(self, batch: _Batch) -> None:
        leaders = self._cluster.by_leader([batch.partition])
        if not leaders:
            raise StateError(ErrorCode.UNREACHABLE, f"{batch.partition}: it has no leader at present")
        client = self._cluster.node(next(iter(leaders)))
        request = self._request(batch)
        if self._acks:
            client.send(request, most=_BY_NAME)
            self._under_way.append((client, batch))
        else:
            client.send_for_nothing(request, _BY_NAME)
            self._acknowledge(batch, -1)

    def _request(self, batch: _Batch) -> produce.Request:
        if self._identity is None:
            self._identity = self._cluster.producer_identity()
        producer_id, epoch = self._identity
        data = build(
            batch.records,
            compression=self._compression,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=batch.sequence if self._idempotent else -1,
        )
        row = produce.Request.Topic.Partition(index=batch.partition.number, records=data)
        topic = produce.Request.Topic(name=batch.partition.topic, partition_data=[row])
        return produce.Request(acks=self._acks, timeout_ms=30_000, topic_data=[topic])

    # --- answers ----------------------------------------------------------------------------------

    def _take_answer(self) -> None:
        client, batch = self._under_way[0]
        try:
            row = client.receive().responses[0].partition_responses[0]
        except StateError as error:
            self._repeat([one for _, one in self._under_way], error)
            return
        del self._under_way[0]
        self._judge(batch, row)

    def _judge(self, batch: _Batch, row: Any) -> None:
        code = row.error_code
        if code in (KafkaError.NONE, KafkaError.DUPLICATE_SEQUENCE_NUMBER):
            self._acknowledge(batch, row.base_offset)
        elif code in _AGAIN:
            reason = StateError(ErrorCode.TIMED_OUT, f"{batch.partition}: {meaning(code)}")
            self._repeat([batch, *self._drained()], reason)
        elif code == KafkaError.MESSAGE_TOO_LARGE and len(batch.records) > 1:
            self._repeat([*_halves(batch), *self._drained()], None)
        else:
            size = f", {batch.size_bytes - _RECORD_OVERHEAD_BYTES} bytes" if len(batch.records) == 1 else ""
            check(code, row.error_message, f"{batch.partition}{size}")

    def _drained(self) -> list[_Batch]:
        """Take all that is under way: what is stored is told, the rest is returned."""
        left: list[_Batch] = []
        lost: set[KafkaClient] = set()
        while self._under_way:
            client, batch = self._under_way.pop(0)
            if client in lost:
                left.append(batch)
                continue
            try:
                row = client.receive().responses[0].partition_responses[0]
            except StateError:
                lost.add(client)
                self._cluster.forget(client)
                left.append(batch)
                continue
            if row.error_code in (KafkaError.NONE, KafkaError.DUPLICATE_SEQUENCE_NUMBER):
                self._acknowledge(batch, row.base_offset)
            else:
                left.append(batch)
        return left

    def _repeat(self, batches: list[_Batch], reason: StateError | None) -> None:
        """Send batches again one by one, in their order, until they are stored or patience is at its end."""
        for client, _ in self._under_way:
            self._cluster.forget(client)
        self._under_way.clear()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        waiting = list(batches)
        while waiting:
            if time.monotonic() > deadline:
                assert reason is not None
                raise reason
            try:
                row = self._once(waiting[0], anew=reason is not None)
            except StateError as error:
                if error.code is not ErrorCode.UNREACHABLE:
                    raise
                reason = error
                self._cluster.close()
                time.sleep(_PAUSE_SECONDS)
                continue
            if row is None or row.error_code in (KafkaError.NONE, KafkaError.DUPLICATE_SEQUENCE_NUMBER):
                self._acknowledge(waiting.pop(0), -1 if row is None else row.base_offset)
                deadline = time.monotonic() + _PATIENCE_SECONDS
            elif row.error_code == KafkaError.MESSAGE_TOO_LARGE and len(waiting[0].records) > 1:
                waiting[:1] = _halves(waiting[0])
            elif row.error_code in _AGAIN:
                text = f"{waiting[0].partition}: {meaning(row.error_code)}"
                reason = StateError(ErrorCode.TIMED_OUT, text)
                time.sleep(_PAUSE_SECONDS)
            else:
                self._judge(waiting[0], row)

    def _once(self, batch: _Batch, *, anew: bool) -> Any:
        self._cluster.by_leader([batch.partition], anew=anew)
        self._transmit(batch)
        if not self._acks:
            return None
        client, _ = self._under_way.pop()
        try:
            return client.receive().responses[0].partition_responses[0]
        except StateError:
            self._cluster.forget(client)
            raise

    def _acknowledge(self, batch: _Batch, offset: int) -> None:
        seconds = time.monotonic() - batch.sent_at
        payload = batch.size_bytes - len(batch.records) * _RECORD_OVERHEAD_BYTES
        self._told(Acknowledged(batch.partition, offset, len(batch.records), payload, seconds))


def _halves(batch: _Batch) -> list[_Batch]:
    middle = len(batch.records) // 2
    return [
        _Batch(
            batch.partition, records, (batch.sequence + skipped) % (1 << 31), _size(records), batch.sent_at
        )
        for records, skipped in ((batch.records[:middle], 0), (batch.records[middle:], middle))
    ]


def _size(records: list[RecordInput]) -> int:
    return sum(len(one[0] or b"") + len(one[1] or b"") + _RECORD_OVERHEAD_BYTES for one in records)
