"""Cases about groups: finding coordinators, joining, committing offsets, describing, deleting."""

from __future__ import annotations

from typing import Any

from tests.interop.differential import Case, Request, create

__all__ = ["CASES"]

_EPOCHS = (
    *("group_epoch", "assignment_epoch", "member_epoch"),
    *("group_state", "assignment", "target_assignment"),
)
"""A group's epochs begin where they like, and Kafka assigns a second later."""
_UNKNOWN_ID = b"\1" * 16


def coordinators() -> Case:
    for kind in (0, 1):
        for version in (1, 2, 3):
            yield Request("FindCoordinator", version, {"key": "group", "key_type": kind})
    for version in (0, 1, 3):
        yield Request("FindCoordinator", version, {"key": "", "key_type": 0})
    for keys, kind in (
        ([], 0),
        (["", "a"], 0),
        (["t"], 1),
        ([""], 1),
        (["t"], 7),
        (["bad"], 2),
        (["g:x:y"], 2),
    ):
        for version in (4, 6):
            yield Request("FindCoordinator", version, {"coordinator_keys": keys, "key_type": kind})


def _join(group: str, member: str = "", version: int = 7, **rest: Any) -> Request:
    values = {
        "group_id": group,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "member_id": member,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"x"}],
    }
    return Request("JoinGroup", version, {**values, **rest})


def joining() -> Case:
    yield _join("")
    yield _join("j", session_timeout_ms=1)
    yield _join("j", session_timeout_ms=10**9)
    yield _join("j", session_timeout_ms=-1)
    yield _join("j", protocols=[])
    yield _join("j", protocol_type="")
    yield _join("j", member="never-seen")
    names = "ids of static members are held to the rule that Kafka's own client has for them"
    yield _join("j0", group_instance_id="")._replace(apart=names)
    yield _join("j0", group_instance_id="bad name")._replace(apart=names)
    yield _join("j", version=3, protocols=[])
    yield _join("j", version=9)
    yield Request("DescribeGroups", 5, {"groups": ["j"]})
    yield Request("ListGroups", 4, {}, compare=False)


def membership() -> Case:
    first = yield _join("m")
    member = first["member_id"]
    joined = yield _join("m", member)
    yield Request("DescribeGroups", 5, {"groups": ["m"]}, ignore=["client_host"])
    generation = joined["generation_id"]

    def sync(generation_id: int, who: str, version: int = 5, **rest: Any) -> Request:
        values = {
            "group_id": "m",
            "generation_id": generation_id,
            "member_id": who,
            "protocol_type": "consumer",
            "protocol_name": "range",
        }
        values["assignments"] = [{"member_id": who, "assignment": b"mine"}]
        return Request("SyncGroup", version, {**values, **rest})

    yield Request("Heartbeat", 4, {"group_id": "m", "generation_id": generation, "member_id": member})
    yield sync(generation + 1, member)
    yield sync(generation, "never-seen")
    yield sync(generation, member, protocol_type="connect")
    yield sync(generation, member, protocol_name="roundrobin")
    yield sync(generation, member, group_id="")
    yield sync(generation, member, group_id="no-such-group")
    yield sync(generation, member)
    yield sync(generation, member, protocol_type=None, protocol_name=None)
    yield sync(generation, member, version=3)
    yield _join("m", "never-seen")
    yield _join("m", protocols=[{"name": "other", "metadata": b""}])
    yield _join("m", protocol_type="connect")
    for group, number, who in (
        ("m", generation, member),
        ("m", generation + 1, member),
        ("m", generation, "x"),
        ("m", -1, member),
        ("", 0, ""),
        ("no-such-group", 0, "x"),
        ("m", generation, ""),
    ):
        for version in (0, 4):
            yield Request(
                "Heartbeat", version, {"group_id": group, "generation_id": number, "member_id": who}
            )
    yield Request(
        "DescribeGroups",
        5,
        {"groups": ["m", "no-such-group", ""], "include_authorized_operations": True},
        ignore=["client_host"],
    )
    yield Request("DescribeGroups", 6, {"groups": ["no-such-group", ""]})
    yield Request("ListGroups", 5, {"states_filter": ["Stable"]})
    yield Request("ListGroups", 5, {"states_filter": ["stable", "nonsense"], "types_filter": ["classic"]})
    yield Request("ListGroups", 5, {"types_filter": ["nonsense"]})
    yield Request("ListGroups", 4, {"states_filter": ["Nonsense"]})
    yield Request("DeleteGroups", 2, {"groups_names": ["m", "no-such-group", "", "m"]})
    yield from _committing("m", generation, member)
    leave = {
        "group_id": "m",
        "members": [
            {"member_id": "x"},
            {"member_id": member},
            {"member_id": "", "group_instance_id": "static"},
        ],
    }
    yield Request("LeaveGroup", 4, {**leave, "group_id": ""})
    yield Request("LeaveGroup", 4, {**leave, "group_id": "no-such-group"})
    yield Request("LeaveGroup", 4, {"group_id": "m", "members": []})
    yield Request("LeaveGroup", 1, {"group_id": "m", "member_id": "x"})
    yield Request("LeaveGroup", 4, leave)
    yield Request("Heartbeat", 4, {"group_id": "m", "generation_id": generation, "member_id": member})
    yield Request("DescribeGroups", 5, {"groups": ["m"]})
    yield Request("DeleteGroups", 2, {"groups_names": ["m"]})
    yield Request("DescribeGroups", 5, {"groups": ["m"]})


def _commit(group: str, generation: int, member: str, version: int = 9, **rest: Any) -> Request:
    partition = {"partition_index": rest.pop("index", 0), "committed_offset": rest.pop("offset", 5)}
    partition["committed_metadata"] = rest.pop("metadata", "note")
    topics = [{"name": rest.pop("topic", "committed"), "partitions": [partition]}]
    values = {
        "group_id": group,
        "generation_id_or_member_epoch": generation,
        "member_id": member,
        "topics": topics,
    }
    return Request("OffsetCommit", version, {**values, **rest})


def _committing(group: str, generation: int, member: str) -> Case:
    yield from create("committed", 2)
    yield _commit(group, generation, member)
    yield _commit(group, generation + 1, member)
    yield _commit(group, generation - 1, member)
    yield _commit(group, generation, "never-seen")
    yield _commit(group, -1, "")
    yield _commit(group, -1, member)
    yield _commit(group, generation, "")
    yield _commit(group, generation, member, group_instance_id="static")
    yield Request(
        "OffsetDelete",
        0,
        {
            "group_id": group,
            "topics": [{"name": "committed", "partitions": [{"partition_index": 0}, {"partition_index": 9}]}],
        },
        apart="a subscription that cannot be read is told for the group, not for each topic",
    )


def committing() -> Case:
    yield from create("committed-alone", 2)
    here = {"topic": "committed-alone"}
    yield _commit("alone", -1, "", **here)
    yield _commit("alone", -1, "", metadata="x" * 5000, **here)
    yield _commit("alone", -1, "", metadata="x" * 4096, index=1, **here)
    yield _commit("alone", -1, "", metadata=None, index=1, **here)
    yield _commit("alone", -1, "", offset=-1, index=1, **here)
    yield _commit("alone", -1, "", offset=-5, index=1, **here)
    yield _commit("alone", -1, "", index=9, **here)
    yield _commit("alone", -1, "", index=-1, **here)
    yield _commit("alone", -1, "", topic="no-such-topic")
    yield _commit("alone", -1, "", topic="")
    yield _commit("alone", 0, "", **here)
    yield _commit("alone", 3, "x", **here)
    yield _commit("alone", -1, "x", **here)
    yield _commit("alone-2", 3, "x", **here)
    yield _commit("alone-2", 0, "", **here)
    yield _commit("", -1, "", **here)
    for version in (2, 3, 4, 5, 6, 7, 8):
        yield _commit("alone", -1, "", version=version, **here)
    partition = {"partition_index": 0, "committed_offset": 5, "committed_metadata": ""}
    for topic_id in (_UNKNOWN_ID, bytes(16)):
        topics = [{"topic_id": topic_id, "partitions": [partition]}]
        values = {"group_id": "alone", "generation_id_or_member_epoch": -1, "member_id": "", "topics": topics}
        yield Request("OffsetCommit", 10, values)
    yield Request("OffsetCommit", 9, {"group_id": "alone", "generation_id_or_member_epoch": -1, "topics": []})
    yield from _fetching()
    yield Request(
        "OffsetDelete",
        0,
        {
            "group_id": "alone",
            "topics": [
                {"name": "committed-alone", "partitions": [{"partition_index": 0}, {"partition_index": 9}]}
            ],
        },
    )
    yield Request(
        "OffsetDelete",
        0,
        {"group_id": "alone", "topics": [{"name": "no-such-topic", "partitions": [{"partition_index": 0}]}]},
    )
    yield Request(
        "OffsetDelete",
        0,
        {
            "group_id": "no-such-group",
            "topics": [{"name": "committed-alone", "partitions": [{"partition_index": 0}]}],
        },
    )
    yield Request("OffsetDelete", 0, {"group_id": "", "topics": []})
    yield Request("OffsetDelete", 0, {"group_id": "alone", "topics": []})
    yield Request("DescribeGroups", 5, {"groups": ["alone"]})
    yield Request("DeleteGroups", 2, {"groups_names": ["alone", "alone"]})


def _fetching() -> Case:
    asked = [
        {"name": "committed-alone", "partition_indexes": [0, 1, 9]},
        {"name": "no-such-topic", "partition_indexes": [0]},
    ]
    for version in (1, 2, 3, 5, 6, 7):
        yield Request("OffsetFetch", version, {"group_id": "alone", "topics": asked})
    for version in (2, 5, 7):
        yield Request("OffsetFetch", version, {"group_id": "alone", "topics": None})
        yield Request("OffsetFetch", version, {"group_id": "no-such-group", "topics": None})
        yield Request("OffsetFetch", version, {"group_id": "", "topics": asked})
        yield Request("OffsetFetch", version, {"group_id": "alone", "topics": []})
    groups = [{"group_id": name, "topics": asked} for name in ("alone", "no-such-group", "")]
    for version in (8, 9):
        yield Request("OffsetFetch", version, {"groups": groups})
        yield Request(
            "OffsetFetch",
            version,
            {"groups": [{"group_id": "alone", "topics": None}], "require_stable": True},
        )
        yield Request("OffsetFetch", version, {"groups": []})
    for member, epoch in (("x", 1), ("x", -1), (None, 5), (None, -1)):
        one = {"group_id": "alone", "member_id": member, "member_epoch": epoch, "topics": asked}
        yield Request("OffsetFetch", 9, {"groups": [one]})
    for topic_id in (_UNKNOWN_ID, bytes(16)):
        topics = [{"topic_id": topic_id, "partition_indexes": [0]}]
        yield Request("OffsetFetch", 10, {"groups": [{"group_id": "alone", "topics": topics}]})


def static_members() -> Case:
    joined = yield _join("s", group_instance_id="one")
    member = joined["member_id"]
    values = {
        "group_id": "s",
        "generation_id": joined["generation_id"],
        "member_id": member,
        "group_instance_id": "one",
    }
    yield Request("SyncGroup", 3, {**values, "assignments": [{"member_id": member, "assignment": b"mine"}]})
    yield Request("Heartbeat", 4, values)
    yield Request("Heartbeat", 4, {**values, "member_id": "x"})
    yield Request("Heartbeat", 4, {**values, "group_instance_id": "two"})
    yield Request("Heartbeat", 4, {**values, "group_instance_id": None})
    yield _join("s", "x", group_instance_id="one")
    again = yield _join("s", group_instance_id="one")
    yield Request("Heartbeat", 4, values)
    yield Request("Heartbeat", 4, {**values, "member_id": again["member_id"]})
    yield Request("DescribeGroups", 5, {"groups": ["s"]}, ignore=["client_host"])
    leaving = [{"member_id": "x", "group_instance_id": "one"}, {"member_id": "", "group_instance_id": "two"}]
    yield Request("LeaveGroup", 4, {"group_id": "s", "members": leaving})
    yield Request(
        "LeaveGroup", 4, {"group_id": "s", "members": [{"member_id": "", "group_instance_id": "one"}]}
    )


def consumer_protocol() -> Case:
    yield from create("modern", 3)

    def beat(member: str, epoch: int, group: str = "refused", version: int = 1, **rest: Any) -> Request:
        values = {"group_id": group, "member_id": member, "member_epoch": epoch}
        return Request("ConsumerGroupHeartbeat", version, {**values, **rest})

    joining: dict[str, Any] = {
        "rebalance_timeout_ms": 5000,
        "subscribed_topic_names": ["modern"],
        "topic_partitions": [],
    }
    one = "A" * 22
    yield beat(one, 0, group="", **joining)
    yield beat("", 0, **joining)
    yield beat(one, 0, **{**joining, "rebalance_timeout_ms": -1})
    yield beat(one, 0, **{**joining, "topic_partitions": None})
    yield beat(one, 0, **{**joining, "subscribed_topic_names": None})
    yield beat(one, 0, **joining, server_assignor="nonsense")
    yield beat(one, 0, **joining, instance_id="")
    yield beat(one, 0, **joining, rack_id="")
    yield beat(one, 0, **{**joining, "subscribed_topic_names": None}, subscribed_topic_regex="(")
    yield beat(one, 5, **joining)
    yield beat(one, -3, **joining)
    yield beat(one, -2, **joining)
    yield beat(one, -1)
    yield from _members_of_the_consumer_protocol(joining)


def _members_of_the_consumer_protocol(joining: dict[str, Any]) -> Case:
    one, two = "A" * 22, "B" * 22

    def beat(member: str, epoch: int, **rest: Any) -> Request:
        values = {"group_id": "c", "member_id": member, "member_epoch": epoch}
        return Request("ConsumerGroupHeartbeat", 1, {**values, **rest}, ignore=["assignment", "member_epoch"])

    joined = yield beat(one, 0, **joining)
    epoch = joined["member_epoch"]
    yield beat(one, epoch)
    yield beat(one, epoch + 5)
    yield beat(two, epoch)
    yield beat(one, 0, **joining)
    yield Request("Heartbeat", 4, {"group_id": "c", "generation_id": epoch, "member_id": one})
    yield Request("DescribeGroups", 5, {"groups": ["c"]})
    yield Request("DescribeGroups", 6, {"groups": ["c"]})
    yield Request(
        "ConsumerGroupDescribe",
        1,
        {"group_ids": ["c", "no-such-group", "", "alone"], "include_authorized_operations": True},
        ignore=["client_host", *_EPOCHS],
    )
    yield Request("ListGroups", 5, {"types_filter": ["Consumer"]}, ignore=["group_state"])
    yield _commit("c", epoch, one, topic="modern")
    yield _commit("c", epoch + 1, one, topic="modern")
    yield _commit("c", epoch, two, topic="modern")
    yield _commit("c", -1, "", topic="modern")
    for member, number in ((one, epoch), (one, epoch + 1), (two, epoch), (None, -1)):
        group = {"group_id": "c", "member_id": member, "member_epoch": number}
        group["topics"] = [{"name": "modern", "partition_indexes": [0]}]
        yield Request("OffsetFetch", 9, {"groups": [group]})
    yield Request("DeleteGroups", 2, {"groups_names": ["c"]})
    yield beat(one, -1)
    yield Request("ConsumerGroupDescribe", 1, {"group_ids": ["c"]}, ignore=_EPOCHS)
    yield Request("DeleteGroups", 2, {"groups_names": ["c"]})


CASES = {
    case.__name__: case
    for case in (
        coordinators,
        joining,
        membership,
        committing,
        static_members,
        consumer_protocol,
    )
}
