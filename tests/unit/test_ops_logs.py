"""A log line holds everything that was said, in one line."""

from __future__ import annotations

import io
import json
import pathlib

from twisted.logger import FileLogObserver, FilteringLogObserver, Logger, LogPublisher

from megabroker.ops.logs import LINE, LogThreshold, format_line, make_observer, make_worker_observer


def test_fields_that_the_text_leaves_out_are_written_behind_it() -> None:
    out = io.StringIO()
    threshold = LogThreshold("info")
    log = Logger(
        "megabroker.storage.log",
        observer=FilteringLogObserver(FileLogObserver(out, format_line), [threshold.predicate]),
    )
    log.warn("write-failed at {offset}", offset=5, partition="orders-0", error="No space")
    log.debug("not written")
    threshold.set("debug")
    log.debug("written\nwith a break")
    try:
        raise ValueError("boom")
    except ValueError:
        log.failure("went wrong", where="here")
    lines = out.getvalue().splitlines()
    assert lines[0].endswith(" warn storage.log write-failed at 5 partition='orders-0' error='No space'")
    assert lines[1].endswith(" debug storage.log written")
    assert lines[2] == "    with a break"
    assert lines[3].endswith(" critical storage.log went wrong where=here")
    assert lines[-1] == "    builtins.ValueError: boom"


def test_what_twisted_says_of_itself_is_written_with_everything_only(tmp_path: pathlib.Path) -> None:
    threshold = LogThreshold("info")
    path = tmp_path / "broker.log"
    publisher = LogPublisher(make_observer(str(path), True, threshold))
    twisted, legacy, plugin = (
        Logger(name, observer=publisher)
        for name in ("twisted.internet.base", "log_legacy", "census.CensusFactory")
    )

    def say() -> list[str]:
        before = path.read_text() if path.exists() else ""
        twisted.info("Main loop terminated.")
        twisted.warn("a warning")
        legacy.info("KafkaFactory (TLS) starting on 9092")
        legacy.info("EchoFactory starting on '/run/echo.sock'")
        legacy.info("(TCP Port 9092 Closed)")
        legacy.info("census: counting is starting on its own")
        plugin.info("counted")
        said = path.read_text().removeprefix(before).splitlines()
        return [line.partition(" ")[2] for line in said]

    of_others = [
        "warn twisted.internet.base a warning",
        "info log_legacy census: counting is starting on its own",
        "info census.CensusFactory counted",
    ]
    assert say() == of_others
    threshold.set("debug")
    assert len(say()) == 7
    threshold.set("error")
    assert say() == []


def test_lines_of_a_worker_say_its_node_and_come_through_as_they_are() -> None:
    inner, outer = io.StringIO(), io.StringIO()
    worker = Logger("megabroker.core", observer=make_worker_observer(inner, 7, LogThreshold("debug")))
    worker.debug("something", topic="orders")
    [line] = inner.getvalue().splitlines()
    assert line.endswith(" debug core something node=7 topic=orders")
    # Written by the process that started it, whatever that one's own threshold is.
    observer = FilteringLogObserver(FileLogObserver(outer, format_line), [LogThreshold("error")])
    Logger("megabroker.supervisor", observer=observer).info("{log_line}", **{LINE: line})
    assert outer.getvalue() == f"{line}\n"


def test_what_clients_say_moves_no_cursor_and_never_keeps_a_line_from_being_written(
    tmp_path: pathlib.Path,
) -> None:
    hostile = "a\x1b[2K\rb\u202ec\x85d\ud800e"
    for form, begins in (("human", "20"), ("json", "{")):
        path = tmp_path / form
        log = Logger("megabroker", observer=make_observer(str(path), True, LogThreshold("info"), form))
        log.warn("denied: {name}", name=hostile, also=hostile)
        try:
            raise ValueError(hostile)
        except ValueError:
            log.failure("went wrong")
        text = path.read_text(encoding="utf-8")
        assert text.count(r"a\u001b[2K") >= 2
        assert r"\u202ec\u0085d\ud800e" in text
        assert not any(one in text for one in "\x1b\r\u202e\x85")
        assert text.startswith(begins)
        if form == "json":
            assert [json.loads(line)["log.level"] for line in text.splitlines()] == ["warn", "critical"]
