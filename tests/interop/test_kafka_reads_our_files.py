"""Apache Kafka's own tool reads the files of our data directory."""

from __future__ import annotations

import pathlib
import re

import pytest
from confluent_kafka.admin import NewTopic

from megabroker.inspection.dumping import Options
from megabroker.inspection.dumping import dump as dump_file
from tests.brokers import BrokerProcess
from tests.interop.java import Java
from tests.interop.kafka_contents import CODECS, admin_of, create, leave_open, produce, transact

pytestmark = pytest.mark.interop

_KINDS = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")
_SAME = {
    "base_offset": "baseOffset",
    "last_offset": "lastOffset",
    "count": "count",
    "base_sequence": "baseSequence",
    "last_sequence": "lastSequence",
    "producer_id": "producerId",
    "producer_epoch": "producerEpoch",
    "leader_epoch": "partitionLeaderEpoch",
    "transactional": "isTransactional",
    "control": "isControl",
    "position": "position",
    "bytes": "size",
    "magic": "magic",
    "codec": "compresscodec",
    "crc": "crc",
    "valid": "isvalid",
}
"""Names of what both tell of a batch."""

_SMALL = {"internal.segment.bytes": "3000", "index.interval.bytes": "500"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """Everything in the logs of a broker that has stopped: several segments, all codecs and transactions."""
    directory = tmp_path_factory.mktemp("ours")
    with BrokerProcess(directory=directory) as broker:
        plain = NewTopic("plain", 3, 1, config=_SMALL)
        create(admin_of(broker.kafka), plain, NewTopic("transactional", 2, 1))
        for codec in CODECS:
            produce(broker.kafka, "plain", 120, codec)
        transact(broker.kafka)
        kept = leave_open(broker.kafka)
        assert broker.stop() == 0
        del kept
    found = sorted((directory / "data").glob("*-[0-9]/*"))
    return [path for path in found if path.suffix in _KINDS]


def dump(java: Java, files: list[pathlib.Path], *more: str) -> tuple[str, str]:
    done = java.run(
        "org.apache.kafka.tools.DumpLogSegments", "--files", ",".join(map(str, files)), *more, seconds=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_dump_log_segments(java_tools: Java, files: list[pathlib.Path]) -> None:
    assert {path.suffix for path in files} == set(_KINDS)
    assert sum(path.suffix == ".log" for path in files) > 6
    told, complaints = dump(java_tools, files, "--deep-iteration")
    # It takes every segment that does not begin at 0 for one with a hole before it, Kafka's own too.
    rest = re.sub(r"Non-consecutive offsets in \S+\n  -1 is followed by \d+\n", "", complaints)
    assert rest.strip() == ""
    for path in files:
        assert f"Dumping {path}\n" in told
    assert set(re.findall(r"compresscodec: (\w+)", told)) >= set(CODECS)
    assert len(re.findall(r"endTxnMarker: (COMMIT|ABORT)", told)) == 6
    assert re.search(r"producerId: \d+ firstOffset: \d+ lastOffset: \d+ lastStableOffset: \d+", told)
    assert re.search(r"producerId: \d+ producerEpoch: \d+ .*currentTxnFirstOffset: OptionalLong\[12\]", told)
    assert "isvalid: false" not in told


def test_our_own_dump_tells_the_same(java_tools: Java, files: list[pathlib.Path]) -> None:
    logs = [path for path in files if path.suffix == ".log"]
    told, _ = dump(java_tools, logs, "--deep-iteration")
    theirs = [
        dict(re.findall(r"(\w+): (\S+)", line))
        for line in told.splitlines()
        if line.startswith("baseOffset: ")
    ]
    ours = [row for path in logs for row in dump_file(path, Options(deep=True))]
    batches = [row for row in ours if row["kind"] == "batch"]
    assert len(theirs) == len(batches) > 50
    for batch, theirs_of_it in zip(batches, theirs, strict=True):
        assert {name: theirs_of_it[kafka] for name, kafka in _SAME.items()} == {
            name: _as_kafka(batch[name]) for name in _SAME
        }
    records = [row["offset"] for row in ours if row["kind"] == "record"]
    assert records == [int(one) for one in re.findall(r"^\| offset: (\d+)", told, re.MULTILINE)]
    markers = [row["marker"] for row in ours if "marker" in row]
    assert markers == re.findall(r"endTxnMarker: (COMMIT|ABORT)", told)


def _as_kafka(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_index_sanity_check(java_tools: Java, files: list[pathlib.Path]) -> None:
    indexes = [path for path in files if path.suffix in (".index", ".timeindex")]
    told, complaints = dump(java_tools, indexes, "--index-sanity-check")
    assert complaints.strip() == ""
    for path in indexes:
        assert f"{path} passed sanity check." in told or f"{path} is empty." in told
