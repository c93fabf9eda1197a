"""Runs in a virtual environment that has cursus's published client; says what it saw as JSON lines.

    python cursus_sdk_driver.py ADDRESS STEP

Each step is a function here; it prints one line. Nothing of ours is imported.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from cursus import AsyncProducer, Consumer, ConsumerConfig, ConsumerMode, EventStore, Producer, ProducerConfig
from cursus.errors import CursusError
from cursus.types import Acks, Event

_SECONDS = 20.0


def produce(address: str) -> dict[str, Any]:
    """Four producers: plain and idempotent, at one acknowledgement and at all."""
    acked = []
    for topic, idempotent, acks in (
        ("sdk-plain", False, Acks.ONE),
        ("sdk-idempotent", True, Acks.ALL),
    ):
        config = ProducerConfig(
            topic=topic, brokers=[address], acks=acks, idempotent=idempotent, batch_size=50, linger_ms=10
        )
        with Producer(config) as producer:
            for n in range(500):
                producer.send(f"message {n} ü", key=f"key {n % 7}" if n % 2 else "")
            producer.flush()
            acked.append(producer.unique_ack_count)
    return {"acked": acked}


def produce_async(address: str) -> dict[str, Any]:
    """The asynchronous producer."""

    async def run() -> int:
        config = ProducerConfig(topic="sdk-async", brokers=[address], partitions=2, linger_ms=10)
        async with AsyncProducer(config) as producer:
            for n in range(100):
                await producer.send(f"message {n}")
            await producer.flush()
            return int(producer.unique_ack_count)

    return {"acked": asyncio.run(run())}


def _consume(
    address: str, topic: str, group: str, mode: ConsumerMode, wanted: int, seconds: float = _SECONDS
) -> list[Any]:
    config = ConsumerConfig(
        topic=topic,
        brokers=[address],
        group_id=group,
        mode=mode,
        heartbeat_interval_ms=300,
        auto_commit_interval_s=0.2,
    )
    consumer = Consumer(config)
    found: list[Any] = []
    enough = threading.Event()

    def take(message: Any) -> None:
        found.append(message)
        if len(found) >= wanted:
            enough.set()

    def stop() -> None:
        enough.wait(seconds)
        time.sleep(0.6)  # whatever comes twice has come then, and commits have gone
        consumer.close()

    stopper = threading.Thread(target=stop)
    stopper.start()
    consumer.start(take)
    stopper.join()
    return found


def consume(address: str) -> dict[str, Any]:
    """Both modes, each in a group of its own, and the first group once more."""
    seen = {}
    for mode in ConsumerMode:
        found = _consume(address, "sdk-idempotent", f"sdk-{mode.value}", mode, 500)
        seen[mode.value] = [
            len(found),
            len({(message.partition, message.offset) for message in found}),
            sorted({message.payload for message in found}) == sorted(f"message {n} ü" for n in range(500)),
        ]
    again = _consume(address, "sdk-idempotent", "sdk-polling", ConsumerMode.POLLING, 1, 0.7)
    return {"seen": seen, "again": len(again)}


def share(address: str) -> dict[str, Any]:
    """Two members of one group have all partitions between them, and none together."""
    taken: dict[str, set[int]] = {}
    consumers = []
    for name in ("one", "two"):
        config = ConsumerConfig(
            topic="sdk-idempotent",
            brokers=[address],
            group_id="sdk-shared",
            consumer_id=name,
            mode=ConsumerMode.POLLING,
            heartbeat_interval_ms=200,
        )
        consumer = Consumer(config)
        consumers.append(consumer)
        threading.Thread(target=consumer.start, args=(lambda message: None,), daemon=True).start()
        time.sleep(0.5)
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        taken = {name: set(one._assignments) for name, one in zip(("one", "two"), consumers, strict=True)}
        if len(taken["one"]) == len(taken["two"]) == 2 and not taken["one"] & taken["two"]:
            break
        time.sleep(0.1)
    for consumer in consumers:
        consumer.close()
    return {"taken": {name: sorted(partitions) for name, partitions in taken.items()}}


def events(address: str) -> dict[str, Any]:
    """A stream of events: versions, a conflict, snapshots."""
    with EventStore(address, "sdk-events", "sdk") as store:
        store.create_topic(4)
        for version in range(1, 21):
            made = Event(type="Added", payload=f"amount {version}", schema_version=2, metadata='{"by": "me"}')
            appended = store.append("order-1", version, made)
            assert appended.version == version
        try:
            store.append("order-1", 5, Event(type="Added", payload="late"))
            conflict = ""
        except CursusError as error:
            conflict = str(error)
        whole = store.read_stream("order-1")
        none = store.read_snapshot("order-1")
        store.save_snapshot("order-1", 15, '{"sum": 120}')
        kept = store.read_snapshot("order-1")
        rest = store.read_stream("order-1")
        first = whole.events[0]
        return {
            "conflict": conflict,
            "first": [first.version, first.type, first.schema_version, first.payload, first.metadata],
            "versions": [event.version for event in whole.events],
            "before": none is None and whole.snapshot is None,
            "snapshot": None if kept is None else [kept.version, kept.payload],
            "rest": [event.version for event in rest.events],
            "version": [store.stream_version("order-1"), store.stream_version("order-2")],
        }


STEPS: dict[str, Callable[[str], dict[str, Any]]] = {
    step.__name__: step for step in (produce, produce_async, consume, share, events)
}

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[2]](sys.argv[1])), flush=True)
