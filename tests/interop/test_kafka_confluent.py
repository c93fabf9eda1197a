"""confluent-kafka: producer, consumer, consumer groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]
_SECONDS = 15


@contextmanager
def consumer(kafka: str, group: str = "unused", **options: Any) -> Iterator[Any]:
    """A consumer with short times, closed at the end."""
    made = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 2000,
            "heartbeat.interval.ms": 100,
            "fetch.wait.max.ms": 100,
            **{name.replace("_", "."): value for name, value in options.items()},
        }
    )
    try:
        yield made
    finally:
        made.close()


def read(source: Any, count: int, seconds: float = _SECONDS) -> list[Any]:
    """Return so many messages."""
    got: list[Any] = []
    deadline = time.monotonic() + seconds
    while len(got) < count and time.monotonic() < deadline:
        for message in source.consume(count - len(got), 0.1):
            assert message.error() is None, message.error()
            got.append(message)
    assert len(got) == count
    return got


def produce(kafka: str, topic: str, values: Sequence[bytes], partition: int = 0, **options: Any) -> None:
    """Write values with ascending timestamps 1000, 2000, ..."""
    producer = Producer({"bootstrap.servers": kafka, **options})
    failed: list[Any] = []
    for index, value in enumerate(values):
        producer.produce(
            topic,
            value,
            partition=partition,
            timestamp=1000 * (index + 1),
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(_SECONDS) == 0
    assert failed == []


@pytest.mark.parametrize("options", [{"acks": 0}, {"acks": 1}, {"acks": "all"}, {"enable.idempotence": True}])
def test_acks_and_idempotence(options: dict[str, Any], kafka: str, new_topic: New) -> None:
    topic = new_topic()
    values = [b"%d" % number for number in range(500)]
    produce(kafka, topic, values, **options, **{"linger.ms": 1})
    with consumer(kafka) as source:
        source.assign([TopicPartition(topic, 0, 0)])
        got = read(source, len(values))
    assert [message.value() for message in got] == values
    assert [message.offset() for message in got] == list(range(len(values)))
    assert [message.timestamp()[1] for message in got] == [1000 * (n + 1) for n in range(len(values))]


def test_equal_keys_go_to_one_partition_in_order(kafka: str, new_topic: New) -> None:
    topic = new_topic(4)
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    for number in range(200):
        producer.produce(topic, b"%d" % number, key=b"key-%d" % (number % 20))
    assert producer.flush(_SECONDS) == 0
    with consumer(kafka) as source:
        source.assign([TopicPartition(topic, index, 0) for index in range(4)])
        got = read(source, 200)
    places: dict[bytes, set[int]] = {}
    numbers: dict[bytes, list[int]] = {}
    for message in got:
        places.setdefault(message.key(), set()).add(message.partition())
        numbers.setdefault(message.key(), []).append(int(message.value()))
    assert len(places) == 20
    assert all(len(where) == 1 for where in places.values())
    assert all(order == sorted(order) for order in numbers.values())


def test_watermarks_seek_and_offsets_for_times(kafka: str, new_topic: New) -> None:
    topic = new_topic(2)
    produce(kafka, topic, [b"%d" % number for number in range(10)])
    with consumer(kafka) as source:
        here = TopicPartition(topic, 0)
        assert source.get_watermark_offsets(here, timeout=5) == (0, 10)
        assert source.get_watermark_offsets(TopicPartition(topic, 1), timeout=5) == (0, 0)
        asked = [TopicPartition(topic, 0, stamp) for stamp in (4000,)] + [TopicPartition(topic, 1, 0)]
        assert [found.offset for found in source.offsets_for_times(asked, timeout=5)] == [3, OFFSET_END]
        for stamp, offset in ((0, 0), (4001, 4), (10_000, 9), (10_001, OFFSET_END)):
            found = source.offsets_for_times([TopicPartition(topic, 0, stamp)], timeout=5)
            assert found[0].offset == offset, stamp
        source.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        assert read(source, 3)[-1].value() == b"2"
        source.seek(TopicPartition(topic, 0, 7))
        assert [message.value() for message in read(source, 3)] == [b"7", b"8", b"9"]
        source.seek(TopicPartition(topic, 0, 1))
        assert read(source, 1)[0].offset() == 1


def test_pause_and_resume(kafka: str, new_topic: New) -> None:
    topic = new_topic(2)
    produce(kafka, topic, [b"a"] * 3, partition=0)
    produce(kafka, topic, [b"b"] * 3, partition=1)
    with consumer(kafka) as source:
        source.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])
        source.pause([TopicPartition(topic, 1)])
        assert {message.partition() for message in read(source, 3)} == {0}
        assert source.consume(1, 0.3) == []
        source.resume([TopicPartition(topic, 1)])
        assert {message.partition() for message in read(source, 3)} == {1}


def test_offset_out_of_range_starts_over(kafka: str, new_topic: New) -> None:
    topic = new_topic()
    produce(kafka, topic, [b"0", b"1"])
    with consumer(kafka, auto_offset_reset="earliest") as source:
        source.assign([TopicPartition(topic, 0, 500)])
        assert read(source, 1)[0].offset() == 0
    with consumer(kafka, auto_offset_reset="error") as source:
        source.assign([TopicPartition(topic, 0, 500)])
        deadline = time.monotonic() + _SECONDS
        message = None
        while message is None and time.monotonic() < deadline:
            message = source.poll(0.2)
        assert message is not None
        assert message.error().code() == KafkaError._AUTO_OFFSET_RESET


def test_manual_commit_is_where_the_next_member_goes_on(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(), unique("group")
    produce(kafka, topic, [b"%d" % number for number in range(10)])
    with consumer(kafka, group) as source:
        source.subscribe([topic])
        got = read(source, 4)
        source.commit(message=got[-1], asynchronous=False)
        noted = TopicPartition(topic, 0, 4, metadata="note \N{SNOWMAN}")
        source.commit(offsets=[noted], asynchronous=False)
    with consumer(kafka, group) as source:
        source.subscribe([topic])
        assert [message.value() for message in read(source, 6)] == [b"%d" % n for n in range(4, 10)]
        found = source.committed([TopicPartition(topic, 0)], timeout=5)[0]
        assert (found.offset, found.metadata) == (4, "note \N{SNOWMAN}")


def test_auto_commit(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(), unique("group")
    produce(kafka, topic, [b"%d" % number for number in range(10)])
    options = {"enable_auto_commit": True, "auto_commit_interval_ms": 50}
    with consumer(kafka, group, **options) as source:
        source.subscribe([topic])
        read(source, 5)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            if source.committed([TopicPartition(topic, 0)], timeout=5)[0].offset == 5:
                break
            time.sleep(0.02)
        read(source, 2)
    with consumer(kafka, group, **options) as source:
        source.subscribe([topic])
        assert [message.value() for message in read(source, 3)] == [b"7", b"8", b"9"]


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_rebalance_between_two_members(strategy: str, kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(4), unique("group")
    everything = set(range(4))

    def held(member: Any) -> set[int]:
        member.consume(10, 0.02)
        return {place.partition for place in member.assignment()}

    def until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline, what

    options = {"partition_assignment_strategy": strategy}
    with consumer(kafka, group, **options) as first:
        first.subscribe([topic])
        until(lambda: held(first) == everything, "the first member alone")
        with consumer(kafka, group, **options) as second:
            second.subscribe([topic])

            def shared() -> bool:
                one, two = held(first), held(second)
                return len(one) == len(two) == 2 and one | two == everything

            until(shared, "both members")
            for index in range(4):
                produce(kafka, topic, [b"%d" % index], partition=index)
            got: list[int] = []
            deadline = time.monotonic() + _SECONDS
            while len(got) < 4 and time.monotonic() < deadline:
                for member in (first, second):
                    own = {place.partition for place in member.assignment()}
                    for message in member.consume(10, 0.02):
                        assert message.error() is None
                        assert message.partition() in own
                        got.append(message.partition())
            assert sorted(got) == sorted(everything)
            first.commit(asynchronous=False)
        until(lambda: held(first) == everything, "the second has left")


def test_a_dead_member_is_removed_after_its_session(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(2), unique("group")
    # A member that does not poll within max.poll.interval.ms leaves; librdkafka goes on sending heartbeats
    # until then, so this is as close to silence as it gets.
    options = {"session_timeout_ms": 500, "max_poll_interval_ms": 500}
    with consumer(kafka, group, **options) as silent, consumer(kafka, group) as alive:
        silent.subscribe([topic])
        deadline = time.monotonic() + _SECONDS
        while len(silent.assignment()) < 2:
            silent.poll(0.02)
            assert time.monotonic() < deadline
        alive.subscribe([topic])
        while len(alive.assignment()) < 2:
            alive.poll(0.02)
            assert time.monotonic() < deadline


def test_static_member_keeps_its_partitions_over_a_restart(
    kafka: str, new_topic: New, unique: Unique
) -> None:
    topic, group = new_topic(2), unique("group")
    produce(kafka, topic, [b"x"])
    options = {"group_instance_id": "static-1"}
    with consumer(kafka, group, **options) as source:
        source.subscribe([topic])
        source.commit(message=read(source, 1)[0], asynchronous=False)
    produce(kafka, topic, [b"y"])
    with consumer(kafka, group, **options) as source:
        source.subscribe([topic])
        assert read(source, 1)[0].value() == b"y"


def test_commit_for_a_partition_that_is_not_there(kafka: str, new_topic: New, unique: Unique) -> None:
    topic = new_topic()
    with consumer(kafka, unique("group")) as source:
        with pytest.raises(KafkaException) as caught:
            source.commit(offsets=[TopicPartition(topic, 7, 1)], asynchronous=False)
        assert caught.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
