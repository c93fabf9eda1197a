"""Cases about records: writing, reading, finding offsets."""

from __future__ import annotations

from typing import Any

from megabroker.codec.records import build
from tests.interop.differential import Case, Request, create

__all__ = ["CASES", "batch", "produce"]

_STAMP_MS = 1_700_000_000_000
_LAST_EPOCH = 2**31 - 1
_OF_REFUSALS = ("log_append_time_ms", "log_start_offset")
"""Kafka tells the start of the log with some refusals."""


def batch(count: int = 1, key: bytes | None = b"k", stamp_ms: int = _STAMP_MS, **rest: int) -> bytes:
    """Return a batch of records whose timestamps are 1 ms apart."""
    return bytes(build([(key, b"v", (), stamp_ms + number) for number in range(count)], **rest))


def produce(topic: str, *batches: bytes | None, index: int = 0, version: int = 9, **rest: Any) -> Request:
    """Write batches to one partition.

    Not compared is the time of appending: Kafka tells that of a batch it had already.
    """
    partitions = [{"index": index, "records": one} for one in batches]
    values = {"acks": -1, "timeout_ms": 5000, "topic_data": [{"name": topic, "partition_data": partitions}]}
    return Request("Produce", version, {**values, **rest}, ignore=["log_append_time_ms"])


def writing() -> Case:
    yield from create("written", 2)
    yield produce("written", batch())
    yield produce("written", batch(3), acks=1)
    yield produce("written", batch(), acks=2)
    yield produce("written", batch(), acks=-2)
    yield produce("written", batch(), index=5)
    yield produce("written", batch(), index=-1)
    yield produce("no-such-topic", batch())
    yield produce("", batch())
    yield produce("bad name", batch())
    yield produce("written", None)
    yield produce("written", b"")
    yield produce("written", batch()[:40])
    yield produce("written", batch() + batch())
    yield produce("written", batch(), transactional_id="never-seen")
    twice = produce("written", batch(), batch(), index=1)
    yield twice._replace(apart="Kafka stores the last of what is named twice, here all is stored")
    for version in (3, 5, 7, 8, 10, 11, 12):
        yield produce("written", batch(), version=version)
        yield produce("no-such-topic", batch(), version=version)
    values = {"acks": -1, "timeout_ms": 5000, "topic_data": []}
    yield Request("Produce", 9, values)
    yield Request(
        "Produce",
        13,
        {
            **values,
            "topic_data": [{"topic_id": b"\1" * 16, "partition_data": [{"index": 0, "records": batch()}]}],
        },
    )
    yield Request(
        "Produce",
        13,
        {
            **values,
            "topic_data": [{"topic_id": bytes(16), "partition_data": [{"index": 0, "records": batch()}]}],
        },
    )


def damaged() -> Case:
    yield from create("damaged")
    good = batch(2)

    def changed(at: int, *to: int) -> bytes:
        wrong = bytearray(good)
        wrong[at : at + len(to)] = bytes(to)
        return bytes(wrong)

    yield produce("damaged", changed(len(good) - 2, 7))  # a record: the checksum tells
    yield produce("damaged", changed(16, 1))  # magic
    yield produce("damaged", changed(16, 9))
    yield produce("damaged", changed(8, 0, 0, 0, 1))  # length
    yield produce("damaged", good[:-1])
    yield produce("damaged", good)
    based = produce("damaged", changed(0, 0, 0, 0, 0, 0, 0, 0, 9))
    yield based._replace(apart="the base offset that a client writes means nothing")
    more = produce("damaged", good + b"\0")
    yield more._replace(apart="Kafka drops bytes after the batch, here nothing is stored")


def contents() -> Case:
    yield from create("keyed", cleanup_policy="compact")
    yield from create("small", max_message_bytes="200")
    yield from create("stamped", message_timestamp_type="LogAppendTime")
    yield from create(
        "punctual", message_timestamp_before_max_ms="1000", message_timestamp_after_max_ms="1000"
    )
    yield produce("keyed", batch(1, None))._replace(ignore=_OF_REFUSALS)
    yield produce("keyed", batch(3, None))._replace(ignore=_OF_REFUSALS)
    yield produce("keyed", batch(1))
    yield produce("small", batch(1))
    yield produce("small", batch(100))
    yield produce("stamped", batch(2), version=9)
    yield produce("punctual", batch(2))._replace(ignore=_OF_REFUSALS)
    yield produce("punctual", batch(1, stamp_ms=_STAMP_MS * 2))._replace(ignore=_OF_REFUSALS)
    yield produce("punctual", batch(1, stamp_ms=-1))
    for codec in (1, 2, 3, 4):
        yield produce("keyed", batch(2, compression=codec))
    yield produce("keyed", batch(1, attributes=0x20))._replace(ignore=_OF_REFUSALS)
    yield produce("keyed", batch(1, attributes=0x40))
    alone = "a transaction without a transactional id is INVALID_TXN_STATE, to Kafka a matter of rights"
    yield produce("keyed", batch(1, attributes=0x10))._replace(apart=alone)
    stamped = "Kafka takes a batch that says it has the broker's time"
    yield produce("keyed", batch(1, attributes=0x08))._replace(apart=stamped)
    early = "zstd is taken from clients of before its time"
    yield produce("keyed", batch(1, compression=4), version=6)._replace(apart=early)


def idempotent_writing() -> Case:
    yield from create("numbered")
    found = yield Request("InitProducerId", 4, {"transactional_id": None, "transaction_timeout_ms": 1000})
    producer = found["producer_id"]

    def numbered(sequence: int, count: int = 1, epoch: int = 0, producer_id: int = producer) -> Request:
        one = batch(count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
        return produce("numbered", one)._replace(ignore=_OF_REFUSALS)

    yield numbered(0)
    yield numbered(0)
    yield numbered(2)
    yield numbered(1, 3)
    yield numbered(1, 3)
    yield numbered(1, 2)
    yield numbered(4, epoch=1)
    yield numbered(0, epoch=1)
    yield numbered(1, epoch=0)
    yield numbered(5, producer_id=producer + 1000)
    yield numbered(0, producer_id=producer + 1001)
    yield numbered(-1)
    yield numbered(1, epoch=1)
    for sequence in range(2, 8):
        yield numbered(sequence, epoch=1)
    yield numbered(2, epoch=1)
    yield numbered(3, epoch=1)
    yield Request(
        "DescribeProducers",
        0,
        {
            "topics": [
                {"name": "numbered", "partition_indexes": [0, 5]},
                {"name": "no-such", "partition_indexes": [0]},
            ]
        },
        ignore=["last_timestamp", "active_producers"],
    )


def _fetch(topic: str, offset: int, version: int = 12, index: int = 0, **rest: Any) -> Request:
    partition = {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1_000_000}
    for name in ("current_leader_epoch", "last_fetched_epoch", "log_start_offset", "partition_max_bytes"):
        if name in rest:
            partition[name] = rest.pop(name)
    values = {"max_wait_ms": 50, "min_bytes": 1, "max_bytes": 1_000_000}
    values["topics"] = [{"topic": topic, "partitions": [partition]}]
    return Request("Fetch", version, {**values, **rest}, ignore=["records", "session_id"])


def reading() -> Case:
    yield from create("read", 2)
    for _ in range(3):
        yield produce("read", batch(2))
    for offset in (0, 1, 5, 6, 7, -1, -5, 2**62):
        yield _fetch("read", offset)
    yield _fetch("read", 0, index=7)
    yield _fetch("read", 0, index=-1)
    yield _fetch("no-such-topic", 0)
    yield _fetch("", 0)
    for epoch in (0, 1, 5, -1):
        yield _fetch("read", 0, current_leader_epoch=epoch)
    for epoch in (0, -1):
        yield _fetch("read", 2, last_fetched_epoch=epoch)
    for size in (0, 1, -1):
        yield _fetch("read", 0, max_bytes=size)
        yield _fetch("read", 0, partition_max_bytes=size)
    yield _fetch("read", 0, isolation_level=1)
    yield _fetch("read", 0, isolation_level=2)
    yield _fetch("read", 0, log_start_offset=3)
    yield _fetch("read", 0, cluster_id="another")
    yield _fetch("read", 0, min_bytes=1000, max_wait_ms=0)
    yield _fetch("read", 0, min_bytes=0, max_wait_ms=-1)
    yield _fetch("read", 0, version=11, session_id=77, session_epoch=3)
    yield _fetch("read", 0, version=11, session_id=77, session_epoch=-1)
    yield _fetch("read", 0, version=11, session_id=0, session_epoch=5)
    for version in (4, 5, 7, 8, 9, 10, 11):
        yield _fetch("read", 0, version=version)
        yield _fetch("no-such-topic", 0, version=version)
    found = yield Request("Metadata", 12, {"topics": [{"name": "read"}]}, compare=False)
    for topic_id in (found["topics"][0]["topic_id"], b"\1" * 16, bytes(16)):
        for version in (13, 15, 16, 17, 18):
            partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
            topics = [{"topic_id": topic_id, "partitions": [partition]}]
            values = {"max_wait_ms": 10, "min_bytes": 1, "max_bytes": 1000, "topics": topics}
            yield Request("Fetch", version, values, ignore=["records", "session_id"])
    yield Request("Fetch", 12, {"max_wait_ms": 10, "min_bytes": 1, "topics": []})


def fetch_sessions() -> Case:
    yield from create("session", 2)
    yield produce("session", batch(1))
    partitions = [{"partition": index, "fetch_offset": 0, "partition_max_bytes": 1000} for index in (0, 1)]

    def ask(session: int, epoch: int, topics: list[Any], forgotten: list[Any]) -> Request:
        values = {"max_wait_ms": 50, "min_bytes": 1, "max_bytes": 1000, "topics": topics}
        values |= {"session_id": session, "session_epoch": epoch, "forgotten_topics_data": forgotten}
        return Request("Fetch", 12, values, ignore=["records", "session_id"])

    all_of_it = [{"topic": "session", "partitions": partitions}]
    begun = yield ask(0, 0, all_of_it, [])
    session = begun["session_id"]
    yield ask(session, 1, [], [])
    yield ask(session, 1, [], [])
    yield ask(session, 2, [{"topic": "session", "partitions": [{**partitions[0], "fetch_offset": 1}]}], [])
    yield ask(session, 3, [{"topic": "session", "partitions": [{**partitions[0], "fetch_offset": 9}]}], [])
    yield ask(session, 4, [{"topic": "no-such-topic", "partitions": partitions}], [])
    yield ask(session, 5, [], [{"topic": "session", "partitions": [0]}])
    yield ask(session, 6, [], [{"topic": "session", "partitions": [0]}])
    yield ask(session, 9, [], [])
    yield ask(session, -1, [], [])
    yield ask(session, 7, [], [])


def finding_offsets() -> Case:
    yield from create("dated", 2)
    yield produce("dated", batch(3))
    yield produce("dated", batch(3, stamp_ms=_STAMP_MS - 1000))

    def ask(stamp: int, topic: str = "dated", index: int = 0, version: int = 7, **rest: Any) -> Request:
        partition = {"partition_index": index, "timestamp": stamp}
        if "current_leader_epoch" in rest:
            partition["current_leader_epoch"] = rest.pop("current_leader_epoch")
        values = {"replica_id": -1, "topics": [{"name": topic, "partitions": [partition]}], **rest}
        return Request("ListOffsets", version, values)

    for index in (0, 1):
        for stamp in (
            -1,
            -2,
            -3,
            0,
            1,
            _STAMP_MS - 1000,
            _STAMP_MS - 999,
            _STAMP_MS,
            _STAMP_MS + 2,
            _STAMP_MS + 3,
        ):
            yield ask(stamp, index=index)
    for version, stamp in (
        (7, -4),
        (8, -4),
        (9, -5),
        (11, -6),
        (11, -7),
        (9, -6),
        (8, -5),
        (6, -3),
        (7, -100),
        (11, -4),
        (11, -5),
    ):
        yield ask(stamp, version=version)
    yield ask(-1, index=7)
    yield ask(-1, index=-1)
    yield ask(-1, "no-such-topic")
    yield ask(-1, "")
    for epoch in (0, 1, 9):
        yield ask(-1, current_leader_epoch=epoch)
    for level in (0, 1, 2):
        yield ask(-1, isolation_level=level)
    for replica in (-1, -2, 5, 0):
        yield ask(-1, replica_id=replica)
    for version in range(1, 12):
        yield ask(-1, version=version)
        yield ask(_STAMP_MS, version=version)
        yield ask(-1, "no-such-topic", version=version)
    yield Request("ListOffsets", 7, {"replica_id": -1, "topics": []})


def leader_epochs() -> Case:
    yield from create("epochs")
    yield produce("epochs", batch(3))

    def ask(topic: str, index: int, current: int, epoch: int, version: int = 4, replica: int = -1) -> Request:
        one = {"partition": index, "current_leader_epoch": current, "leader_epoch": epoch}
        topics = [{"topic": topic, "partitions": [one]}]
        return Request("OffsetForLeaderEpoch", version, {"replica_id": replica, "topics": topics})

    for current, epoch in ((-1, 0), (0, 0), (-1, 1), (-1, -1), (5, 0), (-1, 9), (-1, _LAST_EPOCH)):
        yield ask("epochs", 0, current, epoch)
    yield ask("epochs", 3, -1, 0)
    yield ask("no-such-topic", 0, -1, 0)
    yield ask("epochs", 0, -1, 0, version=2, replica=-2)
    yield ask("epochs", 0, -1, 0, version=3, replica=-2)


CASES = {
    case.__name__: case
    for case in (
        writing,
        damaged,
        contents,
        idempotent_writing,
        reading,
        fetch_sessions,
        finding_offsets,
        leader_epochs,
    )
}
