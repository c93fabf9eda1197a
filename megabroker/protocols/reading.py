"""Reading one partition record by record, for wires that know messages and not batches.

Owns the walk from offset to offset over stored batches, compressed or not, past control records and
holes, and through what is committed only: it stops before an open transaction and passes over aborted ones,
since these wires have no way to tell their clients of either. Never decodes a batch twice while records are
taken in order, never holds more than one read (``read_bytes``, or one batch when that is larger) and one
decompressed batch, and gives both up when the readers that share a ``ReadCache`` hold more than it allows:
such a reader reads again from its position.

Invariant: ``position`` is the offset after the last record given, whatever is held or dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from megabroker.codec.batch import (
    HEADER_BYTES,
    LENGTH_END,
    MAX_DECOMPRESSED_BYTES,
    MIN_BATCH_LENGTH,
    CorruptBatch,
    TruncatedBatch,
    check_crc,
    read_header,
    records,
)
from megabroker.codec.compression import decompress
from megabroker.errors import ErrorCode, StorageError
from megabroker.interfaces import IPartition
from megabroker.model import AbortedTransaction, BatchHeader, Buffer, FileRange, Record

__all__ = ["ReadCache", "RecordReader"]

_READ_BYTES = 256 * 1024
_CODEC_BITS = 7


class ReadCache:
    """A bound on what many readers hold together; the one unused for longest gives up first.

    Args:
        max_bytes: the most that all readers but the one in use hold.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._holders: OrderedDict[RecordReader, int] = OrderedDict()

    def hold(self, reader: RecordReader, size_bytes: int) -> None:
        """Take note of what ``reader`` now holds, and make others give up what is too much."""
        holders = self._holders
        self.held_bytes += size_bytes - holders.pop(reader, 0)
        holders[reader] = size_bytes
        while self.held_bytes > self.max_bytes and len(holders) > 1:
            oldest, size = holders.popitem(last=False)
            self.held_bytes -= size
            oldest.drop()

    def forget(self, reader: RecordReader) -> None:
        """Take note that ``reader`` is gone."""
        self.held_bytes -= self._holders.pop(reader, 0)


class RecordReader:
    """The data records of one partition in offset order, by default those below the last stable offset.

    Args:
        offset: the first offset wanted.
        cache: shared bound on memory.
        read_bytes: how much is read from the log at a time.
        committed: whether to stop before what is undecided and pass over what was aborted.

    Attributes:
        position: the next offset wanted.
    """

    __slots__ = (
        "_aborted",
        "_at",
        "_batch_end",
        "_cache",
        "_committed",
        "_data",
        "_read_bytes",
        "_records",
        "partition",
        "position",
    )

    def __init__(
        self,
        partition: IPartition,
        offset: int,
        cache: ReadCache,
        *,
        read_bytes: int = _READ_BYTES,
        committed: bool = True,
    ) -> None:
        self.partition = partition
        self._committed = committed
        self.position = offset
        self._cache = cache
        self._read_bytes = read_bytes
        self._data: Buffer = b""
        self._aborted: Sequence[AbortedTransaction] | None = None
        self._at = 0  # where the next batch begins in ``_data``
        self._records: Iterator[Record] | None = None
        self._batch_end = 0  # the offset after the batch that ``_records`` walks

    def next(self) -> Record | None:
        """Return the next data record at or after ``position``, or None when there is none yet.

        Raises:
            RequestError: OFFSET_OUT_OF_RANGE, and what else ``IPartition.read`` raises.
            Cold: it has to be read from the disk first; ask again then.
            StorageError: the log cannot be read.
            ProtocolError: the log holds something that is no record batch.
        """
        while True:
            if self._records is not None:
                record = next(self._records, None)
                if record is not None:
                    self.position = record.offset + 1
                    return record
                self._records = None
                self.position = max(self.position, self._batch_end)
            header = self._next_header()
            if header is None:
                return None
            if header.is_transactional and self._committed and self._is_aborted(header):
                self._at += header.size_bytes
                self.position = max(self.position, header.next_offset)
            else:
                self._begin(header)

    def drop(self) -> None:
        """Give up everything held; ``position`` stays."""
        self._data = b""
        self._at = 0
        self._records = None

    def close(self) -> None:
        """Give up everything for good."""
        self.drop()
        self._cache.forget(self)

    def _next_header(self) -> BatchHeader | None:
        if self._at < len(self._data):
            try:
                return read_header(self._data, self._at, len(self._data))
            except TruncatedBatch:
                pass
        self.drop()
        found = self.partition.read(
            self.position, self._read_bytes, committed=self._committed, cached_only=True
        )
        data = found[0]
        # What was read elsewhere has the aborted transactions with it.
        self._aborted = found[2] if len(found) == 3 else None
        if isinstance(data, FileRange):
            try:
                data = data.file.read_cached(data.position, data.length)
            except OSError as error:
                raise StorageError(ErrorCode.STORAGE, f"cannot read the log: {error}") from error
        if not len(data):
            self._cache.forget(self)
            return None
        header = read_header(data, 0, len(data))
        if header.next_offset <= self.position:
            raise StorageError(
                ErrorCode.STORAGE, f"asked for offset {self.position}, the log gave {header.base_offset}"
            )
        self._data = data
        return header

    def _is_aborted(self, header: BatchHeader) -> bool:
        aborted = self._aborted
        if aborted is None:
            if header.base_offset < self.partition.start_offset:
                return True  # deleted since it was read, and with it what tells whether it was aborted
            aborted = self.partition.aborted_transactions(header.base_offset, header.next_offset)
        return any(
            one.producer_id == header.producer_id
            and one.first_offset <= header.base_offset <= one.last_offset
            for one in aborted
        )

    def _begin(self, header: BatchHeader) -> None:
        """Begin with the batch at hand. Raises ProtocolError: it is not what was written."""
        at = self._at
        if not check_crc(self._data, at, header):  # the clients of these wires cannot tell
            self.drop()
            raise CorruptBatch(
                f"the batch at offset {header.base_offset} of {self.partition.topic_partition} is damaged"
            )
        self._at = at + header.size_bytes
        self._batch_end = header.next_offset
        held = len(self._data)
        if header.is_control or not header.compression:
            self._records = records(self._data, header, at, from_offset=self.position)
            held += header.size_bytes
        else:
            body = memoryview(self._data)[at + HEADER_BYTES : at + LENGTH_END + header.batch_length]
            payload = decompress(header.compression, body, MAX_DECOMPRESSED_BYTES)
            plain = header._replace(
                attributes=header.attributes & ~_CODEC_BITS, batch_length=MIN_BATCH_LENGTH + len(payload)
            )
            # As if the header stood before the payload; it is not looked at again.
            self._records = records(payload, plain, -HEADER_BYTES, from_offset=self.position)
            held += 2 * len(payload)
        self._cache.hold(self, held)
