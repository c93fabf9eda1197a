"""Groups over HTTP, with real consumers in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, ShareConsumer

from tests.brokers import BrokerProcess
from tests.http.asking import Api


@pytest.fixture(scope="module", autouse=True)
def topic(api: Api) -> None:
    api.post("/v1/topics", {"name": "grouped", "partitions": 2})
    for number in range(10):
        message = {"partition": number % 2, "value": str(number), "timestamp_ms": 1_700_000_000_000 + number}
        api.post("/v1/topics/grouped/messages", message)


@contextmanager
def member(broker: BrokerProcess, group: str, **config: Any) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.kafka,
            "group.id": group,
            "client.id": "me",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **config,
        }
    )
    consumer.subscribe(["grouped"])
    try:
        yield consumer
    finally:
        consumer.close()


def consume(consumer: Consumer, count: int) -> None:
    """Consume and commit so many messages."""
    deadline = time.monotonic() + 20
    while count:
        assert time.monotonic() < deadline
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            consumer.commit(message, asynchronous=False)
            count -= 1


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("protocol", "kind"), [("classic", "classic"), ("consumer", "consumer")])
def test_a_group_is_described_moved_and_deleted(
    broker: BrokerProcess, api: Api, protocol: str, kind: str
) -> None:
    group = f"readers-{kind}"
    with member(broker, group, **{"group.protocol": protocol}) as consumer:
        consume(consumer, 10)
        (row,) = [one for one in api.get("/v1/groups")["groups"] if one["group"] == group]
        assert (row["type"], row["state"], row["protocol_type"]) == (kind, "Stable", "consumer")
        found = api.get(f"/v1/groups/{group}")
        (one,) = found["members"]
        assert (one["client_id"], one["host"], one["topics"]) == ("me", "127.0.0.1", ["grouped"])
        assert one["assignment"] == [{"topic": "grouped", "partitions": [0, 1]}]
        assert (one["epoch"] is None) == (found["epoch"] is None) == (kind == "classic")
        reset = f"/v1/groups/{group}/offsets/reset"
        assert api.problem("POST", reset, {"to": "earliest"}) == (409, "group-not-empty")
        assert api.problem("DELETE", f"/v1/groups/{group}") == (409, "group-not-empty")
        wrong = api.problem("DELETE", f"/v1/groups/{group}/offsets/grouped")
        assert wrong == (409, "subscribed-to-topic")
    until(lambda: api.get(f"/v1/groups/{group}")["state"] == "Empty")
    rows = api.get(f"/v1/groups/{group}/offsets")["offsets"]
    assert [(row["partition"], row["offset"], row["end_offset"], row["lag"]) for row in rows] == [
        (0, 5, 5, 0),
        (1, 5, 5, 0),
    ]
    for wanted, expected in (
        ({"to": "offset", "offset": 2}, [2, 2]),
        ({"to": "shift", "by": -1}, [4, 4]),
        ({"to": "shift", "by": 10}, [5, 5]),
        ({"to": "timestamp", "timestamp_ms": 1_700_000_000_003}, [2, 1]),
        ({"to": "latest"}, [5, 5]),
        ({"to": "earliest"}, [0, 0]),
        ({"to": "latest", "topics": [{"topic": "grouped", "partitions": [1]}]}, [5]),
    ):
        dry = api.post(reset, {**wanted, "dry_run": True})
        assert [row["offset"] for row in dry["offsets"]] == expected, wanted
        assert [row["former_offset"] for row in dry["offsets"]] == [5] * len(expected)
        assert dry["dry_run"] is True
    api.post(reset, {"to": "offset", "offset": 2})
    assert [row["lag"] for row in api.get(f"/v1/groups/{group}/offsets")["offsets"]] == [3, 3]
    with member(broker, group, **{"group.protocol": protocol}) as consumer:
        consume(consumer, 6)
    until(lambda: api.get(f"/v1/groups/{group}")["state"] == "Empty")
    assert api.ask("DELETE", f"/v1/groups/{group}/offsets/grouped").status == 204
    assert api.problem("DELETE", f"/v1/groups/{group}/offsets/grouped") == (404, "unknown-topic")
    assert api.ask("DELETE", f"/v1/groups/{group}").status in (204, 404)  # nothing may be left of it
    assert api.problem("GET", f"/v1/groups/{group}") == (404, "group-not-found")
    assert api.problem("DELETE", f"/v1/groups/{group}") == (404, "group-not-found")


def test_pages_of_offsets_are_whole_whatever_the_topics_are_called(api: Api) -> None:
    """A hyphen and a dot sort before what any other separator of name and number would be."""
    names = ("counted", "counted-more", "counted.most")
    for name in names:
        api.post("/v1/topics", {"name": name, "partitions": 2})
    everything = {"to": "latest", "topics": [{"topic": name} for name in names]}
    api.post("/v1/groups/pages/offsets/reset", everything)
    seen, token = list[tuple[str, int]](), ""
    while token is not None:
        page = api.get(f"/v1/groups/pages/offsets?limit=1{token}")
        seen += [(row["topic"], row["partition"]) for row in page["offsets"]]
        token = page["next_page_token"] and f"&page_token={page['next_page_token']}"
    assert seen == [(name, index) for name in names for index in range(2)]


def test_a_group_that_there_is_not_yet_may_be_given_offsets(api: Api) -> None:
    assert api.problem("POST", "/v1/groups/new/offsets/reset", {"to": "latest"}) == (400, "invalid-request")
    everything = {"to": "latest", "topics": [{"topic": "grouped"}]}
    moved = api.post("/v1/groups/new/offsets/reset", everything)["offsets"]
    assert [(row["former_offset"], row["offset"]) for row in moved] == [(None, 5), (None, 5)]
    assert api.get("/v1/groups/new")["state"] == "Empty"
    page = api.get("/v1/groups/new/offsets?limit=1")
    assert [row["partition"] for row in page["offsets"]] == [0]
    rest = api.get(f"/v1/groups/new/offsets?page_token={page['next_page_token']}")
    assert [row["partition"] for row in rest["offsets"]] == [1]
    unknown = {"to": "latest", "topics": [{"topic": "nowhere"}]}
    assert api.problem("POST", "/v1/groups/new/offsets/reset", unknown) == (404, "unknown-topic")


def test_where_some_partitions_are_refused_it_is_told_which_were_moved() -> None:
    with BrokerProcess({"durability": "os", "groups": {"max_offsets": 1}}) as broker:
        api = Api(broker.http_ports[0])
        api.post("/v1/topics", {"name": "some", "partitions": 2})
        api.post("/v1/topics/some/messages", {"partition": 0, "value": "one"})
        reset, offsets = "/v1/groups/few/offsets/reset", "/v1/groups/few/offsets"
        api.post(reset, {"to": "earliest", "topics": [{"topic": "some", "partitions": [0]}]})
        reply = api.ask("POST", reset, {"to": "latest", "topics": [{"topic": "some"}]})
        assert (reply.status, reply.json["code"]) == (409, "offset-limit")
        assert reply.json["detail"] == "some-1: offset-limit; done: 1 of 2, which are some-0"
        assert [(row["partition"], row["offset"]) for row in api.get(offsets)["offsets"]] == [(0, 1)]
        assert "ResetOffsets: few to latest, 1 of 2, which are some-0\n" in broker.log
        none = api.ask("POST", reset, {"to": "latest", "topics": [{"topic": "some", "partitions": [1]}]})
        assert none.json["detail"] == "some-1: offset-limit; nothing was changed"
        assert broker.log.count("ResetOffsets") == 2
        assert api.ask("DELETE", f"{offsets}/some").status == 204
        assert "OffsetDelete: few of some\n" in broker.log


def test_what_does_not_go_together(api: Api) -> None:
    reply = api.ask("POST", "/v1/groups/new/offsets/reset", {"to": "offset", "by": 3})
    assert [(one["path"], one["expected"]) for one in reply.json["errors"]] == [
        ("/by", "none, as to is offset"),
        ("/offset", "a number, as to is offset"),
    ]
    assert api.problem("POST", "/v1/groups/new/offsets/reset", {"to": "nowhere"}) == (400, "invalid-request")


def test_names_of_groups_may_be_anything(api: Api) -> None:
    everything = {"to": "latest", "topics": [{"topic": "grouped"}]}
    for name in ("a%2Fb", "%C3%A4", "%2E", "a%20b"):
        api.post(f"/v1/groups/{name}/offsets/reset", everything)
        assert len(api.get(f"/v1/groups/{name}/offsets")["offsets"]) == 2
        api.delete(f"/v1/groups/{name}")


def test_share_groups_too(broker: BrokerProcess, api: Api) -> None:
    consumer = ShareConsumer({"bootstrap.servers": broker.kafka, "group.id": "shared", "client.id": "sharer"})
    try:
        consumer.subscribe(["grouped"])
        until(lambda: bool(consumer.poll(0.5) or _has_members(api, "shared")))
        found = api.get("/v1/groups/shared")
        assert (found["type"], found["state"]) == ("share", "Stable")
        assert [one["client_id"] for one in found["members"]] == ["sharer"]
    finally:
        consumer.close()
    until(lambda: api.get("/v1/groups/shared")["state"] == "Empty")
    moved = api.post("/v1/groups/shared/offsets/reset", {"to": "earliest", "topics": [{"topic": "grouped"}]})
    assert [row["offset"] for row in moved["offsets"]] == [0, 0]
    rows = api.get("/v1/groups/shared/offsets")["offsets"]
    assert [(row["offset"], row["lag"]) for row in rows] == [(0, 5), (0, 5)]
    api.delete("/v1/groups/shared")
    assert api.problem("GET", "/v1/groups/shared") == (404, "group-not-found")


def _has_members(api: Api, group: str) -> bool:
    reply = api.ask("GET", f"/v1/groups/{group}")
    return reply.status == 200 and bool(reply.json["members"])
