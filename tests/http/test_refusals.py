"""What is refused before anything is done: told completely, and by its name."""

from __future__ import annotations

import select
import socket

import pytest

from tests.brokers import BrokerProcess
from tests.http.asking import Api, raw


def test_every_fault_of_a_request_is_told_at_once(api: Api) -> None:
    reply = api.ask("POST", "/v1/topics", {"nam": "t", "partitions": "3", "configs": {"a/b": 1}})
    assert reply.status == 400
    assert [(one["in"], one["path"], one["found"], one["expected"]) for one in reply.json["errors"]] == [
        ("body", "/name", "nothing", "a value: name of the topic: letters, digits, dot, underscore, hyphen"),
        ("body", "/partitions", "'3'", "a whole number from 1 to 1000000"),
        ("body", "/configs/a~1b", "1", "text of 0 to 32767 characters"),
        ("body", "/nam", "'t'", "a known name; did you mean name?"),
    ]
    reply = api.ask("GET", "/v1/topics?limit=many&pag=1&prefix=a&prefix=b")
    assert [(one["path"], one["expected"]) for one in reply.json["errors"]] == [
        ("limit", "a whole number from 1 to 1000"),
        ("pag", "a known name: prefix, limit, page_token"),
        ("prefix", "it once only"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"name": "a", "name": "b"}',
        b'{"name": NaN}',
        b"\xff",
        b"[" * 100_000,
        b'{"partitions": ' + b"9" * 5000 + b"}",
        b'{"name": "\\ud800"}',
    ],
)
def test_what_is_no_json_object(api: Api, body: bytes) -> None:
    assert api.problem("POST", "/v1/topics", body) == (400, "invalid-request")


def test_addresses_and_methods(api: Api) -> None:
    for path in (
        "/nope",
        "/v1",
        "/v1/nope",
        "/v1/topics/",
        "/v1/topics/a/b/c",
        "/v1//",
        "/v1//topics",
        "/livez/x",
    ):
        if path != "/v1/topics/":
            assert api.problem("GET", path) == (404, "invalid-request"), path
    assert api.problem("GET", "/v1/topics/%FF") == (400, "invalid-request")
    reply = api.ask("PUT", "/v1/topics", {})
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert api.ask("OPTIONS", "/v1/topics").headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    head = api.ask("HEAD", "/v1/topics")
    assert (head.status, head.body, int(head.headers["Content-Length"]) > 0) == (200, b"", True)
    assert head.headers["Referrer-Policy"] == "no-referrer"


def test_a_form_of_another_page_changes_nothing(api: Api) -> None:
    wanted = {"name": "forged", "validate_only": True}
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        refused = api.problem("POST", "/v1/topics", wanted, **{"Content-Type": kind})
        assert refused == (415, "invalid-request"), kind
    host = f"127.0.0.1:{api.port}"
    for headers, is_good in (
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[no address"}, False),
        ({"Origin": f"http://localhost:{api.port}"}, False),
        ({"Origin": f"http://{host}"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
    ):
        reply = api.ask("POST", "/v1/topics", wanted, headers)
        assert reply.status == (204 if is_good else 403), headers
    assert api.ask("GET", "/v1/topics", headers={"Origin": "https://evil.example"}).status == 200


def test_a_name_that_was_made_to_point_here(api: Api) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]"):
        assert api.problem("GET", "/livez", Host=host) == (421, "invalid-request"), host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8090"):
        assert api.ask("GET", "/livez", headers={"Host": host}).status == 200, host


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: abcdefgh\r\n" * 3000 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: \r\n" * 200 + b"\r\n", 431),
        (b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n", 413),
        (b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST /v1/topics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            400,
        ),
        (
            b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            400,
        ),
        (
            b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"100000\r\n" + b"a" * 0x100000 + b"\r\n") * 5,
            413,
        ),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nBroken\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
    ],
    ids=range(16),
)
def test_what_is_not_http_or_too_large(broker: BrokerProcess, sent: bytes, status: int) -> None:
    answer = raw(broker.http_ports[0], sent)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert answer.count(b"HTTP/1.1 4") == 1
    assert b'"code":' in answer.replace(b'": ', b'":')


def test_a_request_that_trickles_in_is_not_waited_for(broker: BrokerProcess) -> None:
    import socket
    import time

    with socket.create_connection(("127.0.0.1", broker.http_ports[0]), 10) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        connection.settimeout(0.2)
        answer = b""
        while time.monotonic() - began < 8:
            try:
                connection.sendall(b"X: y\r\n")
                answer += connection.recv(1000)
                break
            except TimeoutError:
                continue
        assert 1.5 < time.monotonic() - began < 4
        assert answer.startswith(b"HTTP/1.1 408 "), answer


def test_a_request_may_come_in_any_pieces(broker: BrokerProcess) -> None:
    body = b'{"name": "in-pieces", "validate_only": true}'
    head = (
        b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"1\r\n" + body[at : at + 1] + b"\r\n" for at in range(len(body))) + b"0\r\n\r\n"
    whole = head + chunks
    for length in (1, 2, 7, 100):
        pieces = [whole[at : at + length] for at in range(0, len(whole), length)]
        assert raw(broker.http_ports[0], *pieces).startswith(b"HTTP/1.1 204 "), length
    assert raw(broker.http_ports[0], b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")


def test_requests_that_do_not_wait_for_answers(broker: BrokerProcess) -> None:
    one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answers = raw(broker.http_ports[0], one * 500, last)
    assert answers.count(b"HTTP/1.1 200 ") == 501


def test_bodies_of_many_requests_are_bounded_together() -> None:
    """Nobody has to say who it is before its body is read: all of them together must not fill the memory."""
    config = {"limits": {"in_flight_bytes": "1MiB", "max_request_bytes": "1MiB"}}
    head = b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with BrokerProcess(config) as broker:
        address = ("127.0.0.1", broker.http_ports[0])
        for _ in range(3):  # what was held is given back
            both = [socket.create_connection(address, 10) for _ in range(2)]
            for one in both:
                one.sendall(head + b"x" * 900_000)
            [refused], _, _ = select.select(both, [], [], 10)  # whichever came second
            assert refused.recv(1000).startswith(b"HTTP/1.1 503 ")
            both.remove(refused)
            both[0].sendall(b"x" * 100_000)
            assert both[0].recv(1000).startswith(b"HTTP/1.1 415 ")
            for one in (refused, both[0]):
                one.close()
