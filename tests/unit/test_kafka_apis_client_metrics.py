"""Subscriptions to the metrics of clients: kept, told and listed; no client is asked for anything."""

from __future__ import annotations

from typing import Any

from megabroker.core.client_metrics import CLIENT_METRICS_TABLE, ClientMetrics
from megabroker.model import Change
from megabroker.protocols.kafka.schema import (
    alter_configs,
    describe_configs,
    get_telemetry_subscriptions,
    incremental_alter_configs,
    list_config_resources,
)
from tests.unit.kafka_apis_harness import ApiCase

METRICS = 16
SET, DELETE, APPEND = 0, 1, 2
FROM_METRICS, DEFAULT = 7, 5
INVALID_CONFIG, INVALID_REQUEST, POLICY_VIOLATION = 40, 42, 44


class ClientMetricsTests(ApiCase):
    def change(self, *changes: tuple[str, int, str | None], name: str = "m") -> int:
        Resource = incremental_alter_configs.Request.Resource
        configs = [
            Resource.Config(name=key, config_operation=operation, value=value)
            for key, operation, value in changes
        ]
        resource = Resource(resource_type=METRICS, resource_name=name, configs=configs)
        waiting = self.begin(incremental_alter_configs.Request(resources=[resource]), 1)
        self.turn()
        (row,) = self.successResultOf(waiting).responses
        self.assertEqual(bool(row.error_message), bool(row.error_code))
        return int(row.error_code)

    def described(self, name: str = "m") -> dict[str, tuple[str, int]]:
        resource = describe_configs.Request.Resource(resource_type=METRICS, resource_name=name)
        resource.configuration_keys = None
        (row,) = self.ask(describe_configs.Request(resources=[resource]), 4).results
        self.assertEqual(row.error_code, 0)
        return {one.name: (one.value, one.config_source) for one in row.configs}

    def names(self, version: int = 1) -> list[str]:
        types = [METRICS] if version else []
        rows = self.ask(list_config_resources.Request(resource_types=types), version).config_resources
        return [row.resource_name for row in rows]

    def test_one_that_does_not_exist_has_the_defaults(self) -> None:
        self.assertEqual(
            self.described(),
            {"interval.ms": ("300000", DEFAULT), "match": ("", DEFAULT), "metrics": ("", DEFAULT)},
        )
        self.assertEqual(self.names(), [])

    def test_kept_told_listed_and_removed(self) -> None:
        match = "client_id=a.*,client_source_port=1"
        changes = (("metrics", SET, "org."), ("interval.ms", SET, "5000"), ("match", SET, match))
        self.assertEqual(self.change(*changes), 0)
        self.assertEqual(self.described()["match"], (match, FROM_METRICS))
        self.assertEqual(self.described()["interval.ms"], ("5000", FROM_METRICS))
        self.assertEqual([self.names(version) for version in (0, 1)], [["m"], ["m"]])
        again = ClientMetrics(self.metadata)
        again.load()
        self.assertEqual(again.of("m"), self.broker.client_metrics.of("m"))
        asked = get_telemetry_subscriptions.Request()
        self.assertEqual(self.ask(asked, 0).requested_metrics, [])
        gone = [(name, DELETE, None) for name in ("metrics", "interval.ms", "match")]
        self.assertEqual(self.change(*gone), 0)
        self.assertEqual((self.names(), self.metadata.rows(CLIENT_METRICS_TABLE)), ([], {}))

    def test_the_older_request(self) -> None:
        Resource = alter_configs.Request.Resource
        config = Resource.Config(name="interval.ms", value="500")
        resource = Resource(resource_type=METRICS, resource_name="m", configs=[config])
        waiting = self.begin(alter_configs.Request(resources=[resource]), 2)
        self.turn()
        self.assertEqual(self.successResultOf(waiting).responses[0].error_code, 0)
        self.assertEqual(self.described()["interval.ms"], ("500", FROM_METRICS))

    def test_refused(self) -> None:
        for change, code in (
            (("interval.ms", SET, "5"), INVALID_REQUEST),
            (("interval.ms", SET, "soon"), INVALID_CONFIG),
            (("interval.ms", SET, "9" * 5000), INVALID_CONFIG),
            (("no.such", SET, "5"), INVALID_REQUEST),
            (("match", SET, "planet=5"), INVALID_CONFIG),
            (("match", SET, "client_id"), INVALID_CONFIG),
            (("match", SET, "client_id=("), INVALID_CONFIG),
            (("metrics", APPEND, "x"), INVALID_CONFIG),
            (("metrics", SET, "x" * 40_000), INVALID_CONFIG),
        ):
            self.assertEqual(self.change(change), code, change[0])
        self.assertEqual(self.change(("interval.ms", SET, "500"), name=""), INVALID_REQUEST)
        self.assertEqual(self.names(), [])

    def test_there_is_a_limit(self) -> None:
        subscriptions: Any = self.broker.client_metrics
        subscriptions._set = {str(number): {"metrics": "x"} for number in range(1000)}
        self.assertEqual(self.change(("metrics", SET, "x")), POLICY_VIOLATION)
        self.assertEqual(self.change(("metrics", SET, "y"), name="7"), 0)

    def test_what_is_not_valid_in_the_store_is_left_alone(self) -> None:
        rows = (("bad", {"interval.ms": "1"}), ("none", []), ("good", {"metrics": "*"}))
        self.metadata.write([Change(CLIENT_METRICS_TABLE, name, row) for name, row in rows])
        self.turn()
        fresh = ClientMetrics(self.metadata)
        fresh.load()
        self.assertEqual(fresh.names(), ["good"])
