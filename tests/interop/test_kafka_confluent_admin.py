"""confluent-kafka's admin client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.interop.test_kafka_confluent import produce

pytestmark = pytest.mark.interop

New = Callable[..., str]
Unique = Callable[[str], str]


@pytest.fixture
def admin(kafka: str) -> Any:
    """An admin client."""
    return AdminClient({"bootstrap.servers": kafka})


def code(caught: Any) -> int:
    """Return the Kafka error code of a caught exception."""
    return int(caught.value.args[0].code())


def test_create_describe_and_delete_topics(admin: Any, unique: Unique) -> None:
    names = [unique("made") for _ in range(3)]
    made = admin.create_topics([NewTopic(name, 2, 1) for name in names])
    for name in names:
        made[name].result(10)
    with pytest.raises(KafkaException) as caught:
        admin.create_topics([NewTopic(names[0], 2, 1)])[names[0]].result(10)
    assert code(caught) == KafkaError.TOPIC_ALREADY_EXISTS
    topics = admin.list_topics(timeout=10).topics
    for name in names:
        assert sorted(topics[name].partitions) == [0, 1]
        assert [part.leader for part in topics[name].partitions.values()] == [1, 1]
    gone = admin.delete_topics(names[:2])
    for name in names[:2]:
        gone[name].result(10)
    topics = admin.list_topics(timeout=10).topics
    assert names[0] not in topics
    assert names[2] in topics
    with pytest.raises(KafkaException) as caught:
        admin.delete_topics(names[:1])[names[0]].result(10)
    assert code(caught) == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (NewTopic("bad/name", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("three-replicas", 1, 3), KafkaError.INVALID_REPLICATION_FACTOR),
        (NewTopic("no-partitions", 0, 1), KafkaError.INVALID_PARTITIONS),
        (NewTopic("bad-config", 1, 1, config={"no.such.key": "1"}), KafkaError.INVALID_CONFIG),
        (NewTopic("bad-value", 1, 1, config={"retention.ms": "soon"}), KafkaError.INVALID_CONFIG),
    ],
    ids=lambda value: value.topic if isinstance(value, NewTopic) else "",
)
def test_refused_topics(new: NewTopic, error: int, admin: Any) -> None:
    with pytest.raises(KafkaException) as caught:
        admin.create_topics([new])[new.topic].result(10)
    assert code(caught) == error
    assert new.topic not in admin.list_topics(timeout=10).topics


def test_validate_only_creates_nothing(admin: Any, unique: Unique) -> None:
    name = unique("only")
    admin.create_topics([NewTopic(name, 2, 1)], validate_only=True)[name].result(10)
    assert name not in admin.list_topics(timeout=10).topics


def test_create_partitions(admin: Any, new_topic: New) -> None:
    topic = new_topic(1)
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(10)
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3
    with pytest.raises(KafkaException) as caught:
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(10)
    assert code(caught) == KafkaError.INVALID_PARTITIONS


def test_describe_configs_of_a_topic_and_the_broker(admin: Any, new_topic: New) -> None:
    topic = new_topic(1, {"retention.ms": "12345678"})
    resources = [ConfigResource(ResourceType.TOPIC, topic), ConfigResource(ResourceType.BROKER, "1")]
    of_topic, of_broker = (done.result(10) for done in admin.describe_configs(resources).values())
    assert of_topic["retention.ms"].value == "12345678"
    assert not of_topic["retention.ms"].is_default
    assert of_topic["cleanup.policy"].value == "delete"
    assert of_topic["cleanup.policy"].is_default
    assert of_topic["max.message.bytes"].value == "1048588"
    assert of_broker
    missing = ConfigResource(ResourceType.TOPIC, topic + "-missing")
    with pytest.raises(KafkaException) as caught:
        admin.describe_configs([missing])[missing].result(10)
    assert code(caught) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_describe_cluster_and_topics(admin: Any, new_topic: New) -> None:
    from confluent_kafka import TopicCollection

    topic = new_topic(2)
    cluster = admin.describe_cluster(request_timeout=10).result(10)
    assert [node.id for node in cluster.nodes] == [1]
    assert cluster.controller.id == 1
    assert cluster.cluster_id == admin.list_topics(timeout=10).cluster_id
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(10)
    assert [part.id for part in described.partitions] == [0, 1]
    assert [part.leader.id for part in described.partitions] == [1, 1]


def test_list_offsets(kafka: str, admin: Any, new_topic: New) -> None:
    topic = new_topic()
    produce(kafka, topic, [b"%d" % number for number in range(5)])
    here = TopicPartition(topic, 0)
    for spec, offset in (
        (OffsetSpec.earliest(), 0),
        (OffsetSpec.latest(), 5),
        (OffsetSpec.max_timestamp(), 4),
        (OffsetSpec.for_timestamp(2500), 2),
        (OffsetSpec.for_timestamp(99_999), -1),
    ):
        assert admin.list_offsets({here: spec})[here].result(10).offset == offset


def test_groups_are_listed_described_and_deleted(
    kafka: str, admin: Any, new_topic: New, unique: Unique
) -> None:
    topic, group = new_topic(2), unique("group")
    produce(kafka, topic, [b"x"])
    member = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "client.id": "the-member",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 2000,
            "heartbeat.interval.ms": 100,
        }
    )
    try:
        member.subscribe([topic])
        message = member.poll(10)
        assert message is not None
        assert message.error() is None
        member.commit(message=message, asynchronous=False)
        listed = {row.group_id: row for row in admin.list_consumer_groups().result(10).valid}
        assert listed[group].state.name == "STABLE"
        described = admin.describe_consumer_groups([group])[group].result(10)
        assert described.state.name == "STABLE"
        assert described.partition_assignor == "range"
        assert described.coordinator.id == 1
        (one,) = described.members
        assert one.client_id == "the-member"
        assert one.host.lstrip("/") == "127.0.0.1"
        assert {place.partition for place in one.assignment.topic_partitions} == {0, 1}
        with pytest.raises(KafkaException) as caught:
            admin.delete_consumer_groups([group])[group].result(10)
        assert code(caught) == KafkaError.NON_EMPTY_GROUP
    finally:
        member.close()
    wanted = [ConsumerGroupTopicPartitions(group)]
    held = admin.list_consumer_group_offsets(wanted)[group].result(10)
    committed = {place.partition: place.offset for place in held.topic_partitions}
    assert committed[0] == 1
    assert described.group_id == group
    assert admin.describe_consumer_groups([group])[group].result(10).state.name == "EMPTY"
    set_back = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])
    admin.alter_consumer_group_offsets([set_back])[group].result(10)
    held = admin.list_consumer_group_offsets(wanted)[group].result(10)
    assert {place.partition: place.offset for place in held.topic_partitions}[0] == 0
    admin.delete_consumer_groups([group])[group].result(10)
    assert group not in {row.group_id for row in admin.list_consumer_groups().result(10).valid}
    with pytest.raises(KafkaException) as caught:
        admin.delete_consumer_groups([group])[group].result(10)
    assert code(caught) == KafkaError.GROUP_ID_NOT_FOUND
