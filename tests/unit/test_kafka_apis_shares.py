"""What administrators and other brokers ask about share groups, at every version."""

from __future__ import annotations

from typing import Any

from megabroker.protocols.kafka.schema import (
    alter_share_group_offsets,
    api_versions,
    consumer_group_heartbeat,
    delete_groups,
    delete_share_group_offsets,
    delete_share_group_state,
    describe_configs,
    describe_groups,
    describe_share_group_offsets,
    find_coordinator,
    incremental_alter_configs,
    initialize_share_group_state,
    join_group,
    list_config_resources,
    list_groups,
    offset_commit,
    read_share_group_state,
    read_share_group_state_summary,
    share_group_describe,
    share_group_heartbeat,
    update_features,
    write_share_group_state,
)
from tests.unit.kafka_apis_harness import ApiCase

GROUP = 32


class SharesCase(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.topic = self.create("t", 2)

    def beat(self, group: str = "g", member: str = "m", epoch: int = 0, **fields: Any) -> Any:
        settings = {"subscribed_topic_names": ["t"], **fields}
        request = share_group_heartbeat.Request(
            group_id=group, member_id=member, member_epoch=epoch, **settings
        )
        return self.ask(request, 1)

    def leave(self, group: str = "g", member: str = "m") -> None:
        self.assertEqual(self.beat(group, member, -1).error_code, 0)

    def alter(self, *offsets: int, group: str = "g", topic: str = "t") -> Any:
        wanted = alter_share_group_offsets.Request.Topic
        rows = [
            wanted.Partition(partition_index=index, start_offset=offset)
            for index, offset in enumerate(offsets)
        ]
        request = alter_share_group_offsets.Request(
            group_id=group, topics=[wanted(topic_name=topic, partitions=rows)]
        )
        return self.ask(request, 0)

    def offsets(self, group: str = "g", version: int = 1) -> list[tuple[str, int, int, int]]:
        request = describe_share_group_offsets.Request(
            groups=[describe_share_group_offsets.Request.Group(group_id=group, topics=None)]
        )
        [found] = self.ask(request, version).groups
        self.assertEqual((found.group_id, found.error_code), (group, 0))
        return [
            (topic.topic_name, row.partition_index, row.start_offset, row.lag)
            for topic in found.topics
            for row in topic.partitions
        ]


class HeartbeatTests(SharesCase):
    def test_joins_lives_on_and_leaves(self) -> None:
        answer = self.beat()
        self.assertEqual((answer.error_code, answer.member_id, answer.member_epoch), (0, "m", 1))
        self.assertEqual(answer.heartbeat_interval_ms, 5000)
        [row] = answer.assignment.topic_partitions
        self.assertEqual((row.topic_id, row.partitions), (self.topic.id.bytes, [0, 1]))
        self.assertIsNone(self.beat(epoch=1, subscribed_topic_names=None).assignment)
        self.assertEqual(self.beat(epoch=-1).member_epoch, -1)

    def test_refusals(self) -> None:
        for code, fields in (
            (42, {"group": ""}),
            (42, {"member": ""}),
            (42, {"member": "x" * 37}),
            (42, {"epoch": -2}),
            (42, {"subscribed_topic_names": None}),
            (42, {"subscribed_topic_names": ["x" * 300]}),
            (42, {"rack_id": ""}),
            (69, {"epoch": 1}),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(self.beat(**fields).error_code, code)
        self.beat()
        self.assertEqual(self.beat(member="other", epoch=1).error_code, 25)
        self.assertEqual(self.beat(epoch=7).error_code, 110)


class NamesTests(SharesCase):
    def join(self, group: str, version: int = 9) -> int:
        request = join_group.Request(
            group_id=group,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            member_id="",
            protocol_type="consumer",
            protocols=[join_group.Request.Protocol(name="range", metadata=b"")],
        )
        return int(self.ask(request, version).error_code)

    def consume(self, group: str) -> int:
        request = consumer_group_heartbeat.Request(
            group_id=group,
            member_id="m",
            member_epoch=0,
            rebalance_timeout_ms=1000,
            subscribed_topic_names=["t"],
            topic_partitions=[],
        )
        return int(self.ask(request, 1).error_code)

    def test_a_name_belongs_to_one_kind_of_group(self) -> None:
        self.beat("share")
        self.assertEqual((self.join("share"), self.consume("share")), (23, 69))
        commit = offset_commit.Request.Topic
        request = offset_commit.Request(
            group_id="share",
            generation_id_or_member_epoch=-1,
            topics=[commit(name="t", partitions=[commit.Partition(partition_index=0, committed_offset=1)])],
        )
        self.assertEqual(self.ask(request, 8).topics[0].partitions[0].error_code, 69)
        self.assertEqual(self.consume("consumer"), 0)
        self.assertEqual(self.beat("consumer").error_code, 69)
        self.assertEqual(self.alter(0, group="consumer").error_code, 69)
        self.leave("share")
        self.assertEqual(self.consume("share"), 0)

    def test_listed_and_described(self) -> None:
        self.beat("b", member="m1", rack_id="r")
        self.alter(3, group="a")
        self.consume("c")
        listed = self.ask(list_groups.Request(types_filter=["Share"]), 5).groups
        self.assertEqual(
            [(one.group_id, one.group_state, one.protocol_type, one.group_type) for one in listed],
            [("a", "Empty", "share", "share"), ("b", "Stable", "share", "share")],
        )
        self.assertEqual([one.group_id for one in self.ask(list_groups.Request(), 5).groups], ["a", "b", "c"])
        request = share_group_describe.Request(
            group_ids=["a", "b", "c", "d", ""], include_authorized_operations=True
        )
        found = self.ask(request, 1).groups
        self.assertEqual([one.error_code for one in found], [0, 0, 69, 69, 24])
        self.assertEqual((found[0].group_state, found[0].members), ("Empty", []))
        self.assertEqual(
            (found[1].group_state, found[1].group_epoch, found[1].assignment_epoch, found[1].assignor_name),
            ("Stable", 1, 1, "simple"),
        )
        [member] = found[1].members
        self.assertEqual(
            (member.member_id, member.rack_id, member.member_epoch, member.client_id, member.client_host),
            ("m1", "r", 1, "tester", "/127.0.0.1"),
        )
        self.assertEqual(member.subscribed_topic_names, ["t"])
        [row] = member.assignment.topic_partitions
        self.assertEqual((row.topic_name, row.partitions), ("t", [0, 1]))
        [dead] = self.ask(describe_groups.Request(groups=["b"]), 6).groups
        self.assertEqual((dead.error_code, dead.group_state), (69, "Dead"))

    def test_deleted(self) -> None:
        self.beat("b")
        self.alter(3, group="a")

        def delete(version: int) -> list[int]:
            request = delete_groups.Request(groups_names=["a", "b", "c"])
            return [one.error_code for one in self.ask(request, version).results]

        self.assertEqual(delete(2), [0, 68, 69])
        self.assertEqual(self.offsets("a"), [])
        self.leave("b")
        self.assertEqual(delete(1), [69, 69, 69])

    def test_coordinator(self) -> None:
        key = f"g:with:colons:{self.topic.id}:0"
        request = find_coordinator.Request(key_type=2, coordinator_keys=[key, "nonsense"])
        good, bad = self.ask(request, 6).coordinators
        self.assertEqual((good.key, good.error_code, good.node_id), (key, 0, 1))
        self.assertEqual((bad.error_code, bad.node_id), (42, -1))
        [row] = self.ask(find_coordinator.Request(key_type=2, coordinator_keys=[key]), 5).coordinators
        self.assertEqual(row.error_code, 42)

    def test_feature(self) -> None:
        told = self.ask(api_versions.Request(client_software_name="x", client_software_version="1"), 4)
        levels = {one.name: one.max_version_level for one in told.finalized_features}
        self.assertEqual(levels["share.version"], 1)
        request = update_features.Request(
            timeout_ms=1,
            feature_updates=[
                update_features.Request.FeatureUpdate(
                    feature="share.version", max_version_level=1, upgrade_type=1
                )
            ],
        )
        self.assertEqual(self.ask(request, 2).error_code, 0)


class OffsetsTests(SharesCase):
    def test_set_and_told(self) -> None:
        self.produce("t", 1, 2, 3)
        answer = self.alter(1, 0)
        self.assertEqual(answer.error_code, 0)
        self.assertEqual([row.error_code for row in answer.responses[0].partitions], [0, 0])
        self.assertEqual(self.offsets(), [("t", 0, 1, 2), ("t", 1, 0, 0)])
        self.assertEqual(self.offsets(version=0), [("t", 0, 1, -1), ("t", 1, 0, -1)])

    def test_what_cannot_be_set(self) -> None:
        answer = self.alter(-5, 0, 0)
        self.assertEqual([row.error_code for row in answer.responses[0].partitions], [42, 0, 3])
        self.assertEqual(self.offsets(), [("t", 1, 0, 0)])
        answer = self.alter(0, topic="nowhere")
        self.assertEqual([row.error_code for row in answer.responses[0].partitions], [3])
        self.assertEqual(self.alter(0, group="").error_code, 24)
        self.beat()
        self.assertEqual(self.alter(0).error_code, 68)

    def test_asked_for_by_name(self) -> None:
        self.alter(4)
        wanted = describe_share_group_offsets.Request.Group
        for version in (0, 1):
            request = describe_share_group_offsets.Request(
                groups=[
                    wanted(
                        group_id="g",
                        topics=[
                            wanted.Topic(topic_name="t", partitions=[0, 1]),
                            wanted.Topic(topic_name="nowhere", partitions=[0]),
                        ],
                    ),
                    wanted(group_id="unknown", topics=[wanted.Topic(topic_name="t", partitions=[0])]),
                ]
            )
            known, unknown = self.ask(request, version).groups
            self.assertEqual([row.start_offset for row in known.topics[0].partitions], [4, -1])
            self.assertEqual([row.start_offset for row in known.topics[1].partitions], [-1])
            self.assertEqual(unknown.topics[0].partitions[0].start_offset, -1)
        self.assertEqual(self.offsets("unknown"), [])

    def test_deleted(self) -> None:
        wanted = delete_share_group_offsets.Request.Topic
        request = delete_share_group_offsets.Request(
            group_id="g", topics=[wanted(topic_name="t"), wanted(topic_name="nowhere")]
        )
        self.assertEqual(self.ask(request, 0).error_code, 69)
        self.alter(1, 2)
        rows = self.ask(request, 0).responses
        self.assertEqual([(row.topic_name, row.error_code) for row in rows], [("t", 0), ("nowhere", 3)])
        self.assertEqual(self.offsets(), [])
        self.assertEqual([row.error_code for row in self.ask(request, 0).responses], [3, 3])
        self.beat()
        self.assertEqual(self.ask(request, 0).error_code, 68)

    def test_a_deleted_topic_is_forgotten(self) -> None:
        self.alter(1, 2)
        self.topics.delete("t")
        self.turn()
        self.assertEqual(self.offsets(), [])
        self.assertEqual(self.metadata.rows("share_partitions"), {})


class StateTests(SharesCase):
    def change(self, message: Any, version: int, **fields: Any) -> Any:
        """Send one of the requests about partition 0; return its row."""
        topic = message.Request.Topic
        request = message.Request(
            group_id="g",
            topics=[topic(topic_id=self.topic.id.bytes, partitions=[topic.Partition(partition=0, **fields)])],
        )
        [answer] = self.ask(request, version).results
        [row] = answer.partitions
        return row

    def write(
        self, *batches: tuple[int, int, int, int], start: int = -1, version: int = 1, **fields: Any
    ) -> int:
        batch = write_share_group_state.Request.Topic.Partition.StateBatch
        rows = [
            batch(first_offset=first, last_offset=last, delivery_state=state, delivery_count=count)
            for first, last, state, count in batches
        ]
        settings = {"state_epoch": -1, "leader_epoch": -1, **fields}
        row = self.change(
            write_share_group_state, version, start_offset=start, state_batches=rows, **settings
        )
        return int(row.error_code)

    def read(self) -> list[tuple[int, int, int, int]]:
        row = self.change(read_share_group_state, 0, leader_epoch=-1)
        self.assertEqual(row.error_code, 0)
        return [
            (one.first_offset, one.last_offset, one.delivery_state, one.delivery_count)
            for one in row.state_batches
        ]

    def test_from_beginning_to_end(self) -> None:
        self.assertEqual(self.change(read_share_group_state, 0).error_code, 42)
        self.assertEqual(self.write((0, 1, 2, 1)), 42)
        self.assertEqual(self.change(read_share_group_state_summary, 0).start_offset, -1)
        self.assertEqual(
            self.change(initialize_share_group_state, 0, state_epoch=3, start_offset=5).error_code, 0
        )
        self.assertEqual(self.change(initialize_share_group_state, 0, state_epoch=2).error_code, 124)
        self.assertEqual(self.write((6, 9, 0, 1), (8, 8, 2, 1), version=0), 0)
        self.assertEqual(self.read(), [(6, 7, 0, 1), (8, 8, 2, 1), (9, 9, 0, 1)])
        self.assertEqual(self.write((9, 9, 4, 2), (7, 7, 0, 2)), 0)
        self.assertEqual(self.read(), [(6, 6, 0, 1), (7, 7, 0, 2), (8, 8, 2, 1), (9, 9, 4, 2)])
        row = self.change(read_share_group_state_summary, 1)
        self.assertEqual((row.state_epoch, row.start_offset, row.delivery_complete_count), (3, 5, 2))
        self.assertEqual(self.write((5, 7, 2, 1)), 0)
        self.assertEqual(self.read(), [])
        row = self.change(read_share_group_state_summary, 1)
        self.assertEqual((row.start_offset, row.delivery_complete_count), (10, 0))
        for _ in range(2):
            self.assertEqual(self.change(delete_share_group_state, 0).error_code, 0)
        self.assertEqual(self.change(read_share_group_state, 0).error_code, 42)

    def test_refusals(self) -> None:
        self.change(initialize_share_group_state, 0, state_epoch=1, start_offset=0)
        self.assertEqual(self.write((0, 0, 2, 1), state_epoch=0), 124)
        for batch in ((1, 0, 2, 1), (0, 0, 1, 1), (0, 0, 9, 1), (0, 0, 2, -1), (-1, 0, 2, 1)):
            self.assertEqual(self.write(batch), 42)
        for batch in ((0, 2**63 - 1, 2, 1), (1, 2**31, 2, 1)):
            self.assertEqual(self.write(batch), 42)
        self.assertEqual(self.change(read_share_group_state_summary, 1).error_code, 0)
        self.assertEqual(self.write((2**63 - 1, 2**63 - 1, 2, 1), start=2**63 - 1), 42)
        self.beat("g2")
        topic = delete_share_group_state.Request.Topic
        for index, group, code in ((7, "g", 3), (-1, "g", 42), (0, "", 42)):
            request = delete_share_group_state.Request(
                group_id=group,
                topics=[topic(topic_id=self.topic.id.bytes, partitions=[topic.Partition(partition=index)])],
            )
            self.assertEqual(self.ask(request, 0).results[0].partitions[0].error_code, code)


class ConfigTests(SharesCase):
    def alter_configs(
        self, *changes: tuple[str, int, str | None], group: str = "g", only: bool = False
    ) -> int:
        resource = incremental_alter_configs.Request.Resource
        request = incremental_alter_configs.Request(
            resources=[
                resource(
                    resource_type=GROUP,
                    resource_name=group,
                    configs=[
                        resource.Config(name=name, config_operation=operation, value=value)
                        for name, operation, value in changes
                    ],
                )
            ],
            validate_only=only,
        )
        [row] = self.ask(request, 1).responses
        return int(row.error_code)

    def described(self, group: str = "g") -> dict[str, tuple[str | None, int]]:
        resource = describe_configs.Request.Resource
        request = describe_configs.Request(
            resources=[resource(resource_type=GROUP, resource_name=group, configuration_keys=None)],
            include_synonyms=True,
            include_documentation=True,
        )
        [result] = self.ask(request, 4).results
        self.assertEqual(result.error_code, 0)
        return {one.name: (one.value, one.config_source) for one in result.configs}

    def listed(self) -> list[str]:
        request = list_config_resources.Request(resource_types=[GROUP])
        return [one.resource_name for one in self.ask(request, 1).config_resources]

    def test_set_and_taken_back(self) -> None:
        self.assertEqual(self.described()["share.auto.offset.reset"], ("latest", 5))
        self.assertEqual(self.alter_configs(("share.auto.offset.reset", 0, "earliest"), only=True), 0)
        self.assertEqual(self.listed(), [])
        changes = (("share.auto.offset.reset", 0, "earliest"), ("share.session.timeout.ms", 0, "50000"))
        self.assertEqual(self.alter_configs(*changes), 0)
        self.assertEqual(self.described()["share.auto.offset.reset"], ("earliest", 8))
        self.assertEqual(self.described()["share.session.timeout.ms"], ("50000", 8))
        self.assertEqual(self.described("other")["share.session.timeout.ms"], ("45000", 5))
        self.assertEqual(self.listed(), ["g"])
        self.assertEqual(
            self.metadata.rows("group_configs"),
            {"g": {"share.auto.offset.reset": "earliest", "share.session.timeout.ms": "50000"}},
        )
        self.assertEqual(self.alter_configs(*((name, 1, None) for name, _, _ in changes)), 0)
        self.assertEqual(self.listed(), [])

    def test_refused(self) -> None:
        for name, value in (
            ("share.auto.offset.reset", "somewhere"),
            ("share.auto.offset.reset", "by_duration:PT"),
            ("share.auto.offset.reset", "by_duration:-PT1S"),
            ("share.isolation.level", "none"),
            ("share.record.lock.duration.ms", "999"),
            ("share.delivery.count.limit", "1"),
            ("share.partition.max.record.locks", "many"),
            ("share.session.timeout.ms", "5000"),
            ("consumer.heartbeat.interval.ms", "45000"),
            ("share.renew.acknowledge.enable", "perhaps"),
            ("no.such.config", "1"),
        ):
            with self.subTest(name=name, value=value):
                self.assertEqual(self.alter_configs((name, 0, value)), 40)
        self.assertEqual(self.alter_configs(("share.isolation.level", 2, "read_committed")), 40)
        self.assertEqual(self.alter_configs(("share.isolation.level", 0, "read_committed"), group=""), 24)
        self.assertEqual(self.alter_configs(("share.auto.offset.reset", 0, "by_duration:P1DT2H3M4.5S")), 0)

    def test_groups_follow(self) -> None:
        self.assertEqual(self.beat().heartbeat_interval_ms, 5000)
        self.assertEqual(
            self.alter_configs(
                ("share.heartbeat.interval.ms", 0, "7000"), ("consumer.heartbeat.interval.ms", 0, "8000")
            ),
            0,
        )
        self.assertEqual(self.beat(epoch=1).heartbeat_interval_ms, 7000)
        self.leave()
        request = consumer_group_heartbeat.Request(
            group_id="g",
            member_id="m",
            member_epoch=0,
            rebalance_timeout_ms=1000,
            subscribed_topic_names=["t"],
            topic_partitions=[],
        )
        self.assertEqual(self.ask(request, 1).heartbeat_interval_ms, 8000)
