"""Damage in SQLite's write-ahead log, of a real one."""

from __future__ import annotations

import pathlib
import shutil
import sqlite3

import pytest
from twisted.internet.task import Clock

from megabroker.errors import StorageError
from megabroker.model import Durability
from megabroker.storage.metadata.sqlite import SqliteMetadataStore
from megabroker.storage.metadata.worker import ManualWorker
from megabroker.storage.wal import damaged_at

_COMMITS = 5
_HEADER, _FRAME = 32, 24


@pytest.fixture
def killed(tmp_path: pathlib.Path) -> pathlib.Path:
    """A database whose process was killed after some commits of one page each."""
    path = tmp_path / "running.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE rows (tbl TEXT, key TEXT, value TEXT)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(_COMMITS):
        connection.execute("INSERT INTO rows VALUES ('t', ?, '1')", (str(number),))
    target = tmp_path / "killed.sqlite"
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{target}{suffix}")
    connection.close()
    return target


def log_of(path: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Return the write-ahead log and the size of a frame."""
    log = pathlib.Path(f"{path}-wal")
    return log, (log.stat().st_size - _HEADER) // _COMMITS


def flip(path: pathlib.Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


def test_nothing_is_wrong(killed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    log, _ = log_of(killed)
    assert damaged_at(log) is None
    assert damaged_at(tmp_path / "absent") is None
    log.write_bytes(b"")
    assert damaged_at(log) is None


def test_a_torn_end_is_no_damage(killed: pathlib.Path) -> None:
    log, frame = log_of(killed)
    whole = log.read_bytes()
    for length in range(len(whole) - frame, len(whole), 97):
        log.write_bytes(whole[:length])
        assert damaged_at(log) is None


@pytest.mark.parametrize("at", [0, 5, 9, 17, _FRAME + 1000])
@pytest.mark.parametrize("number", range(_COMMITS))
def test_a_flip_in_a_frame(killed: pathlib.Path, number: int, at: int) -> None:
    log, frame = log_of(killed)
    position = _HEADER + number * frame
    flip(log, position + at)
    found = damaged_at(log)
    connection = sqlite3.connect(killed)
    (read,) = connection.execute("SELECT count(*) FROM rows").fetchone()
    connection.close()
    assert read == number, "what SQLite does"
    assert found is not None
    assert found[0] == position
    assert (found[1] > 1) is (number < _COMMITS - 1)


def test_a_flip_in_the_header(killed: pathlib.Path) -> None:
    log, _ = log_of(killed)
    flip(log, 13)
    found = damaged_at(log)
    assert found is not None
    assert found[0] == 0


def test_commits_that_would_be_lost_are_refused_by_name(killed: pathlib.Path) -> None:
    log, frame = log_of(killed)
    flip(log, _HEADER + frame + 50)
    store = SqliteMetadataStore(killed, Durability.OS, Clock(), worker=ManualWorker())  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=rf"-wal is damaged at byte {_HEADER + frame}, and commits follow"):
        store.open()
