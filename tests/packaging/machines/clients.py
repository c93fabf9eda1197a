"""Messages over all three wires: ``python -m tests.packaging.machines.clients produce|consume LABEL``.

Runs where only the broker of a machine can be reached. Kafka is librdkafka, MEGA and cursus the clients that
come with the broker.
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, Producer, TopicPartition

from megabroker.client import CursusClient, MessageClient

_COUNT = 50


def produce(label: str) -> None:
    """Produce messages over each wire, acknowledged by the disk where the wire can say so."""
    producer = Producer({"bootstrap.servers": "127.0.0.1:9092", "acks": "all"})
    refused: list[str] = []
    for number in range(_COUNT):
        text = f"{label} {number}"
        producer.produce(
            "by-kafka",
            text,
            partition=0,
            on_delivery=lambda error, _: refused.append(str(error)) if error else None,
        )
    assert producer.flush(30) == 0
    assert not refused, refused
    with MessageClient(host="127.0.0.1", port=8080) as client:
        client.create_topic("by-mega")
        for number in range(_COUNT):
            assert client.produce("by-mega", f"{label} {number}")["success"]
    with CursusClient("127.0.0.1") as cursus:
        cursus.create_topic("by-cursus", 1)
        assert cursus.publish_many("by-cursus", _expected([label])) == _COUNT


def _expected(labels: list[str]) -> list[str]:
    return [f"{label} {number}" for label in labels for number in range(_COUNT)]


def consume(labels: list[str]) -> None:
    """See that exactly what was produced is there, each topic over a wire that it was not produced by."""
    total = _COUNT * len(labels)
    consumer = Consumer({"bootstrap.servers": "127.0.0.1:9092", "group.id": "g", "enable.auto.commit": False})
    for topic in ("by-kafka", "by-mega", "by-cursus"):
        consumer.assign([TopicPartition(topic, 0, 0)])
        found = [message.value().decode() for message in consumer.consume(total, 30)]
        assert found == _expected(labels), (topic, found)
        assert not consumer.consume(1, 0.3), topic
    consumer.close()
    with MessageClient(host="127.0.0.1", port=8080) as client:
        texts = [client.consume("by-cursus", offset)["payload"] for offset in range(total)]
        assert texts == _expected(labels)
    with CursusClient("127.0.0.1") as cursus:
        assert [message.text for message in cursus.stream("by-kafka")] == _expected(labels)


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        produce(sys.argv[2])
    else:
        consume(sys.argv[2:])
    print("done")
