"""Record batches and what is in them."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = [
    "NO_LEADER_EPOCH",
    "NO_PRODUCER",
    "NO_TIMESTAMP",
    "BatchHeader",
    "Buffer",
    "Header",
    "Record",
    "TimestampType",
]

NO_TIMESTAMP = -1
NO_PRODUCER = -1
NO_LEADER_EPOCH = -1

Buffer = bytes | bytearray | memoryview


class TimestampType(enum.Enum):
    """Whose clock stamps the records of a topic; the values are Kafka's configuration words."""

    CREATE_TIME = "CreateTime"
    LOG_APPEND_TIME = "LogAppendTime"


class BatchHeader(NamedTuple):
    """The fixed 61-byte head of a record batch v2, fields in wire order.

    Source: Kafka protocol guide, "Record Batch". ``base_offset`` and ``leader_epoch`` lie outside the
    CRC and are stamped by the log; all else is as the client sent it.
    """

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole batch, its first twelve included."""
        return 12 + self.batch_length

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Offset of the record after this batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> int:
        """Kafka's codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & 7

    @property
    def is_log_append_time(self) -> bool:
        """Whether the broker's clock stamped every record with ``max_timestamp``."""
        return bool(self.attributes & 8)

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction."""
        return bool(self.attributes & 16)

    @property
    def is_control(self) -> bool:
        """Whether the batch holds a transaction marker instead of data."""
        return bool(self.attributes & 32)


class Header(NamedTuple):
    """One record header."""

    key: str
    value: bytes | None


class Record(NamedTuple):
    """One record, decoded.

    Attributes:
        offset: its offset in the partition.
        timestamp_ms: epoch milliseconds, the producer's or the broker's as the topic has it.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
