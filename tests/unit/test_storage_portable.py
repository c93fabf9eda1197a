"""What storage does where the system has not all that Linux has."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import resource
from typing import Any

import pytest

from megabroker.ops import descriptors
from megabroker.storage import files


@pytest.fixture
def fd(tmp_path: pathlib.Path) -> Any:
    found = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield found
    os.close(found)


def test_data_is_synced_without_fdatasync(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fdatasync")
    assert files._data_sync() is os.fsync


def test_data_is_synced_to_the_disk_where_fsync_is_not_enough(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: asked.append((fd, command)))
    files._data_sync()(fd)
    assert asked == [(fd, 51)]

    def refuse(fd: int, command: int) -> None:
        raise OSError(reason, "refused")

    synced: list[int] = []
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", synced.append)
    reason = errno.ENOTSUP
    files._data_sync()(fd)
    assert synced == [fd]
    reason = errno.EIO
    with pytest.raises(OSError, match="refused"):
        files._data_sync()(fd)
    assert synced == [fd]


def test_reading_ahead_is_left_out_where_nobody_can_be_advised(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_CAN_ADVISE", False)
    monkeypatch.delattr(os, "posix_fadvise")
    files.Files().read_ahead(fd, 0, 1 << 21)


def test_one_lock_where_both_kinds_meet(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LOCKS_MEET", True)
    monkeypatch.setattr(fcntl, "lockf", lambda *arguments: pytest.fail("a second lock"))
    files.Files().lock(fd)


def test_the_limit_of_files_is_raised_as_far_as_the_system_lets(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def set_limit(kind: int, limits: tuple[int, int]) -> None:
        if limits[0] > 10_240:
            raise ValueError("current limit exceeds maximum limit")
        taken.append(limits[0])

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    assert descriptors.spare_descriptors(1000) == 5120
    assert taken == [10_240]
