"""Scenarios: producer ids and transactions."""

from __future__ import annotations

from tests.interop.sweep.data import make_topic
from tests.interop.sweep.exchange import Body, Trial, api


def producer(trial: Trial) -> tuple[str, Body]:
    """Begin with a transactional id; return it and its producer id and epoch as requests name them."""
    name = trial.name("transactional")
    for _ in range(100):
        answer = trial.prepare(22, 4, transactionalId=name, transactionTimeoutMs=60_000)
        if answer["errorCode"] not in (14, 15, 16, 51):
            break
    assert answer["errorCode"] == 0
    return name, {"producerId": answer["producerId"], "producerEpoch": answer["producerEpoch"]}


def add_partition(trial: Trial, name: str, identity: Body, topic: str) -> None:
    """Add partition 0 of the topic to the transaction; that opens it."""
    answer = trial.prepare(
        24,
        3,
        v3AndBelowTransactionalId=name,
        v3AndBelowProducerId=identity["producerId"],
        v3AndBelowProducerEpoch=identity["producerEpoch"],
        v3AndBelowTopics=[{"name": topic, "partitions": [0]}],
    )
    assert answer["resultsByTopicV3AndBelow"][0]["resultsByPartition"][0]["partitionErrorCode"] == 0


def opened(trial: Trial) -> tuple[str, Body, str]:
    """Open a transaction on partition 0 of a topic of its own."""
    topic, _ = make_topic(trial)
    name, identity = producer(trial)
    add_partition(trial, name, identity, topic)
    return name, identity, topic


def aborted(trial: Trial, name: str, identity: Body) -> None:
    """Give up the transaction, so that nobody waits for it."""
    answer = trial.prepare(26, 4, transactionalId=name, committed=False, **identity)
    assert answer["errorCode"] == 0


@api(22)
def init_producer_id(trial: Trial) -> None:
    plain = trial.ask(transactionalId=None, transactionTimeoutMs=0)
    assert plain["errorCode"] == 0
    assert (plain["producerId"] >= 0, plain["producerEpoch"]) == (True, 0)
    name, identity = producer(trial)
    again = trial.ask(transactionalId=name, transactionTimeoutMs=60_000)
    assert again["errorCode"] == 0
    assert again["producerId"] == identity["producerId"]
    assert again["producerEpoch"] == identity["producerEpoch"] + 1
    too_long = trial.ask(transactionalId=name, transactionTimeoutMs=2_000_000_000)
    assert too_long["errorCode"] == 50
    if trial.version >= 6:
        refused = trial.ask(transactionalId=name, transactionTimeoutMs=60_000, enable2Pc=True)
        assert refused["errorCode"] == 53


@api(24)
def add_partitions_to_txn(trial: Trial) -> None:
    name, identity = producer(trial)
    topics = [{"name": trial.topic, "partitions": [0, 1]}]
    if trial.version >= 4:
        asked = {"transactionalId": name, "topics": topics, **identity}
        answer = trial.ask(transactions=[asked])
        assert answer["errorCode"] == 0
        found = answer["resultsByTransaction"][0]["topicResults"]
    else:
        answer = trial.ask(
            v3AndBelowTransactionalId=name,
            v3AndBelowProducerId=identity["producerId"],
            v3AndBelowProducerEpoch=identity["producerEpoch"],
            v3AndBelowTopics=topics,
        )
        found = answer["resultsByTopicV3AndBelow"]
    assert [one["partitionErrorCode"] for one in found[0]["resultsByPartition"]] == [0, 0]
    aborted(trial, name, identity)


@api(25)
def add_offsets_to_txn(trial: Trial) -> None:
    name, identity = producer(trial)
    answer = trial.ask(transactionalId=name, groupId=trial.name("group"), **identity)
    assert answer["errorCode"] == 0
    stale = {**identity, "producerId": identity["producerId"] + 1_000_000}
    assert trial.ask(transactionalId=name, groupId=trial.name("group"), **stale)["errorCode"] == 49
    aborted(trial, name, identity)


@api(26)
def end_txn(trial: Trial) -> None:
    name, identity, _ = opened(trial)
    stranger = {**identity, "producerId": identity["producerId"] + 1_000_000}
    assert trial.ask(transactionalId=name, committed=True, **stranger)["errorCode"] == 49
    answer = trial.ask(transactionalId=name, committed=True, **identity)
    assert answer["errorCode"] == 0
    if trial.version >= 5:
        assert answer["producerId"] == identity["producerId"]
        assert answer["producerEpoch"] == identity["producerEpoch"] + 1


@api(27)
def write_txn_markers(trial: Trial) -> None:
    _, identity, topic = opened(trial)
    marker = {
        "transactionResult": False,
        "topics": [{"name": topic, "partitionIndexes": [0]}],
        "coordinatorEpoch": 0,
        "transactionVersion": 1,
        **identity,
    }
    answer = trial.ask(markers=[marker])
    [found] = answer["markers"][0]["topics"][0]["partitions"]
    assert found["errorCode"] == 0


@api(28)
def txn_offset_commit(trial: Trial) -> None:
    name, identity = producer(trial)
    group = trial.name("group")
    if trial.version < 5:
        added = trial.prepare(25, 3, transactionalId=name, groupId=group, **identity)
        assert added["errorCode"] == 0
    partition = {"partitionIndex": 0, "committedOffset": 5, "committedMetadata": None}
    topics = [{"name": trial.topic, "partitions": [partition]}]
    answer = trial.ask(transactionalId=name, groupId=group, topics=topics, **identity)
    assert answer["topics"][0]["partitions"][0]["errorCode"] == 0
    aborted(trial, name, identity)


@api(61)
def describe_producers(trial: Trial) -> None:
    answer = trial.ask(topics=[{"name": trial.topic, "partitionIndexes": [0, 9]}])
    found = {one["partitionIndex"]: one["errorCode"] for one in answer["topics"][0]["partitions"]}
    assert found == {0: 0, 9: 3}


@api(65)
def describe_transactions(trial: Trial) -> None:
    name, identity, topic = opened(trial)
    answer = trial.ask(transactionalIds=[name, trial.name("missing")])
    by_name = {one["transactionalId"]: one for one in answer["transactionStates"]}
    assert by_name[name]["transactionState"] == "Ongoing"
    assert by_name[name]["producerId"] == identity["producerId"]
    assert by_name[name]["topics"] == [{"topic": topic, "partitions": [0]}]
    assert sorted(one["errorCode"] for one in by_name.values()) == [0, 105]
    aborted(trial, name, identity)


@api(66)
def list_transactions(trial: Trial) -> None:
    name, identity, _ = opened(trial)
    pattern = f".*{name[-8:]}"
    answer = trial.ask(stateFilters=["Ongoing", "Nonsense"], transactionalIdPattern=pattern)
    assert answer["errorCode"] == 0
    assert answer["unknownStateFilters"] == ["Nonsense"]
    found = [one["transactionalId"] for one in answer["transactionStates"]]
    assert name in found
    if trial.version >= 1:
        longer = trial.ask(durationFilter=3_600_000)["transactionStates"]
        assert name not in {one["transactionalId"] for one in longer}
    if trial.version >= 2:
        assert found == [name]
        assert trial.ask(transactionalIdPattern="(")["errorCode"] == 128
    aborted(trial, name, identity)
