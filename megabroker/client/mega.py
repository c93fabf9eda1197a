"""A blocking client of the MEGA protocol; the standard library is all it needs.

Results are dictionaries, as the original client gives them; a refusal by the broker is a result
(``success`` False), a failure of the network an exception. After such an exception the connection is
closed: its stream can no longer be trusted to be in step.

Nothing but connecting is tried again unless ``retry`` says so. With it, consuming and creating are repeated
on a new connection, and so is a produce of which nothing was sent. MEGA has no idempotence: a produce that
may have been carried out is repeated only if ``repeat_produce`` says that a message stored twice is better
than one that is lost.

Safe for threads; with one connection, the default, they take turns.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from megabroker.client.arguments import checked_i32, checked_payload, checked_seconds, checked_topic
from megabroker.client.blocking import BlockingClient, in_chunks
from megabroker.client.conversation import Message, Request
from megabroker.client.errors import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    NotConnected,
    Refused,
    RequestTimedOut,
)
from megabroker.client.mega_wire import Consume, CreateTopic, MegaWire, Produce
from megabroker.client.reading import MegaReader
from megabroker.client.retrying import Retry

if TYPE_CHECKING:
    import ssl

__all__ = [
    "BadResponse",
    "ConnectFailed",
    "ConnectionLost",
    "MessageClient",
    "NotConnected",
    "RequestTimedOut",
    "Response",
]

T = TypeVar("T")

Response = dict[str, Any]
"""One answer: ``correlation_id`` and ``success``, then ``timestamp`` and what the request asks for, or
``error_code``."""


class MessageClient(BlockingClient):
    """A client of one broker.

    Args:
        host: name or address of the broker.
        port: its MEGA port.
        timeout: seconds for each attempt to connect, and for each request until its complete answer.
        connect_attempts: how often ``connect`` tries, with pauses of 0.1 s doubling up to 2 s between, up to
            half of each left to chance.
        tls: with which to connect by TLS, with a client's certificate if it holds one; None for plain TCP.
        connect_timeout: seconds for an attempt to connect, if other than ``timeout``.
        retry: how often a request is tried that may be repeated, and connects anew for it; None for once.
        repeat_produce: whether a produce may be repeated although it may have been carried out.
        pool_size: how many connections threads share.
        dialect: ``original``, which this broker and the original one take, or ``documented``.
        max_payload_bytes: the largest message that is taken from a broker.

    Raises:
        TypeError, ValueError: an argument is no such thing.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 8080,
        *,
        timeout: float = 30.0,
        connect_attempts: int = 5,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float | None = None,
        retry: Retry | None = None,
        repeat_produce: bool = False,
        pool_size: int = 1,
        dialect: str = "original",
        max_payload_bytes: int = 64 << 20,
    ) -> None:
        super().__init__(
            host,
            port,
            MegaWire(dialect, max_payload_bytes),
            timeout=timeout,
            connect_timeout=connect_timeout,
            tls=tls,
            connecting=Retry(attempts=max(1, connect_attempts)),
            retry=retry,
            pool_size=pool_size,
        )
        self.connect_attempts = connect_attempts
        self.repeat_produce = repeat_produce

    def create_topic(self, topic_name: str, correlation_id: int = 1) -> Response:
        """Create a topic.

        Returns:
            ``correlation_id``, ``success``, ``timestamp`` and ``topic``; or, when refused,
            ``correlation_id``, ``success`` and ``error_code``.

        Raises:
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: see there.
            TypeError, ValueError: an argument is no such thing; nothing was sent.
        """
        number = checked_i32("correlation_id", correlation_id)
        outcome = self._outcome(CreateTopic(checked_topic(topic_name), number))
        if isinstance(outcome, Refused):
            return _refused(number, outcome)
        return {
            "correlation_id": number,
            "success": True,
            "timestamp": outcome.timestamp_ms,
            "topic": outcome.topic,
        }

    def produce(self, topic_name: str, payload: str | bytes, correlation_id: int = 1) -> Response:
        """Store one message, stamped with the present time.

        Args:
            payload: text is sent as UTF-8.

        Returns:
            ``correlation_id``, ``success``, ``timestamp`` and ``offset``; or a refusal.

        Raises:
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: see there.
            TypeError, ValueError: an argument is no such thing; nothing was sent.
        """
        data = checked_payload(payload)
        number = checked_i32("correlation_id", correlation_id)
        outcome = self._outcome(Produce(checked_topic(topic_name), data, number), self.repeat_produce)
        if isinstance(outcome, Refused):
            return _refused(number, outcome)
        return {
            "correlation_id": number,
            "success": True,
            "timestamp": outcome.timestamp_ms,
            "offset": outcome.offset,
        }

    def consume(self, topic_name: str, offset: int, correlation_id: int = 1) -> Response:
        """Fetch the message at ``offset``, or the next one where the broker holds none there.

        Returns:
            ``correlation_id``, ``success``, ``timestamp`` (the message's), ``next_offset`` and ``payload``;
            or a refusal. The payload is a ``str``, except one that is not UTF-8: that is ``bytes``.

        Raises:
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: see there.
            TypeError, ValueError: an argument is no such thing; nothing was sent.
        """
        checked_i32("offset", offset)
        number = checked_i32("correlation_id", correlation_id)
        outcome = self._outcome(Consume(checked_topic(topic_name), offset, number))
        if isinstance(outcome, Refused):
            return _refused(number, outcome)
        return {
            "correlation_id": number,
            "success": True,
            "timestamp": outcome.timestamp_ms,
            "next_offset": outcome.offset + 1,
            "payload": _text_or_bytes(outcome.payload),
        }

    def produce_many(self, topic_name: str, payloads: Iterable[str | bytes]) -> Iterator[int]:
        """Store messages, many under way at a time; yield their offsets, in order.

        Nothing happens until it is iterated over. As many are sent at once as fit in 256 KiB, 128 at most.

        Raises:
            Refused: by the first message that was refused; those sent along with it may be stored.
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: by the first that was not answered.
        """
        topic = checked_topic(topic_name)
        sized = ((Produce(topic, data), len(data)) for data in map(checked_payload, payloads))
        for chunk in in_chunks(sized):
            for outcome in self._ask_all(chunk, self.repeat_produce):
                if isinstance(outcome, Refused):
                    raise outcome
                yield outcome.offset

    def stream(
        self, topic_name: str, offset: int = 0, *, follow: bool = False, poll_seconds: float = 0.2
    ) -> Iterator[Message]:
        """Yield the messages of a topic from an offset on, several asked for at a time.

        An offset below the first that the broker keeps looks like the end; the wire does not tell them apart.

        Args:
            follow: whether to go on at the end of the topic and wait for more; then it never ends.
            poll_seconds: how often it looks then.

        Raises:
            Refused: the broker does not give them.
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: see there.
        """
        reader = MegaReader(checked_topic(topic_name), checked_i32("offset", offset))
        checked_seconds("poll_seconds", poll_seconds)
        return self._messages(reader, poll_seconds if follow else None)

    def _messages(self, reader: MegaReader, poll_seconds: float | None) -> Iterator[Message]:
        while True:
            # No connection is kept while the caller works on these: it may use the client for that.
            yield from reader.take(self._ask_all(reader.requests(), True))
            if reader.at_end:
                if poll_seconds is None:
                    return
                time.sleep(poll_seconds)

    def _outcome(self, request: Request[T], repeatable: bool | None = None) -> T | Refused:
        try:
            return self._ask(request, repeatable)
        except Refused as refusal:
            return refusal


def _refused(correlation_id: int, refusal: Refused) -> Response:
    return {"correlation_id": correlation_id, "success": False, "error_code": refusal.code}


def _text_or_bytes(payload: bytes) -> str | bytes:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload
