"""Scenarios: streams groups (KIP-1071)."""

from __future__ import annotations

from typing import Any

from tests.interop.sweep.exchange import Body, Trial, api

__all__ = ["describe", "heartbeat"]

_MEMBER = "AAAAAAAAAAAAAAAAAAAAAg"


def _joins(trial: Trial, group: str) -> Body:
    """Return the request of a member that counts the trial's topic, and keeps what it counts."""
    name = f"{group}-store-changelog"
    changelog = {"name": name, "partitions": 0, "replicationFactor": 0, "topicConfigs": []}
    part: dict[str, Any] = {
        "subtopologyId": "0",
        "sourceTopics": [trial.topic],
        "sourceTopicRegex": [],
        "stateChangelogTopics": [changelog],
        "repartitionSinkTopics": [],
        "repartitionSourceTopics": [],
        "copartitionGroups": [],
    }
    return {
        "groupId": group,
        "memberId": _MEMBER,
        "memberEpoch": 0,
        "rebalanceTimeoutMs": 10_000,
        "processId": "process",
        "topology": {"epoch": 0, "subtopologies": [part]},
        "activeTasks": [],
        "standbyTasks": [],
        "warmupTasks": [],
    }


@api(88)
def heartbeat(trial: Trial) -> None:
    group = trial.name("group")
    answer = trial.ask(**_joins(trial, group))
    assert (answer["errorCode"], answer["memberId"]) == (0, _MEMBER)
    epoch = answer["memberEpoch"]
    for _ in range(50):
        answer = trial.ask(groupId=group, memberId=_MEMBER, memberEpoch=epoch)
        assert answer["errorCode"] == 0
        epoch = answer["memberEpoch"]
        if answer["activeTasks"]:
            break
    assert answer["activeTasks"] == [{"subtopologyId": "0", "partitions": [0, 1]}]
    left = trial.ask(groupId=group, memberId=_MEMBER, memberEpoch=-1)
    assert (left["errorCode"], left["memberEpoch"]) == (0, -1)
    stranger = trial.ask(groupId=group, memberId="nobody", memberEpoch=3)
    assert stranger["errorCode"] in (25, 69)


@api(89)
def describe(trial: Trial) -> None:
    group = trial.name("group")
    assert trial.prepare(88, 0, **_joins(trial, group))["errorCode"] == 0
    found, missing = trial.ask(groupIds=[group, trial.name("missing")])["groups"]
    assert (found["errorCode"], found["members"][0]["memberId"]) == (0, _MEMBER)
    assert found["topology"]["subtopologies"][0]["sourceTopics"] == [trial.topic]
    assert missing["errorCode"] == 69
