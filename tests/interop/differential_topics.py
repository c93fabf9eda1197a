"""Cases about topics: making, changing, deleting, describing, configuring them."""

from __future__ import annotations

from typing import Any

from tests.interop.differential import Case, Request, create

__all__ = ["CASES"]

_LONG = "x" * 249


def _topic(name: str, partitions: int = 1, replicas: int = 1, **rest: Any) -> dict[str, Any]:
    return {"name": name, "num_partitions": partitions, "replication_factor": replicas, **rest}


def _placed(*brokers: list[int], first: int = 0) -> list[dict[str, Any]]:
    return [{"partition_index": index, "broker_ids": ids} for index, ids in enumerate(brokers, start=first)]


def _config(name: str, value: str | None) -> dict[str, Any]:
    return {"name": name, "value": value}


def creation_names() -> Case:
    names = ("", ".", "..", "a b", "a/b", "ä", _LONG, _LONG + "x", "__own", "a-b_c.d")
    for name in names:
        yield Request("CreateTopics", 7, {"topics": [_topic(name)]}, ignore=["configs"])
    yield from create("dotted.name")
    yield Request("CreateTopics", 7, {"topics": [_topic("dotted.name")]})
    yield Request("CreateTopics", 7, {"topics": [_topic("dotted_name")]})
    yield Request(
        "CreateTopics",
        7,
        {"topics": [_topic("twice"), _topic("twice", 2), _topic("once")]},
        ignore=["configs"],
    )
    yield Request("CreateTopics", 7, {"topics": []})
    yield Request("Metadata", 12, {"topics": [{"name": "twice"}], "allow_auto_topic_creation": False})


def creation_numbers() -> Case:
    for number, (partitions, replicas) in enumerate(
        [(0, 1), (-2, 1), (-1, 1), (1, 0), (1, -2), (1, -1), (1, 2), (-1, -1), (3, 1)]
    ):
        yield Request(
            "CreateTopics",
            7,
            {"topics": [_topic(f"number-{number}", partitions, replicas)]},
            ignore=["configs"],
        )
    yield Request("CreateTopics", 4, {"topics": [_topic("number-v4", -1, -1)]})
    yield Request("CreateTopics", 3, {"topics": [_topic("number-v3", -1, -1)]})
    yield Request("CreateTopics", 2, {"topics": [_topic("number-v2", 2, 1)]})


def creation_assignments() -> Case:
    for number, (partitions, replicas, assignments) in enumerate(
        [
            (-1, -1, _placed([0], [0])),
            (2, 1, _placed([0], [0])),
            (-1, 1, _placed([0])),
            (2, -1, _placed([0], [0])),
            (-1, -1, _placed([0], first=1)),
            (-1, -1, _placed([0, 0])),
            (-1, -1, _placed([7])),
            (-1, -1, _placed([])),
            (-1, -1, _placed([0]) + _placed([0])),
            (-1, -1, _placed([0], [0, 1])),
            (-1, -1, _placed([-1])),
        ]
    ):
        one = _topic(f"placed-{number}", partitions, replicas, assignments=assignments)
        yield Request("CreateTopics", 7, {"topics": [one]}, ignore=["configs"])


def creation_configs() -> Case:
    for number, configs in enumerate(
        [
            [_config("retention.ms", "1000")],
            [_config("retention.ms", "x")],
            [_config("retention.ms", "-2")],
            [_config("retention.ms", None)],
            [_config("no.such.config", "1")],
            [_config("cleanup.policy", "compact,delete")],
            [_config("cleanup.policy", "")],
            [_config("cleanup.policy", "nonsense")],
            [_config("compression.type", "brotli")],
            [_config("min.insync.replicas", "0")],
            [_config("segment.bytes", "1")],
            [_config("max.message.bytes", "-1")],
            [_config("retention.ms", "1000"), _config("retention.ms", "2000")],
            [_config("message.timestamp.type", "LogAppendTime")],
            [_config("message.timestamp.type", "Never")],
            [_config("unclean.leader.election.enable", "maybe")],
            [_config("min.cleanable.dirty.ratio", "1.5")],
            [_config("flush.messages", "0")],
            [_config("segment.ms", "0")],
            [_config("local.retention.ms", "5000"), _config("retention.ms", "1000")],
            [_config("remote.storage.enable", "true")],
            [_config("min.compaction.lag.ms", "10"), _config("max.compaction.lag.ms", "5")],
            [_config("compression.gzip.level", "11")],
            [_config("compression.zstd.level", "3"), _config("compression.type", "zstd")],
            [_config("message.format.version", "2.0")],
            [_config("message.timestamp.difference.max.ms", "5")],
            [_config("leader.replication.throttled.replicas", "*")],
            [_config("leader.replication.throttled.replicas", "nonsense")],
            [_config("follower.replication.throttled.replicas", "0:0,1:0")],
            [_config("", "x")],
        ]
    ):
        yield Request(
            "CreateTopics",
            7,
            {"topics": [_topic(f"configured-{number}", configs=configs)]},
            ignore=["configs"],
        )
    preallocated = _topic("preallocated", configs=[_config("preallocate", "true")])
    refused = "files are never preallocated"
    yield Request("CreateTopics", 7, {"topics": [preallocated]}, apart=refused)


def creation_told() -> Case:
    yield Request("CreateTopics", 7, {"topics": [_topic("told", configs=[_config("retention.ms", "1000")])]})


def creation_validated_only() -> Case:
    yield from create("there")
    for topic in (_topic("there"), _topic("not-there"), _topic("bad name"), _topic("not-there", 0)):
        yield Request(
            "CreateTopics", 7, {"topics": [topic], "validate_only": True}, ignore=["configs", "topic_id"]
        )
    yield Request("Metadata", 12, {"topics": [{"name": "not-there"}], "allow_auto_topic_creation": False})


def partitions_added() -> Case:
    yield from create("grows", 2)

    def ask(topics: list[dict[str, Any]], **rest: Any) -> Request:
        return Request("CreatePartitions", 3, {"topics": topics, "timeout_ms": 9000, **rest})

    for topic in (
        {"name": "no-such-topic", "count": 3},
        {"name": "grows", "count": 1},
        {"name": "grows", "count": 2},
        {"name": "grows", "count": 0},
        {"name": "grows", "count": -1},
        {"name": "", "count": 3},
        {"name": "grows", "count": 3, "assignments": []},
        {"name": "grows", "count": 4, "assignments": [{"broker_ids": [0]}, {"broker_ids": [0]}]},
        {"name": "grows", "count": 4, "assignments": [{"broker_ids": [0, 0]}]},
        {"name": "grows", "count": 4, "assignments": [{"broker_ids": [5]}]},
        {"name": "grows", "count": 4, "assignments": [{"broker_ids": []}]},
        {"name": "grows", "count": 4, "assignments": [{"broker_ids": [0]}]},
        {"name": "grows", "count": 5, "assignments": None},
    ):
        yield ask([topic])
    twice = {"name": "grows", "count": 7, "assignments": None}
    yield ask([twice, twice])
    yield ask([twice], validate_only=True)
    yield ask([])


def deletion() -> Case:
    yield from create("deleted-by-name")
    yield from create("deleted-by-id")
    found = yield Request("Metadata", 12, {"topics": [{"name": "deleted-by-id"}]}, compare=False)
    topic_id = found["topics"][0]["topic_id"]

    def ask(*topics: dict[str, Any]) -> Request:
        return Request("DeleteTopics", 6, {"topics": list(topics), "timeout_ms": 9000})

    yield ask({"name": "no-such-topic"})
    yield ask({"name": None, "topic_id": b"\1" * 16})
    yield ask({"name": None, "topic_id": bytes(16)})
    yield ask({"name": "deleted-by-id", "topic_id": topic_id})
    yield ask({"name": "", "topic_id": bytes(16)})
    both = ask({"name": "deleted-by-id"}, {"name": None, "topic_id": topic_id})
    yield both._replace(apart="Kafka answers once")
    yield ask({"name": "deleted-by-name"}, {"name": "deleted-by-name"})
    yield Request(
        "DeleteTopics",
        5,
        {"topic_names": ["deleted-by-name", "no-such-topic", "no-such-topic"], "timeout_ms": 9000},
    )
    yield ask({"name": None, "topic_id": topic_id})
    yield Request("DeleteTopics", 5, {"topic_names": ["deleted-by-name"], "timeout_ms": 9000})
    yield Request("DeleteTopics", 1, {"topic_names": [], "timeout_ms": 9000})


def metadata() -> Case:
    yield from create("described", 2)
    found = yield Request("Metadata", 12, {"topics": [{"name": "described"}]})
    topic_id = found["topics"][0]["topic_id"]
    for version in (9, 10, 12, 13):
        yield Request("Metadata", version, {"topics": []})
        yield Request("Metadata", version, {"topics": [{"name": "described"}, {"name": "described"}]})
        yield Request(
            "Metadata", version, {"topics": [{"name": "no-such"}], "allow_auto_topic_creation": False}
        )
    for version in (12, 13):
        yield Request("Metadata", version, {"topics": [{"name": None, "topic_id": topic_id}]})
        yield Request("Metadata", version, {"topics": [{"name": None, "topic_id": b"\1" * 16}]})
        yield Request("Metadata", version, {"topics": [{"name": None, "topic_id": bytes(16)}]})
        yield Request("Metadata", version, {"topics": [{"name": "described", "topic_id": topic_id}]})
    for name in ("", "bad name", _LONG + "x", ".."):
        for allow in (True, False):
            yield Request("Metadata", 12, {"topics": [{"name": name}], "allow_auto_topic_creation": allow})
    yield Request(
        "Metadata",
        8,
        {
            "topics": [{"name": "described"}],
            "include_topic_authorized_operations": True,
            "include_cluster_authorized_operations": True,
        },
    )
    yield Request(
        "Metadata", 12, {"topics": [{"name": "described"}], "include_topic_authorized_operations": True}
    )
    for version in (0, 1, 4, 5, 7):
        yield Request("Metadata", version, {"topics": [{"name": "described"}]})
    yield Request("Metadata", 1, {"topics": []})


def topic_partitions_described() -> Case:
    yield from create("paged", 4)

    def ask(topics: list[str], limit: int = 2000, cursor: Any = None) -> Request:
        values = {
            "topics": [{"name": name} for name in topics],
            "response_partition_limit": limit,
            "cursor": cursor,
        }
        return Request("DescribeTopicPartitions", 0, values)

    yield ask(["paged"])
    unknown = "authorized operations of a topic that does not exist are none"
    yield ask(["paged", "paged"])
    yield ask(["paged", "no-such-topic", "paged"])._replace(apart=unknown)
    for limit in (0, -1, 1, 3, 5000):
        yield ask(["paged"], limit)
    for name, index in (("paged", 2), ("paged", 4), ("paged", -1), ("zzz", 0), ("a", 0)):
        found = ask(["paged"], 2000, {"topic_name": name, "partition_index": index})
        yield found._replace(ignore=["topic_authorized_operations"])
    yield ask(["bad name", ""])


def configs_described() -> Case:
    yield from create("config", 1, retention_ms="5000")

    def ask(kind: int, name: str, keys: list[str] | None, **rest: bool) -> Request:
        one = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
        return Request("DescribeConfigs", 4, {"resources": [one], **rest})

    topic, broker = 2, 4
    some = ["retention.ms", "cleanup.policy", "no.such", "segment.bytes", "max.message.bytes", "retention.ms"]
    yield ask(topic, "config", some)
    yield ask(topic, "config", some, include_synonyms=True)
    yield ask(topic, "config", [])
    yield ask(topic, "config", None)
    yield ask(topic, "no-such-topic", None)
    yield ask(topic, "", None)
    yield ask(topic, "bad name", None)
    yield ask(broker, "5", None)
    yield ask(broker, "x", None)
    yield ask(broker, "0", ["log.retention.ms", "message.max.bytes"])
    yield ask(broker, "", ["log.retention.ms", "no.such"])
    yield ask(broker, "", ["log.retention.ms"])
    yield ask(8, "5", None)
    yield ask(8, "", None)
    yield ask(8, "x", None)
    yield ask(16, "", None)
    yield ask(16, "no-such-subscription", None)
    yield ask(32, "no-such-group", ["consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"])
    yield ask(32, "", None)
    yield ask(0, "x", None)
    yield ask(1, "x", None)
    yield ask(99, "x", None)
    twice = {"resource_type": topic, "resource_name": "config", "configuration_keys": ["retention.ms"]}
    once = "a resource is answered once, however often it is named"
    yield Request("DescribeConfigs", 4, {"resources": [twice, twice]}, apart=once)
    yield Request("DescribeConfigs", 4, {"resources": []})
    yield Request("DescribeConfigs", 1, {"resources": [twice], "include_synonyms": True})


def configs_altered() -> Case:
    yield from create("altered", 1, retention_ms="5000")
    topic, broker = 2, 4

    def ask(kind: int, name: str, *configs: tuple[str, int, str | None], **rest: bool) -> Request:
        changes = [{"name": key, "config_operation": how, "value": value} for key, how, value in configs]
        one = {"resource_type": kind, "resource_name": name, "configs": changes}
        return Request("IncrementalAlterConfigs", 1, {"resources": [one], **rest})

    set_, delete, append, subtract = range(4)
    for changes in (
        [("retention.ms", set_, "6000")],
        [("retention.ms", set_, None)],
        [("retention.ms", set_, "x")],
        [("retention.ms", set_, "")],
        [("retention.ms", 9, "1")],
        [("retention.ms", set_, "1"), ("retention.ms", delete, None)],
        [("no.such.config", set_, "1")],
        [("no.such.config", delete, None)],
        [("retention.ms", append, "1")],
        [("retention.ms", subtract, "1")],
        [("cleanup.policy", append, "compact")],
        [("cleanup.policy", append, "compact")],
        [("cleanup.policy", subtract, "delete")],
        [("cleanup.policy", subtract, "nonsense")],
        [("cleanup.policy", append, "nonsense")],
        [("cleanup.policy", append, None)],
        [("retention.ms", delete, "ignored")],
        [("segment.bytes", delete, None)],
        [("", set_, "1")],
        [],
    ):
        yield ask(topic, "altered", *changes)
    keys = ["retention.ms", "cleanup.policy", "segment.bytes"]
    look = {"resource_type": topic, "resource_name": "altered", "configuration_keys": keys}
    yield Request("DescribeConfigs", 4, {"resources": [look]})
    yield ask(topic, "altered", ("retention.ms", set_, "7000"), validate_only=True)
    yield ask(topic, "altered", ("retention.ms", set_, "bad"), validate_only=True)
    yield ask(topic, "no-such-topic", ("retention.ms", set_, "7000"))
    yield ask(topic, "", ("retention.ms", set_, "7000"))
    yield ask(topic, "bad name", ("retention.ms", set_, "7000"))
    yield ask(broker, "7", ("log.retention.ms", set_, "7000"))
    yield ask(broker, "x", ("log.retention.ms", set_, "7000"))
    refused = "what is no broker configuration is refused"
    yield ask(broker, "0", ("no.such.config", set_, "7000"), validate_only=True)._replace(apart=refused)
    yield ask(broker, "0", ("node.id", set_, "7"), validate_only=True)
    yield ask(broker, "0", ("log.retention.ms", set_, "x"), validate_only=True)
    yield ask(broker, "0", ("log.retention.ms", set_, "60000"), validate_only=True)
    yield ask(0, "x", ("retention.ms", set_, "7000"))
    yield ask(99, "x", ("retention.ms", set_, "7000"))
    one = {"resource_type": topic, "resource_name": "altered", "configs": []}
    yield Request("IncrementalAlterConfigs", 1, {"resources": [one, one]})
    yield Request("IncrementalAlterConfigs", 1, {"resources": []})
    old = {
        "resource_type": topic,
        "resource_name": "altered",
        "configs": [{"name": "retention.ms", "value": "8000"}],
    }
    yield Request("AlterConfigs", 2, {"resources": [old]})
    yield Request("DescribeConfigs", 4, {"resources": [look]})
    yield Request("AlterConfigs", 2, {"resources": [old, old]})
    yield Request(
        "AlterConfigs", 2, {"resources": [{**old, "configs": [{"name": "retention.ms", "value": None}]}]}
    )
    yield Request("AlterConfigs", 2, {"resources": [{**old, "resource_name": "no-such-topic"}]})
    yield Request("AlterConfigs", 2, {"resources": [{**old, "configs": [{"name": "x", "value": "1"}]}]})


def records_deleted() -> Case:
    yield from create("shortened", 1)
    yield from create("compacted-only", 1, cleanup_policy="compact")

    def ask(topic: str, *places: tuple[int, int]) -> Request:
        partitions = [{"partition_index": index, "offset": offset} for index, offset in places]
        values = {"topics": [{"name": topic, "partitions": partitions}], "timeout_ms": 5000}
        return Request("DeleteRecords", 2, values)

    yield ask("shortened", (0, 0), (1, 0))
    yield ask("shortened", (0, -1))
    yield ask("shortened", (0, 5))
    yield ask("shortened", (0, -2))
    yield ask("no-such-topic", (0, 0))
    yield ask("compacted-only", (0, 0))
    yield ask("shortened")
    yield ask("", (0, 0))


def replicas() -> Case:
    yield from create("placed", 2)

    def moved(topic: str, index: int, ids: list[int] | None) -> Request:
        one = {"name": topic, "partitions": [{"partition_index": index, "replicas": ids}]}
        return Request("AlterPartitionReassignments", 1, {"topics": [one]})

    for arguments in (
        ("placed", 0, [0]),
        ("placed", 0, None),
        ("placed", 0, []),
        ("placed", 0, [0, 0]),
        ("placed", 0, [9]),
        ("placed", 0, [-1]),
        ("placed", 9, [0]),
        ("no-such-topic", 0, [0]),
        ("placed", 9, None),
        ("placed", -1, None),
    ):
        yield moved(*arguments)
    yield Request("ListPartitionReassignments", 0, {"topics": None})
    for name, indexes in (("placed", [0]), ("placed", [9]), ("no-such-topic", [0])):
        yield Request(
            "ListPartitionReassignments", 0, {"topics": [{"name": name, "partition_indexes": indexes}]}
        )
    for kind in (0, 1, 2):
        for name, indexes in (("placed", [0, 9]), ("no-such-topic", [0])):
            wanted = [{"topic": name, "partitions": indexes}]
            yield Request("ElectLeaders", 2, {"election_type": kind, "topic_partitions": wanted})
    for topics in (
        None,
        [],
        [{"topic": "placed", "partitions": [0, 1]}],
        [{"topic": "placed", "partitions": [9]}],
        [{"topic": "no-such-topic", "partitions": [0]}],
    ):
        yield Request("DescribeLogDirs", 4, {"topics": topics}, compare=topics is not None)
    yield Request(
        "AlterReplicaLogDirs",
        2,
        {"dirs": [{"path": "/nowhere", "topics": [{"name": "placed", "partitions": [0]}]}]},
    )
    yield Request(
        "AlterReplicaLogDirs",
        2,
        {"dirs": [{"path": "/nowhere", "topics": [{"name": "no-such-topic", "partitions": [0]}]}]},
    )


CASES = {
    case.__name__: case
    for case in (
        creation_names,
        creation_numbers,
        creation_assignments,
        creation_configs,
        creation_told,
        creation_validated_only,
        partitions_added,
        deletion,
        metadata,
        topic_partitions_described,
        configs_described,
        configs_altered,
        records_deleted,
        replicas,
    )
}
