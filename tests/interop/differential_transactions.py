"""Cases about transactions, and what tells of the cluster."""

from __future__ import annotations

from typing import Any

from tests.interop.differential import Case, Request, create
from tests.interop.differential_data import batch, produce

__all__ = ["CASES"]


def _init(name: str | None, timeout_ms: int = 60_000, version: int = 4, **rest: Any) -> Request:
    values = {"transactional_id": name, "transaction_timeout_ms": timeout_ms}
    return Request("InitProducerId", version, {**values, **rest})


def producer_ids() -> Case:
    yield _init("")
    yield _init("t", 0)
    yield _init("t", -1)
    yield _init("t", 10**9)
    yield _init("t", producer_id=5)
    yield _init("t", producer_epoch=5)
    yield _init("t", producer_id=5, producer_epoch=5)
    yield _init(None, 0)
    yield _init(None, -1)
    yield _init(None, producer_id=5, producer_epoch=5)
    first = yield _init("t")
    yield _init("t")
    mine = {"producer_id": first["producer_id"], "producer_epoch": first["producer_epoch"]}
    yield _init("t", **mine)
    yield _init("t", producer_id=first["producer_id"], producer_epoch=1)
    yield _init("t", producer_id=first["producer_id"], producer_epoch=9)
    yield _init("t", producer_id=first["producer_id"] + 999, producer_epoch=2)
    for version in (0, 1, 2, 3, 5):
        yield _init("t", version=version)


def _add(name: str, producer: int, epoch: int, *topics: tuple[str, int], version: int = 3) -> Request:
    rows = [{"name": topic, "partitions": [index]} for topic, index in topics]
    values = {"transactional_id": name, "producer_id": producer, "producer_epoch": epoch}
    if version < 4:
        old = {f"v3_and_below_{key}": value for key, value in values.items()}
        return Request("AddPartitionsToTxn", version, {**old, "v3_and_below_topics": rows})
    return Request("AddPartitionsToTxn", version, {"transactions": [{**values, "topics": rows}]})


def _end(name: str, producer: int, epoch: int, commit: bool = True, version: int = 4) -> Request:
    values = {"transactional_id": name, "producer_id": producer, "producer_epoch": epoch, "committed": commit}
    return Request("EndTxn", version, values)


def transactions() -> Case:
    yield from create("transactional", 2)
    found = yield _init("x")
    producer, epoch = found["producer_id"], found["producer_epoch"]
    yield _end("x", producer, epoch)
    yield _end("x", producer, epoch, commit=False)
    yield _end("no-such-id", producer, epoch)
    yield _end("", producer, epoch)
    yield _add("x", producer, epoch, ("no-such-topic", 0), ("transactional", 0))
    yield _add("x", producer, epoch, ("transactional", 9), ("transactional", 0))
    yield _add("x", producer + 99, epoch, ("transactional", 0))
    yield _add("x", producer, epoch + 1, ("transactional", 0))
    yield _add("no-such-id", producer, epoch, ("transactional", 0))
    yield _add("", producer, epoch, ("transactional", 0))
    yield _add("x", producer, epoch)

    def write(sequence: int, index: int = 0, name: str | None = "x", number: int = epoch) -> Request:
        rest = {"producer_id": producer, "producer_epoch": number, "base_sequence": sequence}
        one = batch(1, attributes=0x10, **rest)
        return produce("transactional", one, index=index, version=11, transactional_id=name)

    yield write(0)
    yield _add("x", producer, epoch, ("transactional", 0))
    yield write(0)
    alone = "a transaction without a transactional id is INVALID_TXN_STATE, to Kafka a matter of rights"
    yield write(1, name=None)._replace(apart=alone)
    yield write(1, number=epoch + 1)
    yield write(0, index=1)
    describe = ["x", "no-such-id", ""]
    yield Request(
        "DescribeTransactions", 0, {"transactional_ids": describe}, ignore=["transaction_start_time_ms"]
    )
    for filters in (
        {},
        {"state_filters": ["Ongoing"]},
        {"state_filters": ["Nonsense", "Ongoing"]},
        {"producer_id_filters": [producer + 5]},
    ):
        yield Request("ListTransactions", 1, filters)
    yield Request("ListTransactions", 2, {"transactional_id_pattern": "x.*"})
    yield Request("ListTransactions", 2, {"transactional_id_pattern": "("})
    yield Request("ListTransactions", 2, {"transactional_id_pattern": ""})
    yield from _offsets(producer, epoch)
    yield _end("x", producer, epoch + 1)
    yield _end("x", producer + 7, epoch)
    yield _end("x", producer, epoch)
    yield _end("x", producer, epoch)
    yield _end("x", producer, epoch, commit=False)
    yield Request(
        "DescribeTransactions",
        0,
        {"transactional_ids": ["x"]},
        ignore=["transaction_start_time_ms", "transaction_state"],
    )
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 100_000}
    values = {
        "max_wait_ms": 500,
        "min_bytes": 1,
        "isolation_level": 1,
        "topics": [{"topic": "transactional", "partitions": [partition]}],
    }
    yield Request("Fetch", 12, values, ignore=["records"])


def _offsets(producer: int, epoch: int) -> Case:
    values = {"transactional_id": "x", "producer_id": producer, "producer_epoch": epoch}

    def commit(version: int = 3, **rest: Any) -> Request:
        partition = {
            "partition_index": rest.pop("index", 0),
            "committed_offset": 3,
            "committed_metadata": rest.pop("metadata", ""),
        }
        topics = [{"name": rest.pop("topic", "transactional"), "partitions": [partition]}]
        return Request("TxnOffsetCommit", version, {**values, "group_id": "tg", "topics": topics, **rest})

    yield commit()
    nameless = "a group's offsets need the group's name"
    yield Request("AddOffsetsToTxn", 3, {**values, "group_id": ""}, apart=nameless)
    yield Request("AddOffsetsToTxn", 3, {**values, "group_id": "tg", "producer_id": producer + 9})
    yield Request("AddOffsetsToTxn", 3, {**values, "group_id": "tg", "producer_epoch": epoch + 1})
    yield Request("AddOffsetsToTxn", 3, {**values, "group_id": "tg", "transactional_id": "no-such-id"})
    yield Request("AddOffsetsToTxn", 3, {**values, "group_id": "tg"})
    yield commit()
    yield commit(group_id="")
    yield commit(index=9)
    yield commit(topic="no-such-topic")
    yield commit(metadata="x" * 5000)
    early = "a group exists once it has members or offsets, to Kafka from pending offsets on"
    yield commit(generation_id=4, member_id="x")._replace(apart=early)
    yield commit(generation_id=4)._replace(apart=early)
    yield commit(member_id="x")
    yield commit(version=2)
    group = {"group_id": "tg", "topics": [{"name": "transactional", "partition_indexes": [0]}]}
    yield Request("OffsetFetch", 8, {"groups": [group]})
    yield Request("OffsetFetch", 8, {"groups": [group], "require_stable": True})


def newer_transactions() -> Case:
    yield from create("newer", 2)
    found = yield _init("n", version=5)
    producer, epoch = found["producer_id"], found["producer_epoch"]

    def write(sequence: int, number: int, index: int = 0) -> Request:
        rest = {"producer_id": producer, "producer_epoch": number, "base_sequence": sequence}
        one = batch(1, attributes=0x10, **rest)
        return produce("newer", one, index=index, version=12, transactional_id="n")

    yield write(0, epoch)
    yield write(1, epoch)
    ended = yield _end("n", producer, epoch, version=5)
    epoch = ended["producer_epoch"]
    yield write(0, epoch)
    yield write(2, epoch - 1)
    yield _end("n", producer, epoch - 1, version=5)
    again = yield _end("n", producer, epoch, commit=False, version=5)
    yield _end("n", producer, again["producer_epoch"], commit=False, version=5)
    yield _add("n", producer, epoch, ("newer", 0), version=4)
    yield _add("n", producer, epoch + 5, ("newer", 0), version=5)


def cluster() -> Case:
    yield Request("ApiVersions", 0, {}, ignore=["api_keys"])
    yield Request(
        "ApiVersions",
        4,
        {"client_software_name": "a", "client_software_version": "1"},
        ignore=["api_keys", "supported_features", "finalized_features", "finalized_features_epoch"],
    )
    for name, version in (("", "1"), ("a", ""), ("a b", "1"), ("-a", "1"), ("a", "1 2"), ("a.b-c", "1.2-x")):
        yield Request(
            "ApiVersions",
            3,
            {"client_software_name": name, "client_software_version": version},
            ignore=["api_keys", "supported_features", "finalized_features", "finalized_features_epoch"],
            apart="" if (name, version) == ("a.b-c", "1.2-x") else "a client may call itself what it likes",
        )
    for kind in (0, 1, 2, 3):
        yield Request("DescribeCluster", 1, {"endpoint_type": kind}, ignore=["brokers"])
    yield Request(
        "DescribeCluster", 2, {"include_cluster_authorized_operations": True, "include_fenced_brokers": True}
    )
    quorum = {"topics": [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]}
    numbers = [
        "high_watermark",
        "leader_epoch",
        "log_end_offset",
        "last_fetch_timestamp",
        "last_caught_up_timestamp",
        "replica_directory_id",
        "nodes",
    ]
    yield Request("DescribeQuorum", 1, quorum, ignore=numbers)
    yield Request(
        "DescribeQuorum",
        1,
        {"topics": [{"topic_name": "other", "partitions": [{"partition_index": 0}]}]},
        ignore=[*numbers, "leader_id"],
    )
    yield Request(
        "DescribeQuorum",
        1,
        {"topics": [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 4}]}]},
        ignore=[*numbers, "leader_id"],
    )
    yield Request("DescribeQuorum", 1, {"topics": []}, ignore=numbers)
    for feature, level, kind in (
        ("no.such.feature", 1, 1),
        ("metadata.version", 999, 1),
        ("transaction.version", 99, 1),
        ("transaction.version", -1, 1),
        ("transaction.version", 2, 9),
    ):
        updates = [{"feature": feature, "max_version_level": level, "upgrade_type": kind}]
        yield Request("UpdateFeatures", 1, {"feature_updates": updates, "validate_only": True})
    yield Request("UpdateFeatures", 1, {"feature_updates": []})
    for kinds in ([], [2], [4], [8], [16], [32], [99]):
        yield Request("ListConfigResources", 1, {"resource_types": kinds}, ignore=["config_resources"])


CASES = {case.__name__: case for case in (producer_ids, transactions, newer_transactions, cluster)}
