"""Scenarios: consumer groups of both protocols, and their offsets."""

from __future__ import annotations

import base64

from tests.interop.sweep.data import fill, make_topic
from tests.interop.sweep.exchange import Trial, api

_METADATA = base64.b64encode(bytes.fromhex("0001 00000000 ffffffff")).decode()
_ASSIGNMENT = base64.b64encode(bytes.fromhex("0001 00000000 ffffffff")).decode()
_PROTOCOL = {"name": "range", "metadata": _METADATA}


def subscription(topic: str) -> str:
    """Return what a consumer of one topic sends as its metadata."""
    name = topic.encode()
    plain = b"\x00\x01\x00\x00\x00\x01" + len(name).to_bytes(2, "big") + name + b"\xff\xff\xff\xff"
    return base64.b64encode(plain).decode()


def join(trial: Trial, group: str, topic: str | None = None) -> tuple[str, int]:
    """Make a group with one member, stable; return member id and generation."""
    protocol = _PROTOCOL if topic is None else {"name": "range", "metadata": subscription(topic)}
    asked = {
        "groupId": group,
        "sessionTimeoutMs": 10_000,
        "rebalanceTimeoutMs": 10_000,
        "protocolType": "consumer",
        "protocols": [protocol],
    }
    member = trial.prepare(11, 9, **asked)["memberId"]
    joined = trial.prepare(11, 9, memberId=member, **asked)
    assert joined["errorCode"] == 0
    generation: int = joined["generationId"]
    synced = trial.prepare(
        14,
        5,
        groupId=group,
        generationId=generation,
        memberId=member,
        protocolType="consumer",
        protocolName="range",
        assignments=[{"memberId": member, "assignment": _ASSIGNMENT}],
    )
    assert synced["errorCode"] == 0
    return member, generation


def commit(trial: Trial, group: str, topic: str, topic_id: str, offset: int = 1) -> None:
    """Store one offset of an empty group."""
    partition = {"partitionIndex": 0, "committedOffset": offset, "committedMetadata": ""}
    topics = [{"topicId": topic_id, "name": topic, "partitions": [partition]}]
    answer = trial.prepare(8, 10, groupId=group, generationIdOrMemberEpoch=-1, memberId="", topics=topics)
    assert answer["topics"][0]["partitions"][0]["errorCode"] == 0


@api(8)
def offset_commit(trial: Trial) -> None:
    partition = {"partitionIndex": 0, "committedOffset": 2, "committedMetadata": "here"}
    topic = {"topicId": trial.topic_id, "name": trial.topic, "partitions": [partition]}
    asked = {"memberId": "", "topics": [topic]}
    answer = trial.ask(groupId=trial.name("group"), generationIdOrMemberEpoch=-1, **asked)
    assert answer["topics"][0]["partitions"][0]["errorCode"] == 0
    answer = trial.ask(groupId=trial.name("group"), generationIdOrMemberEpoch=7, **asked)
    assert answer["topics"][0]["partitions"][0]["errorCode"] == (69 if trial.version >= 9 else 22)


@api(9)
def offset_fetch(trial: Trial) -> None:
    group = trial.name("group")
    commit(trial, group, trial.topic, trial.topic_id, 2)
    topic = {"name": trial.topic, "partitionIndexes": [0, 1]}
    if trial.version >= 8:
        asked = [{"groupId": group, "topics": [{**topic, "topicId": trial.topic_id}]}]
        answer = trial.ask(groups=asked)["groups"][0]
    else:
        answer = trial.ask(groupId=group, topics=[topic])
    found = sorted(answer["topics"][0]["partitions"], key=lambda one: one["partitionIndex"])
    assert [one["committedOffset"] for one in found] == [2, -1]
    assert [one["errorCode"] for one in found] == [0, 0]


@api(10)
def find_coordinator(trial: Trial) -> None:
    for kind in (0, 1) if trial.version >= 1 else (0,):
        name = trial.name("group")
        answer = trial.ask(key=name, keyType=kind, coordinatorKeys=[name])
        [found] = answer["coordinators"] if trial.version >= 4 else [answer]
        assert (found["errorCode"], found["nodeId"]) == (0, trial.node)


@api(11)
def join_group(trial: Trial) -> None:
    asked = {
        "groupId": trial.name("group"),
        "sessionTimeoutMs": 10_000,
        "rebalanceTimeoutMs": 10_000,
        "protocolType": "consumer",
        "protocols": [_PROTOCOL],
    }
    answer = trial.ask(**asked)
    if trial.version >= 4:
        assert answer["errorCode"] == 79
        answer = trial.ask(memberId=answer["memberId"], **asked)
    assert answer["errorCode"] == 0
    assert answer["generationId"] == 1
    assert answer["leader"] == answer["memberId"]
    assert [one["metadata"] for one in answer["members"]] == [_METADATA]
    answer = trial.ask(**{**asked, "protocolType": "other"})
    assert answer["errorCode"] == 23


@api(12)
def heartbeat(trial: Trial) -> None:
    group = trial.name("group")
    member, generation = join(trial, group)
    assert trial.ask(groupId=group, generationId=generation, memberId=member)["errorCode"] == 0
    assert trial.ask(groupId=group, generationId=generation + 1, memberId=member)["errorCode"] == 22
    assert trial.ask(groupId=group, generationId=generation, memberId="nobody")["errorCode"] == 25


@api(13)
def leave_group(trial: Trial) -> None:
    group = trial.name("group")
    member, _ = join(trial, group)
    answer = trial.ask(groupId=group, memberId=member, members=[{"memberId": member}])
    assert answer["errorCode"] == 0
    if trial.version >= 3:
        assert [one["errorCode"] for one in answer["members"]] == [0]
    answer = trial.ask(groupId=group, memberId=member, members=[{"memberId": member}])
    error = answer["members"][0]["errorCode"] if trial.version >= 3 else answer["errorCode"]
    assert error == 25


@api(14)
def sync_group(trial: Trial) -> None:
    group = trial.name("group")
    member, generation = join(trial, group)
    asked = {"groupId": group, "memberId": member, "protocolType": "consumer", "protocolName": "range"}
    answer = trial.ask(generationId=generation, **asked)
    assert (answer["errorCode"], answer["assignment"]) == (0, _ASSIGNMENT)
    assert trial.ask(generationId=generation + 1, **asked)["errorCode"] == 22


@api(15)
def describe_groups(trial: Trial) -> None:
    group = trial.name("group")
    member, _ = join(trial, group)
    answer = trial.ask(groups=[group, trial.name("missing")])
    found, missing = answer["groups"]
    assert (found["errorCode"], found["groupState"], found["protocolData"]) == (0, "Stable", "range")
    assert [one["memberId"] for one in found["members"]] == [member]
    assert missing["groupState"] == "Dead"
    assert missing["errorCode"] == (69 if trial.version >= 6 else 0)


@api(16)
def list_groups(trial: Trial) -> None:
    group = trial.name("group")
    join(trial, group)
    answer = trial.ask(statesFilter=["Stable"], typesFilter=["classic"])
    assert answer["errorCode"] == 0
    assert group in {one["groupId"] for one in answer["groups"]}


@api(42)
def delete_groups(trial: Trial) -> None:
    empty, busy = trial.name("group"), trial.name("group")
    commit(trial, empty, trial.topic, trial.topic_id)
    join(trial, busy)
    missing = trial.name("group")
    answer = trial.ask(groupsNames=[empty, busy, missing])
    errors = {one["groupId"]: one["errorCode"] for one in answer["results"]}
    assert errors == {empty: 0, busy: 68, missing: 69}


@api(47)
def offset_delete(trial: Trial) -> None:
    group = trial.name("group")
    commit(trial, group, trial.topic, trial.topic_id)
    topic = {"name": trial.topic, "partitions": [{"partitionIndex": 0}]}
    answer = trial.ask(groupId=group, topics=[topic])
    assert answer["errorCode"] == 0
    assert answer["topics"][0]["partitions"][0]["errorCode"] == 0
    assert trial.ask(groupId=trial.name("missing"), topics=[topic])["errorCode"] == 69


def heartbeat_848(trial: Trial, group: str, topic: str) -> dict[str, object]:
    """Join a group of the consumer protocol; return the answer to the first heartbeat."""
    return trial.prepare(
        68,
        1,
        groupId=group,
        memberId="AAAAAAAAAAAAAAAAAAAAAQ",
        memberEpoch=0,
        rebalanceTimeoutMs=10_000,
        subscribedTopicNames=[topic],
        topicPartitions=[],
    )


@api(68)
def consumer_group_heartbeat(trial: Trial) -> None:
    asked = {
        "groupId": trial.name("group"),
        "rebalanceTimeoutMs": 10_000,
        "subscribedTopicNames": [trial.topic],
        "topicPartitions": [],
    }
    member = "" if trial.version == 0 else "AAAAAAAAAAAAAAAAAAAAAg"
    answer = trial.ask(memberId=member, memberEpoch=0, **asked)
    assert answer["errorCode"] == 0
    assert answer["memberEpoch"] >= 1
    assert answer["assignment"]["topicPartitions"] == [{"topicId": trial.topic_id, "partitions": [0, 1]}]
    left = trial.ask(groupId=asked["groupId"], memberId=answer["memberId"], memberEpoch=-1)
    assert (left["errorCode"], left["memberEpoch"]) == (0, -1)
    stranger = trial.ask(groupId=asked["groupId"], memberId="nobody", memberEpoch=3)
    assert stranger["errorCode"] in (25, 69)


@api(69)
def consumer_group_describe(trial: Trial) -> None:
    group = trial.name("group")
    heartbeat_848(trial, group, trial.topic)
    answer = trial.ask(groupIds=[group, trial.name("missing")])
    found, missing = answer["groups"]
    assert (found["errorCode"], found["groupState"], found["assignorName"]) == (0, "Stable", "uniform")
    assert found["members"][0]["subscribedTopicNames"] == [trial.topic]
    assert missing["errorCode"] == 69


__all__ = ["commit", "fill", "heartbeat_848", "join", "make_topic"]
