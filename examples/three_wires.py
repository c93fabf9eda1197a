#!/usr/bin/env python3
"""One log, three wires: what comes in through any protocol goes out through all of them.

Run a broker (``./dev start``), then

    python examples/three_wires.py            # produce, then read
    python examples/three_wires.py produce    # only produce; restart the broker if you like, then
    python examples/three_wires.py read       # only read

A topic is filled through each wire: ``from-mega`` by ``MessageClient``, ``from-cursus`` by ``CursusClient``
(both come with the broker), ``from-kafka`` by confluent-kafka. Then every topic is read through every wire.
The exit code is 0 if all three gave the same messages of all three topics.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from megabroker.client import ClientError, CursusClient, MessageClient

TOPICS = ("from-mega", "from-cursus", "from-kafka")


# --- MEGA -----------------------------------------------------------------------------------------


def mega_produce(host: str, port: int, topic: str, messages: list[str]) -> None:
    with MessageClient(host, port) as client:
        client.create_topic(topic)  # a refusal says that it is there already
        for message in messages:
            answer = client.produce(topic, message)
            if not answer["success"]:
                raise SystemExit(f"MEGA refused a message: {answer['error_code']}")


def mega_read(host: str, port: int, topic: str) -> list[str]:
    messages: list[str] = []
    with MessageClient(host, port) as client:
        offset = 0
        while (answer := client.consume(topic, offset))["success"]:
            messages.append(answer["payload"])
            offset = answer["next_offset"]
    return messages


# --- cursus ---------------------------------------------------------------------------------------


def cursus_produce(host: str, port: int, topic: str, messages: list[str]) -> None:
    with CursusClient(host, port) as client:
        client.create_topic(topic, 1)
        client.publish_many(topic, messages)  # raises what the broker refuses


def cursus_read(host: str, port: int, topic: str) -> list[str]:
    with CursusClient(host, port) as client:
        return [message.text for message in client.stream(topic)]


# --- Kafka ----------------------------------------------------------------------------------------


def kafka_produce(host: str, port: int, topic: str, messages: list[str]) -> None:
    servers = {"bootstrap.servers": f"{host}:{port}"}
    admin = AdminClient(servers)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    producer = Producer({**servers, "acks": "all", "enable.idempotence": True})
    failures: list[KafkaError] = []
    for message in messages:
        producer.produce(
            topic, message, on_delivery=lambda error, _: failures.append(error) if error else None
        )
    if producer.flush(30) or failures:
        raise SystemExit(f"Kafka refused a message: {failures or 'no answer within 30 s'}")


def kafka_read(host: str, port: int, topic: str) -> list[str]:
    consumer = Consumer(
        {
            "bootstrap.servers": f"{host}:{port}",
            "group.id": "three-wires",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    messages: list[str] = []
    deadline = time.monotonic() + 30
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            error = message.error()
            if error is None:
                messages.append((message.value() or b"").decode())
            elif error.code() == KafkaError._PARTITION_EOF:
                break
            else:
                raise SystemExit(f"Kafka refused a read: {error}")
    finally:
        consumer.close()
    return messages


# --- all of it ------------------------------------------------------------------------------------

Produce = Callable[[str, int, str, list[str]], None]
Read = Callable[[str, int, str], list[str]]

WIRES: dict[str, tuple[Produce, Read]] = {
    "mega": (mega_produce, mega_read),
    "cursus": (cursus_produce, cursus_read),
    "kafka": (kafka_produce, kafka_read),
}


def produce(host: str, ports: dict[str, int], count: int) -> None:
    """Fill each topic through its own wire."""
    now = time.strftime("%H:%M:%S")
    for wire, (produce_by, _) in WIRES.items():
        print(f"{count} messages by {wire} into from-{wire}")
        produce_by(host, ports[wire], f"from-{wire}", [f"{wire} at {now}: {i}" for i in range(count)])


def read(host: str, ports: dict[str, int]) -> bool:
    """Read each topic through every wire; return whether all saw the same."""
    same = True
    for topic in TOPICS:
        found = {wire: read_by(host, ports[wire], topic) for wire, (_, read_by) in WIRES.items()}
        agree = len({tuple(messages) for messages in found.values()}) == 1
        same = same and agree
        counts = ", ".join(f"{len(messages)} by {wire}" for wire, messages in found.items())
        last = found["kafka"][-1] if found["kafka"] else "nothing"
        print(f"{topic}: {counts}: {'all the same' if agree else 'DIFFERENT'}; the last is {last!r}")
    return same


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Produce and read through MEGA, cursus and Kafka.")
    parser.add_argument("what", nargs="?", choices=["produce", "read", "both"], default="both")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--mega", type=int, default=8080, metavar="PORT")
    parser.add_argument("--cursus", type=int, default=9000, metavar="PORT")
    parser.add_argument("--kafka", type=int, default=9092, metavar="PORT")
    parser.add_argument("--count", type=int, default=100, help="messages by each wire")
    arguments = parser.parse_args()
    ports = {wire: getattr(arguments, wire) for wire in WIRES}
    try:
        if arguments.what in ("produce", "both"):
            produce(arguments.host, ports, arguments.count)
        if arguments.what in ("read", "both"):
            return 0 if read(arguments.host, ports) else 1
    except (ClientError, KafkaException) as error:
        raise SystemExit(f"three_wires.py: {error}: expected a running broker") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
