"""Which indexes are in memory: as many as fit, of all logs together."""

from __future__ import annotations

import pathlib

from twisted.internet.task import Clock

from megabroker.codec.batch import read_header
from megabroker.model import Durability, LogSettings
from megabroker.storage.index import Index, LoadedIndexes
from megabroker.storage.log import LocalLog
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch

RECORDS = 60
SMALL = LogSettings(segment_bytes=600, index_interval_bytes=100)


class Closed:
    """What is left of a segment for who keeps the account."""

    def __init__(self, entries: int) -> None:
        self.index: Index | None = Index()
        for at in range(entries):
            self.index.note(at, 100 * at, -1, 0)

    def forget_index(self) -> None:
        self.index = None


def test_what_was_loaded_longest_ago_is_forgotten() -> None:
    loaded = LoadedIndexes(4 * (1024 + 8 * 1000))
    segments = [Closed(1000) for _ in range(6)]
    for segment in segments:
        loaded.keep(segment)
    assert [segment.index is None for segment in segments] == [True, True, False, False, False, False]
    large = Closed(4100)
    loaded.keep(large)
    assert [one.index is None for one in (*segments, large)] == [True] * 6 + [False]


def test_what_is_gone_is_not_kept() -> None:
    loaded = LoadedIndexes(10_000)
    for _ in range(100):
        loaded.keep(Closed(100))
    kept = Closed(100)
    loaded.keep(kept)
    assert kept.index is not None


def _opened(path: pathlib.Path, partition: int = 0) -> tuple[LocalLogStore, LocalLog]:
    store = LocalLogStore(
        str(path), Clock(), lambda call: call(), Durability.OS, call_soon=lambda call: call(), threaded=False
    )
    store.open()
    log = store.log(TOPIC, partition, SMALL, Listener(), Producers())
    assert isinstance(log, LocalLog)
    return store, log


def _loaded(log: LocalLog) -> int:
    return sum(segment.index is not None for segment in log.segments.items[:-1])


def test_a_log_that_is_read_all_over_reads_each_index_once(tmp_path: pathlib.Path) -> None:
    store, log = _opened(tmp_path)
    for at in range(RECORDS):
        data = batch(b"%d" % at * 50)
        log.append(read_header(data, 0, len(data)), data, 0, None)
        store.disk.pump()
    store.close()
    store.disk.pump()
    store, log = _opened(tmp_path)
    closed = len(log.segments.items) - 1
    assert closed > 10
    assert _loaded(log) == 0
    for at in range(0, RECORDS, 2):
        assert log.read(at, 1, RECORDS).data
    assert _loaded(log) == closed
    indexes = [segment.index for segment in log.segments.items[:-1]]
    for at in range(1, RECORDS, 2):
        assert log.read(at, 1, RECORDS).data
    assert all(a is segment.index for a, segment in zip(indexes, log.segments.items, strict=False))
    store.close()
    store.disk.pump()
