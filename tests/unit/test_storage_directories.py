"""Several directories for partitions, each with its own checkpoints and lock."""

from __future__ import annotations

import os
import pathlib
import subprocess
import threading
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from megabroker.config.load import parse
from megabroker.errors import DataDirectoryLocked, StorageError
from megabroker.model import TopicPartition
from megabroker.plugin import discover
from megabroker.storage.checkpoints import decode_offsets
from megabroker.storage.directories import Checkpoints, DataDirectories
from megabroker.storage.files import Files
from megabroker.storage.lock import DirectoryLock
from megabroker.storage.shares import ROOM, WORKERS, Share, gather, keep_room, read_offsets
from megabroker.stores import SharedDirectories

ONE, TWO, THREE = (TopicPartition("orders", number) for number in range(3))


def directories(tmp_path: pathlib.Path, *names: str, node_id: int = 1) -> DataDirectories:
    paths = [str(tmp_path / name) for name in names]
    return DataDirectories(Files(), paths, None, node_id, lambda: "abcdefghijklmnopqrstuv")


def opened(tmp_path: pathlib.Path, *names: str) -> tuple[DataDirectories, Checkpoints]:
    found = directories(tmp_path, *names)
    found.take("now")
    return found, found.prepare()


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
    with pytest.raises(StorageError, match=f"partitions are in {tmp_path}/b, which is not among"):
        found.prepare()
    found.release()
    # The same under another name is it, an empty one under its name, as where nothing is mounted, is not.
    (tmp_path / "b").rename(tmp_path / "d")
    found = directories(tmp_path, "a", "b")
    found.take("now")
    with pytest.raises(StorageError, match=f"partitions are in {tmp_path}/b"):
        found.prepare()
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
        found.prepare()
    found.release()


def test_checkpoints_lie_with_their_partitions(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    for one in (ONE, TWO):
        pathlib.Path(found.place(one)).mkdir()
    found.save_checkpoints(Checkpoints({ONE: 1, TWO: 2}, {ONE: 3, TWO: 4}, {TWO: 5}), sync=True)
    found.mark_clean(sync=True)
    found.release()
    points = (tmp_path / "a" / "recovery-point-offset-checkpoint").read_bytes()
    assert decode_offsets(points) == {ONE: 3}
    points = (tmp_path / "b" / "recovery-point-offset-checkpoint").read_bytes()
    assert decode_offsets(points) == {TWO: 4}
    assert decode_offsets((tmp_path / "b" / "cleaner-offset-checkpoint").read_bytes()) == {TWO: 5}
    assert not (tmp_path / "a" / "cleaner-offset-checkpoint").exists()
    found, known = opened(tmp_path, "a", "b")
    assert known == Checkpoints({ONE: 1, TWO: 2}, {ONE: 3, TWO: 4}, {TWO: 5})
    assert found.was_clean
    found.release()
    found, _ = opened(tmp_path, "a", "b")
    assert not found.was_clean
    found.release()


@pytest.mark.parametrize(
    ("data", "told"), [(b"", ("warn", "checkpoint-empty")), (b"0\n1\n", ("error", "checkpoint-damaged"))]
)
def test_a_checkpoint_that_says_nothing_is_told(
    data: bytes, told: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    """An empty one is no failure: Apache Kafka creates them so."""
    path = tmp_path / "recovery-point-offset-checkpoint"
    path.write_bytes(data)
    found: list[tuple[str, str]] = []

    def note(event: LogEvent) -> None:
        found.append((event["log_level"].name, event["log_format"].partition(":")[0]))

    globalLogPublisher.addObserver(note)
    try:
        assert read_offsets(Files(), str(path)) == {}
    finally:
        globalLogPublisher.removeObserver(note)
    assert found == [told]


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
        found.prepare()
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
        other.prepare()
    other.release()


def test_a_damaged_identity_is_refused(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a")
    found.release()
    meta = tmp_path / "a" / "meta.properties"
    meta.write_bytes(meta.read_bytes().replace(b"node.id=1", b"node.id=3"))
    found.take("now")
    with pytest.raises(StorageError, match=r"meta\.properties is damaged, or was edited"):
        found.prepare()
    meta.write_bytes(b"".join(meta.read_bytes().splitlines(True)[1:]))
    with pytest.raises(StorageError, match=r"belongs to node\.id 3, not to 1"):
        found.prepare()
    found.release()


# --- several processes ----------------------------------------------------------------------------


def owner(partition: TopicPartition) -> str:
    return str(partition.partition % 2)


def dealt(tmp_path: pathlib.Path, clean: bool = True) -> DataDirectories:
    """Directories with three partitions, closed in order or not, dealt out to two processes."""
    found, _ = opened(tmp_path, "a", "b")
    for one in (ONE, TWO, THREE):
        pathlib.Path(found.place(one)).mkdir(exist_ok=True)
    known = Checkpoints({ONE: 1, TWO: 2}, {ONE: 10, TWO: 20, THREE: 30}, {THREE: 3})
    found.save_checkpoints(known, sync=True)
    if clean:
        found.mark_clean(sync=True)
    found.release()
    found, again = opened(tmp_path, "a", "b")
    assert (again, found.was_clean) == (known, clean)
    found.deal(again, ["0", "1"], owner)
    return found


def worker(tmp_path: pathlib.Path, name: str) -> tuple[DataDirectories, Checkpoints]:
    paths = [str(tmp_path / path) for path in ("a", "b")]
    share = Share(name, lambda partition: owner(partition) == name)
    found = DataDirectories(Files(), paths, None, None, None, share)
    found.take("now")
    return found, found.prepare()


def test_each_of_several_processes_has_its_own_small_files(tmp_path: pathlib.Path) -> None:
    whole = dealt(tmp_path)
    first, its = worker(tmp_path, "0")
    second, others = worker(tmp_path, "1")
    assert its == Checkpoints({ONE: 1}, {ONE: 10, THREE: 30}, {THREE: 3})
    assert others == Checkpoints({TWO: 2}, {TWO: 20}, {})
    assert first.was_clean
    assert second.was_clean
    assert [name for name, _ in first.partitions()] == [ONE, THREE]
    # One dies and comes back: only its logs are suspect.
    again, its = worker(tmp_path, "0")
    assert not again.was_clean
    again.save_checkpoints(Checkpoints({}, {ONE: 11, THREE: 30}, {}), sync=True)
    again.mark_clean(sync=True)
    second.save_checkpoints(Checkpoints({}, {TWO: 22}, {}), sync=True)
    second.mark_clean(sync=True)
    whole.collect()
    whole.release()
    alone, known = opened(tmp_path, "a", "b")
    assert alone.was_clean
    assert known.points == {ONE: 11, TWO: 22, THREE: 30}
    assert not (tmp_path / "a" / "workers").exists()
    alone.release()


@pytest.mark.parametrize("ended", [(), ("0",), ("1",)])
def test_all_count_as_killed_if_one_was(tmp_path: pathlib.Path, ended: tuple[str, ...]) -> None:
    whole = dealt(tmp_path)
    for name in ("0", "1"):
        found, known = worker(tmp_path, name)
        if name in ended:
            found.save_checkpoints(known, sync=True)
            found.mark_clean(sync=True)
    whole.release()
    alone, known = opened(tmp_path, "a", "b")
    assert not alone.was_clean
    assert known.points == {ONE: 10, TWO: 20, THREE: 30}
    alone.release()


def test_what_was_not_closed_in_order_is_not_dealt_out_as_if(tmp_path: pathlib.Path) -> None:
    dealt(tmp_path, clean=False).release()
    assert not worker(tmp_path, "0")[0].was_clean


def test_no_crash_while_gathering_makes_a_marker_that_is_not_true(tmp_path: pathlib.Path) -> None:
    class Cut(Files):
        left = 0

        def _may(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise OSError("power cut")

        def unlink(self, path: str) -> None:
            self._may()
            super().unlink(path)

        def write_whole(self, path: str, data: Any, *, sync: bool = False) -> None:
            self._may()
            super().write_whole(path, data, sync=sync)

        def rmtree(self, path: str) -> None:
            self._may()
            if self.left == 0:  # cut in the middle of it
                super().rmtree(f"{path}/{sorted(super().subdirectories(path))[0]}")
                raise OSError("power cut")
            super().rmtree(path)

    for steps in range(40):
        place = tmp_path / str(steps)
        place.mkdir()
        dealt(place).release()
        worker(place, "0")  # killed
        found, known = worker(place, "1")
        found.save_checkpoints(known, sync=True)
        found.mark_clean(sync=True)
        files = Cut()
        files.left = steps
        paths = [str(place / name) for name in ("a", "b")]
        try:
            gather(files, paths)
            whole = True
        except OSError:
            whole = False
        alone, known = opened(place, "a", "b")
        assert not alone.was_clean, steps
        assert known.points == {ONE: 10, TWO: 20, THREE: 30}, steps
        alone.release()
        if whole:
            return
    raise AssertionError("never came to its end")


def test_only_its_owner_removes_what_was_on_its_way_out(tmp_path: pathlib.Path) -> None:
    dealt(tmp_path).release()
    names = [f"orders-{number}.{'a' * 32}-delete" for number in (0, 1)]
    for name in names:
        (tmp_path / "a" / name).mkdir()
    worker(tmp_path, "1")
    assert [(tmp_path / "a" / name).exists() for name in names] == [True, False]


def test_directories_stay_locked_while_a_process_has_them(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    kept = [os.dup(descriptor) for descriptor in found.descriptors]
    found.release()
    with pytest.raises(DataDirectoryLocked):
        directories(tmp_path, "a").take("later")  # at once: the process that took them is there
    for descriptor in kept:
        os.close(descriptor)
    opened(tmp_path, "a", "b")[0].release()


@pytest.mark.parametrize("asked_how", [True, False])
def test_what_a_process_that_has_ended_has_started_is_waited_for(
    tmp_path: pathlib.Path, asked_how: bool
) -> None:
    gone = subprocess.Popen(["true"])
    os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
    if asked_how:
        gone.wait()
    first = DirectoryLock(str(tmp_path))
    first.take("now")
    kept = os.dup(first.fd)
    first.release()
    text = (tmp_path / ".lock").read_text().replace(f"pid {os.getpid()}", f"pid {gone.pid}")
    (tmp_path / ".lock").write_text(text)
    with pytest.raises(DataDirectoryLocked, match=rf"workers of a broker that has ended \(pid {gone.pid}"):
        DirectoryLock(str(tmp_path), patience_seconds=0.1).take("later")
    threading.Timer(0.2, os.close, [kept]).start()
    second = DirectoryLock(str(tmp_path), patience_seconds=20)
    second.take("later")
    second.release()
    gone.wait()


class _NearlyFull(Files):
    free = 1 << 20

    def free_bytes(self, path: str) -> int:
        return self.free


def test_room_for_several_processes_is_kept_where_there_is_plenty(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    found.release()
    rooms = [tmp_path / name / ROOM for name in ("a", "b")]
    files = _NearlyFull()
    keep_room(files, found.paths, 4, sparing=True)
    assert not any(room.exists() for room in rooms)
    files.free = 1 << 30
    keep_room(files, found.paths, 4, sparing=True)
    sizes = [room.stat().st_size for room in rooms]
    assert sizes == [(512 + 4 * 64) << 10] * 2
    assert rooms[0].stat().st_blocks * 512 >= sizes[0]  # and is no hole
    files.free = 0
    for room in rooms:
        room.unlink()
    keep_room(files, found.paths, 4, sparing=False)  # at the end whatever there is
    assert all(room.exists() for room in rooms)
    found, _ = opened(tmp_path, "a", "b")
    assert not any(room.exists() for room in rooms)
    found.release()


def test_room_is_kept_for_checkpoints_as_they_are(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a")
    (tmp_path / "a" / WORKERS / "1").mkdir(parents=True)
    (tmp_path / "a" / WORKERS / "1" / "log-start-offset-checkpoint").write_bytes(bytes(1000))
    keep_room(Files(), found.paths, 1, sparing=False)
    assert (tmp_path / "a" / ROOM).stat().st_size == (576 << 10) + 2000
    found.release()


def test_a_directory_that_cannot_be_read_gets_no_room_and_others_do(tmp_path: pathlib.Path) -> None:
    found, _ = opened(tmp_path, "a", "b")
    (tmp_path / "a" / WORKERS).write_text("a file")
    keep_room(Files(), found.paths, 1, sparing=False)
    assert [(tmp_path / name / ROOM).exists() for name in ("a", "b")] == [False, True]
    (tmp_path / "a" / WORKERS).unlink()
    found.release()


def test_another_brokers_directory_gets_no_room(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("cluster.id=another\nnode.id=1\n")
    mine = "node: {cluster_id: abcdefghijklmnopqrstuv}\nworkers: 2\nprotocols: {kafka: {}}\n"
    text = f"data_dir: {tmp_path}/data\n{mine}"
    shared = SharedDirectories(parse(text, "test", discover()), [1, 2], Clock())
    with pytest.raises(StorageError, match="belongs to"):
        shared.open()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".lock", "meta.properties"]
