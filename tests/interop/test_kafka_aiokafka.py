"""aiokafka: producer, groups, admin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.structs import OffsetAndMetadata

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]
_SECONDS = 15


def consumer(kafka: str, *topics: str, **options: Any) -> Any:
    """A consumer with short times."""
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=kafka,
        **{
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "session_timeout_ms": 2000,
            "heartbeat_interval_ms": 100,
            "rebalance_timeout_ms": 2000,
            "fetch_max_wait_ms": 100,
            "metadata_max_age_ms": 1000,
            **options,
        },
    )


async def read(source: Any, count: int) -> list[Any]:
    """Return so many records."""
    got: list[Any] = []

    async def collect() -> None:
        while len(got) < count:
            for records in (await source.getmany(timeout_ms=100, max_records=count - len(got))).values():
                got.extend(records)

    await asyncio.wait_for(collect(), _SECONDS)
    return got


async def produce(
    kafka: str, topic: str, values: list[bytes], partition: int = 0, **options: Any
) -> list[Any]:
    """Write values with ascending timestamps 1000, 2000, ...; return what was told of each."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, **options) as producer:
        sent = [
            await producer.send(topic, value, partition=partition, timestamp_ms=1000 * (index + 1))
            for index, value in enumerate(values)
        ]
        return [await asyncio.wait_for(done, _SECONDS) for done in sent]


def run(body: Awaitable[None]) -> None:
    """Run a test's coroutine, bounded."""

    async def bounded() -> None:
        await asyncio.wait_for(body, 4 * _SECONDS)

    asyncio.run(bounded())


@pytest.mark.parametrize(
    "options",
    [{"acks": 0}, {"acks": 1}, {"acks": "all"}, {"enable_idempotence": True}],
    ids=["0", "1", "all", "idempotent"],
)
def test_acks_and_idempotence(options: dict[str, Any], kafka: str, new_topic: New) -> None:
    topic = new_topic()
    values = [b"%d" % number for number in range(200)]

    async def body() -> None:
        told = await produce(kafka, topic, values, **options)
        if options.get("acks") != 0:
            assert [row.offset for row in told] == list(range(len(values)))
        async with consumer(kafka) as source:
            source.assign([TopicPartition(topic, 0)])
            got = await read(source, len(values))
        assert [row.value for row in got] == values
        assert [row.offset for row in got] == list(range(len(values)))
        assert [row.timestamp for row in got] == [1000 * (n + 1) for n in range(len(values))]

    run(body())


def test_commit_seek_and_offsets(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(2), unique("group")
    here = TopicPartition(topic, 0)

    async def body() -> None:
        await produce(kafka, topic, [b"%d" % number for number in range(10)])
        async with consumer(kafka, topic, group_id=group) as source:
            assert [row.value for row in await read(source, 4)] == [b"0", b"1", b"2", b"3"]
            await source.commit({here: OffsetAndMetadata(4, "note")})
            assert await source.committed(here) == 4
            assert await source.beginning_offsets([here]) == {here: 0}
            assert await source.end_offsets([here]) == {here: 10}
            found = (await source.offsets_for_times({here: 4001}))[here]
            assert (found.offset, found.timestamp) == (4, 5000)
            assert (await source.offsets_for_times({here: 99_999}))[here] is None
        async with consumer(kafka, topic, group_id=group) as source:
            assert [row.value for row in await read(source, 2)] == [b"4", b"5"]
            source.seek(here, 9)
            assert (await read(source, 1))[0].value == b"9"
            source.pause(here)
            source.seek(here, 0)
            assert await source.getmany(timeout_ms=200) == {}
            source.resume(here)
            assert (await read(source, 1))[0].value == b"0"

    run(body())


def test_auto_commit(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(), unique("group")
    options = {"group_id": group, "enable_auto_commit": True, "auto_commit_interval_ms": 50}

    async def body() -> None:
        await produce(kafka, topic, [b"%d" % number for number in range(6)])
        async with consumer(kafka, topic, **options) as source:
            await read(source, 4)
        async with consumer(kafka, topic, **options) as source:
            assert [row.value for row in await read(source, 2)] == [b"4", b"5"]

    run(body())


def test_rebalance_between_two_members(kafka: str, new_topic: New, unique: Unique) -> None:
    topic, group = new_topic(4), unique("group")
    everything = set(range(4))

    def held(member: Any) -> set[int]:
        return {place.partition for place in member.assignment()}

    async def until(condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), _SECONDS)

    async def body() -> None:
        async with consumer(kafka, topic, group_id=group) as first:
            await until(lambda: held(first) == everything)
            async with consumer(kafka, topic, group_id=group) as second:

                def shared() -> bool:
                    one, two = held(first), held(second)
                    return len(one) == len(two) == 2 and one | two == everything

                await until(shared)
                for index in range(4):
                    await produce(kafka, topic, [b"x"], partition=index)
                one, two = await read(first, 2), await read(second, 2)
                assert {row.partition for row in one + two} == everything
                await first.commit()
                await second.commit()
            await until(lambda: held(first) == everything)
            committed = [await first.committed(TopicPartition(topic, index)) for index in range(4)]
            assert committed == [1, 1, 1, 1]

    run(body())


def test_admin(kafka: str, unique: Unique) -> None:
    topic, group = unique("made"), unique("group")

    async def body() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            answer = await admin.create_topics([NewTopic(topic, 2, 1)])
            assert answer.topic_errors[0][1] == 0
            again = await admin.create_topics([NewTopic(topic, 2, 1)])
            assert again.topic_errors[0][1] == TopicAlreadyExistsError.errno
            assert topic in await admin.list_topics()
            await admin.create_partitions({topic: NewPartitions(3)})
            (described,) = await admin.describe_topics([topic])
            assert sorted(part["partition"] for part in described["partitions"]) == [0, 1, 2]
            await produce(kafka, topic, [b"a"])
            async with consumer(kafka, topic, group_id=group) as source:
                await read(source, 1)
                await source.commit()
            assert group in {row[0] for row in await admin.list_consumer_groups()}
            held = await admin.list_consumer_group_offsets(group)
            assert held[TopicPartition(topic, 0)].offset == 1
            (answered,) = await admin.describe_consumer_groups([group])
            assert answered.groups[0][2] == "Empty"
            await admin.delete_topics([topic])
            assert topic not in await admin.list_topics()
        finally:
            await admin.close()

    run(body())
