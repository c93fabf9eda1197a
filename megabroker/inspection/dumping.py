"""What single files of a log hold, entry by entry, as values.

Owns what is told of each kind of file. Reads one batch at a time, so a file may be of any size. What is no
batch is told as damage and stepped over by the search that recovery uses. Kafka's DumpLogSegments tells the
same things; the names here are its own.
"""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from megabroker.codec.batch import check_crc, peek_header, read_marker, records
from megabroker.errors import ErrorCode, ProtocolError, StorageError
from megabroker.inspection.reading import ReadOnlyFiles
from megabroker.model import BatchHeader, Record
from megabroker.storage.aborted import AbortedIndex
from megabroker.storage.checking import find_damage
from megabroker.storage.checkpoints import decode_snapshot
from megabroker.storage.files import OpenFiles
from megabroker.storage.segment import HEAD_BYTES, Segment, first_offset

__all__ = ["KINDS", "Options", "dump"]

Row = dict[str, Any]

_CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
_INDEX_ENTRY: Final = struct.Struct(">ii")
_TIME_ENTRY: Final = struct.Struct(">qi")


@attrs.frozen
class Options:
    """How much is told.

    Attributes:
        deep: the records of each batch, too.
        contents: their keys, values and headers, too.
        from_offset: batches that end below it are passed over.
        limit: batches or entries at most, or None.
    """

    deep: bool = False
    contents: bool = False
    from_offset: int = 0
    limit: int | None = None


def dump(path: pathlib.Path, options: Options) -> Iterator[Row]:
    """Yield what is in a file, a mapping with ``kind`` for each entry; the first one is of the file.

    Raises:
        StorageError: it is of no kind that is known, or cannot be read.
    """
    name = path.name.removesuffix(".swap").removesuffix(".cleaned").removesuffix(".deleted")
    suffix = pathlib.PurePath(name).suffix
    base = first_offset(name, suffix)
    reader = KINDS.get(suffix)
    if not path.is_file():
        raise _refused(
            f"{path}: expected a file, and {'that is a directory' if path.is_dir() else 'there is none'}"
        )
    if reader is None or base is None:
        known = ", ".join(f"<offset>{one}" for one in KINDS)
        raise _refused(f"{path}: expected one of {known}, the offset in 20 digits")
    try:
        yield {"kind": "file", "path": str(path), "base_offset": base, "bytes": path.stat().st_size}
        told = 0
        for row in reader(path, base, options):
            told += row["kind"] != "record"
            if options.limit is not None and told > options.limit:
                return
            yield row
    except OSError as error:
        raise _refused(f"cannot read {path}: {error.strerror}") from error


def _refused(message: str) -> StorageError:
    return StorageError(ErrorCode.STORAGE, message, retriable=False)


# --- batches --------------------------------------------------------------------------------------


class _File(Segment):
    """A segment under whatever name its file has."""

    __slots__ = ("given",)

    def __init__(self, path: pathlib.Path, base_offset: int) -> None:
        super().__init__(OpenFiles(ReadOnlyFiles()), str(path.parent), base_offset, path.stat().st_size)
        self.created = True
        self.given = str(path)

    def path(self, suffix: str = ".log") -> str:
        """Return where the file is."""
        return self.given


def _batches(path: pathlib.Path, base: int, options: Options) -> Iterator[Row]:
    segment = _File(path, base)
    position, expected = 0, base
    while position < segment.size:
        head = bytes(segment.read(position, HEAD_BYTES))
        fault = ""
        try:
            header = peek_header(head, 0, len(head))
            if header.size_bytes > segment.size - position:
                fault = f"a batch of {header.size_bytes} bytes where {segment.size - position} are left"
        except ProtocolError as error:
            fault = str(error)
        if fault:
            damage, followed = find_damage(segment, position, expected)
            yield {
                "kind": "damage" if followed else "tail",
                "position": position,
                "bytes": damage.length,
                "from_offset": damage.from_offset,
                "to_offset": damage.to_offset,
                "fault": fault,
            }
            position += damage.length
            continue
        if header.next_offset > options.from_offset:
            data = bytes(segment.read(position, header.size_bytes))
            yield from _batch(position, header, data, expected, options)
        expected = max(expected, header.next_offset)
        position += header.size_bytes


def _batch(position: int, header: BatchHeader, data: bytes, expected: int, options: Options) -> Iterator[Row]:
    codec = header.compression
    valid = check_crc(data, 0, header)
    row: Row = {
        "kind": "batch",
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "count": header.record_count,
        "base_sequence": header.base_sequence,
        "last_sequence": -1
        if header.base_sequence < 0
        else (header.base_sequence + header.last_offset_delta) & 0x7FFFFFFF,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "leader_epoch": header.leader_epoch,
        "transactional": header.is_transactional,
        "control": header.is_control,
        "delete_horizon_ms": header.base_timestamp if header.attributes & 0x40 else None,
        "position": position,
        "create_time_ms": None if header.is_log_append_time else header.max_timestamp,
        "append_time_ms": header.max_timestamp if header.is_log_append_time else None,
        "bytes": header.size_bytes,
        "magic": header.magic,
        "codec": _CODECS[codec] if codec < len(_CODECS) else str(codec),
        "crc": header.crc,
        "valid": valid,
    }
    if header.base_offset < expected:
        row["fault"] = f"offset {header.base_offset} after {expected - 1}"
    yield row
    if options.deep and valid:
        try:
            for record in records(data, header, control=True):
                yield _record(record, header, data, options)
        except ProtocolError as error:
            yield {"kind": "fault", "position": position, "fault": str(error)}


def _record(record: Record, header: BatchHeader, data: bytes, options: Options) -> Row:
    row: Row = {
        "kind": "record",
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key_bytes": -1 if record.key is None else len(record.key),
        "value_bytes": -1 if record.value is None else len(record.value),
        "header_keys": [name for name, _ in record.headers],
    }
    if header.is_control:
        marker = read_marker(data, header)
        if marker is not None:
            row["marker"] = "COMMIT" if marker.commit else "ABORT"
            row["coordinator_epoch"] = marker.coordinator_epoch
    elif options.contents:
        row["key"] = _text(record.key)
        row["value"] = _text(record.value)
        row["headers"] = {name: _text(value) for name, value in record.headers}
    return row


def _text(value: bytes | None) -> str | None:
    """Return bytes as text, those that are none as ``\\xNN``."""
    return None if value is None else value.decode("utf-8", "backslashreplace")


# --- what is beside them --------------------------------------------------------------------------


def _offsets(path: pathlib.Path, base: int, options: Options) -> Iterator[Row]:
    for offset, position in _entries(path, _INDEX_ENTRY):
        if offset or position:
            yield {"kind": "index", "offset": base + offset, "position": position}


def _times(path: pathlib.Path, base: int, options: Options) -> Iterator[Row]:
    for timestamp, offset in _entries(path, _TIME_ENTRY):
        if timestamp or offset:
            yield {"kind": "time", "timestamp_ms": timestamp, "offset": base + offset}


def _entries(path: pathlib.Path, layout: struct.Struct) -> Iterator[tuple[Any, ...]]:
    data = path.read_bytes()
    whole = len(data) - len(data) % layout.size
    yield from layout.iter_unpack(data[:whole])
    if whole < len(data):
        raise _refused(f"{path}: {len(data) - whole} bytes at the end are no entry of {layout.size}")


def _aborted(path: pathlib.Path, base: int, options: Options) -> Iterator[Row]:
    found = AbortedIndex.decode(path.read_bytes(), base)
    if found is None:
        raise _refused(f"{path} is no index of aborted transactions of a segment that begins at {base}")
    for one in found:
        yield {"kind": "aborted", **one._asdict()}


def _producers(path: pathlib.Path, base: int, options: Options) -> Iterator[Row]:
    found = decode_snapshot(path.read_bytes())
    if found is None:
        raise _refused(f"{path} is no snapshot of producers, or its CRC is wrong")
    for one in found:
        last = one.batches[-1] if one.batches else (-1, -1, -1, -1, -1)
        yield {
            "kind": "producer",
            "producer_id": one.producer_id,
            "producer_epoch": one.producer_epoch,
            "coordinator_epoch": one.coordinator_epoch,
            "transaction_first_offset": one.transaction_first_offset,
            "first_sequence": last[0],
            "last_sequence": last[1],
            "last_offset": last[3],
            "last_timestamp_ms": last[4],
        }


KINDS: Final[dict[str, Callable[[pathlib.Path, int, Options], Iterator[Row]]]] = {
    ".log": _batches,
    ".index": _offsets,
    ".timeindex": _times,
    ".txnindex": _aborted,
    ".snapshot": _producers,
}
"""What reads a file, by the end of its name."""
