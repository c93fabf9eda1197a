"""One librdkafka client that produces or consumes numbered records, and checks what it gets.

    python -m bench.client ROLE OPTIONS

OPTIONS are a JSON object. All roles: ``bootstrap``, ``topic``, ``partitions``, ``count`` (records; for
"transact" transactions), ``config`` (librdkafka's settings). A record is its number, when it was due (both
i64, ns of the monotonic clock), and bytes as compressible as text up to ``record_bytes``.

- "produce": records to the partitions in turn, as fast as can be or at ``rate`` a second.
- "consume": ``count`` records from the beginning of all partitions, each exactly once, by ``consumers``
  consumers that read everything each. ``latencies`` takes the time from when each record was due.
- "transact": transactions of ``records`` records, one after the other; latencies are of a transaction.

Prints "ready" once connected, waits for a line, works, and prints what ``bench.client.Worked`` has.
"""

from __future__ import annotations

import array
import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

_HEAD = struct.Struct(">qq")
_SECONDS = 60
_CHUNK = 1000
_QUEUED = 200_000


def main() -> None:
    """Do what the command line says."""
    role, options = sys.argv[1], json.loads(sys.argv[2])
    worked = _ROLES[role](**options)
    print(json.dumps(worked))


def _begin() -> tuple[int, float]:
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic_ns(), time.process_time()


def _worked(
    operations: int, records: int, began: tuple[int, float], latencies: Sequence[int] = ()
) -> dict[str, Any]:
    ordered = sorted(latencies)
    return {
        "operations": operations,
        "records": records,
        "began_ns": began[0],
        "ended_ns": time.monotonic_ns(),
        "cpu_seconds": time.process_time() - began[1],
        "latencies": [
            ordered[min(int(share * len(ordered)), len(ordered) - 1)] / 1e6 if ordered else 0
            for share in (0.5, 0.99, 0.999)
        ],
    }


class _Sender:
    """A producer that notes what was not delivered."""

    def __init__(self, bootstrap: str, topic: str, record_bytes: int, config: dict[str, Any]) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "queue.buffering.max.messages": 2 * _QUEUED,
                "queue.buffering.max.kbytes": 1 << 20,
                "delivery.report.only.error": True,
                **config,
            }
        )
        self.producer.list_topics(topic, timeout=_SECONDS)
        self.topic = topic
        size = max(record_bytes - _HEAD.size, 0)
        text = (b"0123456789abcdef" * (size // 32 + 1))[: size // 2]
        self.filler = (text + bytes(range(256)) * (size // 256 + 1))[:size]
        self.errors: list[KafkaError] = []

    def send(self, numbers: range, partitions: int, due_ns: Sequence[int] | int) -> None:
        """Hand records over; waits while too many are on their way."""
        pack, filler = _HEAD.pack, self.filler
        if isinstance(due_ns, int):
            due_ns = [due_ns] * len(numbers)
        records = [
            {"value": pack(number, due) + filler, "partition": number % partitions}
            for number, due in zip(numbers, due_ns, strict=True)
        ]
        while len(self.producer) > _QUEUED:
            self.producer.poll(0.005)
        queued = self.producer.produce_batch(self.topic, records, on_delivery=self._noted)
        assert queued == len(records), f"{queued} of {len(records)} records taken"
        self.producer.poll(0)

    def _noted(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.errors.append(error)

    def finish(self) -> None:
        """Wait until everything is acknowledged."""
        left = self.producer.flush(_SECONDS)
        assert not left, f"{left} records unacknowledged"
        assert not self.errors, f"{len(self.errors)} records refused: {self.errors[0]}"


def _produce(
    bootstrap: str,
    topic: str,
    partitions: int,
    count: int,
    config: dict[str, Any],
    record_bytes: int,
    rate: float = 0,
) -> dict[str, Any]:
    sender = _Sender(bootstrap, topic, record_bytes, config)
    began = _begin()
    if rate:
        _at_rate(sender, partitions, count, rate, began[0])
    else:
        for first in range(0, count, _CHUNK):
            numbers = range(first, min(first + _CHUNK, count))
            sender.send(numbers, partitions, time.monotonic_ns())
    sender.finish()
    return _worked(count, count, began)


def _at_rate(sender: _Sender, partitions: int, count: int, rate: float, began_ns: int) -> None:
    """Send each record when it is due, or as soon after as can be."""
    sent = 0
    while sent < count:
        due = min(count, 1 + int((time.monotonic_ns() - began_ns) * rate / 1e9))
        if due > sent:
            numbers = range(sent, min(due, sent + _CHUNK))
            sender.send(numbers, partitions, [began_ns + int(number * 1e9 / rate) for number in numbers])
            sent = numbers.stop
        wait_ns = began_ns + int(sent * 1e9 / rate) - time.monotonic_ns()
        if wait_ns > 0:
            sender.producer.poll(0)
            time.sleep(wait_ns / 1e9)


def _consume(
    bootstrap: str,
    topic: str,
    partitions: int,
    count: int,
    config: dict[str, Any],
    consumers: int = 1,
    latencies: bool = False,
) -> dict[str, Any]:
    ours = [
        Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False, **config})
        for _ in range(consumers)
    ]
    for consumer in ours:
        consumer.list_topics(topic, timeout=_SECONDS)
    taken: list[array.array[int]] = []
    failed: list[BaseException] = []

    def work(consumer: Consumer) -> None:
        try:
            taken.append(_everything(consumer, topic, partitions, count, latencies))
        except BaseException as error:  # noqa: BLE001 - told below, in the main thread
            failed.append(error)

    threads = [threading.Thread(target=work, args=(consumer,)) for consumer in ours]
    began = _begin()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    all_taken = [latency for one in taken for latency in one]
    return _worked(count * consumers, count * consumers, began, all_taken)


def _everything(
    consumer: Consumer, topic: str, partitions: int, count: int, latencies: bool
) -> array.array[int]:
    """Read the numbers 0 to ``count``; none may be missing and none come twice."""
    consumer.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
    seen, found = bytearray(count), 0
    taken: array.array[int] = array.array("q")
    deadline = time.monotonic() + _SECONDS
    unpack = _HEAD.unpack_from
    while found < count:
        first = consumer.poll(0.1)
        if first is None:
            assert time.monotonic() < deadline, f"{count - found} of {count} records are missing"
            continue
        now_ns = time.monotonic_ns()
        for message in [first, *consumer.consume(5000, 0)]:
            error = message.error()
            assert error is None, error
            value = message.value()
            assert value is not None
            number, due_ns = unpack(value)
            assert not seen[number], f"record {number} comes twice"
            seen[number] = 1
            found += 1
            if latencies:
                taken.append(now_ns - due_ns)
        deadline = time.monotonic() + _SECONDS
    return taken


def _transact(
    bootstrap: str,
    topic: str,
    partitions: int,
    count: int,
    config: dict[str, Any],
    record_bytes: int,
    records: int,
) -> dict[str, Any]:
    sender = _Sender(bootstrap, topic, record_bytes, {"transactional.id": "bench", **config})
    sender.producer.init_transactions(_SECONDS)
    taken = []
    began = _begin()
    for number in range(count):
        now_ns = time.monotonic_ns()
        sender.producer.begin_transaction()
        sender.send(range(number * records, (number + 1) * records), partitions, now_ns)
        sender.producer.commit_transaction(_SECONDS)
        taken.append(time.monotonic_ns() - now_ns)
    sender.finish()
    return _worked(count, count * records, began, taken)


_ROLES: dict[str, Callable[..., dict[str, Any]]] = {
    "produce": _produce,
    "consume": _consume,
    "transact": _transact,
}

if __name__ == "__main__":
    main()
