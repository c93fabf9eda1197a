"""Consumer groups through Kafka's requests: membership, committed offsets, administration."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import fail

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Node, TopicPartition
from megabroker.protocols.kafka.consumer_metadata import subscribed_topics
from megabroker.protocols.kafka.schema import (
    delete_groups,
    describe_groups,
    heartbeat,
    join_group,
    leave_group,
    list_groups,
    offset_commit,
    offset_delete,
    offset_fetch,
    sync_group,
)
from megabroker.protocols.kafka.schema.consumer_protocol import Subscription
from tests.unit.kafka_apis_harness import ApiCase, versions

UNKNOWN_TOPIC, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, ILLEGAL_GENERATION = 3, 15, 16, 22
INCONSISTENT_PROTOCOL, INVALID_GROUP, UNKNOWN_MEMBER, INVALID_SESSION_TIMEOUT, REBALANCING = (
    23,
    24,
    25,
    26,
    27,
)
INVALID_CONFIG, NON_EMPTY_GROUP, GROUP_NOT_FOUND, MEMBER_ID_REQUIRED = 40, 68, 69, 79
FENCED_INSTANCE, SUBSCRIBED, UNKNOWN_TOPIC_ID = 82, 86, 100


def subscription(*topics: str) -> bytes:
    return struct.pack(">h", 1) + Subscription(topics=list(topics)).encode(1)


class GroupCase(ApiCase):
    def join_request(self, group: str = "g", member: str = "", **rest: Any) -> join_group.Request:
        values: dict[str, Any] = {
            "session_timeout_ms": 30_000,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "protocols": [join_group.Request.Protocol(name="range", metadata=subscription("t"))],
        }
        return join_group.Request(group_id=group, member_id=member, **{**values, **rest})

    def join(self, version: int, group: str = "g", **rest: Any) -> Any:
        answer = self.ask(self.join_request(group, **rest), version)
        if answer.error_code == MEMBER_ID_REQUIRED:
            answer = self.ask(self.join_request(group, **{**rest, "member": answer.member_id}), version)
        return answer

    def sync_request(self, joined: Any, group: str = "g", **rest: Any) -> sync_group.Request:
        assignments = [
            sync_group.Request.Assignment(member_id=one.member_id, assignment=b"to " + one.member_id.encode())
            for one in joined.members
        ]
        values = {"protocol_type": "consumer", "protocol_name": "range", **rest}
        return sync_group.Request(
            group_id=group,
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            assignments=assignments,
            **values,
        )

    def stable(self, group: str = "g", **rest: Any) -> Any:
        """Return the join of the one member of a stable group."""
        joined = self.join(9, group, **rest)
        self.assertEqual(self.ask(self.sync_request(joined, group), 5).error_code, 0)
        return joined


class MembershipTests(GroupCase):
    def test_first_join(self) -> None:
        def check(version: int) -> None:
            group = f"g{version}"
            first = self.ask(self.join_request(group), version, client_id="me")
            self.assertTrue(first.member_id.startswith("me-"))
            if version >= 4:
                self.assertEqual((first.error_code, first.generation_id), (MEMBER_ID_REQUIRED, -1))
                self.assertEqual(first.protocol_name, None if version >= 7 else "")
                first = self.ask(self.join_request(group, first.member_id), version)
            self.assertEqual((first.error_code, first.generation_id), (0, 1))
            self.assertEqual((first.leader, first.protocol_name), (first.member_id, "range"))
            self.assertEqual([one.metadata for one in first.members], [subscription("t")])
            self.assertEqual(first.protocol_type, "consumer" if version >= 7 else None)

        self.at_every_version(11, check)

    def test_two_members_and_the_whole_round(self) -> None:
        def check(version: int) -> None:
            group = f"g{version}"
            sync_version = min(version, 5)
            first = self.join(version, group)
            self.assertEqual(self.ask(self.sync_request(first, group), sync_version).error_code, 0)
            late = self.begin(self.join_request(group), version)
            self.turn()
            if version >= 4:
                known = self.successResultOf(late).member_id
                late = self.begin(self.join_request(group, known), version)
            self.turn()
            self.assertNoResult(late)
            beat = heartbeat.Request(group_id=group, generation_id=1, member_id=first.member_id)
            self.assertEqual(self.ask(beat, min(version, 4)).error_code, REBALANCING)
            again = self.ask(self.join_request(group, first.member_id), version)
            second = self.successResultOf(late)
            self.assertEqual((again.generation_id, second.generation_id), (2, 2))
            self.assertEqual((len(again.members), second.members), (2, []))
            follower = self.begin(self.sync_request(second, group), sync_version)
            self.turn()
            self.assertNoResult(follower)
            mine = self.ask(self.sync_request(again, group), sync_version)
            self.assertEqual(mine.assignment, b"to " + first.member_id.encode())
            theirs = self.successResultOf(follower)
            self.assertEqual(theirs.assignment, b"to " + second.member_id.encode())
            if sync_version >= 5:
                self.assertEqual((theirs.protocol_type, theirs.protocol_name), ("consumer", "range"))
            beat = heartbeat.Request(group_id=group, generation_id=2, member_id=second.member_id)
            self.assertEqual(self.ask(beat, min(version, 4)).error_code, 0)

        self.at_every_version(11, check)

    def test_refused_joins(self) -> None:
        long_name = "x" * 40_000
        protocol = join_group.Request.Protocol

        def check(version: int) -> None:
            wrong = [
                (self.join_request(""), INVALID_GROUP),
                (self.join_request("g", "stranger"), UNKNOWN_MEMBER),
                (self.join_request("g", session_timeout_ms=-1), INVALID_SESSION_TIMEOUT),
                (self.join_request("g", session_timeout_ms=2**31 - 1), INVALID_SESSION_TIMEOUT),
                (self.join_request("g", protocols=[]), INCONSISTENT_PROTOCOL),
                (self.join_request("g", protocol_type=""), INCONSISTENT_PROTOCOL),
            ]
            if version >= 5:
                for bad in ("", "..", "a b", "x" * 250):
                    wrong.append((self.join_request("g", group_instance_id=bad), INVALID_CONFIG))
            if version >= 6:
                wrong += [
                    (self.join_request(long_name), INVALID_GROUP),
                    (self.join_request("g", protocol_type=long_name), INCONSISTENT_PROTOCOL),
                    (self.join_request("g", protocols=[protocol(name=long_name)]), INCONSISTENT_PROTOCOL),
                ]
            for request, code in wrong:
                answer = self.ask(request, version)
                self.assertEqual((answer.error_code, answer.generation_id), (code, -1))
                self.assertEqual(answer.member_id, request.member_id)

        self.at_every_version(11, check)
        self.assertEqual(self.groups.all(), [])

    def test_longest_client_id_makes_a_member_id_that_can_be_said(self) -> None:
        for version in versions(11):
            answer = self.ask(self.join_request(f"g{version}"), version, client_id="\u20ac" * 10_922)
            self.assertIn(answer.error_code, (0, MEMBER_ID_REQUIRED))

    def test_static_member_takes_its_place_again(self) -> None:
        joined = self.stable(group_instance_id="i")
        back = self.join(9, group_instance_id="i")
        self.assertEqual((back.error_code, back.generation_id), (0, 1))
        self.assertNotEqual(back.member_id, joined.member_id)
        beat = heartbeat.Request(
            group_id="g", generation_id=1, member_id=joined.member_id, group_instance_id="i"
        )
        self.assertEqual(self.ask(beat, 4).error_code, FENCED_INSTANCE)

    def test_sync_needs_its_protocol_from_version_5(self) -> None:
        joined = self.join(9)
        for rest in ({"protocol_type": None}, {"protocol_name": None}, {"protocol_name": "other"}):
            answer = self.ask(self.sync_request(joined, **rest), 5)
            self.assertEqual(answer.error_code, INCONSISTENT_PROTOCOL)
        self.assertEqual(self.ask(self.sync_request(joined, protocol_type=None), 4).error_code, 0)

    def test_strangers(self) -> None:
        for version in versions(12):
            self.assertEqual(self.ask(heartbeat.Request(group_id="no"), version).error_code, UNKNOWN_MEMBER)
        for version in versions(14):
            request = sync_group.Request(group_id="no", protocol_type="", protocol_name="")
            self.assertEqual(self.ask(request, version).error_code, UNKNOWN_MEMBER)
        joined = self.stable()
        beat = heartbeat.Request(group_id="g", generation_id=7, member_id=joined.member_id)
        self.assertEqual(self.ask(beat, 4).error_code, ILLEGAL_GENERATION)

    def test_leave(self) -> None:
        Member = leave_group.Request.Member

        def check(version: int) -> None:
            group = f"g{version}"
            joined = self.stable(group)
            request = leave_group.Request(
                group_id=group,
                member_id=joined.member_id,
                members=[
                    Member(member_id=joined.member_id),
                    Member(member_id="no"),
                    Member(group_instance_id="i"),
                ],
            )
            answer = self.ask(request, version)
            self.assertEqual(answer.error_code, 0)
            if version >= 3:
                self.assertEqual(
                    [one.error_code for one in answer.members], [0, UNKNOWN_MEMBER, UNKNOWN_MEMBER]
                )
                self.assertEqual(answer.members[2].group_instance_id, "i")
            self.assertEqual(self.groups.describe(group).state, "Empty")
            nobody = self.ask(
                leave_group.Request(group_id="no", member_id="x", members=[Member(member_id="x")]), version
            )
            codes = [one.error_code for one in nobody.members] if version >= 3 else [nobody.error_code]
            self.assertEqual(codes, [UNKNOWN_MEMBER])
            unnamed = self.ask(leave_group.Request(group_id=""), version)
            self.assertEqual(unnamed.error_code, INVALID_GROUP)

        self.at_every_version(13, check)

    def test_another_nodes_group(self) -> None:
        self.create("t")
        self.placement.coordinator = lambda key: Node(2)  # type: ignore[method-assign]
        for version in versions(11):
            self.assertEqual(self.ask(self.join_request(), version).error_code, NOT_COORDINATOR)
        self.assertEqual(self.ask(heartbeat.Request(group_id="g"), 4).error_code, NOT_COORDINATOR)
        self.assertEqual(self.ask(leave_group.Request(group_id="g"), 5).error_code, NOT_COORDINATOR)
        described = self.ask(describe_groups.Request(groups=["g"]), 6).groups[0]
        self.assertEqual(described.error_code, NOT_COORDINATOR)
        deleted = self.ask(delete_groups.Request(groups_names=["g"]), 2).results[0]
        self.assertEqual(deleted.error_code, NOT_COORDINATOR)
        self.assertEqual(self.ask(offset_delete.Request(group_id="g"), 0).error_code, NOT_COORDINATOR)

    def test_a_broker_that_stops(self) -> None:
        self.groups.stop()
        self.assertEqual(self.ask(self.join_request(), 9).error_code, NOT_COORDINATOR)
        self.assertEqual(self.ask(list_groups.Request(), 5).error_code, NOT_COORDINATOR)


class OffsetsTests(GroupCase):
    def setUp(self) -> None:
        super().setUp()
        self.topic = self.create("t", 2)

    def commit_request(self, version: int, *rows: tuple[Any, int, int], **rest: Any) -> offset_commit.Request:
        """``rows`` are (topic name or id, partition, offset)."""
        Topic = offset_commit.Request.Topic
        topics = []
        for topic, index, offset in rows:
            one = Topic(
                partitions=[
                    Topic.Partition(
                        partition_index=index,
                        committed_offset=offset,
                        committed_leader_epoch=0,
                        committed_metadata=f"at {offset}",
                    )
                ]
            )
            if isinstance(topic, bytes):
                one.topic_id = topic
            else:
                one.name = topic
                known = self.topics.get(topic)
                one.topic_id = b"?" * 16 if known is None else known.id.bytes
            topics.append(one)
        return offset_commit.Request(**{"group_id": "g", "topics": topics, **rest})

    def commit(self, version: int, *rows: tuple[Any, int, int], **rest: Any) -> list[int]:
        answer = self.ask(self.commit_request(version, *rows, **rest), version)
        return [one.error_code for topic in answer.topics for one in topic.partitions]

    def fetch(self, version: int, wanted: dict[str, list[int]] | None, group: str = "g") -> Any:
        if version >= 8:
            Group = offset_fetch.Request.Group
            topics = None
            if wanted is not None:
                topics = []
                for name, indexes in wanted.items():
                    known = self.topics.get(name)
                    topic_id = b"?" * 16 if known is None else known.id.bytes
                    topics.append(Group.Topic(name=name, topic_id=topic_id, partition_indexes=indexes))
            return self.ask(
                offset_fetch.Request(groups=[Group(group_id=group, topics=topics)]), version
            ).groups[0]
        Topic = offset_fetch.Request.Topic
        topics = None if wanted is None else [Topic(name=n, partition_indexes=i) for n, i in wanted.items()]
        return self.ask(offset_fetch.Request(group_id=group, topics=topics), version)

    def offsets(self, version: int, wanted: dict[str, list[int]] | None) -> list[tuple[int, int, str, int]]:
        answer = self.fetch(version, wanted)
        self.assertEqual(answer.error_code, 0)
        return [
            (one.partition_index, one.committed_offset, one.metadata, one.error_code)
            for topic in answer.topics
            for one in topic.partitions
        ]

    def test_commit_at_every_version(self) -> None:
        def check(version: int) -> None:
            codes = self.commit(version, ("t", 0, version), ("t", 9, 1), ("t", -1, 1), ("no", 0, 1))
            last = UNKNOWN_TOPIC_ID if version >= 10 else UNKNOWN_TOPIC
            self.assertEqual(codes, [0, UNKNOWN_TOPIC, UNKNOWN_TOPIC, last])
            self.assertEqual(self.offsets(5, {"t": [0]}), [(0, version, f"at {version}", 0)])

        self.at_every_version(8, check)

    def test_fetch_at_every_version(self) -> None:
        self.commit(6, ("t", 0, 5))

        def check(version: int) -> None:
            nothing = UNKNOWN_TOPIC if version == 0 else 0
            self.assertEqual(
                self.offsets(version, {"t": [0, 1, -3]}),
                [(0, 5, "at 5", 0), (1, -1, "", nothing), (-3, -1, "", nothing)],
            )
            other = UNKNOWN_TOPIC_ID if version >= 10 else nothing
            self.assertEqual(self.offsets(version, {"no": [0]}), [(0, -1, "", other)])
            self.assertEqual(self.offsets(version, {}), [])
            if version >= 2:
                self.assertEqual(self.offsets(version, None), [(0, 5, "at 5", 0)])
            if version >= 5:
                self.assertEqual(
                    self.fetch(version, {"t": [0]}).topics[0].partitions[0].committed_leader_epoch, 0
                )
            self.assertEqual(self.fetch(version, {"t": [0]}, "other").error_code, 0)

        self.at_every_version(9, check)

    def test_topic_ids(self) -> None:
        self.assertEqual(self.commit(10, (self.topic.id.bytes, 1, 8)), [0])
        answer = self.fetch(10, None)
        self.assertEqual([topic.topic_id for topic in answer.topics], [self.topic.id.bytes])

    def test_several_groups_each_once(self) -> None:
        self.commit(8, ("t", 0, 1), group_id="a")
        self.commit(8, ("t", 1, 2), group_id="b")
        Group = offset_fetch.Request.Group
        request = offset_fetch.Request(
            groups=[Group(group_id=name, topics=None) for name in ("b", "a", "b", "x" * 40_000)]
        )
        for version in (8, 9, 10):
            groups = self.ask(request, version).groups
            told = [(one.group_id[:1], one.error_code, len(one.topics)) for one in groups]
            self.assertEqual(told, [("b", 0, 1), ("a", 0, 1), ("x", INVALID_GROUP, 0)])

    def test_groups_that_cannot_be_asked(self) -> None:
        self.groups.stop()
        for version in versions(9):
            answer = self.fetch(version, {"t": [0]})
            if version < 2:
                self.assertEqual(answer.topics[0].partitions[0].error_code, NOT_COORDINATOR)
            else:
                self.assertEqual((answer.error_code, answer.topics), (NOT_COORDINATOR, []))

    def test_commits_of_members(self) -> None:
        joined = self.stable()
        mine = {"generation_id_or_member_epoch": 1, "member_id": joined.member_id}
        for version in range(1, 11):
            self.assertEqual(self.commit(version, ("t", 0, 3), **mine), [0])
            self.assertEqual(
                self.commit(version, ("t", 0, 4), **{**mine, "generation_id_or_member_epoch": 3}),
                [ILLEGAL_GENERATION],
            )
            stranger = {**mine, "member_id": "stranger"}
            self.assertEqual(self.commit(version, ("t", 0, 4), **stranger), [UNKNOWN_MEMBER])
        self.assertEqual(self.commit(0, ("t", 0, 4)), [UNKNOWN_MEMBER])

    def test_retention_and_time_of_old_versions(self) -> None:
        now_ms = self.now_ms()
        self.commit(3, ("t", 0, 1), retention_time_ms=5_000)
        self.commit(2, ("t", 1, 1), retention_time_ms=2**63 - 1)
        kept = self.groups.committed("g", None)
        self.assertEqual(kept[TopicPartition("t", 0)].expire_time_ms, now_ms + 5_000)
        self.assertEqual(kept[TopicPartition("t", 1)].expire_time_ms, 2**63 - 1)
        request = self.commit_request(1, ("t", 0, 2))
        request.topics[0].partitions[0].commit_timestamp = 77
        self.ask(request, 1)
        kept = self.groups.committed("g", None)
        self.assertEqual((kept[TopicPartition("t", 0)].commit_time_ms), 77)

    def test_a_full_disk_reads_as_a_missing_coordinator(self) -> None:
        full = StorageError(ErrorCode.DISK_FULL, "no space left")
        self.metadata.write = lambda changes: fail(full)  # type: ignore[method-assign]
        self.assertEqual(self.commit(7, ("t", 0, 1)), [COORDINATOR_NOT_AVAILABLE])
        self.assertEqual(self.offsets(7, None), [])

    def test_null_metadata_and_too_much_of_it(self) -> None:
        request = self.commit_request(8, ("t", 0, 1), ("t", 1, 1))
        request.topics[0].partitions[0].committed_metadata = None
        request.topics[1].partitions[0].committed_metadata = "m" * 5_000
        answer = self.ask(request, 8)
        self.assertEqual([topic.partitions[0].error_code for topic in answer.topics], [0, 12])
        self.assertEqual(self.offsets(8, {"t": [0]}), [(0, 1, "", 0)])

    def delete_offsets(self, group: str, *rows: tuple[str, int]) -> Any:
        Topic = offset_delete.Request.Topic
        topics = [
            Topic(name=name, partitions=[Topic.Partition(partition_index=index)]) for name, index in rows
        ]
        return self.ask(offset_delete.Request(group_id=group, topics=topics), 0)

    def test_offset_delete(self) -> None:
        self.create("u")
        joined = self.stable()
        mine = {"generation_id_or_member_epoch": 1, "member_id": joined.member_id}
        self.commit(8, ("t", 0, 1), ("u", 0, 1), **mine)
        answer = self.delete_offsets("g", ("t", 0), ("u", 0), ("u", 0), ("no", 1))
        codes = [one.error_code for topic in answer.topics for one in topic.partitions]
        self.assertEqual((answer.error_code, codes), (0, [SUBSCRIBED, 0, 0, UNKNOWN_TOPIC]))
        self.assertEqual(list(self.groups.committed("g", None)), [TopicPartition("t", 0)])
        self.assertEqual(self.delete_offsets("no", ("t", 0)).error_code, GROUP_NOT_FOUND)
        self.join(9, "c", protocol_type="connect")
        self.assertEqual(self.delete_offsets("c", ("t", 0)).error_code, NON_EMPTY_GROUP)


class AdministrationTests(GroupCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("t")

    def test_describe(self) -> None:
        joined = self.stable(group_instance_id="i")
        self.ask(self.join_request("half"), 9)

        def check(version: int) -> None:
            request = describe_groups.Request(
                groups=["g", "none", "g", ""], include_authorized_operations=True
            )
            group, none, empty = self.ask(request, version).groups
            self.assertEqual((group.error_code, group.group_state), (0, "Stable"))
            self.assertEqual((group.protocol_type, group.protocol_data), ("consumer", "range"))
            (member,) = group.members
            self.assertEqual((member.client_id, member.client_host), ("tester", "/127.0.0.1"))
            self.assertEqual(member.member_metadata, subscription("t"))
            self.assertEqual(member.member_assignment, b"to " + joined.member_id.encode())
            self.assertEqual(member.group_instance_id, "i" if version >= 4 else None)
            self.assertEqual(none.group_state, "Dead")
            self.assertEqual(none.error_code, GROUP_NOT_FOUND if version >= 6 else 0)
            self.assertEqual((empty.error_code, empty.group_state), (none.error_code, "Dead"))
            self.assertEqual(group.authorized_operations, 3400 if version >= 3 else -(2**31))

        self.at_every_version(15, check)

    def test_describe_shows_what_members_read_while_they_join_anew(self) -> None:
        joined = self.stable()
        self.begin(self.join_request("g"), 3)
        (group,) = self.ask(describe_groups.Request(groups=["g"]), 6).groups
        self.assertEqual((group.group_state, group.protocol_data), ("PreparingRebalance", ""))
        told = {one.member_id: (one.member_metadata, one.member_assignment) for one in group.members}
        self.assertEqual(told.pop(joined.member_id), (b"", b"to " + joined.member_id.encode()))
        self.assertEqual(list(told.values()), [(b"", b"")])

    def test_list(self) -> None:
        self.stable("a")
        self.join(9, "b", protocol_type="connect")

        def listed(version: int, **filters: list[str]) -> list[str]:
            return [one.group_id for one in self.ask(list_groups.Request(**filters), version).groups]

        def check(version: int) -> None:
            self.assertEqual(listed(version), ["a", "b"])
            first = self.ask(list_groups.Request(), version).groups[0]
            self.assertEqual(first.protocol_type, "consumer")
            if version >= 4:
                self.assertEqual(first.group_state, "Stable")
                self.assertEqual(listed(version, states_filter=["STABLE"]), ["a"])
                self.assertEqual(listed(version, states_filter=["nonsense"]), [])
            if version >= 5:
                self.assertEqual(listed(version, types_filter=["Classic"]), ["a", "b"])
                self.assertEqual(listed(version, types_filter=["consumer"]), [])

        self.at_every_version(16, check)

    def test_delete(self) -> None:
        def check(version: int) -> None:
            busy = f"busy{version}"
            joined = self.join(9, busy)
            idle = self.stable("idle")
            self.ask(leave_group.Request(group_id="idle", member_id=idle.member_id), 0)
            request = delete_groups.Request(groups_names=["idle", busy, "none", "idle"])
            rows = self.ask(request, version).results
            self.assertEqual(
                [(one.group_id, one.error_code) for one in rows],
                [("idle", 0), (busy, NON_EMPTY_GROUP), ("none", GROUP_NOT_FOUND)],
            )
            self.assertEqual(self.groups.describe("idle").state, "Dead")
            self.assertEqual(joined.error_code, 0)

        self.at_every_version(42, check)


class SubscribedTopicsTests(ApiCase):
    def test_reads_consumers_only(self) -> None:
        self.assertEqual(subscribed_topics("consumer", subscription("a", "b", "a")), {"a", "b"})
        self.assertIsNone(subscribed_topics("connect", subscription("a")))
        for damaged in (b"", b"\x00", b"\x00\x01\x7f\xff\xff\xff", b"\xff\xff" + subscription("a")[2:]):
            self.assertIsNone(subscribed_topics("consumer", damaged))
