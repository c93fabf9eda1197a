"""A client of the MEGA protocol on Twisted, with Deferreds.

    async with AsyncMessageClient(reactor, "tcp:localhost:8080") as client:
        await client.create_topic("orders")
        stored = await gatherResults([client.produce("orders", text) for text in texts])  # pipelined
        async for message in client.stream("orders"):
            print(message.offset, message.text)

Requests that are not awaited one by one are pipelined; they are answered by their correlation ids. A refusal
fails the Deferred with a ``Refused``. MEGA has no idempotence: a produce that may have been carried out is
repeated only if ``repeat_produce`` says that a message stored twice is better than one that is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from megabroker.client.arguments import checked_i32, checked_payload, checked_seconds, checked_topic
from megabroker.client.conversation import KEPT_BYTES, Message
from megabroker.client.deferred import DEFAULT_RETRY, DeferredClient
from megabroker.client.errors import Refused
from megabroker.client.mega_wire import Consume, Created, CreateTopic, MegaWire, Produce, Stored
from megabroker.client.reading import MegaReader
from megabroker.client.retrying import Retry

__all__ = ["AsyncMessageClient"]


class AsyncMessageClient(DeferredClient):
    """A client of one broker; connects when it is first used, by ``open``, or as a context manager.

    Args:
        repeat_produce: whether a produce may be repeated although it may have been carried out.
        dialect: ``original``, which this broker and the original one take, or ``documented``.
        max_payload_bytes: the largest message that is taken from a broker.
        others: see ``DeferredClient``.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: str | IStreamClientEndpoint = "tcp:localhost:8080",
        *,
        timeout: float = 30.0,
        connect_timeout: float = 30.0,
        retry: Retry = DEFAULT_RETRY,
        repeat_produce: bool = False,
        pool_size: int = 1,
        max_under_way: int = 256,
        max_waiting: int = 10_000,
        dialect: str = "original",
        max_payload_bytes: int = 64 << 20,
    ) -> None:
        super().__init__(
            reactor,
            endpoint,
            MegaWire(dialect, max_payload_bytes),
            timeout=timeout,
            connect_timeout=connect_timeout,
            retry=retry,
            pool_size=pool_size,
            max_under_way=max_under_way,
            max_waiting=max_waiting,
        )
        self.repeat_produce = repeat_produce

    @classmethod
    def connect(
        cls, reactor: Any, endpoint: str | IStreamClientEndpoint, **options: Any
    ) -> Deferred[AsyncMessageClient]:
        """Fire with a client that is connected; see the class for the options.

        Fails with ConnectFailed.
        """
        return cls(reactor, endpoint, **options).open()

    # Each of these fails with Refused, ConnectFailed, ConnectionLost, RequestTimedOut, BadResponse,
    # NotConnected or TooManyWaiting, and raises TypeError or ValueError at once.

    def create_topic(self, topic_name: str) -> Deferred[Created]:
        """Create a topic; fires when it is there."""
        return self._ask(CreateTopic(checked_topic(topic_name)))

    def produce(self, topic_name: str, payload: str | bytes) -> Deferred[Stored]:
        """Store one message, stamped with the present time; fires with its offset.

        Args:
            payload: text is sent as UTF-8.
        """
        request = Produce(checked_topic(topic_name), checked_payload(payload))
        return self._ask(request, self.repeat_produce)

    def consume(self, topic_name: str, offset: int) -> Deferred[Message]:
        """Fetch the message at ``offset``, or the next one where the broker holds none there."""
        return self._ask(Consume(checked_topic(topic_name), checked_i32("offset", offset)))

    def stream(
        self, topic_name: str, offset: int = 0, *, follow: bool = False, poll_seconds: float = 0.2
    ) -> AsyncIterator[Message]:
        """Yield the messages of a topic from an offset on, several asked for at a time.

        An offset below the first that the broker keeps looks like the end; the wire does not tell them apart.

        Args:
            follow: whether to go on at the end of the topic and wait for more; then it never ends.
            poll_seconds: how often it looks then.
        """
        reader = MegaReader(checked_topic(topic_name), checked_i32("offset", offset))
        checked_seconds("poll_seconds", poll_seconds)
        return self._messages(reader, poll_seconds if follow else None)

    async def _messages(self, reader: MegaReader, poll_seconds: float | None) -> AsyncIterator[Message]:
        while True:
            for message in reader.take(await self._round(reader.requests())):
                yield message
            if reader.at_end:
                if poll_seconds is None:
                    return
                await self._sleep(poll_seconds)

    async def _round(self, requests: Sequence[Consume]) -> list[Message | Refused]:
        """Return what some requests asked at once are answered with; of large messages not all."""
        kept_bytes = 0

        def keep(message: Message) -> Message | None:
            nonlocal kept_bytes
            if kept_bytes >= KEPT_BYTES:
                return None
            kept_bytes += len(message.payload)
            return message

        asked = [self._ask(request).addCallbacks(keep, _refusal) for request in requests]
        outcomes: list[Message | Refused] = []
        try:
            for one in asked:
                outcome = await one
                if outcome is None:
                    break
                outcomes.append(outcome)
        finally:
            for one in asked:
                one.addErrback(lambda _: None)  # told by the first that failed
        return outcomes


def _refusal(failure: Any) -> Refused:
    failure.trap(Refused)
    refused: Refused = failure.value
    return refused
