#!/usr/bin/env python3
"""Kafka's wire with aiokafka on asyncio: idempotent producing, a transaction, a consumer's loop with commits.

python examples/kafka/asyncio_recipes.py localhost:9092
"""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

TOPIC = "asyncio-recipes"


async def administer(servers: str) -> None:
    """Make a topic, unless it is there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        if TOPIC not in await admin.list_topics():
            await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(servers: str) -> None:
    """Produce many at a time, none of them twice; then a transaction."""
    async with AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True) as producer:
        await asyncio.gather(*[await producer.send(TOPIC, b"%d" % number) for number in range(100)])
    async with (
        AIOKafkaProducer(bootstrap_servers=servers, transactional_id="asyncio-till") as producer,
        producer.transaction(),  # an exception within aborts it
    ):
        await producer.send_and_wait(TOPIC, b"together")
        await producer.send_and_wait(TOPIC, b"or not at all")
    print("102 messages stored")


async def consume(servers: str) -> None:
    """Work on messages, and commit what is done."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=servers,
        group_id="asyncio-workers",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    count = 0
    async with consumer:
        async for _ in consumer:
            count += 1  # the work
            if count == 102:
                break
        await consumer.commit()
    print(f"{count} messages consumed and committed")


async def main(servers: str) -> None:
    """All of it."""
    await administer(servers)
    await produce(servers)
    await consume(servers)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:9092"))
