"""Clients under quotas: how long they take, what they are told; the same from Apache Kafka."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from megabroker.client.mega import MessageClient
from megabroker.codec.batch import build_single
from megabroker.protocols.kafka.schema import (
    alter_client_quotas,
    create_topics,
    describe_client_quotas,
    fetch,
    metadata,
    produce,
)
from megabroker.protocols.kafka.schema.registry import (
    APIS,
    request_header_version,
    response_header_version,
)
from tests.brokers import BrokerProcess
from tests.interop.apache_kafka import ApacheKafka
from tests.interop.conftest import create_topic
from tests.interop.wires import CursusWire, receive, until

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]
Entity = tuple[tuple[str, str | None], ...]

_EXCEEDED = 89


class Wire:
    """A connection that sends requests of any kind as one client id."""

    def __init__(self, bootstrap: str, client_id: str = "setter", source: str = "127.0.0.1") -> None:
        host, _, port = bootstrap.rpartition(":")
        self._client_id = client_id.encode()
        self.socket = socket.create_connection((host, int(port)), 30, source_address=(source, 0))

    def ask(self, message: Any, version: int) -> Any:
        key = type(message).__schema__.key
        head = struct.pack(">hhih", key, version, 1, len(self._client_id)) + self._client_id
        head += b"\0" if request_header_version(key, version) == 2 else b""
        body = head + message.encode(version)
        self.socket.sendall(struct.pack(">i", len(body)) + body)
        data = receive(self.socket, struct.unpack(">i", receive(self.socket, 4))[0])
        answer, end = APIS[key].response.decode(data[4 + response_header_version(key, version) :], version)
        assert end + 4 + response_header_version(key, version) == len(data)
        return answer

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *why: object) -> None:
        self.socket.close()


def alter(bootstrap: str, entity: Entity, *ops: tuple[str, float | None], validate_only: bool = False) -> int:
    """Set and with None remove quotas; return the error code."""
    Entry = alter_client_quotas.Request.Entry
    entry = Entry(
        entity=[Entry.Entity(entity_type=kind, entity_name=name) for kind, name in entity],
        ops=[Entry.Op(key=key, value=value or 0.0, remove=value is None) for key, value in ops],
    )
    with Wire(bootstrap) as wire:
        asked = alter_client_quotas.Request(entries=[entry], validate_only=validate_only)
        return int(wire.ask(asked, 1).entries[0].error_code)


def describe(bootstrap: str, *components: tuple[str, int, str | None], strict: bool = False) -> Any:
    """Return the error code and what is told, in an order that does not depend on the broker."""
    Component = describe_client_quotas.Request.Component
    asked = [Component(entity_type=kind, match_type=how, match=match) for kind, how, match in components]
    with Wire(bootstrap) as wire:
        answer = wire.ask(describe_client_quotas.Request(components=asked, strict=strict), 1)
    told = [
        (
            sorted((one.entity_type, one.entity_name or "") for one in row.entity),
            sorted((one.key, one.value) for one in row.values),
        )
        for row in answer.entries or ()
    ]
    return answer.error_code, sorted(told)


@contextlib.contextmanager
def quotas(bootstrap: str, *entity: tuple[str, str | None], **values: float) -> Iterator[None]:
    """Set quotas for a while."""
    assert alter(bootstrap, entity, *values.items()) == 0
    try:
        yield
    finally:
        assert alter(bootstrap, entity, *((key, None) for key in values)) == 0


def write(bootstrap: str, topic: str, client_id: str, size: int) -> tuple[float, list[int]]:
    """Produce so many bytes with librdkafka; return the seconds, and the throttle times it was told."""
    told: list[int] = []
    settings = {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "linger.ms": 5,
        "batch.size": 50_000,
        "acks": 1,
        "throttle_cb": lambda event: told.append(round(event.throttle_time * 1000)),
    }
    began = time.monotonic()
    producer = Producer(settings)
    for _ in range(size // 10_000):
        producer.produce(topic, b"x" * 10_000)
    assert producer.flush(60) == 0
    producer.poll(0.1)
    return time.monotonic() - began, told


def read(bootstrap: str, topic: str, client_id: str, size: int) -> tuple[float, int]:
    """Consume so many bytes with librdkafka; return the seconds, and its longest throttle time."""
    longest = 0

    def stats(text: str) -> None:
        nonlocal longest
        rows = json.loads(text)["brokers"].values()
        longest = max(longest, *(row.get("throttle", {}).get("max", 0) for row in rows))

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "client.id": client_id,
            "group.id": client_id,
            "fetch.wait.max.ms": 100,
            "statistics.interval.ms": 100,
            "stats_cb": stats,
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    began = time.monotonic()
    found = 0
    while found < size and time.monotonic() < began + 60:
        for message in consumer.consume(100, 0.1):
            assert message.error() is None, message.error()
            found += len(message.value() or b"")
    took = time.monotonic() - began
    consumer.close()
    assert found == size
    return took, longest


def test_producers_and_consumers_of_librdkafka(kafka: str, new_topic: New, unique: Unique) -> None:
    """Limited ones are told and take their time, both at once; others are as quick as ever."""
    slow, slow_topic, quick_topic = unique("slow"), new_topic(1), new_topic(1)
    limit, size = 100_000, 1_400_000
    write(kafka, quick_topic, "other", size)
    with quotas(kafka, ("client-id", slow), producer_byte_rate=limit, consumer_byte_rate=limit):
        results: dict[str, Any] = {}

        def consume() -> None:
            results["read"] = read(kafka, quick_topic, slow, size)

        thread = threading.Thread(target=consume)
        thread.start()
        seconds, told = write(kafka, slow_topic, slow, size)
        others = [write(kafka, quick_topic, unique("other"), size) for _ in range(3)]
        thread.join(60)
    # Ten seconds' worth goes at once; eleven seconds later it is forgotten.
    least, most = size / limit - 11, 20
    assert least < seconds < most
    assert max(told) > 100
    took, longest = results["read"]
    assert least < took < most
    assert longest > 100
    for took, unlimited in others:
        assert took < 2
        assert max(unlimited, default=0) == 0


def test_time_of_requests(kafka: str, unique: Unique) -> None:
    """The answer comes at once, and the next one after the second that it tells."""
    name = unique("busy")
    with quotas(kafka, ("client-id", name), request_percentage=0.0001), Wire(kafka, name) as wire:
        began = time.monotonic()
        first = wire.ask(metadata.Request(topics=[]), 12)
        at_once = time.monotonic() - began
        wire.ask(metadata.Request(topics=[]), 12)
        assert first.throttle_time_ms == 1000
        assert at_once < 0.9 < time.monotonic() - began < 5


def make_too_fast(bootstrap: str, client_id: str, version: int) -> tuple[list[int], int]:
    """Ask for three topics of three partitions; return the error codes, and the throttle time told."""
    Topic = create_topics.Request.Topic
    topics = [Topic(name=f"{client_id}-{n}", num_partitions=3, replication_factor=1) for n in range(3)]
    asked = create_topics.Request(topics=topics, timeout_ms=10_000, validate_only=True)
    with Wire(bootstrap, client_id) as wire:
        answer = wire.ask(asked, version)
    return [row.error_code for row in answer.topics], answer.throttle_time_ms


def test_topics_made_too_fast(kafka: str, unique: Unique) -> None:
    """Five and a half partitions at once: newer clients are refused the third topic, older ones wait."""
    new, old = unique("new"), unique("old")
    with quotas(kafka, ("client-id", new), controller_mutation_rate=0.5):
        codes, throttle_ms = make_too_fast(kafka, new, 7)
        assert sorted(codes) == [0, 0, _EXCEEDED]
        assert throttle_ms == pytest.approx(1000, rel=0.2)
    with quotas(kafka, ("client-id", old), controller_mutation_rate=0.5):
        codes, throttle_ms = make_too_fast(kafka, old, 5)
        assert codes == [0, 0, 0]
        assert throttle_ms == pytest.approx(7000, rel=0.1)


def test_connections_of_an_address(kafka: str) -> None:
    """One too many is closed without an answer, a moment later; other addresses are not."""
    with quotas(kafka, ("ip", "127.0.0.5"), connection_creation_rate=1.0):
        for _ in range(10):
            with Wire(kafka, source="127.0.0.5") as wire:
                assert wire.ask(metadata.Request(topics=[]), 12).brokers
        began = time.monotonic()
        with Wire(kafka, source="127.0.0.5") as wire, pytest.raises(ConnectionError):
            wire.ask(metadata.Request(topics=[]), 12)
        assert 0.3 < time.monotonic() - began < 5
        with Wire(kafka, source="127.0.0.6") as wire:
            assert wire.ask(metadata.Request(topics=[]), 12).brokers


def test_kept_over_a_restart_and_for_every_wire() -> None:
    """Whoever has no name of its own is the user ANONYMOUS, and all of them together are limited."""
    with BrokerProcess() as broker:
        limits = {"producer_byte_rate": 100_000.0, "consumer_byte_rate": 100_000.0}
        assert alter(broker.kafka, (("user", None),), *limits.items()) == 0
        topic = create_topic(broker.kafka, "t")
        broker.restart()
        assert describe(broker.kafka) == (0, [([("user", "")], sorted(limits.items()))])
        message = b"x" * 50_000
        with MessageClient("127.0.0.1", broker.ports["mega"]) as mega:
            began = time.monotonic()
            for _ in range(22):
                assert mega.produce(topic, message)["success"]
            assert 0.4 < time.monotonic() - began < 10
        with CursusWire(broker.ports["cursus"]) as cursus:
            assert cursus.ask("first" * 10_000, topic) == "OK"
            began = time.monotonic()
            assert cursus.ask("second" * 10_000, topic) == "OK"
            assert 0.4 < time.monotonic() - began < 10
        assert written_at_once(broker.kafka, topic, "any", 10) > 400
        with CursusWire(broker.ports["cursus"]) as cursus:
            began = time.monotonic()
            assert len(list(cursus.consume(topic, 0, 0))) == 25
            assert 0.4 < time.monotonic() - began < 20
        with MessageClient("127.0.0.1", broker.ports["mega"]) as mega:
            assert mega.consume(topic, 0)["success"]
            began = time.monotonic()
            assert mega.consume(topic, 1)["success"]
            assert 0.4 < time.monotonic() - began < 20


def test_topics_made_too_fast_over_other_wires() -> None:
    with BrokerProcess() as broker:
        assert alter(broker.kafka, (("user", "ANONYMOUS"),), ("controller_mutation_rate", 0.01)) == 0
        with CursusWire(broker.ports["cursus"]) as cursus:
            assert "now has 20 partitions" in cursus.ask("CREATE many 20")
            for command in ("CREATE one", "DELETE many", "CREATE many 30"):
                assert "controller_mutation_rate of 0.01 is exceeded" in cursus.ask(command), command
            for command in ("CREATE topic=one", "DELETE topic=many", "CREATE topic=many partitions=30"):
                assert cursus.ask(command).startswith("ERROR: broker_not_available"), command
        with MessageClient("127.0.0.1", broker.ports["mega"]) as mega:
            assert mega.create_topic("one")["error_code"] == "RESOURCE_EXHAUSTED"


def test_events_and_snapshots_of_cursus_are_counted() -> None:
    with BrokerProcess() as broker, CursusWire(broker.ports["cursus"]) as cursus:
        assert cursus.ask("CREATE topic=es partitions=1 event_sourcing=true").startswith("OK")
        assert cursus.ask("APPEND_STREAM topic=es key=k version=1 message=m").startswith("OK")
        assert cursus.ask(f"SAVE_SNAPSHOT topic=es key=k version=1 message={'x' * 60_000}").startswith("OK")
        limits = {"producer_byte_rate": 50_000.0, "consumer_byte_rate": 50_000.0}
        assert alter(broker.kafka, (("user", "ANONYMOUS"),), *limits.items()) == 0
        metadata = "m" * 30_000
        commands = [
            ["READ_SNAPSHOT topic=es key=k"] * 10,
            [
                f"APPEND_STREAM topic=es key=k version={2 + n} metadata={metadata} message=m"
                for n in range(20)
            ],
        ]
        for some in commands:
            began = time.monotonic()
            for command in some:
                assert cursus.ask(command).startswith("OK")
            assert time.monotonic() - began > 0.4  # 600,000 bytes, of 500,000 that ten seconds have


def written_at_once(bootstrap: str, topic: str, client_id: str, size: int) -> int:
    """Produce one batch; return the throttle time that is told."""
    Topic = produce.Request.Topic
    rows = [Topic.Partition(index=0, records=build_single(None, b"x" * size, int(time.time() * 1000)))]
    with Wire(bootstrap, client_id) as wire:
        asked = produce.Request(acks=1, timeout_ms=1000, topic_data=[Topic(name=topic, partition_data=rows)])
        answer = wire.ask(asked, 9)
    assert answer.responses[0].partition_responses[0].error_code == 0
    return int(answer.throttle_time_ms)


def read_at_once(wire: Wire, topic: str) -> tuple[bool, int]:
    """Fetch; return whether there were records, and the throttle time that is told."""
    Topic = fetch.Request.Topic
    part = Topic.Partition(partition=0, fetch_offset=0, partition_max_bytes=60_500)
    asked = fetch.Request(
        max_wait_ms=100, min_bytes=1, max_bytes=1 << 20, topics=[Topic(topic=topic, partitions=[part])]
    )
    answer = wire.ask(asked, 12)
    return any(row.records for one in answer.responses for row in one.partitions), int(
        answer.throttle_time_ms
    )


ALTERATIONS: tuple[tuple[Entity, tuple[tuple[str, float | None], ...]], ...] = (
    ((("user", "alice"),), (("producer_byte_rate", 1024.0), ("request_percentage", 12.5))),
    ((("user", "alice"), ("client-id", None)), (("consumer_byte_rate", 1.0),)),
    ((("user", None),), (("controller_mutation_rate", 0.5),)),
    ((("client-id", "app"),), (("producer_byte_rate", 5.0),)),
    ((("ip", "10.1.2.3"),), (("connection_creation_rate", 5.0),)),
    ((("ip", None),), (("connection_creation_rate", 2147483647.0),)),
    ((("user", "alice"),), (("request_percentage", None), ("consumer_byte_rate", None))),
    ((("user", "bob"),), (("no_such", None),)),
    ((("user", "bob"),), (("no_such", 1.0),)),
    ((("user", "bob"),), (("producer_byte_rate", 1.5),)),
    ((("user", "bob"),), (("producer_byte_rate", -1.0),)),
    ((("user", "bob"),), (("request_percentage", -0.5),)),
    ((("user", "bob"),), (("producer_byte_rate", 1e30),)),
    ((("user", "bob"),), (("connection_creation_rate", 1.0),)),
    ((("user", "bob"),), (("producer_byte_rate", 1.0), ("producer_byte_rate", 2.0))),
    ((("user", ""),), (("producer_byte_rate", 1.0),)),
    ((("client-id", ""),), (("producer_byte_rate", 1.0),)),
    ((("ip", "10.1.2.3"),), (("producer_byte_rate", 1.0),)),
    ((("ip", "10.1.2.3"),), (("connection_creation_rate", 2147483648.0),)),
    ((("ip", "10.1.2.3"), ("user", "bob")), (("connection_creation_rate", 1.0),)),
    ((("planet", "mars"),), (("producer_byte_rate", 1.0),)),
    ((), (("producer_byte_rate", 1.0),)),
)

QUESTIONS: tuple[tuple[tuple[tuple[str, int, str | None], ...], bool], ...] = (
    ((), False),
    ((), True),
    ((("user", 0, "alice"),), False),
    ((("user", 0, "alice"),), True),
    ((("user", 1, None),), True),
    ((("user", 2, None),), False),
    ((("user", 2, None), ("client-id", 1, None)), True),
    ((("client-id", 2, None),), True),
    ((("ip", 2, None),), False),
    ((("ip", 0, "10.9.9.9"),), False),
    ((("planet", 2, None),), False),
    ((("", 2, None),), False),
    ((("user", 7, None),), False),
    ((("user", 0, None),), False),
    ((("user", 1, "x"),), False),
    ((("user", 2, None), ("user", 1, None)), False),
    ((("user", 2, None), ("ip", 2, None)), False),
)


def test_as_apache_kafka_does(apache_kafka: ApacheKafka) -> None:
    """The same requests have the same answers; the same bytes at once the same time to wait."""
    with BrokerProcess() as broker:
        both = (broker.kafka, apache_kafka.kafka)
        for entity, ops in ALTERATIONS:
            for validate_only in (True, False):
                ours, theirs = (alter(one, entity, *ops, validate_only=validate_only) for one in both)
                assert ours == theirs, (entity, ops, validate_only)
        until(lambda: len(describe(apache_kafka.kafka)[1]) == len(describe(broker.kafka)[1]))
        for components, strict in QUESTIONS:
            ours, theirs = (describe(one, *components, strict=strict) for one in both)
            assert ours == theirs, (components, strict)
        for entity, ops in ALTERATIONS[:6]:
            for one in both:
                alter(one, entity, *((key, None) for key, _ in ops))
        told: list[list[Any]] = []
        for one in both:
            limits = {"producer_byte_rate": 10_000.0, "consumer_byte_rate": 10_000.0}
            topic, other = create_topic(one, "limited"), create_topic(one, "other")
            with quotas(one, ("client-id", None), **limits), Wire(one, "fresh") as reading:
                # Each client id has a count of its own; whether the quota is in force another finds out.
                until(lambda one=one, other=other: written_at_once(one, other, "scout", 90_000))
                waits: list[Any] = [written_at_once(one, topic, "fresh", size) for size in (60_000, 50_000)]
                waits.append(read_at_once(reading, topic))
                waits.append(read_at_once(reading, topic))
                told.append(waits)
        made = []
        for one in both:
            with quotas(one, ("client-id", None), controller_mutation_rate=0.5):
                until(lambda one=one: _EXCEEDED in make_too_fast(one, "scout", 7)[0])
                made.append([make_too_fast(one, f"maker-{version}", version) for version in (5, 7)])
        for (our_codes, our_ms), (their_codes, their_ms) in zip(*made, strict=True):
            assert sorted(our_codes) == sorted(their_codes)
            assert our_ms == pytest.approx(their_ms, rel=0.2)
        ours, theirs = told
        assert ours[0] == theirs[0] == 0
        assert ours[1] == pytest.approx(theirs[1], rel=0.15)
        assert ours[2] == theirs[2] == (True, 0)
        assert (ours[3][0], theirs[3][0]) == (False, False)
        assert ours[3][1] == pytest.approx(theirs[3][1], rel=0.15)
