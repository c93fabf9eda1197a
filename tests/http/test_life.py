"""HTTP's listener: its start and end, its bounds, other settings while it runs, and several processes."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import yaml

from tests.brokers import BrokerProcess
from tests.http.asking import Api, Reply
from tests.workers import WorkersProcess


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_port_that_is_taken_ends_the_start_with_one_line(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        for workers in (1, 2):
            file = tmp_path / "broker.yaml"
            config = {"data_dir": str(tmp_path / "data"), "workers": workers, "http": {"endpoint": endpoint}}
            file.write_text(yaml.safe_dump(config))
            done = subprocess.run(
                BrokerProcess.command(file), capture_output=True, text=True, timeout=30, cwd=tmp_path
            )
            assert done.returncode == 1
            (line,) = [one for one in (done.stdout + done.stderr).splitlines() if "cannot start" in one]
            assert line.startswith(f"megabroker cannot start: http: endpoint {endpoint}: ")
            assert os.strerror(errno.EADDRINUSE) in line
            assert "Traceback" not in done.stdout + done.stderr


def test_what_is_wrong_with_its_section_is_told(tmp_path: pathlib.Path) -> None:
    for section, expected in (
        ({"endpoint": "tcp:9092"}, "a port that protocols.kafka.listeners[0].endpoint does not take"),
        ({"endpoint": "ssl:1"}, "expected"),
        ({"max_conections": 3}, "max_connections"),
        ({"allowed_hosts": ["a:1"]}, "a host name or address, no port"),
        ({"allowed_origins": ["evil"]}, "an origin such as https://"),
    ):
        file = tmp_path / "broker.yaml"
        file.write_text(yaml.safe_dump({"http": section, "protocols": {"kafka": {}}}))
        done = subprocess.run(
            [*BrokerProcess.command(file)[:-2], "--check", "-c", str(file)],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=tmp_path,
        )
        assert done.returncode != 0
        assert expected in done.stdout + done.stderr, section


def test_it_can_be_left_out() -> None:
    with BrokerProcess({"http": {"enabled": False}}) as broker:
        assert broker.http_ports == []
        assert broker.stop() == 0


def test_bounds_and_their_change_while_it_runs() -> None:
    http = {"max_connections": 3, "request_seconds": 1, "idle_seconds": 1, "max_body_bytes": "1KiB"}
    with BrokerProcess({"durability": "os", "http": http}) as broker:
        port = broker.http_ports[0]
        api = Api(port)
        assert api.problem("POST", "/v1/topics", b'{"name": "' + b"x" * 2000 + b'"}') == (
            413,
            "message-too-large",
        )
        # Connections that say nothing are closed, and until then keep others out.
        silent = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(3)]
        refused = socket.create_connection(("127.0.0.1", port), 10)
        assert refused.recv(10) == b""
        until(lambda: "at most 3 connections are taken" in broker.log)
        began = time.monotonic()
        assert [one.recv(10) for one in silent] == [b""] * 3
        assert time.monotonic() - began < 5
        # So is one that does not read its answers.
        api.post("/v1/topics", {"name": "large", "partitions": 1})
        config = {**broker.config, "http": {**broker.config["http"], "max_body_bytes": "4MiB"}}
        (broker.directory / "broker.yaml").write_text(yaml.safe_dump(config))
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        until(lambda: "configuration reloaded: http.max_body_bytes" in broker.log)
        api.post("/v1/topics/large/messages", {"value": "x" * 800_000})
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        ask = b"GET /v1/topics/large/partitions/0/messages HTTP/1.1\r\nHost: localhost\r\n\r\n"
        deaf.sendall(ask * 20)
        until(lambda: "the peer takes no answer" in broker.log)
        assert api.ask("GET", "/livez").status == 200
        assert broker.stop() == 0
        assert "Traceback" not in broker.log


def test_who_waits_is_told_that_the_broker_stops() -> None:
    with BrokerProcess({"durability": "os"}) as broker:
        api = Api(broker.http_ports[0])
        api.post("/v1/topics", {"name": "t", "partitions": 1})
        replies: list[Reply] = []
        path = "/v1/topics/t/partitions/0/messages?wait_ms=30000"
        waiting = threading.Thread(target=lambda: replies.append(api.ask("GET", path)))
        waiting.start()
        idle = socket.create_connection(("127.0.0.1", broker.http_ports[0]), 10)
        time.sleep(0.3)
        began = time.monotonic()
        assert broker.stop() == 0
        assert time.monotonic() - began < 5
        waiting.join(5)
        assert [(reply.status, reply.json["code"]) for reply in replies] == [(503, "shutting-down")]
        assert idle.recv(10) == b""
        assert "Traceback" not in broker.log, broker.log[-3000:]


def test_the_end_does_not_wait_for_an_answer_that_nobody_takes() -> None:
    with BrokerProcess(
        {"durability": "os", "http": {"max_answer_bytes": "32MiB", "request_seconds": 1}}
    ) as broker:
        api = Api(broker.http_ports[0])
        api.post("/v1/topics", {"name": "t", "partitions": 1})
        for _ in range(24):
            api.post("/v1/topics/t/messages", {"value": "x" * 800_000})
        for last in (b"Connection: close\r\n", b""):
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", broker.http_ports[0]))
            ask = b"GET /v1/topics/t/partitions/0/messages HTTP/1.1\r\nHost: localhost\r\n"
            deaf.sendall(ask + last + b"\r\n")
        time.sleep(0.5)
        began = time.monotonic()
        assert broker.stop() == 0
        assert time.monotonic() - began < 6
        assert "megabroker has stopped" in broker.log
        assert "Traceback" not in broker.log, broker.log[-3000:]


def test_who_leaves_leaves_nothing_half_done() -> None:
    with BrokerProcess({"durability": "os"}) as broker:
        port = broker.http_ports[0]
        api = Api(port)
        for number in range(20):
            body = b'{"name": "left-%d", "partitions": 4}' % number
            head = b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                time.sleep(0.0005 * number)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        made = [one["name"] for one in until(lambda: api.get("/v1/topics")["topics"])]
        for name in made:
            rows = api.get(f"/v1/topics/{name}/partitions")["partitions"]
            assert [row["error"] for row in rows] == [None] * 4
            assert api.post(f"/v1/topics/{name}/messages", {"value": "x"})["topic"] == name
        # Who leaves while it waits for a message is waited for no longer.
        waiting = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(50)]
        for one in waiting:
            path = f"/v1/topics/{made[0]}/partitions/0/messages?offset=0&from=latest&wait_ms=30000&key=none"
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            one.close()
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-3000:]
        assert " error " not in broker.log, broker.log[-3000:]
        broker.start()
        assert {one["name"] for one in Api(broker.http_ports[0]).get("/v1/topics")["topics"]} >= set(made)


def test_other_names_and_pages_where_they_are_allowed() -> None:
    http = {"allowed_hosts": ["broker.example"], "allowed_origins": ["https://tools.example"]}
    with BrokerProcess({"http": http}) as broker:
        api = Api(broker.http_ports[0])
        assert api.ask("GET", "/livez", headers={"Host": "Broker.example:1"}).status == 200
        assert api.ask("GET", "/livez", headers={"Host": "other.example"}).status == 421
        origin = {"Origin": "https://tools.example"}
        preflight = api.ask("OPTIONS", "/v1/topics", headers=origin)
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://tools.example"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        made = api.ask("POST", "/v1/topics", {"name": "t"}, origin)
        assert (made.status, made.headers["Access-Control-Allow-Origin"]) == (201, "https://tools.example")
        other = api.ask("GET", "/v1/topics", headers={"Origin": "https://other.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


def test_several_processes() -> None:
    with WorkersProcess(2, {"durability": "os"}) as broker:
        first, second = (Api(port) for port in broker.http_ports)
        assert second.get("/readyz") == {"status": "ok"}
        for address in ("/v1/connections", "/v1/loggers"):
            told = first.get(address)
            assert (told["node"], told["nodes"]) == (1, 2)
        assert "the API is at node 1's port" in second.ask("GET", "/v1/topics").json["detail"]
        first.post("/v1/topics", {"name": "spread", "partitions": 4})
        for number in range(8):
            place = first.post(
                "/v1/topics/spread/messages",
                {"partition": number % 4, "value": str(number), "timestamp_ms": 1_700_000_000_000 + number},
            )
            assert (place["partition"], place["offset"]) == (number % 4, number // 4)
        rows = first.get("/v1/topics/spread/partitions")["partitions"]
        assert {row["leader"] for row in rows} == {1, 2}
        assert [(row["end_offset"], row["size_bytes"] > 0) for row in rows] == [(2, True)] * 4
        for index in range(4):
            base = f"/v1/topics/spread/partitions/{index}"
            found = first.get(f"{base}/messages")["messages"]
            assert [one["value"] for one in found] == [str(index), str(index + 4)]
            later = first.get(f"{base}/messages?timestamp_ms={1_700_000_000_000 + index + 1}")["messages"]
            assert [one["value"] for one in later] == [str(index + 4)]
            wanted = {"to": "timestamp", "timestamp_ms": 1_700_000_000_004, "topics": [{"topic": "spread"}]}
            moved = first.post("/v1/groups/g/offsets/reset", wanted)["offsets"]
            assert [one["offset"] for one in moved] == [1] * 4
            assert first.post(f"{base}/truncate", {"before_offset": 1}) == {"start_offset": 1}
        assert first.get("/v1/topics/spread")["messages"] == 4
        assert {one["lag"] for one in first.get("/v1/groups/g/offsets")["offsets"]} == {1}
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-3000:]
