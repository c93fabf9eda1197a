"""Metrics are what Prometheus expects, are what happened, and hold nobody up while they are read."""

from __future__ import annotations

import json
import pathlib
import re
import time
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from megabroker.codec.batch import build_single
from megabroker.config.schema import LimitSettings
from megabroker.latency import BOUNDS_SECONDS, Latency
from megabroker.ops.metrics import service as metrics_service
from megabroker.ops.metrics.table import COUNTER, FAMILIES, HISTOGRAM
from tests.unit.call_counting import Client, CountingCase
from tests.unit.test_call_counts import fetch_request, produce_request

ROOT = pathlib.Path(__file__).parents[2]
PLAIN = "text/plain"
OPEN = "application/openmetrics-text; version=1.0.0"
_NOW_MS = 1_700_000_000_000


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample by its name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found[one.name, frozenset(one.labels.items())] = one.value
    return found


class TableTests(CountingCase):
    def test_names_follow_the_conventions(self) -> None:
        names = [family.name for family in FAMILIES]
        self.assertEqual(len(names), len(set(names)))
        for family in FAMILIES:
            self.assertRegex(family.name, r"^(megabroker|broker)_[a-z_]+$")
            self.assertEqual(family.kind == COUNTER, family.name.endswith("_total"), family.name)
            if family.kind == HISTOGRAM:
                self.assertTrue(family.name.endswith("_seconds"), family.name)
            self.assertTrue(family.help.endswith("."), family.name)

    def test_the_page_shows_the_table(self) -> None:
        page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
        shown = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
        expected = [(family.name, family.kind, ", ".join(family.labels), family.help) for family in FAMILIES]
        self.assertEqual([tuple(cell.strip() for cell in row) for row in shown], expected)


class LatencyTests(CountingCase):
    def test_buckets_take_what_is_at_most_as_long_as_their_bound(self) -> None:
        latency = Latency()
        for bound in BOUNDS_SECONDS:
            latency.observe(bound)
        latency.observe(BOUNDS_SECONDS[-1] + 1, 3)
        self.assertEqual(latency.counts, [1] * len(BOUNDS_SECONDS) + [3])
        self.assertAlmostEqual(latency.seconds, sum(BOUNDS_SECONDS) + 3 * (BOUNDS_SECONDS[-1] + 1))


class MetricsTests(CountingCase):
    def setUp(self) -> None:
        super().setUp()
        self.done(self.service.core.topics.create("t", 2))
        self.service.metrics.sources.factories = lambda: [self.factory]
        self.one = bytes(build_single(None, b"x" * 100, _NOW_MS))

    def rendered(self, accept: str = PLAIN) -> tuple[str, str]:
        content_type, text = self.done(self.service.metrics.render(accept))
        return content_type, text.decode()

    def produce(self, client: Client, count: int) -> None:
        client.send(*[produce_request(self.one)] * count)
        client.receive(count)

    def test_what_was_produced_and_fetched_is_counted(self) -> None:
        client = self.connect()
        before = samples(self.rendered()[1])
        self.produce(client, 7)
        self.produce(client, 3)
        client.send(fetch_request(0, 1 << 20))
        client.receive(1)
        found = samples(self.rendered()[1])

        def grown(name: str, **labels: str) -> float:
            key = name, frozenset(labels.items())
            return found[key] - before.get(key, 0)

        self.assertEqual(grown("megabroker_topic_produced_records_total", topic="t"), 10)
        self.assertEqual(grown("megabroker_topic_produced_batches_total", topic="t"), 10)
        self.assertEqual(grown("megabroker_topic_produced_bytes_total", topic="t"), 10 * len(self.one))
        self.assertEqual(grown("megabroker_topic_fetched_bytes_total", topic="t"), 10 * len(self.one))
        self.assertEqual(grown("broker_messages_processed_total"), 10)
        self.assertEqual(
            found["megabroker_partition_log_end_offset", frozenset({("topic", "t"), ("partition", "0")})], 10
        )
        produced = {"protocol": "kafka", "api": "Produce"}
        self.assertEqual(grown("megabroker_request_duration_seconds_count", **produced), 10)
        self.assertEqual(grown("megabroker_request_duration_seconds_bucket", **produced, le="+Inf"), 10)
        self.assertEqual(grown("megabroker_request_duration_seconds_count", protocol="kafka", api="Fetch"), 1)
        sent = 10 * len(produce_request(self.one)) + len(fetch_request(0, 1 << 20))
        self.assertEqual(grown("megabroker_received_bytes_total", protocol="kafka"), sent)
        self.assertGreater(grown("megabroker_sent_bytes_total", protocol="kafka"), 10 * len(self.one))
        self.assertEqual(found["megabroker_connections", frozenset({("protocol", "kafka")})], 1)

    def test_counters_of_the_whole_broker_outlive_topics(self) -> None:
        self.produce(self.connect(), 5)
        self.done(self.service.core.topics.delete("t"))
        found = samples(self.rendered()[1])
        self.assertEqual(found["megabroker_produced_records_total", frozenset()], 5)
        self.assertFalse([name for name, labels in found if ("topic", "t") in labels])

    def test_every_limit_has_a_counter_and_some_are_met(self) -> None:
        name = "megabroker_limit_hits_total"
        text = self.rendered()[1]
        told = {dict(labels)["limit"] for key, labels in samples(text) if key == name}
        self.assertLessEqual({f"limits.{one.name}" for one in LimitSettings.__attrs_attrs__}, told)
        client = self.connect()
        client.connection.reader.max_bytes = 100
        client.send(produce_request(self.one))
        self.reactor.turn()
        found = samples(self.rendered()[1])
        self.assertEqual(found[name, frozenset({("limit", "limits.max_request_bytes")})], 1)
        self.assertEqual(found["megabroker_protocol_errors_total", frozenset({("protocol", "kafka")})], 1)

    def test_both_formats_and_all_names(self) -> None:
        content_type, text = self.rendered(OPEN)
        self.assertTrue(content_type.startswith("application/openmetrics-text"))
        families = {family.name: family for family in parse_openmetrics(text)}
        for family in FAMILIES:
            found = families[family.name.removesuffix("_total")]
            self.assertEqual((found.type, found.documentation), (family.kind, family.help))
        plain_type, plain = self.rendered("")
        self.assertTrue(plain_type.startswith("text/plain"))
        told = {family.name for family in text_string_to_metric_families(plain)}
        self.assertIn("process_resident_memory_bytes", told)

    def test_much_is_written_in_pieces_and_reads_as_one(self) -> None:
        self.done(self.service.core.topics.create("many", 300))
        families = {family.name: family for family in parse_openmetrics(self.rendered(OPEN)[1])}
        self.assertEqual(len(families["megabroker_partition_size_bytes"].samples), 302)
        text = self.rendered()[1]
        self.assertEqual(text.count("# TYPE megabroker_partition_size_bytes"), 1)
        found = samples(text)
        self.assertEqual(sum(name == "megabroker_partition_size_bytes" for name, _ in found), 302)

    def test_series_are_bounded(self) -> None:
        self.service.config = _with_series(self.service.config, 1)
        found = samples(self.rendered()[1])
        partitions = [labels for name, labels in found if name == "megabroker_partition_size_bytes"]
        self.assertEqual(len(partitions), 1)
        self.assertEqual(found["megabroker_metrics_left_out", frozenset({("of", "partitions")})], 1)
        self.assertEqual(found["megabroker_partitions", frozenset()], 2)

    def test_who_asks_meanwhile_is_given_the_same(self) -> None:
        self.patch(metrics_service, "_SLICE_SECONDS", 0.0)
        one, two = self.service.metrics.render(PLAIN), self.service.metrics.render(PLAIN)
        self.assertIs(self.done(one), self.done(two))

    def test_what_writes_them_is_imported_in_a_thread(self) -> None:
        ran: list[Any] = []
        run = self.service.metrics._run
        self.patch(self.service.metrics, "_run", lambda *args: (ran.append(args), run(*args))[1])
        self.rendered()
        self.rendered()
        self.assertEqual([args[1] for args in ran], ["megabroker.ops.metrics.exposition"])

    def test_a_fault_is_told_to_who_asks(self) -> None:
        def broken() -> Any:
            raise ZeroDivisionError

        self.rendered()
        self.service.metrics.sources.factories = broken
        asked = self.service.metrics.render(PLAIN)
        self.failureResultOf(asked, ZeroDivisionError)

    def test_reading_holds_nobody_up(self) -> None:
        self.done(self.service.core.topics.create("many", 500))
        gathered: list[Any] = []
        from megabroker.ops.metrics.gathering import gather

        longest, began = 0.0, time.thread_time()
        for _ in gather(self.service.metrics.sources, gathered):
            now = time.thread_time()
            longest, began = max(longest, now - began), now
        self.assertLess(longest, 0.02)


def _with_series(config: Any, most: int) -> Any:
    import attrs

    return attrs.evolve(config, metrics=attrs.evolve(config.metrics, max_series=most))


def expressions(value: Any) -> list[str]:
    """Return every expression in a dashboard or a file of rules."""
    if isinstance(value, dict):
        own = [value["expr"]] if isinstance(value.get("expr"), str) else []
        return own + [one for inner in value.values() for one in expressions(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in expressions(inner)]
    return []


def unknown_names(expression: str) -> set[str]:
    """Return which metrics in an expression there are not."""
    known = {"up"}
    for family in FAMILIES:
        known.add(family.name)
        if family.kind == HISTOGRAM:
            known |= {f"{family.name}_{end}" for end in ("bucket", "count", "sum")}
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]|\b(by|without|on|ignoring) *\([^)]*\)|\{[^}]*\}', "", expression)
    return {
        name
        for name in re.findall(r"\b[a-z_:][a-z0-9_:]*\b(?! *\()", bare)
        if name not in known
        and not name.startswith("process_")
        and name not in ("and", "or", "unless", "bool")
    }


def test_dashboard_and_alerts_ask_for_what_there_is() -> None:
    import yaml

    place = ROOT / "packaging"
    dashboard = json.loads((place / "grafana" / "megabroker.json").read_text(encoding="utf-8"))
    rules = yaml.safe_load((place / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    found = expressions(dashboard), expressions(rules)
    assert all(len(some) >= 8 for some in found)
    for expression in (*found[0], *found[1]):
        assert not unknown_names(expression), expression
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["title"] and panel["description"] for panel in panels)
    assert unknown_names("rate(megabroker_gone_total[5m])") == {"megabroker_gone_total"}
