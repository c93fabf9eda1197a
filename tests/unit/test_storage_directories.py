"""Several directories for partitions, each with its own checkpoints and lock."""

from __future__ import annotations

import pathlib

import pytest

from megabroker.errors import DataDirectoryLocked, StorageError
from megabroker.model import TopicPartition
from megabroker.storage.directories import Checkpoints, DataDirectories
from megabroker.storage.files import Files

ONE, TWO, THREE = (TopicPartition("orders", number) for number in range(3))


def directories(tmp_path: pathlib.Path, *names: str, node_id: int = 1) -> DataDirectories:
    paths = [str(tmp_path / name) for name in names]
    return DataDirectories(Files(), paths, None, node_id, lambda: "abcdefghijklmnopqrstuv")


def opened(tmp_path: pathlib.Path, *names: str) -> tuple[DataDirectories, Checkpoints]:
    found = directories(tmp_path, *names)
    found.take("now")
    return found, found.prepare(sync=True)


def test_new_partitions_go_where_the_fewest_are_and_stay(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    places = [found.place(one) for one in (ONE, TWO, THREE)]
    assert places == [f"{tmp_path}/a/orders-0", f"{tmp_path}/b/orders-1", f"{tmp_path}/a/orders-2"]
    for place in places:
        pathlib.Path(place).mkdir()
    found.release()
    found, _ = opened(tmp_path, "a", "c", "b")
    assert [found.place(one) for one in (ONE, TWO, THREE)] == places
    assert [name for name, _ in found.partitions()] == [ONE, TWO, THREE]
    found.release()


def test_nothing_is_opened_without_a_directory_that_holds_partitions(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b", "c")
    for one in (ONE, TWO):
        pathlib.Path(found.place(one)).mkdir()
    found.release()
    found = directories(tmp_path, "a", "c")
    found.take("now")
    with pytest.raises(StorageError, match=f"partitions lie in {tmp_path}/b, which is not among"):
        found.prepare(sync=True)
    found.release()
    # The same under another name is it, an empty one under its name, as where nothing is mounted, is not.
    (tmp_path / "b").rename(tmp_path / "d")
    found = directories(tmp_path, "a", "b")
    found.take("now")
    with pytest.raises(StorageError, match=f"partitions lie in {tmp_path}/b"):
        found.prepare(sync=True)
    found.release()
    found, _ = opened(tmp_path, "a", "d")
    assert found.place(TWO) == f"{tmp_path}/d/orders-1"
    found.release()
    # Once it holds none it may go, after a start or an end that sees so.
    (tmp_path / "d" / "orders-1").rename(tmp_path / "a" / "orders-1")
    opened(tmp_path, "a", "d")[0].release()
    found, _ = opened(tmp_path, "a", "e")
    assert found.place(THREE) == f"{tmp_path}/e/orders-2"
    found.forget(THREE)
    found.mark_clean(sync=True)
    found.release()
    opened(tmp_path, "a")[0].release()


def test_the_main_directory_comes_first(tmp_path: pathlib.Path) -> None:
    opened(tmp_path, "a", "b")[0].release()
    (tmp_path / "a" / "metadata.sqlite").touch()
    found = directories(tmp_path, "b", "a")
    found.take("now")
    with pytest.raises(StorageError, match=r"/a holds metadata\.sqlite"):
        found.prepare(sync=True)
    found.release()


def test_checkpoints_lie_with_their_partitions(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    for one in (ONE, TWO):
        pathlib.Path(found.place(one)).mkdir()
    found.save_checkpoints(Checkpoints({ONE: 1, TWO: 2}, {ONE: 3, TWO: 4}, {TWO: 5}), sync=True)
    found.mark_clean(sync=True)
    found.release()
    assert (tmp_path / "a" / "recovery-point-offset-checkpoint").read_text() == "0\n1\norders 0 3\n"
    assert (tmp_path / "b" / "recovery-point-offset-checkpoint").read_text() == "0\n1\norders 1 4\n"
    assert (tmp_path / "b" / "cleaner-offset-checkpoint").read_text() == "0\n1\norders 1 5\n"
    assert not (tmp_path / "a" / "cleaner-offset-checkpoint").exists()
    found, known = opened(tmp_path, "a", "b")
    assert known == Checkpoints({ONE: 1, TWO: 2}, {ONE: 3, TWO: 4}, {TWO: 5})
    assert found.was_clean
    found.release()
    found, _ = opened(tmp_path, "a", "b")
    assert not found.was_clean
    found.release()


def test_what_a_file_says_of_a_partition_elsewhere_is_not_believed(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    (tmp_path / "b" / "orders-0").mkdir()
    (tmp_path / "a" / "recovery-point-offset-checkpoint").write_text("0\n1\norders 0 9\n")
    found.release()
    found, known = opened(tmp_path, "a", "b")
    assert known.points == {}
    found.release()


def test_one_partition_in_two_directories(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "orders-0").mkdir(parents=True)
    found = directories(tmp_path, "a", "b")
    found.take("now")
    with pytest.raises(StorageError, match=r"orders-0 is both in .*a and in .*b"):
        found.prepare(sync=False)
    found.release()


def test_every_directory_is_locked_and_checked(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    other = directories(tmp_path, "c", "b")
    with pytest.raises(DataDirectoryLocked):
        other.take("now")
    other.release()
    found.release()
    other = directories(tmp_path, "a", "b", node_id=2)
    other.take("now")
    with pytest.raises(StorageError, match=r"belongs to node\.id 1, not to 2"):
        other.prepare(sync=False)
    other.release()
