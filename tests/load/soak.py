"""Everything that clients do, for as long as one likes: what the broker holds must not grow.

    python -m tests.load.soak --minutes 30

One broker; producers, idempotent and transactional; a group whose members come and go; readers that stop
reading; topics that are made and deleted; connections that are dropped anywhere, and nonsense; a well-behaved
client of each wire. What the broker holds is printed once a minute. At the end: whether memory, descriptors
and delayed calls stayed flat, how slow the well-behaved were, and exit code 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.wires import Bystanders, cursus_request, kafka_request, mega_request
from tests.load.observing import ObservedBroker, Sample, growth

__all__ = ["Outcome", "soak"]

_MIB = 1 << 20
_TOPIC = "soak"
_CONFIG = {
    "retention_check_interval_ms": 1000,
    "producers": {"id_expiration_ms": 30_000},
    "limits": {"partial_frame_seconds": 5, "max_connections_per_address": 2000},
    "topics": {"default_partitions": 4},
}
_TOPIC_CONFIG = {"retention.bytes": str(4 * _MIB), "segment.bytes": str(_MIB)}
_NAMES = 20
"""Names of groups, transactional ids and topics are taken from so many."""

_FLAT_BYTES = 16 * _MIB
_FLAT_SHARE = 0.1
_FLAT_DESCRIPTORS = 20
_FLAT_CALLS = 20


@attrs.frozen
class Outcome:
    """What came of it."""

    samples: list[Sample]
    done: dict[str, int]
    slowest_ms: dict[str, int]
    faults: list[str]

    def grown(self) -> dict[str, float]:
        """Return by how much each thing grew."""
        names = ("resident_bytes", "blocks", "descriptors", "delayed_calls")
        return {name: growth([getattr(one, name) for one in self.samples]) for name in names}

    def too_much(self) -> list[str]:
        """Say what is not flat."""
        grown = self.grown()
        resident = max(one.resident_bytes for one in self.samples)
        bounds = {
            "resident_bytes": max(_FLAT_BYTES, _FLAT_SHARE * resident),
            "descriptors": _FLAT_DESCRIPTORS,
            "delayed_calls": _FLAT_CALLS,
        }
        return [f"{name} grew by {grown[name]:.0f}" for name, bound in bounds.items() if grown[name] > bound]


class _Load:
    """The clients that are no bystanders, each in a thread of its own."""

    def __init__(self, broker: ObservedBroker) -> None:
        self._broker = broker
        self._client = {"bootstrap.servers": broker.kafka, "log_level": 0}
        self._stop = threading.Event()
        self._rng = random.Random(5)
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        admin = AdminClient(self._client)
        admin.create_topics([NewTopic(_TOPIC, 4, config=_TOPIC_CONFIG)])[_TOPIC].result(30)
        work = (self._plain, self._transactions, self._members, self._topics, self._dropped, self._slow)
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client does not end"

    def _run(self, work: Callable[[int], None]) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                work(number)
            except (AssertionError, KafkaException, OSError) as error:
                self.faults.append(f"{work.__name__} {number}: {type(error).__name__}: {error}")
                self._stop.wait(1)
            self.done[work.__name__.strip("_")] += 1
            number += 1

    def _produce(self, producer: Producer, seconds: float, each: int = 500) -> None:
        failed: list[Any] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stop.is_set():
            for at in range(each // 10):
                value = self._rng.randbytes(self._rng.choice((10, 100, 1000)))
                producer.produce(
                    _TOPIC, value, str(at), on_delivery=lambda error, _: error and failed.append(error)
                )
            producer.poll(0)
            self._stop.wait(0.1)
        assert producer.flush(30) == 0, "not delivered within 30 s"
        assert not failed, failed[0]

    def _plain(self, number: int) -> None:
        config = {
            "enable.idempotence": bool(number % 2),
            "compression.type": ("none", "zstd", "lz4")[number % 3],
        }
        self._produce(Producer({**self._client, **config}), 3)

    def _transactions(self, number: int) -> None:
        producer = Producer({**self._client, "transactional.id": f"soak-{number % _NAMES}"})
        producer.init_transactions(30)
        for at in range(5):
            producer.begin_transaction()
            self._produce(producer, 0.2, 100)
            if at % 2:
                producer.commit_transaction(30)
            else:
                producer.abort_transaction(30)

    def _members(self, number: int) -> None:
        """Two members of a group; one goes while the other stays."""
        config = {
            "group.id": f"soak-{number % _NAMES}",
            "auto.offset.reset": "latest",
            "session.timeout.ms": 6000,
        }
        members = [Consumer({**self._client, **config}) for _ in range(2)]
        try:
            for member in members:
                member.subscribe([_TOPIC])
            self._consume(members, 3)
            members.pop().close()
            self._consume(members, 1)
        finally:
            for member in members:
                member.close()

    def _consume(self, members: list[Consumer], seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stop.is_set():
            for member in members:
                self.done["records read"] += len(member.consume(500, 0.05))

    def _topics(self, number: int) -> None:
        name = f"short-lived-{number % _NAMES}"
        admin = AdminClient(self._client)
        admin.create_topics([NewTopic(name, 3)])[name].result(30)
        producer = Producer(self._client)
        for at in range(30):
            producer.produce(name, b"x" * 100, partition=at % 3)
        assert producer.flush(30) == 0
        admin.delete_topics([name])[name].result(30)
        self._stop.wait(1)

    def _dropped(self, number: int) -> None:
        """Connections that end anywhere, some after nonsense."""
        requests = {
            "kafka": kafka_request(18, 0, b""),
            "mega": mega_request(2, _TOPIC, struct.pack(">ii", 0, 0)),
            "cursus": cursus_request("", b"LIST"),
        }
        for protocol, request in requests.items():
            for how in range(6):
                with contextlib.suppress(ConnectionError), self._connect(protocol) as connection:
                    if how == 0:
                        connection.sendall(self._rng.randbytes(200))
                    elif how == 1:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.sendall(
                        request[: self._rng.randrange(len(request))] if how < 4 else request * 3
                    )
                    if how == 5:
                        connection.recv(1000)
        self._stop.wait(0.5)

    def _slow(self, number: int) -> None:
        """Ask for more than is read, on every wire, and go away after a while."""
        fetch = struct.pack(">iiiib", -1, 100, 1, 4 * _MIB, 0) + struct.pack(">i", 1)
        fetch += struct.pack(">h", len(_TOPIC)) + _TOPIC.encode() + struct.pack(">iiqi", 1, 0, 0, 4 * _MIB)
        requests = {
            "kafka": kafka_request(1, 4, fetch) * 50 + kafka_request(3, 1, struct.pack(">i", -1)) * 500,
            "mega": mega_request(2, "by-mega", struct.pack(">ii", 0, 0)) * 1000,
            "cursus": cursus_request("", b"CONSUME by-mega 0 0"),
        }
        with contextlib.ExitStack() as stack:
            for protocol, request in requests.items():
                for _ in range(3):
                    connection = stack.enter_context(self._connect(protocol))
                    connection.settimeout(0.2)
                    with contextlib.suppress(OSError):
                        connection.sendall(request)
            self._stop.wait(3)

    def _connect(self, protocol: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._broker.ports[protocol]), 10)


def soak(seconds: float, tell: Callable[[Sample, Counter[str]], None]) -> Outcome:
    """Keep a broker busy for so long; ``tell`` is called once a minute."""
    with ObservedBroker(_CONFIG) as broker, Bystanders(broker.ports, pause=0.1) as bystanders:
        load = _Load(broker)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(60, left))
            tell(broker.samples[-1], load.done)
        load.stop()
        samples = broker.samples
        faults = load.faults + bystanders.faults
        if "Traceback" in broker.log:
            faults.append(broker.log[broker.log.index("Traceback") - 500 :][:3000])
    slowest = {name: round(took * 1000) for name, took in bystanders.slowest.items()}
    return Outcome(samples, {**load.done, **bystanders.counts}, slowest, faults)


def _tell(sample: Sample, done: Counter[str]) -> None:
    print(
        f"{time.strftime('%H:%M:%S')} {sample.resident_bytes / _MIB:.1f} MiB, {sample.blocks} blocks, "
        f"{sample.descriptors} descriptors, {sample.delayed_calls} delayed calls; {dict(done)}",
        flush=True,
    )


def main() -> int:
    """Soak as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    outcome = soak(parser.parse_args().minutes * 60, _tell)
    print("grown:", outcome.grown())
    print("done:", outcome.done)
    print(
        "slowest, ms:", outcome.slowest_ms, "reactor late, ms:", max(one.late_ms for one in outcome.samples)
    )
    wrong = outcome.faults + outcome.too_much()
    for one in wrong:
        print("wrong:", one)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
