"""A client of the cursus protocol on Twisted, with Deferreds.

    async with AsyncCursusClient(reactor, "tcp:localhost:9000") as client:
        await client.create_topic("news", 2)
        await gatherResults([client.publish("news", text) for text in texts])
        async for message in client.stream("news", 0):
            print(message.offset, message.text)

Requests that are not awaited one by one are pipelined; the broker answers them in order. A refusal fails
the Deferred with a ``Refused``. What is repeated, and why a PUBLISH may be, is as with ``CursusClient``. A
stream has a connection of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from megabroker.client.arguments import checked_payload, checked_seconds
from megabroker.client.conversation import Message
from megabroker.client.cursus_requests import Create, Delete, Help, ListTopics, Publish, Subscribe, greeting
from megabroker.client.cursus_wire import CursusWire
from megabroker.client.deferred import DEFAULT_RETRY, DeferredClient
from megabroker.client.deferred_link import DeferredStream
from megabroker.client.errors import ClientError, ConnectFailed, ConnectionLost, RequestTimedOut
from megabroker.client.reading import CursusReader
from megabroker.client.retrying import Retry

__all__ = ["AsyncCursusClient", "AsyncSubscription"]


class AsyncSubscription:
    """An asynchronous iterator of pushed messages, as bytes; to be closed.

    It fails with RequestTimedOut when none came in time, and with ConnectionLost; it does not connect anew,
    for what is published meanwhile would be missed.
    """

    def __init__(self, pushed: DeferredStream[bytes]) -> None:
        self._pushed = pushed

    def close(self) -> Deferred[None]:
        """End it; fires when its connection is closed."""
        return self._pushed.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await self._pushed.__anext__() or b""


class AsyncCursusClient(DeferredClient):
    """A client of one broker; connects when it is first used, by ``open``, or as a context manager.

    Args:
        repeat_publish: whether a PUBLISH may be repeated although it may have been carried out.
        user: who asks, on listeners with ``auth: required``; with ``password``.
        compression: how the broker wants requests: ``none``, ``gzip``, ``snappy`` or ``lz4``.
        consume_keep_open: what the broker's setting of that name is.
        max_frame_bytes: the largest reply or message that is taken from a broker.
        others: see ``DeferredClient``.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: str | IStreamClientEndpoint = "tcp:localhost:9000",
        *,
        timeout: float = 30.0,
        connect_timeout: float = 30.0,
        retry: Retry = DEFAULT_RETRY,
        repeat_publish: bool = True,
        pool_size: int = 1,
        max_under_way: int = 256,
        max_waiting: int = 10_000,
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
            reactor,
            endpoint,
            wire,
            timeout=timeout,
            connect_timeout=connect_timeout,
            retry=retry,
            pool_size=pool_size,
            max_under_way=max_under_way,
            max_waiting=max_waiting,
        )
        self.repeat_publish = repeat_publish

    @classmethod
    def connect(
        cls, reactor: Any, endpoint: str | IStreamClientEndpoint, **options: Any
    ) -> Deferred[AsyncCursusClient]:
        """Fire with a client that is connected; see the class for the options.

        Fails with ConnectFailed, or NotAuthenticated.
        """
        return cls(reactor, endpoint, **options).open()

    # Each of these fails with Refused, ConnectFailed, ConnectionLost, RequestTimedOut, BadResponse,
    # NotConnected or TooManyWaiting, or with TypeError or ValueError for arguments that are none.

    def create_topic(self, topic: str, partitions: int | None = None) -> Deferred[int]:
        """Have a topic with at least so many partitions, or the broker's default; fires with how many."""
        return self._ask(Create(topic, partitions))

    def delete_topic(self, topic: str) -> Deferred[None]:
        """Delete a topic and its messages."""
        return self._ask(Delete(topic))

    def list_topics(self) -> Deferred[list[str]]:
        """Fire with the names of all topics, sorted."""
        return self._ask(ListTopics())

    def help(self) -> Deferred[str]:
        """Fire with the broker's list of commands."""
        return self._ask(Help())

    def publish(self, topic: str, message: str | bytes) -> Deferred[None]:
        """Store a message; fires when it is as durable as the broker's ``acks`` says.

        Args:
            message: one byte at least; text is sent as UTF-8.
        """
        return self._ask(Publish(topic, checked_payload(message)), self.repeat_publish)

    def subscribe(self, topic: str, *, timeout: float | None = None) -> Deferred[AsyncSubscription]:
        """Subscribe; fires with what is published from then on, as it is pushed.

        A broker without ``subscribe_push`` pushes nothing.

        Args:
            timeout: seconds to wait for each message; None for ever.
        """
        return Deferred.fromCoroutine(self._subscribe(topic, timeout))

    def stream(
        self,
        topic: str,
        partition: int = 0,
        offset: int = 0,
        *,
        follow: bool = False,
        poll_seconds: float = 0.2,
    ) -> AsyncIterator[Message]:
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

    async def _subscribe(self, topic: str, timeout_s: float | None) -> AsyncSubscription:
        link = await self._own_link()
        pushed = link.stream(Subscribe(topic), self.timeout, timeout_s)
        try:
            await pushed.__anext__()
        except BaseException:
            link.close()
            raise
        return AsyncSubscription(pushed)

    async def _messages(self, reader: CursusReader) -> AsyncIterator[Message]:
        pause_s: float | None = 0.0
        while pause_s is not None:
            error: ClientError | None = None
            try:
                async for message in self._round(reader):
                    yield message
            except (ConnectionLost, ConnectFailed, RequestTimedOut) as caught:
                error = caught
            pause_s = reader.pause_s(error)
            if pause_s:
                await self._sleep(pause_s)

    async def _round(self, reader: CursusReader) -> AsyncIterator[Message]:
        link = await self._own_link()
        try:
            async for payload in link.stream(reader.request(), self.timeout, self.timeout):
                message = None if payload is None else reader.take(payload)
                if message is not None:
                    yield message
        finally:
            link.close()
