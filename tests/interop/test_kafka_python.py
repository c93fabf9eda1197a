"""kafka-python: producer, groups, admin."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import (
    InvalidPartitionsError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:kafka"),
]

New = Callable[..., str]
Unique = Callable[[str], str]
_SECONDS = 15


@contextmanager
def consumer(kafka: str, *topics: str, **options: Any) -> Iterator[Any]:
    """A consumer with short times, closed at the end."""
    made = KafkaConsumer(
        *topics,
        bootstrap_servers=kafka,
        **{
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "session_timeout_ms": 2000,
            "heartbeat_interval_ms": 100,
            "fetch_max_wait_ms": 100,
            **options,
        },
    )
    try:
        yield made
    finally:
        made.close()


def read(source: Any, count: int) -> list[Any]:
    """Return so many records.

    Polls are long, for kafka-python 3.0 loses its assignment when one ends just as SyncGroup is answered.
    """
    got: list[Any] = []
    deadline = time.monotonic() + _SECONDS
    while len(got) < count and time.monotonic() < deadline:
        for records in source.poll(timeout_ms=2000, max_records=count - len(got)).values():
            got.extend(records)
    assert len(got) == count
    return got


def produce(kafka: str, topic: str, values: list[bytes], partition: int = 0, **options: Any) -> list[Any]:
    """Write values with ascending timestamps 1000, 2000, ...; return what was told of each."""
    producer = KafkaProducer(bootstrap_servers=kafka, **options)
    try:
        sent = [
            producer.send(topic, value, partition=partition, timestamp_ms=1000 * (index + 1))
            for index, value in enumerate(values)
        ]
        producer.flush(_SECONDS)
        return [future.get(_SECONDS) for future in sent]
    finally:
        producer.close(timeout=5)


@pytest.mark.parametrize(
    "options",
    [
        {"acks": 0, "enable_idempotence": False},
        {"acks": 1, "enable_idempotence": False},
        {"acks": "all", "enable_idempotence": False},
        {"enable_idempotence": True},
    ],
    ids=["0", "1", "all", "idempotent"],
)
def test_acks_and_idempotence(options: dict[str, Any], kafka: str, new_topic: New) -> None:
    topic = new_topic()
    values = [b"%d" % number for number in range(200)]
    told = produce(kafka, topic, values, **options)
    if options.get("acks") != 0:
        assert [row.offset for row in told] == list(range(len(values)))
    with consumer(kafka) as source:
        source.assign([TopicPartition(topic, 0)])
        got = read(source, len(values))
    assert [row.value for row in got] == values
    assert [row.offset for row in got] == list(range(len(values)))
    assert [row.timestamp for row in got] == [1000 * (n + 1) for n in range(len(values))]


def test_commit_seek_and_offsets(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(2), unique("group")
    here = TopicPartition(topic, 0)
    produce(kafka, topic, [b"%d" % number for number in range(10)])
    with consumer(kafka, topic, group_id=group) as source:
        assert [row.value for row in read(source, 4)] == [b"0", b"1", b"2", b"3"]
        source.commit({here: OffsetAndMetadata(4, "note", -1)})
        assert source.committed(here) == 4
        assert source.beginning_offsets([here]) == {here: 0}
        assert source.end_offsets([here]) == {here: 10}
        found = source.offsets_for_times({here: 4001})[here]
        assert (found.offset, found.timestamp) == (4, 5000)
        assert source.offsets_for_times({here: 99_999})[here] is None
    with consumer(kafka, topic, group_id=group) as source:
        assert [row.value for row in read(source, 2)] == [b"4", b"5"]
        source.seek(here, 9)
        assert read(source, 1)[0].value == b"9"
    with consumer(kafka) as source:
        source.assign([here])
        source.seek(here, 5)
        source.pause(here)
        assert source.poll(timeout_ms=200) == {}
        source.resume(here)
        assert read(source, 1)[0].value == b"5"


def test_auto_commit(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(), unique("group")
    produce(kafka, topic, [b"%d" % number for number in range(6)])
    options = {"group_id": group, "enable_auto_commit": True, "auto_commit_interval_ms": 50}
    with consumer(kafka, topic, **options) as source:
        read(source, 4)
    with consumer(kafka, topic, **options) as source:
        assert [row.value for row in read(source, 2)] == [b"4", b"5"]


class Member(threading.Thread):
    """A group member that polls and commits in a thread of its own.

    Its polls are long: a poll of kafka-python 3 that times out between the coordinator's answer and its
    handling loses the assignment for good.
    """

    def __init__(self, source: Any) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.held: set[int] = set()
        self.read: list[int] = []
        self.stopping = False

    def run(self) -> None:
        while not self.stopping:
            got = self.source.poll(timeout_ms=500)
            self.held = {place.partition for place in self.source.assignment()}
            self.read.extend(place.partition for place in got)
            if got:
                self.source.commit()

    def stop(self) -> None:
        """End the thread."""
        self.stopping = True
        self.join(_SECONDS)
        assert not self.is_alive()


@contextmanager
def member(source: Any) -> Iterator[Member]:
    """A running member."""
    made = Member(source)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_rebalance_between_two_members(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(4), unique("group")
    everything = set(range(4))

    def until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    with consumer(kafka, topic, group_id=group) as source, member(source) as first:
        until(lambda: first.held == everything, "the first member alone")
        with consumer(kafka, topic, group_id=group) as other, member(other) as second:
            until(
                lambda: len(first.held) == len(second.held) == 2 and first.held | second.held == everything,
                "both members",
            )
            for index in range(4):
                produce(kafka, topic, [b"x"], partition=index)
            until(lambda: len(first.read) + len(second.read) >= 4, "reading by both")
            assert sorted(first.read + second.read) == sorted(everything)
            assert set(first.read) == first.held
        until(lambda: first.held == everything, "the second has left")
        first.stop()
        assert [source.committed(TopicPartition(topic, index)) for index in range(4)] == [1, 1, 1, 1]


def test_admin(kafka: str, unique: Unique) -> None:
    topic, group = unique("made"), unique("group")
    here = TopicPartition(topic, 0)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "3600000"})])
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topics([NewTopic(topic, 2, 1)])
        assert topic in admin.list_topics()
        admin.create_partitions({topic: NewPartitions(3)})
        with pytest.raises(InvalidPartitionsError):
            admin.create_partitions({topic: NewPartitions(1)})
        (described,) = admin.describe_topics([topic])
        assert sorted(part["partition_index"] for part in described["partitions"]) == [0, 1, 2]
        paged = admin.describe_topic_partitions([topic], response_partition_limit=2)
        assert [part["partition_index"] for part in paged["topics"][0]["partitions"]] == [0, 1]
        paged = admin.describe_topic_partitions([topic], cursor=paged["next_cursor"])
        assert [part["partition_index"] for part in paged["topics"][0]["partitions"]] == [2]
        assert paged["next_cursor"] is None
        configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        assert "3600000" in str(configs)
        assert [node["broker_id"] for node in admin.describe_cluster()["brokers"]] == [1]

        produce(kafka, topic, [b"a", b"b"])
        offsets = admin.list_partition_offsets({here: -1})
        assert offsets[here].offset == 2
        with consumer(kafka, topic, group_id=group) as source:
            read(source, 2)
            source.commit()
            assert admin.describe_groups([group])[group]["group_state"] == "Stable"
            assert admin.delete_groups([group]) == {group: "NonEmptyGroupError"}
        assert group in {row["group_id"] for row in admin.list_groups()}
        held = admin.list_group_offsets({group: [here]})[group]
        assert held[here].offset == 2
        assert admin.delete_groups([group]) == {group: "OK"}
        assert admin.delete_groups([group]) == {group: "GroupIdNotFoundError"}
        admin.delete_topics([topic])
        with pytest.raises(UnknownTopicOrPartitionError):
            admin.delete_topics([topic])
    finally:
        admin.close()


@pytest.mark.parametrize("version", [(0, 11), (1, 0), (2, 0), (2, 4), (3, 0)], ids=str)
def test_requests_of_older_versions(
    version: tuple[int, int], kafka: str, new_topic: New, unique: Unique
) -> None:
    topic, group = new_topic(2), unique("group")
    here = TopicPartition(topic, 0)
    values = [b"%d" % number for number in range(10)]
    idempotent = {"enable_idempotence": version >= (1, 0)}
    told = produce(kafka, topic, values, api_version=version, compression_type="gzip", **idempotent)
    assert [row.offset for row in told] == list(range(10))
    with consumer(kafka, topic, group_id=group, api_version=version) as source:
        assert [row.value for row in read(source, 6)] == values[:6]
        source.commit({here: OffsetAndMetadata(6, "note", -1)})
        assert source.beginning_offsets([here]) == {here: 0}
        assert source.end_offsets([here]) == {here: 10}
        assert source.offsets_for_times({here: 4001})[here].offset == 4
    with consumer(kafka, topic, group_id=group, api_version=version) as source:
        assert [row.value for row in read(source, 4)] == values[6:]
