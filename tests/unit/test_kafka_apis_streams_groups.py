"""Streams groups through Kafka's requests: what members are told, refused and survive."""

from __future__ import annotations

from typing import Any

from megabroker.protocols.kafka.schema import (
    consumer_group_heartbeat,
    delete_groups,
    join_group,
    list_groups,
    offset_commit,
    offset_fetch,
    streams_group_describe,
    streams_group_heartbeat,
)
from megabroker.protocols.kafka.schema.streams_group_heartbeat import TaskIds, TopicInfo
from tests.unit.kafka_apis_harness import ApiCase

INCONSISTENT_PROTOCOL, INVALID_GROUP, UNKNOWN_MEMBER, INVALID_REQUEST = 23, 24, 25, 42
NON_EMPTY_GROUP, GROUP_NOT_FOUND, FENCED_EPOCH, STALE_EPOCH, INVALID_TOPOLOGY = 68, 69, 110, 113, 130
STALE_TOPOLOGY, MISSING_SOURCES, MISSING_INTERNAL = 0, 1, 3

Beat = streams_group_heartbeat.Request
Part = Beat.Topology.Subtopology
Endpoint = Beat.UserEndpoint


def counts(
    epoch: int = 0, changelog: str = "store", **fields: Any
) -> streams_group_heartbeat.Request.Topology:
    part = Part(
        subtopology_id="0",
        **{"source_topics": ["t"], "state_changelog_topics": [TopicInfo(name=changelog)], **fields},
    )
    return Beat.Topology(epoch=epoch, subtopologies=[part])


class StreamsGroupCase(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("t", 2)

    def beat(self, member: str, epoch: int, **fields: Any) -> Any:
        return self.ask(Beat(**{"group_id": "g", "member_id": member, "member_epoch": epoch, **fields}), 0)

    def join(self, member: str = "m", **fields: Any) -> Any:
        rest = {
            "rebalance_timeout_ms": 1000,
            "topology": counts(),
            "active_tasks": [],
            "standby_tasks": [],
            "warmup_tasks": [],
            "process_id": member,
            **fields,
        }
        return self.beat(member, 0, **rest)

    def at_work(self, member: str = "m", **fields: Any) -> int:
        """Join and go on until there are tasks; return the epoch."""
        answer = self.join(member, **fields)
        self.assertEqual(answer.error_code, 0)
        if not answer.active_tasks:
            answer = self.beat(member, answer.member_epoch)
        (tasks,) = answer.active_tasks
        self.assertEqual((tasks.subtopology_id, tasks.partitions), ("0", [0, 1]))
        return int(answer.member_epoch)

    def describe(self, group_id: str = "g") -> Any:
        return self.ask(streams_group_describe.Request(group_ids=[group_id]), 0).groups[0]

    def kinds(self) -> dict[str, str]:
        groups = self.ask(list_groups.Request(), 5).groups
        return {one.group_id: one.group_type for one in groups}


class HeartbeatTests(StreamsGroupCase):
    def test_internal_topics_are_made_and_tasks_handed_out(self) -> None:
        answer = self.join()
        self.assertEqual([one.status_code for one in answer.status], [MISSING_INTERNAL])
        self.assertEqual(answer.active_tasks, [])
        self.assertEqual(self.topics.get("store").partitions, 2)
        answer = self.beat("m", answer.member_epoch)
        self.assertEqual((answer.status, len(answer.active_tasks)), ([], 1))
        self.assertEqual(self.describe().group_state, "Stable")
        again = self.beat("m", answer.member_epoch)
        self.assertIsNone(again.active_tasks)

    def test_internal_topics_have_the_configuration_the_application_wants(self) -> None:
        config = streams_group_heartbeat.KeyValue(key="cleanup.policy", value="compact")
        topology = counts(state_changelog_topics=[TopicInfo(name="store", topic_configs=[config])])
        self.join(topology=topology)
        self.assertEqual(self.topics.config("store", "cleanup.policy"), "compact")

    def test_an_internal_topic_that_cannot_be_made_is_told(self) -> None:
        self.join(topology=counts(changelog="no good"))
        (status,) = self.join(topology=counts(changelog="no good")).status
        self.assertEqual(status.status_code, MISSING_INTERNAL)
        self.assertIn("internal topics are missing: no good; no good: ", status.status_detail)

    def test_missing_sources_are_waited_for(self) -> None:
        answer = self.join(topology=counts(source_topics=["later"]))
        self.assertEqual([one.status_code for one in answer.status], [MISSING_SOURCES])
        self.assertEqual(self.describe().group_state, "NotReady")
        self.create("later", 3)
        self.clock.advance(2)
        answer = self.beat("m", self.beat("m", answer.member_epoch).member_epoch)
        self.assertEqual(answer.status, [])
        self.assertEqual(self.describe().members[0].assignment.active_tasks[0].partitions, [0, 1, 2])

    def test_tasks_move_when_they_have_been_given_up(self) -> None:
        epoch = self.at_work()
        second = self.join("n")
        self.assertEqual(second.active_tasks, [])
        first = self.beat("m", epoch)
        (kept,) = first.active_tasks
        self.assertEqual(len(kept.partitions), 1)
        self.assertIsNone(self.beat("n", second.member_epoch).active_tasks)
        fields = {"active_tasks": [TaskIds(subtopology_id="0", partitions=kept.partitions)]}
        self.beat("m", first.member_epoch, standby_tasks=[], warmup_tasks=[], **fields)
        answer = self.beat("n", second.member_epoch)
        self.assertEqual([one.partitions for one in answer.active_tasks], [[1 - kept.partitions[0]]])

    def test_the_configuration_of_the_group_is_followed(self) -> None:
        epoch = self.at_work()
        self.assertEqual(self.beat("m", epoch).heartbeat_interval_ms, 5000)
        other = self.join("n")
        fields = {"active_tasks": [TaskIds(subtopology_id="0", partitions=[0])]}
        epoch = self.beat("m", epoch, standby_tasks=[], warmup_tasks=[], **fields).member_epoch
        self.assertEqual(self.beat("n", other.member_epoch).standby_tasks, [])
        configs = {"streams.heartbeat.interval.ms": "700", "streams.num.standby.replicas": "1"}
        stored = self.group_configs.set("g", configs)
        self.turn()
        self.successResultOf(stored)
        told = self.beat("n", other.member_epoch)
        self.assertEqual((told.heartbeat_interval_ms, len(told.standby_tasks)), (700, 1))
        self.assertEqual(self.beat("m", epoch).heartbeat_interval_ms, 700)

    def test_endpoints_are_told_to_who_does_not_know_them(self) -> None:
        epoch = self.at_work(user_endpoint=Endpoint(host="app", port=7000))
        answer = self.beat("m", epoch, endpoint_information_epoch=-1)
        (one,) = answer.partitions_by_user_endpoint
        self.assertEqual((one.user_endpoint.host, one.user_endpoint.port), ("app", 7000))
        self.assertEqual([(row.topic, row.partitions) for row in one.active_partitions], [("t", [0, 1])])
        known = self.beat("m", epoch, endpoint_information_epoch=answer.endpoint_information_epoch)
        self.assertIsNone(known.partitions_by_user_endpoint)

    def test_leaving_and_session(self) -> None:
        epoch = self.at_work()
        self.assertEqual(self.beat("m", -1).member_epoch, -1)
        self.assertEqual(self.beat("m", epoch).error_code, UNKNOWN_MEMBER)
        self.at_work()
        self.clock.advance(46)
        self.assertEqual(self.describe().group_state, "Empty")

    def test_epochs(self) -> None:
        epoch = self.at_work()
        self.assertEqual(self.beat("m", epoch + 1).error_code, FENCED_EPOCH)
        self.assertEqual(self.beat("m", epoch - 1).error_code, FENCED_EPOCH)
        self.assertEqual(self.beat("x", epoch).error_code, UNKNOWN_MEMBER)

    def test_another_topology(self) -> None:
        epoch = self.at_work()
        other = counts(epoch=1, changelog="other")
        self.assertEqual(self.join("n", topology=other).error_code, INVALID_REQUEST)
        self.beat("m", -1)
        self.assertEqual(self.join("n", topology=other).error_code, 0)
        stale = self.join("o")
        self.assertIn(STALE_TOPOLOGY, [one.status_code for one in stale.status])
        self.assertGreater(stale.member_epoch, epoch)

    def test_refusals(self) -> None:
        copartition = Part.CopartitionGroup
        cases: list[tuple[dict[str, Any], int]] = [
            ({"group_id": " "}, INVALID_REQUEST),
            ({"member_id": ""}, INVALID_REQUEST),
            ({"rack_id": " "}, INVALID_REQUEST),
            ({"instance_id": "i"}, INVALID_REQUEST),
            ({"rebalance_timeout_ms": -1}, INVALID_REQUEST),
            ({"topology": None}, INVALID_REQUEST),
            ({"active_tasks": [TaskIds(subtopology_id="0", partitions=[0])]}, INVALID_REQUEST),
            ({"standby_tasks": None}, INVALID_REQUEST),
            ({"warmup_tasks": [TaskIds(subtopology_id="0", partitions=[0])]}, INVALID_REQUEST),
            ({"task_offsets": []}, INVALID_REQUEST),
            ({"topology": counts(source_topic_regex=["t.*"])}, INVALID_REQUEST),
            ({"topology": counts(epoch=-1)}, INVALID_TOPOLOGY),
            ({"topology": counts(source_topics=[])}, INVALID_TOPOLOGY),
            ({"topology": counts(copartition_groups=[copartition(source_topics=[1])])}, INVALID_TOPOLOGY),
            ({"topology": counts(copartition_groups=[copartition(source_topics=[-1])])}, INVALID_TOPOLOGY),
        ]
        for fields, error in cases:
            with self.subTest(**fields):
                self.assertEqual(self.join(**fields).error_code, error)
        self.assertEqual(self.kinds(), {})
        self.assertEqual(self.beat("m", 3).error_code, GROUP_NOT_FOUND)
        epoch = self.at_work()
        owned = [TaskIds(subtopology_id="0", partitions=[2])]
        answer = self.beat("m", epoch, active_tasks=owned, standby_tasks=[], warmup_tasks=[])
        self.assertEqual(answer.error_code, INVALID_REQUEST)
        self.assertEqual(self.beat("m", epoch, topology=counts()).error_code, INVALID_REQUEST)


class GroupTests(StreamsGroupCase):
    def commit(self, member: str, epoch: int, offset: int = 5) -> int:
        partition = offset_commit.Request.Topic.Partition(partition_index=0, committed_offset=offset)
        request = offset_commit.Request(
            group_id="g",
            member_id=member,
            generation_id_or_member_epoch=epoch,
            topics=[offset_commit.Request.Topic(name="t", partitions=[partition])],
        )
        return int(self.ask(request, 9).topics[0].partitions[0].error_code)

    def test_members_commit_offsets(self) -> None:
        epoch = self.at_work()
        self.assertEqual(self.commit("m", epoch), 0)
        self.assertEqual(self.commit("m", epoch + 1), STALE_EPOCH)
        self.assertEqual(self.commit("x", epoch), UNKNOWN_MEMBER)
        self.join("n")
        later = self.beat("m", epoch).member_epoch
        self.assertEqual(self.commit("m", later), 0)

    def test_other_kinds_of_members_stay_outside(self) -> None:
        self.at_work()
        protocol = join_group.Request.Protocol(name="range", metadata=b"")
        classic = join_group.Request(
            group_id="g", session_timeout_ms=10_000, protocol_type="consumer", protocols=[protocol]
        )
        self.assertEqual(self.ask(classic, 3).error_code, INCONSISTENT_PROTOCOL)
        consumer = consumer_group_heartbeat.Request(
            group_id="g",
            member_id="c",
            rebalance_timeout_ms=1000,
            subscribed_topic_names=["t"],
            topic_partitions=[],
        )
        self.assertEqual(self.ask(consumer, 1).error_code, GROUP_NOT_FOUND)
        self.assertEqual(self.kinds(), {"g": "streams"})
        self.beat("m", -1)
        self.assertEqual(self.ask(consumer, 1).error_code, 0)
        self.assertEqual(self.kinds(), {"g": "consumer"})
        self.assertEqual(self.join().error_code, GROUP_NOT_FOUND)
        leaves = consumer_group_heartbeat.Request(group_id="g", member_id="c", member_epoch=-1)
        self.assertEqual(self.ask(leaves, 1).error_code, 0)
        self.assertEqual(self.join().error_code, 0)
        self.assertEqual(self.kinds(), {"g": "streams"})

    def test_deleting(self) -> None:
        epoch = self.at_work()
        self.commit("m", epoch)
        request = delete_groups.Request(groups_names=["g"])
        self.assertEqual(self.ask(request, 2).results[0].error_code, NON_EMPTY_GROUP)
        self.beat("m", -1)
        self.assertEqual(self.ask(request, 2).results[0].error_code, 0)
        self.assertEqual(self.describe().error_code, GROUP_NOT_FOUND)
        topic = offset_fetch.Request.Group.Topic(name="t", partition_indexes=[0])
        fetch = offset_fetch.Request(groups=[offset_fetch.Request.Group(group_id="g", topics=[topic])])
        self.assertEqual(self.ask(fetch, 8).groups[0].topics[0].partitions[0].committed_offset, -1)

    def test_members_outlive_a_restart(self) -> None:
        epoch = self.at_work(user_endpoint=Endpoint(host="app", port=1))
        before = self.describe()
        self.restart()
        self.assertEqual(self.describe(), before)
        answer = self.beat("m", epoch)
        self.assertEqual((answer.error_code, answer.member_epoch, answer.active_tasks), (0, epoch, None))

    def restart(self) -> None:
        self.groups.stop()
        self.groups = self.make_groups()
        self.groups.load()
        self.broker.groups = self.groups
