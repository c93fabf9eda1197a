"""Reading the logs of Kafka's internal topics from their files, batch by batch.

Owns the walk over segments and what counts as their end. Every batch is checked by its CRC. Bytes after the
last whole batch of the last segment are what a kill leaves and are passed over; anything else that is no
batch is refused, because a group would go back, or a topic be missing, without anybody noticing.

    NNNNNNNNNNNNNNNNNNNN.log                     batches from that offset on
    NNNNNNNNNNNNNNNNNNNN-EEEEEEEEEE.checkpoint   everything below that offset, as of that epoch
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from megabroker.codec.batch import (
    HEADER_BYTES,
    BatchError,
    CorruptBatch,
    SearchExhausted,
    TruncatedBatch,
    check_crc,
    find_batch,
    peek_header,
    records,
)
from megabroker.errors import ProtocolError, StorageError
from megabroker.kafkadir.refusals import refusal
from megabroker.model import BatchHeader, Record

__all__ = [
    "Batch",
    "batches_of_file",
    "batches_of_log",
    "damaged",
    "newest_snapshot",
    "records_of",
    "segments",
]

Batch = tuple[BatchHeader, bytes]
"""A header and the whole batch."""

MAX_RECORD_BYTES: Final = 256 << 20
_BUFFER_BYTES: Final = 1 << 20
_SEGMENT: Final = re.compile(r"([0-9]{20})\.log")
_SWAP: Final = re.compile(r"([0-9]{20})\.log\.swap")
_SNAPSHOT: Final = re.compile(r"([0-9]{20})-([0-9]{10})\.checkpoint")


def segments(directory: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
    """Return (first offset, file) of every segment in offset order.

    A kill while Kafka's cleaner replaces segments leaves the new ones as ``.log.swap``: they count, in
    place of the old ones whose offsets they hold, as Kafka counts them when it starts.

    Raises:
        StorageError: the directory cannot be read.
    """
    found = {int(match[1]): path for match, path in _matching(directory, _SEGMENT)}
    swaps = {int(match[1]): path for match, path in _matching(directory, _SWAP)}
    for first, path in swaps.items():
        end = max(
            (header.next_offset for header, _ in batches_of_file(path, may_be_torn=True)), default=first
        )
        found = {base: old for base, old in found.items() if not first <= base < max(end, first + 1)}
    return sorted({**found, **swaps}.items())


def newest_snapshot(directory: pathlib.Path) -> tuple[int, int, pathlib.Path] | None:
    """Return (end offset, epoch, file) of the newest snapshot, or None. Raises StorageError."""
    found = [(int(match[1]), int(match[2]), path) for match, path in _matching(directory, _SNAPSHOT)]
    return max(found, default=None)


def _matching(directory: pathlib.Path, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], pathlib.Path]]:
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise refusal(f"cannot read {directory}: {error.strerror}") from error
    return [(match, directory / name) for name in names if (match := pattern.fullmatch(name)) is not None]


def batches_of_log(directory: pathlib.Path, from_offset: int = 0) -> Iterator[Batch]:
    """Yield every batch of a log that ends above ``from_offset``.

    Raises:
        StorageError: a file cannot be read, or holds something else than batches.
    """
    found = segments(directory)
    for at, (_, path) in enumerate(found):
        is_last = at + 1 == len(found)
        if is_last or found[at + 1][0] > from_offset:
            for batch in batches_of_file(path, may_be_torn=is_last):
                if batch[0].next_offset > from_offset:
                    yield batch


def batches_of_file(path: pathlib.Path, *, may_be_torn: bool) -> Iterator[Batch]:
    """Yield every batch of a file. Raises StorageError."""
    try:
        with open(path, "rb", buffering=_BUFFER_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            position = 0
            while position < size:
                try:
                    batch = _next_batch(file, size - position)
                except BatchError as error:
                    if may_be_torn and _nothing_follows(file, position):
                        return
                    raise refusal(f"{path} is damaged at byte {position}: {error}") from error
                yield batch
                position += len(batch[1])
    except OSError as error:
        raise refusal(f"cannot read {path}: {error.strerror}") from error


def _next_batch(file: BinaryIO, left: int) -> Batch:
    head = file.read(HEADER_BYTES)
    header = peek_header(head, 0, len(head))
    if header.size_bytes > left:
        raise TruncatedBatch(f"batch of {header.size_bytes} bytes where {left} are left")
    data = head + file.read(header.size_bytes - HEADER_BYTES)
    if not check_crc(data, 0, header):
        raise CorruptBatch("the CRC does not match")
    return header, data


def _nothing_follows(file: BinaryIO, position: int) -> bool:
    """Whether no batch begins after ``position``: then what is there is only the end of a write cut off."""
    file.seek(position)
    rest = file.read()
    try:
        return find_batch(rest, 1, len(rest), 0) is None
    except SearchExhausted:
        return False


def records_of(batch: Batch, where: pathlib.Path) -> Iterator[Record]:
    """Yield the records of one batch, none of a control batch. Raises StorageError."""
    header, data = batch
    try:
        yield from records(data, header, max_bytes=MAX_RECORD_BYTES)
    except ProtocolError as error:
        raise damaged(where, header.base_offset, error) from error


def damaged(where: pathlib.Path, offset: int, error: ProtocolError) -> StorageError:
    """Return the refusal of a record that cannot be read."""
    return refusal(f"{where}: offset {offset} cannot be read: {error}")
