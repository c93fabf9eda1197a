"""A log line holds everything that was said, in one line."""

from __future__ import annotations

import io

from twisted.logger import FileLogObserver, FilteringLogObserver, Logger

from megabroker.ops.logs import LogThreshold, format_line


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
