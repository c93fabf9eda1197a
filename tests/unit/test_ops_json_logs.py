"""JSON logs have the fields that the Elastic Common Schema names, and nothing that breaks a line."""

from __future__ import annotations

import io
import json
import os
import re
from typing import Any

import pytest
from twisted.logger import FileLogObserver, FilteringLogObserver, Logger

from megabroker import __version__
from megabroker.model import ANONYMOUS, Principal
from megabroker.ops.json_logs import BEGIN, make_json_format
from megabroker.ops.logs import LINE, LogThreshold, make_worker_observer
from megabroker.ops.request_log import RequestLog


def logged(
    say: Any, node_id: int | None = None, namespace: str = "megabroker.storage.log"
) -> list[dict[str, Any]]:
    """Return what is written of what is said, parsed."""
    out = io.StringIO()
    observer = FilteringLogObserver(
        FileLogObserver(out, make_json_format(node_id)), [LogThreshold("debug").predicate]
    )
    say(Logger(namespace, observer=observer))
    lines = out.getvalue().splitlines()
    assert all(line.startswith(BEGIN) for line in lines)
    return [json.loads(line) for line in lines]


def test_an_event_with_a_stable_name() -> None:
    (line,) = logged(
        lambda log: log.warn(
            "write-failed at {offset}", offset=5, partition="orders-0", error="No space\nleft"
        )
    )
    assert list(line)[:3] == ["@timestamp", "log.level", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("@timestamp"))
    assert line.pop("ecs.version")
    assert line == {
        "log.level": "warn",
        "message": "write-failed at 5",
        "event.action": "write-failed",
        "log.logger": "storage.log",
        "service.name": "megabroker",
        "service.version": __version__,
        "process.pid": os.getpid(),
        "megabroker.offset": 5,
        "megabroker.partition": "orders-0",
        "error.message": "No space\nleft",
    }


def test_who_it_was_and_from_where() -> None:
    def say(log: Logger) -> None:
        log.warn(
            "{protocol} connection from {peer} closed: {why}",
            protocol="kafka",
            peer="::1:4711",
            why="it broke",
        )
        log.info("{principal} from {host}", principal=Principal("User", "alice"), host="10.0.0.1")
        log.info("{principal} from {host}", principal=str(Principal("User", "bob")), host="local")
        log.info("{principal}", principal=ANONYMOUS)
        for peer in ("host:²", "host:٣", "host:" + "9" * 5000):
            log.info("{peer}", peer=peer)

    one, two, three, four, *odd = logged(say, node_id=7)
    assert all("source.port" not in fields for fields in odd)
    assert (one["source.ip"], one["source.port"], one["source.address"]) == ("::1", 4711, "::1")
    assert (one["event.action"], one["event.reason"]) == ("connection-from-closed", "it broke")
    assert (one["megabroker.protocol"], one["service.node.name"]) == ("kafka", "7")
    assert (two["user.name"], two["source.ip"]) == ("alice", "10.0.0.1")
    assert (three["user.name"], three["source.address"]) == ("bob", "local")
    assert "source.ip" not in three
    assert four["user.name"] == "ANONYMOUS"


def test_a_failure_has_its_type_and_trace() -> None:
    def say(log: Logger) -> None:
        try:
            raise ValueError("boom")
        except ValueError:
            log.failure("went wrong", where="here")

    (line,) = logged(say)
    assert (line["error.type"], line["error.message"], line["log.level"]) == (
        "ValueError",
        "boom",
        "critical",
    )
    assert line["error.stack_trace"].rstrip().endswith("builtins.ValueError: boom")


def test_values_of_any_kind_and_length() -> None:
    (line,) = logged(
        lambda log: log.info("odd-values", text="x" * 5000, raw=b"\xff", many=[1, 2], none=None, yes=True)
    )
    assert len(line["megabroker.text"]) == 1003
    assert line["megabroker.raw"] == repr(b"\xff")
    assert (line["megabroker.many"], line["megabroker.none"], line["megabroker.yes"]) == (
        "[1, 2]",
        None,
        True,
    )


def test_a_worker_says_which_it_is_and_its_lines_pass_as_they_are() -> None:
    out = io.StringIO()
    log = Logger("megabroker.x", observer=make_worker_observer(out, 3, LogThreshold(), "json"))
    log.info("hello")
    line = out.getvalue().rstrip("\n")
    assert json.loads(line)["service.node.name"] == "3"
    from megabroker.supervisor import _LINE

    assert _LINE.match(line)
    format_again = make_json_format()
    assert format_again({LINE: line}) == f"{line}\n"


class _Connection:
    client_id = "app"
    principal = ANONYMOUS
    peer = "127.0.0.1:5"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    from megabroker.ops import request_log

    class Log:
        def info(self, text: str, **fields: Any) -> None:
            found.append((text.partition(":")[0], fields))

        warn = info

    monkeypatch.setattr(request_log, "_log", Log())
    return found


def note(log: RequestLog, seconds: float, api: str = "Produce", waited_ms: float = 0.0) -> None:
    log.note(
        "kafka",
        api,
        _Connection(),
        seconds,
        version=9,
        request_bytes=1,
        answer_bytes=2,
        queued_ms=0.0,
        worked_ms=0.0,
        waited_ms=waited_ms,
    )


def test_one_request_in_so_many(lines: list[tuple[str, dict[str, Any]]]) -> None:
    log = RequestLog(lambda: 1.0)
    assert not log.is_wanted
    log.configure(10, None)
    assert log.is_wanted
    for _ in range(35):
        note(log, 0.001)
    assert [name for name, _ in lines] == ["request-answered"] * 3
    assert lines[0][1]["client_id"] == "app"


def test_slow_requests_of_which_waiting_for_data_is_no_part(lines: list[tuple[str, dict[str, Any]]]) -> None:
    log = RequestLog(lambda: 1.0)
    log.configure(0, 100)
    note(log, 0.099)
    note(log, 30.0, "Fetch", waited_ms=29_999.0)
    note(log, 0.2, waited_ms=190.0)
    note(log, 0.2, "Fetch", waited_ms=50.0)
    assert [(name, fields["api"]) for name, fields in lines] == [
        ("slow-request", "Produce"),
        ("slow-request", "Fetch"),
    ]


def test_so_many_lines_a_second(lines: list[tuple[str, dict[str, Any]]]) -> None:
    now = [1.0]
    log = RequestLog(lambda: now[0])
    log.configure(1, None)
    for _ in range(200):
        note(log, 0.001)
    assert (len(lines), log.kept_back) == (50, 150)
    now[0] = 2.5
    note(log, 0.001)
    assert [name for name, _ in lines[50:]] == ["requests-kept-back", "request-answered"]
    assert lines[50][1]["count"] == 150
