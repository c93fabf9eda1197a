"""More of administration by confluent-kafka and kafka-python: configurations, records, sizes, the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import ElectionType, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from kafka import KafkaAdminClient
from kafka import TopicPartition as Place
from kafka.admin import ConfigResource as Resource
from kafka.admin import ConfigResourceType
from kafka.errors import (
    ElectionNotNeededError,
    FeatureUpdateFailedError,
    InvalidReplicationAssignmentError,
    NoReassignmentInProgressError,
)

from tests.interop.test_kafka_confluent import produce

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

New = Callable[..., str]


@pytest.fixture
def admin(kafka: str) -> Any:
    """confluent-kafka's admin client."""
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture
def python(kafka: str) -> Iterator[Any]:
    """kafka-python's admin client."""
    client = KafkaAdminClient(bootstrap_servers=kafka)
    yield client
    client.close()


def code(caught: Any) -> int:
    """Return the Kafka error code of a caught exception."""
    return int(caught.value.args[0].code())


def configs(admin: Any, topic: str) -> dict[str, str]:
    """Return what is set on a topic."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(10)
    return {name: entry.value for name, entry in found.items() if entry.source == 1}


def entry(name: str, value: str | None, operation: AlterConfigOpType) -> ConfigEntry:
    """Make one change."""
    return ConfigEntry(name, value, incremental_operation=operation)


def test_confluent_changes_configurations(admin: Any, new_topic: New) -> None:
    topic = new_topic(1, {"retention.ms": "1000", "segment.ms": "5000"})
    changed = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            entry("retention.ms", "2000", AlterConfigOpType.SET),
            entry("segment.ms", None, AlterConfigOpType.DELETE),
            entry("cleanup.policy", "compact", AlterConfigOpType.APPEND),
        ],
    )
    admin.incremental_alter_configs([changed], validate_only=True)[changed].result(10)
    assert configs(admin, topic) == {"retention.ms": "1000", "segment.ms": "5000"}
    admin.incremental_alter_configs([changed])[changed].result(10)
    assert configs(admin, topic) == {"retention.ms": "2000", "cleanup.policy": "delete,compact"}
    less = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[entry("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT)],
    )
    admin.incremental_alter_configs([less])[less].result(10)
    assert configs(admin, topic)["cleanup.policy"] == "compact"
    whole = ConfigResource(ResourceType.TOPIC, topic, set_config={"flush.ms": "7"})
    admin.alter_configs([whole])[whole].result(10)
    assert configs(admin, topic) == {"flush.ms": "7"}


def test_confluent_is_refused_what_cannot_be_changed(admin: Any, new_topic: New) -> None:
    for kind, name, key, expected in (
        (ResourceType.TOPIC, new_topic(), "no.such", KafkaError.INVALID_CONFIG),
        (ResourceType.TOPIC, "no-such-topic", "retention.ms", KafkaError.UNKNOWN_TOPIC_OR_PART),
        (ResourceType.BROKER, "1", "num.partitions", KafkaError.INVALID_REQUEST),
    ):
        changed = ConfigResource(kind, name, incremental_configs=[entry(key, "5", AlterConfigOpType.SET)])
        with pytest.raises(KafkaException) as caught:
            admin.incremental_alter_configs([changed])[changed].result(10)
        assert code(caught) == expected
        whole = ConfigResource(kind, name, set_config={key: "5"})
        with pytest.raises(KafkaException) as caught:
            admin.alter_configs([whole])[whole].result(10)
        assert code(caught) == expected


def test_confluent_deletes_records(kafka: str, admin: Any, new_topic: New) -> None:
    topic = new_topic()
    produce(kafka, topic, [b"%d" % number for number in range(5)])
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 3)]).values()
    assert deleted.result(10).low_watermark == 3
    here = TopicPartition(topic, 0)
    assert admin.list_offsets({here: OffsetSpec.earliest()})[here].result(10).offset == 3
    (refused,) = admin.delete_records([TopicPartition(topic, 0, 6)]).values()
    with pytest.raises(KafkaException) as caught:
        refused.result(10)
    assert code(caught) == KafkaError.OFFSET_OUT_OF_RANGE
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, -1)]).values()
    assert deleted.result(10).low_watermark == 5


def test_confluent_elects_leaders(admin: Any, new_topic: New) -> None:
    topic = new_topic(2)
    places = [TopicPartition(topic, 0), TopicPartition(topic, 1), TopicPartition(topic, 2)]
    told = admin.elect_leaders(ElectionType.PREFERRED, places).result(10)
    codes = {place.partition: error.code() for place, error in told.items()}
    assert codes == {
        0: KafkaError.ELECTION_NOT_NEEDED,
        1: KafkaError.ELECTION_NOT_NEEDED,
        2: KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
    assert admin.elect_leaders(ElectionType.UNCLEAN).result(10) == {}


def test_confluent_is_told_of_a_record_without_a_key(kafka: str, new_topic: New) -> None:
    topic = new_topic(1, {"cleanup.policy": "compact"})
    producer = Producer({"bootstrap.servers": kafka})
    told: list[Any] = []
    for key in (b"key", None):
        producer.produce(topic, b"value", key=key, on_delivery=lambda error, _: told.append(error))
        assert producer.flush(10) == 0
    assert told[0] is None
    assert told[1].code() == KafkaError.INVALID_RECORD


def test_kafka_python_changes_configurations(admin: Any, python: Any, new_topic: New) -> None:
    topic = new_topic(1, {"retention.ms": "1000"})
    wanted = {"cleanup.policy": ("APPEND", "compact"), "segment.ms": "5000"}
    python.alter_configs([Resource(ConfigResourceType.TOPIC, topic, wanted)])
    assert configs(admin, topic) == {
        "retention.ms": "1000",
        "cleanup.policy": "delete,compact",
        "segment.ms": "5000",
    }
    python.reset_configs([Resource(ConfigResourceType.TOPIC, topic, ["retention.ms", "cleanup.policy"])])
    assert configs(admin, topic) == {"segment.ms": "5000"}
    python.alter_configs([Resource(ConfigResourceType.TOPIC, topic, {"flush.ms": "7"})], incremental=False)
    assert configs(admin, topic)["flush.ms"] == "7"


def test_kafka_python_deletes_records_and_asks_for_sizes(kafka: str, python: Any, new_topic: New) -> None:
    topic = new_topic(2)
    produce(kafka, topic, [b"x" * 100] * 4, partition=0)
    deleted = python.delete_records({Place(topic, 0): 2})
    assert deleted[Place(topic, 0)]["low_watermark"] == 2
    (broker,) = python.describe_log_dirs({topic: [0, 1]})
    (place,) = broker["log_dirs"]
    sizes = {row["partition_index"]: row["partition_size"] for row in place["topics"][0]["partitions"]}
    assert sizes[0] > 400
    assert sizes[1] == 0
    assert place["total_bytes"] > place["usable_bytes"] > 0


def test_kafka_python_asks_about_the_cluster(python: Any, new_topic: New) -> None:
    topic = new_topic()
    (told,) = python.elect_leaders(0, {topic: [0]}).replica_election_results
    assert [row.error_code for row in told.partition_result] == [ElectionNotNeededError.errno]
    moved = python.alter_partition_reassignments({Place(topic, 0): [1]})
    assert moved == {Place(topic, 0): None}
    refused = python.alter_partition_reassignments({Place(topic, 0): [1, 2]})
    assert refused == {Place(topic, 0): InvalidReplicationAssignmentError}
    cancelled = python.alter_partition_reassignments({Place(topic, 0): None})
    assert cancelled == {Place(topic, 0): NoReassignmentInProgressError}
    assert python.list_partition_reassignments() == {}
    quorum = python.describe_metadata_quorum()
    (row,) = quorum["topics"][0]["partitions"]
    assert row["leader_id"] == 1
    assert [one["replica_id"] for one in row["current_voters"]] == [1]
    listed = python.list_config_resources()
    assert topic in listed["topic"]
    assert listed["broker"] == ["1"]
    assert python.list_config_resources(["CLIENT_METRICS", "GROUP"]) == {}
    features = python.describe_features()
    level = features["transaction.version"]["finalized"][1]
    assert python.update_features({"transaction.version": level}) == {"transaction.version": "OK"}
    with pytest.raises(FeatureUpdateFailedError):
        python.update_features({"transaction.version": level - 1})
