"""Scenarios: share groups (KIP-932), what they have acquired, and what is stored of them."""

from __future__ import annotations

import uuid
from typing import Any

from tests.interop.sweep.exchange import Body, Trial, api

_EARLIEST = -2


def join(trial: Trial, group: str) -> str:
    """Make a share group with one member that begins with the earliest record; return the member id."""
    resource = {
        "resourceType": 32,
        "resourceName": group,
        "configs": [{"name": "share.auto.offset.reset", "configOperation": 0, "value": "earliest"}],
    }
    answer = trial.prepare(44, 1, resources=[resource], validateOnly=False)
    assert answer["responses"][0]["errorCode"] == 0
    member = str(uuid.uuid4())[:36]
    asked = {"groupId": group, "memberId": member, "subscribedTopicNames": [trial.topic]}
    answer = trial.prepare(76, 1, memberEpoch=0, **asked)
    assert answer["errorCode"] == 0
    return member


def fetching(trial: Trial, group: str, member: str, epoch: int, version: int, **more: Any) -> Body:
    """Return a ShareFetch of partition 0."""
    partition = {"partitionIndex": 0, "acknowledgementBatches": []}
    return {
        "groupId": group,
        "memberId": member,
        "shareSessionEpoch": epoch,
        "maxWaitMs": 5_000,
        "minBytes": 1,
        "maxBytes": 1 << 20,
        "maxRecords": 10,
        "batchSize": 10,
        "topics": [{"topicId": trial.topic_id, "partitions": [partition]}],
        "forgottenTopicsData": [],
        **({"shareAcquireMode": 0, "isRenewAck": False} if version >= 2 else {}),
        **more,
    }


def acknowledging(trial: Trial, first: int, last: int, *types: int) -> list[Body]:
    """Return the topics of a request that acknowledges records of partition 0."""
    batch = {"firstOffset": first, "lastOffset": last, "acknowledgeTypes": list(types)}
    partition = {"partitionIndex": 0, "acknowledgementBatches": [batch]}
    return [{"topicId": trial.topic_id, "partitions": [partition]}]


def set_offset(trial: Trial, group: str, offset: int) -> None:
    """Make a share group without members that begins at an offset of partition 0."""
    topic = {"topicName": trial.topic, "partitions": [{"partitionIndex": 0, "startOffset": offset}]}
    answer = trial.prepare(91, 0, groupId=group, topics=[topic])
    assert answer["errorCode"] == 0
    assert answer["responses"][0]["partitions"][0]["errorCode"] == 0


def summary(trial: Trial, group: str) -> Body:
    """Return what is stored of partition 0."""
    topic = {"topicId": trial.topic_id, "partitions": [{"partition": 0, "leaderEpoch": -1}]}
    answer = trial.prepare(87, 1, groupId=group, topics=[topic])
    found: Body = answer["results"][0]["partitions"][0]
    return found


@api(76)
def share_group_heartbeat(trial: Trial) -> None:
    asked = {"groupId": trial.name("share"), "memberId": "m", "subscribedTopicNames": [trial.topic]}
    answer = trial.ask(memberEpoch=0, **asked)
    assert (answer["errorCode"], answer["memberId"]) == (0, "m")
    assert answer["memberEpoch"] > 0
    answer = trial.ask(memberEpoch=999, **asked)
    assert answer["errorCode"] == 110
    assert trial.ask(memberEpoch=-1, **asked)["memberEpoch"] == -1


@api(77)
def share_group_describe(trial: Trial) -> None:
    group = trial.name("share")
    member = join(trial, group)
    answer = trial.ask(groupIds=[group, trial.name("nobody")], includeAuthorizedOperations=True)
    found, unknown = answer["groups"]
    assert (found["errorCode"], found["groupState"], found["assignorName"]) == (0, "Stable", "simple")
    assert [one["memberId"] for one in found["members"]] == [member]
    assert unknown["errorCode"] == 69


@api(78)
def share_fetch(trial: Trial) -> None:
    group = trial.name("share")
    member = join(trial, group)
    version = trial.version
    answer = trial.ask(**fetching(trial, group, member, 0, version))
    assert answer["errorCode"] == 0
    [found] = answer["responses"][0]["partitions"]
    assert found["errorCode"] == 0
    assert found["recordsSizeInBytes"] > 0
    # Apache Kafka hands out the markers of transactions too.
    [acquired] = [one for one in found["acquiredRecords"] if one["firstOffset"] == 0]
    assert acquired["lastOffset"] >= 2
    assert acquired["deliveryCount"] == 1
    topics = acknowledging(trial, 0, 2, 1, 3, 2)
    answer = trial.ask(**fetching(trial, group, member, 1, version, topics=topics))
    [found] = answer["responses"][0]["partitions"]
    assert found["acknowledgeErrorCode"] == 0
    if not found["acquiredRecords"]:
        answer = trial.ask(**fetching(trial, group, member, 2, version))
        [found] = answer["responses"][0]["partitions"]
    assert found["acquiredRecords"] == [{"firstOffset": 2, "lastOffset": 2, "deliveryCount": 2}]
    assert trial.ask(**fetching(trial, group, member, 77, version))["errorCode"] == 123


@api(79)
def share_acknowledge(trial: Trial) -> None:
    group = trial.name("share")
    member = join(trial, group)
    answer = trial.prepare(78, 2, **fetching(trial, group, member, 0, 2))
    assert answer["responses"][0]["partitions"][0]["acquiredRecords"]
    asked = {"groupId": group, "memberId": member}
    answer = trial.ask(shareSessionEpoch=1, topics=acknowledging(trial, 0, 2, 1), **asked)
    assert answer["errorCode"] == 0
    assert answer["responses"][0]["partitions"][0]["errorCode"] == 0
    answer = trial.ask(shareSessionEpoch=1, topics=[], **asked)
    assert answer["errorCode"] == 123
    answer = trial.ask(shareSessionEpoch=2, topics=acknowledging(trial, 0, 2, 2), **asked)
    assert answer["errorCode"] == 0
    again = answer["responses"][0]["partitions"]
    # What is done with is passed over; Apache Kafka knows it for as long as it keeps the batch.
    assert [one["errorCode"] for one in again] in ([0], [121])


@api(83)
def initialize_share_group_state(trial: Trial) -> None:
    group = trial.name("share")
    partition = {"partition": 0, "stateEpoch": 1, "startOffset": 2}
    topic = {"topicId": trial.topic_id, "partitions": [partition]}
    answer = trial.ask(groupId=group, topics=[topic])
    assert answer["results"][0]["partitions"][0]["errorCode"] == 0
    assert summary(trial, group)["startOffset"] == 2
    older = {**topic, "partitions": [{**partition, "stateEpoch": 0}]}
    assert trial.ask(groupId=group, topics=[older])["results"][0]["partitions"][0]["errorCode"] == 124


@api(84)
def read_share_group_state(trial: Trial) -> None:
    group = trial.name("share")
    set_offset(trial, group, 1)
    topic = {"topicId": trial.topic_id, "partitions": [{"partition": 0, "leaderEpoch": -1}]}
    [found] = trial.ask(groupId=group, topics=[topic])["results"][0]["partitions"]
    assert (found["errorCode"], found["startOffset"], found["stateBatches"]) == (0, 1, [])


@api(85)
def write_share_group_state(trial: Trial) -> None:
    group = trial.name("share")
    set_offset(trial, group, 0)
    batch = {"firstOffset": 0, "lastOffset": 1, "deliveryState": 2, "deliveryCount": 1}
    partition = {
        "partition": 0,
        "stateEpoch": summary(trial, group)["stateEpoch"],
        "leaderEpoch": -1,
        "startOffset": 2,
        "stateBatches": [batch],
    }
    topic = {"topicId": trial.topic_id, "partitions": [partition]}
    answer = trial.ask(groupId=group, topics=[topic])
    assert answer["results"][0]["partitions"][0]["errorCode"] == 0
    assert summary(trial, group)["startOffset"] == 2


@api(86)
def delete_share_group_state(trial: Trial) -> None:
    group = trial.name("share")
    set_offset(trial, group, 1)
    topic = {"topicId": trial.topic_id, "partitions": [{"partition": 0}]}
    answer = trial.ask(groupId=group, topics=[topic])
    assert answer["results"][0]["partitions"][0]["errorCode"] == 0
    assert summary(trial, group)["startOffset"] == -1


@api(87)
def read_share_group_state_summary(trial: Trial) -> None:
    group = trial.name("share")
    set_offset(trial, group, 1)
    topic = {"topicId": trial.topic_id, "partitions": [{"partition": 0, "leaderEpoch": -1}]}
    [found] = trial.ask(groupId=group, topics=[topic])["results"][0]["partitions"]
    assert (found["errorCode"], found["startOffset"]) == (0, 1)


@api(90)
def describe_share_group_offsets(trial: Trial) -> None:
    group = trial.name("share")
    set_offset(trial, group, 1)
    wanted = {"groupId": group, "topics": [{"topicName": trial.topic, "partitions": [0]}]}
    answer = trial.ask(groups=[wanted, {"groupId": group, "topics": None}])
    for found in answer["groups"]:
        assert found["errorCode"] == 0
        [partition] = found["topics"][0]["partitions"]
        assert partition["startOffset"] == 1
        if trial.version >= 1:
            assert partition["lag"] == -1 or partition["lag"] >= 2


@api(91)
def alter_share_group_offsets(trial: Trial) -> None:
    partitions = [{"partitionIndex": 0, "startOffset": 1}, {"partitionIndex": 77, "startOffset": 0}]
    topic = {"topicName": trial.topic, "partitions": partitions}
    answer = trial.ask(groupId=trial.name("share"), topics=[topic])
    assert answer["errorCode"] == 0
    found = sorted(answer["responses"][0]["partitions"], key=lambda one: one["partitionIndex"])
    assert [one["errorCode"] for one in found] == [0, 3]


@api(92)
def delete_share_group_offsets(trial: Trial) -> None:
    group = trial.name("share")
    set_offset(trial, group, 1)
    topics = [{"topicName": trial.topic}, {"topicName": trial.name("nowhere")}]
    answer = trial.ask(groupId=group, topics=topics)
    assert answer["errorCode"] == 0
    assert sorted(one["errorCode"] for one in answer["responses"]) == [0, 3]
