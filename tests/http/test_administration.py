"""Configurations, quotas, transactions, connections, loggers and the rest, seen by other clients as well."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from tests.brokers import BrokerProcess
from tests.http.asking import Api


def by_name(rows: Any) -> dict[str, Any]:
    return {row["name"]: row for row in rows["configs"]}


def test_the_broker_tells_what_it_is(broker: BrokerProcess, api: Api) -> None:
    found = api.get("/v1/broker")
    (node,) = found["nodes"]
    assert node["is_controller"]
    assert {one["protocol"]: one["port"] for one in node["listeners"]} == broker.ports
    plugins = {one["name"]: one["is_enabled"] for one in api.get("/v1/plugins")["plugins"]}
    assert (plugins["kafka"], plugins["mega"]) == (True, True)


def test_configurations_of_topics(broker: BrokerProcess, api: Api) -> None:
    api.post("/v1/topics", {"name": "configured", "configs": {"retention.ms": "1000"}})
    address = "/v1/topics/configured/configs"
    before = by_name(api.get(address))
    assert (before["retention.ms"]["value"], before["retention.ms"]["is_set"]) == ("1000", True)
    assert (before["segment.bytes"]["value"], before["segment.bytes"]["is_set"]) == ("1073741824", False)
    changed = by_name(api.patch(address, {"configs": {"segment.bytes": "1048576", "retention.ms": None}}))
    assert (changed["segment.bytes"]["value"], changed["retention.ms"]["is_set"]) == ("1048576", False)
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    resource = ConfigResource(ResourceType.TOPIC, "configured")
    (told,) = admin.describe_configs([resource]).values()
    assert told.result(10)["segment.bytes"].value == "1048576"
    dry = {"configs": {"segment.bytes": "2097152"}, "validate_only": True}
    assert by_name(api.patch(address, dry))["segment.bytes"]["value"] == "1048576"
    assert api.problem("PATCH", address, {"configs": {"segment.bytes": "x"}}) == (400, "invalid-config")
    assert api.problem("PATCH", address, {"configs": {"nonsense": "1"}}) == (400, "invalid-config")
    unknown = api.problem("PATCH", "/v1/topics/nowhere/configs", {"configs": {}})
    assert unknown == (404, "unknown-topic")


def test_configurations_of_groups_and_the_broker(api: Api) -> None:
    changes = {"configs": {"consumer.session.timeout.ms": "50000"}}
    changed = by_name(api.patch("/v1/groups/any/configs", changes))
    assert changed["consumer.session.timeout.ms"]["is_set"]
    wrong = api.problem("PATCH", "/v1/groups/any/configs", {"configs": {"nonsense": "1"}})
    assert wrong == (400, "invalid-config")
    api.patch("/v1/groups/any/configs", {"configs": {"consumer.session.timeout.ms": None}})
    address = "/v1/broker/configs"
    changed = by_name(api.patch(address, {"configs": {"log.retention.ms": "123456"}}))
    assert changed["log.retention.ms"]["value"] == "123456"
    api.post("/v1/topics", {"name": "follows"})
    assert by_name(api.get("/v1/topics/follows/configs"))["retention.ms"]["value"] == "123456"
    api.patch(address, {"configs": {"log.retention.ms": None}})
    assert by_name(api.get("/v1/topics/follows/configs"))["retention.ms"]["value"] == "604800000"
    wrong = api.problem("PATCH", address, {"configs": {"broker.id": "7"}})
    assert wrong == (400, "invalid-config")


def test_quotas(broker: BrokerProcess, api: Api) -> None:
    entity = [{"type": "client-id", "name": "greedy"}, {"type": "user", "name": None}]
    made = api.put("/v1/quotas", {"entity": entity, "quotas": {"producer_byte_rate": 1e6}})
    assert made["quotas"]["producer_byte_rate"] == 1e6
    (row,) = [one for one in api.get("/v1/quotas")["quotas"] if one["entity"] == made["entity"]]
    assert row == made
    for wrong in (
        {"entity": [{"type": "user", "name": "a"}] * 2, "quotas": {}},
        {"entity": entity, "quotas": {"producer_byte_rate": -1}},
        {"entity": entity, "quotas": {"connection_creation_rate": 1}},
        {"entity": [{"type": "ip", "name": "nowhere"}], "quotas": {"connection_creation_rate": 1}},
    ):
        assert api.problem("PUT", "/v1/quotas", wrong) == (400, "invalid-request"), wrong
    gone = api.put("/v1/quotas", {"entity": entity, "quotas": {}})
    assert set(gone["quotas"].values()) == {None}
    address = [{"type": "ip", "name": "192.0.2.1"}]
    api.put("/v1/quotas", {"entity": address, "quotas": {"connection_creation_rate": 9}})
    api.put("/v1/quotas", {"entity": address, "quotas": {}})
    assert api.get("/v1/quotas")["quotas"] == []


def test_what_is_produced_over_http_counts_for_quotas(api: Api) -> None:
    api.post("/v1/topics", {"name": "limited", "partitions": 1})
    entity = [{"type": "client-id", "name": "http"}]
    api.put("/v1/quotas", {"entity": entity, "quotas": {"producer_byte_rate": 2300}})
    try:
        began = time.monotonic()
        for _ in range(3):
            api.post("/v1/topics/limited/messages", {"value": "x" * 8000})
        assert time.monotonic() - began > 0.2
    finally:
        api.put("/v1/quotas", {"entity": entity, "quotas": {}})


def test_a_transaction_is_aborted(broker: BrokerProcess, api: Api) -> None:
    api.post("/v1/topics", {"name": "sold", "partitions": 1})
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": "seller"})
    producer.init_transactions(20)
    assert api.get("/v1/transactions/seller")["state"] == "Empty"
    assert api.problem("POST", "/v1/transactions/seller/abort", {}) == (409, "invalid-txn-state")
    producer.begin_transaction()
    producer.produce("sold", b"never seen")
    producer.flush(20)
    (row,) = api.get("/v1/transactions?state=ongoing")["transactions"]
    assert (row["transactional_id"], row["partitions"]) == ("seller", [{"topic": "sold", "partition": 0}])
    assert row["start_time_ms"] > 0
    assert api.get("/v1/topics/sold/partitions/0")["stable_offset"] == 0
    assert api.post("/v1/transactions/seller/abort")["state"] in ("PrepareAbort", "CompleteAbort")
    answer = api.get("/v1/topics/sold/partitions/0/messages?wait_ms=1000")
    assert answer["messages"] == []
    assert api.get("/v1/topics/sold/partitions/0")["stable_offset"] == 2
    with pytest.raises(Exception, match=r"(?i)fenced|epoch"):
        producer.commit_transaction(20)
    nobody = api.problem("POST", "/v1/transactions/nobody/abort", {})
    assert nobody == (404, "transactional-id-not-found")


def test_connections_are_listed_and_closed(broker: BrokerProcess, api: Api) -> None:
    producer = Producer({"bootstrap.servers": broker.kafka, "client.id": "watched"})
    producer.produce("watched", b"x" * 1000)
    assert producer.flush(20) == 0
    rows = api.get("/v1/connections?protocol=kafka")["connections"]
    assert api.get("/v1/connections?protocol=kafka&listener=default")["connections"]
    assert api.get("/v1/connections?listener=none")["connections"] == []
    mine = [row for row in rows if row["client_id"] == "watched"]
    assert mine
    assert max(row["received_bytes"] for row in mine) > 1000
    assert max(row["sent_bytes"] for row in mine) > 100
    assert {row["principal"] for row in mine} == {"User:ANONYMOUS"}
    for row in mine:
        api.delete(f"/v1/connections/{row['id']}")
    left = {row["id"] for row in api.get("/v1/connections")["connections"]}
    assert not left & {row["id"] for row in mine}
    assert api.problem("DELETE", "/v1/connections/nobody") == (404, "invalid-request")
    assert "closed by User:ANONYMOUS over HTTP" in broker.log


def test_the_log_has_more_to_say(broker: BrokerProcess, api: Api) -> None:
    rows = {row["logger"]: row["level"] for row in api.get("/v1/loggers?limit=1000")["loggers"]}
    assert rows["root"] == "debug"
    name = "megabroker.http.channel"
    assert api.put(f"/v1/loggers/{name}", {"level": "error"}) == {"logger": name, "level": "error"}
    assert api.put(f"/v1/loggers/{name}", {"level": None}) == {"logger": name, "level": "debug"}
    assert api.problem("PUT", "/v1/loggers/root", {"level": None}) == (400, "invalid-request")
    assert api.problem("PUT", "/v1/loggers/nobody", {"level": "info"}) == (404, "invalid-request")
    assert api.problem("PUT", f"/v1/loggers/{name}", {"level": "loud"}) == (400, "invalid-request")
    assert f"logger {name} to error" in broker.log


def test_the_configuration_in_force_could_be_a_file(broker: BrokerProcess, api: Api) -> None:
    found = api.get("/v1/configuration")
    assert yaml.safe_load(found["yaml"]) == found["configuration"]
    assert found["configuration"]["http"]["request_seconds"] == 2
    assert found["configuration"]["durability"] == "os"
    from megabroker.config.load import parse
    from megabroker.plugin import discover

    again = parse(found["yaml"], "told", discover())
    assert again.http.request_seconds == 2
    assert again.topics.retention_ms == 604_800_000


def test_without_access_rules_there_are_none(api: Api) -> None:
    assert api.problem("GET", "/v1/acls") == (409, "unsupported")


def test_the_numbers_for_prometheus(api: Api) -> None:
    reply = api.ask("GET", "/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert b"\n# TYPE " in reply.body
    open_metrics = api.ask(
        "GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert api.ask("HEAD", "/metrics").status == 200
