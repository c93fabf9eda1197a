"""A broker started on files in which one bit is not what was written.

Of every kind of file there is, at chance places: the broker starts, or says of what it refuses that it is
damaged. What it serves is what was written, and nothing else; at most the batch that was hit is
missing. Files that follow from others cost nothing.
"""

from __future__ import annotations

import pathlib
import random
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from megabroker.codec.batch import check_crc, read_header
from megabroker.core.producers import ProducerTable
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TOPICS_TABLE, topic_from_row
from megabroker.errors import ErrorCode, StorageError
from megabroker.inspection.directories import check
from megabroker.inspection.findings import Kind
from megabroker.model import AbortedTransaction, Durability
from megabroker.storage.metadata.database import METADATA_FILE, stored_rows
from megabroker.storage.metadata.sqlite import SqliteMetadataStore
from megabroker.storage.metadata.worker import ManualWorker
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import Listener, content
from tests.crash.test_fsck import flip, written

__all__ = ["written"]

pytestmark = pytest.mark.interop

Served = dict[str, tuple[dict[int, bytes], list[AbortedTransaction], list[Any]]]
"""By log: its batches by offset, what was aborted, what is known of producers."""

_OFTEN = 2
_NO_LIMIT = 1 << 60


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged as an error meanwhile."""
    found: list[str] = []

    def note(event: Any) -> None:
        if event["log_level"].name in ("error", "critical", "warn"):
            found.append(event["log_format"] or "")

    globalLogPublisher.addObserver(note)
    yield found
    globalLogPublisher.removeObserver(note)


def serve(data: pathlib.Path) -> Served:
    """Open everything as a start does, read all of it, and end as a kill does."""
    topics = stored_rows(data / METADATA_FILE, TOPICS_TABLE)
    clock = Clock()
    store = LocalLogStore(str(data), clock, lambda call: call(), Durability.OS, threaded=False)
    store.open()
    served: Served = {}
    try:
        for name, row in topics.items():
            topic = topic_from_row(name, row)
            for partition in range(topic.partitions):
                producers = ProducerTable()
                settings = TopicConfigs().policy(topic.configs).log
                log = store.log(topic, partition, settings, Listener(), producers)
                batches: dict[int, bytes] = {}
                offset = log.start_offset
                while offset < log.next_offset:
                    try:
                        read = content(log.read(offset, 1, _NO_LIMIT))  # one batch, as it goes out
                    except StorageError as error:
                        if error.code is not ErrorCode.CORRUPT_BATCH:
                            raise
                        offset += 1
                        continue
                    if not read:
                        break
                    header = read_header(read, 0, len(read))
                    assert check_crc(read, 0, header), (name, partition, offset)
                    assert header.base_offset not in batches
                    batches[header.base_offset] = read
                    offset = header.next_offset
                for base in sorted(batches, reverse=True):  # backwards, so that each is found by the index
                    read = content(log.read(base, 1, _NO_LIMIT))
                    assert read == batches[base], (name, partition, base)
                aborted = list(log.aborted(log.start_offset, log.next_offset))
                state = sorted(producers.snapshot())
                served[f"{name}-{partition}"] = (batches, aborted, state)
    finally:
        store._open_files.close()
        store._directories.release()
    return served


def rows(data: pathlib.Path) -> None:
    """Open the metadata as a start does."""
    store = SqliteMetadataStore(data / METADATA_FILE, Durability.OS, Clock(), worker=ManualWorker())  # type: ignore[arg-type]
    store._opened().close()


def spoilt(place: pathlib.Path, chance: random.Random) -> Iterator[pathlib.Path]:
    """Yield files whose bits are flipped, one after the other."""
    for path in sorted(one for one in place.rglob("*") if one.is_file() and one.name != ".lock"):
        size = path.stat().st_size
        for position in sorted(chance.sample(range(size), min(_OFTEN, size))):
            flip(path, position, chance.randrange(8))
            yield path


@pytest.mark.parametrize("state", ["data", "killed"])
def test_a_flipped_bit(written: pathlib.Path, tmp_path: pathlib.Path, state: str, logged: list[str]) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(written / state, whole)
    expected = serve(shutil.copytree(whole, tmp_path / "expected"))
    pristine = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    counted: dict[str, int] = {}
    data = tmp_path / "data"
    for path in spoilt(whole, random.Random(3)):
        name = path.relative_to(whole)
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(whole, data)
        path.write_bytes(pristine[name])
        del logged[:]
        told = {one.kind for one in check([data]).faults}
        counted[name.suffix or name.name] = counted.get(name.suffix or name.name, 0) + 1
        refused = ""
        try:
            rows(data)
            served = serve(data)
        except StorageError as error:
            refused = str(error)
        if refused:
            assert name.name in refused or name.parent.name in refused, (name, refused)
        else:
            judge(name, expected, served, told, logged)
    assert {".log", ".index", ".timeindex", ".snapshot", ".metadata", ".sqlite"} <= counted.keys()


def judge(name: pathlib.Path, expected: Served, served: Served, told: set[Kind], logged: list[str]) -> None:
    for log, (batches, aborted, state) in expected.items():
        there, aborted_there, state_there = served[log]
        for offset, data in there.items():
            right = batches.get(offset, b"")
            assert (data[:12], data[16:]) == (right[:12], right[16:]), (name, log, offset)
        lost = batches.keys() - there.keys()
        if name.suffix != ".log" or name.parent.name != log:
            assert not lost, (name, log, lost)
            assert aborted_there == aborted, (name, log)
            assert state_there == state or name.suffix == ".snapshot", (name, log)
        else:
            assert len(lost) <= 1, (name, log, lost)
            assert not lost or logged or Kind.LOST in told, (name, "nothing was said")


def test_a_flipped_bit_in_a_row_is_refused(written: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = shutil.copytree(written / "data", tmp_path / "data")
    path = data / METADATA_FILE
    flip(path, path.read_bytes().rindex(b"a note"))
    store = SqliteMetadataStore(path, Durability.OS, Clock(), worker=ManualWorker())  # type: ignore[arg-type]
    store.open()
    with pytest.raises(StorageError, match="fails its check"):
        store.rows("group_offsets")
