"""Scenarios: configurations, the cluster, its nodes, and telemetry."""

from __future__ import annotations

from tests.interop.sweep.data import make_topic
from tests.interop.sweep.exchange import Trial, api

_TOPIC, _BROKER, _TELEMETRY, _GROUP = 2, 4, 16, 32
_NOBODY = 4711


@api(18)
def api_versions(trial: Trial) -> None:
    answer = trial.ask(clientSoftwareName="sweep", clientSoftwareVersion="1.0")
    assert answer["errorCode"] == 0
    offered = {row["apiKey"]: (row["minVersion"], row["maxVersion"]) for row in answer["apiKeys"]}
    assert offered[18] == (0, 4)
    assert offered[0][1] >= 13


@api(32)
def describe_configs(trial: Trial) -> None:
    asked = [
        {"resourceType": _TOPIC, "resourceName": trial.topic, "configurationKeys": ["retention.ms"]},
        {"resourceType": _BROKER, "resourceName": str(trial.node), "configurationKeys": None},
        {"resourceType": _TOPIC, "resourceName": trial.name("missing"), "configurationKeys": None},
    ]
    answer = trial.ask(resources=asked, includeSynonyms=True, includeDocumentation=True)
    topic, broker, missing = answer["results"]
    assert [one["name"] for one in topic["configs"]] == ["retention.ms"]
    assert "log.dirs" in {one["name"] for one in broker["configs"]}
    assert (topic["errorCode"], broker["errorCode"], missing["errorCode"]) == (0, 0, 3)


@api(33)
def alter_configs(trial: Trial) -> None:
    name, _ = make_topic(trial)
    for setting, error in (("retention.ms", 0), ("no.such.thing", 40)):
        configs = [{"name": setting, "value": "12345"}]
        resource = {"resourceType": _TOPIC, "resourceName": name, "configs": configs}
        answer = trial.ask(resources=[resource])
        assert [one["errorCode"] for one in answer["responses"]] == [error]


@api(44)
def incremental_alter_configs(trial: Trial) -> None:
    name, _ = make_topic(trial)
    for setting, operation, value, error in (
        ("retention.ms", 0, "12345", 0),
        ("retention.ms", 1, None, 0),
        ("cleanup.policy", 2, "compact", 0),
        ("cleanup.policy", 3, "delete", 0),
        ("retention.ms", 2, "1", 40),
    ):
        configs = [{"name": setting, "configOperation": operation, "value": value}]
        resource = {"resourceType": _TOPIC, "resourceName": name, "configs": configs}
        answer = trial.ask(resources=[resource])
        assert [one["errorCode"] for one in answer["responses"]] == [error], (setting, operation)


@api(34)
def alter_replica_log_dirs(trial: Trial) -> None:
    place = trial.prepare(35, 1, topics=None)["results"][0]["logDir"]
    topics = [{"name": trial.topic, "partitions": [0]}]
    for path, error in ((place, 0), ("/no/such/place", 57), ("not/absolute", 57)):
        answer = trial.ask(dirs=[{"path": path, "topics": topics}])
        assert [one["errorCode"] for one in answer["results"][0]["partitions"]] == [error], path
    unknown = [{"name": trial.name("missing"), "partitions": [0]}]
    answer = trial.ask(dirs=[{"path": place, "topics": unknown}])
    assert answer["results"][0]["partitions"][0]["errorCode"] == 3


@api(35)
def describe_log_dirs(trial: Trial) -> None:
    answer = trial.ask(topics=[{"topic": trial.topic, "partitions": [0]}])
    [place] = answer["results"]
    assert place["errorCode"] == 0
    assert place["topics"][0]["partitions"][0]["partitionSize"] > 0
    if trial.version >= 5:
        assert place["isCordoned"] is False


@api(43)
def elect_leaders(trial: Trial) -> None:
    asked = [{"topic": trial.topic, "partitions": [0]}]
    answer = trial.ask(electionType=0, topicPartitions=asked, timeoutMs=10_000)
    [found] = answer["replicaElectionResults"][0]["partitionResult"]
    assert found["errorCode"] == 84


@api(45)
def alter_partition_reassignments(trial: Trial) -> None:
    for replicas, error in (([trial.node], 0), ([_NOBODY], 39), (None, 85)):
        topics = [{"name": trial.topic, "partitions": [{"partitionIndex": 0, "replicas": replicas}]}]
        answer = trial.ask(timeoutMs=10_000, topics=topics)
        [found] = answer["responses"][0]["partitions"]
        assert found["errorCode"] == error, replicas


@api(46)
def list_partition_reassignments(trial: Trial) -> None:
    answer = trial.ask(timeoutMs=10_000, topics=None)
    assert (answer["errorCode"], answer["topics"]) == (0, [])


@api(55)
def describe_quorum(trial: Trial) -> None:
    asked = [{"topicName": "__cluster_metadata", "partitions": [{"partitionIndex": 0}]}]
    answer = trial.ask(topics=asked)
    assert answer["errorCode"] == 0
    [found] = answer["topics"][0]["partitions"]
    assert found["leaderId"] == trial.node
    assert [one["replicaId"] for one in found["currentVoters"]] == [trial.node]


@api(57)
def update_features(trial: Trial) -> None:
    unknown = {"feature": "no.such.feature", "maxVersionLevel": 2, "upgradeType": 1}
    answer = trial.ask(timeoutMs=10_000, featureUpdates=[unknown], validateOnly=True)
    errors = [one["errorCode"] for one in answer["results"]] if trial.version < 2 else []
    assert 0 not in errors
    assert errors or answer["errorCode"] != 0


@api(60)
def describe_cluster(trial: Trial) -> None:
    answer = trial.ask(includeClusterAuthorizedOperations=True, endpointType=1)
    assert answer["errorCode"] == 0
    assert [one["brokerId"] for one in answer["brokers"]] == [trial.node]
    assert answer["controllerId"] == trial.node


@api(64)
def unregister_broker(trial: Trial) -> None:
    assert trial.ask(brokerId=_NOBODY)["errorCode"] == 102


@api(71)
def get_telemetry_subscriptions(trial: Trial) -> None:
    answer = trial.ask(clientInstanceId="AAAAAAAAAAAAAAAAAAAAAA")
    assert answer["errorCode"] == 0
    assert answer["pushIntervalMs"] > 0


@api(72)
def push_telemetry(trial: Trial) -> None:
    given = trial.prepare(71, 0, clientInstanceId="AAAAAAAAAAAAAAAAAAAAAA")
    answer = trial.ask(
        clientInstanceId=given["clientInstanceId"],
        subscriptionId=given["subscriptionId"],
        terminating=True,
        compressionType=0,
        metrics="",
    )
    assert answer["errorCode"] == 0


@api(74)
def list_config_resources(trial: Trial) -> None:
    answer = trial.ask(resourceTypes=[_TOPIC] if trial.version >= 1 else [])
    if trial.version == 0:
        assert (answer["errorCode"], answer["configResources"]) == (0, [])
        return
    assert answer["errorCode"] == 0
    assert trial.topic in {one["resourceName"] for one in answer["configResources"]}


@api(80)
def add_raft_voter(trial: Trial) -> None:
    listener = {"name": "CONTROLLER", "host": "127.0.0.1", "port": 9093}
    answer = trial.ask(
        clusterId=None,
        timeoutMs=1_000,
        voterId=_NOBODY,
        voterDirectoryId="AAAAAAAAAAAAAAAAAAAAAg",
        listeners=[listener],
    )
    assert answer["errorCode"] == 35


@api(81)
def remove_raft_voter(trial: Trial) -> None:
    answer = trial.ask(clusterId=None, voterId=_NOBODY, voterDirectoryId="AAAAAAAAAAAAAAAAAAAAAg")
    assert answer["errorCode"] == 35
