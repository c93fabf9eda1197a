"""Fuzz targets for what is read from the data directory: a file that is not as it was written."""

from __future__ import annotations

import os
import pathlib
import struct
import tempfile
from itertools import pairwise
from uuid import UUID

from crc32c import crc32c

from megabroker.codec import batch, records
from megabroker.core.producers import ProducerTable
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import AbortedTransaction, ProducerSnapshot, TopicPartition
from megabroker.storage import checkpoints
from megabroker.storage.aborted import AbortedIndex
from megabroker.storage.files import Files, OpenFiles
from megabroker.storage.index import Index
from megabroker.storage.journal import JournalError, encode_entry, entry_key, read_frames
from megabroker.storage.recovery import LEADER_EPOCHS, Loader
from megabroker.storage.segments import Segments
from tests.contract.test_log_store import content
from tests.fuzz.target import Target

__all__ = ["file_targets"]

_BLOCK = 4096
_KEY = b"k" * 16
_EPOCHS = b"\nepochs\n"  # between a log and its leader-epoch-checkpoint
_SIZE = 1 << 20

# --- small files -------------------------------------------------------------------------------------


def _index(data: bytes) -> None:
    half = len(data) // 20 * 8
    for parts in ((data[:half], data[half:]), (data, b"\0" * 12), (b"", data)):
        found = Index.decode(*parts, _SIZE)
        if found is not None:
            again = Index.decode(*found.encode(), _SIZE)
            assert again is not None or not found.times
            assert again is None or again.encode() == found.encode()
            for offset in (0, 7, 1 << 30):
                assert 0 <= found.position_for(offset) < _SIZE


def _aborted(data: bytes) -> None:
    found = AbortedIndex.decode(data, 0)
    if found is not None:
        again = AbortedIndex.decode(found.encode(), 0)
        assert again is not None
        assert list(again) == list(found)
        found.collect(0, 1 << 62, [])


def _offsets(data: bytes) -> None:
    for told in (data, _checked(data)):
        found = checkpoints.decode_offsets(told)
        if found is not None:
            assert all(type(offset) is int for offset in found.values())


def _checked(data: bytes) -> bytes:
    """Return an offset checkpoint of these rows whose count and check are right."""
    rows = [line for line in data.split(b"\n") if line]
    told = b"".join(line + b"\n" for line in rows)
    return b"0\n%d\n%b__crc32c -1 %d\n" % (len(rows) + 1, told, crc32c(told))


def _snapshot(data: bytes) -> None:
    for told in (data, struct.pack(">hI", 1, crc32c(data)) + data):
        found = checkpoints.decode_snapshot(told)
        if found is not None:
            table = ProducerTable()
            table.restore(found)
            assert len(table.snapshot()) <= len(found)
            table.first_unstable_offset()


def _others(data: bytes) -> None:
    checkpoints.decode_rows(data, 2)
    checkpoints.decode_meta(data)
    found = checkpoints.decode_partition_metadata(data)
    assert (
        found is None
        or checkpoints.decode_partition_metadata(checkpoints.encode_partition_metadata(found)) == found
    )


_SMALL = (_index, _aborted, _offsets, _snapshot, _others)


def _small_files() -> list[bytes]:
    index = Index()
    index.note(3, 100, 1_700_000_000_000, 2)
    index.note(9, 300, 1_700_000_000_500, 9)
    aborted = AbortedIndex()
    aborted.add(AbortedTransaction(5, 1, 3, 4))
    aborted.add(AbortedTransaction(6, 2, 7, 8))
    producer = ProducerSnapshot(5, 1, ((0, 3, 7, 10, 1_700_000_000_000),), 7, 2)
    each = (
        b"".join(index.encode()),
        aborted.encode(),
        checkpoints.encode_offsets({TopicPartition("a-b", 0): 7, TopicPartition("c", 12): 1 << 40}),
        checkpoints.encode_snapshot([producer], 11),
        checkpoints.encode_rows([(0, 0), (3, 17)]),
        checkpoints.encode_meta({"version": "1", "cluster.id": "c", "node.id": "1"}),
        checkpoints.encode_partition_metadata(UUID(int=7)),
    )
    return [bytes([min(at, len(_SMALL) - 1)]) + one for at, one in enumerate(each)]


def _small_file(data: bytes) -> None:
    if data:
        _SMALL[data[0] % len(_SMALL)](data[1:])


# --- the sync journal --------------------------------------------------------------------------------


def _frame(body: bytes, generation: int, number: int, count: int) -> bytes:
    frame = bytearray(struct.pack(">4sIII16sQQ", b"MBSF", 0, 48 + len(body), count, _KEY, generation, number))
    frame += body
    struct.pack_into(">I", frame, 4, crc32c(bytes(frame[8:])))
    return bytes(frame).ljust(-(-len(frame) // _BLOCK) * _BLOCK, b"\0")


def _entries(count: int) -> bytes:
    key = entry_key(bytes(16), "a-0")
    return b"".join(
        bytes(part) for at in range(count) for part in encode_entry(key, 0, 7 * at, at + 1, [b"records"])
    )


def _journal(data: bytes) -> None:
    """Two frames in the first half and one in the second, whose checks are right, of what is given."""
    header = struct.pack(">4sI16sQ", b"MBSJ", 2, _KEY, 4 * _BLOCK)
    header = (header + struct.pack(">I", crc32c(header))).ljust(_BLOCK, b"\0")
    count = data[0] if data else 0
    cut = len(data) // 2
    first = _frame(data[1:cut], 1, 0, count) + _frame(data[cut:], 1, 1, count)
    second = _frame(data[1:], 2, 0, count)
    for whole in (data, header + data, header + first.ljust(4 * _BLOCK, b"\0")[: 4 * _BLOCK] + second):
        with tempfile.TemporaryFile() as file:
            file.write(whole)
            file.flush()
            try:
                for frames, missing in read_frames(Files(), file.fileno()):
                    assert missing >= 0
                    for frame in frames:
                        assert all(entry.position >= 0 for entry in frame.entries)
            except JournalError:
                pass


# --- a log -------------------------------------------------------------------------------------------


def _logs() -> list[bytes]:
    inputs = [(b"key", b"value", (), 1_700_000_000_000), (None, b"x" * 30, (), 1_700_000_000_001)]
    found = bytearray()
    for at in range(4):
        one = bytearray(records.build(inputs, producer_id=5, producer_epoch=1, base_sequence=2 * at))
        struct.pack_into(">q", one, 0, 2 * at)
        struct.pack_into(">i", one, 12, 0)
        found += one
    log = bytes(found)
    epochs = checkpoints.encode_rows([(0, 0), (3, 4)])
    return [log, log[: len(log) // 2], log + _EPOCHS + epochs, _EPOCHS + epochs]


def _log(data: bytes) -> None:
    """Open a log of one file after a crash, and once more in order, and read all that there is."""
    log, there, epochs = data.partition(_EPOCHS)
    with tempfile.TemporaryDirectory(dir=_MEMORY) as place:
        pathlib.Path(f"{place}/{0:020d}.log").write_bytes(log)
        if there:
            pathlib.Path(f"{place}/{LEADER_EPOCHS}").write_bytes(epochs)
        for clean in (False, True):
            open_files = OpenFiles(Files())
            loader = Loader(
                open_files,
                place,
                ProducerTable(),
                clean=clean,
                recovery_point=0,
                start_offset=0,
                interval=100,
            )
            loaded = loader.run()
            assert 0 <= loaded.next_offset <= 1 << 31
            assert all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(loaded.epochs))
            segments = Segments(loaded.segments, loaded.damaged, loaded.refused, lambda: 100)
            _read(segments, loaded.next_offset)
            open_files.close()


def _read(segments: Segments, end: int) -> None:
    offset = 0
    while offset < min(end, 1000):
        try:
            found = content(segments.read(offset, 1, 1 << 40, end))
        except StorageError as error:
            if error.code is not ErrorCode.CORRUPT_BATCH:
                raise
            offset += 1
            continue
        if not found:
            break
        header = batch.read_header(found, 0, len(found))
        assert batch.check_crc(found, 0, header)
        assert header.last_offset >= offset
        offset = header.next_offset


_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


def file_targets() -> dict[str, Target]:
    """Return them by name."""
    return {
        "small-files": Target(_small_files(), _small_file),
        "sync-journal": Target(
            [bytes([2]) + _entries(1) + _entries(1), bytes([1]) + _entries(1)], _journal, fixed_bytes=1 << 20
        ),
        "log": Target(_logs(), _log, fixed_bytes=2 << 20),
    }
