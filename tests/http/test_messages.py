"""Messages over HTTP, and what other clients see of them."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from megabroker.http.encoding import decoded
from megabroker.http.schema import ValueFault
from tests.brokers import BrokerProcess
from tests.http.asking import Api


@pytest.fixture(scope="module", autouse=True)
def topic(api: Api) -> None:
    api.post("/v1/topics", {"name": "letters", "partitions": 3})


def consumed(broker: BrokerProcess, topic: str, partition: int, offset: int) -> Any:
    consumer = Consumer({"bootstrap.servers": broker.kafka, "group.id": "none", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = consumer.poll(20)
        assert message is not None
        assert message.error() is None
        return message
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("key", "value", "encodings", "expected"),
    [
        ("k", "text", ("text", "text"), (b"k", b"text")),
        (None, None, ("text", "text"), (None, None)),
        ({"id": 1}, [1, "ä", None], ("json", "json"), (b'{"id":1}', '[1,"ä",null]'.encode())),
        ("AP8=", "", ("base64", "base64"), (b"\0\xff", b"")),
    ],
)
def test_what_is_produced_is_what_others_consume(
    broker: BrokerProcess, api: Api, key: Any, value: Any, encodings: Any, expected: Any
) -> None:
    placed = api.post(
        "/v1/topics/letters/messages",
        {
            "key": key,
            "value": value,
            "key_encoding": encodings[0],
            "value_encoding": encodings[1],
            "headers": [{"name": "h", "value": "1"}, {"name": "b", "value": "/w==", "encoding": "base64"}],
            "timestamp_ms": 1_700_000_000_000,
        },
    )
    assert placed["timestamp_ms"] == 1_700_000_000_000
    message = consumed(broker, "letters", placed["partition"], placed["offset"])
    assert (message.key(), message.value()) == expected
    assert message.headers() == [("h", b"1"), ("b", b"\xff")]
    assert message.timestamp()[1] == 1_700_000_000_000


def test_keys_go_where_kafkas_producers_send_them(broker: BrokerProcess, api: Api) -> None:
    sent: dict[bytes, int] = {}
    producer = Producer({"bootstrap.servers": broker.kafka, "partitioner": "murmur2"})
    for number in range(20):
        key = f"key {number}".encode()
        producer.produce(
            "letters", b"x", key, on_delivery=lambda error, one: sent.update({one.key(): one.partition()})
        )
    assert producer.flush(20) == 0
    for key, partition in sent.items():
        assert api.post("/v1/topics/letters/messages", {"key": key.decode()})["partition"] == partition


def test_messages_are_shown_as_what_they_are(broker: BrokerProcess, api: Api) -> None:
    api.post("/v1/topics", {"name": "kinds", "partitions": 1})
    values = [b"plain", b'{"a": [1, 2.5]}', b"\xff\0", None, b"[" * 5000, b'"\\ud800"', b"NaN", b""]
    producer = Producer({"bootstrap.servers": broker.kafka})
    for value in values:
        producer.produce("kinds", value, b"k", headers={"h": b"\xfe"}, partition=0)
    assert producer.flush(20) == 0
    answer = api.get("/v1/topics/kinds/partitions/0/messages?value_encoding=json")
    assert [(one["value"], one["value_encoding"]) for one in answer["messages"]] == [
        ("plain", "text"),
        ({"a": [1, 2.5]}, "json"),
        (base64.b64encode(b"\xff\0").decode(), "base64"),
        (None, "text"),
        ("[" * 5000, "text"),
        ('"\\ud800"', "text"),
        ("NaN", "text"),
        ("", "text"),
    ]
    assert answer["messages"][0]["headers"] == [{"name": "h", "value": "/g==", "encoding": "base64"}]
    assert (answer["next_offset"], answer["end_offset"]) == (8, 8)
    some = api.get("/v1/topics/kinds/partitions/0/messages?offset=1&limit=2&value_encoding=base64")
    assert [(one["offset"], one["value_encoding"]) for one in some["messages"]] == [
        (1, "base64"),
        (2, "base64"),
    ]
    assert some["next_offset"] == 3
    last = api.get("/v1/topics/kinds/partitions/0/messages?from=latest&limit=3")
    assert [one["offset"] for one in last["messages"]] == [5, 6, 7]


def test_messages_are_found_by_time_and_key(api: Api) -> None:
    api.post("/v1/topics", {"name": "found", "partitions": 1})
    for number in range(6):
        message = {"key": "even" if number % 2 == 0 else "odd", "value": str(number)}
        api.post("/v1/topics/found/messages", {**message, "timestamp_ms": 1_700_000_000_000 + number})
    by_time = api.get("/v1/topics/found/partitions/0/messages?timestamp_ms=1700000000004")
    assert [one["value"] for one in by_time["messages"]] == ["4", "5"]
    by_key = api.get("/v1/topics/found/partitions/0/messages?key=odd&limit=2")
    assert [one["value"] for one in by_key["messages"]] == ["1", "3"]
    assert by_key["next_offset"] == 4
    later = api.get("/v1/topics/found/partitions/0/messages?timestamp_ms=1800000000000")
    assert (later["messages"], later["next_offset"]) == ([], 6)
    wrong = api.problem("GET", "/v1/topics/found/partitions/0/messages?offset=7")
    assert wrong == (400, "offset-out-of-range")
    assert api.problem("GET", "/v1/topics/found/partitions/1/messages") == (404, "unknown-partition")
    assert api.problem("GET", "/v1/topics/nowhere/partitions/0/messages") == (404, "unknown-topic")


def test_a_message_that_comes_is_waited_for(api: Api) -> None:
    api.post("/v1/topics", {"name": "awaited", "partitions": 1})
    timer = threading.Timer(0.5, lambda: api.post("/v1/topics/awaited/messages", {"value": "here"}))
    timer.start()
    began = time.monotonic()
    answer = api.get("/v1/topics/awaited/partitions/0/messages?offset=0&wait_ms=10000")
    assert [one["value"] for one in answer["messages"]] == ["here"]
    assert 0.3 < time.monotonic() - began < 5
    timer.join()
    began = time.monotonic()
    answer = api.get("/v1/topics/awaited/partitions/0/messages?offset=1&wait_ms=300")
    assert (answer["messages"], answer["next_offset"]) == ([], 1)
    assert 0.2 < time.monotonic() - began < 3


def test_an_answer_has_an_end_however_much_there_is(broker: BrokerProcess, api: Api) -> None:
    api.post("/v1/topics", {"name": "large", "partitions": 1})
    producer = Producer({"bootstrap.servers": broker.kafka, "compression.type": "gzip"})
    for _ in range(20):
        producer.produce("large", b"x" * 300_000, partition=0)
    assert producer.flush(20) == 0
    seen, offset, answers = 0, 0, 0
    while offset < 20:
        reply = api.ask("GET", f"/v1/topics/large/partitions/0/messages?offset={offset}")
        assert len(reply.body) < 2 << 20
        assert reply.json["messages"][0]["offset"] == offset
        seen, offset, answers = seen + len(reply.json["messages"]), reply.json["next_offset"], answers + 1
    assert (seen, answers > 5) == (20, True)


def test_the_time_of_the_broker_is_told(api: Api) -> None:
    configs = {"message.timestamp.type": "LogAppendTime"}
    api.post("/v1/topics", {"name": "stamped", "partitions": 1, "configs": configs})
    placed = api.post("/v1/topics/stamped/messages", {"value": "x", "timestamp_ms": 5})
    assert placed["timestamp_ms"] > 1_700_000_000_000
    (found,) = api.get("/v1/topics/stamped/partitions/0/messages")["messages"]
    assert found["timestamp_ms"] == placed["timestamp_ms"]


def test_what_cannot_be_stored(api: Api) -> None:
    send = "/v1/topics/letters/messages"
    assert api.problem("POST", "/v1/topics/nowhere/messages", {}) == (404, "unknown-topic")
    assert api.problem("POST", send, {"partition": 3}) == (404, "unknown-partition")
    assert api.problem("POST", send, {"value": "x" * 2_000_000}) == (413, "message-too-large")
    future = {"timestamp_ms": 1 << 50}
    assert api.problem("POST", send, future) == (400, "invalid-timestamp")
    reply = api.ask("POST", send, {"key": 1, "value": "?", "value_encoding": "base64"})
    assert [(one["path"], one["expected"]) for one in reply.json["errors"]] == [
        ("/key", "text, or the encoding json instead of text"),
        ("/value", "base64"),
    ]
    api.post("/v1/topics", {"name": "compacted", "configs": {"cleanup.policy": "compact"}})
    assert api.problem("POST", "/v1/topics/compacted/messages", {"value": "x"}) == (400, "invalid-record")


def test_json_that_cannot_be_written_again_is_refused(api: Api) -> None:
    """There is none between what is too deep to be read and what can be stored; and no infinite number."""
    api.post("/v1/topics", {"name": "odd", "partitions": 1})
    values = ["1e999", *("[" * depth + "]" * depth for depth in range(940, 970))]
    statuses = set()
    for value in values:
        body = f'{{"value": {value}, "value_encoding": "json"}}'
        statuses.add(api.ask("POST", "/v1/topics/odd/messages", body.encode()).status)
    assert statuses <= {201, 400}
    assert api.problem("POST", "/v1/topics/odd/messages", body.encode()) == (400, "invalid-request")
    found: list[ValueFault] = []
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert decoded(value, "json", "/value", found) is None
    assert decoded(float("inf"), "json", "/value", found) is None
    assert [fault.path for fault in found] == ["/value", "/value"]


def test_a_partition_is_cut_off_at_its_start(api: Api) -> None:
    api.post("/v1/topics", {"name": "cut", "partitions": 1})
    for _ in range(4):
        api.post("/v1/topics/cut/messages", {"value": "x"})
    cut = "/v1/topics/cut/partitions/0/truncate"
    assert api.post(cut, {"before_offset": 2}) == {"start_offset": 2}
    assert api.problem("GET", "/v1/topics/cut/partitions/0/messages?offset=1") == (400, "offset-out-of-range")
    assert api.get("/v1/topics/cut")["messages"] == 2
    assert api.problem("POST", cut, {"before_offset": 5}) == (400, "offset-out-of-range")
    assert api.post(cut, {"before_offset": None}) == {"start_offset": 4}
    assert api.problem("POST", "/v1/topics/compacted/partitions/0/truncate", {"before_offset": None}) == (
        409,
        "policy-violation",
    )


def test_a_large_body_keeps_nobody_waiting(broker: BrokerProcess, api: Api) -> None:
    body = b'{"value_encoding":"json","value":[' + b"{}," * 1_000_000 + b"0]}"
    longest: list[float] = []
    for _ in range(3):
        asked = threading.Thread(target=api.ask, args=("POST", "/v1/topics/letters/messages", body))
        asked.start()
        waits = [0.0]
        while asked.is_alive():
            began = time.monotonic()
            assert Api(broker.http_ports[0]).ask("GET", "/livez").status == 200
            waits.append(time.monotonic() - began)
        longest.append(max(waits))
    assert min(longest) < 0.2  # to read it takes half a second, and longer on a busy machine
