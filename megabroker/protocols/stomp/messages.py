"""What of a message becomes what of a record, and back; what a destination names.

    SEND                        record          MESSAGE
    destination /topic/NAME     topic NAME      destination
    key                         key             key
    body                        value           body
    partition                   its partition   partition
    any other header            header          the same, unless it is one of MESSAGE's own
                                offset, time    offset, timestamp

Headers that are for the broker alone (``receipt``, ``transaction``, ``content-length``) are not kept. A key
or a header's value that is not UTF-8, as other wires may write it, is left out of MESSAGE, whose headers
are text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from megabroker.errors import ErrorCode, RequestError
from megabroker.model import Record
from megabroker.protocols.stomp.codec import Frame

__all__ = [
    "Destination",
    "Message",
    "message_headers",
    "message_of",
    "number_in",
    "read_destination",
    "required",
]

_NOT_KEPT: Final = frozenset({"destination", "receipt", "transaction", "content-length", "key", "partition"})
_OWN: Final = frozenset(
    {
        *("destination", "message-id", "subscription", "ack", "content-length"),
        *("key", "partition", "offset", "timestamp", "delivery-count", "receipt", "transaction"),
    }
)
_HEADER_OVERHEAD_BYTES: Final = 12
_RECORD_OVERHEAD_BYTES: Final = 40


class Destination(NamedTuple):
    """Where messages are sent to and come from.

    Attributes:
        is_queue: whether each of its messages goes to one consumer, and not to all.
    """

    topic: str
    is_queue: bool

    def __str__(self) -> str:
        return f"/{'queue' if self.is_queue else 'topic'}/{self.topic}"


def read_destination(frame: Frame) -> Destination:
    """Return what a frame's header ``destination`` says. Raises RequestError."""
    text = frame.headers.get("destination")
    if text is None:
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            f"{frame.command} without destination: expected /topic/NAME or /queue/NAME",
        )
    for prefix, is_queue in (("/topic/", False), ("/queue/", True)):
        if text.startswith(prefix) and len(text) > len(prefix):
            return Destination(text[len(prefix) :], is_queue)
    raise RequestError(
        ErrorCode.INVALID_REQUEST, f"destination {text[:100]!r}: expected /topic/NAME or /queue/NAME"
    )


def number_in(frame: Frame, name: str) -> int | None:
    """Return a header that is a number, None if it is not there. Raises RequestError."""
    text = frame.headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise RequestError(ErrorCode.INVALID_REQUEST, f"{name} {text[:100]!r}: expected a number")
    return int(text)


class Message(NamedTuple):
    """A message on its way into the log; ``partition`` is None where the sender does not care."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def size_bytes(self) -> int:
        """About what it takes in the log."""
        extra = sum(len(name) + len(value) + _HEADER_OVERHEAD_BYTES for name, value in self.headers)
        return len(self.value) + len(self.key or b"") + extra + _RECORD_OVERHEAD_BYTES


def message_of(frame: Frame) -> Message:
    """Return what a SEND brings. Raises RequestError."""
    key = frame.headers.get("key")
    return Message(
        read_destination(frame).topic,
        number_in(frame, "partition"),
        None if key is None else key.encode(),
        frame.body,
        tuple((name, value.encode()) for name, value in frame.headers.items() if name not in _NOT_KEPT),
    )


def message_headers(record: Record, partition: int, deliveries: int) -> Iterator[tuple[str, str]]:
    """Yield the headers of a MESSAGE that are the record's.

    Args:
        deliveries: how often a queue's message has been delivered; 0 for a topic's.
    """
    yield "partition", str(partition)
    yield "offset", str(record.offset)
    yield "timestamp", str(record.timestamp_ms)
    if deliveries:
        yield "delivery-count", str(deliveries)
    if record.key is not None and (key := _text(record.key)) is not None:
        yield "key", key
    for name, value in record.headers:
        if name and name not in _OWN and (text := _text(value or b"")) is not None:
            yield name, text


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def required(frame: Frame, header: str) -> str:
    """Return a header that must be there. Raises RequestError."""
    found = frame.headers.get(header)
    if found is None:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"{frame.command} without the header {header}")
    return found
