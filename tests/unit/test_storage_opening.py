"""What an opening after a kill syncs: all at once, or log by log where that cannot be."""

from __future__ import annotations

import errno
import pathlib

import pytest
from twisted.internet.task import Clock

from megabroker.codec.batch import read_header
from megabroker.model import Durability, LogSettings
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch

LOGS = 3


def opened(
    path: pathlib.Path, files: FaultyFiles, durability: Durability = Durability.FSYNC
) -> LocalLogStore:
    store = LocalLogStore(str(path), Clock(), lambda call: call(), durability, files=files, threaded=False)
    store.open()
    return store


def killed(path: pathlib.Path) -> None:
    """Leave a directory as a kill does, with a record in each of some logs."""
    store = opened(path, FaultyFiles())
    for partition in range(LOGS):
        log = store.log(TOPIC, partition, LogSettings(), Listener(), Producers())
        data = batch(b"x")
        log.append(read_header(data, 0, len(data)), data, 0, None)
    store.disk.pump()
    store._directories.release()


@pytest.mark.parametrize(
    ("code", "syncs"), [(0, 0), (errno.EIO, LOGS), (errno.ENOSYS, LOGS)], ids=["works", "fails", "unknown"]
)
def test_after_a_kill(tmp_path: pathlib.Path, code: int, syncs: int) -> None:
    killed(tmp_path)
    files = FaultyFiles()
    if code:
        files.fail("sync_file_system", code)
    store = opened(tmp_path, files)
    assert files.calls["sync_file_system"] == 1
    before = files.calls.get("fdatasync", 0)
    for partition in range(LOGS):
        assert store.log(TOPIC, partition, LogSettings(), Listener(), Producers()).durable_offset == 1
    assert files.calls.get("fdatasync", 0) - before == syncs
    store._directories.release()


def test_durability_os_waits_for_nothing(tmp_path: pathlib.Path) -> None:
    killed(tmp_path)
    files = FaultyFiles()
    store = opened(tmp_path, files, Durability.OS)
    assert "sync_file_system" not in files.calls
    store._directories.release()
