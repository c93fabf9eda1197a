"""Requests of administrators: configurations changed, records deleted, sizes told."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from twisted.internet.defer import Deferred

from megabroker.config.schema import Config, TopicSettings
from megabroker.errors import ErrorCode, RequestError, StateError
from megabroker.protocols.kafka.schema import (
    alter_configs,
    delete_records,
    describe_log_dirs,
    incremental_alter_configs,
)
from tests.unit.kafka_apis_harness import NOW_MS, ApiCase

OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC, NOT_LEADER, INVALID_TOPIC = 1, 3, 6, 17
INVALID_CONFIG, INVALID_REQUEST, POLICY_VIOLATION = 40, 42, 44
TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3

Replace = alter_configs.Request
Change = incremental_alter_configs.Request


def replacement(*resources: tuple[int, str, dict[str, str | None]], validate_only: bool = False) -> Replace:
    Config = Replace.Resource.Config
    return Replace(
        resources=[
            Replace.Resource(
                resource_type=kind,
                resource_name=name,
                configs=[Config(name=key, value=value) for key, value in configs.items()],
            )
            for kind, name, configs in resources
        ],
        validate_only=validate_only,
    )


def changes(
    *resources: tuple[int, str, list[tuple[str, int, str | None]]], validate_only: bool = False
) -> Change:
    Config = Change.Resource.Config
    return Change(
        resources=[
            Change.Resource(
                resource_type=kind,
                resource_name=name,
                configs=[Config(name=key, config_operation=what, value=value) for key, what, value in rows],
            )
            for kind, name, rows in resources
        ],
        validate_only=validate_only,
    )


class AlteringCase(ApiCase):
    """Three topics to be changed."""

    topic_settings = TopicSettings(retention_ms=60_000)

    def setUp(self) -> None:
        super().setUp()
        for name in ("t", "u", "v"):
            self.create(name, retention_ms="1000", segment_ms="5000")

    def again(self) -> None:
        """Go back to what ``setUp`` made."""
        for name in ("t", "u", "v"):
            self.topics.set_configs(name, {"retention.ms": "1000", "segment.ms": "5000"})
        self.turn()

    def configs(self, name: str = "t") -> dict[str, str]:
        topic = self.topics.get(name)
        assert topic is not None
        return dict(topic.configs)

    def codes(self, request: Any, version: int) -> list[int]:
        rows = self.ask(request, version).responses
        asked = [(one.resource_type, one.resource_name) for one in request.resources]
        self.assertEqual([(row.resource_type, row.resource_name) for row in rows], asked)
        for row in rows:
            self.assertEqual(bool(row.error_code), bool(row.error_message))
        return [row.error_code for row in rows]


class AlterConfigsTests(AlteringCase):
    def test_replaces_what_is_set(self) -> None:
        def check(version: int) -> None:
            self.again()
            request = replacement(
                (TOPIC, "t", {"max.message.bytes": "1000", "cleanup.policy": "compact"}),
                (TOPIC, "no", {}),
                (TOPIC, "u", {"retention.ms": "soon"}),
                (TOPIC, "v", {}),
            )
            self.assertEqual(self.codes(request, version), [0, UNKNOWN_TOPIC, INVALID_CONFIG, 0])
            self.assertEqual(self.configs(), {"max.message.bytes": "1000", "cleanup.policy": "compact"})
            self.assertEqual(self.configs("u"), {"retention.ms": "1000", "segment.ms": "5000"})
            self.assertEqual(self.configs("v"), {})
            self.assertEqual(self.topics.config("v", "retention.ms"), "60000")

        self.at_every_version(33, check)

    def test_validate_only_changes_nothing(self) -> None:
        def check(version: int) -> None:
            request = replacement(
                (TOPIC, "t", {"max.message.bytes": "1000"}),
                (TOPIC, "u", {"no.such": "1"}),
                validate_only=True,
            )
            self.assertEqual(self.codes(request, version), [0, INVALID_CONFIG])
            self.assertEqual(self.configs(), {"retention.ms": "1000", "segment.ms": "5000"})

        self.at_every_version(33, check)

    def test_what_is_refused(self) -> None:
        def check(version: int) -> None:
            for kind, name, configs, code in (
                (TOPIC, "", {}, INVALID_REQUEST),
                (TOPIC, "a b", {}, INVALID_TOPIC),
                (TOPIC, "t", {"retention.ms": None}, INVALID_REQUEST),
                (BROKER, "1", {"num.partitions": "9"}, INVALID_REQUEST),
                (BROKER, "", {"log.retention.hours": "9"}, INVALID_REQUEST),
                (BROKER, "1", {"no.such": "9"}, INVALID_CONFIG),
                (BROKER, "1", {}, 0),
                (BROKER, "2", {}, INVALID_REQUEST),
                (8, "1", {}, INVALID_REQUEST),
                (0, "", {}, INVALID_REQUEST),
                (-128, "x" * 30_000, {}, INVALID_REQUEST),
            ):
                self.assertEqual(self.codes(replacement((kind, name, configs)), version), [code], name[:9])
            twice = replacement((TOPIC, "t", {}), (TOPIC, "u", {}), (TOPIC, "t", {}))
            self.assertEqual(self.codes(twice, version), [INVALID_REQUEST, 0, INVALID_REQUEST])
            keys = replacement((TOPIC, "t", {"retention.ms": "1"}))
            keys.resources[0].configs *= 2
            self.assertEqual(self.codes(keys, version), [INVALID_REQUEST])
            self.assertEqual(self.configs(), {"retention.ms": "1000", "segment.ms": "5000"})
            self.assertEqual(self.codes(replacement(), version), [])

        self.at_every_version(33, check)

    def test_the_refusal_for_a_broker_names_names(self) -> None:
        request = replacement((BROKER, "1", {"num.partitions": "9", "log.dirs": "/"}))
        (row,) = self.ask(request, 2).responses
        self.assertIn("log.dirs, num.partitions", row.error_message)


class IncrementalAlterConfigsTests(AlteringCase):
    def test_every_operation(self) -> None:
        def check(version: int) -> None:
            self.again()
            rows = [
                ("max.message.bytes", SET, "1000"),
                ("retention.ms", DELETE, None),
                ("flush.ms", DELETE, "ignored"),
                ("cleanup.policy", APPEND, "compact, delete"),
                ("follower.replication.throttled.replicas", APPEND, "0:1,1:1"),
            ]
            self.assertEqual(self.codes(changes((TOPIC, "t", rows)), version), [0])
            expected = {
                "segment.ms": "5000",
                "max.message.bytes": "1000",
                "cleanup.policy": "delete,compact",
                "follower.replication.throttled.replicas": "0:1,1:1",
            }
            self.assertEqual(self.configs(), expected)
            rows = [
                ("cleanup.policy", SUBTRACT, "delete"),
                ("follower.replication.throttled.replicas", SUBTRACT, "1:1,7:7"),
                ("leader.replication.throttled.replicas", SUBTRACT, "1:1"),
            ]
            self.assertEqual(self.codes(changes((TOPIC, "t", rows)), version), [0])
            expected["cleanup.policy"] = "compact"
            expected["follower.replication.throttled.replicas"] = "0:1"
            expected["leader.replication.throttled.replicas"] = ""
            self.assertEqual(self.configs(), expected)

        self.at_every_version(44, check)

    def test_all_of_a_topic_or_nothing(self) -> None:
        def check(version: int) -> None:
            self.again()
            request = changes(
                (TOPIC, "t", [("retention.ms", SET, "7"), ("segment.bytes", SET, "no")]),
                (TOPIC, "u", [("retention.ms", SET, "7")]),
            )
            self.assertEqual(self.codes(request, version), [INVALID_CONFIG, 0])
            self.assertEqual(self.configs()["retention.ms"], "1000")
            self.assertEqual(self.configs("u"), {"retention.ms": "7", "segment.ms": "5000"})

        self.at_every_version(44, check)

    def test_validate_only_changes_nothing(self) -> None:
        def check(version: int) -> None:
            request = changes(
                (TOPIC, "t", [("retention.ms", SET, "7")]),
                (TOPIC, "u", [("retention.ms", SET, "-7")]),
                (TOPIC, "no", [("retention.ms", SET, "7")]),
                validate_only=True,
            )
            self.assertEqual(self.codes(request, version), [0, INVALID_CONFIG, UNKNOWN_TOPIC])
            self.assertEqual(self.configs(), {"retention.ms": "1000", "segment.ms": "5000"})

        self.at_every_version(44, check)

    def test_what_is_refused(self) -> None:
        def check(version: int) -> None:
            for kind, name, row, code in (
                (TOPIC, "t", ("retention.ms", APPEND, "1"), INVALID_CONFIG),
                (TOPIC, "t", ("retention.ms", SUBTRACT, "1"), INVALID_CONFIG),
                (TOPIC, "t", ("no.such", APPEND, "1"), INVALID_CONFIG),
                (TOPIC, "t", ("no.such", SET, "1"), INVALID_CONFIG),
                (TOPIC, "t", ("no.such", DELETE, None), 0),
                (TOPIC, "t", ("cleanup.policy", APPEND, "shred"), INVALID_CONFIG),
                (TOPIC, "t", ("cleanup.policy", APPEND, None), INVALID_REQUEST),
                (TOPIC, "t", ("cleanup.policy", SET, None), INVALID_REQUEST),
                (TOPIC, "t", ("cleanup.policy", 4, "delete"), INVALID_REQUEST),
                (TOPIC, "t", ("cleanup.policy", -1, "delete"), INVALID_REQUEST),
                (BROKER, "1", ("num.partitions", SET, "9"), INVALID_REQUEST),
                (BROKER, "", ("num.partitions", APPEND, "9"), INVALID_REQUEST),
                (BROKER, "1", ("num.partitions", DELETE, None), 0),
                (BROKER, "1", ("no.such", SET, "9"), INVALID_CONFIG),
                (BROKER, "2", ("num.partitions", DELETE, None), INVALID_REQUEST),
                (16, "m", ("interval.ms", SET, "9"), INVALID_REQUEST),
            ):
                self.assertEqual(self.codes(changes((kind, name, [row])), version), [code], row)
            twice = [("retention.ms", SET, "7"), ("retention.ms", DELETE, None)]
            self.assertEqual(self.codes(changes((TOPIC, "t", twice)), version), [INVALID_REQUEST])
            self.assertEqual(self.configs(), {"retention.ms": "1000", "segment.ms": "5000"})

        self.at_every_version(44, check)

    def test_no_change_is_lost_between_two_requests(self) -> None:
        waiting: list[Deferred[Any]] = [
            self.begin(changes((TOPIC, "t", [(name, SET, "77")])), 1)
            for name in ("retention.ms", "segment.ms", "max.message.bytes")
        ]
        self.turn()
        for one in waiting:
            self.assertEqual([row.error_code for row in self.successResultOf(one).responses], [0])
        self.assertEqual(set(self.configs().values()), {"77"})
        self.assertEqual(len(self.configs()), 3)

    def test_a_change_counts_from_the_next_batch_on(self) -> None:
        partition = self.topics.partition("t", 0)
        self.codes(changes((TOPIC, "t", [("max.message.bytes", SET, "12")])), 1)
        self.assertEqual(partition.policy.max_message_bytes, 12)


class DeleteRecordsTests(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("compacted", cleanup_policy="compact")
        self.create("both", cleanup_policy="compact,delete")

    def delete(self, version: int, topic: str, *rows: tuple[int, int]) -> list[tuple[int, int, int]]:
        Topic = delete_records.Request.Topic
        asked = Topic(
            name=topic,
            partitions=[Topic.Partition(partition_index=index, offset=offset) for index, offset in rows],
        )
        (told,) = self.ask(delete_records.Request(topics=[asked], timeout_ms=1000), version).topics
        self.assertEqual(told.name, topic)
        return [(row.partition_index, row.low_watermark, row.error_code) for row in told.partitions]

    def test_the_start_moves(self) -> None:
        def check(version: int) -> None:
            name = f"t{version}"
            self.create(name, 2)
            self.produce(name, *range(NOW_MS, NOW_MS + 5))
            self.produce(name, NOW_MS, NOW_MS, index=1)
            self.assertEqual(self.delete(version, name, (0, 3), (1, 0)), [(0, 3, 0), (1, 0, 0)])
            partition = self.topics.partition(name, 0)
            self.assertEqual((partition.start_offset, partition.high_watermark), (3, 5))
            self.assertEqual(self.delete(version, name, (0, 1)), [(0, 3, 0)])
            self.assertEqual(
                self.delete(version, name, (0, 6), (0, -2), (0, -(2**63)), (0, 2**63 - 1)),
                [(0, -1, OFFSET_OUT_OF_RANGE)] * 4,
            )
            self.assertEqual(self.delete(version, name, (0, -1), (1, -1)), [(0, 5, 0), (1, 2, 0)])
            self.assertEqual(partition.start_offset, 5)
            self.produce(name, NOW_MS)
            self.assertEqual(partition.high_watermark, 6)

        self.at_every_version(21, check)

    def test_what_is_refused(self) -> None:
        def check(version: int) -> None:
            for name, index, code in (
                ("no", 0, UNKNOWN_TOPIC),
                ("both", 1, UNKNOWN_TOPIC),
                ("both", -1, UNKNOWN_TOPIC),
                ("compacted", 0, POLICY_VIOLATION),
            ):
                self.assertEqual(self.delete(version, name, (index, 0)), [(index, -1, code)])
            self.assertEqual(self.delete(version, "both", (0, -1)), [(0, 0, 0)])

        self.at_every_version(21, check)

    def test_a_closed_partition_keeps_its_records(self) -> None:
        self.create("t")
        self.produce("t", NOW_MS)
        partition = self.topics.partition("t", 0)
        partition.close(lambda: StateError(ErrorCode.SHUTTING_DOWN))
        self.assertEqual(self.delete(2, "t", (0, 1)), [(0, -1, NOT_LEADER)])
        self.assertEqual(partition.start_offset, 0)

    def test_what_is_deleted_cannot_be_read(self) -> None:
        self.create("t")
        self.produce("t", NOW_MS, NOW_MS)
        self.delete(2, "t", (0, 1))
        partition = self.topics.partition("t", 0)
        with self.assertRaises(RequestError) as caught:
            partition.read(0, 1000)
        self.assertEqual(caught.exception.code, ErrorCode.OFFSET_OUT_OF_RANGE)
        self.assertEqual(len(partition.read(1, 1000).data), partition.log.size_bytes)


class DescribeLogDirsTests(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("t", 2)
        self.create("u")
        self.produce("t", NOW_MS, index=1)

    def sizes(self, version: int, topics: dict[str, list[int]] | None) -> dict[tuple[str, int], int]:
        Topic = describe_log_dirs.Request.Topic
        asked = None if topics is None else [Topic(topic=name, partitions=p) for name, p in topics.items()]
        response = self.ask(describe_log_dirs.Request(topics=asked), version)
        (found,) = response.results
        self.assertEqual((response.error_code, found.error_code), (0, 0))
        self.assertEqual(found.log_dir, os.path.abspath(self.config.data_dir))
        for topic in found.topics:
            for row in topic.partitions:
                self.assertEqual((row.offset_lag, row.is_future_key), (0, False))
        return {
            (topic.name, row.partition_index): row.partition_size
            for topic in found.topics
            for row in topic.partitions
        }

    def test_sizes(self) -> None:
        size = self.topics.partition("t", 1).log.size_bytes
        self.assertGreater(size, 61)

        def check(version: int) -> None:
            expected = {("t", 0): 0, ("t", 1): size, ("u", 0): 0}
            self.assertEqual(self.sizes(version, None), expected)
            self.assertEqual(self.sizes(version, {}), {})
            self.assertEqual(self.sizes(version, {"t": [1, 1, 2, -1], "no": [0]}), {("t", 1): size})

        self.at_every_version(35, check)

    def test_the_volume(self) -> None:
        self.broker.settings = Config(data_dir=pathlib.Path("/"))
        (found,) = self.ask(describe_log_dirs.Request(topics=[]), 4).results
        self.assertGreater(found.total_bytes, 0)
        self.broker.settings = Config(data_dir=pathlib.Path("/no/such/place"))
        (found,) = self.ask(describe_log_dirs.Request(topics=[]), 4).results
        self.assertEqual((found.total_bytes, found.usable_bytes), (-1, -1))
