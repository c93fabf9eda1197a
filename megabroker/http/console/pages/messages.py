"""Messages of a topic: looked at by offset, time and key, and produced."""

from __future__ import annotations

import json
from typing import Any, Final

from megabroker.codec.murmur import partition_of
from megabroker.errors import BrokerError, ErrorCode
from megabroker.http.api.messages import FoundRecords, read_records
from megabroker.http.api.topics import known_topic
from megabroker.http.console.page import Page
from megabroker.http.console.pages.topics import topic_page
from megabroker.http.console.rendering import HEADERS
from megabroker.http.console.text import PREVIEW_BYTES, READINGS, parse_moment, shown, visible
from megabroker.http.console.view import View
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer
from megabroker.model import Record, Topic

__all__ = ["LOOKED_AT_BYTES", "PAGES", "may_read", "show_record"]

_READ: Final = "GET /v1/topics/{topic}/partitions/{partition}/messages"
_WRITE: Final = "POST /v1/topics/{topic}/messages"
_MOST_AT_ONCE: Final = 16
"""Of how many partitions the last messages are shown together."""

_MESSAGES_A_PAGE: Final = 50
LOOKED_AT_BYTES: Final = 32 << 20
"""Of how many bytes of messages the beginnings are shown on one page."""

_SHOWN_HEADERS: Final = 50
_QUERY: Final = ("partition", "from", "offset", "time", "key", "as")


def may_read(view: View) -> Topic:
    """Return the topic of a page. Raises BrokerError: there is none, or its messages may not be read."""
    topic = known_topic(view.caller, view.call.path["topic"])
    view.console.api.permit(view.caller, _READ, topic=topic.name)
    return topic


def show_record(
    partition: int, record: Record, reading: str, most_bytes: int = PREVIEW_BYTES
) -> dict[str, Any]:
    """Return what is shown of a message; of JSON as it was sent where only a little is shown."""
    if reading == "auto" and most_bytes <= PREVIEW_BYTES:
        reading = "text"
    return {
        "partition": partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": shown(record.key, "hex" if reading == "hex" else "auto", most_bytes),
        "value": shown(record.value, reading, most_bytes),
        "headers": [
            (visible(one.key[:PREVIEW_BYTES]), shown(one.value, "auto", most_bytes))
            for one in record.headers[:_SHOWN_HEADERS]
        ],
        "more_headers": max(len(record.headers) - _SHOWN_HEADERS, 0),
    }


def _reading(view: View) -> str:
    return view.query("as") if view.query("as") in READINGS else "auto"


async def _read(
    view: View, topic: Topic, partition: int, limit: int, most_bytes: int = PREVIEW_BYTES, **place: Any
) -> FoundRecords:
    """Return messages of a partition; see the API's route."""
    reading = _reading(view)
    query = {"offset": None, "timestamp_ms": None, "from": "earliest", "wait_ms": 0, "key": None} | place
    return await read_records(
        view.caller,
        topic,
        partition,
        {**query, "limit": limit},
        lambda record, _: show_record(partition, record, reading, most_bytes),
        LOOKED_AT_BYTES,
    )


# --- looking ------------------------------------------------------------------------------------------------


async def show_messages(view: View) -> Answer:
    """Messages of a topic."""
    topic = may_read(view)
    found: dict[str, Any] = {
        "messages": [],
        "partition": None,
        "bounds": None,
        "older": None,
        "newer": None,
        "note": "",
    }
    try:
        found |= await _looked(view, topic)
    except (Problem, BrokerError) as error:
        view.refused(error)
    entered = {name: view.query(name) for name in _QUERY}
    return await topic_page(
        view, "messages.html", "messages", entered=entered, reading=_reading(view), readings=READINGS, **found
    )


async def _looked(view: View, topic: Topic) -> dict[str, Any]:
    """Return the messages that are asked for, and where to go on."""
    partition = view.number("partition", "the partition", view.query("partition"))
    offset = view.number("offset", "the offset", view.query("offset"))
    key = view.query("key") or None
    if partition is None and key is not None:
        partition = partition_of(key.encode(), topic.partitions)
    if partition is None and topic.partitions == 1:
        partition = 0
    if partition is None:
        if offset is not None:
            raise Problem(
                400, ErrorCode.INVALID_REQUEST, "an offset needs a partition: expected a partition too"
            )
        return await _of_all(view, topic)
    if not 0 <= partition < topic.partitions:
        raise Problem(
            400,
            ErrorCode.INVALID_REQUEST,
            f"there is no partition {partition}: expected 0 to {topic.partitions - 1}",
        )
    place: dict[str, Any] = {"key": key}
    if offset is not None:
        place["offset"] = offset
    elif view.query("time"):
        place["timestamp_ms"] = _time(view)
    elif view.query("from") != "earliest" and key is None:
        place["from"] = "latest"
    found = await _read(view, topic, partition, _MESSAGES_A_PAGE, **place)
    return {
        "messages": found.shown,
        "partition": partition,
        "bounds": (found.start_offset, found.end_offset),
        "newer": found.next_offset if found.next_offset < found.end_offset else None,
        "older": _older(found, key),
    }


def _older(found: FoundRecords, key: str | None) -> int | None:
    first = found.shown[0]["offset"] if found.shown else found.next_offset
    if key is not None or first <= found.start_offset:
        return None
    return max(first - _MESSAGES_A_PAGE, found.start_offset)


async def _of_all(view: View, topic: Topic) -> dict[str, Any]:
    """Return messages of several partitions in the order of their times."""
    count = min(topic.partitions, _MOST_AT_ONCE)
    limit = max(_MESSAGES_A_PAGE // count, 5)
    place: dict[str, Any] = {"from": "earliest" if view.query("from") == "earliest" else "latest"}
    if view.query("time"):
        place = {"timestamp_ms": _time(view)}
    rows: list[dict[str, Any]] = []
    for partition in range(count):
        rows += (await _read(view, topic, partition, limit, **place)).shown
    rows.sort(key=lambda row: (row["timestamp_ms"], row["partition"], row["offset"]))
    left_out = topic.partitions - count
    note = f"Of the first {count} partitions only; choose one to see the others." if left_out else ""
    return {"messages": rows, "note": note}


def _time(view: View) -> int:
    time_ms = parse_moment(view.query("time"))
    if time_ms is None:
        raise Problem(
            400,
            ErrorCode.INVALID_REQUEST,
            f"the time {view.query('time')[:50]!r} cannot be read: expected one such as 2026-01-31T12:00, in "
            "UTC, or milliseconds since 1970",
        )
    return time_ms


async def show_message(view: View) -> Answer:
    """One message, as much of it as a page takes."""
    topic = may_read(view)
    partition, offset = _place(view)
    found = await _read(view, topic, partition, 1, 64 << 10, offset=offset)
    if not found.shown or found.shown[0]["offset"] != offset:
        raise Problem(404, ErrorCode.OFFSET_OUT_OF_RANGE, f"there is no message at offset {offset}")
    return await topic_page(
        view,
        "message.html",
        "messages",
        message=found.shown[0],
        reading=_reading(view),
        readings=READINGS,
        bounds=(found.start_offset, found.end_offset),
    )


def _place(view: View) -> tuple[int, int]:
    partition = view.number("partition", "the partition", view.query("partition"))
    offset = view.number("offset", "the offset", view.query("offset"))
    if partition is None or offset is None or partition < 0:
        raise Problem(400, ErrorCode.INVALID_REQUEST, "no message: expected a partition and an offset")
    return partition, offset


async def get_value(view: View) -> Answer:
    """The bytes of a value, or of a key, as a file."""
    topic = may_read(view)
    partition, offset = _place(view)
    part = "key" if view.query("part") == "key" else "value"
    query = {
        "offset": offset,
        "timestamp_ms": None,
        "from": "earliest",
        "limit": 1,
        "wait_ms": 0,
        "key": None,
    }
    found = await read_records(
        view.caller, topic, partition, query, lambda record, _: (record.offset, getattr(record, part))
    )
    if not found.shown or found.shown[0][0] != offset or found.shown[0][1] is None:
        raise Problem(404, ErrorCode.OFFSET_OUT_OF_RANGE, f"there is no {part} at offset {offset}")
    name = f"{topic.name}-{partition}-{offset}.{part}"
    return Answer(
        body=bytes(found.shown[0][1]),
        content_type="application/octet-stream",
        headers={**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'},
    )


# --- producing ----------------------------------------------------------------------------------------------


async def show_produce(view: View) -> Answer:
    """The form for a new message."""
    view.console.api.permit(view.caller, _WRITE, topic=view.call.path["topic"])
    names = ("partition", "key", "value", "headers", "encoding")
    return await topic_page(
        view,
        "produce.html",
        "produce",
        entered={name: view.form(name) for name in names},
        no_value=bool(view.form("no_value")),
        at_offset=(view.query("partition"), view.query("offset")),
    )


async def produce(view: View) -> Answer:
    """Store a message."""
    name = view.call.path["topic"]
    encoding = view.form("encoding") or "text"
    value: Any = view.form("value").replace("\r\n", "\n")
    if view.form("no_value"):
        value, encoding = None, "text"
    elif encoding == "json":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Problem(
                400, ErrorCode.INVALID_REQUEST, f"the value is not JSON: {error}: expected JSON"
            ) from None
    place = await view.ask(
        _WRITE,
        {"topic": name},
        body={
            "partition": view.number("partition", "the partition", view.form("partition")),
            "key": view.form("key") or None,
            "value": value,
            "value_encoding": encoding,
            "headers": _written_headers(view.form("headers")),
        },
    )
    return view.to(
        f"/console/topics/{name}/produce",
        said="produced",
        partition=place["partition"],
        offset=place["offset"],
    )


def _written_headers(text: str) -> list[dict[str, Any]]:
    """Return headers that are written a line each, with a colon. Raises Problem."""
    found = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            raise Problem(
                400,
                ErrorCode.INVALID_REQUEST,
                f"the header {line[:100]!r} cannot be read: expected name: value, one a line",
            )
        found.append({"name": name.strip(), "value": value.strip()})
    return found


_TOPIC: Final = "/console/topics/{topic}"

PAGES: Final = (
    Page("GET", f"{_TOPIC}/messages", show_messages, "Messages.", query=_QUERY),
    Page("GET", f"{_TOPIC}/message", show_message, "One message.", query=("partition", "offset", "as")),
    Page("GET", f"{_TOPIC}/value", get_value, "The bytes of it.", query=("partition", "offset", "part")),
    Page("GET", f"{_TOPIC}/produce", show_produce, "A new message.", query=("partition", "offset")),
    Page(
        "POST",
        f"{_TOPIC}/produce",
        produce,
        "Store a message.",
        query=("partition", "offset"),
        shows=show_produce,
    ),
)
