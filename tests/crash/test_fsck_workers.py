"""``fsck`` on what several workers leave when they are killed: their sync journals and checkpoints."""

from __future__ import annotations

import json
import pathlib
import random
import shutil
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from megabroker.storage.journal import JOURNAL
from tests.crash.test_fsck import flip, run
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_PARTITIONS = 64
_ROUNDS = 60
_BLOCK = 4096


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with ``killed``, as it was while two workers ran, and ``data``, closed in order."""
    place = tmp_path_factory.mktemp("workers")
    with WorkersProcess(2, directory=place) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("t", _PARTITIONS)])["t"].result(30)
        producer = Producer({"bootstrap.servers": broker.kafka, "linger.ms": 1})
        for number in range(_ROUNDS):
            for partition in range(_PARTITIONS):
                producer.produce("t", b"%d" % number * 50, partition=partition)
            assert producer.flush(30) == 0
        first = TopicPartition("t", 0, 1), TopicPartition("t", 1, 1)
        for deleted in admin.delete_records(list(first)).values():
            deleted.result(30)
        shutil.copytree(place / "data", place / "killed", ignore=shutil.ignore_patterns("*.sock"))
        assert broker.stop() == 0
    return place


def _found(data: pathlib.Path, path: pathlib.Path) -> list[Any]:
    found = json.loads(run("fsck", "--json", data).output)["findings"]
    return [one for one in found if one["path"] == str(path)]


def test_nothing_is_wrong(written: pathlib.Path) -> None:
    for state in ("data", "killed"):
        told = json.loads(run("fsck", "--json", written / state).output)
        assert (told["findings"], told["logs"]) == ([], _PARTITIONS)
        assert told["batches"] == _PARTITIONS * _ROUNDS


def test_a_flipped_bit_in_a_sync_journal(written: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = pathlib.Path(shutil.copytree(written / "killed", tmp_path / "killed"))
    chance = random.Random(5)
    for path in sorted(data.glob(f"workers/*/{JOURNAL}")):
        content = path.read_bytes()
        frames = [at for at in range(_BLOCK, len(content), _BLOCK) if content.startswith(b"MBSF", at)]
        assert len(frames) > 2
        for position in (5, 20, 30, *(at + chance.randrange(60) for at in chance.sample(frames[:-1], 3))):
            bit = chance.randrange(8)
            flip(path, position, bit)
            [one] = _found(data, path)
            assert one["kind"] == ("refused" if position < _BLOCK else "lost"), (position, bit)
            flip(path, position, bit)
    assert run("fsck", data).exit_code == 0


def test_a_flipped_bit_in_a_checkpoint_of_a_worker(written: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = pathlib.Path(shutil.copytree(written / "killed", tmp_path / "killed"))
    chance = random.Random(6)
    paths = sorted(data.glob("workers/*/log-start-offset-checkpoint"))
    assert len(paths) == 2
    for path in paths:
        for _ in range(10):
            position, bit = chance.randrange(path.stat().st_size - 1), chance.randrange(8)
            flip(path, position, bit)
            [one] = _found(data, path)
            assert one["kind"] == "wrong", (position, bit)
            flip(path, position, bit)
    assert run("fsck", data).exit_code == 0
