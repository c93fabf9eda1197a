"""Every bit of the heads of a log's batches that is not what was written: one batch is lost, and no other."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from megabroker.codec.batch import read_header
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Durability, LogSettings
from megabroker.storage.files import Files, OpenFiles
from megabroker.storage.recovery import Loader
from megabroker.storage.retention import expired
from megabroker.storage.segment import HEAD_BYTES
from megabroker.storage.segments import Segments
from megabroker.storage.store import LocalLogStore
from megabroker.storage.times import first_at_or_after, latest
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

_RECORDS = 4
_BATCHES = 8
_SETTINGS = LogSettings(index_interval_bytes=300)
_EPOCH = range(12, 16)
_NO_LIMIT = 1 << 60

Batches = dict[int, bytes]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The names of what is logged as an error meanwhile."""
    found: list[str] = []

    def note(event: Any) -> None:
        if event["log_level"].name in ("error", "critical", "warn"):
            found.append((event["log_format"] or "").partition(":")[0])

    globalLogPublisher.addObserver(note)
    yield found
    globalLogPublisher.removeObserver(note)


def padded(number: int) -> bytearray:
    """A batch of 128 bytes: one bit of its length more, and it ends where another one does."""
    empty = len(batch(*[b"%d" % number] * _RECORDS))
    padding = bytes(128 - empty)
    return batch(b"%d" % number + padding, *[b"%d" % number] * (_RECORDS - 1), timestamp=_time(number))


def _time(number: int) -> int:
    return 1_600_000_000_000 + 1000 * number


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A log of two segments of eight batches, closed in order."""
    directory = tmp_path_factory.mktemp("flips")
    clock = Clock()
    clock.advance(1_700_000_000)
    store = LocalLogStore(str(directory), clock, lambda call: call(), Durability.OS, threaded=False)
    store.open()
    log = store.log(TOPIC, 0, _SETTINGS, Listener(), Producers())
    for number in range(2 * _BATCHES):
        if number == _BATCHES:
            log._roll()
        data = padded(number)
        assert len(data) == 128
        log.append(read_header(data, 0, len(data)), data, 5, None)
    store.disk.pump()
    store.close()
    store.disk.pump()
    return directory / "orders-0"


def opened(directory: pathlib.Path, *, clean: bool = True) -> tuple[Segments, int]:
    loaded = Loader(
        OpenFiles(Files()),
        str(directory),
        Producers(),
        clean=clean,
        recovery_point=_RECORDS * 2 * _BATCHES,
        start_offset=0,
        interval=_SETTINGS.index_interval_bytes,
    ).run()
    return Segments(loaded.segments, loaded.damaged, loaded.refused, lambda: 300), loaded.next_offset


def served(directory: pathlib.Path, *, clean: bool, backward: bool) -> tuple[Batches, list[int], int]:
    """Read at every batch's offsets: what comes, at which of them reading was refused, and the end."""
    segments, end = opened(directory, clean=clean)
    found: Batches = {}
    refused = []
    offsets = range(0, end, _RECORDS)
    for first in reversed(offsets) if backward else offsets:
        for offset in (first + 3, first):
            try:
                data = content(segments.read(offset, 1, _NO_LIMIT, end))
            except StorageError as error:
                if error.code is not ErrorCode.CORRUPT_BATCH:
                    raise
                refused.append(offset)
                continue
            if data:
                header = read_header(data, 0, len(data))
                assert found.setdefault(header.base_offset, data) == data
                assert header.last_offset >= offset
    return found, refused, end


Pristine = dict[pathlib.Path, tuple[bytes, tuple[int, int]]]


def restore(directory: pathlib.Path, pristine: Pristine) -> None:
    """Have the files be again what they were."""
    for one in set(directory.iterdir()) - pristine.keys():
        one.unlink()
    for one, (data, changed) in pristine.items():
        if not one.exists() or changed_at(one) != changed:
            one.write_bytes(data)
            pristine[one] = (data, changed_at(one))


def changed_at(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


@pytest.mark.parametrize("which", ["closed", "active"])
@pytest.mark.parametrize("state", ["indexed", "unindexed", "killed"])
def test_every_bit_of_every_head(
    place: pathlib.Path, tmp_path: pathlib.Path, which: str, state: str, logged: list[str]
) -> None:
    directory = pathlib.Path(shutil.copytree(place, tmp_path / "orders-0"))
    path = sorted(directory.glob("*.log"))[which == "active"]
    if state == "unindexed":
        path.with_suffix(".index").unlink()
    pristine = {one: (one.read_bytes(), changed_at(one)) for one in directory.iterdir()}
    clean = state != "killed"
    expected, refused, end = served(directory, clean=clean, backward=False)
    assert sorted(expected) == list(range(0, end, _RECORDS))
    assert (len(expected), end, refused) == (2 * _BATCHES, 2 * _BATCHES * _RECORDS, [])
    whole = pristine[path][0]
    flips = 0
    for at in (0, 3, _BATCHES - 1):
        hit = int(path.stem) + at * _RECORDS
        for bit in range(8 * HEAD_BYTES):
            restore(directory, pristine)
            position = at * 128 + bit // 8
            spoilt = bytearray(whole)
            spoilt[position] ^= 1 << bit % 8
            path.write_bytes(spoilt)
            del logged[:]
            found, refused, now_end = served(directory, clean=clean, backward=bool(flips & 1))
            flips += 1
            told = (at, bit // 8, bit % 8, logged)
            assert now_end == end, told
            if bit // 8 in _EPOCH:
                assert found.keys() == expected.keys(), told
                assert found.pop(hit)[16:] == expected[hit][16:], told
                assert set(logged) <= {"leader-epoch-alone"}, told
            else:
                assert logged == ["log-damaged"], told
                # What a start after a crash finds is set aside: read over, and not refused.
                set_aside = (state, which) == ("killed", "active")
                assert set(refused) == (set() if set_aside else {hit, hit + 3}), told
            assert found == {base: data for base, data in expected.items() if base != hit}, told
    assert flips == 3 * 8 * HEAD_BYTES


@pytest.mark.parametrize("which", ["closed", "active"])
def test_every_bit_of_a_time_index(
    place: pathlib.Path, tmp_path: pathlib.Path, which: str, logged: list[str]
) -> None:
    directory = pathlib.Path(shutil.copytree(place, tmp_path / "orders-0"))
    path = sorted(directory.glob("*.timeindex"))[which == "active"]
    pristine = {one: (one.read_bytes(), changed_at(one)) for one in directory.iterdir()}
    whole = pristine[path][0]
    assert len(whole) >= 3 * 12
    settings = LogSettings(retention_ms=10_000)
    late = _time(_BATCHES - 1) + 10_000
    for bit in range(8 * len(whole)):
        restore(directory, pristine)
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        del logged[:]
        segments, end = opened(directory)
        for number in range(2 * _BATCHES):
            for early in (0, 999):
                found = first_at_or_after(segments, _time(number) - early, 0, end)
                assert found is not None
                assert (found.offset, found.timestamp_ms) == (_RECORDS * number, _time(number)), bit
        found = latest(segments, 0, end)
        assert found is not None
        assert found.timestamp_ms == _time(2 * _BATCHES - 1), bit
        assert set(logged) <= {"index-damaged"}
        for now, gone in ((late, 0), (late + 1, 1)):
            restore(directory, pristine)
            path.write_bytes(spoilt)
            segments, end = opened(directory)
            rows = {"start_offset": 0, "durable_offset": end, "size_bytes": len(whole)}
            # What is retained too long on the word of the file costs nothing but room.
            assert expired(segments, settings, now, **rows) <= gone, bit
