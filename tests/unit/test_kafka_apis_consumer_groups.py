"""Groups of the consumer protocol through Kafka's requests, at every version."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from megabroker.protocols.kafka.schema import (
    api_versions,
    consumer_group_describe,
    consumer_group_heartbeat,
    delete_groups,
    describe_groups,
    join_group,
    leave_group,
    list_groups,
    offset_commit,
    offset_delete,
    offset_fetch,
)
from tests.unit.kafka_apis_harness import ApiCase, versions

ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, INVALID_GROUP, UNKNOWN_MEMBER, UNSUPPORTED_VERSION = (
    22,
    23,
    24,
    25,
    35,
)
INVALID_REQUEST, NON_EMPTY_GROUP, GROUP_NOT_FOUND, SUBSCRIBED = 42, 68, 69, 86
FENCED_EPOCH, UNRELEASED, UNSUPPORTED_ASSIGNOR, STALE_EPOCH, INVALID_REGEX = 110, 111, 112, 113, 128

Beat = consumer_group_heartbeat.Request


class ConsumerGroupCase(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.t = self.create("t", 2)

    def beat(self, version: int = 1, **fields: Any) -> Any:
        return self.ask(Beat(**{"group_id": "g", **fields}), version, client_id="me")

    def join(self, member: str = "m", version: int = 1, **fields: Any) -> Any:
        rest = {
            "rebalance_timeout_ms": 1000,
            "subscribed_topic_names": ["t"],
            "topic_partitions": [],
            **fields,
        }
        return self.beat(version, member_id=member, member_epoch=0, **rest)

    def assigned(self, answer: Any) -> dict[UUID, list[int]] | None:
        if answer.assignment is None:
            return None
        return {UUID(bytes=bytes(one.topic_id)): one.partitions for one in answer.assignment.topic_partitions}


class HeartbeatTests(ConsumerGroupCase):
    def test_joining_living_and_leaving(self) -> None:
        def check(version: int) -> None:
            group = f"g{version}"
            joined = self.join("" if version == 0 else "mine", version, group_id=group)
            self.assertEqual((joined.error_code, joined.member_epoch), (0, 1))
            self.assertEqual(joined.heartbeat_interval_ms, 5000)
            self.assertEqual(self.assigned(joined), {self.t.id: [0, 1]})
            member = joined.member_id
            self.assertTrue(member.startswith("me-") if version == 0 else member == "mine")
            again = self.beat(version, group_id=group, member_id=member, member_epoch=1)
            self.assertEqual((again.error_code, again.member_epoch, again.assignment), (0, 1, None))
            left = self.beat(version, group_id=group, member_id=member, member_epoch=-1)
            self.assertEqual((left.error_code, left.member_id, left.member_epoch), (0, member, -1))

        self.at_every_version(68, check)

    def test_errors_at_every_version(self) -> None:
        def check(version: int) -> None:
            group = f"g{version}"
            first = self.join("m", version, group_id=group, instance_id="i")
            self.assertEqual(first.error_code, 0)
            known = {"group_id": group, "member_id": "m"}
            for answer, code in (
                (self.beat(version, **known, member_epoch=9), FENCED_EPOCH),
                (self.beat(version, group_id=group, member_id="n", member_epoch=1), UNKNOWN_MEMBER),
                (self.beat(version, group_id="none", member_id="n", member_epoch=1), GROUP_NOT_FOUND),
                (self.join("n", version, group_id=group, instance_id="i"), UNRELEASED),
                (self.join("n", version, group_id=group, server_assignor="mine"), UNSUPPORTED_ASSIGNOR),
                (self.join("n", version, group_id=""), INVALID_REQUEST),
                (self.join("n" * 5000, version, group_id=group), INVALID_REQUEST),
                (self.join("n", version, subscribed_topic_names=["x" * 250]), INVALID_REQUEST),
                (self.join("n", version, topic_partitions=None), INVALID_REQUEST),
            ):
                self.assertEqual(answer.error_code, code)
                self.assertTrue(answer.error_message)
                self.assertIsNone(answer.assignment)

        self.at_every_version(68, check)

    def test_version_1_brings_ids_and_regular_expressions(self) -> None:
        self.assertEqual(self.join("").error_code, INVALID_REQUEST)
        bad = self.join(subscribed_topic_names=None, subscribed_topic_regex="(")
        self.assertEqual(bad.error_code, INVALID_REGEX)
        other = self.create("topical")
        good = self.join(subscribed_topic_names=None, subscribed_topic_regex="topic.*|none")
        self.assertEqual(self.assigned(good), {other.id: [0]})
        both = self.beat(member_id="m", member_epoch=1, subscribed_topic_names=["t"])
        self.assertEqual(self.assigned(both), {self.t.id: [0, 1], other.id: [0]})
        back = self.beat(member_id="m", member_epoch=2, subscribed_topic_regex="")
        self.assertEqual(self.assigned(back), {self.t.id: [0, 1]})

    def test_an_administrator_removes_members(self) -> None:
        """The classic request to leave takes members of this protocol too, by instance or by id."""
        Leaver = leave_group.Request.Member
        self.assertEqual(self.join("m", instance_id="i").member_epoch, 1)
        self.join("n")
        leavers = [Leaver(group_instance_id="i"), Leaver(member_id="n"), Leaver(member_id="nobody")]
        answer = self.ask(leave_group.Request(group_id="g", members=leavers), 5)
        self.assertEqual([one.error_code for one in answer.members], [0, 0, UNKNOWN_MEMBER])
        self.assertEqual(self.beat(member_id="n", member_epoch=2).error_code, UNKNOWN_MEMBER)
        self.assertEqual(self.assigned(self.join("other", instance_id="i")), {self.t.id: [0, 1]})

    def test_owned_partitions_confirm_a_revocation(self) -> None:
        self.join()
        second = self.join("n")
        self.assertEqual(self.assigned(second), {})
        told = self.beat(member_id="m", member_epoch=1)
        [(_, kept)] = self.assigned(told).items()
        owned = [Beat.TopicPartition(topic_id=self.t.id.bytes, partitions=kept)] * 2
        self.assertEqual(self.beat(member_id="m", member_epoch=1, topic_partitions=owned).member_epoch, 2)
        gets = self.beat(member_id="n", member_epoch=2)
        self.assertEqual(sorted([*kept, *self.assigned(gets)[self.t.id]]), [0, 1])

    def test_classic_and_consumer_members_do_not_mix(self) -> None:
        protocols = [join_group.Request.Protocol(name="range", metadata=b"")]
        classic = join_group.Request(
            group_id="g", session_timeout_ms=10_000, protocol_type="consumer", protocols=protocols
        )
        self.join()
        for version in versions(11):
            self.assertEqual(self.ask(classic, version).error_code, INCONSISTENT_PROTOCOL)
        classic.group_id = "h"
        self.assertEqual(self.ask(classic, 3).error_code, 0)
        self.assertEqual(self.join(group_id="h").error_code, GROUP_NOT_FOUND)


class DescribeTests(ConsumerGroupCase):
    def test_a_group_at_every_version(self) -> None:
        self.join(instance_id="i", rack_id="r", subscribed_topic_regex="x+")
        self.join("n")

        def check(version: int) -> None:
            request = consumer_group_describe.Request(
                group_ids=["g", "none", "", "g"], include_authorized_operations=True
            )
            group, unknown, unnamed = self.ask(request, version).groups
            self.assertEqual((unknown.error_code, unnamed.error_code), (GROUP_NOT_FOUND, INVALID_GROUP))
            self.assertEqual((group.error_code, group.group_state), (0, "Reconciling"))
            self.assertEqual(
                (group.group_epoch, group.assignment_epoch, group.assignor_name), (2, 2, "uniform")
            )
            self.assertGreater(group.authorized_operations, 0)
            first, second = group.members
            self.assertEqual((first.member_id, first.instance_id, first.rack_id), ("m", "i", "r"))
            self.assertEqual((first.client_id, first.client_host), ("me", "/127.0.0.1"))
            self.assertEqual((first.member_epoch, second.member_epoch), (1, 2))
            self.assertEqual((first.subscribed_topic_names, first.subscribed_topic_regex), (["t"], "x+"))
            self.assertEqual(second.subscribed_topic_regex, "")
            self.assertEqual(first.member_type, 1 if version >= 1 else -1)
            [mine] = first.assignment.topic_partitions
            self.assertEqual((mine.topic_name, mine.partitions), ("t", [0, 1]))
            self.assertEqual(second.assignment.topic_partitions, [])
            self.assertEqual(len(second.target_assignment.topic_partitions[0].partitions), 1)

        self.at_every_version(69, check)

    def test_topics_that_are_gone_are_left_out(self) -> None:
        self.join()
        deleted = self.topics.delete("t")
        self.turn()
        self.successResultOf(deleted)
        self.clock.advance(1)
        [group] = self.ask(consumer_group_describe.Request(group_ids=["g"]), 1).groups
        self.assertEqual(group.group_state, "Assigning")
        self.assertEqual(group.members[0].assignment.topic_partitions, [])

    def test_other_requests_about_groups(self) -> None:
        self.join()
        for version in versions(15):
            [group] = self.ask(describe_groups.Request(groups=["g"]), version).groups
            self.assertEqual(group.group_state, "Dead")
            self.assertEqual(group.error_code, GROUP_NOT_FOUND if version >= 6 else 0)
        listed = self.ask(list_groups.Request(types_filter=["Consumer"], states_filter=["stable"]), 5).groups
        self.assertEqual(
            [(one.group_id, one.protocol_type, one.group_state, one.group_type) for one in listed],
            [("g", "consumer", "Stable", "consumer")],
        )
        for version in versions(42):
            [result] = self.ask(delete_groups.Request(groups_names=["g"]), version).results
            self.assertEqual(result.error_code, NON_EMPTY_GROUP)
        topics = [
            offset_delete.Request.Topic(
                name="t", partitions=[offset_delete.Request.Topic.Partition(partition_index=0)]
            )
        ]
        deleted = self.ask(offset_delete.Request(group_id="g", topics=topics), 0)
        self.assertEqual(deleted.topics[0].partitions[0].error_code, SUBSCRIBED)


class OffsetTests(ConsumerGroupCase):
    def commit(self, version: int, group: str, epoch: int, member: str) -> int:
        partition = offset_commit.Request.Topic.Partition(partition_index=0, committed_offset=5)
        topic = offset_commit.Request.Topic(name="t", topic_id=self.t.id.bytes, partitions=[partition])
        request = offset_commit.Request(
            group_id=group, generation_id_or_member_epoch=epoch, member_id=member, topics=[topic]
        )
        return self.ask(request, version).topics[0].partitions[0].error_code

    def fetch(self, version: int, group: str, epoch: int, member: str) -> Any:
        topic = offset_fetch.Request.Group.Topic(name="t", topic_id=self.t.id.bytes, partition_indexes=[0])
        wanted = offset_fetch.Request.Group(
            group_id=group, member_id=member, member_epoch=epoch, topics=[topic]
        )
        [answer] = self.ask(offset_fetch.Request(groups=[wanted]), version).groups
        return answer

    def test_commits_are_checked_against_the_member_epoch(self) -> None:
        self.join()
        for version in range(1, 11):
            with self.subTest(version=version):
                knows = version >= 9
                self.assertEqual(self.commit(version, "g", 1, "m"), 0)
                self.assertEqual(
                    self.commit(version, "g", 3, "m"), STALE_EPOCH if knows else UNSUPPORTED_VERSION
                )
                self.assertEqual(self.commit(version, "g", 1, "n"), UNKNOWN_MEMBER)
                self.assertEqual(
                    self.commit(version, "none", 1, "n"), GROUP_NOT_FOUND if knows else ILLEGAL_GENERATION
                )

    def test_reading_is_checked_from_9(self) -> None:
        self.join()
        self.commit(9, "g", 1, "m")
        for version in (9, 10):
            self.assertEqual(self.fetch(version, "g", 1, "m").topics[0].partitions[0].committed_offset, 5)
            self.assertEqual(self.fetch(version, "g", 2, "m").error_code, STALE_EPOCH)
            self.assertEqual(self.fetch(version, "g", 1, "n").error_code, UNKNOWN_MEMBER)


class FeatureTests(ConsumerGroupCase):
    def test_the_feature_is_finalized(self) -> None:
        for version in versions(18):
            answer = self.ask(api_versions.Request(), version)
            served = {one.api_key: (one.min_version, one.max_version) for one in answer.api_keys}
            self.assertEqual((served[68], served[69]), ((0, 1), (0, 1)))
            levels = {one.name: one.max_version_level for one in answer.finalized_features}
            self.assertEqual(levels.get("group.version"), 1 if version >= 3 else None)
