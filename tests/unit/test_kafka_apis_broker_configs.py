"""Broker configurations changed while the broker runs: what can be, where it is told, what it does."""

from __future__ import annotations

from typing import Any

import attrs

from megabroker.config.schema import TopicSettings
from megabroker.core.broker_configs import BROKER_CONFIGS_TABLE, DYNAMIC_CONFIGS, THROTTLES, BrokerConfigs
from megabroker.model import Change
from megabroker.protocols.kafka.schema import alter_configs, describe_configs, incremental_alter_configs
from tests.unit.kafka_apis_harness import ApiCase

INVALID_CONFIG, INVALID_REQUEST = 40, 42
TOPIC, BROKER, LOGGER = 2, 4, 8
FROM_BROKER, FROM_ALL, FROM_FILE, DEFAULT, FROM_LOGGER = 2, 3, 4, 5, 6
SET, DELETE, APPEND, SUBTRACT = range(4)


class BrokerConfigsCase(ApiCase):
    topic_settings = TopicSettings(retention_ms=60_000)

    def change(
        self, *entries: tuple[str, str | None, int], kind: int = BROKER, name: str = "1", dry: bool = False
    ) -> tuple[int, str | None]:
        Resource = incremental_alter_configs.Request.Resource
        configs = [
            Resource.Config(name=key, value=value, config_operation=operation)
            for key, value, operation in entries
        ]
        resource = Resource(resource_type=kind, resource_name=name, configs=configs)
        (row,) = self.ask(
            incremental_alter_configs.Request(resources=[resource], validate_only=dry), 1
        ).responses
        return row.error_code, row.error_message

    def set(self, name: str = "1", **values: str) -> None:
        entries = [(key.replace("_", "."), value, SET) for key, value in values.items()]
        self.assertEqual(self.change(*entries, name=name), (0, None))

    def replace(self, name: str = "1", kind: int = BROKER, **values: str) -> tuple[int, str | None]:
        Resource = alter_configs.Request.Resource
        configs = [Resource.Config(name=key.replace("_", "."), value=value) for key, value in values.items()]
        resource = Resource(resource_type=kind, resource_name=name, configs=configs)
        (row,) = self.ask(alter_configs.Request(resources=[resource]), 2).responses
        return row.error_code, row.error_message

    def described(self, name: str = "1", kind: int = BROKER) -> dict[str, Any]:
        Resource = describe_configs.Request.Resource
        resource = Resource(resource_type=kind, resource_name=name, configuration_keys=None)
        request = describe_configs.Request(
            resources=[resource], include_synonyms=True, include_documentation=True
        )
        (row,) = self.ask(request, 4).results
        self.assertEqual(row.error_code, 0)
        return {config.name: config for config in row.configs}

    def chain(self, key: str, name: str = "1", kind: int = BROKER) -> list[tuple[str, str, int]]:
        config = self.described(name, kind)[key]
        return [(one.name, one.value, one.source) for one in config.synonyms]


class BrokerConfigsTests(BrokerConfigsCase):
    def test_spaces_around_a_value_do_not_count(self) -> None:
        self.set("1", log_message_timestamp_type=" LogAppendTime ", log_retention_ms=" 5000 ")
        topics = self.broker.settings.topics
        self.assertEqual((topics.message_timestamp_type.value, topics.retention_ms), ("LogAppendTime", 5000))

    def test_what_is_set_on_one_and_on_all_is_told_with_its_source(self) -> None:
        self.set("", log_retention_ms="7000", message_max_bytes="2000")
        self.set("1", log_retention_ms="5000")
        self.assertEqual(
            self.chain("log.retention.ms"),
            [
                ("log.retention.ms", "5000", FROM_BROKER),
                ("log.retention.ms", "7000", FROM_ALL),
                ("log.retention.ms", "60000", FROM_FILE),
                ("log.retention.hours", "168", DEFAULT),
            ],
        )
        self.assertEqual(self.chain("log.retention.hours"), [("log.retention.hours", "168", DEFAULT)])
        broker = self.described()
        self.assertEqual(broker["log.retention.ms"].value, "5000")
        self.assertEqual(broker["log.retention.ms"].config_source, FROM_BROKER)
        self.assertEqual(broker["message.max.bytes"].config_source, FROM_ALL)
        self.assertEqual(broker["log.retention.minutes"].value, None)
        everywhere = self.described("")
        self.assertEqual(
            {name: (one.value, one.config_source) for name, one in everywhere.items()},
            {
                "log.retention.ms": ("7000", FROM_ALL),
                "message.max.bytes": ("2000", FROM_ALL),
                "min.insync.replicas": ("1", FROM_ALL),
            },
        )
        self.assertEqual(self.chain("log.retention.ms", ""), [("log.retention.ms", "7000", FROM_ALL)])

    def test_what_can_be_changed_is_not_read_only_and_the_rest_is(self) -> None:
        for name, config in self.described().items():
            self.assertEqual(config.read_only, name not in DYNAMIC_CONFIGS, name)
        told = set(DYNAMIC_CONFIGS) - set(THROTTLES)
        self.assertLessEqual(told, set(self.described()))

    def test_what_nothing_here_follows_is_kept_and_has_a_value_only_when_set(self) -> None:
        name = "sasl.kerberos.min.time.before.relogin"
        self.assertIsNone(self.described()[name].value)
        self.set(sasl_kerberos_min_time_before_relogin="58000", num_io_threads="9")
        self.assertEqual(self.chain(name), [(name, "58000", FROM_BROKER)])
        self.assertEqual(self.described()["num.io.threads"].value, "9")
        self.assertEqual(self.change((name, "1", SET), name="")[0], INVALID_REQUEST)
        self.assertEqual(self.change((name, None, DELETE)), (0, None))
        self.assertIsNone(self.described()[name].value)

    def test_what_nothing_here_corresponds_to_has_no_value_and_cannot_be_changed(self) -> None:
        for name, sensitive in (("replica.fetch.min.bytes", False), ("ssl.key.password", True)):
            config = self.described()[name]
            self.assertEqual((config.value, config.read_only, config.is_sensitive), (None, True, sensitive))
            self.assertIn("nothing in this broker", config.documentation)
            code, message = self.change((name, "1", SET))
            self.assertEqual(code, INVALID_REQUEST)
            self.assertIn("nothing in this broker", message)

    def test_throttles_are_told_while_they_are_set(self) -> None:
        name = "leader.replication.throttled.rate"
        self.assertNotIn(name, self.described())
        self.set(leader_replication_throttled_rate="1000000")
        self.assertEqual(self.chain(name), [(name, "1000000", FROM_BROKER)])

    def test_topics_obey_at_once_unless_they_say_otherwise(self) -> None:
        self.create("t")
        self.create("own", retention_ms="1")
        self.set("", log_retention_ms="7000", log_cleanup_policy="compact")
        told = self.described("t", TOPIC)["retention.ms"]
        self.assertEqual((told.value, told.config_source), ("7000", FROM_ALL))
        self.assertEqual(self.described("own", TOPIC)["retention.ms"].value, "1")
        self.assertEqual(self.described("t", TOPIC)["cleanup.policy"].value, "compact")
        self.set("1", log_retention_ms="3000", log_cleanup_policy="delete")
        self.assertEqual(self.topics.partition("t", 0).log.settings.retention_ms, 3000)
        self.assertEqual(self.topics.partition("own", 0).log.settings.retention_ms, 1)
        self.assertEqual(self.change(("log.retention.ms", None, DELETE)), (0, None))
        self.assertEqual(self.topics.partition("t", 0).log.settings.retention_ms, 7000)
        self.assertEqual(self.change(("log.retention.ms", None, DELETE), name=""), (0, None))
        self.assertEqual(self.topics.partition("t", 0).log.settings.retention_ms, 60_000)
        self.assertEqual(self.create("new").configs, {})
        self.assertEqual(self.topics.partition("new", 0).log.settings.retention_ms, 60_000)

    def test_largest_batches_and_timestamps(self) -> None:
        self.create("t")
        self.set(message_max_bytes="1000", log_message_timestamp_type="LogAppendTime")
        policy = self.topics.partition("t", 0).policy
        self.assertEqual((policy.max_message_bytes, policy.timestamp_type.value), (1000, "LogAppendTime"))
        self.assertEqual(self.broker.settings.topics.max_message_bytes, 1000)

    def test_lists_are_appended_to_and_subtracted_from(self) -> None:
        self.assertEqual(self.change(("log.cleanup.policy", "compact", APPEND)), (0, None))
        self.assertEqual(self.described()["log.cleanup.policy"].value, "delete,compact")
        self.assertEqual(self.change(("log.cleanup.policy", "delete", SUBTRACT)), (0, None))
        self.assertEqual(self.described()["log.cleanup.policy"].value, "compact")
        code, _ = self.change(("log.retention.ms", "1", APPEND))
        self.assertEqual(code, INVALID_CONFIG)

    def test_limits(self) -> None:
        self.set("", max_connections="12", max_connections_per_ip="3", producer_id_expiration_ms="99")
        settings = self.broker.settings
        self.assertEqual(settings.limits.max_connections, 12)
        self.assertEqual(settings.limits.max_connections_per_address, 3)
        self.assertEqual(settings.producers.id_expiration_ms, 99)
        self.assertEqual(
            self.chain("max.connections"),
            [("max.connections", "12", FROM_ALL), ("max.connections", "10000", DEFAULT)],
        )

    def test_replacing_takes_the_rest_back(self) -> None:
        self.set(log_retention_ms="5000", max_connections="12")
        self.assertEqual(self.replace(log_segment_bytes="2097152"), (0, None))
        self.assertEqual(self.described()["log.segment.bytes"].value, "2097152")
        self.assertEqual(self.described()["log.retention.ms"].value, "60000")
        self.assertEqual(self.broker.settings.limits.max_connections, 10_000)
        self.assertEqual(self.replace(), (0, None))
        self.assertEqual(self.described()["log.segment.bytes"].config_source, DEFAULT)

    def test_what_is_refused_says_why(self) -> None:
        for name, value, code, why in (
            ("num.partitions", "3", INVALID_REQUEST, "configuration file"),
            ("log.retention.hours", "3", INVALID_REQUEST, "configuration file"),
            ("listeners", "PLAINTEXT://:1", INVALID_REQUEST, "bound once"),
            ("num.io.threads", "0", INVALID_REQUEST, "from 1"),
            ("sasl.login.refresh.window.jitter", "much", INVALID_REQUEST, "a number"),
            ("made.up", "9", INVALID_CONFIG, "made.up"),
            ("log.retention.ms", "soon", INVALID_REQUEST, "expected a whole number"),
            ("log.segment.bytes", "7", INVALID_REQUEST, "log.segment.bytes"),
            ("max.connections", "0", INVALID_REQUEST, "from 1"),
            ("compression.type", "zip", INVALID_REQUEST, "one of"),
        ):
            with self.subTest(name=name):
                for outcome in (
                    self.change((name, value, SET)),
                    self.change((name, value, SET), dry=True),
                    self.replace(**{name.replace(".", "_"): value}),
                ):
                    self.assertEqual(outcome[0], code, outcome)
                    self.assertIn(why, outcome[1] or "")
        self.assertEqual(self.change(("num.partitions", None, DELETE)), (0, None))
        lags = (
            ("log.cleaner.min.compaction.lag.ms", "9", SET),
            ("log.cleaner.max.compaction.lag.ms", "8", SET),
        )
        self.assertEqual(self.change(*lags)[0], INVALID_REQUEST)
        for name in ("2", "x", "01"):
            self.assertEqual(self.change(("log.retention.ms", "1", SET), name=name)[0], INVALID_REQUEST)
        self.assertEqual(dict(self.metadata.rows(BROKER_CONFIGS_TABLE)), {})

    def test_all_changes_of_a_request_or_none(self) -> None:
        code, _ = self.change(("log.retention.ms", "1", SET), ("max.connections", "x", SET))
        self.assertEqual(code, INVALID_REQUEST)
        self.assertEqual(self.described()["log.retention.ms"].value, "60000")

    def test_validating_changes_nothing(self) -> None:
        self.assertEqual(self.change(("log.retention.ms", "1", SET), dry=True), (0, None))
        self.assertEqual(self.described()["log.retention.ms"].value, "60000")

    def test_it_outlives_a_restart(self) -> None:
        self.set("", log_retention_ms="7000")
        self.set("1", max_connections="12")
        again = BrokerConfigs(self.metadata, 1, self.config, self.threshold)
        again.load()
        self.assertEqual(again.topic_defaults(), {"retention.ms": "7000", "min.insync.replicas": "1"})
        self.assertEqual(again.keys(), {"limits.max_connections": 12})
        other = BrokerConfigs(self.metadata, 2, self.config, self.threshold)
        other.load()
        self.assertEqual(other.keys(), {})

    def test_rows_that_are_not_valid_are_left_alone(self) -> None:
        rows = {"default": {"log.retention.ms": "soon", "max.connections": "5"}, "1": ["no", "object"]}
        self.metadata.write([Change(BROKER_CONFIGS_TABLE, key, row) for key, row in rows.items()])
        self.turn()
        again = BrokerConfigs(self.metadata, 1, self.config, self.threshold)
        again.load()
        self.assertEqual(again.dynamic(for_all=True), {"max.connections": "5", "min.insync.replicas": "1"})

    def test_replicas_in_sync_are_set_for_all_from_the_start(self) -> None:
        """As in clusters that Kafka 4.1 or later formed; clients' suites count such entries."""
        self.create("t")
        told = [("min.insync.replicas", "1", FROM_ALL), ("min.insync.replicas", "1", DEFAULT)]
        self.assertEqual(self.chain("min.insync.replicas"), told)
        self.assertEqual(self.chain("min.insync.replicas", "t", TOPIC), told)
        self.assertEqual(self.change(("min.insync.replicas", None, DELETE), name=""), (0, None))
        self.assertEqual(self.chain("min.insync.replicas"), told)

    def test_topics_are_told_of_the_synonyms_that_kafka_tells_of(self) -> None:
        self.create("t")
        for name in ("segment.ms", "segment.jitter.ms", "flush.ms"):
            self.assertEqual(self.chain(name, "t", TOPIC), [], name)
        self.set("", log_roll_ms="7000")
        told = [("log.roll.ms", "7000", FROM_ALL), ("log.roll.hours", "168", DEFAULT)]
        self.assertEqual(self.chain("segment.ms", "t", TOPIC), told)

    def test_the_file_shows_through_what_is_set(self) -> None:
        self.set(log_retention_ms="5000")
        settings = attrs.evolve(self.config, topics=TopicSettings(retention_ms=9000))
        self.config = self.broker.configs.file = settings
        self.follow_configs()
        self.assertEqual(self.broker.settings.topics.retention_ms, 5000)
        self.assertEqual(self.chain("log.retention.ms")[1], ("log.retention.ms", "9000", FROM_FILE))


class LoggerTests(BrokerConfigsCase):
    def level(self, name: str) -> str:
        config = self.described("1", LOGGER)[name]
        self.assertEqual((config.config_source, config.read_only, config.synonyms), (FROM_LOGGER, False, []))
        return config.value

    def loggers(self, *entries: tuple[str, str | None, int], **options: Any) -> int:
        return self.change(*entries, kind=LOGGER, **options)[0]

    def test_levels_are_told_and_set(self) -> None:
        self.assertEqual(self.level("root"), "INFO")
        self.assertEqual(self.level("megabroker.core.groups.directory"), "INFO")
        self.assertEqual(self.loggers(("root", "WARN", SET), ("megabroker.core", "TRACE", SET)), 0)
        self.assertEqual(self.level("root"), "WARN")
        self.assertEqual(self.level("megabroker"), "WARN")
        self.assertEqual(self.level("megabroker.core.groups.directory"), "DEBUG")
        self.assertEqual(self.loggers(("megabroker.core", None, DELETE)), 0)
        self.assertEqual(self.level("megabroker.core.groups.directory"), "WARN")
        self.assertEqual(self.loggers(("root", "FATAL", SET)), 0)
        self.assertEqual(self.level("megabroker.core"), "FATAL")

    def test_what_is_refused(self) -> None:
        self.assertEqual(self.loggers(("kafka.server", "INFO", SET)), INVALID_CONFIG)
        self.assertEqual(self.loggers(("root", "LOUD", SET)), INVALID_CONFIG)
        self.assertEqual(self.loggers(("root", None, DELETE)), INVALID_REQUEST)
        self.assertEqual(self.loggers(("root", "INFO", APPEND)), INVALID_REQUEST)
        self.assertEqual(self.loggers(("root", "INFO", SET), name=""), INVALID_REQUEST)
        self.assertEqual(self.replace(kind=LOGGER, root="INFO")[0], INVALID_REQUEST)
        self.assertEqual(self.loggers(("root", "WARN", SET), dry=True), 0)
        self.assertEqual(self.level("root"), "INFO")
