"""Metadata, DescribeCluster, DescribeTopicPartitions and the requests that change topics."""

from __future__ import annotations

import attrs

from megabroker.config.schema import TopicSettings
from megabroker.core.topics import TopicLimits
from megabroker.model import Node
from megabroker.protocols.kafka.schema import (
    create_partitions,
    create_topics,
    delete_topics,
    describe_cluster,
    describe_topic_partitions,
    metadata,
)
from tests.unit.kafka_apis_harness import ApiCase

UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, INVALID_TOPIC, TOPIC_EXISTS = 3, 5, 17, 36
INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT = 37, 38, 39
INVALID_CONFIG, NOT_CONTROLLER, INVALID_REQUEST, POLICY_VIOLATION, UNKNOWN_TOPIC_ID = 40, 41, 42, 44, 100

Ask = metadata.Request.Topic


class MetadataTests(ApiCase):
    limits = TopicLimits(max_topics=6)

    def ask_for(self, version: int, *names: str, create: bool = True):
        request = metadata.Request(
            topics=[Ask(name=name) for name in names], allow_auto_topic_creation=create
        )
        return self.ask(request, version)

    def test_all_topics(self) -> None:
        for name in ("b", "a"):
            self.create(name, 2)

        def check(version: int) -> None:
            answer = self.ask(metadata.Request(topics=[] if version == 0 else None), version)
            self.assertEqual([topic.name for topic in answer.topics], ["a", "b"])
            broker = answer.brokers[0]
            self.assertEqual((broker.node_id, broker.host, broker.port), (1, "broker.test", 9092))
            for index, partition in enumerate(answer.topics[0].partitions):
                self.assertEqual(partition.partition_index, index)
                self.assertEqual((partition.error_code, partition.leader_id), (0, 1))
                self.assertEqual((partition.replica_nodes, partition.isr_nodes), ([1], [1]))
                self.assertEqual(partition.leader_epoch, 0 if version >= 7 else -1)
            if version >= 1:
                self.assertEqual((answer.controller_id, broker.rack), (1, "rack-a"))
            if version >= 2:
                self.assertEqual(answer.cluster_id, "C" * 22)
            if version >= 10:
                self.assertEqual(answer.topics[0].topic_id, self.topics.get("a").id.bytes)

        self.at_every_version(3, check)

    def test_no_topics_from_version_1(self) -> None:
        self.create("a")
        for version in (1, 13):
            self.assertEqual(self.ask(metadata.Request(topics=[]), version).topics, [])

    def test_unknown_topic_is_created_where_client_and_broker_allow(self) -> None:
        self.ask_for(4, "no", create=False)
        self.assertIsNone(self.topics.get("no"))
        row = self.ask_for(9, "new").topics[0]
        self.assertEqual((row.error_code, len(row.partitions)), (0, 4))
        self.assertEqual([one.leader_id for one in row.partitions], [1] * 4)
        self.assertEqual(self.ask_for(0, "old").topics[0].error_code, 0)
        self.broker.settings = attrs.evolve(self.config, topics=TopicSettings(auto_create=False))
        self.assertEqual(self.ask_for(9, "off").topics[0].error_code, UNKNOWN_TOPIC)

    def test_creations_at_the_same_time(self) -> None:
        requests = [metadata.Request(topics=[Ask(name="same"), Ask(name="same")]) for _ in range(3)]
        waiting = [self.begin(request, 12) for request in requests]
        self.turn()
        for one in waiting:
            rows = self.successResultOf(one).topics
            self.assertEqual([(row.name, row.error_code) for row in rows], [("same", 0)])

    def test_asking_for_a_deleted_topic_creates_it_only_after_a_moment(self) -> None:
        for _ in range(2):
            self.assertEqual(self.ask_for(9, "gone").topics[0].error_code, 0)
            deleted = self.topics.delete("gone")
            self.turn()
            self.successResultOf(deleted)
            for _ in range(2):
                row = self.ask_for(9, "gone", "other").topics[0]
                self.assertEqual((row.error_code, row.partitions), (UNKNOWN_TOPIC, []))
                self.assertIsNone(self.topics.get("gone"))
            self.clock.advance(3)
        self.create("gone")
        self.assertEqual(self.ask_for(9, "gone").topics[0].error_code, 0)

    def test_names_that_cannot_be(self) -> None:
        def check(version: int) -> None:
            rows = self.ask_for(version, "a b", "", "..", "x" * 250, "__consumer_offsets").topics
            self.assertEqual([row.error_code for row in rows], [INVALID_TOPIC] * 4 + [UNKNOWN_TOPIC])

        self.at_every_version(3, check)
        self.assertEqual(self.topics.all(), [])

    def test_topic_limit_bounds_creation(self) -> None:
        rows = self.ask_for(12, *(f"t{number}" for number in range(9))).topics
        self.assertEqual([row.error_code for row in rows], [0] * 6 + [POLICY_VIOLATION] * 3)

    def test_by_id(self) -> None:
        topic = self.create("a")
        request = metadata.Request(
            topics=[Ask(topic_id=topic.id.bytes, name=None), Ask(topic_id=b"?" * 16, name=None)]
        )
        for version in (12, 13):
            rows = self.ask(request, version).topics
            self.assertEqual(
                [(row.error_code, row.name, row.topic_id) for row in rows],
                [(0, "a", topic.id.bytes), (UNKNOWN_TOPIC_ID, None, b"?" * 16)],
            )
        for version in (10, 11):
            rows = self.ask(request, version).topics
            self.assertEqual([row.error_code for row in rows], [INVALID_REQUEST] * 2)
        row = self.ask(metadata.Request(topics=[Ask(name=None)]), 12).topics[0]
        self.assertEqual(row.error_code, INVALID_REQUEST)

    def test_authorized_operations_only_when_asked_for(self) -> None:
        self.create("a")
        plain = self.ask(metadata.Request(topics=None), 8)
        self.assertEqual(plain.cluster_authorized_operations, -(2**31))
        self.assertEqual(plain.topics[0].topic_authorized_operations, -(2**31))
        full = self.ask(
            metadata.Request(
                topics=None,
                include_cluster_authorized_operations=True,
                include_topic_authorized_operations=True,
            ),
            8,
        )
        self.assertEqual(full.cluster_authorized_operations, 8096)
        self.assertEqual(full.topics[0].topic_authorized_operations, 3576)

    def test_leader_out_of_the_clients_reach(self) -> None:
        self.create("a")
        self.placement.me = Node(1)
        answer = self.ask(metadata.Request(topics=None), 12)
        self.assertEqual(answer.brokers, [])
        partition = answer.topics[0].partitions[0]
        self.assertEqual((partition.error_code, partition.leader_id), (LEADER_NOT_AVAILABLE, -1))
        self.assertEqual((partition.isr_nodes, partition.offline_replicas), ([], [1]))


class DescribeClusterTests(ApiCase):
    def test_brokers(self) -> None:
        def check(version: int) -> None:
            answer = self.ask(describe_cluster.Request(), version)
            self.assertEqual((answer.error_code, answer.cluster_id, answer.controller_id), (0, "C" * 22, 1))
            one = answer.brokers[0]
            self.assertEqual(
                (one.broker_id, one.host, one.port, one.rack), (1, "broker.test", 9092, "rack-a")
            )
            self.assertEqual(answer.cluster_authorized_operations, -(2**31))

        self.at_every_version(60, check)

    def test_operations_and_endpoint_types(self) -> None:
        request = describe_cluster.Request(include_cluster_authorized_operations=True)
        self.assertEqual(self.ask(request, 0).cluster_authorized_operations, 8096)
        for kind, code in ((2, 114), (9, 115)):
            self.assertEqual(self.ask(describe_cluster.Request(endpoint_type=kind), 1).error_code, code)


class DescribeTopicPartitionsTests(ApiCase):
    Request = describe_topic_partitions.Request

    def page(self, names: str, limit: int = 2000, cursor: tuple[str, int] | None = None):
        return self.ask(
            self.Request(
                topics=[self.Request.Topic(name=name) for name in names],
                response_partition_limit=limit,
                cursor=cursor and self.Request.Cursor(topic_name=cursor[0], partition_index=cursor[1]),
            ),
            0,
        )

    def test_sorted_once_each(self) -> None:
        topic = self.create("b", 2)
        rows = self.page("cbab").topics
        self.assertEqual(
            [(row.name, row.error_code) for row in rows],
            [("a", UNKNOWN_TOPIC), ("b", 0), ("c", UNKNOWN_TOPIC)],
        )
        self.assertEqual((rows[1].topic_id, rows[1].topic_authorized_operations), (topic.id.bytes, 3576))
        partition = rows[1].partitions[1]
        self.assertEqual(
            (partition.partition_index, partition.leader_id, partition.leader_epoch, partition.isr_nodes),
            (1, 1, 0, [1]),
        )
        self.assertEqual(self.page(["a b"]).topics[0].error_code, INVALID_TOPIC)

    def test_pages_cover_everything_once(self) -> None:
        for name, partitions in (("a", 3), ("b", 2), ("c", 4)):
            self.create(name, partitions)
        everything = [(name, i) for name, count in (("a", 3), ("b", 2), ("c", 4)) for i in range(count)]
        for names in ("", "cab"):
            for limit in (-5, 1, 2, 3, 5, 9, 100):
                seen, cursor, pages = [], None, 0
                while True:
                    answer = self.page(names, limit, cursor)
                    got = [(t.name, p.partition_index) for t in answer.topics for p in t.partitions]
                    self.assertLessEqual(len(got), max(limit, 1))
                    seen += got
                    pages += 1
                    if answer.next_cursor is None:
                        break
                    cursor = (answer.next_cursor.topic_name, answer.next_cursor.partition_index)
                self.assertEqual(seen, everything, (names, limit))
                self.assertEqual(pages, -(-9 // max(limit, 1)))

    def test_cursors_that_make_no_sense(self) -> None:
        self.create("a", 2)
        for cursor in (("zz", 0), ("a", -1)):
            rows = self.page("a", 1, cursor).topics
            self.assertEqual([(row.error_code, row.partitions) for row in rows], [(INVALID_REQUEST, [])])
        answer = self.page("a", 1, ("a", 7))
        self.assertEqual((answer.topics[0].partitions, answer.next_cursor), ([], None))


class CreateTopicsTests(ApiCase):
    limits = TopicLimits(max_partitions=50)
    Topic = create_topics.Request.Topic

    def send(self, version: int, *topics: create_topics.Request.Topic, validate_only: bool = False):
        return self.ask(
            create_topics.Request(topics=list(topics), validate_only=validate_only), version
        ).topics

    def topic(self, name: str, partitions: int = 1, replicas: int = 1, **rest) -> create_topics.Request.Topic:
        return self.Topic(name=name, num_partitions=partitions, replication_factor=replicas, **rest)

    def test_creates(self) -> None:
        config = self.Topic.Config(name="retention.ms", value="5000")

        def check(version: int) -> None:
            name = f"v{version}"
            (row,) = self.send(version, self.topic(name, 2, configs=[config]))
            topic = self.topics.get(name)
            self.assertEqual((row.name, row.error_code, row.error_message or None), (name, 0, None))
            self.assertEqual((topic.partitions, topic.configs), (2, {"retention.ms": "5000"}))
            if version >= 5:
                self.assertEqual((row.num_partitions, row.replication_factor), (2, 1))
                told = {one.name: (one.value, one.config_source) for one in row.configs}
                self.assertEqual(told["retention.ms"], ("5000", 1))
                self.assertEqual(told["cleanup.policy"], ("delete", 5))
            if version >= 7:
                self.assertEqual(row.topic_id, topic.id.bytes)

        self.at_every_version(19, check)

    def test_defaults(self) -> None:
        (row,) = self.send(5, self.topic("d", -1, -1))
        self.assertEqual((row.num_partitions, row.replication_factor), (4, 1))

    def test_refusals(self) -> None:
        self.create("there")
        wrong = {
            TOPIC_EXISTS: [self.topic("there")],
            INVALID_TOPIC: [self.topic("a/b"), self.topic("")],
            INVALID_PARTITIONS: [self.topic("p", 0), self.topic("q", -2), self.topic("r", -(2**31))],
            INVALID_REPLICATION_FACTOR: [
                self.topic("f", 1, 2),
                self.topic("g", 1, 0),
                self.topic("h", 1, -2),
            ],
            INVALID_CONFIG: [
                self.topic("c", configs=[self.Topic.Config(name="no.such", value="1")]),
                self.topic("e", configs=[self.Topic.Config(name="retention.ms", value=None)]),
            ],
            POLICY_VIOLATION: [self.topic("huge", 2**31 - 1)],
        }

        def check(version: int) -> None:
            for code, topics in wrong.items():
                for row in self.send(version, *topics):
                    self.assertEqual(row.error_code, code, row)
                    self.assertEqual(bool(row.error_message), version >= 1)

        self.at_every_version(19, check)
        self.assertEqual([topic.name for topic in self.topics.all()], ["there"])

    def test_assignments(self) -> None:
        def placed(name: str, *rows: tuple[int, list[int]], partitions: int = -1):
            return self.topic(
                name,
                partitions,
                -1,
                assignments=[self.Topic.Assignment(partition_index=i, broker_ids=ids) for i, ids in rows],
            )

        rows = self.send(
            4,
            placed("good", (1, [1]), (0, [1])),
            placed("gap", (0, [1]), (2, [1])),
            placed("negative", (-1, [1])),
            placed("twice", (0, [1]), (0, [1])),
            placed("elsewhere", (0, [7])),
            placed("two", (0, [1, 2])),
            placed("nobody", (0, [])),
            placed("both", (0, [1]), partitions=1),
        )
        self.assertEqual(
            [row.error_code for row in rows], [0] + [INVALID_REPLICA_ASSIGNMENT] * 6 + [INVALID_REQUEST]
        )
        self.assertEqual(self.topics.get("good").partitions, 2)

    def test_named_twice_is_told_once(self) -> None:
        rows = self.send(7, self.topic("x"), self.topic("y"), self.topic("x"))
        self.assertEqual([(row.name, row.error_code) for row in rows], [("x", INVALID_REQUEST), ("y", 0)])
        self.assertIsNone(self.topics.get("x"))

    def test_validate_only(self) -> None:
        for version in range(1, 8):
            rows = self.send(version, self.topic("x", 3), self.topic("!"), validate_only=True)
            self.assertEqual([row.error_code for row in rows], [0, INVALID_TOPIC])
            self.assertEqual(rows[0].num_partitions, 3 if version >= 5 else -1)
        self.assertEqual(self.topics.all(), [])

    def test_only_the_controller_changes_topics(self) -> None:
        self.create("t")
        self.placement.controller = lambda: Node(2)  # type: ignore[method-assign]
        self.assertEqual(self.send(7, self.topic("x"))[0].error_code, NOT_CONTROLLER)
        deleted = self.ask(delete_topics.Request(topic_names=["t"]), 5)
        self.assertEqual(deleted.responses[0].error_code, NOT_CONTROLLER)
        wanted = create_partitions.Request.Topic(name="t", count=2, assignments=None)
        grown = self.ask(create_partitions.Request(topics=[wanted]), 3)
        self.assertEqual(grown.results[0].error_code, NOT_CONTROLLER)
        self.assertEqual(self.topics.get("t").partitions, 1)


class DeleteTopicsTests(ApiCase):
    def test_by_name(self) -> None:
        def check(version: int) -> None:
            topic = self.create("a")
            names = ["a", "b", "c d"]
            request = delete_topics.Request(
                topic_names=names, topics=[delete_topics.Request.Topic(name=name) for name in names]
            )
            rows = self.ask(request, version).responses
            self.assertEqual([row.error_code for row in rows], [0, UNKNOWN_TOPIC, UNKNOWN_TOPIC])
            self.assertEqual([row.name for row in rows], names)
            if version >= 6:
                self.assertEqual(rows[0].topic_id, topic.id.bytes)
            self.assertIsNone(self.topics.get("a"))

        self.at_every_version(20, check)

    def test_by_id(self) -> None:
        topic = self.create("a")
        Wanted = delete_topics.Request.Topic
        request = delete_topics.Request(
            topics=[
                Wanted(topic_id=topic.id.bytes),
                Wanted(topic_id=b"?" * 16),
                Wanted(),
                Wanted(name="a", topic_id=topic.id.bytes),
            ]
        )
        rows = self.ask(request, 6).responses
        self.assertEqual([row.error_code for row in rows], [0, UNKNOWN_TOPIC_ID] + [INVALID_REQUEST] * 2)
        self.assertEqual(rows[0].name, "a")
        self.assertEqual(self.topics.all(), [])

    def test_named_twice_is_not_deleted(self) -> None:
        topic = self.create("a")
        rows = self.ask(delete_topics.Request(topic_names=["a", "a"]), 3).responses
        self.assertEqual([row.error_code for row in rows], [INVALID_REQUEST])
        Wanted = delete_topics.Request.Topic
        request = delete_topics.Request(topics=[Wanted(name="a"), Wanted(topic_id=topic.id.bytes)])
        self.assertEqual([row.error_code for row in self.ask(request, 6).responses], [INVALID_REQUEST] * 2)
        self.assertIsNotNone(self.topics.get("a"))


class CreatePartitionsTests(ApiCase):
    topic_settings = TopicSettings(max_partitions=40)
    limits = TopicLimits(max_partitions=40)
    Topic = create_partitions.Request.Topic

    def send(
        self, version: int, *wanted: tuple[str, int, list[list[int]] | None], validate_only: bool = False
    ):
        topics = [
            self.Topic(
                name=name,
                count=count,
                assignments=None if ids is None else [self.Topic.Assignment(broker_ids=one) for one in ids],
            )
            for name, count, ids in wanted
        ]
        request = create_partitions.Request(topics=topics, validate_only=validate_only)
        return [row.error_code for row in self.ask(request, version).results]

    def test_grows(self) -> None:
        def check(version: int) -> None:
            name = f"v{version}"
            self.create(name)
            self.assertEqual(self.send(version, (name, 3, None), validate_only=True), [0])
            self.assertEqual(self.topics.get(name).partitions, 1)
            self.assertEqual(self.send(version, (name, 3, None)), [0])
            self.assertEqual(self.send(version, (name, 5, [[1], [1]])), [0])
            self.assertEqual(self.topics.get(name).partitions, 5)

        self.at_every_version(37, check)

    def test_refusals(self) -> None:
        self.create("a", 2)

        def check(version: int) -> None:
            for validate_only in (True, False):
                for wanted, code in (
                    (("none", 2, None), UNKNOWN_TOPIC),
                    (("a", 2, None), INVALID_PARTITIONS),
                    (("a", 1, None), INVALID_PARTITIONS),
                    (("a", -(2**31), None), INVALID_PARTITIONS),
                    (("a", 2**31 - 1, None), POLICY_VIOLATION),
                    (("a", 4, [[1]]), INVALID_REPLICA_ASSIGNMENT),
                    (("a", 3, [[2]]), INVALID_REPLICA_ASSIGNMENT),
                    (("a", 3, [[]]), INVALID_REPLICA_ASSIGNMENT),
                ):
                    self.assertEqual(self.send(version, wanted, validate_only=validate_only), [code], wanted)
            self.assertEqual(self.send(version, ("a", 3, None), ("a", 4, None)), [INVALID_REQUEST])

        self.at_every_version(37, check)
        self.assertEqual(self.topics.get("a").partitions, 2)
