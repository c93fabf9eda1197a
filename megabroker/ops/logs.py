"""The log for people: one line an event, its named fields behind it.

    2026-11-21T12:00:00.123+0000 warn storage.log write-failed partition=orders-0 error='No space left'

Owns the form of a line, what of it may reach a terminal, and the threshold. Events are logged with a short
stable text and named fields; fields that the text does not mention are written behind it, so that nothing
said is lost. A message is never logged at all.
"""

from __future__ import annotations

import re
import string
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import IO, Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    formatEvent,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

from megabroker.interfaces import ILoggers

__all__ = ["LINE", "LogThreshold", "format_line", "make_observer", "make_worker_observer", "printable"]

LINE = "log_line"
"""Key of an event that is a line another process has made of one of its events."""

_PREFIX = "megabroker."
_LONGEST_FIELD_CHARS = 1000
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Blanks and ends of lines apart: what moves a terminal's cursor, turns text round, or is in no encoding."""

_TWISTED_PORT = re.compile(r".+ starting on \S+|\(.+ Port .+ Closed\)")


@implementer(ILoggers, ILogFilterPredicate)
class LogThreshold:
    """The least important level that is written, for all or for parts; may be changed while running."""

    def __init__(self, level: str = "info") -> None:
        self.predicate = LogLevelFilterPredicate()
        self._levels: dict[str, str] = {}
        self.set(level)

    def levels(self) -> Mapping[str, str]:
        """See ``ILoggers.levels``; each module that logs is a logger, and so is each package around one."""
        names = {""}
        for module, found in list(sys.modules.items()):
            if module.startswith(_PREFIX) and isinstance(getattr(found, "_log", None), Logger):
                parts = module.split(".")
                names.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
        return {name: self.predicate.logLevelForNamespace(name).name for name in sorted(names)}

    def set(self, level: str | None, name: str = "") -> None:
        """See ``ILoggers.set``; only parts can go back to what holds for all."""
        if level is not None:
            self._levels[name] = level
        elif name:
            self._levels.pop(name, None)
        self.predicate.clearLogLevels()
        for namespace, its_level in self._levels.items():
            self.predicate.setLogLevelForNamespace(namespace, LogLevel.levelWithName(its_level))

    def __call__(self, event: LogEvent) -> Any:
        """ILogFilterPredicate: say whether an event is written.

        A line that another process has written is. What Twisted says of its own start, ports and end is
        written with everything else only: the broker says each of these in its own words. Warnings and
        failures of Twisted's are none of them.
        """
        if LINE in event:
            return PredicateResult.yes
        if self.predicate.logLevelForNamespace("") is not LogLevel.debug and _of_twisted(event):
            return PredicateResult.no
        return self.predicate(event)


def _of_twisted(event: LogEvent) -> bool:
    if event.get("log_level", LogLevel.info) > LogLevel.info:
        return False
    namespace = event.get("log_namespace") or ""
    return namespace.startswith("twisted.") or (
        namespace == "log_legacy" and _TWISTED_PORT.fullmatch(formatEvent(event)) is not None
    )


def printable(text: str) -> str:
    """Return text with what cannot or must not be shown as ``\\u001b``; some of it is what clients said."""
    if _UNPRINTABLE.search(text) is None:
        return text
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def format_line(event: LogEvent) -> str | None:
    """Return the line for an event, or None when it says nothing."""
    if LINE in event:
        return f"{event[LINE]}\n"
    text = formatEvent(event)
    failure = event.get("log_failure")
    if not text and failure is None:
        return None
    time = datetime.fromtimestamp(event["log_time"]).astimezone()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}" + time.strftime("%z")
    level = getattr(event.get("log_level"), "name", "info")
    source = str(event.get("log_namespace") or "-").removeprefix(_PREFIX)
    fields = "".join(f" {name}={_field(value)}" for name, value in _unsaid(event).items())
    line = f"{stamp} {level} {source} {text or 'failure'}{fields}".replace("\n", "\n    ")
    if failure is not None:
        try:
            line += "\n    " + failure.getTraceback().rstrip().replace("\n", "\n    ")
        except Exception:  # noqa: BLE001 - whatever is wrong with a failure, the line must come out
            line += "\n    (its traceback cannot be shown)"
    return printable(line) + "\n"


def _unsaid(event: LogEvent) -> Mapping[str, Any]:
    """Return the named fields that the event's own text leaves out."""
    try:
        said = {
            (name or "").split(".")[0].split("[")[0].removesuffix("()")
            for _, name, _, _ in string.Formatter().parse(event.get("log_format") or "")
        }
    except ValueError:
        said = set()
    if event.get("log_namespace") == "log_legacy":
        return {}
    return {name: value for name, value in event.items() if not name.startswith("log_") and name not in said}


def _field(value: object) -> str:
    text = value if isinstance(value, str) and value.isidentifier() else repr(value)
    return text if len(text) <= _LONGEST_FIELD_CHARS else text[:_LONGEST_FIELD_CHARS] + "..."


def make_worker_observer(
    stream: IO[str], node_id: int, threshold: LogThreshold, form: str = "human"
) -> ILogObserver:
    """Return the observer of one of several processes, whose lines say which node it is."""

    def format_with_node(event: LogEvent) -> str | None:
        return format_line({"node": node_id, **event})

    formatted = format_with_node if form == "human" else _json_format(node_id)
    return FilteringLogObserver(FileLogObserver(stream, formatted), [threshold])


def make_observer(
    logfile: str | None, daemon: bool, threshold: LogThreshold, form: str = "human"
) -> ILogObserver:
    """Return the observer that writes the log to where twistd was told to.

    Args:
        logfile: twistd's ``--logfile``; ``-`` or, in the foreground, None is standard output.
        daemon: whether twistd goes to the background.
        form: ``human`` or ``json``.
    """
    stream: IO[str]
    if logfile == "-" or (not logfile and not daemon):
        if daemon:
            raise SystemExit("a daemon cannot log to standard output: expected --logfile FILE")
        stream = sys.stdout
    else:
        stream = LogFile.fromFullPath(logfile or "twistd.log")  # type: ignore[no-untyped-call]
    formatted = format_line if form == "human" else _json_format(None)
    return FilteringLogObserver(FileLogObserver(stream, formatted), [threshold])


def _json_format(node_id: int | None) -> Callable[[LogEvent], str | None]:
    from megabroker.ops.json_logs import make_json_format

    return make_json_format(node_id)
