"""Messages of a topic as they come: server-sent events, each with what the page shows of some messages.

Owns the bounds of it: so many partitions at once, so many messages a second; what is beyond is passed over
and counted, since nobody reads faster. It ends with the right to read, and with the session it was begun in.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from twisted.internet.defer import CancelledError

from megabroker.access import Operation, ResourceType
from megabroker.errors import BrokerError
from megabroker.http.api.messages import read_records
from megabroker.http.api.topics import known_partition
from megabroker.http.console.page import Page
from megabroker.http.console.pages.messages import LOOKED_AT_BYTES, may_read, show_record
from megabroker.http.console.pages.topics import topic_page
from megabroker.http.console.rendering import HEADERS
from megabroker.http.console.view import View
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer
from megabroker.http.waiting import pause
from megabroker.model import Topic

__all__ = ["PAGES"]

_MOST_PARTITIONS: Final = 64
_EVERY_SECONDS: Final = 0.4
_REMOTE_SECONDS: Final = 1.0
_MOST_MESSAGES: Final = 40
"""Of each partition in one event; all the partitions of an event share three times as many."""

_SILENT_SECONDS: Final = 10


async def show_tail(view: View) -> Answer:
    """The page on which messages appear."""
    topic = may_read(view)
    partition = _partition(view, topic)
    return await topic_page(view, "tail.html", "tail", partition=partition, most_partitions=_MOST_PARTITIONS)


def _partition(view: View, topic: Topic) -> int | None:
    """Return which partition is watched; None for the first ones. Raises BrokerError: there is none."""
    partition = view.number("partition", "the partition", view.query("partition"))
    if partition is not None:
        known_partition(view.caller, topic, max(partition, 0))
    return partition


async def get_stream(view: View) -> Answer:
    """The messages as they come."""
    topic = may_read(view)
    partition = _partition(view, topic)
    watched = range(min(topic.partitions, _MOST_PARTITIONS)) if partition is None else [partition]
    await view.console.rendering.ready()
    body = _Tail(view, topic, list(watched)).events()
    return Answer(body=body, content_type="text/event-stream", headers=HEADERS)


class _Tail:
    """Who watches, what, and how far that has come."""

    def __init__(self, view: View, topic: Topic, partitions: list[int]) -> None:
        self._view = view
        self._topic = topic
        self._reactor = view.caller.broker.reactor
        self._positions: dict[int, int] = {}
        self._partitions = partitions

    async def events(self) -> AsyncIterator[bytes]:
        """Yield events until nobody may read any more, the topic is gone, or the broker stops."""
        said = self._reactor.seconds()
        try:
            yield b"retry: 2000\n\n"
            while self._may_go_on():
                rows, passed_over = await self._new_messages()
                now = self._reactor.seconds()
                if rows or passed_over:
                    html = self._view.console.rendering.fragment(
                        "tail_rows.html", rows=rows, topic=self._topic, passed_over=passed_over
                    )
                    said = now
                    yield _event("messages", {"html": html, "count": len(rows) + passed_over})
                elif now - said > _SILENT_SECONDS:
                    said = now
                    yield b": nothing new\n\n"
                remote = self._view.caller.broker.peers is not None
                await pause(self._reactor, _REMOTE_SECONDS if remote else _EVERY_SECONDS)
            yield _event("over", {"why": "this may not be read any more: log in again"})
        except (Problem, BrokerError) as error:
            why = error.message if isinstance(error, BrokerError) else error.detail
            yield _event("over", {"why": why})
        except CancelledError:
            return

    def _may_go_on(self) -> bool:
        view = self._view
        if view.session is not None and view.console.session(view.call.headers) is None:
            return False
        return view.caller.may(Operation.READ, ResourceType.TOPIC, self._topic.name, quiet=True)

    async def _new_messages(self) -> tuple[list[dict[str, Any]], int]:
        """Return what has come since the last time, and how many were passed over."""
        rows: list[dict[str, Any]] = []
        passed_over = 0
        room = _MOST_MESSAGES * 3
        for index in self._partitions:
            partition = known_partition(self._view.caller, self._topic, index)
            if index not in self._positions and not partition.is_here:
                # How far one is that another process leads is known from when somebody asked last.
                self._positions[index] = (await self._read(index, None, 1)).end_offset
            end = partition.last_stable_offset
            position = self._positions.setdefault(index, end)
            if partition.is_here and end <= position:
                continue
            most = min(_MOST_MESSAGES, room)
            if partition.is_here and end - position > most:
                passed_over += end - most - position
                position = end - most
            if most:
                found = await self._read(index, max(position, partition.start_offset), most)
                rows += found.shown
                room -= len(found.shown)
                position = max(found.next_offset, position)
            self._positions[index] = position
        rows.sort(key=lambda row: (row["timestamp_ms"], row["partition"], row["offset"]))
        return rows, passed_over

    async def _read(self, index: int, offset: int | None, limit: int) -> Any:
        query = {
            "offset": offset,
            "timestamp_ms": None,
            "from": "latest",
            "limit": limit,
            "wait_ms": 0,
            "key": None,
        }
        return await read_records(
            self._view.caller,
            self._topic,
            index,
            query,
            lambda record, _: show_record(index, record, "auto"),
            LOOKED_AT_BYTES,
        )


def _event(name: str, data: dict[str, Any]) -> bytes:
    """Return an event; JSON has no line breaks, so none can begin another."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


_TAIL: Final = "/console/topics/{topic}/tail"

PAGES: Final = (
    Page("GET", _TAIL, show_tail, "Messages as they come.", query=("partition",)),
    Page("GET", f"{_TAIL}/stream", get_stream, "The events of it.", query=("partition",), waits=True),
)
