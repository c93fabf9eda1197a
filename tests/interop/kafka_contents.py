"""What is written into a real Kafka before its directory is opened, and reading it back from any broker.

Everything that can be told apart by a client: codecs, headers, null keys and values, transactions of all
outcomes, groups, configurations, a topic made anew under its old name, a compacted one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import attrs
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

__all__ = [
    "CODECS",
    "CONFIGS",
    "Contents",
    "admin_of",
    "contents_of",
    "create",
    "fill",
    "leave_open",
    "produce",
    "transact",
]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
CONFIGS = {
    "retention.ms": "123456789",
    "max.message.bytes": "2000000",
    "message.timestamp.type": "LogAppendTime",
}
_COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
}
_SET_ON_TOPIC, _SET_ON_BROKER = 1, 2  # the sources DescribeConfigs tells
_SECONDS = 30.0
_COMPACTION_SECONDS = 40.0

Row = tuple[int, bytes | None, bytes | None, tuple[Any, ...], tuple[int, int]]
"""Offset, key, value, headers, (timestamp type, timestamp)."""


@attrs.frozen
class Contents:
    """What a broker tells its clients.

    Attributes:
        ids: topic ids.
        rows: by partition, what read_uncommitted consumers see.
        committed: the same for read_committed.
        ends: by partition, the offset the next record gets.
        configs: what is set on each topic.
        broker: what is set on the broker while it runs.
        groups: committed offsets by group.
    """

    ids: dict[str, str]
    rows: dict[tuple[str, int], list[Row]]
    committed: dict[tuple[str, int], list[Row]]
    ends: dict[tuple[str, int], int]
    configs: dict[str, dict[str, str]]
    broker: dict[str, str]
    groups: dict[str, dict[tuple[str, int], tuple[int, str | None]]]


def admin_of(bootstrap: str) -> AdminClient:
    """Return an administrator who keeps quiet when brokers go."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def fill(bootstrap: str) -> None:
    """Write everything but what stays open."""
    admin = admin_of(bootstrap)
    create(admin, NewTopic("anew", 2, 1))
    produce(bootstrap, "anew", 10, "none")
    admin.delete_topics(["anew"])["anew"].result(_SECONDS)
    time.sleep(0.5)
    create(
        admin,
        NewTopic("anew", 1, 1),
        NewTopic("plain", 3, 1),
        NewTopic("configured", 1, 1, config=CONFIGS),
        NewTopic("compacted", 1, 1, config=_COMPACTED),
        NewTopic("transactional", 2, 1),
        NewTopic("empty", 2, 1),
    )
    for codec in CODECS:
        produce(bootstrap, "plain", 60, codec)
    produce(bootstrap, "configured", 20, "lz4")
    produce(bootstrap, "anew", 5, "none")
    for deleted in admin.delete_records([TopicPartition("plain", 2, 15)]).values():
        deleted.result(_SECONDS)
    _set_on_broker(admin)
    transact(bootstrap)
    _commit(
        bootstrap, "group", [TopicPartition("plain", 0, 7, metadata="a note"), TopicPartition("plain", 1, 9)]
    )
    _commit(bootstrap, "group", [TopicPartition("plain", 1, 11)])
    _compact(bootstrap)


def leave_open(bootstrap: str) -> tuple[Producer, Producer]:
    """Leave a transaction open, and an idempotent producer that goes on; return both."""
    open_one = Producer({"bootstrap.servers": bootstrap, "transactional.id": "open", "log_level": 0})
    open_one.init_transactions(_SECONDS)
    open_one.begin_transaction()
    open_one.produce("transactional", b"never decided", partition=0)
    assert open_one.flush(_SECONDS) == 0
    settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0}
    idempotent = Producer({**settings, "message.timeout.ms": 60_000})
    for number in range(10):
        idempotent.produce("plain", f"idempotent {number}".encode(), partition=0)
    assert idempotent.flush(_SECONDS) == 0
    return open_one, idempotent


def contents_of(bootstrap: str, groups: Iterable[str] = ("group", "transactional group")) -> Contents:
    """Read everything a client can see."""
    admin = admin_of(bootstrap)
    names = sorted(name for name in admin.list_topics(timeout=_SECONDS).topics if not name.startswith("__"))
    described = admin.describe_topics(TopicCollection(names))
    topics = {name: answer.result(_SECONDS) for name, answer in described.items()}
    partitions = [(name, one.id) for name, topic in sorted(topics.items()) for one in topic.partitions]
    ends = admin.list_offsets({TopicPartition(*one): OffsetSpec.latest() for one in partitions})
    return Contents(
        ids={name: str(topic.topic_id) for name, topic in topics.items()},
        rows=_read(bootstrap, partitions, "read_uncommitted"),
        committed=_read(bootstrap, partitions, "read_committed"),
        ends={(where.topic, where.partition): one.result(_SECONDS).offset for where, one in ends.items()},
        configs={name: _configs(admin, ConfigResource.Type.TOPIC, name, _SET_ON_TOPIC) for name in names},
        broker=_configs(admin, ConfigResource.Type.BROKER, "1", _SET_ON_BROKER),
        groups={group: _offsets(admin, group) for group in groups},
    )


# --- writing ---------------------------------------------------------------------------------------


def create(admin: AdminClient, *topics: NewTopic) -> None:
    """Create topics."""
    for answer in admin.create_topics(list(topics)).values():
        answer.result(_SECONDS)


def produce(bootstrap: str, topic: str, count: int, codec: str) -> None:
    """Write records of all kinds, spread over the topic's partitions."""
    settings = {"bootstrap.servers": bootstrap, "compression.type": codec, "log_level": 0, "linger.ms": 20}
    producer = Producer(settings)
    partitions = len(producer.list_topics(topic, _SECONDS).topics[topic].partitions)
    for number in range(count):
        producer.produce(
            topic,
            None if number % 7 == 3 else f"{codec} value {number} ".encode() * (1 + number % 5),
            None if number % 5 == 2 else f"key {number % 4}".encode(),
            partition=number % partitions,
            headers=[("number", str(number).encode()), ("nothing", None)] if number % 3 == 0 else [],
        )
        if number % 20 == 19:
            producer.flush(_SECONDS)
    assert producer.flush(_SECONDS) == 0


def transact(bootstrap: str) -> None:
    """Commit, abort and commit a transaction each with records and an offset; the topics are there."""
    for outcome in ("commit", "abort", "commit"):
        producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": outcome, "log_level": 0})
        producer.init_transactions(_SECONDS)
        producer.begin_transaction()
        for partition in (0, 1):
            for number in range(3):
                producer.produce("transactional", f"{outcome} {number}".encode(), partition=partition)
        assert producer.flush(_SECONDS) == 0  # aborting throws away what was not sent
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "transactional group", "log_level": 0}
        )
        offset = TopicPartition("plain", 2, 4 if outcome == "commit" else 1)
        producer.send_offsets_to_transaction([offset], consumer.consumer_group_metadata(), _SECONDS)
        if outcome == "commit":
            producer.commit_transaction(_SECONDS)
        else:
            producer.abort_transaction(_SECONDS)
        consumer.close()


def _commit(bootstrap: str, group: str, offsets: list[TopicPartition]) -> None:
    admin = admin_of(bootstrap)
    wanted = [ConsumerGroupTopicPartitions(group, offsets)]
    for answer in admin.alter_consumer_group_offsets(wanted).values():
        answer.result(_SECONDS)


def _set_on_broker(admin: AdminClient) -> None:
    change = ConfigEntry("log.retention.ms", "987654321", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[change])
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(_SECONDS)


def _compact(bootstrap: str) -> None:
    """Write until the cleaner has taken records out."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + _COMPACTION_SECONDS
    written = 0
    while time.monotonic() < deadline:
        for _ in range(20):
            producer.produce("compacted", f"value {written}".encode(), f"key {written % 3}".encode())
            written += 1
        producer.flush(_SECONDS)
        time.sleep(0.4)
        if len(_read(bootstrap, [("compacted", 0)], "read_uncommitted")["compacted", 0]) < written - 10:
            return
    raise AssertionError("Kafka has not compacted")


# --- reading ---------------------------------------------------------------------------------------


def _read(
    bootstrap: str, partitions: Iterable[tuple[str, int]], isolation: str
) -> dict[tuple[str, int], list[Row]]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "check.crcs": True,
            "fetch.wait.max.ms": 50,
            "log_level": 0,
        }
    )
    found: dict[tuple[str, int], list[Row]] = {where: [] for where in partitions}
    unfinished = set(found)
    try:
        consumer.assign([TopicPartition(*where, 0) for where in found])
        while unfinished:
            message = consumer.poll(_SECONDS)
            assert message is not None, f"no end of {unfinished} in {_SECONDS} s"
            where = message.topic(), message.partition()
            error = message.error()
            if error is not None:
                if error.name() != "_PARTITION_EOF":
                    raise KafkaException(error)
                unfinished.discard(where)
                continue
            headers = tuple(message.headers() or ())
            row = message.offset(), message.key(), message.value(), headers, message.timestamp()
            found[where].append(row)
    finally:
        consumer.close()
    return found


def _configs(admin: AdminClient, kind: ConfigResource.Type, name: str, source: int) -> dict[str, str]:
    (answer,) = admin.describe_configs([ConfigResource(kind, name)]).values()
    return {key: entry.value for key, entry in answer.result(_SECONDS).items() if entry.source == source}


def _offsets(admin: AdminClient, group: str) -> dict[tuple[str, int], tuple[int, str | None]]:
    (answer,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    found = answer.result(_SECONDS).topic_partitions
    return {(one.topic, one.partition): (one.offset, one.metadata) for one in found}
