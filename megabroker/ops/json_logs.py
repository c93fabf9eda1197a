"""The log for machines: one line of JSON an event, its fields named as the Elastic Common Schema names them.

    {"@timestamp":"2026-11-21T12:00:00.123Z","log.level":"warn","message":"write-failed","ecs.version":"8.17.0",
     "event.action":"write-failed","log.logger":"storage.log","service.name":"megabroker",...}

Owns what is called what. The first fields come in the order in which ECS's loggers write them. What the
schema has no name for is below ``megabroker.``. ``event.action`` is the same for all events of one kind,
whatever they tell: the event's stable name, or the words of its text without what varies.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

from twisted.logger import LogEvent, formatEvent

from megabroker import __version__
from megabroker.ops.logs import printable

__all__ = ["BEGIN", "make_json_format"]

BEGIN: Final = '{"@timestamp":"'
"""What every line begins with."""

_ECS_VERSION: Final = "8.17.0"
_LONGEST_CHARS: Final = 1000
_LONGEST_TRACE_CHARS: Final = 20_000
_LONGEST_ACTION_CHARS: Final = 60
_NAMED: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+(?=$|[: ])")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_PREFIX: Final = "megabroker."
_RENAMED: Final[Mapping[str, str]] = {
    "error": "error.message",
    "reason": "event.reason",
    "why": "event.reason",
}


def make_json_format(node_id: int | None = None) -> Callable[[LogEvent], str | None]:
    """Return what makes a line of an event, or None of one that says nothing.

    Args:
        node_id: of which node the process is, if it is one of several.
    """
    constant = {"service.name": "megabroker", "service.version": __version__}
    if node_id is not None:
        constant["service.node.name"] = str(node_id)

    def formatted(event: LogEvent) -> str | None:
        if "log_line" in event:
            return f"{event['log_line']}\n"
        text = formatEvent(event)
        failure = event.get("log_failure")
        if not text and failure is None:
            return None
        time = datetime.fromtimestamp(event["log_time"], UTC)
        fields: dict[str, Any] = {
            "@timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z",
            "log.level": getattr(event.get("log_level"), "name", "info"),
            "message": text or "failure",
            "ecs.version": _ECS_VERSION,
            "event.action": _action(event),
            "log.logger": str(event.get("log_namespace") or "-").removeprefix(_PREFIX),
            **constant,
            "process.pid": os.getpid(),
        }
        for name, value in event.items():
            if not name.startswith("log_") and event.get("log_namespace") != "log_legacy":
                fields.update(_named(name, value))
        if failure is not None:
            fields.update(_of_failure(failure))
        return printable(json.dumps(fields, separators=(",", ":"), ensure_ascii=False, default=str)) + "\n"

    return formatted


def _action(event: LogEvent) -> str:
    """Return the name of a kind of event."""
    text = event.get("log_format") or ""
    found = _NAMED.match(text)
    if found is not None:
        return found[0]
    try:
        said = "".join(literal for literal, _, _, _ in string.Formatter().parse(text))
    except ValueError:
        said = ""
    return "-".join(re.findall(r"[a-z0-9]+", said.lower()))[:_LONGEST_ACTION_CHARS].strip("-") or "event"


def _named(name: str, value: Any) -> dict[str, Any]:
    """Return a field by its name in the schema."""
    if name in ("peer", "host"):
        return _source(str(value))
    if name == "principal":
        return {
            "user.name": _plain(getattr(value, "name", None) or str(value).partition(":")[2] or str(value))
        }
    return {_RENAMED.get(name, f"{_PREFIX}{name}"): _plain(value)}


def _source(text: str) -> dict[str, Any]:
    """Return who is at the other end, of an address that has a port or has none."""
    host, _, port = text.rpartition(":")
    if not host or _PORT.fullmatch(port) is None:
        host, port = text, ""
    fields: dict[str, Any] = {"source.address": host}
    try:
        fields["source.ip"] = str(ip_address(host.strip("[]")))
    except ValueError:
        pass
    if port:
        fields["source.port"] = int(port)
    return fields


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_CHARS else text[:_LONGEST_CHARS] + "..."


def _of_failure(failure: Any) -> dict[str, Any]:
    fields = {"error.type": getattr(failure.type, "__qualname__", str(failure.type))}
    try:
        fields["error.message"] = failure.getErrorMessage()[:_LONGEST_CHARS]
        fields["error.stack_trace"] = failure.getTraceback()[:_LONGEST_TRACE_CHARS]
    except Exception:  # noqa: BLE001 - whatever is wrong with a failure, the line must come out
        fields["error.stack_trace"] = "(it cannot be shown)"
    return fields
