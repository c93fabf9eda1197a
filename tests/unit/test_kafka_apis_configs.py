"""DescribeConfigs: values, sources and synonyms are what is in force."""

from __future__ import annotations

from typing import Any

from megabroker.config.schema import TopicSettings
from megabroker.core.broker_configs import DYNAMIC_CONFIGS
from megabroker.core.topic_configs import TOPIC_CONFIGS
from megabroker.protocols.kafka.schema import describe_configs
from tests.unit.kafka_apis_harness import ApiCase

UNKNOWN_TOPIC, INVALID_TOPIC, INVALID_REQUEST = 3, 17, 42
TOPIC, BROKER, LOGGER = 2, 4, 8
FROM_TOPIC, FROM_FILE, DEFAULT = 1, 4, 5


class DescribeConfigsTests(ApiCase):
    topic_settings = TopicSettings(retention_ms=60_000, default_partitions=7)

    def setUp(self) -> None:
        super().setUp()
        self.create("t", cleanup_policy="compact")

    def results(self, version: int, *resources: tuple[Any, ...], **rest: bool) -> list[Any]:
        Resource = describe_configs.Request.Resource
        request = describe_configs.Request(
            resources=[
                Resource(resource_type=kind, resource_name=name, configuration_keys=keys)
                for kind, name, keys in resources
            ],
            **rest,
        )
        return self.ask(request, version).results

    def configs(self, version: int, kind: int, name: str, **rest: bool) -> dict[str, Any]:
        (result,) = self.results(version, (kind, name, None), **rest)
        self.assertEqual((result.error_code, result.resource_type, result.resource_name), (0, kind, name))
        return {config.name: config for config in result.configs}

    def test_topic(self) -> None:
        def check(version: int) -> None:
            configs = self.configs(version, TOPIC, "t")
            self.assertEqual(list(configs), sorted(n for n, row in TOPIC_CONFIGS.items() if not row.internal))
            for config in configs.values():
                self.assertEqual(config.value, self.topics.config("t", config.name))
                self.assertFalse(config.read_only or config.is_sensitive or config.synonyms)
            told = [configs[name] for name in ("cleanup.policy", "retention.ms", "segment.bytes")]
            self.assertEqual([one.value for one in told], ["compact", "60000", "1073741824"])
            if version == 0:
                self.assertEqual([one.is_default for one in told], [False, False, True])
            else:
                self.assertEqual([one.config_source for one in told], [FROM_TOPIC, FROM_FILE, DEFAULT])
            if version >= 3:
                self.assertEqual([one.config_type for one in told], [7, 5, 3])
                self.assertEqual({one.documentation for one in configs.values()}, {None})

        self.at_every_version(32, check)

    def test_synonyms_and_documentation(self) -> None:
        configs = self.configs(4, TOPIC, "t", include_synonyms=True, include_documentation=True)

        def chain(name: str) -> list[tuple[str, str, int]]:
            return [(one.name, one.value, one.source) for one in configs[name].synonyms]

        self.assertEqual(
            chain("cleanup.policy"),
            [("cleanup.policy", "compact", FROM_TOPIC), ("log.cleanup.policy", "delete", DEFAULT)],
        )
        self.assertEqual(
            chain("retention.ms"),
            [("log.retention.ms", "60000", FROM_FILE), ("log.retention.hours", "168", DEFAULT)],
        )
        self.assertEqual(chain("remote.storage.enable"), [])
        self.assertTrue(all(config.documentation for config in configs.values()))

    def test_broker(self) -> None:
        def check(version: int) -> None:
            configs = self.configs(version, BROKER, "1")
            for name, value in {
                "advertised.listeners": "PLAIN://broker.test:9092",
                "auto.create.topics.enable": "true",
                "broker.id": "1",
                "broker.rack": None,
                "compression.type": "producer",
                "group.consumer.heartbeat.interval.ms": "5000",
                "group.consumer.session.timeout.ms": "45000",
                "group.coordinator.rebalance.protocols": "classic,consumer,streams",
                "inter.broker.protocol.version": "4.0-IV3",
                "log.cleanup.policy": "delete",
                "log.dirs": str(self.config.data_dir),
                "log.retention.ms": "60000",
                "log.segment.bytes": "1073741824",
                "message.max.bytes": "1048588",
                "num.partitions": "7",
                "offsets.retention.minutes": "10080",
            }.items():
                self.assertEqual(configs[name].value, value, name)
                self.assertEqual(configs[name].read_only, name not in DYNAMIC_CONFIGS, name)
            self.assertEqual(list(configs), sorted(configs))
            if version >= 1:
                self.assertEqual(configs["num.partitions"].config_source, FROM_FILE)
                self.assertEqual(configs["advertised.listeners"].config_source, FROM_FILE)
                self.assertEqual(configs["log.retention.ms"].config_source, FROM_FILE)
                self.assertEqual(configs["message.max.bytes"].config_source, DEFAULT)

        self.at_every_version(32, check)
        self.assertEqual(list(self.configs(4, BROKER, "")), ["min.insync.replicas"])

    def test_keys(self) -> None:
        def check(version: int) -> None:
            rows = self.results(
                version,
                (TOPIC, "t", ["retention.ms", "nonsense", "retention.ms"]),
                (BROKER, "1", []),
                (TOPIC, "t", None),
            )
            self.assertEqual([config.name for config in rows[0].configs], ["retention.ms"])
            self.assertGreater(len(rows[1].configs), 40)
            self.assertEqual(len(rows), 2)

        self.at_every_version(32, check)

    def test_what_is_not_there(self) -> None:
        def check(version: int) -> None:
            for kind, name, code in (
                (TOPIC, "no", UNKNOWN_TOPIC),
                (TOPIC, "a b", INVALID_TOPIC),
                (TOPIC, "", INVALID_TOPIC),
                (BROKER, "2", INVALID_REQUEST),
                (BROKER, "one", INVALID_REQUEST),
                (BROKER, "01", INVALID_REQUEST),
                (LOGGER, "", INVALID_REQUEST),
                (LOGGER, "2", INVALID_REQUEST),
                (16, "", INVALID_REQUEST),
                (0, "", INVALID_REQUEST),
                (-128, "x" * 30_000, INVALID_REQUEST),
            ):
                (row,) = self.results(version, (kind, name, None))
                self.assertEqual((row.error_code, row.configs), (code, []), (kind, name[:9]))
            self.assertEqual(self.results(version), [])

        self.at_every_version(32, check)
