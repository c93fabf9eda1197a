"""kafkajs through node: producer, groups, admin."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from tests.interop.kafka_clients import KafkaJs, sample, totals

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]


@pytest.fixture
def client(kafka: str, kafkajs: pathlib.Path) -> KafkaJs:
    """kafkajs against the shared broker."""
    return KafkaJs(kafka, kafkajs)


def message(topic: str, value: str) -> dict[str, object]:
    """Return one message for the driver; ``value`` is base64."""
    return {"topic": topic, "partition": 0, "timestamp": "1000", "key": None, "value": value, "headers": []}


@pytest.mark.parametrize("acks", [1, -1])
def test_acks(acks: int, client: KafkaJs, new_topic: New) -> None:
    topic = new_topic()
    (answer,) = client.run("produce", codec="none", acks=acks, messages=[message(topic, "YQ==")])
    assert (answer["topicName"], answer["baseOffset"], answer["errorCode"]) == (topic, "0", 0)
    assert client.read({(topic, 0): 1})[0].value == b"a"


def test_idempotent_producer(client: KafkaJs, new_topic: New) -> None:
    topic = new_topic()
    messages = [message(topic, "YQ==") for _ in range(100)]
    (answer,) = client.run("produce", codec="gzip", idempotent=True, messages=messages)
    assert answer["baseOffset"] == "0"
    assert [row.offset for row in client.read({(topic, 0): 100})] == list(range(100))


def test_group_goes_on_where_it_committed(client: KafkaJs, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(1), unique("group")
    rows = [row for row in map(client.writable, sample(topic, 1)) if row is not None]
    client.write(rows, "gzip")
    read = client.run("consume", topics=[topic], count=5, group=group, commit=True)
    assert [int(row["offset"]) for row in read] == list(range(5))
    rest = totals(rows)[topic, 0] - 5
    read = client.run("consume", topics=[topic], count=rest, group=group)
    assert [int(row["offset"]) for row in read] == list(range(5, 5 + rest))


def test_rebalance_between_two_members(client: KafkaJs, new_topic: New, unique: Unique) -> None:
    topic = new_topic(4)
    alone, both, again = client.run("rebalance", topic=topic, partitions=4, group=unique("group"))
    assert [sorted(held) for held in alone] == [[0, 1, 2, 3]]
    assert [len(held) for held in both] == [2, 2]
    assert sorted(both[0] + both[1]) == [0, 1, 2, 3]
    assert [sorted(held) for held in again] == [[0, 1, 2, 3]]


def test_admin(client: KafkaJs, unique: Unique) -> None:
    assert client.run("admin", topic=unique("made"), group=unique("group")) == {
        "created": True,
        "listed": True,
        "partitions": [0, 1, 2],
        "retention": "3600000",
        "cluster": 1,
        "offsets": [["0", "2"], ["0", "0"], ["0", "0"]],
        "at": ["0", "0", "0"],
        "committed": [{"partition": 0, "offset": "1", "metadata": None}],
        "groups": True,
        "state": "Empty",
        "groupGone": True,
        "topicGone": True,
    }
