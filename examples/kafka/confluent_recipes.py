#!/usr/bin/env python3
"""Kafka's wire with confluent-kafka: administration, idempotent producing, transactions, a consumer's loop.

python examples/kafka/confluent_recipes.py localhost:9092
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

TOPIC = "recipes"


def administer(servers: str) -> None:
    """Make a topic with a configuration, unless it is there."""
    admin = AdminClient({"bootstrap.servers": servers})
    wanted = NewTopic(TOPIC, num_partitions=2, config={"retention.ms": "86400000"})
    try:
        admin.create_topics([wanted])[TOPIC].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    partitions = admin.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
    print(f"{TOPIC}: {len(partitions)} partitions")


def produce(servers: str) -> None:
    """Produce so that no retry stores a message twice, and learn of each what became of it."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5})
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(error)

    for number in range(100):
        producer.produce(TOPIC, key=f"k{number % 10}", value=f"{number}", on_delivery=delivered)
        producer.poll(0)  # carries out the callbacks of those that are through
    if producer.flush(30) or failures:
        raise SystemExit(f"not all were stored: {failures or 'no answer within 30 s'}")
    print("100 messages stored")


def transact(servers: str) -> None:
    """Store two messages together or not at all."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": "recipes-till"})
    producer.init_transactions(30)
    for amount, good in ((100, False), (200, True)):
        producer.begin_transaction()
        producer.produce(TOPIC, key="from", value=f"-{amount}")
        producer.produce(TOPIC, key="to", value=f"+{amount}")
        if good:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    print("one transaction committed, one aborted")


def messages(consumer: Consumer) -> Iterator[Message]:
    """Yield messages until none has come for a while."""
    while (message := consumer.poll(10)) is not None:
        if message.error():
            raise KafkaException(message.error())
        yield message


def consume(servers: str) -> None:
    """Work on messages, and commit what is done: after a crash the rest comes again."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "recipes-workers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([TOPIC])
    count = 0
    try:
        for message in messages(consumer):
            count += 1  # the work
            if count % 50 == 0:
                consumer.commit(message, asynchronous=False)
            if count == 102:
                break
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    print(f"{count} messages consumed and committed")


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:9092"
    for recipe in (administer, produce, transact, consume):
        recipe(address)
