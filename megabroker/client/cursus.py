"""A blocking client of the cursus protocol; without compression the standard library is all it needs.

A refusal by the broker is raised as a ``Refused`` with its code. Requests that may be repeated are, on a new
connection if need be: all but DELETE. A PUBLISH is one of them, since the broker recognises a message that it
has stored in the last 30 minutes; where it is configured not to (``dedup.scope: off``), say
``repeat_publish=False``.

Safe for threads: each request has a connection of the pool to itself. A stream has one beside the pool.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from megabroker.client.arguments import checked_payload, checked_seconds
from megabroker.client.blocking import BlockingClient, in_chunks
from megabroker.client.conversation import Message
from megabroker.client.cursus_requests import (
    Create,
    Delete,
    Help,
    ListTopics,
    Publish,
    Subscribe,
    greeting,
)
from megabroker.client.cursus_wire import CursusWire
from megabroker.client.errors import ClientError, ConnectFailed, ConnectionLost, Refused, RequestTimedOut
from megabroker.client.link import Link
from megabroker.client.reading import CursusReader
from megabroker.client.retrying import Retry

if TYPE_CHECKING:
    import ssl

__all__ = ["CursusClient", "Subscription"]

_DEFAULT_RETRY = Retry()


class Subscription:
    """An iterator of pushed messages, as bytes; closes its connection when it is closed or left.

    It raises RequestTimedOut when none came in time, and ConnectionLost; it does not connect anew, for what
    is published meanwhile would be missed. Not for several threads.
    """

    def __init__(self, link: Link, pushed: Iterator[bytes | None]) -> None:
        self._link = link
        self._pushed = pushed

    def close(self) -> None:
        """End it."""
        self._link.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._pushed) or b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class CursusClient(BlockingClient):
    """A client of one broker; connects when it is first used, or by ``connect``.

    Args:
        host: name or address of the broker.
        port: its cursus port.
        timeout: seconds for each request until its complete answer, and for each message of a stream.
        connect_timeout: seconds for an attempt to connect, if other than ``timeout``.
        retry: how often to try what may be repeated, and connecting.
        repeat_publish: whether a PUBLISH may be repeated although it may have been carried out.
        pool_size: how many connections threads share; streams have one each besides.
        tls: with which to connect by TLS, with a client's certificate if it holds one; None for plain TCP.
        user: who asks, on listeners with ``auth: required``; with ``password``.
        compression: how the broker wants requests: ``none``, ``gzip``, ``snappy`` or ``lz4``.
        consume_keep_open: what the broker's setting of that name is.
        max_frame_bytes: the largest reply or message that is taken from a broker.

    Raises:
        TypeError, ValueError: an argument is no such thing.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 9000,
        *,
        timeout: float = 30.0,
        connect_timeout: float | None = None,
        retry: Retry = _DEFAULT_RETRY,
        repeat_publish: bool = True,
        pool_size: int = 4,
        tls: ssl.SSLContext | None = None,
        user: str | None = None,
        password: str | None = None,
        compression: str = "none",
        consume_keep_open: bool = False,
        max_frame_bytes: int = 64 << 20,
    ) -> None:
        wire = CursusWire(
            compression=compression,
            max_frame_bytes=max_frame_bytes,
            keeps_open=consume_keep_open,
            greeting=greeting(user, password),
        )
        super().__init__(
            host,
            port,
            wire,
            timeout=timeout,
            connect_timeout=connect_timeout,
            tls=tls,
            connecting=retry,
            retry=retry,
            pool_size=pool_size,
        )
        self.repeat_publish = repeat_publish

    # Each of these raises Refused, NotConnected, ConnectFailed, ConnectionLost, RequestTimedOut, BadResponse;
    # and TypeError or ValueError for arguments that are none.

    def create_topic(self, topic: str, partitions: int | None = None) -> int:
        """Have a topic with at least so many partitions, or the broker's default; return how many it has."""
        return self._ask(Create(topic, partitions))

    def delete_topic(self, topic: str) -> None:
        """Delete a topic and its messages."""
        self._ask(Delete(topic))

    def list_topics(self) -> list[str]:
        """Return the names of all topics, sorted."""
        return self._ask(ListTopics())

    def help(self) -> str:
        """Return the broker's list of commands."""
        return self._ask(Help())

    def publish(self, topic: str, message: str | bytes) -> None:
        """Store a message; returns when it is as durable as the broker's ``acks`` says.

        Args:
            message: one byte at least; text is sent as UTF-8.
        """
        self._ask(Publish(topic, checked_payload(message)), self.repeat_publish)

    def publish_many(self, topic: str, messages: Iterable[str | bytes]) -> int:
        """Store messages, many under way at a time; return how many.

        As many are sent at once as fit in 256 KiB, 128 at most.

        Raises:
            Refused: the first that was refused; those sent along with it may be stored.
        """
        count = 0
        sized = ((Publish(topic, data), len(data)) for data in map(checked_payload, messages))
        for chunk in in_chunks(sized):
            for outcome in self._ask_all(chunk, self.repeat_publish):
                if isinstance(outcome, Refused):
                    raise outcome
                count += 1
        return count

    def stream(
        self,
        topic: str,
        partition: int = 0,
        offset: int = 0,
        *,
        follow: bool = False,
        poll_seconds: float = 0.2,
    ) -> Iterator[Message]:
        """Yield the messages of a partition from an offset on, by as many CONSUMEs as it takes.

        Offsets are counted, since the wire does not tell them; see ``megabroker.client.reading`` for when
        that is right. Broken connections are made anew.

        Args:
            follow: whether to go on at the end of the partition and wait for more; then it never ends.
            poll_seconds: how often it looks then.

        Raises:
            StreamOutOfStep: messages cannot be counted here.
        """
        checked_seconds("poll_seconds", poll_seconds)
        pause_s = poll_seconds if follow else None
        reader = CursusReader(topic, partition, offset, retry=self._retry, poll_seconds=pause_s)
        return self._messages(reader)

    def subscribe(self, topic: str, *, timeout: float | None = None) -> Subscription:
        """Subscribe; return what is published from then on, as it is pushed.

        A broker without ``subscribe_push`` pushes nothing.

        Args:
            timeout: seconds to wait for each message; None for ever.
        """
        link = self._made(self._open_link)
        try:
            pushed = link.stream(Subscribe(topic), self.timeout, timeout)
            next(pushed)
        except BaseException:
            link.close()
            raise
        return Subscription(link, pushed)

    def _messages(self, reader: CursusReader) -> Iterator[Message]:
        pause_s: float | None = 0.0
        while pause_s is not None:
            error: ClientError | None = None
            try:
                yield from self._round(reader)
            except (ConnectionLost, ConnectFailed, RequestTimedOut) as caught:
                error = caught
            pause_s = reader.pause_s(error)
            if pause_s:
                time.sleep(pause_s)

    def _round(self, reader: CursusReader) -> Iterator[Message]:
        link = self._made(self._open_link)
        try:
            for payload in link.stream(reader.request(), self.timeout, self.timeout):
                message = None if payload is None else reader.take(payload)
                if message is not None:
                    yield message
        finally:
            link.close()
