"""Different Kafka clients in one group: one goes on where another committed, and they share partitions."""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.interop import test_kafka_aiokafka as with_aiokafka
from tests.interop import test_kafka_confluent as with_confluent
from tests.interop import test_kafka_python as with_python
from tests.interop.kafka_clients import KafkaJs

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]
_SECONDS = 15


def confluent(kafka: str, topic: str, group: str, count: int) -> list[int]:
    """Read on with confluent-kafka and commit; return the offsets read."""
    with with_confluent.consumer(kafka, group) as source:
        source.subscribe([topic])
        got = with_confluent.read(source, count)
        source.commit(message=got[-1], asynchronous=False)
    return [message.offset() for message in got]


def kafka_python(kafka: str, topic: str, group: str, count: int) -> list[int]:
    """Read on with kafka-python and commit; return the offsets read."""
    with with_python.consumer(kafka, topic, group_id=group) as source:
        got = with_python.read(source, count)
        source.commit()
    return [record.offset for record in got]


def aiokafka(kafka: str, topic: str, group: str, count: int) -> list[int]:
    """Read on with aiokafka and commit; return the offsets read."""

    async def run() -> list[int]:
        async with with_aiokafka.consumer(kafka, topic, group_id=group) as source:
            got = await with_aiokafka.read(source, count)
            await source.commit()
        return [record.offset for record in got]

    return asyncio.run(run())


def test_each_client_goes_on_where_another_committed(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(), unique("group")
    with_confluent.produce(kafka, topic, [b"%d" % number for number in range(12)])
    order = [confluent, kafka_python, aiokafka, confluent, aiokafka, kafka_python]
    offsets = [step(kafka, topic, group, 2) for step in order]
    assert offsets == [[2 * index, 2 * index + 1] for index in range(6)]


def test_kafkajs_goes_on_where_another_committed(
    kafka: str, kafkajs: pathlib.Path, new_topic: New, unique: Unique
) -> None:
    topic, group = new_topic(), unique("group")
    with_confluent.produce(kafka, topic, [b"%d" % number for number in range(6)])
    assert confluent(kafka, topic, group, 2) == [0, 1]
    rows = KafkaJs(kafka, kafkajs).run("consume", topics=[topic], count=2, group=group, commit=True)
    assert [int(row["offset"]) for row in rows] == [2, 3]
    assert kafka_python(kafka, topic, group, 2) == [4, 5]


def test_members_of_different_clients_share_a_topic(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(4), unique("group")
    everything = set(range(4))

    def until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline, what

    with with_confluent.consumer(kafka, group, partition_assignment_strategy="range") as first:

        def held(source: Any) -> set[int]:
            source.consume(10, 0.02)
            return {place.partition for place in source.assignment()}

        first.subscribe([topic])
        until(lambda: held(first) == everything, "confluent-kafka alone")
        with (
            with_python.consumer(kafka, topic, group_id=group) as source,
            with_python.member(source) as second,
        ):

            def shared() -> bool:
                mine = held(first)
                return len(mine) == len(second.held) == 2 and mine | second.held == everything

            until(shared, "confluent-kafka and kafka-python")
        until(lambda: held(first) == everything, "confluent-kafka alone again")
