"""What a running broker tells of itself: over HTTP and in its log."""

from __future__ import annotations

import json
import time
import urllib.request

from confluent_kafka import Consumer, Producer
from prometheus_client.parser import text_string_to_metric_families

from tests.brokers import BrokerProcess


def metrics(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a process tells at its HTTP port, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples
    }


def produce(broker: BrokerProcess, count: int) -> None:
    """Have records stored, each by a request of its own."""
    producer = Producer({"bootstrap.servers": broker.kafka, "client.id": "counted", "linger.ms": 0})
    for number in range(count):
        producer.produce("counted", str(number))
        assert producer.flush(10) == 0


def test_metrics_over_http() -> None:
    with BrokerProcess() as broker:
        produce(broker, 20)
        found = metrics(broker.http_ports[0])
        assert found["megabroker_topic_produced_records_total", frozenset({("topic", "counted")})] == 20
        requests = frozenset({("protocol", "kafka"), ("api", "Produce")})
        assert found["megabroker_request_duration_seconds_count", requests] == 20
        assert found["megabroker_request_duration_seconds_sum", requests] > 0
        assert found["megabroker_disk_sync_seconds_count", frozenset()] >= 1
        assert found["megabroker_connections", frozenset({("protocol", "http")})] == 1
        assert found["process_open_fds", frozenset()] > 10


def test_rebalances_are_counted_by_the_type_of_their_groups() -> None:
    with BrokerProcess({"groups": {"initial_rebalance_delay_ms": 0}}) as broker:
        produce(broker, 1)
        port = broker.http_ports[0]

        def counted(kind: str) -> float:
            return metrics(port)["megabroker_group_rebalances_total", frozenset({("type", kind)})]

        kinds = "classic", "consumer", "share", "streams"
        assert [counted(kind) for kind in kinds] == [0, 0, 0, 0]
        for kind in kinds[:2]:
            for _ in range(2):
                config = {"bootstrap.servers": broker.kafka, "group.id": kind, "group.protocol": kind}
                reader = Consumer(config)
                reader.subscribe(["counted"])
                deadline = time.monotonic() + 20
                while not reader.assignment():
                    reader.poll(0.1)
                    assert time.monotonic() < deadline
                reader.close()
        # One for each that came, one for each that went and left the group empty.
        assert [counted(kind) for kind in kinds] == [4, 4, 0, 0]


def test_json_logs_and_single_requests() -> None:
    logging = {"format": "json", "requests": 1, "slow_request_ms": 60_000}
    with BrokerProcess({"logging": logging, "workers": 2}) as broker:
        produce(broker, 5)
        for port in broker.http_ports:
            metrics(port)
        assert broker.stop() == 0
        lines = [json.loads(line) for line in broker.log.splitlines()]
    assert all(line["service.name"] == "megabroker" for line in lines)
    requests = [line for line in lines if line["event.action"] == "request-answered"]
    produced = [line for line in requests if line["megabroker.api"] == "Produce"]
    assert produced
    for line in produced:
        assert line["source.ip"] == "127.0.0.1"
        assert line["megabroker.client_id"] == "counted"
        assert line["user.name"] == "ANONYMOUS"
        assert line["megabroker.request_bytes"] > 50
        assert line["service.node.name"] in ("1", "2")
        assert line["megabroker.milliseconds"] >= 0
    metadata = next(line for line in requests if line["megabroker.api"] == "Metadata")
    assert metadata["megabroker.answer_bytes"] > 20
    assert metadata["megabroker.worked_ms"] > 0
    assert not [line for line in lines if line["event.action"] == "slow-request"]
