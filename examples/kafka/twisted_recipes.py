#!/usr/bin/env python3
"""Kafka's wire within Twisted: aiokafka on asyncioreactor, and confluent-kafka in threads.

python examples/kafka/twisted_recipes.py localhost:9092
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, KafkaException
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

TOPIC = "twisted-recipes"


async def send(servers: str) -> None:
    """This is a coroutine of asyncio's: aiokafka runs in the loop that the reactor is made of."""
    async with AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True) as producer:
        for number in range(20):
            await producer.send_and_wait(TOPIC, b"%d" % number)


async def consume(servers: str) -> None:
    """confluent-kafka blocks, so that each call goes to a thread; one at a time, and the work stays here."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "twisted-workers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([TOPIC])
    count = 0
    try:
        while count < 20:
            for message in await deferToThread(consumer.consume, 20 - count, 10):
                if message.error():
                    raise KafkaException(message.error())
                count += 1  # the work
        await deferToThread(consumer.commit, asynchronous=False)
    finally:
        await deferToThread(consumer.close)
    print(f"{count} messages consumed and committed")


async def main(servers: str) -> None:
    """All of it, as a coroutine of Twisted's: what is asyncio's becomes a Deferred."""
    await Deferred.fromFuture(asyncio.ensure_future(send(servers)))
    print("20 messages stored")
    await consume(servers)


def run(reactor: Any, servers: str = "localhost:9092") -> Deferred[None]:
    """Fire when all is done."""
    return Deferred.fromCoroutine(main(servers))


if __name__ == "__main__":
    asyncioreactor.install()  # before anything imports the reactor
    react(run, sys.argv[1:2])
