"""Scenarios: records, offsets and topics as clients ask for them."""

from __future__ import annotations

import time

from tests.interop.sweep.exchange import Trial, api

_TRIES = 100
_AGAIN_SECONDS = 0.02
"""Apache Kafka needs a moment before a new topic can be used."""

_LATEST, _EARLIEST, _GREATEST, _EARLIEST_LOCAL, _LATEST_TIERED, _PENDING_UPLOAD = -1, -2, -3, -4, -5, -6


@api(0)
def produce(trial: Trial) -> None:
    codec = "zstd" if trial.version >= 7 else "lz4"
    partition = {"index": 1, "records": {"values": ["one", "two"], "codec": codec}}
    topic = {"name": trial.topic, "topicId": trial.topic_id, "partitionData": [partition]}
    answer = trial.ask(acks=-1, timeoutMs=10_000, topicData=[topic])
    [stored] = answer["responses"][0]["partitionResponses"]
    assert stored["errorCode"] == 0
    assert stored["baseOffset"] >= 0
    assert stored["logAppendTimeMs"] == -1
    unknown = {"index": 77, "records": {"values": ["lost"]}}
    answer = trial.ask(acks=1, timeoutMs=10_000, topicData=[{**topic, "partitionData": [unknown]}])
    assert answer["responses"][0]["partitionResponses"][0]["errorCode"] == 3


@api(1)
def fetch(trial: Trial) -> None:
    partition = {"partition": 0, "fetchOffset": 0, "partitionMaxBytes": 1 << 20}
    topic = {"topic": trial.topic, "topicId": trial.topic_id, "partitions": [partition]}
    answer = trial.ask(maxWaitMs=100, minBytes=1, maxBytes=1 << 20, topics=[topic])
    [found] = answer["responses"][0]["partitions"]
    assert found["errorCode"] == 0
    assert found["highWatermark"] == 3
    assert found["recordsSizeInBytes"] > 0
    beyond = {**topic, "partitions": [{**partition, "fetchOffset": 1_000}]}
    answer = trial.ask(maxWaitMs=100, minBytes=1, maxBytes=1 << 20, topics=[beyond])
    assert answer["responses"][0]["partitions"][0]["errorCode"] == 1


@api(2)
def list_offsets(trial: Trial) -> None:
    expected = {_LATEST: 3, _EARLIEST: 0, 0: 0}
    if trial.version >= 7:
        expected[_GREATEST] = 2
    if trial.version >= 8:
        expected[_EARLIEST_LOCAL] = 0
    if trial.version >= 9:
        expected[_LATEST_TIERED] = -1
    if trial.version >= 11:
        expected[_PENDING_UPLOAD] = -1
    for timestamp, offset in expected.items():
        partition = {"partitionIndex": 0, "timestamp": timestamp}
        topic = {"name": trial.topic, "partitions": [partition]}
        answer = trial.ask(replicaId=-1, topics=[topic], timeoutMs=5_000)
        [found] = answer["topics"][0]["partitions"]
        assert found["errorCode"] == 0, timestamp
        assert found["offset"] == offset, timestamp


@api(3)
def metadata(trial: Trial) -> None:
    missing = trial.name("missing")
    asked = [{"name": trial.topic}, {"name": missing}]
    answer = trial.ask(topics=asked, allowAutoTopicCreation=trial.version < 4)
    by_name = {topic["name"]: topic for topic in answer["topics"]}
    assert by_name[trial.topic]["errorCode"] == 0
    assert [one["leaderId"] for one in by_name[trial.topic]["partitions"]] == [trial.node, trial.node]
    if trial.version >= 4:
        assert by_name[missing]["errorCode"] == 3
    assert [node["nodeId"] for node in answer["brokers"]] == [trial.node]
    if trial.version >= 12:
        answer = trial.ask(topics=[{"name": None, "topicId": trial.topic_id}])
        assert answer["topics"][0]["name"] == trial.topic
    everything = trial.ask(topics=None if trial.version >= 1 else [])
    assert trial.topic in {topic["name"] for topic in everything["topics"]}


@api(19)
def create_topics(trial: Trial) -> None:
    name = trial.name("created")
    topic = {
        "name": name,
        "numPartitions": 3,
        "replicationFactor": 1,
        "configs": [{"name": "retention.ms", "value": "1000"}],
    }
    rehearsed = trial.ask(topics=[topic], timeoutMs=10_000, validateOnly=True)
    assert rehearsed["topics"][0]["errorCode"] == 0
    answer = trial.ask(topics=[topic], timeoutMs=10_000)
    [made] = answer["topics"]
    assert made["errorCode"] == 0
    if trial.version >= 5:
        assert made["numPartitions"] == 3
        assert {one["name"]: one["value"] for one in made["configs"]}["retention.ms"] == "1000"
    again = trial.ask(topics=[topic], timeoutMs=10_000)
    assert again["topics"][0]["errorCode"] == 36


def make_topic(trial: Trial, partitions: int = 1) -> tuple[str, str]:
    """Create a topic of its own for a scenario; return name and id."""
    name = trial.name("topic")
    topic = {"name": name, "numPartitions": partitions, "replicationFactor": 1}
    answer = trial.prepare(19, 7, topics=[topic], timeoutMs=10_000)
    assert answer["topics"][0]["errorCode"] == 0
    for _ in range(_TRIES):
        [found] = trial.prepare(3, 12, topics=[{"name": name}])["topics"]
        if (
            all(one["leaderId"] >= 0 for one in found["partitions"])
            and len(found["partitions"]) == partitions
        ):
            break
        time.sleep(_AGAIN_SECONDS)
    return name, answer["topics"][0]["topicId"]


@api(20)
def delete_topics(trial: Trial) -> None:
    name, topic_id = make_topic(trial)
    if trial.version >= 6:
        answer = trial.ask(topics=[{"name": None, "topicId": topic_id}], timeoutMs=10_000)
    else:
        answer = trial.ask(topicNames=[name], timeoutMs=10_000)
    assert [one["errorCode"] for one in answer["responses"]] == [0]
    missing = trial.name("missing")
    answer = trial.ask(topics=[{"name": missing}], topicNames=[missing], timeoutMs=10_000)
    assert [one["errorCode"] for one in answer["responses"]] == [3]


@api(21)
def delete_records(trial: Trial) -> None:
    name, topic_id = make_topic(trial)
    fill(trial, name, topic_id, 0, ["a", "b", "c"])
    partition = {"partitionIndex": 0, "offset": 2}
    answer = trial.ask(topics=[{"name": name, "partitions": [partition]}], timeoutMs=10_000)
    [found] = answer["topics"][0]["partitions"]
    assert (found["errorCode"], found["lowWatermark"]) == (0, 2)
    partition["offset"] = 9
    answer = trial.ask(topics=[{"name": name, "partitions": [partition]}], timeoutMs=10_000)
    assert answer["topics"][0]["partitions"][0]["errorCode"] == 1


def fill(trial: Trial, name: str, topic_id: str, index: int, values: list[str], key: str = "k") -> None:
    """Write one batch of records to a partition; try again while it is being made."""
    partition = {"index": index, "records": {"values": values, "key": key}}
    topic = {"topicId": topic_id, "partitionData": [partition]}
    for _ in range(_TRIES):
        answer = trial.prepare(0, 13, acks=-1, timeoutMs=10_000, topicData=[topic])
        error = answer["responses"][0]["partitionResponses"][0]["errorCode"]
        if error not in (3, 5, 6, 100):
            break
        time.sleep(_AGAIN_SECONDS)
    assert error == 0, name


@api(23)
def offset_for_leader_epoch(trial: Trial) -> None:
    partition = {"partition": 0, "currentLeaderEpoch": -1, "leaderEpoch": 0}
    answer = trial.ask(replicaId=-1, topics=[{"topic": trial.topic, "partitions": [partition]}])
    [found] = answer["topics"][0]["partitions"]
    assert (found["errorCode"], found["leaderEpoch"], found["endOffset"]) == (0, 0, 3)


@api(37)
def create_partitions(trial: Trial) -> None:
    name, _ = make_topic(trial)
    answer = trial.ask(topics=[{"name": name, "count": 3, "assignments": None}], timeoutMs=10_000)
    assert [one["errorCode"] for one in answer["results"]] == [0]
    answer = trial.ask(topics=[{"name": name, "count": 2, "assignments": None}], timeoutMs=10_000)
    assert [one["errorCode"] for one in answer["results"]] == [37]


@api(75)
def describe_topic_partitions(trial: Trial) -> None:
    answer = trial.ask(topics=[{"name": trial.topic}], responsePartitionLimit=1)
    assert answer["topics"][0]["topicId"] == trial.topic_id
    assert len(answer["topics"][0]["partitions"]) == 1
    assert answer["nextCursor"] == {"topicName": trial.topic, "partitionIndex": 1}
