"""Requests about the cluster that one node can only answer in one way, but has to answer truthfully."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import HostPort, Listener, Node
from megabroker.protocols.kafka.schema import (
    alter_partition_reassignments,
    describe_quorum,
    elect_leaders,
    get_telemetry_subscriptions,
    list_config_resources,
    list_partition_reassignments,
    push_telemetry,
    update_features,
)
from tests.unit.kafka_apis_harness import NOW_MS, ApiCase

UNKNOWN_TOPIC, UNSUPPORTED_VERSION, INVALID_ASSIGNMENT, NOT_CONTROLLER, INVALID_REQUEST = 3, 35, 39, 41, 42
UNSUPPORTED_COMPRESSION, PREFERRED_NOT_AVAILABLE, ELIGIBLE_NOT_AVAILABLE, NOT_NEEDED = 76, 80, 83, 84
NO_REASSIGNMENT, INVALID_UPDATE, UPDATE_FAILED, UNKNOWN_SUBSCRIPTION, TOO_LARGE = 85, 95, 96, 117, 118
PREFERRED, UNCLEAN = 0, 1


@attrs.define
class OtherController:
    """Two nodes, of which this one leads partitions and the other takes topic changes."""

    me: Node
    other: Node

    def nodes(self) -> Sequence[Node]:
        return [self.me, self.other]

    def controller(self) -> Node:
        return self.other

    def leader(self, _: Any) -> Node:
        return self.me

    def coordinator(self, _: str) -> Node:
        return self.me


class ClusterCase(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("t", 2)
        self.create("u")

    def two_nodes(self) -> None:
        other = Node(2, None, (Listener("kafka", "PLAIN", HostPort("other.test", 9092)),))
        self.broker.placement = OtherController(self.placement.me, other)

    def break_log(self, topic: str, index: int) -> None:
        """Have the log of one partition out of order, as after a failed start."""
        self.topics._partitions[topic][index] = StorageError(ErrorCode.STORAGE, "damaged")


class ElectLeadersTests(ClusterCase):
    def elect(
        self, version: int, topics: dict[str, list[int]] | None, kind: int = PREFERRED
    ) -> tuple[int, dict[tuple[str, int], int]]:
        Topic = elect_leaders.Request.Topic
        asked = None if topics is None else [Topic(topic=name, partitions=p) for name, p in topics.items()]
        response = self.ask(
            elect_leaders.Request(topic_partitions=asked, election_type=kind, timeout_ms=1000), version
        )
        rows = {
            (topic.topic, row.partition_id): row.error_code
            for topic in response.replica_election_results
            for row in topic.partition_result
        }
        return response.error_code, rows

    def test_nothing_to_elect(self) -> None:
        def check(version: int) -> None:
            self.assertEqual(self.elect(version, None), (0, {}))
            self.assertEqual(self.elect(version, {}), (0, {}))
            asked = {"t": [0, 1, 2, -1, 0], "no": [0]}
            expected = {
                ("t", 0): NOT_NEEDED,
                ("t", 1): NOT_NEEDED,
                ("t", 2): UNKNOWN_TOPIC,
                ("t", -1): UNKNOWN_TOPIC,
                ("no", 0): UNKNOWN_TOPIC,
            }
            self.assertEqual(self.elect(version, asked), (0, expected))
            if version:
                self.assertEqual(self.elect(version, asked, UNCLEAN), (0, expected))
                self.assertEqual(
                    self.elect(version, {"t": [0]}, 2), (INVALID_REQUEST, {("t", 0): INVALID_REQUEST})
                )

        self.at_every_version(43, check)

    def test_a_partition_that_does_not_serve(self) -> None:
        self.break_log("t", 1)

        def check(version: int) -> None:
            self.assertEqual(self.elect(version, None), (0, {("t", 1): PREFERRED_NOT_AVAILABLE}))
            if version:
                self.assertEqual(self.elect(version, None, UNCLEAN), (0, {("t", 1): ELIGIBLE_NOT_AVAILABLE}))

        self.at_every_version(43, check)

    def test_another_node_elects(self) -> None:
        self.two_nodes()

        def check(version: int) -> None:
            top = NOT_CONTROLLER if version else 0
            self.assertEqual(self.elect(version, {"t": [0]}), (top, {("t", 0): NOT_CONTROLLER}))
            self.assertEqual(self.elect(version, None), (top, {}))

        self.at_every_version(43, check)


class ReassignmentTests(ClusterCase):
    def move(self, version: int, name: str, *rows: tuple[int, list[int] | None]) -> Any:
        Topic = alter_partition_reassignments.Request.Topic
        asked = Topic(
            name=name,
            partitions=[Topic.Partition(partition_index=index, replicas=where) for index, where in rows],
        )
        return self.ask(alter_partition_reassignments.Request(topics=[asked]), version)

    def test_only_where_it_is(self) -> None:
        def check(version: int) -> None:
            rows = ((0, [1]), (1, None), (1, [2]), (0, [1, 2]), (0, []), (2, [1]), (-1, None), (0, [1] * 999))
            response = self.move(version, "t", *rows)
            self.assertEqual((response.error_code, response.error_message), (0, None))
            self.assertTrue(response.allow_replication_factor_change)
            (topic,) = response.responses
            told = [row.error_code for row in topic.partitions]
            expected = [
                0,
                NO_REASSIGNMENT,
                *[INVALID_ASSIGNMENT] * 3,
                *[UNKNOWN_TOPIC] * 2,
                INVALID_ASSIGNMENT,
            ]
            self.assertEqual(told, expected)
            for row in topic.partitions:
                self.assertEqual(bool(row.error_code), bool(row.error_message))
            (topic,) = self.move(version, "no", (0, [1])).responses
            self.assertEqual([row.error_code for row in topic.partitions], [UNKNOWN_TOPIC])

        self.at_every_version(45, check)

    def test_another_node_moves_replicas(self) -> None:
        self.two_nodes()

        def check(version: int) -> None:
            response = self.move(version, "t", (0, [1]))
            self.assertEqual((response.error_code, response.responses), (NOT_CONTROLLER, []))

        self.at_every_version(45, check)

    def test_nothing_is_on_the_move(self) -> None:
        Topic = list_partition_reassignments.Request.Topic
        for asked in (None, [], [Topic(name="t", partition_indexes=[0]), Topic(name="no")]):
            response = self.ask(list_partition_reassignments.Request(topics=asked), 0)
            self.assertEqual((response.error_code, response.error_message, response.topics), (0, None, []))


class DescribeQuorumTests(ClusterCase):
    def describe(self, version: int, *asked: tuple[str, list[int]]) -> Any:
        Topic = describe_quorum.Request.Topic
        topics = [
            Topic(topic_name=name, partitions=[Topic.Partition(partition_index=index) for index in indexes])
            for name, indexes in asked
        ]
        return self.ask(describe_quorum.Request(topics=topics), version)

    def test_the_controller_is_the_quorum(self) -> None:
        def check(version: int) -> None:
            response = self.describe(version, ("__cluster_metadata", [0]))
            (row,) = response.topics[0].partitions
            self.assertEqual((response.error_code, row.error_code), (0, 0))
            self.assertEqual((row.leader_id, row.leader_epoch, row.high_watermark), (1, 0, 0))
            (voter,) = row.current_voters
            self.assertEqual((voter.replica_id, voter.log_end_offset, row.observers), (1, 0, []))
            if version >= 1:
                self.assertGreaterEqual(voter.last_fetch_timestamp, NOW_MS)
                self.assertGreaterEqual(voter.last_caught_up_timestamp, NOW_MS)
            if version >= 2:
                (node,) = response.nodes
                (listener,) = node.listeners
                self.assertEqual((node.node_id, listener.host, listener.port), (1, "broker.test", 9092))

        self.at_every_version(55, check)

    def test_two_nodes(self) -> None:
        self.two_nodes()
        (row,) = self.describe(2, ("__cluster_metadata", [0])).topics[0].partitions
        self.assertEqual(row.leader_id, 2)
        self.assertEqual([one.replica_id for one in row.current_voters], [2])
        self.assertEqual([one.replica_id for one in row.observers], [1])

    def test_no_other_partition(self) -> None:
        def check(version: int) -> None:
            for asked in (
                [("t", [0])],
                [("__cluster_metadata", [1])],
                [("__cluster_metadata", [0, 0])],
                [("__cluster_metadata", [0]), ("t", [0])],
            ):
                response = self.describe(version, *asked)
                told = [
                    (row.error_code, row.leader_id, row.current_voters)
                    for topic in response.topics
                    for row in topic.partitions
                ]
                self.assertEqual(set(map(str, told)), {str((UNKNOWN_TOPIC, -1, []))})
                self.assertEqual(response.nodes, [])
            self.assertEqual(self.describe(version).topics, [])

        self.at_every_version(55, check)


class UpdateFeaturesTests(ClusterCase):
    def update(self, version: int, *wanted: tuple[str, int], kind: int = 1) -> Any:
        Feature = update_features.Request.FeatureUpdate
        features = [
            Feature(feature=name, max_version_level=level, upgrade_type=kind) for name, level in wanted
        ]
        return self.ask(update_features.Request(feature_updates=features), version)

    def test_levels_are_what_they_are(self) -> None:
        rows = (
            ("group.version", 1, 0),
            ("transaction.version", 2, 0),
            ("transaction.version", 1, UPDATE_FAILED),
            ("group.version", 0, UPDATE_FAILED),
            ("group.version", 99, INVALID_UPDATE),
            ("group.version", -1, INVALID_UPDATE),
            ("no.such", 1, INVALID_UPDATE),
            ("", 0, INVALID_UPDATE),
        )

        def check(version: int) -> None:
            for name, level, code in rows:
                response = self.update(version, ("group.version", 1), (name, level))
                self.assertEqual(response.error_code, code, (name, level))
                if code:
                    self.assertEqual(response.results, [])
            response = self.update(version, *[(name, level) for name, level, _ in rows])
            self.assertEqual(response.error_code, UPDATE_FAILED)
            self.assertIn("level 2 is in force", response.error_message)
            response = self.update(version, *[(name, level) for name, level, code in rows if not code])
            self.assertEqual((response.error_code, response.error_message), (0, None))
            told = [(row.feature, row.error_code) for row in response.results]
            self.assertEqual(told, [(name, 0) for name, _, code in rows if not code] if version < 2 else [])
            if version:
                response = self.update(version, ("group.version", 1), kind=0)
                self.assertEqual((response.error_code, response.results), (INVALID_UPDATE, []))
            self.assertEqual(self.update(version).error_code, 0)

        self.at_every_version(57, check)

    def test_another_node_keeps_them(self) -> None:
        self.two_nodes()
        self.at_every_version(
            57,
            lambda version: self.assertEqual(
                self.update(version, ("group.version", 1)).error_code, NOT_CONTROLLER
            ),
        )


class ListConfigResourcesTests(ClusterCase):
    def listed(self, *types: int) -> list[tuple[int, str]]:
        response = self.ask(list_config_resources.Request(resource_types=list(types)), 1)
        self.assertEqual(response.error_code, 0)
        return [(row.resource_type, row.resource_name) for row in response.config_resources]

    def test_topics_and_brokers(self) -> None:
        everything = [(2, "t"), (2, "u"), (4, "1"), (8, "1")]
        self.assertEqual(self.listed(), everything)
        self.assertEqual(self.listed(2), everything[:2])
        self.assertEqual(self.listed(32, 4, 4), everything[2:3])
        self.assertEqual(self.listed(8, 16, 32), everything[3:])
        self.two_nodes()
        self.assertEqual(self.listed(4), [(4, "1"), (4, "2")])

    def test_version_0_has_client_metrics_only(self) -> None:
        response = self.ask(list_config_resources.Request(), 0)
        self.assertEqual((response.error_code, response.config_resources), (0, []))

    def test_unknown_types(self) -> None:
        for types in ([2, 3], [0], [-128]):
            response = self.ask(list_config_resources.Request(resource_types=types), 1)
            self.assertEqual((response.error_code, response.config_resources), (UNSUPPORTED_VERSION, []))


class TelemetryTests(ClusterCase):
    def test_an_empty_subscription(self) -> None:
        given = [
            self.ask(get_telemetry_subscriptions.Request(client_instance_id=bytes(16)), 0) for _ in range(2)
        ]
        ids = {bytes(one.client_instance_id) for one in given}
        self.assertEqual(len(ids - {bytes(16)}), 2)
        for one in given:
            self.assertEqual((one.error_code, one.requested_metrics), (0, []))
            self.assertGreaterEqual(one.push_interval_ms, 60_000)
        mine = self.ask(get_telemetry_subscriptions.Request(client_instance_id=b"m" * 16), 0)
        self.assertEqual(bytes(mine.client_instance_id), b"m" * 16)

    def test_what_is_pushed_is_dropped(self) -> None:
        told = self.ask(get_telemetry_subscriptions.Request(client_instance_id=b"m" * 16), 0)
        good = push_telemetry.Request(
            client_instance_id=b"m" * 16,
            subscription_id=told.subscription_id,
            compression_type=0,
            metrics=b"anything",
        )
        for expected, changed in (
            (0, {}),
            (0, {"compression_type": 4, "terminating": True, "metrics": b""}),
            (INVALID_REQUEST, {"client_instance_id": bytes(16)}),
            (UNKNOWN_SUBSCRIPTION, {"subscription_id": told.subscription_id + 1}),
            (UNSUPPORTED_COMPRESSION, {"compression_type": 5}),
            (UNSUPPORTED_COMPRESSION, {"compression_type": -1}),
            (TOO_LARGE, {"metrics": bytes(told.telemetry_max_bytes + 1)}),
        ):
            values = {
                name: getattr(good, name)
                for name in (
                    "client_instance_id",
                    "subscription_id",
                    "terminating",
                    "compression_type",
                    "metrics",
                )
            }
            request = push_telemetry.Request(**values | changed)
            self.assertEqual(self.ask(request, 0).error_code, expected, sorted(changed))
