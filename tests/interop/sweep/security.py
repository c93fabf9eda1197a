"""Scenarios: what a broker without users and rules says of them; quotas and passwords."""

from __future__ import annotations

import time
from typing import Any

from tests.interop.sweep.exchange import Trial, api

_ACL = {
    "resourceType": 2,
    "resourceName": "orders",
    "principal": "User:alice",
    "host": "*",
    "operation": 3,
    "permissionType": 3,
}
_FILTER = {"resourceTypeFilter": 1, "patternTypeFilter": 1, "operation": 1, "permissionType": 1}
_SECURITY_DISABLED = 54
_ILLEGAL_SASL_STATE = 34


@api(17)
def sasl_handshake(trial: Trial) -> None:
    assert trial.ask(mechanism="PLAIN")["errorCode"] == _ILLEGAL_SASL_STATE


@api(36)
def sasl_authenticate(trial: Trial) -> None:
    assert trial.ask(authBytes="AGFsaWNlAHNlY3JldA==")["errorCode"] == _ILLEGAL_SASL_STATE


@api(29)
def describe_acls(trial: Trial) -> None:
    answer = trial.ask(**_FILTER)
    assert (answer["errorCode"], answer["resources"]) == (_SECURITY_DISABLED, [])


@api(30)
def create_acls(trial: Trial) -> None:
    answer = trial.ask(creations=[_ACL, _ACL])
    assert [one["errorCode"] for one in answer["results"]] == [_SECURITY_DISABLED] * 2


@api(31)
def delete_acls(trial: Trial) -> None:
    answer = trial.ask(filters=[_FILTER])
    assert [one["errorCode"] for one in answer["filterResults"]] == [_SECURITY_DISABLED]


@api(38)
def create_delegation_token(trial: Trial) -> None:
    assert trial.ask(maxLifetimeMs=-1)["errorCode"] in (61, 64)


@api(39)
def renew_delegation_token(trial: Trial) -> None:
    assert trial.ask(hmac="AAAA", renewPeriodMs=-1)["errorCode"] in (61, 64)


@api(40)
def expire_delegation_token(trial: Trial) -> None:
    assert trial.ask(hmac="AAAA", expiryTimePeriodMs=-1)["errorCode"] in (61, 64)


@api(41)
def describe_delegation_token(trial: Trial) -> None:
    assert trial.ask(owners=None)["errorCode"] in (61, 64)


@api(48)
def describe_client_quotas(trial: Trial) -> None:
    name = trial.name("quota")
    entity = [{"entityType": "client-id", "entityName": name}]
    limit = {"key": "consumer_byte_rate", "value": 1e9, "remove": False}
    trial.prepare(49, 1, entries=[{"entity": entity, "ops": [limit]}], validateOnly=False)
    component = {"entityType": "client-id", "matchType": 0, "match": name}
    told: list[Any] = []
    for _ in range(50):
        answer = trial.ask(components=[component], strict=True)
        assert answer["errorCode"] == 0
        told = answer["entries"]
        if told:
            break
        time.sleep(0.1)  # Apache Kafka answers before all of it knows
    assert told == [{"entity": entity, "values": [{"key": "consumer_byte_rate", "value": 1e9}]}]
    gone = {**limit, "remove": True}
    trial.prepare(49, 1, entries=[{"entity": entity, "ops": [gone]}], validateOnly=False)


@api(49)
def alter_client_quotas(trial: Trial) -> None:
    entity = [{"entityType": "user", "entityName": "alice"}]
    good = {"key": "producer_byte_rate", "value": 1e9, "remove": False}
    wrong = {"entity": entity, "ops": [{"key": "no_such_quota", "value": 1.0, "remove": False}]}
    answer = trial.ask(entries=[wrong], validateOnly=True)
    assert [one["errorCode"] for one in answer["entries"]] == [42]
    for remove in (False, True):
        entry = {"entity": entity, "ops": [{**good, "remove": remove}]}
        answer = trial.ask(entries=[entry], validateOnly=False)
        assert [one["errorCode"] for one in answer["entries"]] == [0]


@api(50)
def describe_user_scram_credentials(trial: Trial) -> None:
    answer = trial.ask(users=None)
    assert (answer["errorCode"], answer["results"]) == (0, [])
    answer = trial.ask(users=[{"name": "alice"}])
    assert [one["errorCode"] for one in answer["results"]] == [91]


@api(51)
def alter_user_scram_credentials(trial: Trial) -> None:
    answer = trial.ask(deletions=[{"name": "alice", "mechanism": 1}], upsertions=[])
    assert [one["errorCode"] for one in answer["results"]] == [91]
