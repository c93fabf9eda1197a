"""``megabroker fsck`` and ``dump-log`` on what real clients have written, whole and spoilt in every way."""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from megabroker.cli.main import commands
from megabroker.client.mega import MessageClient
from megabroker.errors import DataDirectoryLocked, StorageError
from megabroker.inspection.directories import Report, check
from megabroker.inspection.findings import Kind, offsets
from megabroker.inspection.places import Places
from megabroker.storage.files import Files
from megabroker.storage.window import FileWindowStore
from tests.brokers import BrokerProcess
from tests.interop.kafka_contents import CODECS, _commit, admin_of, create, leave_open, produce, transact

pytestmark = pytest.mark.interop

_SMALL = {"internal.segment.bytes": "3000", "index.interval.bytes": "500"}
_DERIVED = {".index", ".timeindex", ".txnindex", ".snapshot"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with ``data``, closed in order, and ``killed``, as it was while the broker ran."""
    place = tmp_path_factory.mktemp("written")
    with BrokerProcess(directory=place) as broker:
        create(
            admin_of(broker.kafka),
            NewTopic("plain", 3, 1, config=_SMALL),
            NewTopic("transactional", 2, 1, config=_SMALL),
        )
        for codec in CODECS:
            produce(broker.kafka, "plain", 80, codec)
        transact(broker.kafka)
        _commit(broker.kafka, "group", [TopicPartition("plain", 0, 7, metadata="a note")])
        with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
            assert client.create_topic("by-mega")["success"]
            assert client.produce("by-mega", "hello", 7)["success"]
        kept = leave_open(broker.kafka)
        shutil.copytree(place / "data", place / "killed")
        assert broker.stop() == 0
        del kept
    FileWindowStore(place / "data/dedup", 600_000).append(
        [(1, number, 1_800_000_000_000) for number in (2, 3)]
    )
    return place


@pytest.fixture
def data(written: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of it to be spoilt."""
    return pathlib.Path(shutil.copytree(written / "data", tmp_path / "data"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(one) for one in arguments])


def flip(path: pathlib.Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def logs(data: pathlib.Path, topic: str = "plain-0") -> list[pathlib.Path]:
    return sorted((data / topic).glob("*.log"))


def kinds(report: Report) -> set[Kind]:
    return {one.kind for one in report.faults}


# --- nothing is wrong ---------------------------------------------------------------------------------


def test_nothing_is_wrong(written: pathlib.Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    told = run("fsck", "--deep", written / "data")
    assert told.exit_code == 0, told.output
    assert told.output.startswith("6 logs, ")
    assert told.output.endswith("closed in order: nothing is wrong\n")
    found = json.loads(run("fsck", "--json", written / "killed").output)
    assert found["findings"] == []
    assert (found["logs"], found["closed_in_order"]) == (6, False)
    assert found["metadata_rows"]["topics"] == 3
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_a_directory_in_use_is_refused() -> None:
    with BrokerProcess() as broker:
        place = broker.directory / "data"
        for arguments in ((), ("--repair",)):
            told = run("fsck", place, *arguments)
            assert isinstance(told.exception, DataDirectoryLocked)


def test_what_is_no_data_directory_is_refused(tmp_path: pathlib.Path) -> None:
    told = run("fsck", tmp_path)
    assert isinstance(told.exception, StorageError)
    assert "expected meta.properties" in str(told.exception)


# --- damage ---------------------------------------------------------------------------------------------


def test_a_torn_tail_is_told_and_cut_only_when_asked(written: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = pathlib.Path(shutil.copytree(written / "killed", tmp_path / "killed"))
    last = logs(data)[-1]
    whole = last.stat().st_size
    with open(last, "ab") as file:
        file.write(b"the beginning of a batch")
    told = run("fsck", data)
    assert told.exit_code == 1
    assert f"torn:    {last} at byte {whole}: 24 bytes at the end hold no whole batch" in told.output
    assert last.stat().st_size == whole + 24
    assert run("fsck", "--repair", "--quiet", data).exit_code == 0
    assert last.stat().st_size == whole
    assert run("fsck", data).exit_code == 0


def test_damage_is_set_aside_and_nothing_else_is_lost(data: pathlib.Path) -> None:
    first = logs(data)[0]
    rows = [json.loads(line) for line in run("dump-log", "--json", first).output.splitlines()]
    batches = [row for row in rows if row["kind"] == "batch"]
    flip(first, batches[1]["position"] + 70)
    found = json.loads(run("fsck", "--json", data).output)
    [one] = found["findings"]
    assert one["kind"] == "lost"
    assert (one["position"], one["length_bytes"]) == (batches[1]["position"], batches[1]["bytes"])
    assert (one["from_offset"], one["to_offset"]) == (batches[1]["base_offset"], batches[2]["base_offset"])
    size = first.stat().st_size
    told = run("fsck", "--repair", "--quiet", data)
    assert offsets(batches[1]["base_offset"], batches[2]["base_offset"]) in told.output
    assert told.exit_code == 1  # something is lost, and that has been said
    assert first.stat().st_size == size
    assert "reads skip them" in told.output
    again = run("fsck", data)
    assert again.exit_code == 0
    assert "note:" in again.output


def test_a_missing_segment(data: pathlib.Path) -> None:
    logs(data)[1].unlink()
    assert any("no segment contains" in one.what for one in check([data]).faults)
    assert kinds(check([data])) >= {Kind.LOST}


def test_a_missing_log(data: pathlib.Path) -> None:
    shutil.rmtree(data / "plain-0")
    [one] = check([data]).faults
    assert (one.kind, one.path) == (Kind.LOST, str(data / "plain-0"))


def test_the_log_of_another_topic(data: pathlib.Path) -> None:
    shutil.copy(data / "transactional-0/partition.metadata", data / "plain-0/partition.metadata")
    [one] = check([data]).faults
    assert one.kind is Kind.REFUSED
    told = run("fsck", "--repair", "--quiet", data)
    assert isinstance(told.exception, StorageError)
    assert "nothing was repaired" in str(told.exception)


def test_a_row_of_the_metadata(data: pathlib.Path) -> None:
    database = data / "metadata.sqlite"
    flip(database, database.read_bytes().rindex(b"a note"))
    [one] = check([data]).faults
    assert one.kind is Kind.LOST
    assert "of group_offsets cannot be read" in one.what
    assert run("fsck", "--repair", "--quiet", data).exit_code == 1  # that offset is lost
    again = check([data])
    assert again.faults == []
    assert [finding.kind for finding in again.findings] == [Kind.NOTE]


def test_metadata_that_cannot_be_read_is_left_alone(data: pathlib.Path) -> None:
    database = data / "metadata.sqlite"
    database.write_bytes(database.read_bytes()[:4096] + os.urandom(4096))
    before = database.read_bytes()
    assert kinds(check([data])) == {Kind.LOST}
    told = run("fsck", "--repair", "--quiet", data)
    assert isinstance(told.exception, StorageError)
    assert "nothing was repaired" in str(told.exception)
    assert database.read_bytes() == before


# --- what follows from the logs -------------------------------------------------------------------------


def test_offsets_are_told_as_people_count_them() -> None:
    assert offsets(1, 2) == "offset 1"
    assert offsets(1, 4) == "offsets 1 to 3"


def test_an_empty_checkpoint_is_right_in_a_directory_of_kafka_only(tmp_path: pathlib.Path) -> None:
    """Kafka creates them empty, and writes them after a minute."""
    (tmp_path / "recovery-point-offset-checkpoint").write_bytes(b"")
    (tmp_path / "meta.properties").write_text("version=1\ncluster.id=c\nnode.id=1\n")
    assert Places.read(Files(), [tmp_path]).findings == []
    (tmp_path / "metadata.sqlite").write_bytes(b"")
    assert [one.kind for one in Places.read(Files(), [tmp_path]).findings] == [Kind.WRONG]


def test_missing_and_stale_files_are_made_anew(data: pathlib.Path) -> None:
    before = {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    closed = logs(data)[0].with_suffix(".index")
    closed.unlink()
    stale = logs(data)[1].with_suffix(".timeindex")
    stale.write_bytes(logs(data)[0].with_suffix(".timeindex").read_bytes())
    [aborted] = (data / "transactional-1").glob("*.txnindex")
    aborted.unlink()
    [snapshot] = sorted((data / "transactional-0").glob("*.snapshot"))[-1:]
    stale_snapshot = sorted((data / "plain-0").glob("*.snapshot"))
    stale_snapshot[-1].write_bytes(stale_snapshot[0].read_bytes())
    snapshot.write_bytes(b"")
    (data / "plain-0/leader-epoch-checkpoint").write_bytes(b"0\n1\n3 0\n")
    report = check([data])
    assert kinds(report) == {Kind.WRONG}
    assert {pathlib.Path(one.path).suffix for one in report.faults} >= _DERIVED
    assert run("fsck", "--repair", "--quiet", data).exit_code == 0
    assert check([data]).findings == []
    for path in (
        closed,
        stale,
        aborted,
        snapshot,
        stale_snapshot[-1],
        data / "plain-0/leader-epoch-checkpoint",
    ):
        assert path.read_bytes() == before[path.relative_to(data)], path


def test_a_flip_anywhere_is_found(data: pathlib.Path) -> None:
    """Bytes of every file are not what they were, one after the other."""
    chance = random.Random(5)
    unseen = []
    small = [*data.glob("*-offset-checkpoint"), *data.glob("dedup/*")]
    assert len(small) == 3
    for path in sorted([*data.glob("*-[0-9]/*"), *small]):
        content = path.read_bytes()
        places = range(len(content))
        for position in sorted(chance.sample(places, min(6, len(content)))):
            flip(path, position, chance.randrange(8))
            if not check([data]).faults:
                unseen.append((path.name, position))
            path.write_bytes(content)
    assert unseen == []


# --- dump-log -------------------------------------------------------------------------------------------


def test_dump_log_tells_records(written: pathlib.Path) -> None:
    first = logs(written / "data")[0]
    told = run("dump-log", "--contents", "--json", first)
    assert told.exit_code == 0
    rows = [json.loads(line) for line in told.output.splitlines()]
    assert rows[0] == {
        "kind": "file",
        "path": str(first),
        "base_offset": 0,
        "bytes": first.stat().st_size,
    }
    records = [row for row in rows if row["kind"] == "record"]
    assert [row["offset"] for row in records] == list(range(len(records)))
    assert {"key", "value", "headers", "timestamp_ms"} <= records[0].keys()
    plain = run("dump-log", "--limit", 1, first).output
    assert len(plain.splitlines()) == 2
    assert "valid=yes" in plain
    later = run("dump-log", "--json", "--from-offset", 20, first).output.splitlines()[1]
    assert json.loads(later)["last_offset"] >= 20


def test_dump_log_tells_damage_and_goes_on(data: pathlib.Path) -> None:
    first = logs(data)[0]
    batches = [json.loads(line) for line in run("dump-log", "--json", first).output.splitlines()][1:]
    flip(first, batches[2]["position"] + 16)  # the magic
    told = run("dump-log", "--json", first)
    assert told.exit_code == 1
    rows = [json.loads(line) for line in told.output.splitlines()][1:]
    assert [row["kind"] for row in rows[:4]] == ["batch", "batch", "damage", "batch"]
    assert rows[3] == batches[3]


def test_dump_log_of_what_it_does_not_know(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "something.txt"
    path.write_bytes(b"")
    told = run("dump-log", path)
    assert isinstance(told.exception, StorageError)
    assert "expected one of <offset>.log" in str(told.exception)
